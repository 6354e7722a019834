/**
 * One table of an `ElementMirror`: rows by their identity, the copy that is under way, and changes that wait for its end.
 *
 * A change that came before the snapshot in which a row was read is superseded by it. Changes that come beside a copy wait in a journal until it is complete.
 */
import type { SnapshotBegin } from "@etl-stream/core/Element"
import type * as Sequence from "@etl-stream/core/Sequence"
import type { TablePosition } from "@etl-stream/core/Sink"
import type { TableSchema } from "@etl-stream/core/TableSchema"

/** Canonical text (`CanonicalCell`), or null. */
export type Cell = string | null
export type Cells = ReadonlyArray<Cell>

interface Held {
  readonly cells: Cells
  /** More than one only in a table without a key. */
  count: number
  /** Commit position of the change that it came by, or position of the snapshot that it was read in. */
  readonly position: bigint
}

interface OpenChunk {
  readonly position: bigint
  readonly rows: Array<Cells>
}

interface Copy {
  readonly begin: SnapshotBegin
  readonly chunks: Map<number, bigint>
  rows: number
}

export class MirroredTable {
  schema: TableSchema
  /** Columns, by which cells are ordered: one that the source drops stays. */
  names: Array<string>
  private rows = new Map<string, Held>()
  private copy: Copy | undefined
  private open = new Map<number, OpenChunk>()
  private journal: Array<readonly [commit: bigint, change: () => void]> = []
  /** Whether a copy goes on in this run. */
  copying = false
  copied: bigint | undefined
  settled: bigint | undefined
  committed: Sequence.Sequence | undefined
  origin: string | undefined
  private readonly problem: (text: string) => void

  constructor(schema: TableSchema, problem: (text: string) => void) {
    this.schema = schema
    this.names = schema.columns.map(({ name }) => name)
    this.problem = problem
  }

  /** What a sink with these rows tells when the table is opened. */
  get position(): TablePosition {
    const { committed, copied, copy, origin, settled } = this
    if (copied !== undefined) return { copied, committed, origin, settled }
    const plan = copy?.begin.plan
    if (copy === undefined || plan === undefined) return { copied: undefined, committed: undefined }
    const { begin: { position, table }, chunks, rows } = copy
    return {
      copied: undefined,
      committed,
      copying: { position, plan, origin: table.origin, chunks: new Map(chunks), rows }
    }
  }

  /** Rows by the names of their columns; one that is there several times comes as often. */
  get records(): ReadonlyArray<Readonly<Record<string, Cell>>> {
    return [...this.rows.values()].flatMap(({ cells, count }) => {
      const record = Object.fromEntries(this.names.map((name, index) => [name, cells[index] ?? null]))
      return Array.from({ length: count }, () => record)
    })
  }

  /** A crash: what wasn't complete is gone. */
  restart(): void {
    this.copying = false
    this.open.clear()
  }

  /** The table is no longer read: its copy doesn't count. */
  leave(): void {
    this.copied = undefined
    this.copy = undefined
    this.copying = false
  }

  reshape(schema: TableSchema): void {
    const before = new Map(this.schema.columns.map(({ id, name }) => [id, name]))
    for (const { id, name } of schema.columns) {
      const old = id === undefined ? undefined : before.get(id)
      if (old === undefined || old === name) continue
      // Which of the two has the values is more than a sink can know: it has to be copied again.
      if (this.names.includes(name)) this.leave()
      else this.names = this.names.map((other) => other === old ? name : other)
    }
    this.schema = schema
    for (const { name } of schema.columns) if (!this.names.includes(name)) this.names.push(name)
    this.rows = new Map([...this.rows.values()].map((held) => [this.keyOf(held.cells), held]))
  }

  begin(begin: SnapshotBegin): void {
    if (begin.resumed) {
      const { copying } = this.position
      if (copying?.position !== begin.position || copying.plan !== begin.plan) {
        this.problem("a copy goes on that the sink didn't give back")
      }
      this.copying = true
      return
    }
    this.rows.clear()
    this.names = []
    this.copy = { begin, chunks: new Map(), rows: 0 }
    this.copying = true
    this.open.clear()
    this.journal = []
    this.copied = undefined
    this.settled = undefined
    this.committed = undefined
    this.reshape(begin.table)
  }

