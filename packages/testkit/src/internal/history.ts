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

export const column = (name: string, type: LogicalType): ColumnSchema => ({
  name,
  type,
  sourceType: type._tag.toLowerCase(),
  nullable: true
})

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
    column("note", { _tag: "Text", maxLength: undefined }),
    column("amount", { _tag: "Int32" })
  ],
  identity: { _tag: "Key", columns: [0] }
})

export const keylessTable = (name: string): TableSchema => ({ ...keyedTable(name), identity: { _tag: "Full" } })

/** Values of a row in a later shape of the table: columns that it didn't have are null. */
export const shaped = (values: ReadonlyArray<Value>, shape: TableSchema): ReadonlyArray<Value> =>
  shape.columns.map((_column, index) => values[index] ?? null)

const noteOf = (random: Random): string | null => {
  const kind = random.below(8)
  return kind === 0 ? null : kind === 1 ? "" : `${mark} ${random.below(1_000_000)} 'ü' 🌊`
}

export interface Options {
  readonly can: (ability: Ability) => boolean
  readonly transactions: number
  readonly seed: number
}

export const make = (table: TableSchema, { can, seed, transactions: count }: Options): History => {
  const random = seeded(seed)
  const keyed = table.identity._tag === "Key"
  let rows = new Map<number, ReadonlyArray<Value>>()
  let shape = table
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
    const fresh = (): Array<Value> => [
      BigInt(next++),
      noteOf(random),
      random.below(5) === 0 ? null : random.below(100_000) - 50_000,
      ...shape.columns.slice(3).map(() => noteOf(random))
    ]
    const onlyKey = (values: ReadonlyArray<Value>): ReadonlyArray<Value> =>
      keyed ? shape.columns.map((_column, at) => at === 0 ? values[0] ?? null : null) : values
    const shapes = (["AddColumn", "Widen"] as const).filter((kind) =>
      can(kind) && (kind === "AddColumn" || shape.columns[2]?.type._tag === "Int32")
    )
    if (!isPlain && shapes.length > 0 && random.below(6) === 0) {
      const columns = random.of(shapes) === "AddColumn"
        ? [...shape.columns, column(`extra_${shape.columns.length}`, { _tag: "Text", maxLength: undefined })]
        : shape.columns.map((known, at) => at === 2 ? column(known.name, { _tag: "Int64" }) : known)
      shape = { ...shape, columns, version: shape.version + 1 }
      rows = new Map([...rows].map(([at, values]) => [at, shaped(values, shape)]))
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
            const hidden = kind === "Unsent" ? 1 + random.below(shape.columns.length - 1) : -1
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
