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
