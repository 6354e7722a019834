/**
 * Copies: from tables to Arrow batches and to Parquet files, beside one `psql` with COPY.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Context } from "./Context.ts"
import * as Measurement from "./Measurement.ts"
import * as Pairs from "./Pairs.ts"
import * as References from "./References.ts"
import * as Result from "./Result.ts"
import * as Server from "./Server.ts"
import * as Workload from "./Workload.ts"

const psql = "psql COPY"
/** The server notices the end of a session a little late. */
const slotIsFree = Schedule.max([Schedule.spaced("100 millis"), Schedule.recurs(50)])
const copied = ["acc", "ord", "wide", "large"]

const bars: Readonly<Record<string, Readonly<Record<string, ReadonlyArray<Result.Bar>>>>> = {
  acc: { arrow: [{ of: "ratio", atLeast: 1.15 }], parquet: [{ of: "ratio", atLeast: 1 }] },
  ord: { arrow: [{ of: "ratio", atLeast: 1.15 }], parquet: [{ of: "ratio", atLeast: 1 }] }
}

const ofWorkload = Effect.fnUntraced(function*(context: Context, workload: Workload.Workload) {
  const { references, report } = context
  const server = yield* Server.start()
  const [table = ""] = workload.names
  yield* server.query(workload.tables)
  for (const statement of workload.changes(workload.rows)) yield* server.query(statement)
  yield* server.query(`VACUUM ANALYZE ${table}`)
  yield* server.query("CHECKPOINT")
  const [counted] = yield* server.query(`SELECT count(*)::int AS rows FROM ${table}`)
  const rows = Number(counted?.["rows"])
  report(`${workload.name}: ${rows.toLocaleString("en")} rows`)
  const client = (to: "arrow" | "parquet") => {
    const name = `copy_${to}`
    const gone = server.query(`SELECT pg_drop_replication_slot('${name}'); DROP PUBLICATION ${name}`)
    return Effect.gen(function*() {
      const options = { url: server.url, name, tables: workload.names.map((one) => `public.${one}`), to }
      const measured = yield* Measurement.client("copy", options)
      if (measured.rows !== rows) {
        return yield* new Measurement.ClientError({ message: `copied ${measured.rows} rows of ${rows}` })
      }
      return measured
    }).pipe(Effect.ensuring(Effect.ignore(Effect.retry(gone, slotIsFree))))
  }
  const contenders = [
    {
      name: psql,
      run: Measurement.program(references.psql, References.copy(server, table), References.environment(server))
    },
    { name: "arrow", run: client("arrow") },
    { name: "parquet", run: client("parquet") }
  ]
  const runs = yield* Pairs.run(server, contenders, context.rounds, report)
  const own = bars[workload.name] ?? {}
  return (["arrow", "parquet"] as const).map((to) =>
    Result.judged({
      case: `${workload.name}: table -> ${to === "arrow" ? "Arrow" : "Parquet files"}, two connections`,
      ...Pairs.compared(runs, rows, to, psql)
    }, own[to] ?? [])
  )
})

export const run = Effect.fnUntraced(function*(context: Context) {
  const chosen = Workload.workloads.filter(({ name }) =>
    copied.includes(name) && (context.only === undefined || context.only.includes(name))
  )
  const cases = yield* Effect.forEach(
    chosen,
    (workload) => Effect.scoped(ofWorkload(context, Workload.scaled(workload, context.factor)))
  )
  return Result.result("snapshot", cases.flat())
})
