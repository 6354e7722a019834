/**
 * Replication slots: the server's memory of how far a pipeline has read, and the source of consistent snapshots.
 *
 * Creating a slot exports a snapshot at the slot's consistent point: the snapshot sees exactly the transactions whose
 * commit lies before it, and the slot streams exactly the others. The permanent slot serves the first copy; a copy
 * that comes later takes the snapshot of a temporary slot, which goes with its connection.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Connections from "./Connections.ts"
import * as Lsn from "./Lsn.ts"
import * as PostgresError from "./PostgresError.ts"
import * as Sql from "./Sql.ts"
import * as StandbyDecoding from "./StandbyDecoding.ts"
import * as SynchronousGuard from "./SynchronousGuard.ts"

export interface SlotState {
  readonly name: string
  /** Output plugin; undefined for a physical slot. */
  readonly plugin: string | undefined
  readonly database: string | undefined
  readonly temporary: boolean
  /** Transactions are sent when they are prepared rather than when they are committed. */
  readonly twoPhase: boolean
  /** Standbys keep a copy of it (PostgreSQL 17). */
  readonly failover: boolean
  /** Process id of the walsender that reads it now. */
  readonly activePid: number | undefined
  /** Everything before was confirmed; streaming begins here. */
  readonly confirmed: Lsn.Lsn | undefined
  /** `reserved`, `extended`, `unreserved` or `lost`; undefined when the slot reserves nothing. */
  readonly walStatus: string | undefined
  /** Bytes of log that may still be written before the slot is in danger of being lost; undefined without a limit. */
  readonly safeBytes: number | undefined
  /** Why the server gave the slot up (PostgreSQL 17), such as `wal_removed` or `idle_timeout`. */
  readonly invalidation: string | undefined
}

const Row = Schema.Struct({
  name: Schema.String,
  plugin: Schema.NullOr(Schema.String),
  database: Schema.NullOr(Schema.String),
  temporary: Schema.Boolean,
  twoPhase: Schema.Boolean,
  failover: Schema.Boolean,
  activePid: Schema.NullOr(Schema.Number),
  confirmed: Schema.NullOr(Schema.String),
  walStatus: Schema.NullOr(Schema.String),
  safeBytes: Schema.NullOr(Schema.Number),
  invalidation: Schema.NullOr(Schema.String)
})

/** The first version whose standbys keep copies of logical slots. */
export const failoverVersion = 170000

const query = (version: number): string =>
  `SELECT slot_name AS name, plugin, database, temporary, two_phase AS "twoPhase",
  ${version >= failoverVersion ? "failover" : "false"} AS failover,
  active_pid AS "activePid", confirmed_flush_lsn::text AS confirmed,
  wal_status AS "walStatus", safe_wal_size::float8 AS "safeBytes", ${
    version >= 170000 ? "invalidation_reason" : "NULL::text"
  } AS invalidation
FROM pg_replication_slots WHERE slot_name = $1`

/** The slot as it is now, or undefined when there is none of that name. */
export const read = Effect.fn("PostgresSource.slot")(function*(
  connections: Connections.Connections,
  serverVersion: number
) {
  const { name } = connections.settings.slot
  const [row] = yield* connections.query(`reading replication slot ${name}`, Row, query(serverVersion), [name])
  if (row === undefined) return undefined
  return {
    name: row.name,
    plugin: row.plugin ?? undefined,
    database: row.database ?? undefined,
    temporary: row.temporary,
    twoPhase: row.twoPhase,
    failover: row.failover,
    activePid: row.activePid ?? undefined,
    confirmed: row.confirmed === null ? undefined : Lsn.parse(row.confirmed),
    walStatus: row.walStatus ?? undefined,
    safeBytes: row.safeBytes ?? undefined,
    invalidation: row.invalidation ?? undefined
  } satisfies SlotState
})

/** A reader that ended in order is gone within milliseconds, and one that crashed after a while. */
const looks = Schedule.min([Schedule.exponential("10 millis"), Schedule.spaced("250 millis")])

/**
 * The slot once nobody reads it any more, waiting up to `slot.wait`: the server may take a while to notice that a crashed
 * reader is gone. The state may still be active when the time is up.
 */
export const settled = (
  connections: Connections.Connections,
  serverVersion: number
): Effect.Effect<SlotState | undefined, ConnectorError> =>
  read(connections, serverVersion).pipe(
    Effect.repeat({
      schedule: looks.pipe(Schedule.upTo({ duration: connections.settings.slot.wait })),
      while: (slot) => slot?.activePid !== undefined
    }),
    Effect.flatMap(() => read(connections, serverVersion))
  )

/** Why the server can't give the slot's changes any more, if that is so. */
export const invalidated = (slot: SlotState): string | undefined =>
  slot.walStatus === "lost" || slot.invalidation !== undefined
    ? `replication slot ${slot.name} was invalidated by the server (${slot.invalidation ?? "required log was removed"})`
    : undefined

