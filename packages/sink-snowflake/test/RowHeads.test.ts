/**
 * What rows of one batch have in common is written once and repeated: no row may be told with what was of another.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Sequence from "@etl-stream/core/Sequence"
import * as fc from "fast-check"
import { NdjsonEncoder, operations } from "../src/NdjsonEncoder.ts"
import * as Batches from "./Batches.ts"
import { layoutOf } from "./EncodedRows.ts"

const table = Batches.table(
  "heads",
  { id: { _tag: "Int64" }, day: { _tag: "Date" }, at: { _tag: "Timestamp", utc: false } },
  { _tag: "Key", columns: [0] }
)

/** `YYYY-MM-DDTHH:MM:SS.ffffff` by the standard library. */
const told = (micros: bigint): string => {
  const rest = ((micros % 1000n) + 1000n) % 1000n
  return new Date(Number((micros - rest) / 1000n)).toISOString().slice(0, 23) + String(rest).padStart(3, "0")
}

const day = 86_400_000_000n
/** Times that differ in a day, within one, by the higher half of their bits alone, and by the lower. */
const times = [
  0n,
  -1n,
  1n,
  day - 1n,
  day,
  day + (1n << 32n),
  (1n << 40n) + 5n,
  (1n << 41n) + 5n,
  1_700_000_000_123_456n
]
const positions = [1n, 2n, 1n << 32n, (1n << 32n) + 1n, (1n << 63n) + 1n, (1n << 64n) - 1n]

const row = fc.record({
  op: fc.constantFrom(...operations.keys()),
  commit: fc.constantFrom(...positions),
  ordinal: fc.oneof(fc.nat(3).map(BigInt), fc.constantFrom(0xffffffffn, 0x100000000n, (1n << 53n) - 1n)),
  time: fc.constantFrom(...times),
  day: fc.constantFrom(-1, 0, 1, -719_162, 2_932_896, null),
  at: fc.option(fc.constantFrom(...times)),
  route: fc.nat(2)
})

describe("NdjsonEncoder", () => {
  it("writes of each row its own operation, sequence, times and dates, whatever the rows before it had", () => {
    fc.assert(
      fc.property(
        fc.array(row, { minLength: 1, maxLength: 60 }),
        fc.integer({ min: 1, max: 3000 }),
        fc.option(fc.nat(2), { nil: undefined }),
        (rows, limit, channel) => {
          const timeOf = new Map(rows.map(({ time }, id) => [BigInt(id), time]))
          const batch = Batches.batch(
            table,
            rows.map(({ at, commit, day, op, ordinal }, id) => ({
              // One of its operations by the index.
              op: op as Batches.Row["op"],
              sequence: Sequence.make(commit, ordinal),
              values: [BigInt(id), day, at]
            })),
            ({ values: [id] }) => timeOf.get(id as bigint) ?? 0n // every row has its id
          )
          const expected = rows.flatMap(({ at, commit, day, op, ordinal, route, time }, id) =>
            channel !== undefined && route !== channel ? [] : [{
              _ETL_OP: operations[op],
              _ETL_SEQ: Sequence.format(Sequence.make(commit, ordinal)),
              _ETL_COMMIT_TIME: `${told(time)}Z`,
              ID: id,
              ...(day === null ? {} : { DAY: told(BigInt(day) * 86_400_000_000n).slice(0, 10) }),
              ...(at === null ? {} : { AT: told(at) })
            }]
          )
          const selection = channel === undefined
            ? undefined
            : { channel, routes: Uint8Array.from(rows, ({ route }) => route) }
          const encoder = new NdjsonEncoder(layoutOf(table), "fail")
          const found = []
          for (let from = 0; from < batch.rows;) {
            const chunk = encoder.encode(batch, from, limit, undefined, selection)
            if (chunk.rows === 0) break
            const lines = Buffer.from(chunk.bytes).toString().trimEnd().split("\n")
            assert.lengthOf(lines, chunk.rows)
            found.push(...lines.map((line) => JSON.parse(line)))
            from = chunk.last + 1
          }
          assert.deepStrictEqual(found, expected)
        }
      ),
      { numRuns: 300 }
    )
  })
})
