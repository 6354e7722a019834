/**
 * What a statement's role has to be allowed to.
 *
 * These throw Snowflake's 003001. What a role may not even see it doesn't find (VisibleCatalog), which is 002003.
 */
import type { CatalogObject, Table } from "../Catalog.ts"
import * as Grants from "../Grants.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import * as Identifier from "../sql/Identifier.ts"
import type { StatementContext } from "./StatementContext.ts"

const isTemporary = (object: CatalogObject): boolean => object.kind === "TABLE" && object.lifetime === "TEMPORARY"

const refuse = (kind: string, name: string): never => {
  throw SnowflakeError.insufficientPrivileges(kind.toLowerCase(), Identifier.print(name))
}

/** One of these privileges on an object. */
export const require = (
  context: StatementContext,
  object: CatalogObject,
  ...privileges: ReadonlyArray<string>
): void => {
  const { grants } = context.services
  if (isTemporary(object)) return
  const { role } = context.session
  if (privileges.some((privilege) => grants.allows(role, privilege, Grants.object(object)))) return
  refuse(object.kind, object.name)
}

/** Everything that changes an object's definition needs its ownership. */
export const requireOwnership = (context: StatementContext, object: CatalogObject): void =>
  require(context, object, "OWNERSHIP")

/** Creating an object of a kind in a schema. */
export const requireCreate = (context: StatementContext, kind: string, database: string, schema: string): void => {
  const { catalog, grants } = context.services
  const record = catalog.schemas(database).find(({ name }) => name === schema)
  if (record !== undefined && !grants.allows(context.session.role, `CREATE ${kind}`, Grants.schema(record))) {
    refuse("schema", schema)
  }
}

export const requireOnDatabase = (context: StatementContext, privilege: string, database: string): void => {
  const { catalog, grants } = context.services
  const record = catalog.databases().find(({ name }) => name === database)
  if (record !== undefined && !grants.allows(context.session.role, privilege, Grants.database(record))) {
    refuse("database", database)
  }
}

export const requireOnSchema = (
  context: StatementContext,
  privilege: string,
  database: string,
  schema: string
): void => {
  const { catalog, grants } = context.services
  const record = catalog.schemas(database).find(({ name }) => name === schema)
  if (record !== undefined && !grants.allows(context.session.role, privilege, Grants.schema(record))) {
    refuse("schema", schema)
  }
}

export const requireOnAccount = (context: StatementContext, privilege: string): void => {
  const { accounts, grants } = context.services
  if (!grants.allows(context.session.role, privilege, Grants.account)) refuse("account", accounts.account)
}

/** Whether the role may use a warehouse: one that it may not doesn't exist for it. */
export const usesWarehouse = (context: StatementContext, name: string): boolean =>
  context.services.warehouses.has(name) &&
  context.services.grants.allows(context.session.role, "USAGE", Grants.warehouse(name))

/** DML on a table. */
export const requireDml = (context: StatementContext, table: Table, ...privileges: ReadonlyArray<string>): void => {
  for (const privilege of privileges) require(context, table, privilege)
}
