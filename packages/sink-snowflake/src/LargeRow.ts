/**
 * A row that is too large for a streaming request goes to the journal by the bulk path, in its place between the others.
 *
 * Everything before it is waited for; then the row is staged as a file named by its sequence and copied into the journal, unless it is
 * there already; then the channel is reopened with the row's sequence as its offset. A crash between two steps repeats them
 * without effect: the journal is asked for the sequence, before the COPY and after it. Before the COPY and before the offset is set, the
 * channel must still be where this runner left it.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { sequenceAt } from "@etl-stream/core/ChangeBatch"
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import type { Channel } from "./Channel.ts"
import { unwritable } from "./ChannelWriter.ts"
import type { OutOfRange } from "./Config.ts"
import type { DeadLetterWriter } from "./DeadLetterWriter.ts"
import type { EncodingPool } from "./EncodingPool.ts"
import { failure } from "./ErrorPolicy.ts"
import { literal, quote } from "./Identifier.ts"
import type { SqlClient } from "./SqlClient.ts"
import type { Stage } from "./Stage.ts"
import { Metadata, sqlName } from "./TableLayout.ts"
import { Unwritable } from "./ValueWriter.ts"

/** Brings row `row` of `batch` into the journal; it is committed on return. */
export const write = Effect.fn("LargeRow.write")(function*(
  sql: SqlClient,
  stage: Stage,
  channel: Channel,
  batch: ChangeBatch.ChangeBatch,
  row: number,
  policy: OutOfRange,
  letters: DeadLetterWriter | undefined,
  encoding: EncodingPool
): Effect.fn.Return<Sequence.Sequence, ConnectorError.ConnectorError> {
  const { layout } = channel
  const sequence = sequenceAt(batch.records, row)
  const text = Sequence.format(sequence)
  yield* channel.settled
  const folder = stage.folder(layout, text.replace("/", "_"))
  const single = { ...batch, records: batch.records.slice(row, row + 1), rows: 1, first: sequence, last: sequence }
  const content = yield* Effect.scoped(Effect.gen(function*() {
    const file = yield* encoding.parquet({
      layout,
      purpose: "journal",
      outOfRange: policy,
      noting: letters !== undefined
    })
    const { refused } = yield* file.append(single, 0).pipe(
      Effect.mapError((error) => error instanceof Unwritable ? unwritable(layout, error) : error)
    )
    yield* letters?.keep(layout, single, refused) ?? Effect.void
    return yield* file.finish
  }))
  yield* stage.upload(
    layout,
    folder,
    "row.parquet",
    Buffer.from(content.buffer, content.byteOffset, content.byteLength)
  )
  const counting = {
    what: `Looking for a large row of ${layout.id}`,
    sql: `SELECT COUNT(*) AS "rows" FROM ${sqlName(layout.journal)} WHERE ${quote(Metadata.sequence)} = ${
      literal(text)
    } AND ${quote(Metadata.op)} <> 'read'`,
    table: layout.id
  }
  yield* channel.reopen
  yield* sql.use((session) =>
    session.transaction(
      { what: `Copying a large row of ${layout.id}`, table: layout.id },
      Effect.gen(function*() {
        const counted = Effect.map(session.execute(counting), ({ rows }) => rows[0]?.["rows"])
        if ((yield* counted) === "1") return
        yield* stage.copy(session, layout, "journal", folder, ["row.parquet"], [])
        if ((yield* counted) === "1") return
        return yield* failure(
          "Rejected",
          `A row of ${layout.id} is too large for streaming, and COPY did not bring it into ${
            sqlName(layout.journal)
          } exactly once`,
          "Look at COPY_HISTORY of the journal table. The row is not reported as durable.",
          { table: layout.id }
        )
      })
    )
  )
  yield* channel.advance(text)
  yield* Effect.ignore(stage.remove(layout, folder))
  return sequence
})
