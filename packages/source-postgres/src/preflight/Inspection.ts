/**
 * What `etl-stream doctor` looks at besides a run's facts: settings, sessions, slots and transactions of the whole server, and details of tables
 * and publication. Read-only; whatever the role may not see is left out and told by a check of its own.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Connections from "../Connections.ts"
import * as PostgresError from "../PostgresError.ts"
import type { Facts } from "./Facts.ts"

const Setting = Schema.Struct({ name: Schema.String, value: Schema.String, text: Schema.String })

/** Base units: `wal_sender_timeout` in ms, `idle_replication_slot_timeout` in s, sizes of memory in kB, of log in MB. */
const settingsQuery =
  `SELECT name, setting AS value, current_setting(name) AS text FROM pg_settings WHERE name = ANY($1::text[])`

const settingNames = [
  "hot_standby_feedback",
  "idle_replication_slot_timeout",
  "logical_decoding_work_mem",
  "max_connections",
  "max_slot_wal_keep_size",
  "max_wal_senders",
  "max_wal_size",
  "password_encryption",
  "reserved_connections",
  "superuser_reserved_connections",
  "synchronous_standby_names",
  "synchronized_standby_slots",
  "wal_sender_timeout"
] as const
export type SettingName = typeof settingNames[number]

const Session = Schema.Struct({
  encrypted: Schema.Boolean,
  superuser: Schema.Boolean,
  monitor: Schema.Boolean,
  /** Sessions of the role, and how many it may have (-1: any number). */
  roleSessions: Schema.Number,
  roleLimit: Schema.Number,
  databaseSessions: Schema.Number,
  databaseLimit: Schema.Number,
  /** Sessions of the server without its own processes. */
  sessions: Schema.Number,
  walSenders: Schema.Number,
  /** Seconds until the role's password expires, infinite when it doesn't. */
  passwordExpires: Schema.Number
})

const sessionQuery = `SELECT coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS encrypted,
  r.rolsuper AS superuser, pg_has_role('pg_monitor', 'USAGE') AS monitor,
  (SELECT count(*)::int4 FROM pg_stat_activity WHERE usesysid = r.oid) AS "roleSessions", r.rolconnlimit AS "roleLimit",
  (SELECT numbackends FROM pg_stat_database WHERE datid = d.oid) AS "databaseSessions", d.datconnlimit AS "databaseLimit",
  (SELECT sum(numbackends)::int4 FROM pg_stat_database) AS sessions,
  (SELECT count(*)::int4 FROM pg_stat_replication) AS "walSenders",
  coalesce(extract(epoch FROM r.rolvaliduntil)::float8 - extract(epoch FROM now())::float8, 'Infinity') AS "passwordExpires"
FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()`

const OtherSlot = Schema.Struct({
  name: Schema.String,
  logical: Schema.Boolean,
  active: Schema.Boolean,
  status: Schema.NullOr(Schema.String),
  failover: Schema.Boolean,
  /** Bytes of log that it holds back; null when it reserves none. */
  retained: Schema.NullOr(Schema.Number)
})
/** Any slot of the server. */
export type ServerSlot = typeof OtherSlot.Type

const slotsQuery = (version: number): string =>
  `SELECT slot_name AS name, slot_type = 'logical' AS logical, active, wal_status AS status,
  ${version >= 170000 ? "failover" : "false"} AS failover,
  pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)::float8
    AS retained
FROM pg_replication_slots WHERE NOT temporary ORDER BY slot_name`

const Transaction = Schema.Struct({ pid: Schema.Number, seconds: Schema.Number })

/** Only transactions with an id delay a slot's creation. Without pg_monitor, those of other roles can't be seen. */
const transactionsQuery =
  `SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds FROM pg_stat_activity
WHERE xact_start IS NOT NULL AND backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start`

const Prepared = Schema.Struct({ gid: Schema.String, database: Schema.String, seconds: Schema.Number })

const preparedQuery =
  `SELECT gid, database::text, extract(epoch FROM clock_timestamp() - prepared)::float8 AS seconds FROM pg_prepared_xacts
ORDER BY prepared`

