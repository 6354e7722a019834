/**
 * CREATE STREAM: append-only streams on tables.
 */
import * as Effect from "effect/Effect"
import type { Stream } from "../Catalog.ts"
import * as CatalogRecords from "../Catalog.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import type { Cursor } from "../sql/Cursor.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as StreamLog from "../StreamLog.ts"
import * as Definition from "./DefinitionChange.ts"
import * as Privileges from "./Privileges.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

const options = new Set(["APPEND_ONLY", "SHOW_INITIAL_ROWS", "COMMENT"])

export const create = (context: StatementContext, cursor: Cursor, { replace }: Definition.Head): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => {
      const ifNotExists = cursor.accept("IF", "NOT", "EXISTS")
      const [database, schema, name] = Statement.fullPath(context.session, cursor.path())
      Statement.requireSchema(context, database, schema)
      Privileges.requireCreate(context, "STREAM", database, schema)
      cursor.accept("COPY", "GRANTS")
      cursor.expect("ON", "TABLE")
      const table = Statement.requireTable(context, cursor.path())
      Privileges.require(context, table, "SELECT")
      const settings = Definition.options(cursor, options)
      if (settings["APPEND_ONLY"]?.toUpperCase() !== "TRUE") {
        throw SnowflakeError.unsupported("a stream that isn't APPEND_ONLY")
      }
      if (settings["SHOW_INITIAL_ROWS"]?.toUpperCase() === "TRUE") {
        throw SnowflakeError.unsupported("SHOW_INITIAL_ROWS")
      }
      return { ifNotExists, database, schema, name, table, comment: settings["COMMENT"] }
    })
    const { comment, database, name, schema, table } = plan
    const stream: Stream = {
      kind: "STREAM",
      database,
      schema,
      name,
      id: CatalogRecords.newId(),
      createdOn: context.now,
      owner: context.session.role,
      comment,
      table: { database: table.database, schema: table.schema, name: table.name, id: table.id }
    }
    const created = yield* Definition.changeExisting(context, (changes) =>
      Effect.gen(function*() {
        const existing = context.services.catalog.stream(database, schema, name)
        if (existing !== undefined) {
          if (plan.ifNotExists) return false
          if (!replace) return yield* SnowflakeError.alreadyExists(Statement.printPath([database, schema, name]))
          yield* StreamLog.consume(changes.connection, existing.id)
        }
        yield* changes.put(stream)
        return true
      }))
    return Definition.done(
      "CREATE_STREAM",
      created
        ? `Stream ${Identifier.print(name)} successfully created.`
        : `${Identifier.print(name)} already exists, statement succeeded.`
    )
  })
