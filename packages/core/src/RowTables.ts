/**
 * The tables of a row-wise source that is being read: how far each is, its rows that aren't emitted yet, and the elements that are made of them.
 */
import { ConnectorError } from "./ConnectorError.ts"
import type { Element } from "./Element.ts"
import type { Quarantine } from "./Quarantine.ts"
import { type At, RowBatches } from "./RowBatches.ts"
import type { RowChange } from "./RowChange.ts"
import type { Definition } from "./RowSource.ts"
import type { RowTable } from "./RowTable.ts"
import * as Sequence from "./Sequence.ts"
import type { SourceContext } from "./Source.ts"
import { type TableId, tableId } from "./TableSchema.ts"

/** All tables together may have so many times the bytes of a batch in the making. */
const batchesInMaking = 4

export interface Table {
  readonly id: TableId
  readonly table: RowTable
  /** Rows that aren't emitted yet, and their size. */
  batches: RowBatches
  bytes: number
  /** The sink holds, or has been given, everything up to here; undefined: it needs a copy. */
  done: bigint | undefined
  /** It can't go on, or was in quarantine when the run began: until a new copy nothing of it is emitted. */
  idle: boolean
  /** The quarantine that its last copy ends: it may be shown still for a while. */
  ended: Quarantine | undefined
}

export class RowTables {
  /** Made, and not pulled yet. */
  readonly ready: Array<Element> = []
  private readonly definition: Definition
  private readonly context: SourceContext
  private readonly tables = new Map<TableId, Table>()
  private readonly byTable = new Map<RowTable, Table>()
  /** Bytes of all rows that aren't emitted yet. */
  private making = 0

  constructor(definition: Definition, context: SourceContext, tables: ReadonlyArray<RowTable>) {
    this.definition = definition
    this.context = context
    for (const table of tables) {
      const id = tableId(table.schema.table)
      const held = context.positions.get(id)
      if (context.unwanted.has(id)) continue
      const isCopied = held?.copied !== undefined && held.origin === table.schema.origin
      const state: Table = {
        id,
        table,
        batches: new RowBatches(table.schema, definition.plugin),
        bytes: 0,
        // A piece may be there in part.
        done: isCopied
          ? Sequence.max(Sequence.before(held.committed?.commit ?? 0n), Sequence.before(held.copied ?? 0n)).commit
          : undefined,
        idle: context.quarantined(id) !== undefined,
        ended: undefined
      }
      this.tables.set(id, state)
      this.byTable.set(table, state)
    }
  }

  all(): ReadonlyArray<Table> {
    return [...this.tables.values()]
  }

  get(table: TableId): Table | undefined {
    return this.tables.get(table)
  }

  protocol(message: string): ConnectorError {
    return new ConnectorError({
      reason: "Protocol",
      plugin: this.definition.plugin,
      message,
      hint: "This is a defect of the source plugin: please report it. Nothing was acknowledged that isn't durable."
    })
  }

  /** Whether nothing of the table is wanted until it is copied anew. */
  isAside({ ended, id, idle }: Table): boolean {
    const now = this.context.quarantined(id)
    return idle || (now !== undefined && now !== ended)
  }

  /** Emits what a table has gathered. */
  private flush(state: Table): void {
    if (state.batches.rows > 0) this.ready.push({ _tag: "Rows", batch: state.batches.finish() })
    this.making -= state.bytes
    state.bytes = 0
  }

  flushAll(): void {
    for (const state of this.tables.values()) this.flush(state)
  }

  /** Emits what is large enough. */
  private flushLarge(state: Table): void {
    const { batches } = state
    const { batchBytes = 1 << 20, batchRows = 1024 } = this.definition
    const { bytes } = batches
    this.making += bytes - state.bytes
    state.bytes = bytes
    if (batches.rows >= batchRows || bytes >= batchBytes) this.flush(state)
    else if (this.making >= batchesInMaking * batchBytes) this.flushAll()
  }

  /** Forgets what a table has gathered. */
  private clear(state: Table): void {
    this.making -= state.bytes
    state.bytes = 0
    state.batches = new RowBatches(state.table.schema, this.definition.plugin)
  }

  /** Sets a table aside. */
  fail(state: Table, error: ConnectorError): void {
    state.idle = true
    this.clear(state)
    this.ready.push({ _tag: "TableFailed", table: state.table.schema, error })
  }

  /** A copy of the table begins: what commits at `position` or later comes after it. */
  renew(state: Table, position: bigint): void {
    state.idle = false
    state.ended = this.context.quarantined(state.id)
    state.done = position - 1n
    this.clear(state)
  }

  private append({ batches, table }: Table, change: RowChange, at: At): ConnectorError | undefined {
    switch (change._tag) {
      case "Insert":
        return batches.insert(change.row, at)
      case "Update":
        return batches.update(change.row, at)
      case "Rekey":
        return batches.rekey(change.key, change.row, at)
      case "Remove":
        return batches.remove(change.key, at)
      case "Truncate": {
        const sequence = Sequence.make(at.position, BigInt(at.ordinal))
        this.ready.push({ _tag: "Truncate", table: table.schema, sequence, commitTime: at.commitTime })
        return undefined
      }
      case "Fail":
        return change.error
    }
  }

  /** Takes a change; what is wrong with it when that concerns more than its table. */
  add(change: RowChange, at: At): ConnectorError | undefined {
    const id = this.byTable.get(change.table)?.id ?? tableId(change.table.schema.table)
    const state = this.tables.get(id)
    if (state === undefined) {
      return this.context.unwanted.has(id)
        ? undefined
        : this.protocol(`A change came for ${id}, which isn't among the source's tables`)
    }
    if (this.isAside(state) || (state.done !== undefined && at.position <= state.done)) return undefined
    if (change._tag === "Truncate") this.flush(state)
    const error = this.append(state, change, at)
    if (error !== undefined) this.fail(state, error)
    else this.flushLarge(state)
    return undefined
  }
}
