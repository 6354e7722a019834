/**
 * Commands that look whether a configuration is as it should be, and change nothing: `validate`, `test`, `doctor`.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Verdict } from "./CommandError.ts"
import { file, Json, period } from "./CommandFlags.ts"
import { ExitCode } from "./ExitCode.ts"
import * as Output from "./Output.ts"

export const validate = Command.make(
  "validate",
  {
    file,
    offline: Flag.Boolean("offline").pipe(
      Flag.withDescription("Leave ${env:…} and ${file:…} unresolved and check the rest"),
      Flag.withDefault(false)
    ),
    connect: Flag.Boolean("connect").pipe(
      Flag.withDescription(
        "Also ask the sources for their tables, and the transforms what they make of each. Changes nothing at the sources"
      ),
      Flag.withDefault(false)
    )
  },
  Effect.fn(function*(options) {
    const json = yield* Json
    const { validate } = yield* Effect.promise(() => import("./commands/Validate.ts"))
    const result = yield* validate({ ...options, json })
    yield* Output.succeed(result, json)
    const { exitCode = ExitCode.ok } = result
    if (exitCode !== ExitCode.ok) return yield* new Verdict({ exitCode })
  })
).pipe(
  Command.withDescription(
    "Check a configuration file: YAML, options, plugins, references. Connects to nothing without --connect. " +
      "Exits with 2 on problems, 3 when something can't be reached"
  ),
  Command.withExamples([
    { command: "etl-stream validate shop.yaml", description: "Check the file alone" },
    {
      command: "etl-stream validate shop.yaml --connect",
      description: "See which table becomes which, with its columns, and what a transform has against it"
    }
  ])
)

export const doctor = Command.make(
  "doctor",
  {
    file,
    pipelines: Argument.String("pipeline").pipe(
      Argument.withDescription("Pipelines to check; all when none is named"),
      Argument.variadic({ min: 0 })
    ),
    checkTimeout: period("check-timeout", Duration.minutes(1)).pipe(
      Flag.withDescription("How long the checks of one source or sink may take (default: 1 minute)")
    )
  },
  Effect.fn(function*(options) {
    const json = yield* Json
    const { doctor } = yield* Effect.promise(() => import("./commands/Doctor.ts"))
    const result = yield* doctor({ ...options, json })
    yield* Output.succeed(result, json)
    const { exitCode = ExitCode.ok } = result
    if (exitCode !== ExitCode.ok) return yield* new Verdict({ exitCode })
  })
).pipe(
  Command.withDescription(
    "Check sources and sinks for everything that a run needs, with the SQL of each remedy. Changes nothing. " +
      "Exits with 2 on critical findings, 3 when something can't be reached"
  )
)

export const test = Command.make(
  "test",
  {
    file: Argument.String("file.yaml").pipe(
      Argument.withDescription("Configuration file, whose tests are in file.test.yaml beside it; or a file of tests")
    ),
    only: Flag.String("only").pipe(Flag.withDescription("Only tests with this text in their names"), Flag.optional)
  },
  Effect.fn(function*({ file, only }) {
    const json = yield* Json
    const { test } = yield* Effect.promise(() => import("./commands/Test.ts"))
    const result = yield* test({ file, only: Option.getOrUndefined(only) })
    yield* Output.succeed(result, json)
    const { exitCode = ExitCode.ok } = result
    if (exitCode !== ExitCode.ok) return yield* new Verdict({ exitCode })
  })
).pipe(
  Command.withDescription(
    "Run the tests of a configuration's transforms, written in YAML: what comes in, what is to come out. Connects to nothing. Exits with 1 when one fails"
  ),
  Command.withExamples([
    { command: "etl-stream test shop.yaml", description: "Run the tests in shop.test.yaml" }
  ])
)
