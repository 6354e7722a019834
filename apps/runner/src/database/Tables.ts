/**
 * The tables of the configuration database, and how they come to be.
 *
 * Migrations run in one transaction under a lock, so that several runners may start at once, and only where something is to be done: a runner whose role
 * may not create tables starts on tables that are there. Tables that a later version made are left alone.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { databaseError, fromSql } from "./DatabaseError.ts"

export const schema = "etl_stream_config"

/** Channel that is notified of each transaction that changed the configuration. */
export const channel = "etl_stream_config"

/** Tables of plugins and their options by name. */
export const stageTables = ["sources", "sinks", "monitors", "notifiers"] as const
export type StageTable = typeof stageTables[number]

/** In the order in which rows may be written: what is referred to comes first. */
export const tables = ["settings", ...stageTables, "pipelines"] as const
export type Table = typeof tables[number]

/** Key of the lock under which migrations run and under which `apply` writes: "etl-" in ASCII. */
export const lockKey = 0x65746c2d

const problemColumns = `
  problem text,
  problem_at timestamptz`

const name = "name text PRIMARY KEY CHECK (char_length(name) BETWEEN 1 AND 100)"

const watched = (table: Table, columns: string): ReadonlyArray<string> => [
  `CREATE TRIGGER notify_change AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF ${columns} ON ${schema}.${table}
  FOR EACH STATEMENT EXECUTE FUNCTION ${schema}.notify_change()`,
  `COMMENT ON COLUMN ${schema}.${table}.problem IS 'What is wrong with the row, written by etl-stream; NULL: nothing'`
]

const first: ReadonlyArray<string> = [
  // Identical notifications of a transaction are one.
  `CREATE FUNCTION ${schema}.notify_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  PERFORM pg_notify('${channel}', '');
  RETURN NULL;
END
$$`,
  `CREATE TABLE ${schema}.settings (
  ${name},
  value jsonb NOT NULL,${problemColumns}
)`,
  `COMMENT ON TABLE ${schema}.settings IS 'Sections of the configuration that are the process''s: memory, state, telemetry, ...'`,
  ...watched("settings", "name, value"),
  ...stageTables.flatMap((table) => [
    `CREATE TABLE ${schema}.${table} (
  ${name},
  plugin text NOT NULL,
  options jsonb NOT NULL DEFAULT '{}',
  settings jsonb NOT NULL DEFAULT '{}',${problemColumns}
)`,
    `COMMENT ON COLUMN ${schema}.${table}.settings IS 'Keys beside plugin and options, such as the batch of a sink'`,
    ...watched(table, "name, plugin, options, settings")
  ]),
  `CREATE TABLE ${schema}.pipelines (
  ${name},
  status text NOT NULL DEFAULT 'START' CHECK (status IN ('START', 'PAUSE')),
  source text NOT NULL REFERENCES ${schema}.sources (name) ON UPDATE CASCADE ON DELETE RESTRICT,
  sink text NOT NULL REFERENCES ${schema}.sinks (name) ON UPDATE CASCADE ON DELETE RESTRICT,
  transforms jsonb NOT NULL DEFAULT '[]',
  settings jsonb NOT NULL DEFAULT '{}',${problemColumns}
)`,
  `COMMENT ON COLUMN ${schema}.pipelines.settings IS 'Keys beside status, source, transforms and sink, such as onTableError'`,
  `CREATE INDEX pipelines_source ON ${schema}.pipelines (source)`,
  `CREATE INDEX pipelines_sink ON ${schema}.pipelines (sink)`,
  ...watched("pipelines", "name, status, source, sink, transforms, settings")
]

const migration = (statements: ReadonlyArray<string>) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
  )

const migrations = { "0001_tables": migration(first) }

/** Version of the tables that this program reads and writes. */
export const version = Object.keys(migrations).length

const migrationsTable = `${schema}.migrations`

/** The version of the tables that are there; 0: none. */
export const currentVersion: Effect.Effect<number, SqlError, SqlClient.SqlClient> = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const [found] = yield* sql<{ there: boolean }>`SELECT to_regclass(${migrationsTable}) IS NOT NULL AS there`
  if (found?.there !== true) return 0
  const [row] = yield* sql<{ version: number }>`SELECT coalesce(max(migration_id), 0)::int AS version FROM ${
    sql(migrationsTable)
  }`
  return row?.version ?? 0
})

/** Why tables of version `found` can't be used. */
export const tooNew = (found: number): ConnectorError =>
  databaseError(
    "Unsupported",
    `The configuration database was made by a later etl-stream: its tables have version ${found}, this one knows up to ${version}.`,
    "Run the later version here too."
  )

/** Makes the tables, or brings them up to date. */
export const prepare: Effect.Effect<void, ConnectorError, SqlClient.SqlClient> = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const before = yield* currentVersion
  if (before > version) return yield* tooNew(before)
  if (before === version) return
  yield* sql.withTransaction(Effect.gen(function*() {
    yield* sql`SELECT pg_advisory_xact_lock(${lockKey})`
    const found = yield* currentVersion
    if (found > version) return yield* tooNew(found)
    if (found === version) return
    // IF NOT EXISTS would ask for the privilege where the schema is there too.
    const [namespace] = yield* sql<{ there: boolean }>`SELECT to_regnamespace(${schema}) IS NOT NULL AS there`
    if (namespace?.there !== true) yield* sql`CREATE SCHEMA ${sql(schema)}`
    yield* Migrator.make({})({ loader: Migrator.fromRecord(migrations), table: migrationsTable })
  }))
}).pipe(
  Effect.catchTag("MigrationError", (error) =>
    Effect.fail(databaseError(
      "Rejected",
      "The tables of the configuration database can't be made or changed.",
      "Its log says why. A role that may create a schema in it has to run `etl-stream apply` once.",
      error
    ))),
  Effect.catchTag("SqlError", (error) => Effect.fail(fromSql(error)))
)
