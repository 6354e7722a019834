/**
 * What streams have not seen yet: a record for each statement that inserted rows into a table with an append-only stream.
 *
 * A record is written in the transaction of its insert and deleted in the transaction that reads the stream. So a transaction that is rolled back leaves the stream where it was, and
 * inserts that commit while another one reads stay for the next; deletes and updates of the table leave no record, as an append-only stream has it. Whether a stream has data is
 * all that can be asked here: which rows they are isn't kept.
 */
import type { DuckDBConnection } from "@duckdb/node-api"
import * as Effect from "effect/Effect"
import * as Literal from "./sql/Literal.ts"
import * as Storage from "./Storage.ts"

/** Records an insert, in its transaction. */
export const record = (
  connection: DuckDBConnection,
  streams: ReadonlyArray<string>
): Effect.Effect<void, Storage.StorageError> =>
  streams.length === 0 ? Effect.void : Storage.run(
    connection,
    `INSERT INTO "_local".stream_log VALUES ${streams.map((id) => `(${Literal.string(id)})`).join(", ")}`
  )

/** Moves a stream to what this transaction sees. */
export const consume = (connection: DuckDBConnection, stream: string): Effect.Effect<void, Storage.StorageError> =>
  Storage.run(connection, `DELETE FROM "_local".stream_log WHERE stream_id = ${Literal.string(stream)}`)

/** DuckDB SQL that tells whether a stream has data. */
export const hasData = (stream: string): string =>
  `EXISTS (SELECT 1 FROM "_local".stream_log WHERE stream_id = ${Literal.string(stream)})`
