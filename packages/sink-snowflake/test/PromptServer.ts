/**
 * `snowflake-local` as a program that commits streamed rows within milliseconds: a suite waits for hundreds of commits. It takes the same arguments and prints the same line.
 */
import * as CommandLine from "@etl-stream/snowflake-local/CommandLine"
import { serve } from "@etl-stream/snowflake-local/Server"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"

const command = Result.getOrThrow(CommandLine.parse(process.argv.slice(2), process.env))
if (command._tag !== "Serve") throw new Error("The arguments don't start a server")
const { options } = command

await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
  const address = yield* serve({ ...options, streaming: { commitDelayMillis: { min: 5, max: 20 } } })
  process.stdout.write(`${JSON.stringify(address)}\n`)
  yield* Effect.callback<void>((resume) => {
    process.once("SIGTERM", () => resume(Effect.void))
  })
})))
// DuckDB's threads would keep the process.
process.exit(0)
