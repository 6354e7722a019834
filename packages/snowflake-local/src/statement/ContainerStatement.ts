/**
 * ALTER DATABASE and ALTER SCHEMA: the collation of columns that will be defined in them.
 */
import * as Effect from "effect/Effect"
import * as SnowflakeError from "../SnowflakeError.ts"
import * as Collation from "../sql/Collation.ts"
import type { Cursor } from "../sql/Cursor.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Definition from "./DefinitionChange.ts"
import * as Privileges from "./Privileges.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

/** The options of databases and schemas. */
export const options = new Set([
  "COMMENT",
  "DATA_RETENTION_TIME_IN_DAYS",
  "MAX_DATA_EXTENSION_TIME_IN_DAYS",
  "DEFAULT_DDL_COLLATION"
])

const alterable = new Set(["DEFAULT_DDL_COLLATION"])

/** The collation of a column that is defined in a schema without one of its own, of a table that has none either. */
export const defaultCollation = (context: StatementContext, database: string, schema: string): string | undefined => {
  const { catalog } = context.services
  const specification = catalog.schemas(database).find(({ name }) => name === schema)?.collation ??
    catalog.databases().find(({ name }) => name === database)?.collation ?? ""
  return Collation.parse(specification)
}

/** ALTER DATABASE or ALTER SCHEMA, whose words have been read. */
export const alter = (context: StatementContext, cursor: Cursor, kind: "DATABASE" | "SCHEMA"): Run<Outcome> =>
  Effect.gen(function*() {
    const { database, schema, specification } = yield* Statement.parse(() => {
      const path = cursor.path()
      const { catalog } = context.services
      const [first = "", second] = path
      const database = kind === "DATABASE" || second !== undefined ? first : context.session.database
      const schema = kind === "DATABASE" ? undefined : second ?? first
      if (database === undefined) throw SnowflakeError.noCurrentDatabase()
      if (!catalog.hasDatabase(database)) throw SnowflakeError.containerNotFound("Database", Identifier.print(database))
      if (schema === undefined) Privileges.requireOnDatabase(context, "OWNERSHIP", database)
      else {
        if (!catalog.hasSchema(database, schema)) {
          throw SnowflakeError.containerNotFound("Schema", Identifier.print(schema))
        }
        Privileges.requireOnSchema(context, "OWNERSHIP", database, schema)
      }
      if (cursor.accept("UNSET", "DEFAULT_DDL_COLLATION")) {
        cursor.end()
        return { database, schema, specification: undefined }
      }
      cursor.expect("SET")
      const specification = Definition.options(cursor, alterable)["DEFAULT_DDL_COLLATION"]
      Collation.parse(specification ?? "")
      return { database, schema, specification }
    })
    yield* Definition.change(context, (changes) => changes.setCollation(database, schema, specification))
    return Definition.done(`ALTER_${kind}`, "Statement executed successfully.")
  })
