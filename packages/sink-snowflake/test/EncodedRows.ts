/**
 * Batches of all types, and what a pool makes of them.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type * as LogicalType from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import { zstdDecompressSync } from "node:zlib"
import { Config } from "../src/Config.ts"
import type { EncodingPool } from "../src/EncodingPool.ts"
import type { Selection } from "../src/NdjsonEncoder.ts"
import { NdjsonEncoder } from "../src/NdjsonEncoder.ts"
import type { Chunk } from "../src/NdjsonRows.ts"
import * as TableLayout from "../src/TableLayout.ts"
import { Unwritable } from "../src/ValueWriter.ts"
import * as Batches from "./Batches.ts"

export const configOf = (more: object = {}): Config =>
  Schema.decodeUnknownSync(Config)({
    account: "MYORG-ACCT",
    user: "LOADER",
    auth: { password: "secret" },
    warehouse: "WH",
    database: "RAW",
    schema: "SHOP",
    ...more
  })

const types = {
  id: { _tag: "Int64" },
  flag: { _tag: "Boolean" },
  real: { _tag: "Float32" },
  double: { _tag: "Float64" },
  small: { _tag: "Int16" },
  amount: { _tag: "Decimal", precision: 12, scale: 2 },
  name: { _tag: "Text", maxLength: undefined },
  data: { _tag: "Binary" },
  day: { _tag: "Date" },
  at: { _tag: "Time" },
  instant: { _tag: "Timestamp", utc: true },
  doc: { _tag: "Json" },
  list: { _tag: "Array", element: { _tag: "Int32" } }
} as const satisfies Record<string, LogicalType.LogicalType>
export const keyed = Batches.table("keyed", types, { _tag: "Key", columns: [0] })
export const keyless = Batches.table("keyless", types, { _tag: "Full" })

const optional = <A>(value: fc.Arbitrary<A>) =>
  fc.oneof({ weight: 4, arbitrary: value }, { weight: 1, arbitrary: fc.constant(null) })

export const values = fc.tuple(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  optional(fc.boolean()),
  optional(fc.float()),
  optional(fc.double()),
  optional(fc.integer({ min: -32768, max: 32767 })),
  optional(fc.constantFrom("12.50", "-0.01", "NaN", "Infinity")),
  optional(fc.oneof(fc.string({ unit: "binary" }), fc.constant(Batches.unsent))),
  optional(fc.uint8Array({ maxLength: 40 })),
  optional(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })),
  optional(fc.bigInt({ min: 0n, max: 86_400_000_000n })),
  optional(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
  optional(fc.constantFrom("null", "{\"a\": 1e400}", "[1.5, \"ü\"]", "{}")),
  optional(fc.constantFrom("{1,NULL}", "{}", "{{1},{2}}", "{broken"))
)

export const batchOf = (
  table: typeof keyed,
  rows: ReadonlyArray<ReadonlyArray<Batches.Value>>
): ChangeBatch.ChangeBatch =>
  Batches.batch(
    table,
    rows.map((row, index) => ({
      op: index % 3 === 0 ? ChangeBatch.Operation.Insert : ChangeBatch.Operation.Update,
      sequence: Sequence.make(BigInt(1000 + (index >> 2)), BigInt(index)),
      values: row
    }))
  )

/** So large that it goes to a worker, whatever it holds. */
export const large = (batch: ChangeBatch.ChangeBatch): ChangeBatch.ChangeBatch => ({ ...batch, bytes: 1 << 20 })

export const layoutOf = (table: typeof keyed, more: object = {}) =>
  Effect.runSync(TableLayout.make(configOf(more), "shop", table))

export interface Job {
  readonly batch: ChangeBatch.ChangeBatch
  readonly mode?: string
  readonly outOfRange?: "fail" | "null" | "clamp"
  readonly noting?: boolean
  readonly limit?: number
  readonly selection?: Selection | undefined
}

/** All chunks of a batch, in order, or the value that can't be written. */
export const chunks = (
  pool: EncodingPool,
  { batch, limit = 1 << 20, mode = "mirror", noting = true, outOfRange = "fail", selection }: Job
) =>
  Effect.gen(function*() {
    const layout = layoutOf(batch.table, { mode })
    const rows = yield* pool.ndjson(
      new NdjsonEncoder(layout, outOfRange),
      { layout, noting, outOfRange },
      batch,
      selection
    )
    const found: Array<Omit<Chunk, "body"> & { readonly text: string }> = []
    for (let from = 0; from < batch.rows;) {
      const chunk = yield* rows.next({ from, limit, encoding: "zstd" })
      if (chunk === undefined) break
      const { body, ...rest } = chunk
      found.push({ ...rest, text: body === undefined ? "" : zstdDecompressSync(body).toString() })
      from = chunk.last + 1
    }
    return found
  }).pipe(
    Effect.scoped,
    Effect.catch((error) =>
      error instanceof Unwritable ? Effect.succeed([error.column, error.message]) : Effect.die(error)
    )
  )

export const many = (rows: number) =>
  batchOf(
    keyed,
    Array.from({ length: rows }, (_, index) => [BigInt(index), true, 0.5, index / 3, 1, "12.50", `row ${index}`])
  )
