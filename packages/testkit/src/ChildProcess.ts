/**
 * A program under test in a process of its own, so that it can be killed like one.
 *
 * `start` runs it for as long as the scope lives; its output is kept (the last part in memory, all of it in a file when one is
 * named) and can be waited on. Signals go to that one process id. The process has its own group, so a Ctrl-C at the
 * terminal reaches only its starter, who decides the order in which things end.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { execFileSync, spawn } from "node:child_process"
import { createWriteStream, readFileSync } from "node:fs"

/** The process could not be started, or ended or stayed silent while something was expected of it. */
export class ChildProcessError extends Schema.TaggedError<ChildProcessError>("@etl-stream/testkit/ChildProcessError")(
  "ChildProcessError",
  { message: Schema.String, cause: Schema.optionalKey(Schema.Defect()) }
) {}

export interface Options {
  /** What messages call it, for example `runner`. */
  readonly name: string
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly cwd?: string
  /** Added to this process's environment; `undefined` removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Gets everything that the process writes, appended. */
  readonly logFile?: string
  /** `terminal`: the process writes on our terminal and nothing of its output is kept. Default: `kept`. */
  readonly output?: "kept" | "terminal"
  /** How long the end of the scope waits after SIGTERM before SIGKILL, in milliseconds. Default: 0, SIGKILL at once. */
  readonly patience?: number
}

/** How a process ended: by itself with a code, or by a signal. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface ChildProcess {
  readonly pid: number
  /** The last 256 KiB of what it wrote, standard output and error as they came. */
  readonly output: () => string
  readonly isRunning: () => boolean
  /** Highest resident memory so far in bytes, from the system's own high-water mark where there is one (Linux). */
  readonly peakMemory: () => number
  /** Waits until the output matches; fails when the process ends or `millis` (default 60,000) pass first. */
  readonly waitFor: (pattern: RegExp, millis?: number) => Effect.Effect<RegExpExecArray, ChildProcessError>
  /** Waits for its end; fails when `millis` (default 60,000; Infinity: never) pass first. */
  readonly ended: (millis?: number) => Effect.Effect<Ended, ChildProcessError>
  /** Sends a signal (default SIGKILL) and waits for the end. */
  readonly kill: (signal?: NodeJS.Signals, millis?: number) => Effect.Effect<Ended, ChildProcessError>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

const keptCharacters = 256 * 1024

/** High-water mark of a process's resident memory in bytes; 0 when the process is gone. */
const highWaterMark = (pid: number): number => {
  try {
    if (process.platform === "linux") {
      const match = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))
      return match === null ? 0 : Number(match[1]) * 1024
    }
    return Number(execFileSync("ps", ["-o", "rss=", "-p", String(pid)], { encoding: "utf8" }).trim()) * 1024
  } catch {
    return 0
  }
}

export const start = (options: Options): Effect.Effect<ChildProcess, ChildProcessError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: () => launch(options),
      catch: (cause) => new ChildProcessError({ message: `${options.name} could not be started`, cause })
    }),
    (child) =>
      Effect.gen(function*() {
        if (!child.isRunning()) return
        const patience = options.patience ?? 0
        if (patience > 0) {
          const graceful = yield* Effect.exit(child.kill("SIGTERM", patience))
          if (graceful._tag === "Success") return
        }
        yield* Effect.ignore(child.kill("SIGKILL", 5000))
      })
  )

const launch = async (options: Options): Promise<ChildProcess> => {
  const kept = options.output !== "terminal"
  const spawned = spawn(options.command, [...options.args], {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    detached: true,
    stdio: kept ? ["ignore", "pipe", "pipe"] : ["ignore", "inherit", "inherit"]
  })
  await new Promise<void>((resolve, reject) => {
    spawned.once("spawn", resolve)
    spawned.once("error", reject)
  })
  const pid = spawned.pid
  if (pid === undefined) throw new Error("no process id")

  const log = options.logFile === undefined ? undefined : createWriteStream(options.logFile, { flags: "a" })
  let output = ""
  let ended: Ended | undefined
  let peak = 0
  const watchers = new Set<() => void>()
  const notify = (): void => {
    for (const watcher of Array.from(watchers)) watcher()
  }
  for (const stream of [spawned.stdout, spawned.stderr]) {
    stream?.setEncoding("utf8")
    stream?.on("data", (text: string) => {
      output = (output + text).slice(-keptCharacters)
      log?.write(text)
      notify()
    })
  }
  // A dead process has no status to read, so the mark is taken while it lives.
  const sample = (): void => {
    peak = Math.max(peak, highWaterMark(pid))
  }
  const sampling = setInterval(sample, 100)
  sampling.unref()
  const killAtExit = (): void => {
    spawned.kill("SIGKILL")
  }
  process.once("exit", killAtExit)
  // `close` comes after the last output.
  spawned.once("close", (code, signal) => {
    clearInterval(sampling)
    process.off("exit", killAtExit)
    log?.end()
    ended = { code, signal }
    notify()
  })

  const describe = ({ code, signal }: Ended): string =>
    `${options.name} ended with ${signal ?? `exit code ${code}`}${
      output === "" ? "" : `; its last words:\n${output.slice(-4000)}`
    }`

  /** Asks `probe` at every event until it answers. */
  const until = <A>(what: string, millis: number, probe: () => A | ChildProcessError | undefined) =>
    Effect.callback<A, ChildProcessError>((resume) => {
      const watcher = (): void => {
        const answer = probe()
        if (answer === undefined) return
        finish()
        resume(answer instanceof ChildProcessError ? Effect.fail(answer) : Effect.succeed(answer))
      }
      const expire = (): void => {
        finish()
        const words = output === "" ? "" : `; its last words:\n${output.slice(-4000)}`
        resume(
          Effect.fail(
            new ChildProcessError({ message: `${options.name}: ${what} took more than ${millis} ms${words}` })
          )
        )
      }
      const timer = Number.isFinite(millis) ? setTimeout(expire, millis) : undefined
      const finish = (): void => {
        clearTimeout(timer)
        watchers.delete(watcher)
      }
      watchers.add(watcher)
      watcher()
      return Effect.sync(finish)
    })

  const waitForEnd = (millis = 60_000) => until("its end", millis, () => ended)
  return {
    pid,
    output: () => output,
    isRunning: () => ended === undefined,
    peakMemory: () => {
      sample()
      return peak
    },
    waitFor: (pattern, millis = 60_000) =>
      until(`output like ${pattern}`, millis, () => {
        const match = pattern.exec(output)
        if (match !== null) return match
        return ended === undefined ? undefined : new ChildProcessError({ message: describe(ended) })
      }),
    ended: waitForEnd,
    kill: (signal = "SIGKILL", millis) =>
      Effect.suspend(() => {
        sample()
        spawned.kill(signal)
        return waitForEnd(millis)
      }),
    signal: (signal) =>
      Effect.sync(() => {
        spawned.kill(signal)
      })
  }
}
