/**
 * `etl-stream dlq`: commands about dead letters.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Verdict } from "./CommandError.ts"
import { file, Json } from "./CommandFlags.ts"
import { ExitCode } from "./ExitCode.ts"
import * as Output from "./Output.ts"

const letterOptions = {
  file,
  pipeline: Flag.String("pipeline").pipe(
    Flag.withDescription("The pipeline; needed when the file has several"),
    Flag.optional
  ),
  table: Flag.String("table").pipe(
    Flag.withDescription("Only letters of this table, as the source names it: schema.name"),
    Flag.optional
  ),
  column: Flag.String("column").pipe(
    Flag.withDescription("Only letters of this column, as the source names it"),
    Flag.optional
  ),
  ids: Argument.String("letter").pipe(
    Argument.withDescription("Letters by their ids; all that are selected when none is named"),
    Argument.variadic({ min: 0 })
  )
}

const selected = (options: {
  readonly file: string
  readonly pipeline: Option.Option<string>
  readonly table: Option.Option<string>
  readonly column: Option.Option<string>
  readonly ids: ReadonlyArray<string>
}) => ({
  file: options.file,
  pipeline: Option.getOrUndefined(options.pipeline),
  table: Option.getOrUndefined(options.table),
  column: Option.getOrUndefined(options.column),
  ids: options.ids
})

const lettersList = Command.make(
  "ls",
  { file, pipeline: letterOptions.pipeline },
  Effect.fn(function*({ file, pipeline }) {
    const json = yield* Json
    const { list } = yield* Effect.promise(() => import("./commands/DeadLetters.ts"))
    yield* Output.succeed(yield* list({ file, pipeline: Option.getOrUndefined(pipeline) }), json)
  })
).pipe(Command.withDescription("Count dead letters by pipeline, table, column and reason"))

const lettersShow = Command.make(
  "show",
  letterOptions,
  Effect.fn(function*(options) {
    const json = yield* Json
    const { show } = yield* Effect.promise(() => import("./commands/DeadLetters.ts"))
    yield* show({ ...selected(options), json })
  })
).pipe(
  Command.withDescription("Print dead letters with the values of their rows; with --json one JSON line per letter")
)

const lettersReplay = Command.make(
  "replay",
  letterOptions,
  Effect.fn(function*(options) {
    const json = yield* Json
    const { replay } = yield* Effect.promise(() => import("./commands/DeadLetters.ts"))
    const result = yield* replay(selected(options))
    yield* Output.succeed(result, json)
    const { exitCode = ExitCode.ok } = result
    if (exitCode !== ExitCode.ok) return yield* new Verdict({ exitCode })
  })
).pipe(
  Command.withDescription(
    "Write dead letters' values to their rows, with the configuration as it is now, where no later change has come. Exits with 1 when letters are left"
  )
)

const lettersDrop = Command.make(
  "drop",
  {
    ...letterOptions,
    all: Flag.Boolean("all").pipe(
      Flag.withDescription("Drop all letters of the pipeline when none is named"),
      Flag.withDefault(false)
    )
  },
  Effect.fn(function*(options) {
    const json = yield* Json
    const { drop } = yield* Effect.promise(() => import("./commands/DeadLetters.ts"))
    yield* Output.succeed(yield* drop({ ...selected(options), all: options.all }), json)
  })
).pipe(Command.withDescription("Forget dead letters: the values in them are lost"))

export const letters = Command.make("dlq").pipe(
  Command.withDescription("Dead letters: values that a sink could not write"),
  Command.withSubcommands([lettersList, lettersShow, lettersReplay, lettersDrop]),
  Command.withExamples([
    { command: "etl-stream dlq ls shop.yaml", description: "What could not be written, and why" },
    {
      command: "etl-stream dlq replay shop.yaml --table public.orders",
      description: "Write it after its column was mended"
    }
  ])
)