const Log = Schema.Struct({ bytes: Schema.Number, seconds: Schema.NullOr(Schema.Number) })

/** Bytes of log written since the statistics were last reset. */
const logQuery =
  `SELECT wal_bytes::float8 AS bytes, extract(epoch FROM now() - stats_reset)::float8 AS seconds FROM pg_stat_wal`

const Directory = Schema.Struct({ bytes: Schema.Number })

const directoryQuery = "SELECT coalesce(sum(size), 0)::float8 AS bytes FROM pg_ls_waldir()"

const ServerTime = Schema.Struct({ millis: Schema.Number })

const timeQuery = "SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS millis"

const TableDetail = Schema.Struct({
  oid: Schema.Number,
  /** Columns of the index that identifies rows, published or not; empty when there is none. */
  identity: Schema.Array(Schema.String),
  /** Columns of the primary key; empty when there is none that serves as an identity. */
  primaryKey: Schema.Array(Schema.String),
  toasted: Schema.Boolean,
  children: Schema.Array(Schema.Struct({ oid: Schema.Number, schema: Schema.String, name: Schema.String })),
  virtualColumns: Schema.Array(Schema.String),
  largeObjectColumns: Schema.Array(Schema.String),
  sequences: Schema.Array(Schema.String)
})
export type TableDetail = typeof TableDetail.Type

/** Columns of the index of table `c` of which `condition` is true, if PostgreSQL takes it for an identity. */
const indexColumns = (condition: string): string =>
  `ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid
    AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1])
    WHERE i.indrelid = c.oid AND i.indimmediate AND i.indisvalid AND ${condition} ORDER BY a.attnum)`

const tablesQuery = `SELECT c.oid, c.reltoastrelid <> 0 AS toasted,
  ${
  indexColumns("CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END")
} AS identity,
  ${indexColumns("i.indisprimary")} AS "primaryKey",
  coalesce((SELECT json_agg(json_build_object('oid', k.oid::int8, 'schema', n.nspname, 'name', k.relname)
      ORDER BY n.nspname, k.relname)
    FROM pg_inherits h JOIN pg_class k ON k.oid = h.inhrelid JOIN pg_namespace n ON n.oid = k.relnamespace
    WHERE h.inhparent = c.oid AND c.relkind = 'r'), '[]') AS children,
  ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated = 'v' AND NOT a.attisdropped
    ORDER BY a.attnum) AS "virtualColumns",
  ARRAY(SELECT a.attname::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND (t.oid = 'oid'::regtype OR t.typname = 'lo')
    ORDER BY a.attnum) AS "largeObjectColumns",
  ARRAY(SELECT s.relname::text FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
      AND d.deptype IN ('a', 'i') ORDER BY 1) AS sequences
FROM pg_class c WHERE c.oid = ANY($1::oid[])`

const LargeObjects = Schema.Struct({ present: Schema.Boolean })

const largeObjectsQuery = "SELECT EXISTS (SELECT FROM pg_largeobject_metadata) AS present"

const MemberDetail = Schema.Struct({
  table: Schema.Number,
  /** Columns of the column list, null without one. */
  listed: Schema.NullOr(Schema.Array(Schema.String)),
  /** Columns that the row filter looks at. */
  filtered: Schema.Array(Schema.String)
})
export type MemberDetail = typeof MemberDetail.Type

/** Since PostgreSQL 15. A row filter is a tree of nodes whose column references are `:varattno`. */
const membersQuery = `SELECT r.prrelid AS table,
  CASE WHEN r.prattrs IS NOT NULL THEN ARRAY(SELECT a.attname::text FROM pg_attribute a
    WHERE a.attrelid = r.prrelid AND a.attnum = ANY(r.prattrs::int2[]) ORDER BY a.attnum) END AS listed,
  ARRAY(SELECT DISTINCT a.attname::text FROM regexp_matches(r.prqual::text, ':varattno (\\d+)', 'g') m(groups)
    JOIN pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = m.groups[1]::int2 ORDER BY 1) AS filtered
FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = $1`

