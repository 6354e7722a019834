/**
 * What a pipeline would do with its source's tables as they are now: asked of the source's plugin and of the transforms, without a run.
 *
 * Each table goes through the transforms' `schema` one after the other, as a run would have it. Everything that is wrong is found at once: a table that a transform refuses is
 * followed no further, and all others are.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import { type TableId, tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import type { Transform } from "@etl-stream/core/Transform"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { type CommandError, fromConnector, internal, isConnectorError } from "./CommandError.ts"
import type { PipelineConfiguration, Stage } from "./Configuration.ts"
import { ExitCode } from "./ExitCode.ts"
import type { Path } from "./Problem.ts"
import * as StageTransform from "./StageTransform.ts"

/** A table on its way. */
export interface PlannedTable {
  readonly source: TableSchema
  /** What the sink gets; undefined when a transform leaves the table out, or has a problem with it that is told. */
  readonly target: TableSchema | undefined
  /** Index of the transform that leaves it out. */
  readonly leftOutBy?: number
}

/** Something that is wrong, or a warning. */
export interface Remark {
  /** In the configuration, from its root. */
  readonly path: Path
  readonly table?: TableId
  /** Of an error: its stable code. */
  readonly code?: CommandError["code"]
  readonly exitCode: ExitCode
  readonly message: string
  readonly hint: string
}

export interface TablePlan {
  readonly tables: ReadonlyArray<PlannedTable>
  readonly problems: ReadonlyArray<Remark>
  readonly warnings: ReadonlyArray<Remark>
}

type Asked<A> = { readonly value: A } | { readonly error: CommandError }

/** How long a plugin may take to answer. */
export const AnswerLimit = Context.Reference<Duration.Input>("@etl-stream/runner/TablePlan/AnswerLimit", {
  defaultValue: () => "2 minutes"
})

/** What came of asking a plugin. Defects of it are errors like any other here, also those that it throws instead of giving an effect. */
const asked = Effect.fnUntraced(
  function*<A, R>(
    { name, plugin }: Stage<"source" | "transform">,
    ask: () => Effect.Effect<A, ConnectorError, R>
  ): Effect.fn.Return<Asked<A>, never, R> {
    const what = `The ${plugin.kind} ${name}`
    const limit = yield* AnswerLimit
    const late = new ConnectorError({
      reason: "Unreachable",
      plugin: plugin.name,
      message: `${what} gave no answer in ${Duration.format(Duration.fromInputUnsafe(limit))}`,
      hint: "See whether what it connects to can be reached, and is not blocked by a lock."
    })
    const exit = yield* Effect.suspend(ask).pipe(
      Effect.timeoutOrElse({ duration: limit, orElse: () => Effect.fail(late) }),
      Effect.exit
    )
    if (Exit.isSuccess(exit)) return { value: exit.value }
    if (Cause.hasInterruptsOnly(exit.cause)) return yield* Effect.interrupt
    const failure = Cause.squash(exit.cause)
    if (isConnectorError(failure)) return { error: fromConnector(undefined, failure) }
    yield* Effect.logDebug(`${what} threw`, exit.cause)
    return { error: internal(what, failure) }
  }
)

const remark = (path: Path, error: CommandError, table?: TableId): Remark => ({
  path,
  ...(table === undefined ? {} : { table }),
  code: error.code,
  // What a transform doesn't take, the configuration has to be mended for, unless something outside is in the way.
  exitCode: error.exitCode === ExitCode.environment || error.code === "Internal" ? error.exitCode : ExitCode.validation,
  message: error.message,
  hint: error.hint
})

/** Plans the tables of `pipeline`. Never fails. */
export const make = Effect.fn("TablePlan.make")(function*(
  pipeline: PipelineConfiguration,
  directory: string
): Effect.fn.Return<TablePlan, never, Scope.Scope> {
  const { name, source, transforms } = pipeline
  const context = { pipeline: name, directory }
  const root: Path = ["pipelines", name]
  const stagePath = (index: number): Path => [...root, "transforms", index]
  const problems: Array<Remark> = []
  const warnings: Array<Remark> = []

  const made: Array<Transform | undefined> = []
  for (const [index, stage] of transforms.entries()) {
    const transform = yield* asked(stage, () => StageTransform.make(stage, context))
    if ("error" in transform) problems.push(remark(stagePath(index), transform.error))
    made.push("value" in transform ? transform.value : undefined)
  }

  if (source.plugin.tables === undefined) {
    warnings.push({
      path: [...root, "source"],
      exitCode: ExitCode.ok,
      message: `The plugin ${source.name} can't tell its tables without a run, so nothing can be said of them.`,
      hint: "A run tells what is wrong with them."
    })
    return { tables: [], problems, warnings }
  }
  const { tables: tablesOf } = source.plugin
  const found = yield* asked(source, () => tablesOf(source.options, context))
  if ("error" in found) {
    const { error } = found
    problems.push({ ...remark([...root, "source"], error), exitCode: error.exitCode })
    return { tables: [], problems, warnings }
  }
  if (found.value.length === 0) {
    warnings.push({
      path: [...root, "source"],
      exitCode: ExitCode.ok,
      message: `The source ${source.name} has no tables now.`,
      hint: "Look at its options, or at what its role may see."
    })
  }

  const matched = transforms.map(() => new Set<string>())
  const follow = Effect.fnUntraced(function*(table: TableSchema): Effect.fn.Return<PlannedTable> {
    let schema = table
    for (const [index, stage] of transforms.entries()) {
      for (const pattern of stage.tables ?? []) {
        if (pattern.matches(schema.table)) matched[index]?.add(pattern.text)
      }
      const transform = made[index]
      if (!StageTransform.isFor(stage, schema.table)) continue
      // Nothing is known of what a transform would do that couldn't be made, and that is told already.
      if (transform === undefined) return { source: table, target: undefined }
      const next = yield* asked(stage, () => transform.schema(schema))
      if ("error" in next) {
        problems.push(remark(stagePath(index), next.error, tableId(table.table)))
        return { source: table, target: undefined }
      }
      if (next.value === undefined) return { source: table, target: undefined, leftOutBy: index }
      schema = next.value
    }
    return { source: table, target: schema }
  })
  const tables = yield* Effect.forEach(found.value, follow)

  for (const [index, { tables: patterns = [] }] of transforms.entries()) {
    // Tables that never came so far might have matched.
    if (
      problems.some(({ path, table }) => table !== undefined && Number(path[3]) < index) ||
      made.slice(0, index).includes(undefined)
    ) break
    for (const [position, { text }] of patterns.entries()) {
      if (matched[index]?.has(text) === true) continue
      warnings.push({
        path: [...stagePath(index), "tables", position],
        exitCode: ExitCode.ok,
        message: `No table that comes to this transform matches ${text}.`,
        hint: index === 0
          ? "Correct it, if it is not for tables to come: names are taken exactly as the source has them."
          : "Correct it, if it is not for tables to come: the names are those that tables have after the transforms before it."
      })
    }
  }

  const owners = new Map<TableId, TableId>()
  for (const { source, target } of tables) {
    if (target === undefined) continue
    const id = tableId(target.table)
    const own = tableId(source.table)
    const owner = owners.get(id)
    if (owner === undefined) owners.set(id, own)
    else {
      problems.push({
        path: transforms.length === 0 ? [...root, "source"] : [...root, "transforms"],
        table: own,
        exitCode: ExitCode.validation,
        message: `The tables ${owner} and ${own} would both be written to ${id}.`,
        hint: "Change the transforms so that every table keeps a name of its own, or leave one of the tables out."
      })
    }
  }
  return { tables, problems, warnings }
})
