/**
 * Elements as lines of text that tests compare.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { Element } from "@etl-stream/core/Element"
import { valueAt } from "./columnValues.ts"

const operations = Object.fromEntries(Object.entries(Operation).map(([name, value]) => [value, name]))

/** A line for each change of an element: operation, sequence, values. */
export const linesOf = (element: Element): ReadonlyArray<string> => {
  if (element._tag === "Truncate") return [`Truncate ${element.sequence.commit}/${element.sequence.ordinal}`]
  if (element._tag !== "Rows") return []
  const { records, rows, table } = element.batch
  return Array.from({ length: rows }, (_, row) => {
    const { commit, ordinal } = ChangeBatch.sequenceAt(records, row)
    const mask = valueAt(ChangeBatch.child(records, ChangeBatch.MetadataColumns.unsent), { _tag: "Binary" }, row)
    const unsent = Buffer.from(mask ?? "", "hex")
    const values = table.columns.map((column, index) =>
      ((unsent[index >> 3] ?? 0) & (1 << (index & 7))) !== 0
        ? "~unsent"
        : valueAt(ChangeBatch.child(records, ChangeBatch.metadataColumns + index), column.type, row)
    )
    return `${
      operations[ChangeBatch.child(records, ChangeBatch.MetadataColumns.op).values[row]]
    } ${commit}/${ordinal} ${JSON.stringify(values)}`
  })
}
