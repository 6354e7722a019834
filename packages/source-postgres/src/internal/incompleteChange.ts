/**
 * A change at which decoding stops, because its new row lacks values that have to be had from elsewhere (see `Settling`).
 */
import type { TableName } from "@etl-stream/core/TableSchema"
import type { Message } from "./completedUpdate.ts"
import type { Frames } from "./frameBuffer.ts"
import type { Plan } from "./relation.ts"
import { type Located, Unchanged } from "./tuple.ts"

const text = new TextDecoder()

/** A change of key whose new row lacks values. Values are text; they must never be logged. */
export interface IncompleteChange {
  readonly table: TableName
  /** The new key. */
  readonly key: ReadonlyArray<{ readonly name: string; readonly value: string }>
  /** Names of the columns that weren't sent. */
  readonly unsent: ReadonlyArray<string>
}

/** Where decoding stopped: the message, and the frames with the place to go on. */
export interface Stopped extends Message {
  readonly plan: Plan
  readonly row: Located
  frames: Frames
  next: number
}

/** What a change lacks whose new row, located in `bytes`, is of `plan`. */
export const describe = (plan: Plan, row: Located, bytes: Uint8Array): IncompleteChange => {
  const { names } = plan
  return {
    table: plan.schema.table,
    key: Array.from(plan.key, (index) => ({
      name: names[index] ?? "",
      value: text.decode(bytes.subarray(row.starts[index], row.ends[index]))
    })),
    unsent: names.flatMap((name, index) => name !== undefined && row.kinds[index] === Unchanged ? [name] : [])
  }
}
