/**
 * Checks everything that a run needs before it starts, and says what is to be done about each thing that is not so.
 *
 * A `critical` finding makes a run impossible or its result wrong; a `warning` is worth knowing. What can only be asked
 * once a connection stands (unreachable host, wrong password, missing database) fails with its own error at once.
 */
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Catalog from "./Catalog.ts"
import * as Connections from "./Connections.ts"
import * as Lsn from "./Lsn.ts"
import * as PostgresError from "./PostgresError.ts"
import * as Publication from "./Publication.ts"
import * as Slot from "./Slot.ts"
import * as Sql from "./Sql.ts"

export interface Finding {
  readonly severity: "critical" | "warning"
  readonly reason: Reason
  readonly message: string
  readonly hint: string
  /** Table (`schema.name`) it is about, when it is about one. */
  readonly table?: string
}

const Server = Schema.Struct({
  version: Schema.Number,
  versionText: Schema.String,
  role: Schema.String,
  walLevel: Schema.String,
  standby: Schema.Boolean,
  maxSlots: Schema.Number,
  usedSlots: Schema.Number,
  keepSize: Schema.String,
  encoding: Schema.String,
  mayCreate: Schema.Boolean
})
/** The server's version (as `server_version_num`: 140005 = 14.5) and settings. */
export type Server = typeof Server.Type

const serverQuery =
  `SELECT current_setting('server_version_num')::int4 AS version, current_setting('server_version') AS "versionText",
  current_user::text AS role, current_setting('wal_level') AS "walLevel", pg_is_in_recovery() AS standby,
  current_setting('max_replication_slots')::int4 AS "maxSlots",
  (SELECT count(*)::int4 FROM pg_replication_slots) AS "usedSlots",
  current_setting('max_slot_wal_keep_size') AS "keepSize", current_setting('server_encoding') AS encoding,
  has_database_privilege(current_database(), 'CREATE') AS "mayCreate"`

/** What the checks saw. */
export interface Report {
  readonly findings: ReadonlyArray<Finding>
  readonly server: Server
  readonly catalog: Catalog.Catalog
  readonly publication: Publication.PublicationState | undefined
  readonly slot: Slot.SlotState | undefined
}

const oldestVersion = 140000

const critical = (reason: Reason, message: string, hint: string, table?: string): Finding => ({
  severity: "critical",
  reason,
  message,
  hint,
  ...(table === undefined ? {} : { table })
})

const warning = (message: string, hint: string, table?: string): Finding => ({
  severity: "warning",
  reason: "Misconfigured",
  message,
  hint,
  ...(table === undefined ? {} : { table })
})

function* serverFindings(server: Server): Generator<Finding> {
  if (server.walLevel !== "logical") {
    yield critical(
      "Misconfigured",
      `the server's wal_level is ${server.walLevel}, but logical replication needs logical`,
      "Run ALTER SYSTEM SET wal_level = logical and restart the server (on a managed service: set logical replication on)."
    )
  }
  if (server.standby) {
    // A failover that is going on ends: worth another attempt.
    yield critical("Unreachable", "the server is a standby", "Connect to the primary server.")
  }
  if (server.encoding === "SQL_ASCII") {
    yield critical(
      "Misconfigured",
      "the database's encoding is SQL_ASCII: its text may be in any encoding, so it can't be read as UTF-8 without loss",
      "Move the data to a database with a real encoding, such as UTF8."
    )
  }
  if (server.keepSize === "-1") {
    yield warning(
      "max_slot_wal_keep_size is not set: while the pipeline stands still, the server keeps log without limit",
      "Watch the disk of the server, or set max_slot_wal_keep_size to what it may use."
    )
  }
}

/** What the replica identities of the physical tables mean for a table, see "REPLICA IDENTITY" of ALTER TABLE. */
function* identityFindings(table: Catalog.CatalogTable, changes: boolean): Generator<Finding> {
  const id = tableId(table.schema.table)
  const { identity } = table.schema
  const fix = `Give it a primary key, or run ALTER TABLE ${Sql.table(table.schema.table)} REPLICA IDENTITY FULL.`
  if (identity._tag === "None" && changes) {
    yield table.replicaIdentity === "n"
      ? critical(
        "Misconfigured",
        `table ${id} has REPLICA IDENTITY NOTHING, so updates and deletes can't be replicated`,
        fix,
        id
      )
      : warning(
        `table ${id} has no primary key: once it is published, PostgreSQL refuses updates and deletes of its rows`,
        fix,
        id
      )
  }
  for (const heap of table.partitioned ? table.heaps : []) {
    const name = tableId(heap.table)
    if (heap.foreign) {
      yield warning(
        `partition ${name} is a foreign table: its rows are not replicated`,
        "Replicate them from the server that holds them when they are needed.",
        id
      )
    } else if (changes && identity._tag !== "None" && !fitting(table, heap)) {
      yield critical(
        "Misconfigured",
        `partition ${name} has another replica identity than its table ${id}`,
        `Run ALTER TABLE ${Sql.table(heap.table)} REPLICA IDENTITY with the same setting as for ${id}.`,
        id
      )
    }
  }
}

