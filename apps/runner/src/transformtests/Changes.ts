/**
 * Changes as a test writes them, as a batch of a table, and back.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { ChangeBatchBuilder } from "@etl-stream/core/ChangeBatchBuilder"
import * as JsonValue from "@etl-stream/core/JsonValue"
import * as LogicalTypeText from "@etl-stream/core/LogicalTypeText"
import * as RowValue from "@etl-stream/core/RowValue"
import * as RowView from "@etl-stream/core/RowView"
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

const noColumn = { name: "", type: { _tag: "Other" }, sourceType: "" } as const

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
    // Whatever the column says: of a deleted row the source sends the key alone.
    const writers = builder.columns.map((own, at) =>
      RowValue.writer(own, { ...table.columns[at] ?? noColumn, nullable: true })
    )
    for (const [index, change] of changes.entries()) {
      const { operation, unsent, values } = row(change)
      const unknown = Object.keys(values).find((name) => !names.includes(name))
      if (unknown !== undefined) return yield* unknownColumn(["changes", index, operation, unknown], unknown, names)
      const strange = unsent.find((name) => !names.includes(name))
      if (strange !== undefined) return yield* unknownColumn(["changes", index, "unsent"], strange, names)
      builder.begin(operations[operation], 0, 1, index, 0, 0)
      for (const [at, column] of table.columns.entries()) {
        const value = Object.hasOwn(values, column.name) ? values[column.name] ?? null : null
        if (unsent.includes(column.name)) {
          builder.notSent(at)
          continue
        }
        const meant = value === null ? null : JsonValue.toValue(column.type, value)
        if (meant === undefined || writers[at]?.(meant) !== undefined) {
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

/** The rows of a batch. */
export const rows = (batch: ChangeBatch.ChangeBatch): ReadonlyArray<Row> => {
  const rows: Array<Row> = []
  for (const view of RowView.rows(batch)) {
    const unsent = batch.table.columns.flatMap(({ name }) => view.isSent(name) ? [] : [name])
    const values = batch.table.columns.flatMap(({ name, type }): ReadonlyArray<readonly [string, Schema.Json]> => {
      const value = view.get(name)
      return typeof value === "symbol" ? [] : [[name, value === null ? null : JsonValue.fromValue(type, value)]]
    })
    rows.push({
      operation: operationNames.find((name) => operations[name] === view.operation) ?? "read",
      values: Object.fromEntries(values),
      unsent
    })
  }
  return rows
}

/** What a table is like in the end, for comparing. */
export const shape = (table: TableSchema) => ({
  table: tableId(table.table),
  columns: Object.fromEntries(table.columns.map(({ name, type }) => [name, LogicalTypeText.format(type)])),
  key: table.identity._tag === "Key" ? table.identity.columns.map((index) => table.columns[index]?.name ?? "") : []
})
