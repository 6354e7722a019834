/**
 * Whether a slot still gives every change that the sink lacks, and what happens when it doesn't (`slot.onLost`).
 *
 * A slot can be gone or invalidated, which the server says. It can also have been made anew or moved by somebody else, and the
 * server can be one that was restored or promoted without its last transactions, which nobody says: so before anything is copied or
 * streamed the log is read from the slot on, and two things are looked for. A heartbeat that allows this pipeline to have
 * confirmed the slot's position (`HeartbeatRecord`), and what that says to stand behind it: the sink, or a spool, which must be there; and, in their places, the transactions that the sink has already beyond it. Usually
 * both come at once; the search ends at what the server had written when it began.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { SourceContext, SourceSpool } from "@etl-stream/core/Source"
import { type TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import type * as Connections from "./Connections.ts"
import * as HeartbeatRecord from "./HeartbeatRecord.ts"
import * as LogScan from "./internal/logScan.ts"
import { MalformedMessage } from "./internal/malformedMessage.ts"
import * as Lsn from "./Lsn.ts"
import * as Metrics from "./Metrics.ts"
import * as PostgresError from "./PostgresError.ts"
import * as ReplicationConnection from "./ReplicationConnection.ts"
import * as Slot from "./Slot.ts"
import * as Sql from "./Sql.ts"

/** What the sink holds of a table: the position from which on its changes are needed, and the last commit that it has. */
export interface Held {
  readonly from: Lsn.Lsn
  readonly commit: Lsn.Lsn | undefined
  /** Whether its copy is complete; one that isn't may begin anew without anybody missing it. */
  readonly complete: boolean
}

/** Sequences whose ordinal is this one stand for a copy, not for a transaction. */
const copyOrdinal = 0xffffffffffffffffn

/** What the sink holds of the tables whose copies count, unfinished ones too; `kept` are the last commits that a spool has of each. */
export const held = (
  positions: SourceContext["positions"],
  counts: (table: TableId) => boolean,
  kept: ReadonlyMap<TableId, Lsn.Lsn> = new Map()
): ReadonlyMap<TableId, Held> =>
  new Map([...positions].flatMap(([id, { committed, copied, copying }]) => {
    const from = copied ?? copying?.position
    if (from === undefined || !counts(id)) return []
    const commit = committed === undefined || committed.ordinal === copyOrdinal ? undefined : committed.commit
    const spooled = kept.get(id)
    return [[id, {
      from,
      complete: copied !== undefined,
      commit: spooled !== undefined && spooled >= from && (commit === undefined || spooled > commit) ? spooled : commit
    }]]
  }))

/** Changes of `tables` are missing, and why. */
interface Loss {
  readonly what: string
  readonly tables: ReadonlyArray<TableId>
  /** Whether the server still gives changes from the slot on. */
  readonly usable: boolean
  /** The spool that the missing changes are in; undefined when they are in none. */
  readonly spool?: string | undefined
}

/** What a run begins with. */
export interface Settled {
  /** Undefined when a new one is to be made. */
  readonly slot: Slot.SlotState | undefined
  /** Tables whose copies are void, and why. */
  readonly lost: ReadonlyMap<TableId, string>
}

const End = Schema.Struct({ end: Schema.String })

const listed = (tables: ReadonlyArray<TableId>): string =>
  `${tables.slice(0, 5).join(", ")}${tables.length > 5 ? ` and ${tables.length - 5} more tables` : ""}`

interface Search {
  /** Whether a heartbeat has to allow the slot's position. */
  proven: boolean
  /** The spool that may stand behind the slot's position. */
  readonly spool: SourceSpool | undefined
  /** The spool that has to, by what this pipeline wrote when it confirmed the position. */
  needed: string | undefined
  /** Commits that have to come. */
  readonly commits: Set<Lsn.Lsn>
}

const found = (search: Search): boolean => search.proven && search.commits.size === 0

