/**
 * Slot to Arrow batches to compressed NDJSON, as the sink makes it for its requests, and no further.
 */
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import { tableId } from "@etl-stream/core/TableSchema"
import { BatchSize } from "@etl-stream/sink-snowflake/BatchSize"
import { Compression } from "@etl-stream/sink-snowflake/Compression"
import { Config } from "@etl-stream/sink-snowflake/Config"
import { NdjsonEncoder } from "@etl-stream/sink-snowflake/NdjsonEncoder"
import * as TableLayout from "@etl-stream/sink-snowflake/TableLayout"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
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
const compression = new Compression("auto")
const encoders = new Map<string, { readonly encoder: NdjsonEncoder; readonly size: BatchSize }>()
let rows = 0
let bytes = 0
let compressing: Promise<unknown> = Promise.resolve()

const encode = async (batch: ChangeBatch): Promise<void> => {
  const to = encoders.get(tableId(batch.table.table))
  if (to === undefined) return
  for (let from = 0; from < batch.rows;) {
    await compressing
    const chunk = to.encoder.encode(batch, from, to.size.rawBytes)
    bytes += chunk.bytes.length
    compressing = Effect.runPromise(compression.compress(chunk.bytes.slice()))
    from = chunk.last + 1
  }
  rows += batch.rows
}

const figures = await Effect.runPromise(Slot.read(
  Slot.options(Slot.Options),
  (tables) =>
    Effect.forEach(tables, (table) =>
      Effect.map(TableLayout.of(config, "bench", table), (layout) => {
        encoders.set(tableId(table.table), { encoder: new NdjsonEncoder(layout, "null"), size: new BatchSize() })
      }), { discard: true }),
  (element) => element._tag === "Rows" ? Effect.promise(() => encode(element.batch)) : Effect.void
))
await compressing
Outcome.print(rows, { ...figures, bytes })
process.exit(0)
