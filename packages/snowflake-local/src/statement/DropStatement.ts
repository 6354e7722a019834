/**
 * DROP.
 */
import * as Effect from "effect/Effect"
import * as SnowflakeError from "../SnowflakeError.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Storage from "../Storage.ts"
import * as StreamLog from "../StreamLog.ts"
import * as Definition from "./DefinitionChange.ts"
import { removeDatabase } from "./DefinitionStatement.ts"
import * as GrantStatement from "./GrantStatement.ts"
import * as Privileges from "./Privileges.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

export const drop = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    const plan = yield* Statement.parse(() => {
      cursor.expect("DROP")
      const kind = cursor.identifier()
      const ifExists = cursor.accept("IF", "EXISTS")
      const path = cursor.path()
      if (!cursor.accept("CASCADE")) cursor.accept("RESTRICT")
      cursor.end()
      return { kind, ifExists, path }
    })
    const { ifExists, kind, path } = plan
    const { catalog } = context.services
    const printed = Identifier.print(path[path.length - 1] ?? "")
    const absent = (error: SnowflakeError.SnowflakeError): Run<Outcome> =>
      ifExists
        ? Effect.succeed(
          Definition.done(`DROP_${kind}`, `Drop statement executed successfully (${printed} already dropped).`)
        )
        : Effect.fail(error)
    const dropped = Definition.done(`DROP_${kind}`, `${printed} successfully dropped.`)
    switch (kind) {
      case "DATABASE": {
        const name = path[0] ?? ""
        if (!catalog.hasDatabase(name)) return yield* absent(SnowflakeError.containerNotFound("Database", printed))
        yield* Statement.parse(() => Privileges.requireOnDatabase(context, "OWNERSHIP", name))
        yield* Definition.changeExisting(context, (changes) => removeDatabase(context, changes, name))
        if (context.session.database === name) context.session.database = context.session.schema = undefined
        return dropped
      }
      case "SCHEMA": {
        const database = path.length === 1 ? context.session.database : path[0]
        const name = path[path.length - 1] ?? ""
        if (database === undefined) return yield* SnowflakeError.noCurrentDatabase()
        if (!catalog.hasSchema(database, name)) {
          return yield* absent(SnowflakeError.containerNotFound("Schema", printed))
        }
        yield* Statement.parse(() => Privileges.requireOnSchema(context, "OWNERSHIP", database, name))
        yield* Definition.changeExisting(context, (changes) => changes.removeSchema(database, name))
        if (context.session.database === database && context.session.schema === name) context.session.schema = undefined
        return dropped
      }
      case "TABLE":
      case "VIEW": {
        const found = yield* Statement.parse(() => Statement.findRelation(context, path))
        if (found?.kind !== kind) {
          if (found === undefined && !ifExists) yield* Statement.parse(() => Statement.requireRelation(context, path))
          return yield* absent(SnowflakeError.objectNotFound(kind === "TABLE" ? "Table" : "View", printed))
        }
        yield* Statement.parse(() => Privileges.requireOwnership(context, found))
        const temporary = found.kind === "TABLE" && found.lifetime === "TEMPORARY"
        yield* Definition.changeExisting(context, (changes) =>
          Effect.gen(function*() {
            yield* Storage.run(changes.connection, `DROP ${kind} ${found.duckdb}`)
            yield* Storage.run(changes.connection, `DELETE FROM "_local".load_history WHERE table_id = $1`, [found.id])
            if (!temporary) yield* changes.remove(found)
          }))
        if (temporary && found.kind === "TABLE") Statement.removeTemporary(context.session, found)
        return dropped
      }
      case "STAGE":
      case "PIPE":
      case "STREAM":
      case "TASK": {
        const full = yield* Statement.parse(() => Statement.fullPath(context.session, path))
        const found = { STAGE: catalog.stage, PIPE: catalog.pipe, STREAM: catalog.stream, TASK: catalog.task }[kind](
          ...full
        )
        if (found === undefined) {
          const word = `${kind.charAt(0)}${kind.slice(1).toLowerCase()}`
          return yield* absent(SnowflakeError.objectNotFound(word, Statement.printPath(full)))
        }
        yield* Statement.parse(() => Privileges.requireOwnership(context, found))
        yield* Definition.changeExisting(context, (changes) =>
          Effect.andThen(
            found.kind === "STREAM" ? StreamLog.consume(changes.connection, found.id) : Effect.void,
            changes.remove(found)
          ))
        return dropped
      }
      case "ROLE": {
        const name = path[0] ?? ""
        if (!context.services.grants.roleExists(name)) {
          return yield* absent(SnowflakeError.containerNotFound("Role", printed))
        }
        yield* GrantStatement.dropRole(context, name)
        return dropped
      }
      default:
        return yield* SnowflakeError.unsupported(`DROP ${kind}`)
    }
  })
