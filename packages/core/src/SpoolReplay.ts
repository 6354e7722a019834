/**
 * Reads what an earlier run has kept as changes of the tables as they are now.
 *
 * Whether a table's copy is still good has been judged by its source, so what differs is only what differs between a table's changes before and after a
 * change of its shape that leaves the copy good: columns that came later are null, those that are gone are left out, the others are found by
 * their ids, or by their names where there are none. What is about copies, failures or tables that leave is not replayed: it was for a run that is over, and
 * has been judged before this one began (`SpoolFiles.Mark`).
 */
import type * as Arrow from "apache-arrow"
import { makeData } from "apache-arrow/data"
import { RecordBatch } from "apache-arrow/recordbatch"
import { Binary, Struct } from "apache-arrow/type"
import * as ChangeBatch from "./ChangeBatch.ts"
import * as ColumnBuilder from "./ColumnBuilder.ts"
import type { Element } from "./Element.ts"
import { arrowType } from "./LogicalType.ts"
import type { Sequence } from "./Sequence.ts"
import * as Sequences from "./Sequence.ts"
import { type Identity, type TableId, tableId, type TableName, type TableSchema } from "./TableSchema.ts"

/** Where the columns of a table as it is now are in an earlier shape; undefined for one that came later. */
type Places = ReadonlyArray<number | undefined>

const sameCarrier = (a: Arrow.DataType, b: Arrow.DataType): boolean => a.typeId === b.typeId && String(a) === String(b)

const placesOf = (shape: TableSchema, now: TableSchema): Places | undefined => {
  const places: Array<number | undefined> = []
  for (const column of now.columns) {
    const at = shape.columns.findIndex((earlier) =>
      earlier.id !== undefined && column.id !== undefined ? earlier.id === column.id : earlier.name === column.name
    )
    const earlier = shape.columns[at]
    if (earlier !== undefined && !sameCarrier(arrowType(earlier.type), arrowType(column.type))) return undefined
    places.push(earlier === undefined ? undefined : at)
  }
  return places
}

const identityOf = ({ identity }: TableSchema, places: Places): Identity | undefined => {
  if (identity._tag !== "Key") return identity
  const columns = identity.columns.map((column) => places.indexOf(column))
  return columns.includes(-1) ? undefined : { _tag: "Key", columns: columns.sort((a, b) => a - b) }
}

/** Whether rows of `shape` can be read as rows of the table as it is `now`. */
export const fits = (shape: TableSchema, now: TableSchema): boolean => {
  const places = placesOf(shape, now)
  return places !== undefined && identityOf(shape, places) !== undefined
}

/** An earlier shape, and what its rows become. */
interface Reading {
  readonly schema: TableSchema
  readonly places: Places
  /** Whether the columns are the same at the same places. */
  readonly same: boolean
}

const nulls = (type: Arrow.DataType, rows: number): Arrow.Data => {
  const builder = ColumnBuilder.make(type)
  for (let row = 0; row < rows; row++) builder.appendNull()
  return builder.finish()
}

/** The masks of values that weren't sent, for the columns at their new places. */
const masks = (data: Arrow.Data, places: Places, rows: number): Arrow.Data => {
  if (data.nullCount === rows) return data
  const builder = new ColumnBuilder.BytesColumn(new Binary())
  const values: Uint8Array = data.values
  for (let row = 0; row < rows; row++) {
    if (data.nullCount > 0 && ((data.nullBitmap[row >> 3] ?? 0) >> (row & 7) & 1) === 0) {
      builder.appendNull()
      continue
    }
    const from = data.valueOffsets[row] ?? 0
    const mask = new Uint8Array((places.length + 7) >> 3)
    places.forEach((place, index) => {
      if (place === undefined || ((values[from + (place >> 3)] ?? 0) >> (place & 7) & 1) === 0) return
      mask[index >> 3] = (mask[index >> 3] ?? 0) | (1 << (index & 7))
    })
    if (mask.some((byte) => byte !== 0)) builder.append(mask, 0, mask.length)
    else builder.appendNull()
  }
  return builder.finish()
}

