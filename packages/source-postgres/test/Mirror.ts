/**
 * A model of what a sink does with a source's elements: it holds each table in memory, and compares it with the server.
 *
 * It applies changes as a mirror has to, and complains about whatever the contract forbids: sequences that go back, rows
 * outside of a copy, changes of rows it doesn't have. Cells are held as text in one canonical form per logical type.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type { Element } from "@etl-stream/core/Element"
import {
  dateInfinity,
  dateNegativeInfinity,
  type LogicalType,
  timestampInfinity,
  timestampNegativeInfinity
} from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TablePosition } from "@etl-stream/core/Sink"
import { type TableId, tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import type { EmbeddedPostgres } from "@etl-stream/testkit/EmbeddedPostgres"
import type * as Arrow from "apache-arrow"
import * as Effect from "effect/Effect"
import * as Sql from "../src/Sql.ts"

type Cell = string | null
type Row = ReadonlyArray<Cell>

const raw = (data: Arrow.Data, row: number): unknown => (data.values as ArrayLike<unknown>)[row]

const isNull = (data: Arrow.Data, row: number): boolean =>
  data.nullCount > 0 && ((data.nullBitmap[row >> 3] ?? 0) & (1 << (row & 7))) === 0

const bytesOf = (data: Arrow.Data, row: number): Uint8Array =>
  (data.values as Uint8Array).subarray(data.valueOffsets[row], data.valueOffsets[row + 1])

const number = (value: number): string => Object.is(value, -0) ? "-0" : String(value)

/** What the server's text of a float means, in the same form as `number`. */
const canonicalText = (type: LogicalType, text: unknown): Cell =>
  typeof text !== "string"
    ? null
    : type._tag === "Float64"
    ? number(Number(text))
    : type._tag === "Float32"
    ? number(Math.fround(Number(text)))
    : text

/** A cell in canonical form; `canonical` below is its counterpart in SQL. */
const cell = (type: LogicalType, data: Arrow.Data, row: number): Cell => {
  if (isNull(data, row)) return null
  switch (type._tag) {
    case "Boolean":
      return ((data.values as Uint8Array)[row >> 3] ?? 0) & (1 << (row & 7)) ? "true" : "false"
    case "Binary":
      return Buffer.from(bytesOf(data, row)).toString("hex")
    case "Date": {
      const days = Number(raw(data, row))
      return days === dateInfinity ? "infinity" : days === dateNegativeInfinity ? "-infinity" : String(days)
    }
    case "Timestamp": {
      const micros = raw(data, row) as bigint
      return micros === timestampInfinity
        ? "infinity"
        : micros === timestampNegativeInfinity
        ? "-infinity"
        : String(micros)
    }
    case "Float32":
    case "Float64":
      return number(Number(raw(data, row)))
    case "Int16":
    case "Int32":
    case "Int64":
    case "Time":
      return String(raw(data, row))
    default:
      return Buffer.from(bytesOf(data, row)).toString("utf8")
  }
}

/** SQL that gives a column's value in canonical form. */
const canonical = (name: string, type: LogicalType): string => {
  const column = `"${name.replaceAll("\"", "\"\"")}"`
  switch (type._tag) {
    case "Boolean":
      return `${column}::text`
    case "Binary":
      return `encode(${column}, 'hex')`
    case "Date":
      return `CASE WHEN isfinite(${column}) THEN (${column} - date '1970-01-01')::text ELSE ${column}::text END`
    case "Timestamp":
      return `CASE WHEN isfinite(${column}) THEN trunc(extract(epoch FROM ${column}) * 1000000)::text ELSE ${column}::text END`
    case "Time":
      return `trunc(extract(epoch FROM ${column}) * 1000000)::text`
    default:
      return `CASE WHEN ${column} IS DISTINCT FROM NULL THEN concat(${column}) END`
  }
}

interface Table {
  schema: TableSchema
  /** Columns of the target, by which rows are ordered. As at a real sink, a column that the source drops stays, with its values. */
  names: Array<string>
  rows: Map<string, { row: Row; count: number }>
  copying: boolean
  copied: bigint | undefined
  committed: Sequence.Sequence | undefined
  copiedRows: number
  /** Origin of the copy, or of the shape that came last. */
  origin: string | undefined
}

export class Mirror {
  readonly tables = new Map<TableId, Table>()
  /** Positions of watermarks, in order. */
  readonly watermarks: Array<bigint> = []
  /** `table sequence operation` of every change that came, also of those that were skipped. */
  readonly seen: Array<string> = []
  readonly problems: Array<string> = []
  /** Messages, each as `prefix: bytes`, after how many changes it came. */
  readonly messages: Array<{ readonly prefix: string; readonly content: Uint8Array; readonly after: number }> = []
  unsentCells = 0
  /** Tables may be copied again though nothing is known to have happened to them. */
  recopies = false
  acknowledged = 0n

