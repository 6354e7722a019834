/**
 * A table's history, made up from a seed: transactions of changes that a sink can take, and what the table holds after each.
 *
 * The first transactions only insert, update and delete whole rows, so that a copy's chunks may be read in different snapshots among them.
 */
import { Operation } from "@etl-stream/core/ChangeBatch"
import {
  dateInfinity,
  dateNegativeInfinity,
  type LogicalType,
  timestampInfinity,
  timestampNegativeInfinity
} from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import type { ColumnSchema, TableSchema } from "@etl-stream/core/TableSchema"
import { type Row, unsent, type Value } from "../BatchOf.ts"
import * as CanonicalCell from "../CanonicalCell.ts"
import type { Ability, Cell } from "../SinkSubject.ts"
import { type Random, seeded } from "./random.ts"
import { mark } from "./workload.ts"

/** Schema of all tables of the kit. */
export const namespace = "kit"

export const column = (name: string, type: LogicalType, id?: string): ColumnSchema => ({
  name,
  type,
  sourceType: type._tag.toLowerCase(),
  nullable: true,
  ...(id === undefined ? {} : { id })
})

const text: LogicalType = { _tag: "Text", maxLength: undefined }

export type Change =
  | { readonly _tag: "Row"; readonly row: Row }
  | { readonly _tag: "Truncate"; readonly sequence: Sequence.Sequence }
  | { readonly _tag: "Schema"; readonly table: TableSchema; readonly sequence: Sequence.Sequence }

export interface Transaction {
  readonly commit: bigint
  /** Where it ends: a watermark. */
  readonly end: bigint
  readonly changes: ReadonlyArray<Change>
  /** Rows after it, by their place in the order of their coming. */
  readonly after: ReadonlyMap<number, ReadonlyArray<Value>>
  readonly shape: TableSchema
}

export interface History {
  readonly table: TableSchema
  readonly transactions: ReadonlyArray<Transaction>
}

/** So many transactions at the beginning are plain. */
export const plain = 5

export const keyedTable = (name: string): TableSchema => ({
  table: { schema: namespace, name },
  version: 1,
  columns: [
    column("id", { _tag: "Int64" }),
    column("note", text),
    column("amount", { _tag: "Int32" })
  ],
  identity: { _tag: "Key", columns: [0] }
})

/** The same from a source that tells columns by ids. */
const identified = (table: TableSchema): TableSchema => ({
  ...table,
  columns: table.columns.map((known, at) => ({ ...known, id: `${table.table.name}.${at}` }))
})

/** With more columns, which may be dropped: enough for some to be left. */
export const wideTable = (name: string): TableSchema => {
  const table = keyedTable(name)
  const more = Array.from("abcdefgh", (letter) => column(`extra_${letter}`, text))
  return { ...table, columns: [...table.columns, ...more] }
}

export const keylessTable = (name: string): TableSchema => ({ ...keyedTable(name), identity: { _tag: "Full" } })

/** Where values of a shape's columns are in the rows of a history, which have a place for every column that there ever was. */
const slots = new WeakMap<TableSchema, ReadonlyArray<number>>()

const slotsOf = (shape: TableSchema): ReadonlyArray<number> => slots.get(shape) ?? shape.columns.map((_, at) => at)

/** Values of a row in a shape of the table: columns that it didn't have are null. */
export const shaped = (values: ReadonlyArray<Value>, shape: TableSchema): ReadonlyArray<Value> =>
  slotsOf(shape).map((slot) => values[slot] ?? null)

const noteOf = (random: Random): string | null => {
  const kind = random.below(8)
  return kind === 0 ? null : kind === 1 ? "" : `${mark} ${random.below(1_000_000)} 'ü' 🌊`
}

export interface Options {
  readonly can: (ability: Ability) => boolean
  readonly transactions: number
  readonly seed: number
}

/** The table's next shape: of columns behind the first three, or another name or type of one of the first. */
const reshaped = (shape: TableSchema, can: Options["can"], random: Random, slot: number): TableSchema | undefined => {
  const { columns } = shape
  const kinds = (["AddColumn", "Widen", "DropColumn", "RenameColumn"] as const).filter((kind) => {
    // Rows without a key are told apart by all columns, names included.
    const isKeyed = shape.identity._tag === "Key"
    switch (kind) {
      case "AddColumn":
        return can(kind)
      case "Widen":
        return can(kind) && columns[2]?.type._tag === "Int32"
      case "DropColumn":
        return can(kind) && isKeyed && columns.length > 3
      case "RenameColumn":
        // Without an id nobody can know that it is the same column.
        return can(kind) && isKeyed && columns[1]?.id !== undefined
    }
  })
  if (kinds.length === 0) return undefined
  const known = slotsOf(shape)
  const next = (columns: ReadonlyArray<ColumnSchema>, places: ReadonlyArray<number> = known): TableSchema => {
    const schema = { ...shape, columns, version: shape.version + 1 }
    slots.set(schema, places)
    return schema
  }
  switch (random.of(kinds)) {
    case "AddColumn": {
      const id = columns[0]?.id === undefined ? undefined : `${shape.table.name}.${slot}`
      return next([...columns, column(`extra_${slot}`, text, id)], [...known, slot])
    }
    case "Widen":
      return next(columns.map((known, at) => at === 2 ? { ...known, ...column(known.name, { _tag: "Int64" }) } : known))
    case "DropColumn": {
      // Of several the first, so that others move up.
      const gone = 3
      return next(columns.toSpliced(gone, 1), known.toSpliced(gone, 1))
    }
    case "RenameColumn": {
      const renamed = 1 + random.below(columns.length - 1)
      const name = `renamed_${shape.version}`
      return next(columns.map((known, at) => at === renamed ? { ...known, name } : known))
    }
  }
}

