/**
 * CREATE, ALTER and EXECUTE TASK: standalone tasks on an interval, with a condition on streams.
 *
 * A task is stored as it is written; TaskScheduler runs what is stored. Graphs of tasks, schedules by cron and tasks without a schedule but a condition (triggered ones) are refused.
 */
import * as Effect from "effect/Effect"
import type { Task } from "../Catalog.ts"
import * as CatalogRecords from "../Catalog.ts"
import * as Grants from "../Grants.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import { Cursor, isOp, isWord } from "../sql/Cursor.ts"
import * as Expression from "../sql/Expression.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Query from "../sql/Query.ts"
import type { Token } from "../sql/Token.ts"
import * as Control from "./ControlStatement.ts"
import * as Definition from "./DefinitionChange.ts"
import * as Privileges from "./Privileges.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

const properties = new Set([
  "WAREHOUSE",
  "USER_TASK_MANAGED_INITIAL_WAREHOUSE_SIZE",
  "SCHEDULE",
  "ALLOW_OVERLAPPING_EXECUTION",
  "USER_TASK_TIMEOUT_MS",
  "SUSPEND_TASK_AFTER_NUM_FAILURES",
  "COMMENT"
])
const settable = new Set([...properties, ...Control.parameterDefaults.keys()])

const unitSeconds: Readonly<Record<string, number>> = {
  SECOND: 1,
  SECONDS: 1,
  S: 1,
  MINUTE: 60,
  MINUTES: 60,
  M: 60,
  HOUR: 3600,
  HOURS: 3600,
  H: 3600
}
const leastSeconds = 10
const mostSeconds = 11_520 * 60

const scheduleOf = (text: string): Task["schedule"] => {
  if (/^\s*USING\s+CRON\b/i.test(text)) throw SnowflakeError.unsupported("SCHEDULE = 'USING CRON …'")
  const [, count, unit = ""] = /^\s*(\d+)\s*([a-z]+)\s*$/i.exec(text) ?? []
  const seconds = Number(count) * (unitSeconds[unit.toUpperCase()] ?? Number.NaN)
  if (!(seconds >= leastSeconds && seconds <= mostSeconds)) {
    throw SnowflakeError.invalidOption(`invalid value ['${text}'] for parameter 'SCHEDULE'`)
  }
  return { text, seconds }
}

const wholeOf = (name: string, text: string): number => {
  if (!/^\d+$/.test(text)) throw SnowflakeError.invalidOption(`invalid value [${text}] for parameter '${name}'`)
  return Number(text)
}

/** What the options behind CREATE TASK or SET mean. */
const changesOf = (context: StatementContext, task: Task, settings: Readonly<Record<string, string>>): Task => {
  let next = task
  for (const [name, value] of Object.entries(settings)) {
    switch (name) {
      case "WAREHOUSE":
        if (!Privileges.usesWarehouse(context, value)) throw SnowflakeError.useNotFound()
        next = { ...next, warehouse: value }
        break
      case "USER_TASK_MANAGED_INITIAL_WAREHOUSE_SIZE":
        next = { ...next, warehouse: undefined }
        break
      case "SCHEDULE":
        next = { ...next, schedule: scheduleOf(value) }
        break
      case "ALLOW_OVERLAPPING_EXECUTION":
        next = { ...next, allowOverlap: value.toUpperCase() === "TRUE" }
        break
      case "USER_TASK_TIMEOUT_MS":
        next = { ...next, timeoutMillis: wholeOf(name, value) }
        break
      case "SUSPEND_TASK_AFTER_NUM_FAILURES":
        next = { ...next, suspendAfterFailures: wholeOf(name, value) }
        break
      case "COMMENT":
        next = { ...next, comment: value }
        break
      default:
        Control.checkParameter(name, value)
        next = { ...next, parameters: { ...next.parameters, [name]: value } }
    }
  }
  return next
}

/** The text of WHEN, which may only ask whether streams have data. */
const conditionOf = (context: StatementContext, tokens: ReadonlyArray<Token>): string => {
  const allowed = new Set(["SYSTEM$STREAM_HAS_DATA", "AND", "OR", "NOT", "TRUE", "FALSE"])
  const refuse = (items: ReadonlyArray<Token>): void => {
    for (const token of items) {
      if (token.kind === "group") refuse(token.items)
      else if (token.kind === "word" && !allowed.has(token.text)) {
        throw SnowflakeError.invalidOption(`Invalid expression '${token.text}' in the WHEN clause of a task`)
      }
    }
  }
  refuse(tokens)
  Expression.write(tokens, Query.scopeOf(Statement.environment(context)))
  return textOf(context, tokens)
}

const textOf = (context: StatementContext, tokens: ReadonlyArray<Token>): string =>
  context.source.slice(tokens[0]?.at ?? 0, tokens[tokens.length - 1]?.end ?? 0)

const requireTask = (context: StatementContext, path: ReadonlyArray<string>): Task => {
  const [database, schema, name] = Statement.fullPath(context.session, path)
  const found = context.services.catalog.task(database, schema, name)
  if (found !== undefined) return found
  Statement.requireSchema(context, database, schema)
  throw SnowflakeError.objectNotFound("Task", Statement.printPath([database, schema, name]))
}

