/**
 * A model of what a sink does with a source's elements: it holds each table in memory, and compares it with the server.
 *
 * It applies changes as a mirror has to, and complains about whatever the contract forbids: sequences that go back, rows
 * outside of a copy, changes of rows it doesn't have. Changes that come beside a copy wait in a journal until it is complete; a row
 * of a copy supersedes changes before its snapshot. Cells are held as text in one canonical form per logical type.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type { Element, SnapshotBegin } from "@etl-stream/core/Element"
import {
  dateInfinity,
  dateNegativeInfinity,
  type LogicalType,
  timestampInfinity,
  timestampNegativeInfinity
} from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TablePosition, UnfinishedCopy } from "@etl-stream/core/Sink"
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

/** A value that was not sent and that the row it is of doesn't have either: never equal to what the server holds. */
const lost = "a lost value"

interface Held {
  row: Row
  count: number
  /** Commit position of the change that it came by, or the position of the snapshot that it was read in. */
  position: bigint
}

/** Rows of a chunk that hasn't ended. */
interface OpenChunk {
  readonly position: bigint
  readonly rows: Array<Row>
}

interface Table {
  schema: TableSchema
  /** Columns of the target, by which rows are ordered. As at a real sink, a column that the source drops stays, with its values. */
  names: Array<string>
  rows: Map<string, Held>
  /** The copy that is under way, or was cut off. */
  copy: { readonly begin: SnapshotBegin; readonly chunks: Map<number, bigint>; rows: number } | undefined
  /** Whether it goes on in this run. */
  copying: boolean
  open: Map<number, OpenChunk>
  /** Changes that came beside the copy. */
  journal: Array<readonly [commit: bigint, change: () => void]>
  copied: bigint | undefined
  settled: bigint | undefined
  committed: Sequence.Sequence | undefined
  /** Rows of the last copy. */
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
  /** Chunks of every copy that were read in this run, by table. */
  readonly read: Array<readonly [table: string, chunk: number, position: bigint]> = []

  /** What a real sink would know after a crash: complete copies, the chunks of others, and committed changes. */
  get positions(): ReadonlyMap<TableId, TablePosition> {
    return new Map([...this.tables].map(([id, table]): readonly [TableId, TablePosition] => {
      const { committed, copied, origin, settled } = table
      if (copied !== undefined) return [id, { copied, committed, origin, settled }]
      const copying = this.unfinished(table)
      return [id, { copied, copying, committed: copying === undefined ? undefined : committed }]
    }))
  }

  /** Whether changes have come and no table is being copied. */
  get inStep(): boolean {
    return this.watermarks.length > 0 && [...this.tables.values()].every(({ copying }) => !copying)
  }

