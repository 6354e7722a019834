/** Transforms that lie about what they write. */
import * as Column from "@etl-stream/core/Column"
import * as RowTransform from "@etl-stream/core/RowTransform"

const reads = { price: Column.decimal(), quantity: Column.int32() }

export const lacksColumn = RowTransform.make({
  plugin: "example",
  reads,
  writes: { total: Column.decimal(), currency: Column.text() },
  // tsc: 'Mistake<"map leaves out the column currency, which writes declares">'
  map: (row) => ({ total: row.price })
})

export const undeclaredColumn = RowTransform.make({
  plugin: "example",
  reads,
  writes: { total: Column.decimal() },
  // tsc: 'Mistake<"map gives the column currency, which writes doesn't declare">'
  map: (row) => ({ total: row.price, currency: "EUR" })
})

export const wrongType = RowTransform.make({
  plugin: "example",
  reads,
  writes: { total: Column.decimal() },
  // tsc: 'Mistake<"map gives number for the column total, which writes declares as string">'
  map: (row) => ({ total: row.quantity })
})

export const nullInNonNullable = RowTransform.make({
  plugin: "example",
  reads,
  writes: { total: Column.decimal() },
  // tsc: 'Mistake<"map gives null for the column total, which writes doesn't declare as nullable">'
  map: (row) => ({ total: row.quantity === 0 ? null : row.price })
})

export const dropsRows = RowTransform.make({
  plugin: "example",
  reads,
  writes: { total: Column.decimal() },
  // tsc: 'Mistake<"map gives undefined for some rows: rows are left out by RowTransform.filter">'
  map: (row) => row.quantity === 0 ? undefined : { total: row.price }
})

export const readsUndeclared = RowTransform.make({
  plugin: "example",
  reads,
  writes: { total: Column.decimal() },
  // tsc: Property 'discount' does not exist on type 'Row<
  map: (row) => ({ total: row.discount })
})

export const takesNullable = RowTransform.make({
  plugin: "example",
  reads: { note: Column.text().nullable },
  writes: { shout: Column.text() },
  // tsc: 'row.note' is possibly 'null'
  map: (row) => ({ shout: row.note.toUpperCase() })
})

export const ignoresUnsent = RowTransform.make({
  plugin: "example",
  reads,
  writes: { total: Column.decimal() },
  map: (row) => ({ total: row.price }),
  // tsc: Type 'number' is not assignable to type 'string | unique symbol'
  whenUnsent: (row) => ({ total: row.quantity })
})

export const branches = RowTransform.make({
  plugin: "example",
  reads,
  writes: { total: Column.decimal(), currency: Column.text().nullable },
  // tsc: 'Mistake<"map leaves out the column currency, which writes declares">'
  map: (row) => row.quantity === 0 ? { total: "0" } : { total: row.price, currency: "EUR" }
})