export const create = (context: StatementContext, cursor: Cursor, { replace }: Definition.Head): Run<Outcome> =>
  Effect.gen(function*() {
    const { ifNotExists, task } = yield* Statement.parse(() => {
      const ifNotExists = cursor.accept("IF", "NOT", "EXISTS")
      const [database, schema, name] = Statement.fullPath(context.session, cursor.path())
      Statement.requireSchema(context, database, schema)
      Privileges.requireCreate(context, "TASK", database, schema)
      const head = new Cursor(context.source, cursor.until("WHEN", "AS", "AFTER", "FINALIZE"))
      const settings = Definition.options(head, settable)
      if (isWord(cursor.peek(), "AFTER", "FINALIZE")) throw SnowflakeError.unsupported("a graph of tasks")
      const condition = cursor.accept("WHEN") ? conditionOf(context, cursor.until("AS")) : undefined
      cursor.expect("AS")
      const body = cursor.rest()
      if (body.length === 0) throw cursor.unexpected()
      const task = changesOf(context, {
        kind: "TASK",
        database,
        schema,
        name,
        id: CatalogRecords.newId(),
        createdOn: context.now,
        owner: context.session.role,
        allowOverlap: false,
        parameters: {},
        suspendAfterFailures: 10,
        timeoutMillis: 3_600_000,
        condition,
        definition: textOf(context, body),
        state: "suspended"
      }, settings)
      if (condition !== undefined && task.schedule === undefined) {
        throw SnowflakeError.unsupported("a task with WHEN and without SCHEDULE")
      }
      return { ifNotExists, task }
    })
    const { database, name, schema } = task
    const created = yield* Definition.change(context, (changes) =>
      Effect.gen(function*() {
        if (context.services.catalog.task(database, schema, name) !== undefined) {
          if (ifNotExists) return false
          if (!replace) return yield* SnowflakeError.alreadyExists(Statement.printPath([database, schema, name]))
        }
        yield* changes.put(task)
        return true
      }))
    return Definition.done(
      "CREATE_TASK",
      created
        ? `Task ${Identifier.print(name)} successfully created.`
        : `${Identifier.print(name)} already exists, statement succeeded.`
    )
  })

/** The owner of a task must be allowed to run tasks. */
const requireRuns = (context: StatementContext, task: Task): void => {
  const privilege = task.warehouse === undefined ? "EXECUTE MANAGED TASK" : "EXECUTE TASK"
  if (!context.services.grants.allows(task.owner ?? "SYSADMIN", privilege, Grants.account)) {
    throw SnowflakeError.mayNotRunTasks(privilege)
  }
}

/** What ALTER TASK makes of a task. */
const alteration = (context: StatementContext, cursor: Cursor): (task: Task) => Task => {
  if (cursor.accept("SUSPEND")) return (task) => ({ ...task, state: "suspended" })
  if (cursor.accept("RESUME")) {
    return (task) => {
      if (task.schedule === undefined) {
        throw SnowflakeError.invalidOption(`Task ${Identifier.print(task.name)} has no schedule and can't be resumed.`)
      }
      requireRuns(context, task)
      return { ...task, state: "started" }
    }
  }
  if (cursor.accept("SET")) {
    const settings = Definition.options(cursor, settable)
    return (task) => changesOf(context, task, settings)
  }
  if (cursor.accept("UNSET")) {
    const names: Array<string> = []
    do names.push(cursor.identifier())
    while (cursor.acceptOp(","))
    return (task) => ({
      ...task,
      ...(names.includes("WAREHOUSE") ? { warehouse: undefined } : {}),
      ...(names.includes("SCHEDULE") ? { schedule: undefined, state: "suspended" as const } : {}),
      ...(names.includes("COMMENT") ? { comment: undefined } : {}),
      parameters: Object.fromEntries(Object.entries(task.parameters).filter(([name]) => !names.includes(name)))
    })
  }
  if (cursor.accept("MODIFY", "AS")) {
    const body = cursor.rest()
    if (body.length === 0) throw cursor.unexpected()
    return (task) => ({ ...task, definition: textOf(context, body) })
  }
  if (cursor.accept("MODIFY", "WHEN")) {
    const condition = conditionOf(context, cursor.rest())
    return (task) => ({ ...task, condition })
  }
  if (cursor.accept("REMOVE", "WHEN")) return (task) => ({ ...task, condition: undefined })
  if (isWord(cursor.peek(), "ADD", "REMOVE")) throw SnowflakeError.unsupported("a graph of tasks")
  throw cursor.unexpected()
}

/** ALTER TASK, whose first two words have been read. */
export const alter = (context: StatementContext, cursor: Cursor): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => {
      const ifExists = cursor.accept("IF", "EXISTS")
      const path = cursor.path()
      const [database, schema, name] = Statement.fullPath(context.session, path)
      if (ifExists && context.services.catalog.task(database, schema, name) === undefined) return undefined
      const task = requireTask(context, path)
      const operates = isWord(cursor.peek(), "SUSPEND", "RESUME")
      Privileges.require(context, task, "OWNERSHIP", ...(operates ? ["OPERATE"] : []))
      const alter = alteration(context, cursor)
      cursor.end()
      return { path, alter, task }
    })
    if (plan !== undefined) {
      yield* Definition.change(context, (changes) =>
        Effect.flatMap(
          Statement.parse(() => plan.alter(requireTask(context, plan.path))),
          (next) => changes.put(next)
        ))
    }
    return Definition.done("ALTER_TASK", "Statement executed successfully.")
  })

/** EXECUTE TASK, whose first two words have been read: one run, soon. */
export const execute = (context: StatementContext, cursor: Cursor): Run<Outcome> =>
  Effect.gen(function*() {
    const task = yield* Statement.parse(() => {
      const found = requireTask(context, cursor.path())
      Privileges.require(context, found, "OWNERSHIP", "OPERATE")
      requireRuns(context, found)
      if (!cursor.done && !isOp(cursor.peek(), ";")) throw SnowflakeError.unsupported("an option of EXECUTE TASK")
      return found
    })
    context.services.taskRuns.request(task.id)
    return {
      ...Definition.done("EXECUTE_TASK", `Task ${Identifier.print(task.name)} is scheduled to run immediately.`),
      typeId: Statement.typeIds.control
    }
  })
