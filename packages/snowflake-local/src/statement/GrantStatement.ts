/**
 * GRANT, REVOKE, roles, and SHOW GRANTS.
 */
import * as Effect from "effect/Effect"
import type { CatalogObject } from "../Catalog.ts"
import * as Grants from "../Grants.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import type { Cursor } from "../sql/Cursor.ts"
import { isOp, isWord } from "../sql/Cursor.ts"
import * as Identifier from "../sql/Identifier.ts"
import type * as Storage from "../Storage.ts"
import * as Definition from "./DefinitionChange.ts"
import { named, outcome } from "./ShowFilter.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

/** What privileges there are, by what they are on. ALL means these. */
const privileges: Readonly<Record<string, ReadonlyArray<string>>> = {
  ACCOUNT: ["CREATE DATABASE", "CREATE ROLE", "CREATE WAREHOUSE", "EXECUTE TASK", "EXECUTE MANAGED TASK"],
  WAREHOUSE: ["USAGE", "OPERATE", "MODIFY", "MONITOR"],
  DATABASE: ["USAGE", "CREATE SCHEMA", "MODIFY", "MONITOR"],
  SCHEMA: [
    "USAGE",
    "CREATE TABLE",
    "CREATE VIEW",
    "CREATE STAGE",
    "CREATE PIPE",
    "CREATE STREAM",
    "CREATE TASK",
    "MODIFY",
    "MONITOR"
  ],
  TABLE: ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES"],
  VIEW: ["SELECT", "REFERENCES"],
  STAGE: ["READ", "WRITE"],
  PIPE: ["MONITOR", "OPERATE"],
  STREAM: ["SELECT"],
  TASK: ["MONITOR", "OPERATE"]
}

interface Target {
  readonly kind: string
  readonly on: ReadonlyArray<Grants.Securable>
  /** The one object, for OWNERSHIP. */
  readonly object: CatalogObject | undefined
  readonly name: string
}

const singular = (word: string): string => word === "PRIVILEGES" ? word : word.replace(/S$/, "")

const objectOf = (context: StatementContext, kind: string, path: ReadonlyArray<string>): CatalogObject => {
  const { catalog } = context.services
  const full = Statement.fullPath(context.session, path)
  const found = kind === "TABLE" || kind === "VIEW"
    ? catalog.relation(...full)
    : kind === "STAGE"
    ? catalog.stage(...full)
    : kind === "PIPE"
    ? catalog.pipe(...full)
    : kind === "STREAM"
    ? catalog.stream(...full)
    : catalog.task(...full)
  if (found?.kind === kind) return found
  throw SnowflakeError.objectNotFound(`${kind.charAt(0)}${kind.slice(1).toLowerCase()}`, Statement.printPath(full))
}

const databaseOf = (context: StatementContext, name: string): Grants.Securable => {
  const record = context.services.catalog.databases().find((other) => other.name === name)
  if (record === undefined) throw SnowflakeError.containerNotFound("Database", Identifier.print(name))
  return Grants.database(record)
}

const schemaOf = (context: StatementContext, path: ReadonlyArray<string>): Grants.Securable => {
  const [first = "", second] = path
  const database = second === undefined ? context.session.database : first
  const name = second ?? first
  const record = context.services.catalog.schemas(database).find((other) => other.name === name)
  if (database === undefined || record === undefined) {
    throw SnowflakeError.containerNotFound("Schema", Statement.printPath(path))
  }
  return Grants.schema(record)
}

