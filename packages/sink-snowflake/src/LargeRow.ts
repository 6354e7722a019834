/**
 * A row that is too large for a streaming request goes to the journal by the bulk path, in its place between the others.
 *
 * Everything before it is waited for; then the row is staged as a file named by its sequence and copied into the journal, unless it is
 * there already; then the channel is reopened with the row's sequence as its offset. A crash between two steps repeats them
 * without effect: the journal is asked for the sequence, and the file's name is the same.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { sequenceAt } from "@etl-stream/core/ChangeBatch"
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import type { Channel } from "./Channel.ts"
import { unwritable } from "./Channel.ts"
import type { OutOfRange } from "./Config.ts"
import { literal, quote } from "./Identifier.ts"
import * as ParquetEncoder from "./ParquetEncoder.ts"
import type { SqlClient } from "./SqlClient.ts"
import type { Stage } from "./Stage.ts"
import { Metadata, sqlName } from "./TableLayout.ts"

/** Brings row `row` of `batch` into the journal; it is committed on return. */
export const write = Effect.fn("LargeRow.write")(function*(
  sql: SqlClient,
  stage: Stage,
  channel: Channel,
  batch: ChangeBatch.ChangeBatch,
  row: number,
  policy: OutOfRange
): Effect.fn.Return<Sequence.Sequence, ConnectorError.ConnectorError> {
  const { layout } = channel
  const sequence = sequenceAt(batch.records, row)
  const text = Sequence.format(sequence)
  yield* channel.settled
  const folder = stage.folder(layout, text.replace("/", "_"))
  const single = { ...batch, records: batch.records.slice(row, row + 1), rows: 1, first: sequence, last: sequence }
  const content = yield* ParquetEncoder.encode(layout, single, "journal", policy).pipe(
    Effect.mapError((error) => unwritable(layout, error))
  )
  yield* stage.upload(layout, folder, "row.parquet", content)
  yield* sql.use((session) =>
    session.transaction(
      `Copying a large row of ${layout.id}`,
      Effect.gen(function*() {
        const { rows } = yield* session.execute({
          what: `Looking for a large row of ${layout.id}`,
          sql:
            `SELECT COUNT(*) AS "rows" FROM ${sqlName(layout.journal)} WHERE ${quote(Metadata.sequence)} = ${
              literal(text)
            }` +
            ` AND ${quote(Metadata.op)} <> 'read'`,
          table: layout.id
        })
        if (Number(rows[0]?.["rows"]) === 0) yield* stage.copy(session, layout, "journal", folder, ["row.parquet"], [])
      })
    )
  )
  yield* channel.open(text)
  yield* Effect.ignore(stage.remove(layout, folder))
  return sequence
})
