/**
 * `etl-stream dlq`: what a sink could not write: counts, letters, and writing or forgetting them.
 *
 * Letters are read as a stream, so as many as there may be need no memory. `show` prints values of rows, and is the only thing that does.
 */
import type { DeadLetter } from "@etl-stream/core/DeadLetter"
import type { DeadLetters, Left, Replayed, Selection } from "@etl-stream/core/DeadLetterStore"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Choice from "../Choice.ts"
import { CommandError, fromConnector, internal, isConnectorError, redacted, usage } from "../CommandError.ts"
import * as Configuration from "../Configuration.ts"
import { ExitCode } from "../ExitCode.ts"
import type { Result } from "../Output.ts"
import * as PipelineLetters from "../PipelineLetters.ts"
import { printable } from "../TextWidth.ts"

export interface Options {
  readonly file: string
  readonly pipeline: string | undefined
  readonly table: string | undefined
  readonly column: string | undefined
  /** Letters by their ids; empty: all that the other options select. */
  readonly ids: ReadonlyArray<string>
}

interface Opened {
  readonly pipeline: string
  readonly letters: DeadLetters
}

const open = Effect.fnUntraced(function*(
  { directory }: Configuration.Configuration,
  configured: Configuration.PipelineConfiguration
): Effect.fn.Return<Opened | undefined, CommandError, Scope.Scope> {
  const { name: pipeline } = configured
  const letters = yield* Effect.mapError(
    PipelineLetters.open(configured, directory),
    (error) => fromConnector(pipeline, error)
  )
  return letters === undefined ? undefined : { pipeline, letters }
})

const none = (pipeline: string): CommandError =>
  new CommandError({
    code: "NoDeadLetters",
    message: `The pipeline ${pipeline} keeps no dead letters`,
    hint:
      "Give it a `deadLetters`, such as the plugin @etl-stream/dead-letters-files; until then a value that can't be written stops its table.",
    exitCode: ExitCode.validation,
    pipeline
  })

/** Runs `body` with the configuration; what fails comes out without secrets. */
const withConfiguration = <A>(
  file: string,
  body: (configuration: Configuration.Configuration) => Effect.Effect<A, CommandError, Scope.Scope>
): Effect.Effect<A, CommandError> =>
  Effect.gen(function*() {
    const configuration = yield* Configuration.load(file, { environment: process.env, offline: false })
    if (configuration === undefined) return yield* internal("Loading the configuration", undefined)
    return yield* Effect.scoped(body(configuration)).pipe(
      Effect.catchDefect((defect) => Effect.fail(internal("The dead letters", defect))),
      Effect.mapError((error) => redacted(error, configuration.redact))
    )
  })

/** The letters that the options select, with what keeps them. */
const select = Effect.fnUntraced(function*(configuration: Configuration.Configuration, options: Options) {
  const chosen = yield* Choice.pipeline(configuration, options.pipeline)
  const opened = yield* open(configuration, chosen)
  if (opened === undefined) return yield* none(chosen.name)
  const { letters: { store }, pipeline } = opened
  const table: TableId | undefined = options.table === undefined ? undefined : yield* Choice.table(options.table)
  const selection: Selection = { pipeline, table, column: options.column }
  const failed = (error: unknown): CommandError =>
    isConnectorError(error) ? fromConnector(pipeline, error) : internal("Reading dead letters", error)
  const named = Stream.fromArray([...options.ids]).pipe(
    Stream.mapEffect((id) =>
      Effect.flatMap(Effect.mapError(store.get(pipeline, id), failed), (letter) =>
        letter === undefined
          ? Effect.fail(usage(`There is no dead letter ${id}`, "See which there are with `etl-stream dlq show`."))
          : Effect.succeed(letter))
    )
  )
  const letters: Stream.Stream<DeadLetter, CommandError> = options.ids.length > 0
    ? named
    : Stream.mapError(store.list(selection), failed)
  return { ...opened, letters, store, replay: opened.letters.replay, failed }
})

interface Group {
  readonly pipeline: string
  readonly table: TableId
  readonly column: string
  readonly reason: string
  count: number
  first: string
  last: string
}

/** Counts letters by pipeline, table, column and reason. */
export const list = (
  { file, pipeline: wanted }: Pick<Options, "file" | "pipeline">
): Effect.Effect<Result, CommandError> =>
  withConfiguration(
    file,
    Effect.fnUntraced(function*(configuration) {
      const pipelines = wanted === undefined
        ? configuration.pipelines
        : [yield* Choice.pipeline(configuration, wanted)]
      const groups = new Map<string, Group>()
      let kept = 0
      for (const configured of pipelines) {
        const opened = yield* open(configuration, configured)
        if (opened === undefined) continue
        kept++
        const { letters, pipeline } = opened
        yield* Stream.runForEach(letters.store.list({ pipeline }), ({ at, column, reason, table }) =>
          Effect.sync(() => {
            const key = JSON.stringify([pipeline, table, column.name, reason])
            const group = groups.get(key)
            if (group === undefined) {
              groups.set(key, { pipeline, table, column: column.name, reason, count: 1, first: at, last: at })
              return
            }
            group.count++
            if (at < group.first) group.first = at
            if (at > group.last) group.last = at
          })).pipe(Effect.mapError((error) => fromConnector(pipeline, error)))
      }
      const [only] = pipelines
      if (kept === 0 && only !== undefined) return yield* none(only.name)
      const found = [...groups.values()]
      const lines = found.map(({ column, count, first, last, pipeline, reason, table }) =>
        printable(
          `${pipeline}  ${table}  ${column}: ${count} ${
            count === 1 ? "value" : "values"
          }, ${first} to ${last}; it ${reason}`
        )
      )
      return {
        command: "dlq ls",
        data: { deadLetters: found },
        text: found.length === 0 ? "There are no dead letters." : lines.join("\n")
      }
    })
  )