/** What prevents this pipeline from using `slot` at all, if anything does. */
export const problem = (connections: Connections.Connections, slot: SlotState): ConnectorError | undefined => {
  const { endpoint, slot: { name, wait } } = connections.settings
  const own = "Give this pipeline a slot of its own (slot.name), or drop this one when nothing else needs it."
  if (slot.plugin !== "pgoutput") {
    return PostgresError.make(
      "Misconfigured",
      `replication slot ${name} is ${
        slot.plugin === undefined ? "physical" : `for the plugin ${slot.plugin}`
      }, not for pgoutput`,
      own
    )
  }
  if (slot.temporary) return PostgresError.make("Misconfigured", `replication slot ${name} is temporary`, own)
  if (slot.twoPhase) {
    return PostgresError.make(
      "Misconfigured",
      `replication slot ${name} was made with two_phase: it sends transactions before they are committed`,
      "Give this pipeline a slot of its own (slot.name; it is created when missing), or drop this one when nothing else " +
        "needs it and let the pipeline make it anew."
    )
  }
  if (slot.database !== endpoint.database) {
    return PostgresError.make("Misconfigured", `replication slot ${name} belongs to another database`, own)
  }
  if (slot.activePid !== undefined) {
    return PostgresError.make(
      "Fenced",
      `replication slot ${name} is in use by server process ${slot.activePid}, still after ${Duration.format(wait)}`,
      "Another runner, or another pipeline with the same slot name, reads it: stop that one, or set another slot.name."
    )
  }
  return undefined
}

/** Drops the slot, which must not be in use. */
export const drop = (connections: Connections.Connections): Effect.Effect<void, ConnectorError> => {
  const { name } = connections.settings.slot
  return connections.execute(
    `dropping replication slot ${name}`,
    `SELECT pg_drop_replication_slot(${Sql.literal(name)})`
  )
}

/** Has standbys keep a copy of the slot, or not any more. It must not be in use. */
export const setFailover = Effect.fn("PostgresSource.setSlotFailover")(function*(
  connections: Connections.Connections,
  failover: boolean
) {
  const { name } = connections.settings.slot
  const client = yield* connections.client("replication")
  yield* Connections.run(
    client,
    `changing replication slot ${name}`,
    `ALTER_REPLICATION_SLOT ${Sql.identifier(name)} (FAILOVER ${failover})`
  )
  yield* Effect.logInfo("changed replication slot", { slot: name, failover })
}, Effect.scoped)

/** A snapshot that other sessions can import as long as its scope is open. */
export interface ExportedSnapshot {
  readonly name: string
  /** The consistent point: transactions that committed before it are in the snapshot, all others are streamed. */
  readonly position: Lsn.Lsn
}

const Created = Schema.Struct({ consistent_point: Schema.String, snapshot_name: Schema.String })

const waitNotice = Effect.logInfo("the slot can begin when all transactions that are open now have ended; waiting")
  .pipe(
    Effect.delay("10 seconds")
  )

/**
 * Creates a slot and exports its snapshot: the pipeline's own slot, or a temporary one of any name that lives as long as
 * the scope.
 */
export const create = (
  connections: Connections.Connections,
  kind: "permanent" | "temporary"
): Effect.Effect<ExportedSnapshot, ConnectorError, Scope.Scope> =>
  Effect.gen(function*() {
    const { slot: { failover, name } } = connections.settings
    const client = yield* connections.client("replication")
    // The server's process id makes the name unique among living sessions.
    const pid = "processID" in client ? String(client.processID) : "0"
    const slot = kind === "permanent" ? name : `${name.slice(0, 63 - 6 - pid.length)}_copy_${pid}`
    const doing = `creating ${kind} replication slot ${slot}`
    const creating = Connections.run(
      client,
      doing,
      `CREATE_REPLICATION_SLOT ${Sql.identifier(slot)} ${kind === "temporary" ? "TEMPORARY " : ""}LOGICAL pgoutput ${
        kind === "permanent" && failover ? "(SNAPSHOT 'export', FAILOVER)" : "EXPORT_SNAPSHOT"
      }`
    )
    const rows = yield* StandbyDecoding.withPrimary(connections, creating).pipe(
      Effect.raceFirst(Effect.andThen(waitNotice, Effect.never)),
      // The server goes on waiting for other transactions after its client has gone.
      Effect.onInterrupt(() =>
        Effect.ignore(connections.execute("cancelling", `SELECT pg_cancel_backend(${Number(pid)})`))
      )
    )
    const [created] = yield* Connections.decodeRows(doing, Created, rows)
    const position = created === undefined ? undefined : Lsn.parse(created.consistent_point)
    if (created === undefined || position === undefined) {
      return yield* PostgresError.make(
        "Protocol",
        `${doing}: the server's answer names no snapshot`,
        "Check that this is a supported PostgreSQL server (14 or later)."
      )
    }
    // The snapshot sees transactions that are in the log, also those whose clients still wait for standbys.
    if (connections.settings.synchronousGuard) yield* SynchronousGuard.once(connections)
    yield* Effect.logInfo("created replication slot", { slot, position: Lsn.format(position) })
    return { name: created.snapshot_name, position }
  }).pipe(Effect.withSpan("PostgresSource.createSlot", { attributes: { kind } }))