/** Behind ON: one object, or ALL or FUTURE objects of a kind in a schema or database. */
const target = (context: StatementContext, cursor: Cursor): Target => {
  const { catalog, warehouses } = context.services
  if (cursor.accept("ACCOUNT")) return { kind: "ACCOUNT", on: [Grants.account], object: undefined, name: "" }
  if (isWord(cursor.peek(), "ALL", "FUTURE")) {
    const future = cursor.accept("FUTURE")
    if (!future) cursor.expect("ALL")
    const kind = singular(cursor.identifier())
    if (privileges[kind] === undefined) throw cursor.unexpected()
    cursor.expect("IN")
    const inDatabase = cursor.accept("DATABASE")
    if (!inDatabase) cursor.expect("SCHEMA")
    const path = cursor.path()
    const container = inDatabase ? databaseOf(context, path[0] ?? "") : schemaOf(context, path)
    if (future) return { kind, on: [Grants.future(kind, container)], object: undefined, name: "" }
    const securables = kind === "SCHEMA" ? catalog.schemas().map(Grants.schema) : catalog.objects().map(Grants.object)
    const on = securables.filter((one) => one.kind === kind && one.within?.includes(container.key) === true)
    return { kind, on, object: undefined, name: "" }
  }
  const kind = cursor.identifier()
  if (privileges[kind] === undefined) throw SnowflakeError.unsupported(`privileges on ${kind}`)
  const path = cursor.path()
  const name = path[path.length - 1] ?? ""
  if (kind === "WAREHOUSE") {
    if (!warehouses.has(name)) throw SnowflakeError.useNotFound()
    return { kind, on: [Grants.warehouse(name)], object: undefined, name }
  }
  if (kind === "DATABASE") return { kind, on: [databaseOf(context, name)], object: undefined, name }
  if (kind === "SCHEMA") return { kind, on: [schemaOf(context, path)], object: undefined, name }
  const object = objectOf(context, kind, path)
  return { kind, on: [Grants.object(object)], object, name }
}

/** `SELECT, INSERT`, `ALL [PRIVILEGES]`, `OWNERSHIP`. */
const privilegeList = (cursor: Cursor): ReadonlyArray<string> => {
  const out: Array<string> = []
  do {
    const words: Array<string> = []
    while (!cursor.done && !isOp(cursor.peek(), ",") && !isWord(cursor.peek(), "ON")) words.push(cursor.identifier())
    out.push(words.join(" "))
  } while (cursor.acceptOp(","))
  return out
}

const requireRole = (context: StatementContext, role: string): string => {
  if (!context.services.grants.roleExists(role)) throw SnowflakeError.containerNotFound("Role", Identifier.print(role))
  return role
}

const grantee = (context: StatementContext, cursor: Cursor): Grants.Grantee => {
  if (cursor.accept("USER")) {
    const name = cursor.identifier()
    if (!context.services.accounts.users().includes(name)) {
      throw SnowflakeError.containerNotFound("User", Identifier.print(name))
    }
    return { kind: "USER", name }
  }
  cursor.expect("ROLE")
  return { kind: "ROLE", name: requireRole(context, cursor.identifier()) }
}

const stored = (run: Effect.Effect<void, Storage.StorageError>): Run<void> =>
  Effect.mapError(run, (error) => SnowflakeError.internal(error.message))

const finished = (kind: string): Outcome => Definition.done(kind, "Statement executed successfully.")

/** GRANT … TO and REVOKE … FROM. */
export const change = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    const { grants } = context.services
    const { session } = context
    const plan = yield* Statement.parse(() => {
      const granting = cursor.accept("GRANT")
      if (!granting) cursor.expect("REVOKE")
      const link = granting ? "TO" : "FROM"
      if (cursor.accept("ROLE")) {
        const role = requireRole(context, cursor.identifier())
        cursor.expect(link)
        const holder = grantee(context, cursor)
        cursor.end()
        if (!grants.manages(session.role, { kind: "ROLE", key: role })) {
          throw SnowflakeError.insufficientPrivileges("role", Identifier.print(role))
        }
        return { granting, role, holder, target: undefined }
      }
      const given = privilegeList(cursor)
      cursor.expect("ON")
      const on = target(context, cursor)
      cursor.expect(link)
      cursor.accept("ROLE")
      const role = requireRole(context, cursor.identifier())
      if (!cursor.accept("WITH", "GRANT", "OPTION") && !cursor.accept("REVOKE", "CURRENT", "GRANTS")) {
        if (!cursor.accept("COPY", "CURRENT", "GRANTS") && !cursor.accept("CASCADE")) cursor.accept("RESTRICT")
      }
      cursor.end()
      const known = privileges[on.kind] ?? []
      const all = given.flatMap((privilege) =>
        privilege === "ALL" || privilege === "ALL PRIVILEGES" ? known : [privilege]
      )
      for (const privilege of all) {
        if (privilege !== "OWNERSHIP" && !known.includes(privilege)) {
          throw SnowflakeError.syntax(`syntax error: ${privilege} is no privilege on ${on.kind}.`)
        }
      }
      for (const one of on.on) {
        if (!grants.manages(session.role, one)) {
          throw SnowflakeError.insufficientPrivileges(on.kind.toLowerCase(), on.name)
        }
      }
      return { granting, role, privileges: all, target: on, holder: undefined }
    })
    if (plan.target === undefined) {
      yield* stored(
        plan.granting ? grants.grantRole(plan.role, plan.holder) : grants.revokeRole(plan.role, plan.holder)
      )
      return finished(plan.granting ? "GRANT_ROLE" : "REVOKE_ROLE")
    }
    for (const privilege of plan.privileges) {
      if (privilege === "OWNERSHIP" && plan.granting && plan.target.object !== undefined) {
        yield* own(context, plan.target.object, plan.role)
        continue
      }
      if (privilege === "OWNERSHIP") return yield* SnowflakeError.unsupported("OWNERSHIP of other than one object")
      for (const on of plan.target.on) {
        yield* stored(
          plan.granting ? grants.grant(plan.role, privilege, on) : grants.revoke(plan.role, privilege, on)
        )
      }
    }
    return finished(plan.granting ? "GRANT" : "REVOKE")
  })