export const make = (base: TableSchema, { can, seed, transactions: count }: Options): History => {
  const random = seeded(seed)
  const keyed = base.identity._tag === "Key"
  const table = seed % 3 === 0 ? base : identified(base)
  let rows = new Map<number, ReadonlyArray<Value>>()
  let shape = table
  /** How many columns there ever were. */
  let width = table.columns.length
  let next = 1
  let place = 0
  const transactions: Array<Transaction> = []
  for (let index = 0; index < count; index++) {
    const commit = BigInt(1000 + index * 20)
    const changes: Array<Change> = []
    let ordinal = 1n
    const sequence = (): Sequence.Sequence => Sequence.make(commit, ordinal++)
    const row = (operation: Operation, values: ReadonlyArray<Value>): void => {
      changes.push({ _tag: "Row", row: { operation, sequence: sequence(), values } })
    }
    const isPlain = index < plain
    const fresh = (): Array<Value> => {
      const present = new Set(slotsOf(shape))
      return [
        BigInt(next++),
        noteOf(random),
        random.below(5) === 0 ? null : random.below(100_000) - 50_000,
        ...Array.from({ length: width - 3 }, (_, at) => present.has(at + 3) ? noteOf(random) : null)
      ]
    }
    const onlyKey = (values: ReadonlyArray<Value>): ReadonlyArray<Value> =>
      keyed ? values.map((value, at) => at === 0 ? value : null) : values
    const changed = isPlain || random.below(4) > 0 ? undefined : reshaped(shape, can, random, width)
    if (changed !== undefined) {
      width = Math.max(width, ...slotsOf(changed).map((slot) => slot + 1))
      shape = changed
      changes.push({ _tag: "Schema", table: shape, sequence: Sequence.make(commit, 0n) })
    }
    for (let left = 1 + random.below(4); left > 0; left--) {
      const kinds = (["Update", "Delete", "Rekey", "Unsent", "Truncate"] as const).filter((kind) =>
        can(kind) && rows.size > 0 && (keyed || kind === "Update" || kind === "Delete" || kind === "Truncate") &&
        (!isPlain || kind === "Update" || kind === "Delete")
      )
      const kind = kinds.length === 0 || random.below(2) === 0 ? "Insert" : random.of(kinds)
      const [at, old] = rows.size === 0 ? [-1, []] as const : random.of([...rows])
      switch (kind) {
        case "Insert": {
          const values = fresh()
          rows.set(place++, values)
          row(Operation.Insert, values)
          // Rows that are equal are rows of their own.
          if (!keyed && random.below(3) === 0) {
            rows.set(place++, values)
            row(Operation.Insert, values)
          }
          break
        }
        case "Update":
        case "Unsent": {
          const values: ReadonlyArray<Value> = [old[0] ?? null, ...fresh().slice(1)]
          if (keyed) {
            const hidden = kind === "Unsent" ? random.of(slotsOf(shape).slice(1)) : -1
            row(Operation.Update, values.map((value, place): Value => place === hidden ? unsent : value))
            rows.set(at, values.map((value, place): Value => place === hidden ? old[place] ?? null : value))
          } else {
            row(Operation.KeyChangeOld, old)
            row(Operation.KeyChangeNew, values)
            rows.set(at, values)
          }
          break
        }
        case "Delete":
          row(Operation.Delete, onlyKey(old))
          rows.delete(at)
          break
        case "Rekey": {
          const values: ReadonlyArray<Value> = [BigInt(next++), ...old.slice(1)]
          // What is where the new row's values aren't sent, is the old row's.
          const hidden = can("Unsent") && random.below(2) === 0
          row(Operation.KeyChangeOld, onlyKey(old))
          row(Operation.KeyChangeNew, values.map((value, place): Value => place === 1 && hidden ? unsent : value))
          rows.set(at, values)
          break
        }
        case "Truncate":
          changes.push({ _tag: "Truncate", sequence: sequence() })
          rows.clear()
          break
      }
    }
    transactions.push({ commit, end: commit + 5n, changes, after: new Map(rows), shape })
  }
  return { table, transactions }
}

/** The position at which a snapshot sees exactly the first `count` transactions. */
export const positionOf = ({ transactions }: History, count: number): bigint =>
  transactions[count]?.commit ?? (transactions.at(-1)?.end ?? 0n) + 1n

/** Rows after the first `count` transactions. */
export const rowsAfter = ({ transactions }: History, count: number): ReadonlyArray<ReadonlyArray<Value>> => [
  ...transactions[count - 1]?.after.values() ?? []
]

export const shapeAfter = ({ table, transactions }: History, count: number): TableSchema =>
  transactions[count - 1]?.shape ?? table

/** A value as canonical text. */
export const cellOf = (type: LogicalType, value: Value): Cell => {
  if (value === null || value === unsent) return null
  if (type._tag === "Date" && (value === dateInfinity || value === dateNegativeInfinity)) {
    return value === dateInfinity ? "infinity" : "-infinity"
  }
  if (type._tag === "Timestamp" && (value === timestampInfinity || value === timestampNegativeInfinity)) {
    return value === timestampInfinity ? "infinity" : "-infinity"
  }
  return CanonicalCell.ofText(
    type,
    value instanceof Uint8Array ? Buffer.from(value).toString("hex") : Object.is(value, -0) ? "-0" : String(value)
  )
}
