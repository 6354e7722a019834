/**
 * How much memory the whole runner takes, and whether it takes more as rows go by.
 */
import * as Effect from "effect/Effect"
import type { Context } from "./Context.ts"
import * as Result from "./Result.ts"
import * as Runner from "./Runner.ts"
import * as Server from "./Server.ts"
import * as Workload from "./Workload.ts"

/** Rows of a full run, in millions. */
const millions = 10

export const run = Effect.fnUntraced(function*(context: Context) {
  const rounds: Array<{ readonly peak: number; readonly growth: number; readonly seconds: number }> = []
  const workload = { ...Workload.ord, rows: Math.round(millions * 1_000_000 * context.factor) }
  for (let round = 0; round < Math.min(context.rounds, 3); round++) {
    const found = yield* Effect.scoped(Effect.gen(function*() {
      const server = yield* Server.start()
      const runner = yield* Runner.make(server, workload)
      const written = yield* Server.write(server, workload, runner.prepare)
      const { samples, ...measured } = yield* runner.run(written)
      // Updates are fewer bytes than inserts, so shares of the log are not exactly shares of the rows.
      const highest = (from: number, to: number) =>
        Math.max(...samples.flatMap(({ residentMB, share }) => share >= from && share <= to ? [residentMB] : []))
      return {
        peak: measured.peakRssMB,
        growth: highest(0.9, 1) / highest(0.1, 0.3),
        seconds: measured.seconds
      }
    }))
    context.report(
      `  peak ${found.peak.toFixed(0)} MB, growth ${found.growth.toFixed(3)}, ${found.seconds.toFixed(1)} s`
    )
    rounds.push(found)
  }
  const seconds = Result.median(rounds.map((round) => round.seconds))
  return Result.result("memory", [Result.judged({
    case: `ord: the whole runner, ${workload.rows.toLocaleString("en")} rows`,
    rows: workload.rows,
    rowsPerSecond: Math.round(workload.rows / seconds),
    reference: null,
    ratio: null,
    cpuRatio: null,
    peakRssMB: Math.round(Math.max(...rounds.map(({ peak }) => peak))),
    figures: { growth: Result.round(Result.median(rounds.map(({ growth }) => growth)), 3) }
  }, [{ of: "peakRssMB", atMost: 350 }, { of: "growth", atMost: 1.05 }])])
})
