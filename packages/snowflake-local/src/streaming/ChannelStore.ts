/**
 * The channels' records in the database, beside the rows that they vouch for.
 *
 * A record changes in the same DuckDB transaction as the table it speaks of; `_local.streaming_errors` holds the rows that a channel skipped.
 */
import type { DuckDBConnection } from "@duckdb/node-api"
import * as Effect from "effect/Effect"
import * as Storage from "../Storage.ts"
import type { ChannelRecord } from "./Channel.ts"

const columns = [
  ["id", "BIGINT NOT NULL"],
  ["database", "VARCHAR NOT NULL"],
  ["schema", "VARCHAR NOT NULL"],
  ["pipe", "VARCHAR NOT NULL"],
  ["channel", "VARCHAR NOT NULL"],
  ["tableDatabase", "VARCHAR NOT NULL"],
  ["tableSchema", "VARCHAR NOT NULL"],
  ["table", "VARCHAR NOT NULL"],
  ["tableId", "VARCHAR NOT NULL"],
  ["clientSequencer", "BIGINT NOT NULL"],
  ["rowSequencer", "BIGINT NOT NULL"],
  ["statusCode", "VARCHAR NOT NULL"],
  ["offsetToken", "VARCHAR"],
  ["createdOnMs", "BIGINT NOT NULL"],
  ["rowsParsed", "BIGINT NOT NULL"],
  ["rowsInserted", "BIGINT NOT NULL"],
  ["rowsErrorCount", "BIGINT NOT NULL"],
  ["lastErrorOffsetUpperBound", "VARCHAR"],
  ["lastErrorMessage", "VARCHAR"],
  ["lastErrorTimestamp", "BIGINT"],
  ["averageLatencyMs", "BIGINT NOT NULL"]
] as const satisfies ReadonlyArray<readonly [keyof ChannelRecord, string]>

const names = columns.map(([name]) => `"${name}"`).join(", ")

/** A row that a channel skipped, as Snowflake's error table shows it. */
export interface ErrorRow {
  readonly channelId: number
  readonly table: string
  readonly at: number
  readonly message: string
  readonly offsetUpperBound: string | null
  /** The row as it was received, or its values by column; cut at a limit. */
  readonly data: string
  /** The table has ERROR_LOGGING: the error table shows it. */
  readonly logged: boolean
  /** The column that refused its value, when one did. */
  readonly source: string | null
}

/** Creates the tables at the first start. */
export const prepare = (connection: DuckDBConnection): Effect.Effect<void, Storage.StorageError> =>
  Effect.forEach(
    [
      `CREATE TABLE IF NOT EXISTS "_local".streaming_channels (${
        columns.map(([name, type]) => `"${name}" ${type}`).join(", ")
      })`,
      `CREATE TABLE IF NOT EXISTS "_local".streaming_errors (
         channel_id BIGINT NOT NULL, table_id VARCHAR NOT NULL, occurred_on_ms BIGINT NOT NULL,
         message VARCHAR NOT NULL, offset_upper_bound VARCHAR, error_data VARCHAR NOT NULL)`,
      `ALTER TABLE "_local".streaming_errors ADD COLUMN IF NOT EXISTS logged BOOLEAN DEFAULT FALSE`,
      `ALTER TABLE "_local".streaming_errors ADD COLUMN IF NOT EXISTS source VARCHAR`
    ],
    (sql) => Storage.run(connection, sql),
    { discard: true }
  )

/** Every channel there is. */
export const load = (connection: DuckDBConnection): Effect.Effect<ReadonlyArray<ChannelRecord>, Storage.StorageError> =>
  Effect.map(
    Storage.rows(connection, `SELECT ${names} FROM "_local".streaming_channels ORDER BY id`),
    (rows) =>
      rows.map((row) =>
        Object.fromEntries(columns.map(([name], index) => {
          const value = row[index]
          return [name, typeof value === "bigint" ? Number(value) : value]
        })) as unknown as ChannelRecord // `columns` names every field of a record exactly once, with its type
      )
  )

/** Adds a record or replaces the one of the same id. */
export const put = (connection: DuckDBConnection, record: ChannelRecord): Effect.Effect<void, Storage.StorageError> =>
  Effect.andThen(
    remove(connection, record.id),
    Storage.run(
      connection,
      `INSERT INTO "_local".streaming_channels (${names}) VALUES (${
        columns.map((_, index) => `$${index + 1}`).join(", ")
      })`,
      columns.map(([name]) => record[name])
    )
  )

/** Removes a record. */
export const remove = (connection: DuckDBConnection, id: number): Effect.Effect<void, Storage.StorageError> =>
  Storage.run(connection, `DELETE FROM "_local".streaming_channels WHERE id = $1`, [id])

/** Records skipped rows. */
export const putErrors = (
  connection: DuckDBConnection,
  errors: ReadonlyArray<ErrorRow>
): Effect.Effect<void, Storage.StorageError> =>
  Effect.forEach(
    errors,
    (error) =>
      Storage.run(
        connection,
        `INSERT INTO "_local".streaming_errors VALUES ($1, $2, $3, $4, $5, $6, CAST($7 AS BOOLEAN), $8)`,
        [
          error.channelId,
          error.table,
          error.at,
          error.message,
          error.offsetUpperBound,
          error.data,
          String(error.logged),
          error.source
        ]
      ),
    { discard: true }
  )
