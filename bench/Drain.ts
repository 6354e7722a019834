/**
 * A slot read by the whole runner, from beginning to end: with rows that are kept nowhere, so that it is the runner that is measured, and with rows that are kept in
 * `snowflake-local`, all of which have to be there in the end.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Installed } from "./Installed.ts"
import * as LocalSnowflake from "./LocalSnowflake.ts"
import { ClientError, clientError, type Measurement } from "./Measurement.ts"
import * as NullIngest from "./NullIngest.ts"
import * as Runner from "./Runner.ts"
import * as Server from "./Server.ts"
import type { Workload } from "./Workload.ts"

/** Resident memory when so much of the log (a share) had been taken. */
export interface Sample {
  readonly share: number
  readonly residentMB: number
}

export interface Drain<A extends Measurement> {
  /** Has the runner copy the (empty) tables; comes before the workload's changes. */
  readonly prepare: Effect.Effect<void, ClientError, Installed>
  /** Has it read a slot of what was written. */
  readonly run: (written: Server.Written) => Effect.Effect<A, ClientError, Installed>
}

/** `16/B374D848` as the sequences that are committed there begin. */
const offsetOf = (lsn: string): string => lsn.split("/").map((half) => half.padStart(8, "0")).join("").toLowerCase()

const positionOf = (lsn: string): number => Number.parseInt(offsetOf(lsn), 16)

/** Snowflake takes 20 MB/s by a channel. */
const channels = 8

const reading = (server: Server.Server, local: LocalSnowflake.LocalSnowflake, { name, names }: Workload) => ({
  server,
  local,
  tables: names,
  publication: name,
  // Rows that are kept nowhere can't be merged, and a merge in `snowflake-local` says nothing of one in Snowflake.
  mode: "changelog" as const,
  channels
})

export const nowhere = Effect.fnUntraced(function*(
  server: Server.Server,
  workload: Workload
): Effect.fn.Return<Drain<Measurement & { readonly samples: ReadonlyArray<Sample> }>, ClientError, Scope.Scope> {
  const ingest = yield* NullIngest.start({ looksInto: false })
  const options = reading(server, yield* LocalSnowflake.start(ingest.host), workload)
  const run = (written: Server.Written) =>
    Effect.scoped(Effect.gen(function*() {
      const slot = yield* Effect.mapError(Server.slotFor(server, written, "runner"), clientError)
      const runner = yield* Runner.start({ ...options, slot })
      const begun = yield* runner.logged("streaming changes")
      // Changes from before the last one's position end a little below it.
      const end = offsetOf(written.beforeLast)
      const [first, length] = [positionOf(written.from), positionOf(written.beforeLast) - positionOf(written.from)]
      const samples: Array<Sample> = []
      const sampled = Effect.tap(ingest.last, ({ offset }) =>
        Effect.sync(() => {
          const at = Number.parseInt(offset.slice(0, 16), 16)
          if (!(at > first)) return
          samples.push({ share: (at - first) / length, residentMB: Server.residentMB(runner.process.pid) })
        }))
      const { at } = yield* Runner.until(runner, sampled, {
        everyMillis: 20,
        progress: ({ offset }) => offset,
        done: ({ offset }) => offset > end
      })
      return { ...runner.measured(workload.rows, begun, at), samples }
    }))
  return { prepare: Runner.prepare(options), run }
})

/** Rows of a one-table workload without deletes, kept; the changelog must then have each change once. */
export const kept = Effect.fnUntraced(function*(
  server: Server.Server,
  workload: Workload
): Effect.fn.Return<Drain<Measurement>, ClientError, Scope.Scope> {
  const local = yield* LocalSnowflake.start()
  const options = reading(server, local, workload)
  const table = `PUBLIC.${workload.name.toUpperCase()}`
  const run = (written: Server.Written) =>
    Effect.scoped(Effect.gen(function*() {
      yield* local.restore
      const ask = yield* LocalSnowflake.session(local)
      const slot = yield* Effect.mapError(Server.slotFor(server, written, "runner"), clientError)
      const runner = yield* Runner.start({ ...options, slot })
      const begun = yield* runner.logged("streaming changes")
      yield* Runner.until(runner, ask(`SELECT COUNT(*) FROM ${table}`), {
        everyMillis: 100,
        progress: ([rows = 0]) => rows,
        done: ([rows = 0]) => rows >= workload.rows
      })
      const measured = runner.measured(workload.rows, begun, yield* Clock.currentTimeMillis)
      const warehouseCpuSeconds = Server.processSeconds(local.warehouse.process().pid)
      // Once it has confirmed everything, it writes nothing any more.
      const confirmed = server.query(
        "SELECT confirmed_flush_lsn::text AS lsn, (confirmed_flush_lsn >= $2)::text AS done FROM pg_replication_slots WHERE slot_name = $1",
        [slot, written.beforeLast]
      )
      yield* Runner.until(runner, confirmed, {
        everyMillis: 100,
        progress: ([row]) => String(row?.["lsn"]),
        done: ([row]) => row?.["done"] === "true"
      })
      const [rows, changes] = yield* ask(`SELECT COUNT(*), COUNT(DISTINCT _ETL_SEQ) FROM ${table}`)
      if (rows !== workload.rows || changes !== workload.rows) {
        return yield* new ClientError({
          message: `${table} has ${rows} rows of ${changes} changes, but ${workload.rows} changes were made`
        })
      }
      return { ...measured, figures: { warehouseCpuSeconds } }
    }))
  return { prepare: Effect.andThen(Runner.prepare(options), local.save), run }
})
