/**
 * Tables for scenarios: how their rows are told apart, and columns of several types, some of which a source may leave unsent.
 */
import type { LogicalType } from "@etl-stream/core/LogicalType"
import type { Identity, TableSchema } from "@etl-stream/core/TableSchema"
import * as Batches from "../Batches.ts"

type Value = Exclude<Batches.Value, symbol | Uint8Array>

interface Column {
  readonly name: string
  readonly type: LogicalType
  /** A value for the serial number; NULL now and then. Undefined for key columns, whose values come from `Shape.key`. */
  readonly value?: (serial: number) => Value
  /** Whether an update that doesn't touch it may leave it out, as PostgreSQL does with TOASTed values. */
  readonly unsendable?: boolean
}

export interface Shape {
  readonly name: string
  readonly columns: ReadonlyArray<Column>
  /** A column that is added at the end in the middle of a history. */
  readonly added: Column
  readonly identity: Identity
  /** Values of the key's columns, by their index. */
  readonly key: (key: number) => ReadonlyMap<number, Value>
}

const text: LogicalType = { _tag: "Text", maxLength: undefined }

const nullable = (make: (serial: number) => Value) => (serial: number): Value => serial % 5 === 0 ? null : make(serial)

const body: Column = {
  name: "body",
  type: text,
  value: nullable((serial) => `v${serial}\\'"\n😀`),
  unsendable: true
}
const document: Column = {
  name: "doc",
  type: { _tag: "Json" },
  value: nullable((serial) => serial % 7 === 0 ? "null" : `{"n":${serial}}`),
  unsendable: true
}
const count: Column = { name: "count", type: { _tag: "Int32" }, value: nullable((serial) => serial) }
const big: Column = {
  name: "Big One",
  type: { _tag: "Int64" },
  value: nullable((serial) => 9_007_199_254_740_993n * BigInt(serial % 2 === 0 ? 1 : -1) + BigInt(serial))
}
const flag: Column = { name: "flag", type: { _tag: "Boolean" }, value: nullable((serial) => serial % 2 === 0) }
const amount: Column = {
  name: "amount",
  type: { _tag: "Decimal", precision: 30, scale: 2 },
  value: nullable((serial) => `1234567890123456789${serial}.50`)
}
const added: Column = { name: "added", type: text, value: nullable((serial) => `a${serial}`), unsendable: true }

/** How many keys there are: few, so that each is used again and again. */
export const keys = 5

export const shapes: ReadonlyArray<Shape> = [
  {
    name: "a key of one column",
    columns: [{ name: "id", type: { _tag: "Int64" } }, body, count, document, amount],
    added,
    identity: { _tag: "Key", columns: [0] },
    key: (key) => new Map([[0, BigInt(key) - 2n]])
  },
  {
    name: "a key of two columns, not in their order",
    columns: [body, { name: "id", type: { _tag: "Int32" } }, { name: "code", type: text }, big, document, flag],
    added,
    identity: { _tag: "Key", columns: [2, 1] },
    key: (key) => new Map<number, Value>([[1, key >> 1], [2, key % 2 === 0 ? "a" : "A'"]])
  },
  {
    name: "a key of text that differs in case and blanks only",
    columns: [{ name: "Key", type: text }, body, { ...body, name: "body\",\"row" }, count],
    added,
    identity: { _tag: "Key", columns: [0] },
    key: (key) => new Map([[0, ["a", "A", "a ", "á", ""][key] ?? ""]])
  },
  {
    name: "no key, identified by whole rows",
    columns: [
      // Few values, so that equal rows come about.
      { name: "name", type: text, value: (serial) => serial % 3 === 0 ? null : `n${serial % 2}` },
      { name: "count", type: { _tag: "Int32" }, value: (serial) => serial % 4 === 0 ? null : serial % 2 },
      { name: "doc", type: { _tag: "Json" }, value: (serial) => ["null", null, "{\"a\":1}"][serial % 3] ?? null }
    ],
    added: { ...added, unsendable: false },
    identity: { _tag: "Full" },
    key: () => new Map()
  },
  {
    name: "no identity, only inserts",
    columns: [{ ...body, unsendable: false }, count, flag],
    added: { ...added, unsendable: false },
    identity: { _tag: "None" },
    key: () => new Map()
  }
]

/** The columns before (`version` 0) and after (1) the one was added. */
export const columnsOf = (shape: Shape, version: number): ReadonlyArray<Column> =>
  version === 0 ? shape.columns : [...shape.columns, shape.added]

export const schemaOf = (shape: Shape, table: string, version: number): TableSchema =>
  Batches.table(
    table,
    Object.fromEntries(columnsOf(shape, version).map(({ name, type }) => [name, type])),
    shape.identity,
    "public",
    version + 1
  )
