/**
 * Writes an Update message anew with the values that it left unsent.
 */
import { malformedMessage } from "./malformedMessage.ts"
import type { Plan } from "./relation.ts"
import * as Tuple from "./tuple.ts"

/** A message whose bytes are in `bytes[start, limit)`, `newAt` being where its new row begins (its `N`). */
export interface Message {
  readonly bytes: Uint8Array
  readonly start: number
  readonly newAt: number
}

/** The message with `values` (text, by column name) in the place of what `row`, its located new row, lacks. */
export const encode = (
  { bytes, newAt, start }: Message,
  plan: Plan,
  row: Tuple.Located,
  values: ReadonlyMap<string, string | null>
): Uint8Array => {
  const parts: Array<Uint8Array> = [bytes.subarray(start, newAt + 1)]
  const count = Buffer.alloc(2)
  count.writeUInt16BE(row.kinds.length)
  parts.push(count)
  for (const [index, kind] of row.kinds.entries()) {
    if (index >= plan.names.length) malformedMessage("a row with more columns than its table")
    const given = kind === Tuple.Unchanged ? values.get(plan.names[index] ?? "") : undefined
    const sent = kind === Tuple.Text || kind === Tuple.Binary
    const value = sent
      ? bytes.subarray(row.starts[index], row.ends[index])
      : typeof given === "string"
      ? Buffer.from(given, "utf8")
      : undefined
    if (value === undefined) {
      parts.push(Uint8Array.of(given === null ? Tuple.Null : kind))
      continue
    }
    const head = Buffer.alloc(5)
    head[0] = sent ? kind : Tuple.Text
    head.writeUInt32BE(value.length, 1)
    parts.push(head, value)
  }
  return Buffer.concat(parts)
}
