/**
 * `npm run bench -- <name>`: how fast, beside references that are measured in the same run.
 *
 * Exit code: 0 when every bar of the bench holds, 1 when one doesn't, 2 for a wrong command line, 3 when it could not be run. Everything that it
 * starts ends with it.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Cdc from "./Cdc.ts"
import type { Context } from "./Context.ts"
import * as Flags from "./Flags.ts"
import { Installed } from "./Installed.ts"
import * as Latency from "./Latency.ts"
import * as Machine from "./Machine.ts"
import * as Memory from "./Memory.ts"
import * as References from "./References.ts"
import type { Case, Result } from "./Result.ts"
import * as Saved from "./Saved.ts"
import * as Scale from "./Scale.ts"
import * as Snapshot from "./Snapshot.ts"

type Bench = (context: Context) => Effect.Effect<
  Result,
  { readonly message: string },
  Scope.Scope | Installed
>

const benches: Readonly<Record<string, Bench>> = {
  cdc: Cdc.run,
  latency: Latency.run,
  memory: Memory.run,
  scale: Scale.run,
  snapshot: Snapshot.run
}

const flags = ((): Flags.Flags => {
  try {
    return Flags.parse(process.argv.slice(2), Object.keys(benches))
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\nUsage: ${Flags.usage}\n`)
    process.exit(2)
  }
})()

const report = (line: string): void => {
  process.stderr.write(`${line}\n`)
}

const line = (found: Case): string => {
  const { bar, cpuRatio, figures, holds, peakRssMB, ratio, reference, rowsPerSecond } = found
  const parts = [
    ...(rowsPerSecond === null ? [] : [`${rowsPerSecond.toLocaleString("en")} rows/s`]),
    ...(ratio === null ? [] : [`${ratio} x ${reference ?? "the reference"}`]),
    ...(cpuRatio === null ? [] : [`${cpuRatio} x its CPU`]),
    ...(peakRssMB === null ? [] : [`${peakRssMB} MB`]),
    ...(rowsPerSecond === null ? Object.entries(figures).map(([name, value]) => `${name} ${value}`) : [])
  ]
  return `${bar === null ? " " : holds ? "✓" : "✗"} ${found.case}: ${parts.join(", ")}${
    bar === null ? "" : ` (${bar})`
  }`
}

const program: Effect.Effect<number> = Effect.gen(function*() {
  const references = yield* References.locate
  const { factor, json, name, only, rounds, save } = flags
  const bench = benches[name]
  // `Flags.parse` knows them.
  if (bench === undefined) return 2
  const result = yield* Effect.provide(
    Effect.scoped(bench({ references, rounds, factor, only, report })),
    Installed.layer
  )
  // Nothing that was measured would hold every bar.
  if (result.cases.length === 0) {
    report(`--only: ${only?.join(", ") ?? ""} names no workload of ${name}`)
    return 2
  }
  report("")
  for (const found of result.cases) report(line(found))
  if (save) Saved.save({ result, machine: Machine.describe(references), rounds, factor, only: only ?? null })
  if (json) process.stdout.write(`${JSON.stringify(result)}\n`)
  return result.holds ? 0 : 1
}).pipe(
  Effect.catchCause((cause) => {
    if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
    const error = Cause.squash(cause)
    report(error instanceof Error ? error.message : String(error))
    return Effect.succeed(3)
  })
)

NodeRuntime.runMain(program, {
  disableErrorReporting: true,
  teardown: (exit) => process.exit(Exit.isSuccess(exit) && typeof exit.value === "number" ? exit.value : 130)
})
