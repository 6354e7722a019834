/**
 * Changes: from a slot to Arrow batches, to compressed NDJSON, and through the whole runner.
 */
import * as Effect from "effect/Effect"
import type { Context } from "./Context.ts"
import * as Measurement from "./Measurement.ts"
import * as Pairs from "./Pairs.ts"
import * as References from "./References.ts"
import * as Result from "./Result.ts"
import * as Runner from "./Runner.ts"
import * as Server from "./Server.ts"
import * as Workload from "./Workload.ts"

const recvlogical = "pg_recvlogical"
const parser = "pg-logical-replication"

/** What each workload has to reach; the others are measured only. */
const bars: Readonly<Record<string, Readonly<Record<string, ReadonlyArray<Result.Bar>>>>> = {
  acc: {
    arrow: [{ of: "ratio", atLeast: 1.8 }, { of: "cpuRatio", atMost: 0.35 }],
    ndjson: [{ of: "ratio", atLeast: 1.6 }],
    runner: [{ of: "ratio", atLeast: 1.3 }]
  },
  ord: {
    arrow: [{ of: "ratio", atLeast: 1.4 }, { of: "cpuRatio", atMost: 0.35 }],
    ndjson: [{ of: "ratio", atLeast: 1.25 }],
    runner: [{ of: "ratio", atLeast: 1.1 }, { of: "peakRssMB", atMost: 350 }],
    parser: [{ of: "cpuRatio", atMost: 0.3 }]
  }
}

const ofWorkload = Effect.fnUntraced(function*(context: Context, workload: Workload.Workload) {
  const { references, report } = context
  const server = yield* Server.start()
  report(`${workload.name}: ${workload.what}; ${workload.rows.toLocaleString("en")} rows`)
  const whole = workload.name in bars ? yield* Runner.make(server, workload) : undefined
  const written = yield* Server.write(server, workload, whole?.prepare)
  const client = (name: string) =>
    Effect.scoped(Effect.gen(function*() {
      const slot = yield* Server.slotFor(server, written)
      const measured = yield* Measurement.client(name, Server.slotOptions(server, written, slot))
      // The setting-up of workloads that need it isn't counted.
      if (measured.rows < workload.rows) {
        return yield* new Measurement.ClientError({
          message: `${name} read ${measured.rows} rows of ${workload.rows} of ${workload.name}`
        })
      }
      return measured
    }))
  const reference = Effect.scoped(Effect.gen(function*() {
    const slot = yield* Server.slotFor(server, written)
    const args = References.recvlogical(server, written, slot, "/dev/null")
    return yield* Measurement.program(references.recvlogical, args, References.environment(server))
  }))
  const contenders = [
    { name: recvlogical, run: reference },
    { name: "arrow", run: client("arrow") },
    { name: "ndjson", run: client("ndjson") },
    ...(whole === undefined ? [] : [{ name: "runner", run: whole.run(written) }]),
    ...(workload.name === "ord" ? [{ name: parser, run: client("referenceParser") }] : [])
  ]
  const runs = yield* Pairs.run(server, contenders, context.rounds, report)
  const own = bars[workload.name] ?? {}
  const against = (title: string, name: string, other: string, bar: string) =>
    Result.judged(
      { case: `${workload.name}: ${title}`, ...Pairs.compared(runs, workload.rows, name, other) },
      own[bar] ?? []
    )
  return [
    against("slot -> Arrow", "arrow", recvlogical, "arrow"),
    ...(workload.name === "ord" ? [against("slot -> Arrow, beside a parser", "arrow", parser, "parser")] : []),
    against("slot -> Arrow -> compressed NDJSON", "ndjson", recvlogical, "ndjson"),
    ...(whole === undefined ? [] : [against("the whole runner, rows kept nowhere", "runner", recvlogical, "runner")])
  ]
})

export const run = Effect.fnUntraced(function*(context: Context) {
  const chosen = Workload.workloads.filter(({ name }) => context.only === undefined || context.only.includes(name))
  const cases = yield* Effect.forEach(
    chosen,
    (workload) => Effect.scoped(ofWorkload(context, Workload.scaled(workload, context.factor)))
  )
  return Result.result("cdc", cases.flat())
})
