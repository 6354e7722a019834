/**
 * `etl-stream alert`: commands about alerts.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { Verdict } from "./CommandError.ts"
import { file, Json } from "./CommandFlags.ts"
import { ExitCode } from "./ExitCode.ts"
import * as Output from "./Output.ts"

const alertTest = Command.make(
  "test",
  {
    file,
    notifiers: Argument.String("notifier").pipe(
      Argument.withDescription("Notifiers of the file to try; all when none is named"),
      Argument.variadic({ min: 0 })
    )
  },
  Effect.fn(function*(options) {
    const json = yield* Json
    const { test } = yield* Effect.promise(() => import("./commands/AlertTest.ts"))
    const result = yield* test({ ...options, json })
    yield* Output.succeed(result, json)
    const { exitCode = ExitCode.ok } = result
    if (exitCode !== ExitCode.ok) return yield* new Verdict({ exitCode })
  })
).pipe(
  Command.withDescription(
    "Send a test alert and its end through notifiers, whatever the rules say. Exits with 3 when one has to be mended outside, 1 on other failures"
  )
)

export const alert = Command.make("alert").pipe(
  Command.withDescription("About alerts and the notifiers that tell them"),
  Command.withSubcommands([alertTest]),
  Command.withExamples([
    { command: "etl-stream alert test shop.yaml", description: "Try every notifier of the file" },
    { command: "etl-stream alert test shop.yaml slack --json", description: "Try one, for a script" }
  ])
)
