#!/usr/bin/env node
// Launcher: plain JavaScript that any Node can parse, so that an old one gets a clear message instead of a syntax error.
import { existsSync, fstatSync, readFileSync } from "node:fs"
import * as Module from "node:module"
import { basename, isAbsolute, sep } from "node:path"
import { fileURLToPath } from "node:url"

const wanted = [22, 19]
const version = process.versions.node.split(".").map(Number)

if (version[0] < wanted[0] || (version[0] === wanted[0] && version[1] < wanted[1])) {
  console.error(
    `etl-stream: Node ${wanted.join(".")} or later is needed; this is Node ${process.versions.node}\n  -> Install a current Node (https://nodejs.org) and run again.`
  )
  process.exit(3)
}

const args = process.argv.slice(2)

/** Commands that read, transform or write rows: `run`, `test`, `plugin test`, `dlq replay`. */
const makesBatches = new Set(["run", "test", "replay"])

// glibc puts the columns of batches between small things that live long, so that their memory doesn't go back to the system when they are freed. With its threshold
// fixed, and one arena for all threads, it does: 341 instead of 383 MB at the peak of a stream, measured, at no more processor time. glibc reads its settings when a
// process begins, so a run begins again, in its place.
const mallocSettings = { MALLOC_MMAP_THRESHOLD_: "65536", MALLOC_ARENA_MAX: "1" }
const begun = "ETL_STREAM_BEGUN"

const isSetting = (name) => name.startsWith("MALLOC_") || (name === "GLIBC_TUNABLES" && /glibc\.malloc/.test(process.env[name]))

/** Whether there is an open file or pipe beside standard input, output and error that somebody may mean, as `<(command)` in some shells: it would not be there any more. */
const hasInherited = () => {
  for (let descriptor = 3; descriptor < 16; descriptor++) {
    try {
      const found = fstatSync(descriptor)
      if (found.isFile() || (found.isFIFO() && args.some((arg) => arg.endsWith(`/fd/${descriptor}`)))) return true
    } catch {
      // There is none of this number.
    }
  }
  return false
}

/** Not where it can't be done or would lose something, and not where somebody has settings of their own. */
const mayBeginAgain = () =>
  process.platform === "linux" && typeof process.execve === "function" && args.includes("run") &&
  // A process that can't be begun ends this one.
  isAbsolute(process.execPath) && existsSync(process.execPath) && !basename(process.execPath).startsWith("ld") &&
  // The parent talks to this one, or it isn't permitted.
  process.send === undefined && process.permission === undefined &&
  !Object.keys(process.env).some(isSetting) && !hasInherited()

if (process.env[begun] === String(process.pid)) {
  // What the runner starts is to begin as it likes.
  for (const name of [begun, ...Object.keys(mallocSettings)]) delete process.env[name]
} else if (mayBeginAgain()) {
  try {
    process.execve(process.execPath, [process.execPath, ...process.execArgv, ...process.argv.slice(1)], {
      ...process.env,
      ...mallocSettings,
      // glibc takes its settings out of the environment of some programs: what says that this has been done is not one of them.
      [begun]: String(process.pid)
    })
  } catch {
    // It takes more memory, then.
  }
}

if (args.length === 1 && args[0] === "--version") {
  console.log(JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).version)
} else {
  // Node 22 warns that running TypeScript and node:sqlite are experimental: of no use to whoever runs a pipeline.
  const emitWarning = process.emitWarning
  process.emitWarning = (warning, ...rest) => {
    const type = typeof rest[0] === "string" ? rest[0] : rest[0]?.type
    if (type !== "ExperimentalWarning") emitWarning.call(process, warning, ...rest)
  }
  Module.enableCompileCache?.()
  // Before everything else is loaded: V8 lets the heap grow by what it is told then. A command that makes no batches is over soon, and sooner without: loading it
  // makes V8 collect what is young some fifty times otherwise.
  if (args.some((arg) => makesBatches.has(arg))) {
    const { forBatches } = await import("@etl-stream/core/HeapGrowth")
    forBatches()
  }
  // Installed packages run what was built; a checkout runs its sources, which Node refuses to do inside node_modules.
  const installed = fileURLToPath(import.meta.url).split(sep).includes("node_modules")
  const built = new URL("../dist/main.js", import.meta.url)
  const source = new URL("../src/main.ts", import.meta.url)
  await import((installed || !existsSync(source) ? built : source).href)
}
