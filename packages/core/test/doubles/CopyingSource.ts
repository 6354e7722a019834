/** A source of tables without changes that copies each of them when the sink holds no copy, and again when it is asked to. */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { ConnectorError } from "../../src/ConnectorError.ts"
import type { Element } from "../../src/Element.ts"
import type { Source, SourceContext } from "../../src/Source.ts"
import type { TableId, TableSchema } from "../../src/TableSchema.ts"
import { tableId } from "../../src/TableSchema.ts"
import { batch } from "./Tables.ts"

export class CopyingSource {
  readonly tables: ReadonlyArray<TableSchema>
  /** Every call of `resync`. */
  readonly asked: Array<TableId> = []
  /** What the sink said when the last run began. */
  copied: ReadonlyArray<TableId> = []
  /** Called when `resync` is, before anything else happens. */
  before: (table: TableId) => Effect.Effect<void, ConnectorError> = () => Effect.void
  /** Whether copies come to their end. */
  completes = true
  private position = 1n
  private queue: Queue.Queue<Element> | undefined

  constructor(tables: ReadonlyArray<TableSchema>) {
    this.tables = tables
  }

  private begin(table: TableSchema): Element {
    this.position += 10n
    return {
      _tag: "SnapshotBegin",
      table,
      position: this.position,
      plan: undefined,
      resumed: false,
      estimatedRows: undefined,
      estimatedBytes: undefined
    }
  }

  /** A copy of three rows, after its beginning. */
  private rest(table: TableSchema): ReadonlyArray<Element> {
    const { position } = this
    const rows = [1, 2, 3].map((id) => ({ op: 0 as const, commit: position, ordinal: 0n, values: [id, "x"] }))
    return [
      { _tag: "SnapshotRows", batch: batch(table, rows), position, chunk: 0 },
      ...this.completes
        ? [
          { _tag: "SnapshotChunk", table, position, chunk: 0, rows: rows.length } as const,
          { _tag: "SnapshotEnd", table, position, chunks: 1, settled: position } as const
        ]
        : []
    ]
  }

  source(): Source {
    return {
      tables: Effect.sync(() => this.tables),
      stream: ({ positions, quarantined }: SourceContext) =>
        Stream.unwrap(Effect.gen({ self: this }, function*() {
          // An element is offered when it is pulled.
          const queue = yield* Queue.make<Element>({ capacity: 0 })
          this.queue = queue
          this.copied = [...positions].filter(([, { copied }]) => copied !== undefined).map(([table]) => table)
          const missing = this.tables.filter(({ table }) =>
            positions.get(tableId(table))?.copied === undefined && quarantined(tableId(table)) === undefined
          )
          const first = missing.flatMap((table) => [this.begin(table), ...this.rest(table)])
          const mark: Element = { _tag: "Watermark", position: this.position + 1n, commitTime: undefined }
          return Stream.concat(Stream.fromIterable([...first, mark], { chunkSize: 1 }), Stream.fromQueue(queue))
        })),
      resync: Effect.fnUntraced({ self: this }, function*(id: TableId) {
        this.asked.push(id)
        yield* this.before(id)
        const table = this.tables.find(({ table }) => tableId(table) === id)
        const { queue } = this
        if (table === undefined || queue === undefined) {
          return yield* new ConnectorError({
            reason: "Missing",
            plugin: "test",
            message: `There is no table ${id}`,
            hint: "Look at the tables."
          })
        }
        yield* Queue.offer(queue, this.begin(table))
        yield* Effect.forkDetach(Queue.offerAll(queue, this.rest(table)))
      })
    }
  }
}