  private unfinished({ copy }: Table): UnfinishedCopy | undefined {
    if (copy?.begin.plan === undefined) return undefined
    const { begin: { plan, position, table: { origin } }, chunks, rows } = copy
    return { position, plan, origin, chunks: new Map(chunks), rows }
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
    const before = new Map(table.schema.columns.map(({ id, name }) => [id, name]))
    for (const { id, name } of schema.columns) {
      const old = id === undefined ? undefined : before.get(id)
      if (old === undefined || old === name) continue
      // Which of the two holds what is beyond it: it has to be copied again.
      if (table.names.includes(name)) Object.assign(table, { copied: undefined, copy: undefined })
      else table.names = table.names.map((other) => other === old ? name : other)
    }
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
      copy: undefined,
      copying: false,
      open: new Map(),
      journal: [],
      origin: undefined,
      copied: undefined,
      settled: undefined,
      committed: undefined,
      copiedRows: 0
    }
    this.tables.set(id, made)
    return made
  }

  /** The tables of a run are known, in the shapes that they are opened in: copies of others don't count any more. */
  begin(schemas: ReadonlyArray<TableSchema>): void {
    for (const schema of schemas) {
      const table = this.tables.get(tableId(schema.table))
      if (table !== undefined) {
        this.reshape(table, { ...schema, ...(table.origin === undefined ? {} : { origin: table.origin }) })
      }
    }
    const ids = new Set(schemas.map(({ table }) => tableId(table)))
    for (const [id, table] of this.tables) {
      if (!ids.has(id)) Object.assign(table, { copied: undefined, copy: undefined })
    }
  }

  /** A new run begins: what it emits first may have been emitted before. */
  restart(): void {
    this.watermarks.length = 0
    this.acknowledged = 0n
    this.read.length = 0
    for (const table of this.tables.values()) {
      table.copying = false
      table.open.clear()
    }
  }

  apply(element: Element): void {
    switch (element._tag) {
      case "SnapshotBegin":
        return this.beginCopy(this.table(element.table), element)
      case "SnapshotRows": {
        const { batch, chunk, position } = element
        const table = this.table(batch.table)
        if (!table.copying) this.problem(`${batch.table.table.name}: rows outside of a copy`)
        if (table.copy?.chunks.has(chunk) === true) this.problem(`${batch.table.table.name}: chunk ${chunk} came again`)
        const open = table.open.get(chunk) ?? { position, rows: [] }
        table.open.set(chunk, open)
        this.copiedRows(table, batch, open)
        return
      }
      case "SnapshotChunk": {
        const { chunk, position, rows } = element
        const { name } = element.table.table
        const table = this.table(element.table)
        const { copy } = table
        if (copy === undefined || !table.copying) return this.problem(`${name}: a chunk outside of a copy`)
        const came = table.open.get(chunk)?.rows ?? []
        if (came.length !== rows) this.problem(`${name}: ${came.length} of ${rows} rows`)
        for (const row of came) this.insert(table, row, position)
        table.open.delete(chunk)
        copy.chunks.set(chunk, position)
        copy.rows += rows
        table.copiedRows += rows
        this.read.push([name, chunk, position])
        return
      }
      case "SnapshotEnd": {
        const table = this.table(element.table)
        const { name } = element.table.table
        if (!table.copying || table.copy?.begin.position !== element.position) {
          return this.problem(`${name}: end without a beginning`)
        }
        if (table.open.size > 0 || table.copy.chunks.size !== element.chunks) {
          this.problem(`${name}: chunks are missing`)
        }
        for (const position of table.copy.chunks.values()) {
          if (position > element.settled) this.problem(`${name}: settled before its last chunk`)
        }
        const { position, settled } = element
        const { journal } = table
        Object.assign(table, {
          copying: false,
          copy: undefined,
          journal: [],
          copied: position,
          settled,
          origin: element.table.origin
        })
        // Rows without a key can't be told apart: changes that the copy holds already must not be applied again.
        const keyed = element.table.identity._tag === "Key"
        for (const [commit, change] of journal) if (keyed || commit >= settled) change()
        return
      }
      case "TableLeft":
        Object.assign(this.table(element.table), { copied: undefined, copy: undefined, copying: false })
        return
      case "Rows":
        return this.changes(this.table(element.batch.table), element.batch)
      case "Truncate": {
        const table = this.table(element.table)
        const { commit } = element.sequence
        if (!this.isNew(table, element.sequence, "truncate")) return
        return this.later(table, commit, () => {
          for (const [key, { position }] of table.rows) if (position <= commit) table.rows.delete(key)
        })
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

  private beginCopy(table: Table, begin: SnapshotBegin): void {
    const { name } = begin.table.table
    if (begin.resumed) {
      const unfinished = this.unfinished(table)
      if (unfinished?.position !== begin.position || unfinished.plan !== begin.plan) {
        this.problem(`${name}: resumes another copy`)
      }
      table.copying = true
      return
    }
    if (table.copied !== undefined && table.origin === begin.table.origin && !this.recopies) {
      this.problem(`${name}: copied twice`)
    }
    Object.assign(table, {
      rows: new Map(),
      names: [],
      copy: { begin, chunks: new Map(), rows: 0 },
      copying: true,
      open: new Map(),
      journal: [],
      copied: undefined,
      settled: undefined,
      committed: undefined,
      copiedRows: 0
    })
    this.reshape(table, begin.table)
  }

  private isNew(table: Table, sequence: Sequence.Sequence, operation: string): boolean {
    this.seen.push(`${tableId(table.schema.table)} ${Sequence.format(sequence)} ${operation}`)
    const from = table.copied ?? table.copy?.begin.position
    if (from === undefined) this.problem(`${table.schema.table.name}: a change before its copy`)
    else if (sequence.commit < from) this.problem(`${table.schema.table.name}: a copied change`)
    if (table.committed !== undefined && Sequence.compare(sequence, table.committed) <= 0) return false
    table.committed = sequence
    return true
  }

  /** Applies a change, once the table's copy is complete. */
  private later(table: Table, commit: bigint, change: () => void): void {
    if (table.copied === undefined) table.journal.push([commit, change])
    else change()
  }

  /** The cells of a batch's row, by the target's columns. */
  private cells(table: Table, batch: ChangeBatch.ChangeBatch, index: number): Array<Cell> {
    const row: Array<Cell> = table.names.map(() => null)
    batch.table.columns.forEach((column, at) => {
      row[this.place(table, column.name)] = cell(
        column.type,
        ChangeBatch.child(batch.records, ChangeBatch.metadataColumns + at),
        index
      )
    })
    return row
  }

  private copiedRows(table: Table, batch: ChangeBatch.ChangeBatch, { position, rows }: OpenChunk): void {
    const operations = ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.op)
    for (let index = 0; index < batch.rows; index++) {
      const sequence = ChangeBatch.sequenceAt(batch.records, index)
      if (
        raw(operations, index) !== ChangeBatch.Operation.Read || sequence.commit !== position || sequence.ordinal !== 0n
      ) this.problem("a copied row of another kind or position")
      rows.push(this.cells(table, batch, index))
    }
  }

  private changes(table: Table, batch: ChangeBatch.ChangeBatch): void {
    const { records } = batch
    const operations = ChangeBatch.child(records, ChangeBatch.MetadataColumns.op)
    const unsent = ChangeBatch.child(records, ChangeBatch.MetadataColumns.unsent)
    const places = batch.table.columns.map(({ name }) => this.place(table, name))
    let old: { row?: Row | undefined } | undefined
    for (let index = 0; index < batch.rows; index++) {
      const operation = raw(operations, index)
      const row = this.cells(table, batch, index)
      const sequence = ChangeBatch.sequenceAt(records, index)
      if (!this.isNew(table, sequence, String(operation))) continue
      const { commit } = sequence
      const mask = isNull(unsent, index) ? undefined : bytesOf(unsent, index)
      const complete = (from: Row | undefined): Row =>
        row.map((value, place) => {
          const at = places.indexOf(place)
          if (at === -1) return from?.[place] ?? null
          if (mask === undefined || ((mask[at >> 3] ?? 0) & (1 << (at & 7))) === 0) return value
          this.unsentCells++
          return from === undefined ? lost : from[place] ?? null
        })
      switch (operation) {
        case ChangeBatch.Operation.Insert:
          this.later(table, commit, () => this.insert(table, row, commit))
          break
        case ChangeBatch.Operation.Update:
          this.later(table, commit, () => this.insert(table, complete(this.remove(table, row, commit)), commit))
          break
        case ChangeBatch.Operation.Delete:
          this.later(table, commit, () => void this.remove(table, row, commit))
          break
        case ChangeBatch.Operation.KeyChangeOld: {
          const gone: { row?: Row | undefined } = {}
          old = gone
          this.later(table, commit, () => {
            gone.row = this.remove(table, row, commit)
          })
          break
        }
        case ChangeBatch.Operation.KeyChangeNew: {
          const before = old
          if (before === undefined) this.problem("a new key without its old one")
          this.later(table, commit, () => this.insert(table, complete(before?.row), commit))
          old = undefined
          break
        }
        default:
          this.problem("a change of an unknown kind")
      }
    }
    if (old !== undefined) this.problem("an old key without its new one in the same batch")
  }

  private insert(table: Table, row: Row, position: bigint): void {
    const key = this.keyOf(table, row)
    const held = table.rows.get(key)
    if (held === undefined) table.rows.set(key, { row, count: 1, position })
    else if (held.position > position) return
    else if (table.schema.identity._tag === "Key") {
      // A row that was removed since is still there when its chunk was read before and its removal is yet to come.
      if (position >= (table.settled ?? 0n)) this.problem(`${table.schema.table.name}: row ${key} came twice`)
      table.rows.set(key, { row, count: 1, position })
    } else held.count++
  }

  /** Removes the row that a change at `commit` is about: one that was read later isn't. */
  private remove(table: Table, row: Row, commit: bigint): Row | undefined {
    const key = this.keyOf(table, row)
    const held = table.rows.get(key)
    if (held === undefined || held.position > commit) {
      if (held === undefined && commit >= (table.settled ?? 0n)) {
        this.problem(`${table.schema.table.name}: a change of ${key}, which isn't there`)
      }
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
