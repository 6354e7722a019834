/**
 * One open table of a row-wise sink: what is done with each element, which position goes with it, and when it is durable.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { randomUUID } from "node:crypto"
import * as BatchSlice from "./BatchSlice.ts"
import { type ChangeBatch, Operation } from "./ChangeBatch.ts"
import { ConnectorError } from "./ConnectorError.ts"
import type { Rows, Schema, SnapshotBegin, SnapshotEnd, Truncate } from "./Element.ts"
import * as RowAside from "./RowAside.ts"
import * as RowPosition from "./RowPosition.ts"
import type { At, Definition, SinkRow } from "./RowSink.ts"
import { BatchRows, type RowView } from "./RowView.ts"
import * as Sequence from "./Sequence.ts"
import * as Sink from "./Sink.ts"
import type { TablePosition } from "./Sink.ts"
import { tableId, type TableSchema } from "./TableSchema.ts"

export interface Options {
  readonly definition: Definition
  readonly table: TableSchema
  readonly durable: (sequence: Sequence.Sequence) => Effect.Effect<void>
  readonly failed: (error: ConnectorError) => Effect.Effect<void>
  /** How often what was written is made durable. */
  readonly every: Duration.Duration
}

class SinkRows extends BatchRows implements SinkRow {
  private readonly before: BatchRows
  private readonly rows: number

  constructor(batch: ChangeBatch) {
    super(batch)
    this.rows = batch.rows
    this.before = new BatchRows(batch)
  }

  /** Whether it is the old row of a change of key, and the new one comes next. */
  isReplaced(): boolean {
    const { before, index } = this
    if (this.operation !== Operation.KeyChangeOld || index + 1 >= this.rows) return false
    before.index = index + 1
    return before.operation === Operation.KeyChangeNew
  }

  get old(): RowView | undefined {
    if (this.operation !== Operation.KeyChangeNew || this.index === 0) return undefined
    this.before.index = this.index - 1
    return this.before.operation === Operation.KeyChangeOld ? this.before : undefined
  }

  get change(): SinkRow["change"] {
    switch (this.operation) {
      case Operation.Delete:
      case Operation.KeyChangeOld:
        return "remove"
      case Operation.KeyChangeNew:
        return this.old === undefined ? "put" : "rekey"
      default:
        return "put"
    }
  }
}

/** The rows of a batch as they are to be written: of a change of key only the new row, which has the old one. */
export const sinkRows = (batch: ChangeBatch): Iterable<SinkRow> => ({
  *[Symbol.iterator]() {
    const view = new SinkRows(batch)
    for (let index = 0; index < batch.rows; index++) {
      view.index = index
      if (!view.isReplaced()) yield view
    }
  }
})