  /** What a real sink would know after a crash: complete copies, and committed changes. */
  get positions(): ReadonlyMap<TableId, TablePosition> {
    return new Map(
      [...this.tables].map((
        [id, { committed, copied, origin }]
      ) => [
        id,
        copied === undefined ? { copied, committed: undefined } : { copied, committed, origin }
      ])
    )
  }

  /** The identity of a row within its table. */
  private keyOf(table: Table, row: Row): string {
    const { columns, identity } = table.schema
    const indexes = identity._tag === "Key" ? identity.columns : columns.keys()
    return JSON.stringify([...indexes].map((index) => row[this.place(table, columns[index]?.name ?? "")] ?? null))
  }

  private place(table: Table, name: string): number {
    return table.names.indexOf(name)
  }

  private reshape(table: Table, schema: TableSchema): void {
    table.schema = schema
    for (const { name } of schema.columns) if (!table.names.includes(name)) table.names.push(name)
    const rows = [...table.rows.values()]
    table.rows = new Map(rows.map((held) => [this.keyOf(table, held.row), held]))
  }

  private table(schema: TableSchema): Table {
    const id = tableId(schema.table)
    const known = this.tables.get(id)
    if (known !== undefined) return known
    const made: Table = {
      schema,
      names: schema.columns.map(({ name }) => name),
      rows: new Map(),
      copying: false,
      origin: undefined,
      copied: undefined,
      committed: undefined,
      copiedRows: 0
    }
    this.tables.set(id, made)
    return made
  }

  /** The tables of a run are known: copies of others don't count any more. */
  begin(schemas: ReadonlyArray<TableSchema>): void {
    const ids = new Set(schemas.map(({ table }) => tableId(table)))
    for (const [id, table] of this.tables) if (!ids.has(id)) table.copied = undefined
  }

  /** A new run begins: what it emits first may have been emitted before. */
  restart(): void {
    this.watermarks.length = 0
    this.acknowledged = 0n
  }

  apply(element: Element): void {
    switch (element._tag) {
      case "SnapshotBegin": {
        const table = this.table(element.table)
        if (table.copied !== undefined && table.origin === element.table.origin && !this.recopies) {
          this.problem(`${element.table.table.name}: copied twice`)
        }
        Object.assign(table, { rows: new Map(), names: [], copying: true, copied: undefined, copiedRows: 0 })
        return this.reshape(table, element.table)
      }
      case "SnapshotRows": {
        const table = this.table(element.batch.table)
        if (!table.copying) this.problem(`${element.batch.table.table.name}: rows outside of a copy`)
        table.copiedRows += element.batch.rows
        return this.rows(table, element.batch, element.position)
      }
      case "SnapshotEnd": {
        const table = this.table(element.table)
        if (!table.copying) this.problem(`${element.table.table.name}: end without a beginning`)
        if (table.copiedRows !== element.rows) {
          this.problem(`${element.table.table.name}: ${table.copiedRows} of ${element.rows} rows`)
        }
        Object.assign(table, { copying: false, copied: element.position, origin: element.table.origin })
        return
      }
      case "Rows":
        return this.rows(this.table(element.batch.table), element.batch, undefined)
      case "Truncate": {
        const table = this.table(element.table)
        if (!this.isNew(table, element.sequence, "truncate")) return
        table.rows.clear()
        return
      }
      case "Schema": {
        const table = this.table(element.table)
        table.origin = element.table.origin ?? table.origin
        return this.reshape(table, element.table)
      }
      case "Watermark":
        if (element.position < (this.watermarks.at(-1) ?? 0n)) this.problem("watermarks go back")
        this.watermarks.push(element.position)
        this.acknowledged = element.position
        return
      case "Message":
        this.messages.push({ prefix: element.prefix, content: element.content, after: this.seen.length })
        return
    }
  }

  private problem(text: string): void {
    this.problems.push(text)
  }

  private isNew(table: Table, sequence: Sequence.Sequence, operation: string): boolean {
    this.seen.push(`${tableId(table.schema.table)} ${Sequence.format(sequence)} ${operation}`)
    if (table.copied === undefined) this.problem(`${table.schema.table.name}: a change before its copy`)
    if (table.copied !== undefined && sequence.commit < table.copied) {
      this.problem(`${table.schema.table.name}: a copied change`)
    }
    if (table.committed !== undefined && Sequence.compare(sequence, table.committed) <= 0) return false
    table.committed = sequence
    return true
  }