const own = (context: StatementContext, object: CatalogObject, owner: string): Run<void> =>
  Definition.change(context, (changes) => changes.put({ ...object, owner }))

/** CREATE ROLE, whose words have been read. */
export const createRole = (context: StatementContext, cursor: Cursor, { replace }: Definition.Head): Run<Outcome> =>
  Effect.gen(function*() {
    const { grants } = context.services
    const plan = yield* Statement.parse(() => {
      const ifNotExists = cursor.accept("IF", "NOT", "EXISTS")
      const name = cursor.identifier()
      Definition.options(cursor, new Set(["COMMENT"]))
      if (replace) throw SnowflakeError.unsupported("CREATE OR REPLACE ROLE")
      if (!grants.manages(context.session.role, Grants.account)) {
        throw SnowflakeError.insufficientPrivileges("account", context.services.accounts.account)
      }
      return { name, ifNotExists }
    })
    if (grants.roleExists(plan.name)) {
      if (!plan.ifNotExists) return yield* SnowflakeError.alreadyExists(Identifier.print(plan.name))
      return Definition.done("CREATE_ROLE", `${Identifier.print(plan.name)} already exists, statement succeeded.`)
    }
    yield* stored(grants.createRole(plan.name))
    return Definition.done("CREATE_ROLE", `Role ${Identifier.print(plan.name)} successfully created.`)
  })

/** DROP ROLE of a name. */
export const dropRole = (context: StatementContext, name: string): Run<void> =>
  Effect.suspend(() =>
    context.services.grants.manages(context.session.role, Grants.account)
      ? stored(context.services.grants.dropRole(name))
      : Effect.fail(SnowflakeError.insufficientPrivileges("role", Identifier.print(name)))
  )

/** The name of what a grant is on. */
const nameOf = (context: StatementContext, kind: string, key: string): string => {
  if (kind === "ACCOUNT") return context.services.accounts.account
  if (kind === "WAREHOUSE") return key
  const object = context.services.catalog.objects().find(({ id }) => id === key)
  if (object !== undefined) return Statement.printPath([object.database, object.schema, object.name])
  // A container's key is its path.
  return key.startsWith("[") ? Statement.printPath(JSON.parse(key)) : key
}

/** SHOW GRANTS { ON kind name | TO ROLE name }, whose words have been read. */
export const show = (context: StatementContext, cursor: Cursor): Run<Outcome> =>
  Statement.parse(() => {
    const { grants } = context.services
    const rows = (list: ReadonlyArray<Grants.Grant>) =>
      list.map((grant) => [
        grant.privilege,
        grant.kind,
        nameOf(context, grant.kind, grant.key),
        "ROLE",
        grant.role
      ])
    let found: ReadonlyArray<Grants.Grant>
    let owners: ReadonlyArray<ReadonlyArray<string>> = []
    if (cursor.accept("ON")) {
      const { on } = target(context, cursor)
      found = on.flatMap(grants.on)
      owners = on.flatMap(({ key, kind, owner }) =>
        owner === undefined ? [] : [["OWNERSHIP", kind, nameOf(context, kind, key), "ROLE", owner]]
      )
    } else {
      cursor.expect("TO")
      cursor.accept("ROLE")
      found = grants.to(requireRole(context, cursor.identifier()))
    }
    cursor.end()
    return outcome(named("privilege", "granted_on", "name", "granted_to", "grantee_name"), [...owners, ...rows(found)])
  })