/** From which sizes and ages on something is told. */
export interface Limits {
  /** Seconds that a transaction may have been open. */
  readonly transactionSeconds: number
  /** Bytes of log that a slot without a reader may hold back. */
  readonly retainedBytes: number
}

export const defaultLimits: Limits = { transactionSeconds: 300, retainedBytes: 1024 ** 3 }

export interface Inspection extends Facts {
  readonly limits: Limits
  /** Of the settings that this server has: their values in base units, and as `SHOW` writes them. */
  readonly configured: ReadonlyMap<SettingName, { readonly value: string; readonly text: string }>
  readonly session: typeof Session.Type
  readonly slots: ReadonlyArray<ServerSlot>
  readonly transactions: ReadonlyArray<typeof Transaction.Type>
  readonly prepared: ReadonlyArray<typeof Prepared.Type>
  /** Average bytes of log per second, undefined when the statistics are too young to say. */
  readonly logRate: number | undefined
  /** Size of the log's directory, undefined when the role may not see it. */
  readonly directoryBytes: number | undefined
  /** Milliseconds that the server's clock is ahead of ours, at least (negative: behind). */
  readonly clockAhead: number
  readonly tables: ReadonlyMap<number, TableDetail>
  readonly largeObjects: boolean
  readonly members: ReadonlyArray<MemberDetail>
}

/** Younger statistics say nothing about an average day. */
const logSeconds = 600

/** How far the clocks differ beyond what the round trip explains. */
const clockAhead = Effect.fnUntraced(function*(connections: Connections.Connections) {
  const before = yield* Clock.currentTimeMillis
  const [row] = yield* connections.query("reading the server's clock", ServerTime, timeQuery)
  const after = yield* Clock.currentTimeMillis
  const millis = row?.millis ?? after
  return millis < before ? millis - before : Math.max(0, millis - after)
})

/** Reads everything. */
export const read = Effect.fn("PostgresSource.inspection")(function*(
  connections: Connections.Connections,
  facts: Facts,
  limits: Limits
): Effect.fn.Return<Inspection, ConnectorError> {
  const { query } = connections
  const { catalog, server: { version }, settings } = facts
  const configured = yield* query("reading settings", Setting, settingsQuery, [settingNames])
  const [session] = yield* query("reading sessions", Session, sessionQuery)
  if (session === undefined) {
    return yield* PostgresError.make("Protocol", "the server says nothing about its sessions", "")
  }
  const [log] = yield* query("reading the log's statistics", Log, logQuery)
  const directory = yield* query("reading the size of the log", Directory, directoryQuery).pipe(
    Effect.catchIf((error) => error.reason === "Forbidden", () => Effect.succeed([]))
  )
  const oids = catalog.tables.map(({ oid }) => oid)
  const tables = yield* query("reading details of tables", TableDetail, tablesQuery, [oids])
  const [largeObjects] = yield* query("looking for large objects", LargeObjects, largeObjectsQuery)
  return {
    ...facts,
    limits,
    // The query selects these names only.
    configured: new Map(configured.map(({ name, text, value }) => [name as SettingName, { value, text }])),
    session,
    slots: yield* query("reading replication slots", OtherSlot, slotsQuery(version)),
    transactions: yield* query("reading transactions", Transaction, transactionsQuery),
    prepared: yield* query("reading prepared transactions", Prepared, preparedQuery),
    logRate: log?.seconds === undefined || log.seconds === null || log.seconds < logSeconds
      ? undefined
      : log.bytes / log.seconds,
    directoryBytes: directory[0]?.bytes,
    clockAhead: yield* clockAhead(connections),
    tables: new Map(tables.map((table) => [table.oid, table])),
    largeObjects: largeObjects?.present === true,
    members: version >= 150000 && facts.publication !== undefined
      ? yield* query("reading details of the publication", MemberDetail, membersQuery, [settings.publication.name])
      : []
  }
})
