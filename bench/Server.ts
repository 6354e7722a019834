/**
 * The PostgreSQL server of a bench, with slots that can be read again and again.
 *
 * A slot is made while the tables are empty, and only ever read by way of copies, so that every client reads the same log.
 */
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { readdirSync, readFileSync } from "node:fs"
import * as path from "node:path"
import type * as Slot from "./client/Slot.ts"
import type { Workload } from "./Workload.ts"

export interface Server extends EmbeddedPostgres.EmbeddedPostgres {
  /** Processor seconds of the server so far, all its processes; NaN where the system doesn't tell. */
  readonly cpuSeconds: () => number
}

/** A position beyond all others. */
export const never = "FFFFFFFF/FFFFFFFF"

/** In units of 1/100 s on every Linux that Node runs on. */
const ticks = 100

const stat = (pid: string): ReadonlyArray<number> => {
  // The name, in parentheses, may have spaces.
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? []
  return fields.map(Number)
}

/** User and system time of a process, and of those of its children that have ended. */
const spent = (fields: ReadonlyArray<number>, withChildren: boolean): number =>
  (fields.slice(11, withChildren ? 15 : 13).reduce((sum, value) => sum + value, 0)) / ticks

/** Processor seconds of a process so far; NaN where the system doesn't tell. */
export const processSeconds = (pid: number): number => {
  try {
    return spent(stat(String(pid)), false)
  } catch {
    return Number.NaN
  }
}

/** Resident memory of a process in MB (10^6 bytes); NaN where the system doesn't tell. */
export const residentMB = (pid: number): number => {
  try {
    const [, pages = ""] = readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")
    return (Number(pages) * 4096) / 1e6
  } catch {
    return Number.NaN
  }
}

/** The highest resident memory of a process so far in MB (10^6 bytes); NaN where the system doesn't tell. */
export const peakMB = (pid: number): number => {
  try {
    return (Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024) / 1e6
  } catch {
    return Number.NaN
  }
}

const cpuSeconds = (postmaster: string): number => {
  try {
    let sum = spent(stat(postmaster), true)
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      try {
        const fields = stat(pid)
        if (fields[1] === Number(postmaster)) sum += spent(fields, false)
      } catch {
        // It has ended meanwhile.
      }
    }
    return sum
  } catch {
    return Number.NaN
  }
}

export const start = (
  settings: Readonly<Record<string, string>> = {}
): Effect.Effect<Server, EmbeddedPostgres.EmbeddedPostgresError, Scope.Scope> =>
  Effect.map(
    EmbeddedPostgres.start({
      settings: {
        shared_buffers: "1GB",
        max_wal_size: "16GB",
        checkpoint_timeout: "1h",
        autovacuum: "off",
        // The other parser answers nothing, however long it reads.
        wal_sender_timeout: "15min",
        ...settings
      }
    }),
    (postgres) => {
      const postmaster = readFileSync(path.join(postgres.dataDir, "postmaster.pid"), "utf8").split("\n")[0] ?? ""
      return { ...postgres, cpuSeconds: () => cpuSeconds(postmaster) }
    }
  )

/** A workload that was written. */
export interface Written {
  readonly workload: Workload
  readonly slot: string
  readonly publication: string
  readonly from: string
  readonly until: string
  /** Position before the last transactions. */
  readonly beforeLast: string
}

const position = (server: Server) =>
  Effect.map(server.query("SELECT pg_current_wal_insert_lsn()::text AS lsn"), ([row]) => String(row?.["lsn"]))

/** Makes the workload's tables, publication and slot, and, after `prepare`, its changes. */
export const write = Effect.fnUntraced(function*<E = never, R = never>(
  server: Server,
  workload: Workload,
  prepare: Effect.Effect<unknown, E, R> = Effect.void
) {
  const { name } = workload
  yield* server.query(workload.tables)
  yield* server.query(`CREATE PUBLICATION ${name} FOR TABLE ${workload.names.join(", ")}`)
  const [made] = yield* server.query(
    "SELECT lsn::text FROM pg_create_logical_replication_slot($1, 'pgoutput')",
    [name]
  )
  yield* prepare
  const statements = workload.changes(workload.rows)
  for (const statement of statements.slice(0, -1)) yield* server.query(statement)
  const beforeLast = yield* position(server)
  for (const statement of statements.slice(-1)) yield* server.query(statement)
  // Something to end with, so that a reader which waits for the end gets there.
  yield* server.query("SELECT pg_logical_emit_message(false, 'bench', 'end')")
  const until = yield* position(server)
  yield* server.query("CHECKPOINT")
  return { workload, slot: name, publication: name, from: String(made?.["lsn"]), until, beforeLast } satisfies Written
})

/** A copy of the slot for one reader, gone with the scope. */
export const slotFor = (server: Server, { slot }: Written, reader = "copy") => {
  const name = `${slot}_${reader}`
  return Effect.acquireRelease(
    Effect.as(server.query("SELECT pg_copy_logical_replication_slot($1, $2)", [slot, name]), name),
    // A walsender whose client has ended may hold it for a moment.
    () =>
      server.query(
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = $1 AND active",
        [name]
      ).pipe(Effect.andThen(server.query("SELECT pg_drop_replication_slot($1)", [name])), Effect.ignore)
  )
}

/** What a client of ours needs to read it. */
export const slotOptions = (server: Server, written: Written, slot: string): Slot.Options => ({
  url: server.url,
  slot,
  publication: written.publication,
  tables: written.workload.names.map((name) => `public.${name}`),
  from: written.from,
  until: written.until
})
