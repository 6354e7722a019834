/** Sources whose rows don't fit their tables. */
import * as Column from "@etl-stream/core/Column"
import * as RowChange from "@etl-stream/core/RowChange"
import * as RowSource from "@etl-stream/core/RowSource"
import * as RowTable from "@etl-stream/core/RowTable"
import * as Stream from "effect/Stream"

const orders = RowTable.make({
  name: "shop.orders",
  columns: { id: Column.int64(), total: Column.decimal(12, 2), note: Column.text().nullable },
  key: ["id"]
})
const visits = RowTable.make({ name: "shop.visits", columns: { page: Column.text() } })

export const changes = [
  // tsc: Property 'total' is missing in type '{ id: bigint; note: null; }' but required in type 'Row<
  RowChange.insert(orders, { id: 1n, note: null }),
  // tsc: Type 'number' is not assignable to type 'bigint'
  RowChange.insert(orders, { id: 1, total: "1.50", note: null }),
  // tsc: Type 'null' is not assignable to type 'string'
  RowChange.insert(orders, { id: 1n, total: null, note: null }),
  // tsc: 'colour' does not exist in type 'Row<
  RowChange.insert(orders, { id: 1n, total: "1.50", note: null, colour: "red" }),
  // tsc: Type 'symbol' is not assignable to type 'string'
  RowChange.insert(orders, { id: 1n, total: Column.notSent, note: null }),
  // tsc: Type 'symbol' is not assignable to type 'bigint'
  RowChange.update(orders, { id: Column.notSent, total: "1.50", note: null }),
  // tsc: 'total' does not exist in type 'Pick<Row<
  RowChange.remove(orders, { total: "1.50" }),
  // tsc: 'Mistake<"the table has no key, so its rows can only be inserted">'
  RowChange.remove(visits, { page: "/" }),
  // tsc: 'Mistake<"the table has no key, so its rows can only be inserted">'
  RowChange.update(visits, { page: "/" })
]

export const nullableKey = RowTable.make({
  name: "shop.notes",
  columns: { id: Column.int64().nullable, note: Column.text() },
  // tsc: 'Mistake<"the key column id is nullable">'
  key: ["id"]
})

export const unknownKey = RowTable.make({
  name: "shop.notes",
  columns: { id: Column.int64(), note: Column.text() },
  // tsc: 'Mistake<"the key names number, which isn't among the columns">'
  key: ["number"]
})

export const numberedPosition = RowSource.make({
  plugin: "example",
  tables: [orders],
  history: "kept",
  // tsc: Type 'number' is not assignable to type 'bigint'
  read: () => Stream.succeed({ position: 1, changes: [] })
})

// tsc: Property 'history' is missing in type
export const forgetsHistory = RowSource.make({
  plugin: "example",
  tables: [orders],
  read: () => Stream.empty
})
