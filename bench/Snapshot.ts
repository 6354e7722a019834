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
/** Those that the whole runner copies, too, with so many rows: `snowflake-local` decides how long that takes. */
const kept = ["acc", "ord"]
const keptRows = 200_000

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

/** A server with the workload's table, at rest, and the rows in it. */
const filled = Effect.fnUntraced(function*(workload: Workload.Workload) {
  const server = yield* Server.start()
  const [table = ""] = workload.names
  yield* server.query(workload.tables)
  for (const statement of workload.changes(workload.rows)) yield* server.query(statement)
  yield* server.query(`VACUUM ANALYZE ${table}`)
  yield* server.query("CHECKPOINT")
  const [counted] = yield* server.query(`SELECT count(*)::int AS rows FROM ${table}`)
  return { server, table, rows: Number(counted?.["rows"]) }
})

const reference = ({ references }: Context, server: Server.Server, table: string) => ({
  name: psql,
  run: Measurement.program(references.psql, References.copy(server, table), References.environment(server))
})

const toMemory = Effect.fnUntraced(function*(context: Context, workload: Workload.Workload) {
  const { rows, server, table } = yield* filled(workload)
  context.report(`${workload.name}: ${rows.toLocaleString("en")} rows`)
  const client = (to: "arrow" | "parquet") => {
    const name = `copy_${to}`
    return Effect.gen(function*() {
      const options = { url: server.url, name, tables: [`public.${table}`], to }
      const measured = yield* Measurement.client("copy", options)
      if (measured.rows !== rows) {
        return yield* new Measurement.ClientError({ message: `copied ${measured.rows} rows of ${rows}` })
      }
      return measured
    }).pipe(Effect.ensuring(gone(server, name)))
  }
  const contenders = [
    reference(context, server, table),
    { name: "arrow", run: client("arrow") },
    { name: "parquet", run: client("parquet") }
  ]
  const runs = yield* Pairs.run(server, contenders, context.rounds, context.report)
  const own = bars[workload.name] ?? {}
  return (["arrow", "parquet"] as const).map((to) =>
    Result.judged({
      case: `${workload.name}: table -> ${to === "arrow" ? "Arrow" : "Parquet files"}, two connections`,
      ...Pairs.compared(runs, rows, to, psql)
    }, own[to] ?? [])
  )
})

/** The whole runner's copy into `snowflake-local`: files, uploads and COPY INTO. All rows have to be there in the end. */
const intoSnowflake = Effect.fnUntraced(function*(context: Context, workload: Workload.Workload) {
  const { rows, server, table } = yield* filled(workload)
  context.report(`${workload.name}, kept in snowflake-local: ${rows.toLocaleString("en")} rows`)
  const local = yield* LocalSnowflake.start()
  yield* local.save
  const slot = "copy_runner"
  const target = `PUBLIC.${table.toUpperCase()}`
  const copy = Effect.scoped(Effect.gen(function*() {
    yield* local.restore
    const ask = yield* LocalSnowflake.session(local)
    const runner = yield* Runner.start({ server, local, tables: [table], slot, mode: "mirror", channels: 1 })
    const begun = yield* runner.logged("The pipeline runs")
    const ended = yield* runner.logged("The copy of a table is complete")
    const warehouseCpuSeconds = Server.processSeconds(local.warehouse.process().pid)
    const measured = runner.measured(rows, begun, ended)
    const [found] = yield* ask(`SELECT COUNT(*) FROM ${target}`)
    if (found !== rows) {
      return yield* new Measurement.ClientError({ message: `${target} has ${found} rows of ${rows}` })
    }
    return { ...measured, figures: { warehouseCpuSeconds } }
  })).pipe(Effect.ensuring(gone(server, slot)))
  const contenders = [reference(context, server, table), { name: "runner", run: copy }]
  const runs = yield* Pairs.run(server, contenders, context.rounds, context.report)
  return Result.judged({
    case: `${workload.name}: the whole runner, rows kept in snowflake-local`,
    ...Pairs.compared(runs, rows, "runner", psql)
  }, [])
})

export const run = Effect.fnUntraced(function*(context: Context) {
  const chosen = Workload.workloads.filter(({ name }) =>
    copied.includes(name) && (context.only === undefined || context.only.includes(name))
  )
  const cases = yield* Effect.forEach(
    chosen,
    Effect.fnUntraced(function*(full) {
      const workload = Workload.scaled(full, context.factor)
      const cases = yield* Effect.scoped(toMemory(context, workload))
      if (!kept.includes(workload.name)) return cases
      const few = { ...workload, rows: Math.min(workload.rows, keptRows) }
      return [...cases, yield* Effect.scoped(intoSnowflake(context, few))]
    })
  )
  return Result.result("snapshot", cases.flat())
})
