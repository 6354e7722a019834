/**
 * The launcher in a process of its own: what it does before the program is loaded.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

const launcher = fileURLToPath(new URL("../bin/etl-stream.js", import.meta.url))

interface Options {
  readonly env?: Readonly<Record<string, string>>
  /** Whether what is loaded first takes the settings away, as glibc does for some programs. */
  readonly cleans?: boolean
  /** Whether it has an open file as descriptor 3. */
  readonly inherits?: boolean
}

/** Runs it with a module that is loaded before it, each time that a process begins, and says what it finds there. */
const launched = Effect.fnUntraced(function*(
  args: ReadonlyArray<string>,
  { cleans = false, env = {}, inherits = false }: Options = {}
) {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(path.join(tmpdir(), "etl-stream-launcher-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  )
  const first = path.join(folder, "first.mjs")
  writeFileSync(
    first,
    `import { isMainThread } from "node:worker_threads"
     if (isMainThread) console.error("began", process.pid, process.env.MALLOC_MMAP_THRESHOLD_, process.env.MALLOC_ARENA_MAX)
     if (${cleans}) for (const name of Object.keys(process.env)) if (name.startsWith("MALLOC_")) delete process.env[name]`
  )
  const third = yield* Effect.acquireRelease(
    Effect.sync(() => openSync(first, "r")),
    (descriptor) => Effect.sync(() => closeSync(descriptor))
  )
  const inherited = Object.entries(process.env).filter(([name]) => !/^(MALLOC_|GLIBC_TUNABLES$)/.test(name))
  const { pid, status, stderr } = spawnSync(process.execPath, [launcher, ...args], {
    cwd: folder,
    encoding: "utf8",
    timeout: 30_000,
    stdio: ["ignore", "pipe", "pipe", inherits ? third : "ignore"],
    env: { ...Object.fromEntries(inherited), NODE_OPTIONS: `--import=${pathToFileURL(first).href}`, ...env }
  })
  const began = stderr.split("\n").filter((line) => line.startsWith("began"))
  return { began, status, stderr, pid }
})

// The settings are glibc's: elsewhere the launcher begins nothing again.
describe.runIf(process.platform === "linux")("the launcher", () => {
  it.effect("begins a run again in the same process, with settings by which memory goes back to the system", () =>
    Effect.gen(function*() {
      const { began, pid, status, stderr } = yield* launched(["run", "missing.yaml"])
      assert.deepStrictEqual(began, [`began ${pid} undefined undefined`, `began ${pid} 65536 1`])
      assert.strictEqual(status, 2, stderr)
      assert.include(stderr, "missing.yaml")
      const flagged = yield* launched(["--log-level", "debug", "run", "missing.yaml"])
      assert.strictEqual(flagged.began.length, 2, flagged.stderr)
    }))

  it.effect("begins it again once, also where the settings are taken out of its environment", () =>
    Effect.gen(function*() {
      const { began, pid, status, stderr } = yield* launched(["run", "missing.yaml"], { cleans: true })
      assert.deepStrictEqual(began, [`began ${pid} undefined undefined`, `began ${pid} 65536 1`])
      assert.strictEqual(status, 2, stderr)
    }))

  it.effect("doesn't begin it again where an open file that it was given would be lost", () =>
    Effect.gen(function*() {
      const { began, pid } = yield* launched(["run", "missing.yaml"], { inherits: true })
      assert.deepStrictEqual(began, [`began ${pid} undefined undefined`])
    }))

  it.effect("leaves settings that somebody has made as they are", () =>
    Effect.gen(function*() {
      const { began, pid } = yield* launched(["run", "missing.yaml"], { env: { MALLOC_ARENA_MAX: "4" } })
      assert.deepStrictEqual(began, [`began ${pid} undefined 4`])
      const other = yield* launched(["run", "missing.yaml"], {
        env: { GLIBC_TUNABLES: "glibc.malloc.arena_max=2" }
      })
      assert.deepStrictEqual(other.began, [`began ${other.pid} undefined undefined`])
    }))

  it.effect("begins other commands once: they are over soon", () =>
    Effect.gen(function*() {
      const { began, pid } = yield* launched(["validate", "missing.yaml"])
      assert.deepStrictEqual(began, [`began ${pid} undefined undefined`])
    }))
})
