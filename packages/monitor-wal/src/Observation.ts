/**
 * What is asked of the server: one look at its log and slots, and one at its publications.
 *
 * Views are read as JSON with whatever columns a version has (14 to 18), so there is one query for all of them; what a version doesn't know stays undefined.
 * Sizes are bytes, times milliseconds since 1970-01-01 UTC by the server's clock, ages transactions.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import { tableId } from "@etl-stream/core/TableSchema"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Connection } from "./Connection.ts"
import * as Lsn from "./Lsn.ts"
import * as MonitorError from "./MonitorError.ts"

export interface Server {
  /** As `server_version_num`: 180001. */
  readonly version: number
  readonly standby: boolean
  /** The log's end: written, or on a standby replayed. */
  readonly lsn: Lsn.Lsn
  /** When the server began to count what its statistics hold: anew after a crash. */
  readonly statisticsReset: string | undefined
  readonly database: string
  /** What slots may keep by the server's settings; undefined when that is not limited. */
  readonly keepSize: number | undefined
  /** Whether the role may see the WAL directory. */
  readonly seesDirectory: boolean
}

/** What decoding spilled to disk, streamed, and handed on in all, since `reset`. */
export interface Decoded {
  readonly spilledTransactions: number
  readonly spilledBytes: number
  readonly streamedTransactions: number
  readonly streamedBytes: number
  readonly totalTransactions: number
  readonly totalBytes: number
  readonly reset: string | undefined
}

export interface Slot {
  readonly name: string
  readonly logical: boolean
  readonly plugin: string | undefined
  readonly database: string | undefined
  readonly temporary: boolean
  readonly active: boolean
  /** From where the server keeps log for it; undefined when it keeps none. */
  readonly restart: Lsn.Lsn | undefined
  /** Up to where its reader has confirmed. */
  readonly confirmed: Lsn.Lsn | undefined
  /** `reserved`, `extended`, `unreserved` or `lost`. */
  readonly status: string | undefined
  /** What may be written before it is in danger of being lost; undefined where nothing limits it. */
  readonly safe: number | undefined
  readonly twoPhase: boolean | undefined
  /** PostgreSQL 17 and later. */
  readonly failover: boolean | undefined
  readonly synced: boolean | undefined
  readonly inactiveSince: number | undefined
  readonly invalidation: string | undefined
  readonly xminAge: number | undefined
  readonly catalogXminAge: number | undefined
  readonly decoded: Decoded | undefined
}

export interface Look {
  readonly server: Server
  readonly slots: ReadonlyArray<Slot>
  /** Size of the WAL directory; undefined when the role may not see it. */
  readonly directory: number | undefined
}

const ServerRow = Schema.Struct({
  version: Schema.Int,
  standby: Schema.Boolean,
  lsn: Lsn.FromText,
  reset: Schema.NullOr(Schema.String),
  database: Schema.String,
  keep: Schema.NullOr(Schema.Finite),
  sees: Schema.Boolean
})

const mebibyte = 1024 ** 2

const serverSql = `SELECT current_setting('server_version_num')::int AS version,
  pg_is_in_recovery() AS standby,
  (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text AS lsn,
  (SELECT stats_reset::text FROM pg_stat_bgwriter) AS reset,
  current_database()::text AS database,
  (SELECT setting::float8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS keep,
  has_function_privilege('pg_ls_waldir()', 'EXECUTE') AS sees`

const optional = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

const SlotRow = Schema.Struct({
  slot: Schema.Struct({
    slot_name: Schema.String,
    slot_type: Schema.String,
    plugin: optional(Schema.String),
    database: optional(Schema.String),
    temporary: Schema.Boolean,
    active: Schema.Boolean,
    restart_lsn: optional(Lsn.FromText),
    confirmed_flush_lsn: optional(Lsn.FromText),
    wal_status: optional(Schema.String),
    safe_wal_size: optional(Schema.Finite),
    two_phase: optional(Schema.Boolean),
    failover: optional(Schema.Boolean),
    synced: optional(Schema.Boolean),
    inactive_since: optional(Schema.String),
    invalidation_reason: optional(Schema.String)
  }),
  decoded: Schema.NullOr(Schema.Struct({
    spill_txns: optional(Schema.Finite),
    spill_bytes: optional(Schema.Finite),
    stream_txns: optional(Schema.Finite),
    stream_bytes: optional(Schema.Finite),
    total_txns: optional(Schema.Finite),
    total_bytes: optional(Schema.Finite),
    stats_reset: optional(Schema.String)
  })),
  xmin_age: Schema.NullOr(Schema.Finite),
  catalog_xmin_age: Schema.NullOr(Schema.Finite)
})

const slotsSql = `SELECT to_jsonb(s) AS slot, CASE WHEN st.slot_name IS NULL THEN NULL ELSE to_jsonb(st) END AS decoded,
  age(s.xmin)::float8 AS xmin_age, age(s.catalog_xmin)::float8 AS catalog_xmin_age
  FROM pg_replication_slots s LEFT JOIN pg_stat_replication_slots st ON st.slot_name = s.slot_name
  ORDER BY s.slot_name`

const timeOf = (text: string | null | undefined): number | undefined => {
  const time = typeof text === "string" ? Date.parse(text) : Number.NaN
  return Number.isNaN(time) ? undefined : time
}

