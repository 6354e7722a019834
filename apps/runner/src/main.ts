/**
 * Entry point of the `etl-stream` command; `bin/etl-stream.js` has checked Node's version before it.
 *
 * Ends the process itself when the command is done and its output is written: a connection that a plugin left open can't keep it alive.
 */
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import * as Cli from "./Cli.ts"
import { internal, renderText } from "./CommandError.ts"

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  readonly version: string
} // our own package.json

/**
 * Something broke outside of every fiber: a library's stray callback. What is in the sink is safe whenever a process ends. The error's message may quote
 * anything, so only its kind is told, and where it came from on request.
 */
const crash = (thrown: unknown): void => {
  const error = internal("Outside of any pipeline", thrown)
  const args = process.argv.slice(2)
  if (args.includes("--json")) {
    const { code, hint, message } = error
    process.stdout.write(`${JSON.stringify({ ok: false, command: args[0], error: { code, message, hint } })}\n`)
  } else process.stderr.write(`${renderText(error)}\n`)
  if (args.some((arg) => /^(--log-level=)?(debug|trace|all)$/i.test(arg)) && thrown instanceof Error) {
    process.stderr.write(`${thrown.stack?.split("\n").filter((line) => /^\s+at /.test(line)).join("\n")}\n`)
  }
  process.exit(error.exitCode)
}
process.on("uncaughtException", crash)
process.on("unhandledRejection", crash)
// A reader of our output that went away (`| head`) is no reason to stop a pipeline.
process.stdout.on("error", () => {})
process.stderr.on("error", () => {})

const exitCode = await Effect.runPromise(Cli.execute(process.argv.slice(2), version))
// Where standard error is asynchronous, its last lines are waited for.
await new Promise<void>((resolve) => process.stderr.write("", () => resolve()))
process.exit(exitCode)
