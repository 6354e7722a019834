/**
 * Folders with plugins and configurations, and the real command as a child process.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const runner = join(import.meta.dirname, "..")
/** The command's own file. */
export const command = join(runner, "bin", "etl-stream.js")

/** A folder with `FakePlugins.ts` as `plugins.ts`, from which `effect` and `@etl-stream/core` can be imported; removed with the scope. */
export const folder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => {
    const path = Fs.realpathSync(Fs.mkdtempSync(join(tmpdir(), "etl-stream-runner-")))
    Fs.mkdirSync(join(path, "node_modules", "@etl-stream"), { recursive: true })
    for (const name of ["effect", "@etl-stream/core"]) {
      Fs.symlinkSync(Fs.realpathSync(join(runner, "node_modules", name)), join(path, "node_modules", name))
    }
    Fs.writeFileSync(join(path, "package.json"), "{ \"type\": \"module\" }\n")
    Fs.copyFileSync(join(import.meta.dirname, "FakePlugins.ts"), join(path, "plugins.ts"))
    return path
  }),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true, maxRetries: 3 }))
)

/** Writes `text` as `name` into `directory`, and gives its path. */
export const write = (directory: string, name: string, text: string): string => {
  const path = join(directory, name)
  Fs.writeFileSync(path, text)
  return path
}

/** Configuration of one pipeline `numbers` over the fake plugins. Options are YAML in flow style. */
export const onePipeline = (
  source: string,
  sink = "file: ./out.jsonl",
  state = "{plugin: \"./plugins.ts:memory\"}"
): string =>
  `apiVersion: 1
state: ${state}
pipelines:
  numbers:
    source:
      plugin: ./plugins.ts:counter
      options: {${source}}
    sink:
      plugin: ./plugins.ts:lines
      options: {${sink}}
      batch: {every: 5 millis}
`

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Running {
  readonly child: ChildProcess
  readonly ended: Effect.Effect<Ended>
  /** Waits until what it has written to standard error contains `text`; fails when it ends before. */
  readonly stderrHas: (text: string) => Effect.Effect<void, Error>
  /** The same for standard output. */
  readonly stdoutHas: (text: string) => Effect.Effect<void, Error>
  /** The same as `stderrHas`, and gives the line with it once it is whole. */
  readonly stderrLine: (text: string) => Effect.Effect<string, Error>
}

/** Starts the command; it is killed with the scope. */
export const start = (
  args: ReadonlyArray<string>,
  options: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> } = {}
): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(process.execPath, [command, ...args], {
        cwd: options.cwd ?? tmpdir(),
        env: { PATH: process.env["PATH"], ...options.env },
        stdio: ["ignore", "pipe", "pipe"]
      })
      let stdout = ""
      let stderr = ""
      child.stdout.setEncoding("utf8").on("data", (text: string) => stdout += text)
      child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text)
      const ended = new Promise<Ended>((resolve) => child.once("close", (code) => resolve({ code, stdout, stderr })))
      const waitFor = <A>(text: string, find: () => A | undefined) =>
        Effect.callback<A, Error>((resume) => {
          const look = () => {
            const found = find()
            if (found !== undefined) resume(Effect.succeed(found))
          }
          child.stderr.on("data", look)
          child.stdout.on("data", look)
          child.once(
            "close",
            () => resume(Effect.fail(new Error(`It ended without saying "${text}": ${stderr}${stdout}`)))
          )
          look()
        })
      return {
        child,
        ended: Effect.promise(() => ended),
        stderrHas: (text: string) => Effect.asVoid(waitFor(text, () => stderr.includes(text) || undefined)),
        stdoutHas: (text: string) => Effect.asVoid(waitFor(text, () => stdout.includes(text) || undefined)),
        stderrLine: (text: string) =>
          waitFor(text, () => stderr.split("\n").slice(0, -1).find((line) => line.includes(text)))
      }
    }),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

/** Runs the command to its end. */
export const run = (
  args: ReadonlyArray<string>,
  options: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> } = {}
): Effect.Effect<Ended, never, Scope.Scope> => Effect.flatMap(start(args, options), ({ ended }) => ended)

/** The lines that the fake sink wrote to `out.jsonl`. */
export const written = (
  directory: string,
  name = "out.jsonl"
): ReadonlyArray<{ readonly kind: string; readonly table?: string; readonly n?: string }> => {
  const path = join(directory, name)
  if (!Fs.existsSync(path)) return []
  // The fake sink's own lines.
  return Fs.readFileSync(path, "utf8").trim().split("\n").filter((line) => line !== "").map((line) =>
    JSON.parse(line) as { kind: string; table?: string; n?: string }
  )
}
