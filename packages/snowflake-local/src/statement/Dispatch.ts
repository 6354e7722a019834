/**
 * From a statement's first words to the module that runs it.
 */
import * as Effect from "effect/Effect"
import * as Interpreter from "../scripting/Interpreter.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import { isGroup, isWord } from "../sql/Cursor.ts"
import { unexpectedToken } from "../sql/Token.ts"
import * as Alter from "./AlterStatement.ts"
import * as Container from "./ContainerStatement.ts"
import * as Control from "./ControlStatement.ts"
import * as Copy from "./CopyStatement.ts"
import * as Definition from "./DefinitionStatement.ts"
import * as Dml from "./DmlStatement.ts"
import * as Drop from "./DropStatement.ts"
import * as Grant from "./GrantStatement.ts"
import * as Merge from "./MergeStatement.ts"
import * as Select from "./SelectStatement.ts"
import * as Show from "./ShowStatement.ts"
import * as Stage from "./StageStatement.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"
import * as Task from "./TaskStatement.ts"
import * as Warehouse from "./WarehouseStatement.ts"

const statements: Readonly<Record<string, (context: StatementContext) => Run<Outcome>>> = {
  INSERT: Dml.insert,
  UPDATE: Dml.update,
  DELETE: Dml.remove,
  TRUNCATE: Dml.truncate,
  MERGE: Merge.execute,
  COPY: Copy.execute,
  CREATE: Definition.create,
  DROP: Drop.drop,
  COMMENT: Alter.comment,
  SHOW: Show.show,
  DESCRIBE: Show.describe,
  DESC: Show.describe,
  USE: Control.use,
  SET: Control.setVariable,
  UNSET: Control.setVariable,
  BEGIN: Control.begin,
  START: Control.begin,
  COMMIT: Control.commit,
  ROLLBACK: Control.rollback,
  LIST: Stage.list,
  LS: Stage.list,
  REMOVE: Stage.remove,
  RM: Stage.remove,
  GRANT: Grant.change,
  REVOKE: Grant.change,
  ALTER: Control.alterSession
}

const alter = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    const kind = yield* Statement.parse(() => {
      cursor.expect("ALTER")
      return cursor.identifier()
    })
    switch (kind) {
      case "TABLE":
        return yield* Alter.alter(context, cursor)
      case "WAREHOUSE":
        return yield* Warehouse.alter(context, cursor)
      case "TASK":
        return yield* Task.alter(context, cursor)
      case "DATABASE":
      case "SCHEMA":
        return yield* Container.alter(context, cursor, kind)
      default:
        return yield* SnowflakeError.unsupported(`ALTER ${kind}`)
    }
  })

const executeOf = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    const kind = yield* Statement.parse(() => {
      cursor.expect("EXECUTE")
      return cursor.accept("TASK") ? "TASK" : cursor.accept("IMMEDIATE") ? "IMMEDIATE" : undefined
    })
    switch (kind) {
      case "TASK":
        return yield* Task.execute(context, cursor)
      case "IMMEDIATE":
        return yield* Interpreter.executeImmediate(context, cursor, (inner) => execute(inner, false))
      default:
        return yield* unexpectedToken(context.source, cursor.peek())
    }
  })

export const execute = (context: StatementContext, describeOnly: boolean): Run<Outcome> => {
  if (Stage.isPut(context.source)) return Stage.put(context)
  const [first, second] = context.tokens
  if (isGroup(first) || isWord(first, "SELECT", "WITH", "VALUES")) return Select.execute(context, describeOnly)
  if (describeOnly) return Effect.fail(SnowflakeError.unsupported("describeOnly of another statement than a query"))
  if (isWord(first, "ALTER") && !isWord(second, "SESSION")) return alter(context)
  if (isWord(first, "EXECUTE")) return executeOf(context)
  const found = first?.kind === "word" ? statements[first.text] : undefined
  if (found !== undefined) return found(context)
  if (isWord(first, "GET", "CALL", "DECLARE", "EXPLAIN", "UNDROP")) {
    return Effect.fail(SnowflakeError.unsupported(first?.kind === "word" ? first.text : ""))
  }
  return Effect.fail(unexpectedToken(context.source, first))
}