/** Reads the log from the slot on until everything is found, or up to `target`. Confirms nothing. */
const scan = Effect.fnUntraced(function*(
  connections: Connections.Connections,
  confirmed: Lsn.Lsn,
  target: Lsn.Lsn,
  search: Search
) {
  const { pipeline, publication, slot } = connections.settings
  let reached = 0n
  const read = LogScan.make({
    transaction: (commit) => search.commits.delete(commit),
    reached: (position) => {
      if (position > reached) reached = position
    },
    message: (prefix, content) => {
      if (prefix !== HeartbeatRecord.prefix) return
      const record = HeartbeatRecord.parse(content)
      if (record?.pipeline !== pipeline || record.slot !== slot.name) return
      if (HeartbeatRecord.confirmed(record) < confirmed) return
      const needed = HeartbeatRecord.spool(record)
      const { spool } = search
      if (
        HeartbeatRecord.durable(record) >= confirmed ||
        (spool !== undefined && spool.id === needed && spool.position >= confirmed)
      ) search.proven = true
      else search.needed = needed
    }
  })
  const connection = yield* connections.open("replication", ReplicationConnection.connect)
  const wal = yield* connection.start({
    slot: slot.name,
    publications: [publication.name],
    messages: true,
    acknowledged: () => 0n
  })
  const done = () => found(search) || reached >= target
  while (!done()) {
    const frames = yield* wal.pull
    yield* Effect.try({
      try: () => read(frames),
      catch: (cause) =>
        PostgresError.make(
          "Protocol",
          `checking replication slot ${slot.name}: ${
            cause instanceof MalformedMessage ? cause.message : "the stream can't be read"
          }`,
          "Please report this with the server's version."
        )
    })
  }
}, Effect.scoped)

/** What is wrong when changes up to the slot's position were kept in a spool that isn't there, or doesn't reach so far. */
const withoutSpool = (
  { name }: Slot.SlotState,
  confirmed: Lsn.Lsn,
  needed: string,
  spool: SourceSpool | undefined
): string => {
  const stands = `replication slot ${name} stands at ${
    Lsn.format(confirmed)
  }, and changes before that were only kept in the spool ${needed}`
  if (spool === undefined) return `${stands}, but the pipeline has no spool now`
  if (spool.id !== needed) return `${stands}; the spool in ${spool.directory} is another one`
  return `${stands}; in ${spool.directory} it ends at ${Lsn.format(spool.position)}` +
    (spool.damage === undefined ? "" : ` (${spool.damage})`)
}

/** Looks for what must be in the log from `slot` on; undefined when it is. */
const search = Effect.fn("PostgresSource.checkSlotContinuity")(function*(
  connections: Connections.Connections,
  slot: Slot.SlotState,
  tables: ReadonlyMap<TableId, Held>,
  spool: SourceSpool | undefined
): Effect.fn.Return<Loss | undefined, ConnectorError> {
  const confirmed = slot.confirmed ?? 0n
  const behind = [...tables].filter(([, { from }]) => from < confirmed).map(([id]) => id)
  const ahead = [...tables].filter(([, { commit }]) => commit !== undefined && commit >= confirmed)
  const state: Search = {
    // A slot that is not ahead of any table can't lack anything, wherever it comes from.
    proven: behind.length === 0,
    spool,
    needed: undefined,
    commits: new Set(ahead.flatMap(([, { commit }]) => commit ?? []))
  }
  if (found(state)) return undefined
  const doing = "reading the end of the server's log"
  const [row] = yield* connections.query(
    doing,
    End,
    "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END)::text AS end"
  )
  const end = row === undefined ? 0n : Lsn.parse(row.end) ?? 0n
  const refused = yield* scan(connections, confirmed, end, state).pipe(
    Effect.as(undefined),
    Effect.catch((error) => error.reason === "Lost" ? Effect.succeed(error.message) : Effect.fail(error))
  )
  const { name } = slot
  if (refused !== undefined) return { what: refused, tables: [...tables.keys()], usable: false }
  if (found(state)) return undefined
  const missing = ahead.filter(([, { commit }]) => commit !== undefined && state.commits.has(commit)).map(([id]) => id)
  const unproven = state.proven ? [] : behind
  const what = [
    ...(state.proven ? [] : [
      state.needed !== undefined ?
        withoutSpool(slot, confirmed, state.needed, spool) :
        `replication slot ${name} stands at ${
          Lsn.format(confirmed)
        }, which this pipeline never confirmed: it was dropped and ` +
        "created again, or moved, by somebody else"
    ]),
    ...(missing.length === 0 ? [] : [
      `the server's log lacks transactions that the sink${spool === undefined ? "" : ", or the spool,"} holds of ${
        listed(missing)
      }: the server was restored to an earlier ` +
      "state, or a standby without them took its place"
    ])
  ].join("; and ")
  return {
    what,
    tables: [...new Set([...unproven, ...missing])],
    usable: true,
    ...(state.proven ? {} : { spool: state.needed })
  }
})

