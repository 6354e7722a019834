/**
 * What the checks of a run look at: few and cheap facts, read at every start.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Catalog from "../Catalog.ts"
import type { Settings } from "../Config.ts"
import * as Connections from "../Connections.ts"
import * as PostgresError from "../PostgresError.ts"
import * as Publication from "../Publication.ts"
import * as Slot from "../Slot.ts"

const Server = Schema.Struct({
  version: Schema.Number,
  versionText: Schema.String,
  role: Schema.String,
  database: Schema.String,
  walLevel: Schema.String,
  standby: Schema.Boolean,
  maxSlots: Schema.Number,
  usedSlots: Schema.Number,
  keepSize: Schema.String,
  encoding: Schema.String,
  mayCreate: Schema.Boolean,
  mayEmit: Schema.Boolean,
  /** Standbys that walsenders of failover slots wait for (PostgreSQL 17); empty when they don't. */
  synchronizedSlots: Schema.String
})
/** The server's version (as `server_version_num`: 140005 = 14.5) and settings. */
export type Server = typeof Server.Type

const serverQuery =
  `SELECT current_setting('server_version_num')::int4 AS version, current_setting('server_version') AS "versionText",
  current_user::text AS role, current_database()::text AS database, current_setting('wal_level') AS "walLevel",
  pg_is_in_recovery() AS standby,
  current_setting('max_replication_slots')::int4 AS "maxSlots",
  (SELECT count(*)::int4 FROM pg_replication_slots) AS "usedSlots",
  current_setting('max_slot_wal_keep_size') AS "keepSize", current_setting('server_encoding') AS encoding,
  has_database_privilege(current_database(), 'CREATE') AS "mayCreate",
  (SELECT bool_and(has_function_privilege(oid, 'EXECUTE')) FROM pg_proc WHERE proname = 'pg_logical_emit_message'
    AND proargtypes[2] = 'text'::regtype) AS "mayEmit",
  coalesce(current_setting('synchronized_standby_slots', true), '') AS "synchronizedSlots"`

export interface Facts {
  readonly settings: Settings
  readonly server: Server
  /** Why no replication session could be opened, if it couldn't. */
  readonly replication: ConnectorError | undefined
  readonly publication: Publication.PublicationState | undefined
  readonly catalog: Catalog.Catalog
  readonly slot: Slot.SlotState | undefined
  /** Why the slot can't be streamed from, if it can't. */
  readonly slotProblem: ConnectorError | undefined
}

const oldestVersion = 140000

/** Asks the server about itself; fails with `Unsupported` for one that is too old to be asked more. */
export const readServer = Effect.fnUntraced(function*(connections: Connections.Connections) {
  const [server] = yield* connections.query("reading the server's settings", Server, serverQuery)
  if (server === undefined) return yield* PostgresError.make("Protocol", "the server says nothing about itself", "")
  if (server.version >= oldestVersion) return server
  return yield* PostgresError.make(
    "Unsupported",
    `the server runs PostgreSQL ${server.versionText}`,
    "PostgreSQL 14 or later is needed."
  )
})

/** Opens a replication session: the only test of the privilege that holds on managed services, too. */
const replicationSession = (connections: Connections.Connections) =>
  Effect.flatMap(
    connections.client("replication"),
    (client) => Connections.run(client, "starting a replication session", "IDENTIFY_SYSTEM")
  ).pipe(
    Effect.scoped,
    Effect.match({ onFailure: (error) => error, onSuccess: () => undefined })
  )

/** Reads the facts. `slot` says how: once nobody reads it any more, or as it is. */
export const read = Effect.fn("PostgresSource.facts")(function*(
  connections: Connections.Connections,
  server: Server,
  slotAs: "settled" | "now"
): Effect.fn.Return<Facts, ConnectorError> {
  const { settings } = connections
  const replication = yield* replicationSession(connections)
  const publication = yield* Publication.read(connections, settings.publication.name, server.version)
  const catalog = yield* Catalog.read(connections, settings.tables, publication, server.version)
  const slot = yield* (slotAs === "settled" ? Slot.settled : Slot.read)(connections, server.version)
  const slotProblem = slot === undefined ? undefined : Slot.problem(connections, slot)
  return { settings, server, replication, publication, catalog, slot, slotProblem }
})
