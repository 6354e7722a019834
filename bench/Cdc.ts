/**
 * Changes: from a slot to Arrow batches, to compressed NDJSON, and through the whole runner.
 */
import * as Effect from "effect/Effect"
import type { Context } from "./Context.ts"
import * as Drain from "./Drain.ts"
import * as Measurement from "./Measurement.ts"
import * as Pairs from "./Pairs.ts"
import * as References from "./References.ts"
import * as Result from "./Result.ts"
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

/** Rows of the runs in which they are kept: `snowflake-local` decides how long those take. */
const keptRows = 300_000

const reading = (context: Context, server: Server.Server, written: Server.Written) => {
  const client = (name: string) =>
    Effect.scoped(Effect.gen(function*() {
      const slot = yield* Server.slotFor(server, written)
      const measured = yield* Measurement.client(name, Server.slotOptions(server, written, slot))
      if (measured.rows !== written.workload.rows) {
        return yield* new Measurement.ClientError({
          message: `${name} read ${measured.rows} rows of ${written.workload.rows} of ${written.workload.name}`
        })
      }
      return measured
    }))
  const reference = Effect.scoped(Effect.gen(function*() {
    const slot = yield* Server.slotFor(server, written)
    const args = References.recvlogical(server, written, slot, "/dev/null")
    return yield* Measurement.program(context.references.recvlogical, args, References.environment(server))
  }))
  return { client, reference: { name: recvlogical, run: reference } }
}

const ofWorkload = Effect.fnUntraced(function*(context: Context, workload: Workload.Workload) {
  const { report } = context
  const server = yield* Server.start()
  report(`${workload.name}: ${workload.what}; ${workload.rows.toLocaleString("en")} rows`)
  const whole = workload.name in bars ? yield* Drain.nowhere(server, workload) : undefined
  const written = yield* Server.write(server, workload, whole?.prepare)
  const { client, reference } = reading(context, server, written)
  const contenders = [
    reference,
    { name: "arrow", run: client("arrow") },
    { name: "ndjson", run: client("ndjson") },
    ...(whole === undefined ? [] : [{ name: "runner", run: whole.run(written) }]),
    ...(workload.name === "ord" ? [{ name: parser, run: client("referenceParser") }] : [])
  ]
  const rounds = Math.min(context.rounds, workload.mostRounds ?? context.rounds)
  const runs = yield* Pairs.run(server, contenders, rounds, report)
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

/** The whole runner into `snowflake-local`, which keeps the rows. */
const intoSnowflake = Effect.fnUntraced(function*(context: Context, workload: Workload.Workload) {
  const server = yield* Server.start()
  context.report(`${workload.name}, kept in snowflake-local: ${workload.rows.toLocaleString("en")} rows`)
  const whole = yield* Drain.kept(server, workload)
  const written = yield* Server.write(server, workload, whole.prepare)
  const { reference } = reading(context, server, written)
  const runs = yield* Pairs.run(
    server,
    [reference, { name: "runner", run: whole.run(written) }],
    context.rounds,
    context.report
  )
  return Result.judged({
    case: `${workload.name}: the whole runner, rows kept in snowflake-local`,
    ...Pairs.compared(runs, workload.rows, "runner", recvlogical)
  }, [])
})

export const run = Effect.fnUntraced(function*(context: Context) {
  const chosen = Workload.workloads.filter(({ name }) => context.only === undefined || context.only.includes(name))
  const cases = yield* Effect.forEach(
    chosen,
    Effect.fnUntraced(function*(full) {
      const workload = Workload.scaled(full, context.factor)
      const cases = yield* Effect.scoped(ofWorkload(context, workload))
      if (!(workload.name in bars)) return cases
      const few = { ...workload, rows: Math.min(workload.rows, keptRows) }
      return [...cases, yield* Effect.scoped(intoSnowflake(context, few))]
    })
  )
  return Result.result("cdc", cases.flat())
})