/** A complete old row (`f`) serves any identity; otherwise partition and table must agree. */
const fitting = (table: Catalog.CatalogTable, heap: Catalog.Heap): boolean => {
  if (heap.replicaIdentity === "f") return true
  if (table.schema.identity._tag === "Full") return false
  return heap.replicaIdentity === (table.replicaIdentity === "i" ? "i" : "d")
}

function* tableFindings(table: Catalog.CatalogTable, role: string, changes: boolean): Generator<Finding> {
  const id = tableId(table.schema.table)
  const name = Sql.table(table.schema.table)
  const user = Sql.identifier(role)
  if (!table.readable) {
    yield critical(
      "Forbidden",
      `role ${role} may not read table ${id}`,
      `Run GRANT USAGE ON SCHEMA ${
        Sql.identifier(table.schema.table.schema)
      } TO ${user}; GRANT SELECT ON ${name} TO ${user}.`,
      id
    )
  }
  // A table with foreign partitions is copied partition by partition, see Snapshot.
  for (const heap of table.partitioned && table.heaps.some(({ foreign }) => foreign) ? table.heaps : []) {
    if (heap.foreign || heap.readable) continue
    yield critical(
      "Forbidden",
      `role ${role} may not read partition ${
        tableId(heap.table)
      }, which has to be copied by itself because table ${id} ` +
        "has foreign partitions, too",
      `Run GRANT USAGE ON SCHEMA ${Sql.identifier(heap.table.schema)} TO ${user}; ` +
        `GRANT SELECT ON ${Sql.table(heap.table)} TO ${user}.`,
      id
    )
  }
  if (table.rowsHidden) {
    yield critical(
      "Forbidden",
      `row-level security hides rows of table ${id} from role ${role}`,
      `Run ALTER ROLE ${user} BYPASSRLS.`,
      id
    )
  }
  if (table.omittedColumns.length > 0) {
    yield warning(
      `generated columns of table ${id} are not replicated by the server: ${table.omittedColumns.join(", ")}`,
      "Compute them at the destination when they are needed there.",
      id
    )
  }
  yield* identityFindings(table, changes)
}

function* publicationFindings(
  { catalog, publication, server }: Omit<Report, "findings">,
  settings: Connections.Connections["settings"]
): Generator<Finding> {
  const { manage, name } = settings.publication
  const absent = Publication.missing(publication, catalog.tables)
  const names = absent.map((table) => tableId(table.schema.table)).join(", ")
  if (absent.length > 0) {
    const statement = publication === undefined
      ? Publication.createStatement(name, absent)
      : Publication.addStatement(name, absent)
    const foreign = absent.filter((table) => !table.owned)
    if (!manage) {
      yield critical(
        publication === undefined ? "Missing" : "Misconfigured",
        publication === undefined ? `there is no publication ${name}` : `publication ${name} does not publish ${names}`,
        `Run as the tables' owner: ${statement}; or set publication.manage to true, or narrow tables.`
      )
    } else if (foreign.length > 0 || (publication === undefined ? !server.mayCreate : !publication.owned)) {
      yield critical(
        "Forbidden",
        publication === undefined
          ? `role ${server.role} may not create publication ${name} for ${names}`
          : `role ${server.role} may not add ${names} to publication ${name}`,
        `Run as the tables' owner: ${statement}; then set publication.manage to false.`
      )
    }
  }
  if (publication === undefined) return
  if (!publication.viaRoot && catalog.tables.some((table) => table.partitioned)) {
    yield critical(
      "Misconfigured",
      `publication ${name} publishes partitions under their own names`,
      `Run ALTER PUBLICATION ${
        Sql.identifier(name)
      } SET (publish_via_partition_root = true), or list the partitions in tables.`
    )
  }
  const left = (["inserts", "updates", "deletes", "truncates"] as const).filter((kind) => !publication[kind])
  if (left.length > 0) {
    yield warning(
      `publication ${name} leaves out ${left.join(", ")}: the copies will differ from their tables`,
      `Run ALTER PUBLICATION ${Sql.identifier(name)} SET (publish = 'insert, update, delete, truncate').`
    )
  }
}

function* slotFindings(
  { server, slot }: Omit<Report, "findings">,
  connections: Connections.Connections
): Generator<Finding> {
  const { name } = connections.settings.slot
  if (slot !== undefined) {
    const problem = Slot.problem(connections, slot)
    if (problem !== undefined) yield critical(problem.reason, problem.message, problem.hint)
  } else if (server.usedSlots >= server.maxSlots) {
    yield critical(
      "Misconfigured",
      `replication slot ${name} can't be created: all ${server.maxSlots} slots of the server exist already`,
      "Raise max_replication_slots and restart the server, or drop slots that nobody reads (see pg_replication_slots)."
    )
  }
  if (slot !== undefined && server.usedSlots >= server.maxSlots) {
    yield warning(
      `all ${server.maxSlots} replication slots of the server exist: a table added later can't be copied`,
      "Raise max_replication_slots, or drop slots that nobody reads."
    )
  }
}

