/**
 * The commands that ask a running etl-stream: arguments, flags, help.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Verdict } from "./CommandError.ts"
import { Json } from "./CommandFlags.ts"
import { ExitCode } from "./ExitCode.ts"
import * as Output from "./Output.ts"

const where = {
  url: Flag.String("url").pipe(
    Flag.withDescription("The running process's HTTP API (default: that of --file, or http://127.0.0.1:8086)"),
    Flag.optional
  ),
  file: Flag.String("file").pipe(
    Flag.withDescription("Configuration file whose section `http` says where the API is, and its token"),
    Flag.optional
  )
}

const placed = (options: { readonly url: Option.Option<string>; readonly file: Option.Option<string> }) => ({
  url: Option.getOrUndefined(options.url),
  file: Option.getOrUndefined(options.file)
})

const tokenHint = "A token is taken from ETL_STREAM_TOKEN or the file of --file"

export const status = Command.make(
  "status",
  {
    ...where,
    pipeline: Argument.String("pipeline").pipe(
      Argument.withDescription("Pipeline to show with its tables; all without theirs when none is named"),
      Argument.optional
    ),
    watch: Flag.Boolean("watch").pipe(
      Flag.withDescription("Go on showing it on a terminal; otherwise a line for each thing that happens"),
      Flag.withDefault(false)
    )
  },
  Effect.fn(function*(options) {
    const json = yield* Json
    const { status } = yield* Effect.promise(() => import("./commands/Remote.ts"))
    const result = yield* status({
      ...placed(options),
      pipeline: Option.getOrUndefined(options.pipeline),
      watch: options.watch,
      json
    })
    if (result === undefined) return
    yield* Output.succeed(result, json)
    const { exitCode = ExitCode.ok } = result
    if (exitCode !== ExitCode.ok) return yield* new Verdict({ exitCode })
  })
).pipe(
  Command.withDescription(
    `Show what the pipelines of a running etl-stream are doing, by its HTTP API. Exits with 1 when one has failed. ${tokenHint}`
  ),
  Command.withExamples([
    { command: "etl-stream status", description: "All pipelines of the process on this machine" },
    { command: "etl-stream status shop --watch --file shop.yaml", description: "One of them with its tables, live" }
  ])
)

const controlling = (verb: "pause" | "resume" | "stop", description: string) =>
  Command.make(
    verb,
    {
      ...where,
      pipelines: Argument.String("pipeline").pipe(
        Argument.withDescription("Pipelines by their names"),
        Argument.variadic({ min: 1 })
      ),
      wait: Flag.Boolean("wait").pipe(
        Flag.withDescription("Wait until it is done (default); --no-wait only asks"),
        Flag.withDefault(true)
      )
    },
    Effect.fn(function*(options) {
      const json = yield* Json
      const { control } = yield* Effect.promise(() => import("./commands/Remote.ts"))
      yield* Output.succeed(
        yield* control(verb, { ...placed(options), pipelines: options.pipelines, wait: options.wait }),
        json
      )
    })
  ).pipe(Command.withDescription(`${description} ${tokenHint}`))

export const pause = controlling(
  "pause",
  "Let pipelines of a running etl-stream drain and wait until they are resumed; their sources keep the log for them."
)

export const resume = controlling("resume", "Let pipelines run again that were paused, were stopped, or have failed.")

export const stop = controlling(
  "stop",
  "Let pipelines of a running etl-stream drain and end until they are resumed; their sources keep the log for them."
)

export const tap = Command.make(
  "tap",
  {
    ...where,
    pipeline: Argument.String("pipeline").pipe(Argument.withDescription("Pipeline by its name")),
    table: Flag.String("table").pipe(
      Flag.withDescription("Only what is of this table, as the source names it: schema.name"),
      Flag.optional
    ),
    values: Flag.Boolean("values").pipe(
      Flag.withDescription("Show values of some rows, where the configuration allows it (http.tapValues)"),
      Flag.withDefault(false)
    ),
    count: Flag.Int("count").pipe(Flag.withDescription("End after so many samples"), Flag.optional)
  },
  Effect.fn(function*(options) {
    const json = yield* Json
    const { tap } = yield* Effect.promise(() => import("./commands/Remote.ts"))
    yield* tap({
      ...placed(options),
      pipeline: options.pipeline,
      table: Option.getOrUndefined(options.table),
      values: options.values,
      count: Option.getOrUndefined(options.count),
      json
    })
  })
).pipe(
  Command.withDescription(
    `Print samples of what passes through a pipeline; with --json one JSON line each. ${tokenHint}`
  )
)