  read(chunk: number, position: bigint, rows: ReadonlyArray<Cells>): void {
    if (!this.copying) this.problem("rows of a copy outside of one")
    const open = this.open.get(chunk) ?? { position, rows: [] }
    this.open.set(chunk, open)
    open.rows.push(...rows)
  }

  endChunk(chunk: number, position: bigint, rows: number): void {
    const { copy } = this
    if (copy === undefined || !this.copying) return this.problem("the end of a chunk outside of a copy")
    const came = this.open.get(chunk)?.rows ?? []
    if (came.length !== rows) {
      this.problem(`${came.length} rows of chunk ${chunk} instead of the ${rows} that its end says`)
    }
    for (const cells of came) this.insert(cells, position)
    this.open.delete(chunk)
    copy.chunks.set(chunk, position)
    copy.rows += rows
  }

  endCopy(position: bigint, chunks: number, settled: bigint, schema: TableSchema): void {
    const { copy } = this
    if (copy === undefined || !this.copying || copy.begin.position !== position) {
      return this.problem("the end of a copy that didn't begin")
    }
    if (this.open.size > 0 || copy.chunks.size !== chunks) {
      this.problem(`the end of a copy with ${copy.chunks.size} chunks instead of ${chunks}`)
    }
    for (const at of copy.chunks.values()) if (at > settled) this.problem("a copy that settled before its last chunk")
    const { journal } = this
    this.journal = []
    this.copying = false
    this.copy = undefined
    this.copied = position
    this.settled = settled
    this.origin = schema.origin
    // Rows without a key can't be told apart: changes that the copy has already must not be applied again.
    const keyed = schema.identity._tag === "Key"
    for (const [commit, change] of journal) if (keyed || commit >= settled) change()
  }

  /** Whether a change is new to the sink; if so, the sink has it from now on. */
  takes(sequence: Sequence.Sequence, compare: typeof Sequence.compare): boolean {
    const from = this.copied ?? this.copy?.begin.position
    if (from === undefined) this.problem("a change before there is a copy")
    else if (sequence.commit < from) this.problem("a change that its copy has already")
    if (this.committed !== undefined && compare(sequence, this.committed) <= 0) return false
    this.committed = sequence
    return true
  }

  /** Applies a change, once the copy is complete. */
  later(commit: bigint, change: () => void): void {
    if (this.copied === undefined) this.journal.push([commit, change])
    else change()
  }

  truncate(commit: bigint): void {
    for (const [key, { position }] of this.rows) if (position <= commit) this.rows.delete(key)
  }

  insert(cells: Cells, position: bigint): void {
    const key = this.keyOf(cells)
    const held = this.rows.get(key)
    if (held === undefined) this.rows.set(key, { cells, count: 1, position })
    else if (this.schema.identity._tag !== "Key") held.count++
    else if (held.position <= position) {
      // A row that was removed since is still there when its chunk was read before.
      if (position >= (this.settled ?? 0n)) this.problem("a row that is there already")
      this.rows.set(key, { cells, count: 1, position })
    }
  }

  /** Removes the row that a change at `commit` is about, and gives it; a row that was read later stays. */
  remove(cells: Cells, commit: bigint): Cells | undefined {
    const key = this.keyOf(cells)
    const held = this.rows.get(key)
    if (held === undefined || held.position > commit) {
      if (held === undefined && commit >= (this.settled ?? 0n)) this.problem("a change of a row that isn't there")
      return undefined
    }
    if (held.count > 1) held.count--
    else this.rows.delete(key)
    return held.cells
  }

  /** The row with this identity is there and was read after `commit`. */
  supersedes(cells: Cells, commit: bigint): boolean {
    return (this.rows.get(this.keyOf(cells))?.position ?? -1n) > commit
  }

  private keyOf(cells: Cells): string {
    const { columns, identity } = this.schema
    const indexes = identity._tag === "Key" ? identity.columns : columns.keys()
    return JSON.stringify([...indexes].map((index) => cells[this.names.indexOf(columns[index]?.name ?? "")] ?? null))
  }
}
