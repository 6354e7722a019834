/**
 * SHOW and DESCRIBE of tasks and streams.
 */
import type { Stream, Task } from "../Catalog.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import type { Cursor } from "../sql/Cursor.ts"
import type { Filter, Row } from "./ShowFilter.ts"
import { at, created, inScope, keep, named, outcome } from "./ShowFilter.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

const taskColumns = [
  created,
  ...named(
    "name",
    "id",
    "database_name",
    "schema_name",
    "owner",
    "comment",
    "warehouse",
    "schedule",
    "predecessors",
    "state",
    "definition",
    "condition",
    "allow_overlapping_execution"
  )
]

const taskRow = (task: Task): Row => [
  at(task.createdOn),
  task.name,
  task.id,
  task.database,
  task.schema,
  task.owner ?? "SYSADMIN",
  task.comment ?? "",
  task.warehouse ?? null,
  task.schedule?.text ?? null,
  "[]",
  task.state,
  task.definition,
  task.condition ?? null,
  String(task.allowOverlap)
]

const streamColumns = [
  created,
  ...named("name", "database_name", "schema_name", "comment", "table_name", "source_type", "type", "stale", "mode")
]

const streamRow = (stream: Stream): Row => [
  at(stream.createdOn),
  stream.name,
  stream.database,
  stream.schema,
  stream.comment ?? "",
  Statement.printPath([stream.table.database, stream.table.schema, stream.table.name]),
  "Table",
  "DELTA",
  "false",
  "APPEND_ONLY"
]

export const tasks = (context: StatementContext, given: Filter): Run<Outcome> =>
  Statement.parse(() =>
    outcome(
      taskColumns,
      keep(given, context.services.catalog.tasks().filter(inScope(context, given))).map(taskRow)
    )
  )

export const streams = (context: StatementContext, given: Filter): Run<Outcome> =>
  Statement.parse(() => {
    const found = context.services.catalog.objects().filter((object): object is Stream => object.kind === "STREAM")
    return outcome(streamColumns, keep(given, found.filter(inScope(context, given))).map(streamRow))
  })

/** DESCRIBE TASK, whose words have been read; throws. */
export const describeTask = (context: StatementContext, cursor: Cursor): Outcome => {
  const path = Statement.fullPath(context.session, cursor.path())
  cursor.end()
  const task = context.services.catalog.task(...path)
  if (task === undefined) throw SnowflakeError.objectNotFound("Task", Statement.printPath(path))
  return { ...outcome(taskColumns, [taskRow(task)]), kind: "DESCRIBE" }
}

/** DESCRIBE STREAM, whose words have been read; throws. */
export const describeStream = (context: StatementContext, cursor: Cursor): Outcome => {
  const path = Statement.fullPath(context.session, cursor.path())
  cursor.end()
  const stream = context.services.catalog.stream(...path)
  if (stream === undefined) throw SnowflakeError.objectNotFound("Stream", Statement.printPath(path))
  return { ...outcome(streamColumns, [streamRow(stream)]), kind: "DESCRIBE" }
}
