/**
 * Changes as a test writes them, as a batch of a table, and back.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { ChangeBatchBuilder } from "@etl-stream/core/ChangeBatchBuilder"
import * as JsonValue from "@etl-stream/core/JsonValue"
import * as LogicalTypeText from "@etl-stream/core/LogicalTypeText"
import { parseTableId, tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import { closest } from "../Suggestion.ts"
import type { Change, Given } from "./TestFile.ts"

/** What is wrong with a test as it is written. */
export interface Mistake {
  readonly _tag: "Mistake"
  /** Below the test's `given` or `expect`. */
  readonly path: ReadonlyArray<string | number>
  readonly message: string
  readonly remedy: string
}

const mistake = (path: Mistake["path"], message: string, remedy: string): Effect.Effect<never, Mistake> =>
  Effect.fail({ _tag: "Mistake", path, message, remedy })

const { Operation } = ChangeBatch

const operations = {
  read: Operation.Read,
  insert: Operation.Insert,
  update: Operation.Update,
  delete: Operation.Delete,
  keyChangeOld: Operation.KeyChangeOld,
  keyChangeNew: Operation.KeyChangeNew
} as const
type OperationName = keyof typeof operations

const operationNames = Object.keys(operations) as ReadonlyArray<OperationName> // its own keys

/** A change taken apart. */
export interface Row {
  readonly operation: OperationName
  readonly values: Readonly<Record<string, Schema.Json>>
  readonly unsent: ReadonlyArray<string>
}

export const row = (change: Change): Row => {
  const fields: Readonly<Record<string, unknown>> = change
  const operation = operationNames.find((name) => Object.hasOwn(fields, name)) ?? "read"
  // The union's members have one operation each, with such a record under it.
  return { operation, values: fields[operation] as Row["values"], unsent: change.unsent }
}

const unknownColumn = (path: Mistake["path"], name: string, known: ReadonlyArray<string>) => {
  const meant = closest(name, known)
  return mistake(
    path,
    `There is no column \`${name}\`.`,
    meant === undefined ? `The columns are ${known.join(", ")}.` : `Did you mean \`${meant}\`?`
  )
}

/** The table that a test gives. */
export const tableOf = Effect.fnUntraced(function*({ columns, key, table }: Omit<Given, "changes">) {
  const names = Object.keys(columns)
  for (const [index, name] of key.entries()) {
    if (!names.includes(name)) return yield* unknownColumn(["key", index], name, names)
  }
  const schema: TableSchema = {
    table: parseTableId(table) ?? { schema: "", name: table },
    version: 1,
    columns: Object.entries(columns).map(([name, text]) => {
      const sourceType = text.replace(/\s+not null$/, "")
      return {
        name,
        // The file's schema lets types through alone.
        type: LogicalTypeText.parse(sourceType) ?? { _tag: "Other" },
        sourceType,
        nullable: sourceType === text && !key.includes(name)
      }
    }),
    identity: key.length === 0 ? { _tag: "Full" } : { _tag: "Key", columns: key.map((name) => names.indexOf(name)) }
  }
  return schema
})

/** `changes` as one batch of one transaction; undefined when there are none. A column that a change doesn't name is null. */
export const batch = Effect.fnUntraced(
  function*(table: TableSchema, changes: ReadonlyArray<Change>): Effect.fn.Return<
    ChangeBatch.ChangeBatch | undefined,
    Mistake
  > {
    const names = table.columns.map(({ name }) => name)
    const builder = new ChangeBatchBuilder(table)
    for (const [index, change] of changes.entries()) {
      const { operation, unsent, values } = row(change)
      const unknown = Object.keys(values).find((name) => !names.includes(name))
      if (unknown !== undefined) return yield* unknownColumn(["changes", index, operation, unknown], unknown, names)
      const strange = unsent.find((name) => !names.includes(name))
      if (strange !== undefined) return yield* unknownColumn(["changes", index, "unsent"], strange, names)
      builder.begin(operations[operation], 0, 1, index, 0, 0)
      for (const [at, column] of table.columns.entries()) {
        const value = Object.hasOwn(values, column.name) ? values[column.name] ?? null : null
        const own = builder.columns[at]
        if (unsent.includes(column.name)) builder.notSent(at)
        else if (value === null) own?.appendNull()
        else if (own !== undefined && !JsonValue.append(own, column.type, value)) {
          return yield* mistake(
            ["changes", index, operation, column.name],
            `The value is none of the type ${LogicalTypeText.format(column.type)}, which \`${column.name}\` has.`,
            "docs/transform-tests.md shows how values of each type are written."
          )
        }
      }
    }
    return changes.length === 0 ? undefined : builder.finish()
  }
)

const isUnsent = (masks: Readonly<ReturnType<typeof ChangeBatch.child>>, row: number, column: number): boolean => {
  if (masks.nullCount > 0 && (((masks.nullBitmap[row >> 3] ?? 0) >> (row & 7)) & 1) === 0) return false
  const offsets = masks.valueOffsets
  const bytes = masks.values as Uint8Array // of a Binary column
  const start = offsets[row] ?? 0
  return start < (offsets[row + 1] ?? 0) && (((bytes[start + (column >> 3)] ?? 0) >> (column & 7)) & 1) === 1
}

/** The rows of a batch. */
export const rows = ({ records, rows, table }: ChangeBatch.ChangeBatch): ReadonlyArray<Row> => {
  const kinds = ChangeBatch.child(records, ChangeBatch.MetadataColumns.op).values
  const masks = ChangeBatch.child(records, ChangeBatch.MetadataColumns.unsent)
  return Array.from({ length: rows }, (_, index): Row => {
    const kind = Number(kinds[index])
    const unsent = table.columns.flatMap(({ name }, column) => isUnsent(masks, index, column) ? [name] : [])
    const values = table.columns.flatMap(({ name, type }, column): ReadonlyArray<readonly [string, Schema.Json]> =>
      unsent.includes(name)
        ? []
        : [[name, JsonValue.read(type, ChangeBatch.child(records, ChangeBatch.metadataColumns + column), index)]]
    )
    return {
      operation: operationNames.find((name) => operations[name] === kind) ?? "read",
      values: Object.fromEntries(values),
      unsent
    }
  })
}

/** What a table is like in the end, for comparing. */
export const shape = (table: TableSchema) => ({
  table: tableId(table.table),
  columns: Object.fromEntries(table.columns.map(({ name, type }) => [name, LogicalTypeText.format(type)])),
  key: table.identity._tag === "Key" ? table.identity.columns.map((index) => table.columns[index]?.name ?? "") : []
})