const slotOf = ({ catalog_xmin_age, decoded, slot, xmin_age }: typeof SlotRow.Type): Slot => ({
  name: slot.slot_name,
  logical: slot.slot_type === "logical",
  plugin: slot.plugin ?? undefined,
  database: slot.database ?? undefined,
  temporary: slot.temporary,
  active: slot.active,
  restart: slot.restart_lsn ?? undefined,
  confirmed: slot.confirmed_flush_lsn ?? undefined,
  status: slot.wal_status ?? undefined,
  safe: slot.safe_wal_size ?? undefined,
  twoPhase: slot.two_phase ?? undefined,
  failover: slot.failover ?? undefined,
  synced: slot.synced ?? undefined,
  inactiveSince: timeOf(slot.inactive_since),
  invalidation: slot.invalidation_reason ?? undefined,
  xminAge: xmin_age ?? undefined,
  catalogXminAge: catalog_xmin_age ?? undefined,
  decoded: decoded === null ? undefined : {
    spilledTransactions: decoded.spill_txns ?? 0,
    spilledBytes: decoded.spill_bytes ?? 0,
    streamedTransactions: decoded.stream_txns ?? 0,
    streamedBytes: decoded.stream_bytes ?? 0,
    totalTransactions: decoded.total_txns ?? 0,
    totalBytes: decoded.total_bytes ?? 0,
    reset: decoded.stats_reset ?? undefined
  }
})

const DirectoryRow = Schema.Struct({ bytes: Schema.Finite })

/** Looks at the log and the slots: two queries, and a third for the directory where that may be seen. */
export const look = Effect.fn("MonitorWal.look")(function*(
  connection: Connection
): Effect.fn.Return<Look, ConnectorError> {
  const [row] = yield* connection.query("reading the server's settings", ServerRow, serverSql)
  if (row === undefined) {
    return yield* MonitorError.make("Protocol", "reading the server's settings: no answer", "Please report it.")
  }
  const slots = yield* connection.query("reading the slots", SlotRow, slotsSql)
  const directory = row.sees
    ? yield* connection.query(
      "reading the WAL directory",
      DirectoryRow,
      "SELECT coalesce(sum(size), 0)::float8 AS bytes FROM pg_ls_waldir()"
    )
    : []
  return {
    server: {
      version: row.version,
      standby: row.standby,
      lsn: row.lsn,
      statisticsReset: row.reset ?? undefined,
      database: row.database,
      keepSize: row.keep === null || row.keep < 0 ? undefined : row.keep * mebibyte,
      seesDirectory: row.sees
    },
    slots: slots.map(slotOf),
    directory: directory[0]?.bytes
  }
})

export interface Published {
  readonly table: TableId
  /** Its partitioned tables, when it is a partition: it is published as one of them to whoever reads it so. */
  readonly ancestors: ReadonlyArray<TableId>
  /** Whether rows of it (of all its partitions) can be told apart in updates and deletes. */
  readonly identified: boolean
}

export interface Publication {
  readonly name: string
  /** Whether updates or deletes are published, which need a replica identity. */
  readonly needsIdentity: boolean
  readonly tables: ReadonlyArray<Published>
}

const PublicationRow = Schema.Struct({ name: Schema.String, needs: Schema.Boolean })

const PublishedRow = Schema.Struct({
  publication: Schema.String,
  schema: Schema.String,
  name: Schema.String,
  ancestors: Schema.Array(Schema.Tuple([Schema.String, Schema.String])),
  identified: Schema.Boolean
})

const publishedSql = `SELECT pt.pubname::text AS publication, n.nspname::text AS schema, c.relname::text AS name,
  (SELECT coalesce(jsonb_agg(jsonb_build_array(an.nspname, a.relname)), '[]')
     FROM pg_partition_ancestors(c.oid) r(relid)
     JOIN pg_class a ON a.oid = r.relid JOIN pg_namespace an ON an.oid = a.relnamespace
    WHERE a.oid <> c.oid) AS ancestors,
  (SELECT coalesce(bool_and(CASE l.relreplident
       WHEN 'f' THEN true
       WHEN 'd' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = l.oid AND i.indisprimary AND i.indisvalid)
       WHEN 'i' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = l.oid AND i.indisreplident AND i.indisvalid)
       ELSE false END), true)
     FROM (SELECT c.oid AS relid WHERE c.relkind <> 'p'
           UNION ALL SELECT t.relid FROM pg_partition_tree(c.oid) t WHERE c.relkind = 'p' AND t.isleaf) leaf
     JOIN pg_class l ON l.oid = leaf.relid) AS identified
  FROM pg_publication_tables pt
  JOIN pg_namespace n ON n.nspname = pt.schemaname
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = pt.tablename
 WHERE pt.pubname = ANY($1)`

/** The publications of those names that there are in the connection's database. */
export const publications = Effect.fn("MonitorWal.publications")(function*(
  connection: Connection,
  names: ReadonlyArray<string>
): Effect.fn.Return<ReadonlyArray<Publication>, ConnectorError> {
  if (names.length === 0) return []
  const found = yield* connection.query(
    "reading the publications",
    PublicationRow,
    "SELECT pubname::text AS name, pubupdate OR pubdelete AS needs FROM pg_publication WHERE pubname = ANY($1)",
    [names]
  )
  if (found.length === 0) return []
  const tables = yield* connection.query("reading what is published", PublishedRow, publishedSql, [names])
  return found.map(({ name, needs }) => ({
    name,
    needsIdentity: needs,
    tables: tables.filter(({ publication }) => publication === name).map((row) => ({
      table: tableId({ schema: row.schema, name: row.name }),
      ancestors: row.ancestors.map(([schema, name]) => tableId({ schema, name })),
      identified: row.identified
    }))
  }))
})