/** What the sink lacks, judged by the state of the slot, or undefined when it lacks nothing. */
const loss = Effect.fnUntraced(function*(
  connections: Connections.Connections,
  slot: Slot.SlotState | undefined,
  tables: ReadonlyMap<TableId, Held>,
  spool: SourceSpool | undefined
): Effect.fn.Return<Loss | undefined, ConnectorError> {
  const all = [...tables.keys()]
  if (slot === undefined) {
    if (all.length === 0) return undefined
    const { name } = connections.settings.slot
    return {
      what: `replication slot ${name} is gone while the sink holds copies of ${listed(all)}`,
      tables: all,
      usable: false
    }
  }
  const why = Slot.invalidated(slot)
  if (why !== undefined) return { what: why, tables: all, usable: false }
  if (!connections.settings.heartbeat.enabled) {
    yield* Effect.logWarning(
      "heartbeats are off: whether somebody else moved the replication slot can't be told",
      { slot: slot.name }
    )
    const shared = new Map([...tables].map(([id, held]) => [id, { ...held, from: slot.confirmed ?? 0n }]))
    return yield* search(connections, slot, shared, spool)
  }
  return yield* search(connections, slot, tables, spool)
})

/** What an operator can do about a loss. */
const remedy = (
  connections: Connections.Connections,
  slot: Slot.SlotState | undefined,
  { spool, usable }: Loss
): string => {
  const { pipeline, slot: { name } } = connections.settings
  const again = "Set slot.onLost to resnapshot and start again to have the tables copied again"
  const drop = slot === undefined || usable
    ? ""
    : ` (this drops the slot, as SELECT pg_drop_replication_slot(${Sql.literal(name)}) does)`
  if (!usable || slot?.confirmed === undefined) {
    return `Changes made since are missing and can't be had any more. ${again}${drop}. If the slot's name was changed in the ` +
      "options, change it back; if the server gave the slot up, see max_slot_wal_keep_size and idle_replication_slot_timeout."
  }
  if (spool !== undefined) {
    return `Start the pipeline with the folder that holds this spool as spool.directory, whole and as it was left: then nothing is missing. If it is ` +
      `gone, the changes in it can't be had any more. ${again}.`
  }
  const record = {
    version: 1 as const,
    pipeline,
    slot: name,
    run: "operator",
    at: 0,
    confirmed: Lsn.format(slot.confirmed)
  }
  return `Changes may be missing. ${again}. Only if you are sure that nothing is missing (for example, because heartbeats were off ` +
    `until now), say so to the pipeline: ${HeartbeatRecord.statement(record)}`
}

/**
 * Settles what a run begins with. Under `onLost: halt` a loss is an error with reason `Lost`; under `resnapshot` a slot that is of
 * no use is dropped, and the tables that lack changes are named as void.
 */
export const settle = Effect.fn("PostgresSource.settleSlot")(function*(
  connections: Connections.Connections,
  serverVersion: number,
  tables: ReadonlyMap<TableId, Held>,
  spool?: SourceSpool
): Effect.fn.Return<Settled, ConnectorError> {
  const { pipeline, slot: { failover, onLost } } = connections.settings
  const slot = yield* Slot.settled(connections, serverVersion)
  const problem = slot === undefined ? undefined : Slot.problem(connections, slot)
  if (problem !== undefined) return yield* problem
  const lost = yield* loss(connections, slot, tables, spool)
  // The search has read from the slot, and the server may not have noticed its end yet.
  const still = slot === undefined ? undefined : yield* Slot.settled(connections, serverVersion)
  if (lost === undefined) {
    if (still !== undefined && still.failover !== failover && serverVersion >= Slot.failoverVersion) {
      yield* Slot.setFailover(connections, failover)
    }
    return { slot: still, lost: new Map() }
  }
  const affected = lost.tables.some((id) => tables.get(id)?.complete === true)
  if (!affected && (still === undefined || lost.usable)) {
    return { slot: still, lost: new Map(lost.tables.map((id) => [id, lost.what])) }
  }
  yield* Metric.update(Metrics.forPipeline(pipeline).slotLosses, 1)
  if (onLost === "halt") return yield* PostgresError.make("Lost", lost.what, remedy(connections, slot, lost))
  yield* Effect.logError(`Changes are missing, so the tables they belong to are copied again: ${lost.what}`, {
    tables: lost.tables.length
  })
  const voided = new Map(lost.tables.map((id) => [id, "changes since its copy are missing"]))
  if (lost.usable) return { slot: still, lost: voided }
  if (still !== undefined) yield* Slot.drop(connections)
  return { slot: undefined, lost: voided }
})

/** Under `resnapshot`, a stream whose slot was lost ends for the next run, which copies again. */
export const runAgain = (connections: Connections.Connections, error: ConnectorError): ConnectorError =>
  error.reason === "Lost" && connections.settings.slot.onLost === "resnapshot"
    ? PostgresError.make("Fenced", error.message, "The pipeline starts again by itself and copies the tables again.")
    : error
