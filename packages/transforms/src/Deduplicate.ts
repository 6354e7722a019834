/**
 * The transform `deduplicate`: leaves out updates that change nothing.
 *
 * An update goes when the row before it in the same batch, of the same key, has the same value in every column. For tables without a key, whose updates are pairs of an old and a new row, a pair
 * of equal rows goes. Inserts, deletes and changes of key always pass. Nothing is remembered from batch to batch: what a sink has lost, or a table that was set aside, or a run that begins again, could
 * make such a memory wrong; so no restart changes what the target comes to, only how many such updates are seen and left out.
 */
import { type ChangeBatch, Operation } from "@etl-stream/core/ChangeBatch"
import * as Plugin from "@etl-stream/core/Plugin"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Cells from "./Cells.ts"
import * as ColumnPattern from "./ColumnPattern.ts"
import * as RowImage from "./RowImage.ts"
import * as TablePlan from "./TablePlan.ts"

export const pluginName = "@etl-stream/transforms:deduplicate"

export const Config = Schema.Struct({
  ignore: Schema.optionalKey(ColumnPattern.ColumnPatterns).annotateKey({
    description:
      "Columns that aren't compared, by name or by a pattern with `*`: an update that changes nothing else goes, and the target keeps older values of these columns, until another column changes. Not columns of the key"
  })
})
export type Config = typeof Config.Type

/** Tables without a key: pairs of equal rows. */
const unkeyed = (batch: ChangeBatch, compared: ReadonlyArray<number>): Uint8Array => {
  const operations = Cells.operations(batch)
  const becomes = operations.slice(0, batch.rows)
  const unsent = new Cells.Unsent(batch)
  const same = RowImage.comparisons(batch)
  for (let row = 0; row + 1 < batch.rows; row++) {
    if (operations[row] !== Operation.KeyChangeOld || operations[row + 1] !== Operation.KeyChangeNew) continue
    // What the new row doesn't send is what the old one has.
    if (compared.every((index) => unsent.has(row + 1, index) || same[index]?.(row, row + 1) === true)) {
      becomes[row] = Cells.dropped
      becomes[row + 1] = Cells.dropped
    }
    row++
  }
  return becomes
}

/** Tables with a key: updates after an equal row. */
const keyed = (batch: ChangeBatch, key: ReadonlyArray<number>, compared: ReadonlyArray<number>): Uint8Array => {
  const operations = Cells.operations(batch)
  const becomes = operations.slice(0, batch.rows)
  if (!becomes.includes(Operation.Update)) return becomes
  const unsent = new Cells.Unsent(batch)
  const same = RowImage.comparisons(batch)
  const hash = RowImage.hasher(batch, key)
  // The last row that passed of each key, found by open addressing; 0: none.
  let size = 16
  while (size < batch.rows * 2) size *= 2
  const slots = new Int32Array(size)
  const slotOf = (row: number): number => {
    for (let slot = hash(row) & (size - 1);; slot = (slot + 1) & (size - 1)) {
      const other = (slots[slot] ?? 0) - 1
      if (other < 0 || key.every((index) => same[index]?.(row, other) === true)) return slot
    }
  }
  for (let row = 0; row < batch.rows; row++) {
    const operation = operations[row]
    const slot = slotOf(row)
    const before = (slots[slot] ?? 0) - 1
    const isThere = before >= 0 && operations[before] !== Operation.Delete &&
      operations[before] !== Operation.KeyChangeOld
    if (
      operation === Operation.Update && isThere &&
      // A value that wasn't sent is what it was. One that is sent after one that wasn't may be new.
      compared.every((index) =>
        unsent.has(row, index) || (!unsent.has(before, index) && same[index]?.(row, before) === true)
      )
    ) becomes[row] = Cells.dropped
    else slots[slot] = row + 1
  }
  return becomes
}

export const make = ({ ignore }: Config) => {
  const patterns = ignore?.map(ColumnPattern.parse) ?? []
  return TablePlan.transform((table: TableSchema) => {
    const { identity } = table
    if (identity._tag === "None") return undefined
    const ignored = new Set(ColumnPattern.indexesOf(pluginName, table, patterns))
    const compared = table.columns.flatMap((_, index) =>
      ignored.has(index) && !TablePlan.isKey(table, index) ? [] : [index]
    )
    return {
      target: table,
      apply: (batch) =>
        Cells.pickRows(
          batch,
          identity._tag === "Key" ? keyed(batch, identity.columns, compared) : unkeyed(batch, compared)
        )
    }
  })
}

export const deduplicate = Plugin.transform({
  name: pluginName,
  version: "0.1.0",
  summary: "Leaves out updates that change nothing",
  stability: "beta",
  description:
    "An update goes when the row before it in the same batch, of the same key, has the same value in every column. It makes sense after `select` has left out columns that change often. " +
    "Only what comes in one batch is compared (see the sink's `batch`, and the source's transactions): some updates that change nothing still pass, none that changes something goes.",
  examples: [
    { title: "After columns that change often were left out", options: {} },
    { title: "Updates of nothing but a time", options: { ignore: ["last_seen_at"] } }
  ],
  config: Config,
  make: (config) => Effect.sync(() => make(config))
})
