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
  RowChange.insert(orders, { id: 1n, note: null }),
  RowChange.insert(orders, { id: 1, total: "1.50", note: null }),
  RowChange.insert(orders, { id: 1n, total: null, note: null }),
  RowChange.insert(orders, { id: 1n, total: "1.50", note: null, colour: "red" }),
  RowChange.insert(orders, { id: 1n, total: Column.notSent, note: null }),
  RowChange.update(orders, { id: Column.notSent, total: "1.50", note: null }),
  RowChange.remove(orders, { total: "1.50" }),
  RowChange.remove(visits, { page: "/" }),
  RowChange.update(visits, { page: "/" })
]

export const nullableKey = RowTable.make({
  name: "shop.notes",
  columns: { id: Column.int64().nullable, note: Column.text() },
  key: ["id"]
})

export const numberedPosition = RowSource.make({
  plugin: "example",
  tables: [orders],
  history: "kept",
  read: () => Stream.succeed({ position: 1, changes: [] })
})

export const forgetsHistory = RowSource.make({
  plugin: "example",
  tables: [orders],
  read: () => Stream.empty
})
