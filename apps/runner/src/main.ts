/**
 * Entry point of the `etl-stream` command; `bin/etl-stream.js` has checked Node's version before it.
 *
 * Ends the process itself when the command is done and its output is written: a connection that a plugin left open can't keep it alive.
 */
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import * as Cli from "./Cli.ts"
import { ExitCode } from "./ExitCode.ts"

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  readonly version: string
} // our own package.json

/** Something broke outside of every fiber: a library's stray callback. State at the sink is safe whenever a process ends. */
const crash = (error: unknown): void => {
  const name = error instanceof Error ? error.name : typeof error
  process.stderr.write(
    `etl-stream: an unexpected ${name} was thrown outside of any pipeline\n  -> This is a bug. Run again with \`--log-level debug\` and report it.\n`
  )
  if (process.argv.some((arg) => /^(--log-level=)?(debug|trace|all)$/i.test(arg)) && error instanceof Error) {
    process.stderr.write(`${error.stack}\n`)
  }
  process.exit(ExitCode.runtime)
}
process.on("uncaughtException", crash)
process.on("unhandledRejection", crash)
// A reader of our output that went away (`| head`) is no reason to stop a pipeline.
process.stdout.on("error", () => {})
process.stderr.on("error", () => {})

process.exit(await Effect.runPromise(Cli.execute(process.argv.slice(2), version)))
