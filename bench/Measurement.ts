/**
 * A client as a whole process: how long it took, and what it cost.
 *
 * Wall time is from its start to its end, or, of a client that says so (`streamSeconds`), from when it asks for the stream: a pipeline starts once and runs for
 * months. Processor time is what the kernel counted for it (user and system), start-up included: of programs that aren't
 * ours by the shell's `times`, of ours by `process.resourceUsage` (`client/Outcome.ts`), which also knows the peak of resident memory.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { spawn } from "node:child_process"
import { tmpdir } from "node:os"
import * as path from "node:path"
import * as Outcome from "./client/Outcome.ts"
import { Installed } from "./Installed.ts"

/** A client that didn't do what it was started for. */
export class ClientError extends Schema.TaggedError<ClientError>("@etl-stream/bench/ClientError")("ClientError", {
  message: Schema.String
}) {}

export const clientError = (error: { readonly message: string }): ClientError =>
  new ClientError({ message: error.message })

export interface Measurement {
  /** Seconds that it took, as above. */
  readonly seconds: number
  /** Processor seconds of the client. */
  readonly cpuSeconds: number
  /** Peak resident memory in MB (10^6 bytes); 0 where it isn't known. */
  readonly peakRssMB: number
  /** Rows that it counted; 0 for programs that don't count. */
  readonly rows: number
  /** Whatever else was measured, in named units. */
  readonly figures?: Readonly<Record<string, number>>
}

interface Ended {
  readonly code: number | null
  readonly seconds: number
  readonly output: string
  readonly errors: string
}

/** Runs a program until it ends; its interruption kills it. */
const run = (
  command: string,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
): Effect.Effect<Ended, ClientError> =>
  Effect.callback((resume) => {
    const started = performance.now()
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } })
    let output = ""
    let errors = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      errors = (errors + text).slice(-4000)
    })
    child.once("error", (error) => resume(Effect.fail(new ClientError({ message: `${command}: ${error.message}` }))))
    child.once("close", (code) =>
      resume(Effect.succeed({ code, seconds: (performance.now() - started) / 1000, output, errors })))
    return Effect.sync(() =>
      child.kill("SIGKILL")
    )
  })

const ended = ({ code, errors }: Ended, name: string): Effect.Effect<void, ClientError> =>
  code === 0 ? Effect.void : Effect.fail(new ClientError({ message: `${name} ended with ${code}: ${errors.trim()}` }))

/** `0m1.234s` */
const seconds = (text: string): number => {
  const [, minutes, rest] = /^(\d+)m([\d.]+)s$/.exec(text) ?? []
  return Number(minutes ?? Number.NaN) * 60 + Number(rest ?? Number.NaN)
}

/** Runs a program that isn't ours; what it prints is thrown away. */
export const program = Effect.fnUntraced(function*(
  command: string,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>>
): Effect.fn.Return<Measurement, ClientError> {
  // The second line of `times` is that of the children.
  const script = `"$0" "$@" >/dev/null; code=$?; times; exit $code`
  const result = yield* run("/bin/sh", ["-c", script, command, ...args], env)
  yield* ended(result, path.basename(command))
  const [user, system] = (result.output.trim().split("\n").at(-1) ?? "").split(" ").map(seconds)
  const cpuSeconds = (user ?? Number.NaN) + (system ?? Number.NaN)
  if (!Number.isFinite(cpuSeconds)) {
    return yield* new ClientError({ message: "the shell's `times` has another form than POSIX says" })
  }
  return { seconds: result.seconds, cpuSeconds, peakRssMB: 0, rows: 0 }
})

/** Runs one of `client/`; `options` reach it as JSON. */
export const client = Effect.fnUntraced(function*(
  name: string,
  options: unknown
): Effect.fn.Return<Measurement & { readonly outcome: Outcome.Outcome }, ClientError, Installed> {
  const { client } = yield* Installed
  // As the launcher of `etl-stream` has it: compiled once, not at every start.
  const env = { NODE_COMPILE_CACHE: path.join(tmpdir(), "etl-stream-bench-cache") }
  const args = ["--import", client("heap"), client(name), JSON.stringify(options)]
  const result = yield* run(process.execPath, args, env)
  yield* ended(result, name)
  const outcome = Outcome.parse(result.output.trim().split("\n").at(-1) ?? "")
  if (outcome === undefined) return yield* new ClientError({ message: `${name} printed no outcome` })
  const { cpuSeconds, peakRssMB, rows } = outcome
  return { seconds: outcome.figures["streamSeconds"] ?? result.seconds, cpuSeconds, peakRssMB, rows, outcome }
})
