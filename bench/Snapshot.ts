/**
 * Copies: from tables to Arrow batches, to Parquet files, and by the whole runner into `snowflake-local`, beside one `psql` with COPY.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Context } from "./Context.ts"
import * as LocalSnowflake from "./LocalSnowflake.ts"
import * as Measurement from "./Measurement.ts"
import * as Pairs from "./Pairs.ts"
import * as References from "./References.ts"
import * as Result from "./Result.ts"
import * as Runner from "./Runner.ts"
import * as Server from "./Server.ts"
import * as Workload from "./Workload.ts"

const psql = "psql COPY"
/** The server notices the end of a session a little late. */
const slotIsFree = Schedule.max([Schedule.spaced("100 millis"), Schedule.recurs(50)])
const copied = ["acc", "ord", "wide", "large"]
/** Those that the runner copies, too. */
const kept = ["acc", "ord"]

/** Removes the slot and the publication that a copy makes. */
const gone = (server: Server.Server, name: string) =>
  server.query(`SELECT pg_drop_replication_slot('${name}'); DROP PUBLICATION ${name}`).pipe(
    Effect.retry(slotIsFree),
    Effect.ignore
  )

const bars: Readonly<Record<string, Readonly<Record<string, ReadonlyArray<Result.Bar>>>>> = {
  acc: { arrow: [{ of: "ratio", atLeast: 1.15 }], parquet: [{ of: "ratio", atLeast: 1 }] },
  ord: { arrow: [{ of: "ratio", atLeast: 1.15 }], parquet: [{ of: "ratio", atLeast: 1 }] }
}

/** The whole runner's copy of a table into `snowflake-local`: files, uploads and COPY INTO. All rows have to be there in the end. */
const whole = Effect.fnUntraced(function*(server: Server.Server, table: string, rows: number) {
  const local = yield* LocalSnowflake.start()
  yield* local.save
  const name = "copy_runner"
  const target = `PUBLIC.${table.toUpperCase()}`
  return Effect.scoped(Effect.gen(function*() {
    yield* local.restore
    const ask = yield* LocalSnowflake.session(local)
    const options = { server, local, tables: [table], slot: name, mode: "mirror", channels: 1 } as const
    const runner = yield* Runner.start(options)
    const begun = yield* runner.logged("The pipeline runs")
    const ended = yield* runner.logged("The copy of a table is complete")
    const warehouseCpuSeconds = Server.processSeconds(local.warehouse.process().pid)
    const measured = runner.measured(rows, begun, ended)
    const [found] = yield* ask(`SELECT COUNT(*) FROM ${target}`)
    if (found !== rows) {
      return yield* new Measurement.ClientError({ message: `${target} has ${found} rows of ${rows}` })
    }
    return { ...measured, figures: { warehouseCpuSeconds } }
  })).pipe(Effect.ensuring(gone(server, name)))
})

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
    return Effect.gen(function*() {
      const options = { url: server.url, name, tables: workload.names.map((one) => `public.${one}`), to }
      const measured = yield* Measurement.client("copy", options)
      if (measured.rows !== rows) {
        return yield* new Measurement.ClientError({ message: `copied ${measured.rows} rows of ${rows}` })
      }
      return measured
    }).pipe(Effect.ensuring(gone(server, name)))
  }
  const contenders = [
    {
      name: psql,
      run: Measurement.program(references.psql, References.copy(server, table), References.environment(server))
    },
    { name: "arrow", run: client("arrow") },
    { name: "parquet", run: client("parquet") },
    ...(kept.includes(workload.name) ? [{ name: "runner", run: yield* whole(server, table, rows) }] : [])
  ]
  const runs = yield* Pairs.run(server, contenders, context.rounds, report)
  const own = bars[workload.name] ?? {}
  const titles: Readonly<Record<string, string>> = {
    arrow: "table -> Arrow, two connections",
    parquet: "table -> Parquet files, two connections",
    runner: "the whole runner, rows kept in snowflake-local"
  }
  return contenders.filter(({ name }) => name !== psql).map(({ name }) =>
    Result.judged(
      { case: `${workload.name}: ${titles[name] ?? name}`, ...Pairs.compared(runs, rows, name, psql) },
      own[name] ?? []
    )
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
