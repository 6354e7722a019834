/**
 * Slot to Arrow batches to compressed NDJSON, as the sink makes it for its requests, and no further.
 */
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import { tableId } from "@etl-stream/core/TableSchema"
import { BatchSize } from "@etl-stream/sink-snowflake/BatchSize"
import { Config } from "@etl-stream/sink-snowflake/Config"
import { EncodingPool } from "@etl-stream/sink-snowflake/EncodingPool"
import { NdjsonEncoder } from "@etl-stream/sink-snowflake/NdjsonEncoder"
import * as TableLayout from "@etl-stream/sink-snowflake/TableLayout"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Outcome from "./Outcome.ts"
import * as Slot from "./Slot.ts"

const config = Schema.decodeUnknownSync(Config)({
  account: "BENCH-NULL",
  user: "BENCH",
  auth: { token: "none" },
  warehouse: "WH",
  database: "RAW",
  mode: "mirror"
})
const outOfRange = "null"
const tables = new Map<string, { readonly layout: TableLayout.TableLayout; readonly encoder: NdjsonEncoder }>()
let rows = 0
let bytes = 0

/** All chunks of a batch, each of about a request's size. */
const encode = Effect.fnUntraced(function*(pool: EncodingPool, batch: ChangeBatch) {
  const table = tables.get(tableId(batch.table.table))
  if (table === undefined) return
  const { encoder, layout } = table
  const { next } = yield* pool.ndjson(encoder, { layout, outOfRange, noting: false }, batch)
  const { rawBytes: limit } = new BatchSize()
  for (let from = 0; from < batch.rows;) {
    const chunk = yield* next({ from, limit, encoding: "zstd" })
    if (chunk === undefined) return
    bytes += chunk.rawBytes
    from = chunk.last + 1
  }
  rows += batch.rows
}, Effect.scoped)

const figures = await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
  const pool = yield* EncodingPool.shared
  // One batch is encoded while the one before is compressed and the next one is read.
  const busy = Semaphore.makeUnsafe(2)
  const figures = yield* Slot.read(
    Slot.options(Slot.Options),
    (schemas) =>
      Effect.forEach(schemas, (table) =>
        Effect.map(TableLayout.of(config, "bench", table), (layout) => {
          tables.set(tableId(table.table), { layout, encoder: new NdjsonEncoder(layout, outOfRange) })
        }), { discard: true }),
    (element) =>
      element._tag !== "Rows" ? Effect.void : Effect.andThen(
        busy.take(1),
        Effect.asVoid(Effect.forkChild(Effect.ensuring(Effect.orDie(encode(pool, element.batch)), busy.release(1))))
      )
  )
  yield* busy.take(2)
  return figures
})))
Outcome.print(rows, { ...figures, bytes })
process.exit(0)
