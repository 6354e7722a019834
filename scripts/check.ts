/**
 * The static checks: formatting, lint, types, Effect diagnostics and the import rules of the house. `npm run check`.
 *
 * Each runs to its end, so that one run shows every problem; the exit code is 1 when any of them failed.
 */
import { spawnSync } from "node:child_process"

const checks: ReadonlyArray<readonly [name: string, command: string, args: ReadonlyArray<string>]> = [
  ["formatting (dprint)", "dprint", ["check"]],
  ["lint (oxlint)", "oxlint", ["--deny-warnings"]],
  ["types (tsc)", "tsc", ["--noEmit", "--project", "tsconfig.json"]],
  ["Effect diagnostics", "effect-tsgo", ["diagnostics", "--project", "tsconfig.json", "--severity", "error"]],
  ["import rules", process.execPath, ["scripts/import-rules.ts"]],
  ["links of the documentation", process.execPath, ["scripts/links.ts"]],
  ["configuration page", process.execPath, ["scripts/configuration-docs.ts", "--check"]],
  ["pages of the plugins", process.execPath, ["scripts/plugin-docs.ts", "--check"]],
  ["doctor page", process.execPath, ["scripts/doctor-docs.ts", "--check"]],
  ["telemetry page", process.execPath, ["scripts/telemetry-docs.ts", "--check"]],
  ["page of Snowflake's errors", process.execPath, ["scripts/snowflake-errors-docs.ts", "--check"]],
  ["comparison page", process.execPath, ["scripts/comparison-check.ts"]]
]

const failed: Array<string> = []
for (const [name, command, args] of checks) {
  console.log(`\n== ${name}: ${command} ${args.join(" ")}`)
  const { error, status } = spawnSync(command, args, { stdio: "inherit" })
  if (error !== undefined) console.error(error.message)
  if (status !== 0) failed.push(name)
}

console.log(failed.length === 0 ? "\nAll checks passed." : `\nFailed: ${failed.join(", ")}`)
process.exitCode = failed.length === 0 ? 0 : 1