  private rows(table: Table, batch: ChangeBatch.ChangeBatch, position: bigint | undefined): void {
    const { records } = batch
    const operations = ChangeBatch.child(records, ChangeBatch.MetadataColumns.op)
    const unsent = ChangeBatch.child(records, ChangeBatch.MetadataColumns.unsent)
    const places = batch.table.columns.map(({ name }) => this.place(table, name))
    let oldRow: Row | undefined
    for (let index = 0; index < batch.rows; index++) {
      const operation = raw(operations, index)
      const row: Array<Cell> = table.names.map(() => null)
      batch.table.columns.forEach((column, at) => {
        row[places[at] ?? -1] = cell(
          column.type,
          ChangeBatch.child(records, ChangeBatch.metadataColumns + at),
          index
        )
      })
      const sequence = ChangeBatch.sequenceAt(records, index)
      if (operation === ChangeBatch.Operation.Read) {
        if (sequence.commit !== position || sequence.ordinal !== 0n) this.problem("a copied row has another position")
        this.insert(table, row)
        continue
      }
      if (!this.isNew(table, sequence, String(operation))) continue
      const mask = isNull(unsent, index) ? undefined : bytesOf(unsent, index)
      const complete = (from: Row | undefined): Row =>
        row.map((value, place) => {
          const at = places.indexOf(place)
          if (at === -1) return from?.[place] ?? null
          if (mask === undefined || ((mask[at >> 3] ?? 0) & (1 << (at & 7))) === 0) return value
          this.unsentCells++
          return from?.[place] ?? null
        })
      switch (operation) {
        case ChangeBatch.Operation.Insert:
          this.insert(table, row)
          break
        case ChangeBatch.Operation.Update:
          this.insert(table, complete(this.remove(table, row)))
          break
        case ChangeBatch.Operation.Delete:
          this.remove(table, row)
          break
        case ChangeBatch.Operation.KeyChangeOld:
          oldRow = this.remove(table, row)
          break
        case ChangeBatch.Operation.KeyChangeNew:
          if (oldRow === undefined) this.problem("a new key without its old one")
          this.insert(table, complete(oldRow))
          oldRow = undefined
          break
      }
    }
    if (oldRow !== undefined) this.problem("an old key without its new one in the same batch")
  }

  private insert(table: Table, row: Row): void {
    const key = this.keyOf(table, row)
    const held = table.rows.get(key)
    if (held === undefined) table.rows.set(key, { row, count: 1 })
    else if (table.schema.identity._tag === "Key") this.problem(`${table.schema.table.name}: row ${key} came twice`)
    else held.count++
  }

  private remove(table: Table, row: Row): Row | undefined {
    const key = this.keyOf(table, row)
    const held = table.rows.get(key)
    if (held === undefined) {
      this.problem(`${table.schema.table.name}: a change of ${key}, which isn't there`)
      return undefined
    }
    if (held.count > 1) held.count--
    else table.rows.delete(key)
    return held.row
  }

  /** Differences between the model and the server, with everything the model complained about. */
  differences(
    pg: EmbeddedPostgres,
    /** What stands after FROM for a table of which only some rows are replicated. */
    from: Readonly<Record<TableId, string>> = {}
  ): Effect.Effect<ReadonlyArray<string>> {
    return Effect.gen({ self: this }, function*() {
      const found = [...this.problems]
      for (const [id, table] of this.tables) {
        const { columns, table: name } = table.schema
        const list = columns.map((column, index) => `${canonical(column.name, column.type)} AS c${index}`).join(", ")
        const rows = yield* Effect.orDie(pg.query(`SELECT ${list} FROM ${from[id] ?? Sql.table(name)}`))
        const expected = rows.map((row) =>
          JSON.stringify(columns.map(({ type }, index) => canonicalText(type, row[`c${index}`])))
        ).sort()
        const actual = [...table.rows.values()].flatMap(({ count, row }) =>
          Array.from(
            { length: count },
            () => JSON.stringify(columns.map((column) => row[this.place(table, column.name)] ?? null))
          )
        ).sort()
        if (expected.length !== actual.length) found.push(`${id}: ${actual.length} rows instead of ${expected.length}`)
        for (let index = 0; index < Math.max(expected.length, actual.length); index++) {
          if (expected[index] === actual[index]) continue
          found.push(`${id}: ${actual[index]?.slice(0, 500)} instead of ${expected[index]?.slice(0, 500)}`)
          break
        }
      }
      return found
    })
  }
}