function* catalogFindings(catalog: Catalog.Catalog): Generator<Finding> {
  for (const pattern of catalog.unmatched) {
    const instead = catalog.excluded.length === 0
      ? ""
      : ` There is ${catalog.excluded.join(", ")}, which can't be replicated.`
    yield critical(
      "Missing",
      `no table matches ${pattern.text}.${instead}`,
      "Correct tables in the source's options: names are taken exactly as they are stored, upper and lower case included."
    )
  }
  const partitioned = catalog.tables.filter((table) => table.partitioned).map((table) => tableId(table.schema.table))
  if (partitioned.length > 0) {
    yield warning(
      `the server publishes neither that a single partition is truncated, detached or dropped, nor the rows of one that is ` +
        `attached: ${partitioned.join(", ")}`,
      "Delete the rows of a partition before it goes when they are to go at the destination, too, and attach partitions " +
        "empty, inserting their rows afterwards."
    )
  }
  if (catalog.excluded.length > 0) {
    yield warning(
      `left out, because it can't be replicated: ${catalog.excluded.join(", ")}`,
      "Narrow tables in the source's options to be free of this warning."
    )
  }
}

const tooOld = (server: Server): ConnectorError =>
  PostgresError.make(
    "Unsupported",
    `the server runs PostgreSQL ${server.versionText}`,
    "PostgreSQL 14 or later is needed."
  )

/** Opens a replication session: the only test of the privilege that holds on managed services, too. */
const replicationPrivilege = Effect.fn("PostgresSource.replicationPrivilege")(function*(
  connections: Connections.Connections,
  role: string
) {
  yield* Effect.flatMap(
    connections.client("replication"),
    (client) => Connections.run(client, "starting a replication session", "IDENTIFY_SYSTEM")
  ).pipe(
    Effect.scoped,
    Effect.mapError((error) =>
      error.reason === "Forbidden"
        ? PostgresError.make(
          "Forbidden",
          `role ${role} may not replicate`,
          `Run ALTER ROLE ${Sql.identifier(role)} REPLICATION (on Amazon RDS: GRANT rds_replication TO ${
            Sql.identifier(role)
          }).`
        )
        : error
    )
  )
})

const Log = Schema.Struct({ end: Schema.String })

/**
 * Refuses a server whose log ends before a position that the sink holds: it can't be the one that was read. Its positions say
 * nothing about the sink's, so changes would be skipped as known ones until its log has grown that far.
 */
export const checkLog = Effect.fn("PostgresSource.checkLog")(function*(
  connections: Connections.Connections,
  held: Lsn.Lsn
) {
  const doing = "reading the end of the server's log"
  const [row] = yield* connections.query(doing, Log, "SELECT pg_current_wal_insert_lsn()::text AS end")
  const end = row === undefined ? undefined : Lsn.parse(row.end)
  if (end === undefined || held <= end) return
  return yield* PostgresError.make(
    "Lost",
    `the server's log ends at ${Lsn.format(end)}, behind ${Lsn.format(held)}, which the sink holds: ` +
      "this is another server, or one that was restored to an earlier state",
    "Connect to the server that was replicated. When this one takes its place, drop its slot if there is one, and remove the " +
      "tables from the sink so that they are copied again."
  )
})

/** Runs every check. */
export const check = Effect.fn("PostgresSource.preflight")(function*(connections: Connections.Connections) {
  const { settings } = connections
  const [server] = yield* connections.query("reading the server's settings", Server, serverQuery)
  if (server === undefined) return yield* PostgresError.make("Protocol", "the server says nothing about itself", "")
  if (server.version < oldestVersion) return yield* tooOld(server)
  const privilege = yield* Effect.match(replicationPrivilege(connections, server.role), {
    onFailure: ({ hint, message, reason }) => [critical(reason, message, hint)],
    onSuccess: () => []
  })
  const publication = yield* Publication.read(connections, settings.publication.name, server.version)
  const catalog = yield* Catalog.read(connections, settings.tables, publication)
  const slot = yield* Slot.settled(connections, server.version)
  const seen = { server, publication, catalog, slot }
  const changes = publication === undefined || publication.updates || publication.deletes
  const findings = [
    ...serverFindings(server),
    ...privilege,
    ...catalogFindings(catalog),
    ...catalog.tables.flatMap((table) => [...tableFindings(table, server.role, changes)]),
    ...publicationFindings(seen, settings),
    ...slotFindings(seen, connections)
  ]
  return { ...seen, findings } satisfies Report
})

const shown = 5

/** The critical findings as one error, undefined when there is none. */
export const errorOf = (findings: ReadonlyArray<Finding>): ConnectorError | undefined => {
  const all = findings.filter((finding) => finding.severity === "critical")
  const [first] = all
  if (first === undefined) return undefined
  const some = all.slice(0, shown)
  const more = all.length > shown ? `; and ${all.length - shown} more` : ""
  return new ConnectorError({
    reason: first.reason,
    plugin: PostgresError.pluginName,
    message: some.map((finding) => finding.message).join("; ") + more,
    hint: [...new Set(some.map((finding) => finding.hint))].join(" "),
    ...(first.table === undefined || all.length > 1 ? {} : { table: first.table })
  })
}
