/** A log of pieces with two tables, and row-wise sources that read it. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Column from "../../src/Column.ts"
import type { ConnectorError } from "../../src/ConnectorError.ts"
import * as RowChange from "../../src/RowChange.ts"
import * as RowSource from "../../src/RowSource.ts"
import * as RowTable from "../../src/RowTable.ts"
import { tableId } from "../../src/TableSchema.ts"
import type { Chance } from "./Chance.ts"
import { broken } from "./PrefixSink.ts"
import type { Row } from "./RowDatabase.ts"

export const orders = RowTable.make({
  name: "shop.orders",
  columns: { id: Column.int64(), total: Column.decimal(12, 2), note: Column.text().nullable },
  key: ["id"]
})

/** Rows that are only ever inserted: whatever comes twice is seen. */
export const visits = RowTable.make({
  name: "shop.visits",
  columns: { page: Column.text(), at: Column.timestampUtc() }
})

export const ordersId = tableId(orders.schema.table)
export const visitsId = tableId(visits.schema.table)

export interface LogPiece {
  readonly position: bigint
  readonly changes: ReadonlyArray<RowChange.RowChange>
}

const randomChange = (chance: Chance, number: number): RowChange.RowChange => {
  const id = BigInt(chance.below(6))
  const total = `${chance.below(100)}.50`
  switch (chance.below(9)) {
    case 0:
      return RowChange.remove(orders, { id })
    case 1:
      return RowChange.update(orders, { id, total, note: Column.notSent })
    case 2:
      return RowChange.rekey(orders, { id }, { id: id + 1n, total, note: Column.notSent })
    case 3:
    case 4:
    case 5:
      return RowChange.insert(orders, { id, total, note: chance.oneIn(3) ? null : `note ${number}` })
    case 6:
      return chance.oneIn(4) ? RowChange.truncate(orders) : RowChange.insert(orders, { id, total, note: "x" })
    default:
      return RowChange.insert(visits, { page: `/${number}`, at: BigInt(number) })
  }
}

/** A log of `n` pieces at growing positions. */
export const randomPieces = (chance: Chance, n: number): ReadonlyArray<LogPiece> => {
  let position = 0n
  let number = 0
  return Array.from({ length: n }, () => {
    position += BigInt(1 + chance.below(5))
    return { position, changes: Array.from({ length: chance.below(6) }, () => randomChange(chance, number++)) }
  })
}

/** What a target has after the pieces up to a position. */
export const expected = (pieces: ReadonlyArray<LogPiece>, upTo?: bigint) => {
  const held = new Map<unknown, Row>()
  const visited: Array<Row> = []
  for (const { changes, position } of pieces) {
    if (upTo !== undefined && position > upTo) break
    for (const change of changes) {
      if (change._tag === "Fail") throw new Error("no piece of this log fails")
      if (change._tag === "Truncate") held.clear()
      else if (change.table === visits && change._tag === "Insert") visited.push(change.row)
      else if (change._tag === "Remove") held.delete(change.key["id"])
      else {
        const oldKey = change._tag === "Rekey" ? change.key["id"] : undefined
        const old = oldKey === undefined ? undefined : held.get(oldKey)
        if (oldKey !== undefined) held.delete(oldKey)
        const sent = Object.entries(change.row).filter(([, value]) => value !== Column.notSent)
        const id = change.row["id"]
        held.set(id, { ...old ?? held.get(id) ?? { note: null }, ...Object.fromEntries(sent) })
      }
    }
  }
  return { orders: [...held.values()], visits: visited }
}

export class RowLog {
  readonly pieces: ReadonlyArray<LogPiece>
  /** What `acknowledged` was told. */
  readonly told: Array<bigint> = []
  /** Where readings began. */
  readonly begun: Array<bigint> = []
  /** Pieces that were read, over all runs. */
  read = 0
  /** Pieces per chunk. */
  chunk = 3
  ends = true
  history: "kept" | "consumed" = "kept"
  /** A reading fails before its `n`th piece. */
  failsAt: number | undefined
  /** Pieces up to here are gone: a queue that has been told so. */
  private confirmed = 0n
  /** The position that a copy is of. */
  copyAt: (() => bigint) | undefined
  /** Why there are no copies any more. */
  noCopies: ConnectorError | undefined
  tables: ReadonlyArray<RowTable.RowTable> = [orders, visits]
  streamed = false

  constructor(pieces: ReadonlyArray<LogPiece>) {
    this.pieces = pieces
  }

  get end(): bigint {
    return this.pieces.at(-1)?.position ?? 0n
  }

  private reading(from: bigint): Stream.Stream<RowSource.Piece, ConnectorError> {
    this.begun.push(from)
    let left = this.failsAt
    const begin = this.history === "consumed" ? this.confirmed : from
    const pieces = this.pieces.filter(({ position }) => position > begin).map((piece) => {
      const { position } = piece
      const changes = piece.changes.filter(({ table }) => this.tables.includes(table))
      return {
        position,
        commitTime: position * 1_000_000n,
        changes: this.streamed ? Stream.fromIterable(changes, { chunkSize: 2 }) : changes
      }
    })
    const read = Stream.fromIterable(pieces).pipe(
      Stream.mapEffect((piece) =>
        Effect.suspend(() => {
          this.read++
          return left !== undefined && left-- === 0 ? Effect.fail(broken("the log is gone")) : Effect.succeed(piece)
        })
      ),
      Stream.rechunk(this.chunk)
    )
    return this.ends ? read : Stream.concat(read, Stream.never)
  }

  private copy(table: RowTable.RowTable, position: bigint): RowSource.Copy {
    const { orders: held, visits: visited } = expected(this.pieces, position)
    const rows = table === orders ? held : visited
    return {
      position,
      estimatedRows: rows.length,
      rows: Stream.fromIterable(
        rows.map((row) => RowChange.insert(table, row as RowTable.RowOf<typeof table>)), // rows of the table, as they were inserted
        { chunkSize: 2 }
      )
    }
  }

  source() {
    const { copyAt } = this
    return RowSource.make({
      plugin: "test",
      tables: Effect.sync(() => this.tables),
      history: this.history,
      read: (from) => this.reading(from),
      acknowledged: (position) =>
        Effect.sync(() => {
          this.told.push(position)
          this.confirmed = position
        }),
      ...(copyAt === undefined ? {} : {
        copy: (table) =>
          Effect.suspend(() =>
            this.noCopies === undefined ? Effect.succeed(this.copy(table, copyAt())) : Effect.fail(this.noCopies)
          )
      }),
      batchRows: 4
    })
  }
}
