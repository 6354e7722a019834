#!/usr/bin/env node
// Launcher: plain JavaScript that any Node can parse, so that an old one gets a clear message instead of a syntax error.
import { existsSync, readFileSync } from "node:fs"
import * as Module from "node:module"
import { sep } from "node:path"
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

// glibc puts the columns of batches between small things that live long, so that their memory doesn't go back to the system when they are freed. With its threshold
// fixed, and one arena for all threads, it does: 341 instead of 383 MB at the peak of a stream, measured, at no more processor time. glibc reads its settings when a
// process begins, so this one begins again, in its place.
const mallocSettings = { MALLOC_MMAP_THRESHOLD_: "65536", MALLOC_ARENA_MAX: "1" }
const isSet = (name) => name.startsWith("MALLOC_") || (name === "GLIBC_TUNABLES" && /glibc\.malloc/.test(process.env[name]))
const beginsAgain = args[0] === "run" && process.platform === "linux" && typeof process.execve === "function" &&
  // Not where the parent's channel would be lost by it, where it isn't permitted, or where somebody has settings of their own.
  process.send === undefined && process.permission === undefined && !Object.keys(process.env).some(isSet)
if (beginsAgain) {
  process.execve(process.execPath, [process.execPath, ...process.execArgv, ...process.argv.slice(1)], {
    ...process.env,
    ...mallocSettings
  })
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
  // Before everything else is loaded: V8 lets the heap grow by what it is told then.
  const { forBatches } = await import("@etl-stream/core/HeapGrowth")
  forBatches()
  // Installed packages run what was built; a checkout runs its sources, which Node refuses to do inside node_modules.
  const installed = fileURLToPath(import.meta.url).split(sep).includes("node_modules")
  const built = new URL("../dist/main.js", import.meta.url)
  const source = new URL("../src/main.ts", import.meta.url)
  await import((installed || !existsSync(source) ? built : source).href)
}
