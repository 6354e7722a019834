/**
 * How much memory the whole runner takes, and whether it takes more as rows go by.
 */
import * as Effect from "effect/Effect"
import type { Context } from "./Context.ts"
import * as Drain from "./Drain.ts"
import * as Pairs from "./Pairs.ts"
import * as Result from "./Result.ts"
import * as Server from "./Server.ts"
import * as Workload from "./Workload.ts"

/** Rows of a full run, in millions. */
const millions = 10
/** Rounds at most: nothing is compared. */
const most = 3

/** Some two hundred points of the curve, each the highest of its part. */
const thinned = (samples: ReadonlyArray<Drain.Sample>): NonNullable<Result.Case["series"]> => {
  const size = Math.ceil(samples.length / 200)
  return samples.flatMap((_, index) => {
    if (index % size !== 0) return []
    const part = samples.slice(index, index + size)
    const [share, most] = [part[0]?.share ?? 0, Math.max(...part.map(({ residentMB }) => residentMB))]
    return [[Number(Math.min(1, share).toFixed(4)), Math.round(most)] as const]
  })
}

export const run = Effect.fnUntraced(function*(context: Context) {
  const workload = { ...Workload.ord, rows: Math.round(millions * 1_000_000 * context.factor) }
  const server = yield* Server.start()
  const whole = yield* Drain.nowhere(server, workload)
  const written = yield* Server.write(server, workload, whole.prepare)
  let series: NonNullable<Result.Case["series"]> = []
  const measured = Effect.map(whole.run(written), ({ samples, ...measured }) => {
    // Updates are fewer bytes than inserts, so shares of the log are not exactly shares of the rows.
    const highest = (from: number, to: number) =>
      Math.max(...samples.flatMap(({ residentMB, share }) => share >= from && share <= to ? [residentMB] : []))
    series = thinned(samples)
    return { ...measured, figures: { growth: highest(0.9, 1) / highest(0.1, 0.3) } }
  })
  const rounds = Math.min(context.rounds, most)
  const runs = yield* Pairs.run(server, [{ name: "runner", run: measured }], rounds, context.report)
  return Result.result("memory", [Result.judged({
    case: `ord: the whole runner, ${workload.rows.toLocaleString("en")} rows`,
    ...Pairs.alone(runs, workload.rows, "runner"),
    series
  }, [{ of: "peakRssMB", atMost: 350 }, { of: "growth", atMost: 1.05 }])])
})
