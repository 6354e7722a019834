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

export const run = Effect.fnUntraced(function*(context: Context) {
  const workload = { ...Workload.ord, rows: Math.round(millions * 1_000_000 * context.factor) }
  const server = yield* Server.start()
  const whole = yield* Drain.nowhere(server, workload)
  const written = yield* Server.write(server, workload, whole.prepare)
  const measured = Effect.map(whole.run(written), ({ samples, ...measured }) => {
    // Updates are fewer bytes than inserts, so shares of the log are not exactly shares of the rows.
    const highest = (from: number, to: number) =>
      Math.max(...samples.flatMap(({ residentMB, share }) => share >= from && share <= to ? [residentMB] : []))
    return { ...measured, figures: { growth: highest(0.9, 1) / highest(0.1, 0.3) } }
  })
  const rounds = Math.min(context.rounds, most)
  const runs = yield* Pairs.run(server, [{ name: "runner", run: measured }], rounds, context.report)
  return Result.result("memory", [Result.judged({
    case: `ord: the whole runner, ${workload.rows.toLocaleString("en")} rows`,
    ...Pairs.alone(runs, workload.rows, "runner")
  }, [{ of: "peakRssMB", atMost: 350 }, { of: "growth", atMost: 1.05 }])])
})