export const open = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<Sink.TableWriter, ConnectorError, Scope.Scope> {
    const { definition: { directory, open, plugin }, durable, every, failed } = options
    let { table } = options
    const id = tableId(table.table)
    const writer = yield* open(table)
    const aside = yield* RowAside.make(plugin, directory)
    const one = yield* Semaphore.make(1)

    const error = (reason: ConnectorError["reason"], message: string, hint: string): ConnectorError =>
      new ConnectorError({ reason, plugin, message, hint, table: id })

    const name = randomUUID()
    let previous = writer.position
    const found = previous === undefined ? RowPosition.none : RowPosition.parse(previous)
    if (found === undefined) {
      return yield* error(
        "Protocol",
        `What is stored as the position of the table ${id} is none that this sink has written`,
        "Remove what is stored there, and have the table copied again."
      )
    }
    let held: TablePosition = found
    /** Whether a copy is under way. */
    let copying = false
    /** The last change that was accepted and isn't reported durable. */
    let accepted: Sequence.Sequence | undefined

    /** Whether something was written since the last flush. */
    let dirty = false

    /** Does one thing and stores the position that goes with it. */
    const store = (next: TablePosition, act: (at: At) => Effect.Effect<void, ConnectorError>) =>
      Effect.suspend(() => {
        const position = RowPosition.format(next, name)
        return Effect.tap(act({ position, previous }), () =>
          Effect.sync(() => {
            previous = position
            held = next
            dirty = true
          }))
      })

    const report = Effect.suspend(() => {
      const last = accepted
      accepted = undefined
      return last === undefined ? Effect.void : durable(last)
    })
    const flush = (writer.flush ?? Effect.void).pipe(
      Effect.andThen(Effect.sync(() => {
        dirty = false
      })),
      Effect.andThen(report)
    )
    /** Makes durable what can't be lost any more. */
    const settled = writer.flush === undefined ? report : Effect.void

    const changed = (sequence: Sequence.Sequence, act: (at: At) => Effect.Effect<void, ConnectorError>) =>
      store({ ...held, committed: sequence }, act).pipe(
        Effect.andThen(Effect.sync(() => {
          accepted = sequence
        })),
        Effect.andThen(settled)
      )

    /** What comes below it is part of the copy: all chunks of a table without a key are of one snapshot. */
    const part = (): Sequence.Sequence | undefined =>
      table.identity._tag === "Key" || held.settled === undefined ? undefined : Sequence.before(held.settled)

    const rows = ({ batch }: Rows): Effect.Effect<void, ConnectorError> => {
      const left = BatchSlice.after(batch, part())
      return changed(batch.last, (at) => writer.write(left === undefined ? [] : sinkRows(left), at))
    }

    const truncate = ({ sequence }: Truncate): Effect.Effect<void, ConnectorError> => {
      const before = part()
      const isPart = before !== undefined && Sequence.compare(sequence, before) <= 0
      return changed(sequence, (at) => isPart ? writer.write([], at) : writer.clear(at))
    }

    const change = (element: Rows | Truncate): Effect.Effect<void, ConnectorError> =>
      Effect.suspend(() => element._tag === "Rows" ? rows(element) : truncate(element))

    const begin = Effect.fnUntraced(function*(element: SnapshotBegin) {
      if (element.resumed) {
        return yield* error(
          "Protocol",
          `The copy of the table ${id} should go on, but this sink begins each anew`,
          "This is a defect of the source plugin: please report it."
        )
      }
      copying = true
      accepted = undefined
      table = element.table
      yield* aside.clear
      yield* store({ ...RowPosition.none, origin: element.table.origin }, writer.clear)
      yield* flush
    })

    const end = Effect.fnUntraced(function*({ position, settled, table }: SnapshotEnd) {
      copying = false
      yield* store(
        { copied: position, settled, committed: undefined, origin: table.origin },
        (at) => writer.write([], at)
      )
      yield* flush
      // It may have been for hours, and meanwhile nothing else makes durable what is written.
      let flushed = yield* Clock.currentTimeMillis
      yield* aside.replay(Effect.fnUntraced(function*(element) {
        yield* change(element)
        if ((yield* Clock.currentTimeMillis) - flushed < Duration.toMillis(every)) return
        yield* flush
        flushed = yield* Clock.currentTimeMillis
      }))
    })

    const reshape = Effect.fnUntraced(function*(element: Schema) {
      const { reshape } = writer
      if (reshape === undefined) {
        return yield* error(
          "Unsupported",
          `The shape of the table ${id} has changed, and the sink can't change its table`,
          "Bring the table at the target to the new shape, then have it copied again."
        )
      }
      if (copying) {
        return yield* error(
          "Fenced",
          `The shape of the table ${id} has changed while it was copied`,
          "Nothing has to be done: the copy begins anew, with the new shape."
        )
      }
      table = element.table
      yield* store({ ...held, origin: element.table.origin }, (at) => reshape(element.table, at))
      yield* flush
    })

    const left = Effect.suspend(() => {
      copying = false
      accepted = undefined
      return aside.clear
    }).pipe(
      Effect.andThen(store(RowPosition.none, (at) => writer.write([], at))),
      Effect.andThen(flush)
    )

    const take = (element: Sink.TableElement): Effect.Effect<void, ConnectorError> =>
      Sink.match(element, {
        SnapshotBegin: begin,
        SnapshotRows: ({ batch }) => store(held, (at) => writer.write(sinkRows(batch), at)),
        SnapshotChunk: () => Effect.void,
        SnapshotEnd: end,
        TableLeft: () => left,
        Rows: (element) => copying ? aside.put(element) : rows(element),
        Truncate: (element) => copying ? aside.put(element) : truncate(element),
        Schema: reshape
      })

    if (writer.flush !== undefined) {
      yield* Effect.sleep(every).pipe(
        Effect.andThen(one.withPermit(Effect.suspend(() => dirty ? flush : Effect.void))),
        Effect.forever,
        // A defect, too: nothing else would tell that nothing becomes durable any more.
        Effect.catchCause((cause) =>
          Cause.hasInterruptsOnly(cause) ? Effect.void : failed(
            cause.reasons.find(Cause.isFailReason)?.error ?? error(
              "Protocol",
              `What was written to the table ${id} can't be made durable: the sink's flush broke`,
              "This is a defect of the sink plugin: please report it."
            )
          )
        ),
        Effect.forkScoped
      )
    }

    return { position: held, write: (element) => one.withPermit(take(element)) }
  }
)
