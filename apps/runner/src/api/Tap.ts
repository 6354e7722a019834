/**
 * Samples of the elements that pass through a pipeline, for whoever wants to see what it carries.
 *
 * The pipeline isn't slowed down: of what passes at most so many samples a second are taken, the rest is counted, and nothing waits for the client.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type { Element } from "@etl-stream/core/Element"
import { tableOf } from "@etl-stream/core/Element"
import * as Sequence from "@etl-stream/core/Sequence"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Mailbox from "./Mailbox.ts"
import type * as Model from "./Model.ts"

/** Samples a second, and rows of each with values. */
const samplesPerSecond = 20
const sampledRows = 5

/** Values are cut off after so many characters. */
const longestValue = 1000

const operationNames = ["read", "insert", "update", "delete", "keyChangeOld", "keyChangeNew"] as const

const operations = ({ records, rows }: ChangeBatch.ChangeBatch): Readonly<Record<string, number>> => {
  const counts: Record<string, number> = {}
  const { values } = ChangeBatch.child(records, ChangeBatch.MetadataColumns.op)
  for (let row = 0; row < rows; row++) {
    const name = operationNames[Number(values[row])] ?? "unknown"
    counts[name] = (counts[name] ?? 0) + 1
  }
  return counts
}

const shown = (value: unknown): string | null => {
  if (value === null || value === undefined) return null
  const text = value instanceof Uint8Array ? Buffer.from(value).toString("base64") : String(value)
  return text.length > longestValue ? `${text.slice(0, longestValue)}…` : text
}

const values = ({ records, rows, table }: ChangeBatch.ChangeBatch): ReadonlyArray<Record<string, string | null>> =>
  Array.from({ length: Math.min(rows, sampledRows) }, (_, row) =>
    Object.fromEntries(
      table.columns.map(({ name }, index) => [
        name,
        shown(records.getChildAt(ChangeBatch.metadataColumns + index)?.get(row))
      ])
    ))

const batchOf = (element: Element): ChangeBatch.ChangeBatch | undefined =>
  element._tag === "Rows" || element._tag === "SnapshotRows" ? element.batch : undefined

/** What is told of an element. Without `withValues` nothing of it is a value of a row. */
export const sample = (
  element: Element,
  at: string,
  withValues: boolean
): Extract<Model.Sample, { type: "element" }> => {
  const name = tableOf(element)
  const batch = batchOf(element)
  const schema = batch?.table ?? ("table" in element ? element.table : undefined)
  const sequence = "sequence" in element ? Sequence.format(element.sequence) : null
  return {
    type: "element",
    at,
    element: element._tag,
    table: name === undefined ? null : tableId(name),
    rows: batch?.rows ?? 0,
    operations: batch === undefined ? {} : operations(batch),
    first: batch === undefined ? sequence : Sequence.format(batch.first),
    last: batch === undefined ? sequence : Sequence.format(batch.last),
    columns: schema?.columns.map(({ name }) => name) ?? [],
    ...(withValues && batch !== undefined ? { values: values(batch) } : {})
  }
}

export interface Options {
  /** Only elements of this table (`schema.name`). */
  readonly table: string | undefined
  readonly values: boolean
  /** Milliseconds since 1970-01-01 UTC. */
  readonly now: () => number
  readonly capacity: number
}

/** A tap: what is to be called for each element, and where its samples go. */
export const make = (options: Options) => {
  const mailbox = Mailbox.make<Model.Sample>(options.capacity)
  let passed = 0
  let second = 0
  let taken = 0
  const see = (element: Element): void => {
    if (options.table !== undefined) {
      const name = tableOf(element)
      if (name === undefined || tableId(name) !== options.table) return
    }
    const now = options.now()
    const current = Math.floor(now / 1000)
    if (current !== second) {
      second = current
      taken = 0
    }
    if (taken >= samplesPerSecond) {
      passed++
      return
    }
    taken++
    const at = new Date(now).toISOString()
    if (passed > 0) {
      mailbox.offer({ type: "lost", at, events: passed })
      passed = 0
    }
    mailbox.offer(sample(element, at, options.values))
  }
  return { see, mailbox }
}
