/**
 * The command `etl-stream-snowflake-local`, as a process of its own.
 */
import * as Effect from "effect/Effect"
import type { ChildProcess } from "node:child_process"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Address } from "../../src/Server.ts"

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url))

export interface Server {
  readonly child: ChildProcess
  /** What it printed when it was ready. */
  readonly ready: Address
}

const ended = (child: ChildProcess): Effect.Effect<number | null> =>
  Effect.callback<number | null>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.succeed(child.exitCode))
    child.once("close", (code) => resume(Effect.succeed(code)))
  })

/** Starts a server; it is ready, and is killed with the scope. */
export const launch = (
  args: ReadonlyArray<string>,
  environment: Readonly<Record<string, string>> = {}
) =>
  Effect.acquireRelease(
    Effect.callback<Server>((resume) => {
      const child = spawn(process.execPath, [main, ...args], {
        stdio: ["ignore", "pipe", "inherit"],
        env: { ...process.env, ...environment }
      })
      let text = ""
      child.stdout?.on("data", (part: Buffer) => {
        text += part.toString()
        if (text.includes("\n")) resume(Effect.succeed({ child, ready: JSON.parse(text) }))
      })
      child.once("exit", (code) => resume(Effect.die(new Error(`The server ended with ${code}.`))))
    }),
    ({ child }) => Effect.andThen(Effect.sync(() => child.kill("SIGKILL")), ended(child))
  )

/** Ends a server; its exit code, or null when the signal ended it. */
export const stop = ({ child }: Server, signal: NodeJS.Signals): Effect.Effect<number | null> =>
  Effect.andThen(Effect.sync(() => child.kill(signal)), ended(child))

/** Runs the command to its end. */
export const run = (args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const child = spawn(process.execPath, [main, ...args], { stdio: ["ignore", "pipe", "pipe"] })
    const text = { stdout: "", stderr: "" }
    child.stdout.on("data", (part: Buffer) => {
      text.stdout += part.toString()
    })
    child.stderr.on("data", (part: Buffer) => {
      text.stderr += part.toString()
    })
    const code = yield* ended(child)
    return { code, ...text }
  })
