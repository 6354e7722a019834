#!/usr/bin/env node
/**
 * The command `etl-stream-snowflake-local`: starts a server and prints one JSON line when it is ready (see CommandLine for its options).
 *
 * Ends in order on SIGTERM and SIGINT with exit code 0. What it acknowledged is on disk even when it is killed.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import { readFileSync } from "node:fs"
import { flushCompileCache } from "node:module"
import * as CommandLine from "./CommandLine.ts"
import type { Options } from "./Configuration.ts"
import { serve } from "./Server.ts"

const version = (): string => {
  // Written by us, beside the sources and beside what is built of them.
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
    version: string
  }
  return version
}

const stopped = Effect.callback<void>((resume) => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resume(Effect.void))
})

const run = (options: Options) =>
  Effect.scoped(Effect.gen(function*() {
    const address = yield* serve(options)
    process.stdout.write(`${JSON.stringify(address)}\n`)
    // Where NODE_COMPILE_CACHE names a folder, Node writes it at an orderly end only, and tests kill their servers.
    flushCompileCache()
    yield* stopped
  }))

/** Why the server didn't start, in a line. */
const explain = (cause: Cause.Cause<{ readonly _tag: string; readonly message: string }>): string => {
  const error = Cause.squash(cause)
  const message = error instanceof Error ? error.message : String(error)
  return /Could not set lock on file/.test(message)
    ? "Another server uses this --data-dir."
    : message
}

const command = CommandLine.parse(process.argv.slice(2), process.env)
if (Result.isFailure(command)) {
  process.stderr.write(`${command.failure}\nTry --help.\n`)
  process.exitCode = 2
} else if (command.success._tag === "Help") process.stdout.write(CommandLine.help)
else if (command.success._tag === "Version") process.stdout.write(`${version()}\n`)
else {
  const exit = await Effect.runPromiseExit(run(command.success.options))
  if (Exit.isFailure(exit)) process.stderr.write(`The server can't run: ${explain(exit.cause)}\n`)
  // DuckDB's threads would keep the process.
  process.exit(Exit.isFailure(exit) ? 1 : 0)
}