const print = (line: string): Effect.Effect<void> =>
  Effect.callback((resume) => {
    // A reader that went away (`| head`) is no error of ours.
    process.stdout.write(`${line}\n`, () => resume(Effect.void))
  })

const described = (letter: DeadLetter): string =>
  [
    `${letter.id}  ${letter.table}  ${letter.column.name} ${letter.reason}`,
    `  ${letter.operation} ${letter.sequence}, committed ${letter.commitTime}, kept ${letter.at}`,
    ...Object.entries(letter.values).map(([name, value]) =>
      `  ${name} = ${value === null ? "NULL" : JSON.stringify(value)}`
    ),
    ...(letter.unsent.length === 0 ? [] : [`  not sent: ${letter.unsent.join(", ")}`])
  ].map(printable).join("\n")

/** Prints letters, one after the other. */
export const show = (options: Options & { readonly json: boolean }): Effect.Effect<void, CommandError> =>
  withConfiguration(
    options.file,
    Effect.fnUntraced(function*(configuration) {
      const { letters } = yield* select(configuration, options)
      yield* Stream.runForEach(letters, (letter) => print(options.json ? JSON.stringify(letter) : described(letter)))
    })
  )

/** How many letters are remembered at a time, to be forgotten together. */
const together = 100

/** Writes letters' values to their rows where they still belong, and forgets those that are done. */
export const replay = (options: Options): Effect.Effect<Result, CommandError> =>
  withConfiguration(
    options.file,
    Effect.fnUntraced(function*(configuration) {
      const { failed, letters, pipeline, replay, store } = yield* select(configuration, options)
      const counts: Record<Replayed["_tag"], number> = { Written: 0, Superseded: 0, Waiting: 0, Refused: 0, Unclear: 0 }
      /** Why letters stay, each reason once with an example. */
      const reasons = new Map<string, Left & { readonly table: TableId; readonly id: string; count: number }>()
      const pass = letters.pipe(
        Stream.rechunk(together),
        Stream.runForEachArray(Effect.fnUntraced(function*(some) {
          const done: Array<DeadLetter> = []
          for (const letter of some) {
            const outcome = yield* Effect.mapError(replay(letter), failed)
            counts[outcome._tag]++
            if (outcome._tag === "Written" || outcome._tag === "Superseded") {
              done.push(letter)
              continue
            }
            const key = JSON.stringify([letter.table, outcome.why])
            const known = reasons.get(key)
            if (known === undefined) reasons.set(key, { ...outcome, table: letter.table, id: letter.id, count: 1 })
            else known.count++
          }
          if (done.length > 0) yield* Effect.mapError(store.remove(done), failed)
        }))
      )
      for (;;) {
        const before = counts.Written + counts.Superseded
        Object.assign(counts, { Waiting: 0, Refused: 0, Unclear: 0 })
        reasons.clear()
        yield* pass
        // Of a row with several letters, writing the last one's value settles those before it: they are looked at again.
        if (options.ids.length > 0 || counts.Unclear === 0 || counts.Written + counts.Superseded === before) break
      }
      const { Refused, Superseded, Unclear, Waiting, Written } = counts
      const left = [...reasons.values()]
      return {
        command: "dlq replay",
        exitCode: left.length === 0 ? ExitCode.ok : ExitCode.runtime,
        data: {
          pipeline,
          written: Written,
          superseded: Superseded,
          waiting: Waiting,
          refused: Refused,
          unclear: Unclear,
          left: left.map(({ count, hint, id, table, why }) => ({ table, why, hint, count, example: id }))
        },
        text: [
          `${Written} written, ${Superseded} superseded by later changes, ${Waiting + Refused + Unclear} left.`,
          ...left.map(({ count, hint, id, table, why }) =>
            `  ${table}: ${count} (such as ${id}): ${why}\n    -> ${hint}`
          )
        ].join("\n")
      }
    })
  )

/** Forgets letters. */
export const drop = (options: Options & { readonly all: boolean }): Effect.Effect<Result, CommandError> =>
  withConfiguration(
    options.file,
    Effect.fnUntraced(function*(configuration) {
      if (!options.all && options.ids.length === 0 && options.table === undefined) {
        return yield* usage(
          "No letters are named",
          "Name letters or a `--table`, or say `--all`: what is dropped is lost."
        )
      }
      const { failed, letters, pipeline, store } = yield* select(configuration, options)
      let dropped = 0
      yield* letters.pipe(
        Stream.rechunk(together),
        Stream.runForEachArray((some) => {
          dropped += some.length
          return Effect.mapError(store.remove(some), failed)
        })
      )
      return {
        command: "dlq drop",
        data: { pipeline, dropped },
        text: `${dropped} ${dropped === 1 ? "letter" : "letters"} dropped.`
      }
    })
  )
