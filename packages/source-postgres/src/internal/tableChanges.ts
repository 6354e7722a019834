/**
 * The changes of one table on their way into batches: its builder, its current shape, and where its copy ends.
 *
 * Batches are cut by rows and bytes, at every barrier and at the end of every view.
 */
import * as ChangeBatchBuilder from "@etl-stream/core/ChangeBatchBuilder"
import type { Element } from "@etl-stream/core/Element"
import type * as Sequence from "@etl-stream/core/Sequence"
import { type TableId, tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import { sameShape } from "./relation.ts"

export class TableChanges {
  readonly id: TableId
  rows = 0
  bytes = 0
  /** Nothing more comes of the table. */
  failed = false
  private readonly copiedHigh: number
  private readonly copiedLow: number
  private shape: TableSchema | undefined
  private accepted: TableSchema | undefined
  private builder: ChangeBatchBuilder.ChangeBatchBuilder | undefined

  /** `shape` is what the sink knows, undefined when it knows nothing; changes of commits below `copied` are in the copy. */
  constructor(id: TableId, shape: TableSchema | undefined, copied: bigint) {
    this.id = id
    this.shape = shape
    this.copiedHigh = Number(copied >> 32n)
    this.copiedLow = Number(copied & 0xffffffffn)
  }

  /** Whether a change of a commit at this position is part of the table's copy. */
  isCopied(high: number, low: number): boolean {
    return high < this.copiedHigh || (high === this.copiedHigh && low < this.copiedLow)
  }

  /** Whether rows of `schema` may be appended without `become`. */
  accepts(schema: TableSchema): boolean {
    return schema === this.accepted
  }

  /** Makes rows of `schema` welcome: a barrier, unless it has the shape that the table had. */
  become(schema: TableSchema, sequence: Sequence.Sequence, into: Array<Element>): void {
    this.accepted = schema
    if (this.shape !== undefined && sameShape(this.shape, schema)) return
    this.flush(into)
    this.shape = schema
    this.builder = undefined
    into.push({ _tag: "Schema", table: schema, sequence })
  }

  /** The builder of the current shape, which `become` has set. */
  get target(): ChangeBatchBuilder.ChangeBatchBuilder {
    return this.builder ??= new ChangeBatchBuilder.ChangeBatchBuilder(this.current)
  }

  get current(): TableSchema {
    if (this.shape === undefined) throw new TypeError("a table's changes came before its shape")
    return this.shape
  }

  /** Gives up what has gathered, half a row included, and everything that comes. */
  fail(): void {
    this.failed = true
    this.builder = undefined
    this.rows = 0
    this.bytes = 0
  }

  /** Bytes that its builder has kept since its last batch. */
  get held(): number {
    return this.builder?.held ?? 0
  }

  release(): void {
    if (this.rows === 0) this.builder = undefined
  }

  flush(into: Array<Element>): void {
    const { builder, rows } = this
    if (builder === undefined || rows === 0) return
    into.push({ _tag: "Rows", batch: builder.finish() })
    this.rows = 0
    this.bytes = 0
  }
}

/** The state of a table that the sink knows nothing of, or knows as `schema`. */
export const make = (
  schema: TableSchema,
  known: TableSchema | undefined,
  copied: ReadonlyMap<TableId, bigint>
): TableChanges => {
  const id = tableId(schema.table)
  return new TableChanges(id, known, copied.get(id) ?? 0n)
}