const reread = (batch: ChangeBatch.ChangeBatch, { places, same, schema }: Reading): ChangeBatch.ChangeBatch => {
  const { records, rows } = batch
  if (same) return { ...batch, table: schema }
  const { children } = records.data
  const metadata = children.slice(0, ChangeBatch.metadataColumns).map((data, index) =>
    index === ChangeBatch.MetadataColumns.unsent ? masks(data, places, rows) : data
  )
  const columns = schema.columns.map(({ type }, index) => {
    const place = places[index]
    return place === undefined
      ? nulls(arrowType(type), rows)
      : ChangeBatch.child(records, ChangeBatch.metadataColumns + place)
  })
  const arrow = ChangeBatch.arrowSchema(schema)
  const data = makeData({
    type: new Struct(arrow.fields),
    length: rows,
    nullCount: 0,
    children: [...metadata, ...columns]
  })
  return ChangeBatch.make(schema, new RecordBatch(arrow, data))
}

export interface Replay {
  /** What an element that an earlier run has kept is now, in order. */
  readonly element: (element: Element) => ReadonlyArray<Element>
  /** To come between the last of them and the first of this run: the tables are what they are now. */
  readonly end: () => ReadonlyArray<Element>
}

/** `now` tells the shape that a table was opened with; undefined: the run doesn't know the table. */
export const make = (now: (table: TableId) => TableSchema | undefined): Replay => {
  const readings = new Map<TableSchema, Reading | undefined>()
  /** Shapes that differ from the table's by the identity of rows, by table and identity. */
  const others = new Map<string, TableSchema>()
  /** The schema that was given last, where it isn't the table's own. */
  const given = new Map<TableId, TableSchema>()

  const read = (shape: TableSchema, table: TableSchema): Reading | undefined => {
    const places = placesOf(shape, table)
    const identity = places === undefined ? undefined : identityOf(shape, places)
    if (places === undefined || identity === undefined) return undefined
    const same = shape.columns.length === table.columns.length && places.every((place, index) => place === index)
    const text = JSON.stringify(identity)
    if (text === JSON.stringify(table.identity)) return { schema: table, places, same }
    const key = JSON.stringify([tableId(table.table), text])
    // A version that no source gives: between that of the table and its next one.
    const schema = others.get(key) ?? { ...table, identity, version: table.version + (others.size + 1) / 65_536 }
    others.set(key, schema)
    return { schema, places, same }
  }

  const readingOf = (shape: TableSchema): Reading | undefined => {
    if (readings.has(shape)) return readings.get(shape)
    const table = now(tableId(shape.table))
    const reading = table === undefined ? undefined : read(shape, table)
    readings.set(shape, reading)
    return reading
  }

  /** What has to come before something of `schema`. */
  const turn = (name: TableName, schema: TableSchema, sequence: Sequence): ReadonlyArray<Element> => {
    const id = tableId(name)
    const before = given.get(id) ?? now(id)
    if (before === schema) return []
    given.set(id, schema)
    return [{ _tag: "Schema", table: schema, sequence }]
  }

  return {
    element: (element) => {
      switch (element._tag) {
        case "Watermark":
        case "Message":
          return [element]
        case "Rows": {
          const reading = readingOf(element.batch.table)
          if (reading === undefined) return []
          const batch = reread(element.batch, reading)
          return [...turn(batch.table.table, reading.schema, batch.first), { _tag: "Rows", batch }]
        }
        case "Truncate": {
          const reading = readingOf(element.table)
          if (reading === undefined) return []
          const { schema } = reading
          return [...turn(schema.table, schema, element.sequence), { ...element, table: schema }]
        }
        case "Schema":
        case "SnapshotBegin":
        case "SnapshotRows":
        case "SnapshotChunk":
        case "SnapshotEnd":
        case "TableLeft":
        case "TableFailed":
          return []
      }
    },
    end: () => {
      const elements = [...given].flatMap(([id, schema]): ReadonlyArray<Element> => {
        const table = now(id)
        return table === undefined || table === schema ? [] : [{ _tag: "Schema", table, sequence: Sequences.zero }]
      })
      given.clear()
      return elements
    }
  }
}
