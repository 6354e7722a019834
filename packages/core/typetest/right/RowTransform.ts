/** Transforms that do what they say. */
import * as Column from "@etl-stream/core/Column"
import * as RowTransform from "@etl-stream/core/RowTransform"

export const computed = RowTransform.make({
  plugin: "example",
  reads: { price: Column.decimal(), quantity: Column.int32(), note: Column.text().nullable },
  writes: { total: Column.decimal(), note: Column.text().nullable, big: Column.int64() },
  drops: ["discount"],
  map: (row) => ({ total: row.price, note: row.quantity === 0 ? null : row.note, big: BigInt(row.quantity) }),
  whenUnsent: (row) => ({
    total: row.price,
    note: row.note,
    big: row.quantity === Column.notSent ? Column.notSent : BigInt(row.quantity)
  })
})

export const branches = RowTransform.make({
  plugin: "example",
  reads: { quantity: Column.int32() },
  writes: { total: Column.decimal() },
  map: (row) => {
    if (row.quantity > 3) return { total: "3" }
    return { total: `${row.quantity}` }
  }
})

export const kept = RowTransform.filter({
  plugin: "example",
  reads: { quantity: Column.int32() },
  keep: (row) => row.quantity > 0
})
