/**
 * The running stream of a row-wise source: copies of tables that the sink lacks, then pieces from where it is, and new copies when they are asked for.
 *
 * One thing is done at a time, so elements are in order without further ado. Positions of pieces become commit positions, and a watermark is the position after
 * the last piece: everything that commits below it has been emitted.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { ConnectorError } from "./ConnectorError.ts"
import type { Element } from "./Element.ts"
import * as Quarantine from "./Quarantine.ts"
import type { At } from "./RowBatches.ts"
import type { RowChange } from "./RowChange.ts"
import type { Definition, Piece } from "./RowSource.ts"
import type { RowTable } from "./RowTable.ts"
import { RowTables, type Table } from "./RowTables.ts"
import type { SourceContext } from "./Source.ts"
import type { TableId } from "./TableSchema.ts"

/** The highest position that a watermark can follow. */
const highest = 0xfffffffffffffffen
type Elements = Pull.Pull<NonEmptyReadonlyArray<Element>, ConnectorError>

/** A copy that was asked for. */
export interface Request {
  readonly table: TableId
  readonly begun: Deferred.Deferred<void, ConnectorError>
}

export interface Options {
  readonly definition: Definition
  readonly tables: ReadonlyArray<RowTable>
  readonly context: SourceContext
  /** Where it runs. */
  readonly scope: Scope.Scope
}

const done = <A>(changes: ReadonlyArray<A>, at: number): boolean => at >= changes.length

export class RowReading {
  private readonly definition: Definition
  private readonly context: SourceContext
  private readonly scope: Scope.Scope
  private readonly tables: RowTables
  private readonly requests: Array<Request> = []
  private readonly asked = Latch.makeUnsafe(false)
  /** Whose `SnapshotBegin` is taken when the next element is pulled. */
  private beginning: Request | undefined
  private readonly copying: Array<Table>

  // The reading at hand.
  private reading: {
    readonly scope: Scope.Closeable
    readonly pull: Pull.Pull<NonEmptyReadonlyArray<Piece>, ConnectorError>
  } | undefined
  private last = 0n
  private pieces: ReadonlyArray<Piece> = []
  private nextPiece = 0
  private piece: {
    readonly at: { readonly position: bigint; readonly commitTime: bigint }
    readonly more: Pull.Pull<NonEmptyReadonlyArray<RowChange>, ConnectorError> | undefined
    readonly scope: Scope.Closeable | undefined
  } | undefined
  private commitTime: bigint | undefined
  private changes: ReadonlyArray<RowChange> = []
  private next = 0
  private ordinal = 1

  constructor({ context, definition, scope, tables }: Options) {
    this.definition = definition
    this.context = context
    this.scope = scope
    this.tables = new RowTables(definition, context, tables)
    this.copying = this.tables.all().filter(({ done, idle }) => done === undefined && !idle)
  }

  /** Has a table copied again; fails when that can't be. */
  request(table: TableId): Effect.Effect<void, ConnectorError> {
    return Effect.gen({ self: this }, function*() {
      const state = this.tables.get(table)
      const { definition: { copy, history, plugin } } = this
      if (state === undefined) {
        return yield* new ConnectorError({
          reason: "Missing",
          plugin,
          message: `The source has no table ${table}`,
          hint: "Look at the pipeline's tables.",
          table
        })
      }
      if (copy === undefined && history === "consumed") {
        return yield* new ConnectorError({
          reason: "Unsupported",
          plugin,
          message: `The table ${table} can't be copied again: what was read of the source is gone`,
          hint: "Fill the table by other means, or use a source that keeps its history.",
          table
        })
      }
      if (copy === undefined && !this.tables.isAside(state)) {
        return yield* new ConnectorError({
          reason: "Unsupported",
          plugin,
          message:
            `The table ${table} can be copied again only while it is in quarantine: its history would be read beside its changes`,
          hint: "Put the table in quarantine, then ask for the copy.",
          table
        })
      }
      const begun = yield* Deferred.make<void, ConnectorError>()
      this.requests.push({ table, begun })
      this.asked.openUnsafe()
      yield* Deferred.await(begun)
    })
  }

  /** The next elements; every other one waits until they are taken. */
  readonly pull: Elements = Effect.gen(
    { self: this },
    function*(): Effect.fn.Return<NonEmptyReadonlyArray<Element>, ConnectorError | Cause.Done> {
      const { beginning } = this
      if (beginning !== undefined) {
        this.beginning = undefined
        yield* Deferred.succeed(beginning.begun, undefined)
      }
      while (true) {
        const element = this.tables.ready.shift()
        if (element !== undefined) return [element]
        yield* this.step
      }
    }
  )

  private readonly step: Effect.Effect<void, ConnectorError | Cause.Done> = Effect.suspend(() => {
    if (this.copied !== undefined) return this.copyMore(this.copied)
    const copying = this.copying.shift()
    if (copying !== undefined) return this.copy(copying, undefined)
    const { changes, next, piece, reading } = this
    if (piece !== undefined) {
      if (!done(changes, next)) return this.someChanges(piece.at)
      return piece.more === undefined ? this.endPiece : this.moreChanges(piece.more)
    }
    const coming = this.pieces[this.nextPiece]
    if (coming !== undefined) return this.beginPiece(coming)
    if (this.requests.length > 0) return this.serve
    return reading === undefined ? this.begin : this.morePieces(reading.pull)
  })

  private someChanges(
    at: { readonly position: bigint; readonly commitTime: bigint }
  ): Effect.Effect<void, ConnectorError> {
    return Effect.suspend(() => {
      while (!done(this.changes, this.next) && this.tables.ready.length === 0) {
        const change = this.changes[this.next++]
        if (change === undefined) continue
        const error = this.tables.add(change, { ...at, ordinal: this.ordinal })
        this.ordinal += change._tag === "Rekey" ? 2 : 1
        if (error !== undefined) return Effect.fail(error)
      }
      return Effect.void
    })
  }

  private moreChanges(
    more: Pull.Pull<NonEmptyReadonlyArray<RowChange>, ConnectorError>
  ): Effect.Effect<void, ConnectorError> {
    return more.pipe(
      Effect.map((changes) => {
        this.changes = changes
        this.next = 0
      }),
      Pull.catchDone(() => this.endPiece)
    )
  }

  private beginPiece({ changes, commitTime, position }: Piece): Effect.Effect<void, ConnectorError> {
    return Effect.gen({ self: this }, function*() {
      const isHeartbeat = position === this.last && Array.isArray(changes) && changes.length === 0
      if ((position <= this.last && !isHeartbeat) || position > highest) {
        return yield* this.tables.protocol(
          position <= this.last
            ? `A piece came with a position (${position}) that isn't above that of the one before (${this.last})`
            : `A piece came with a position (${position}) that has more than 64 bits`
        )
      }
      this.last = position
      this.commitTime = commitTime
      this.ordinal = 1
      const at = { position, commitTime: commitTime ?? BigInt(yield* Clock.currentTimeMillis) * 1000n }
      if (!Stream.isStream(changes)) {
        this.piece = { at, more: undefined, scope: undefined }
        this.changes = changes
        this.next = 0
        return
      }
      const scope = yield* Scope.fork(this.reading?.scope ?? this.scope)
      const more = yield* Scope.provide(Stream.toPull(changes), scope)
      this.changes = []
      this.next = 0
      this.piece = { at, more, scope }
    })
  }

  private readonly endPiece: Effect.Effect<void> = Effect.suspend(() => {
    const scope = this.piece?.scope
    this.piece = undefined
    this.changes = []
    this.nextPiece++
    if (done(this.pieces, this.nextPiece)) {
      this.pieces = []
      this.tables.flushAll()
      for (const state of this.tables.all()) {
        if (state.done !== undefined && state.done < this.last && !state.idle) state.done = this.last
      }
      this.tables.ready.push({ _tag: "Watermark", position: this.last + 1n, commitTime: this.commitTime })
    }
    return scope === undefined ? Effect.void : Scope.close(scope, Exit.void)
  })

  /** Pulls pieces, unless a copy is asked for meanwhile. */
  private morePieces(
    pull: Pull.Pull<NonEmptyReadonlyArray<Piece>, ConnectorError>
  ): Effect.Effect<void, ConnectorError | Cause.Done> {
    return Effect.raceFirst(pull, Effect.as(this.asked.await, [])).pipe(
      Effect.map((pieces) => {
        this.pieces = pieces
        this.nextPiece = 0
      })
    )
  }

  /** Begins to read where the sink may lack something. */
  private readonly begin: Effect.Effect<void, ConnectorError> = Effect.gen({ self: this }, function*() {
    let from: bigint | undefined
    for (const state of this.tables.all()) {
      const { done } = state
      if (done === undefined || this.tables.isAside(state)) continue
      if (from === undefined || done < from) from = done
    }
    const start = from ?? this.last
    this.last = 0n
    this.tables.ready.push({ _tag: "Watermark", position: start + 1n, commitTime: undefined })
    const scope = yield* Scope.fork(this.scope)
    const pull = yield* Stream.toPull(this.definition.read(start)).pipe(
      Scope.provide(scope),
      Effect.map((pull) => Effect.provideService(pull, Scope.Scope, scope))
    )
    this.reading = { scope, pull }
  })

  private readonly endReading: Effect.Effect<void> = Effect.suspend(() => {
    const { reading } = this
    this.reading = undefined
    return reading === undefined ? Effect.void : Scope.close(reading.scope, Exit.void)
  })

  private readonly serve: Effect.Effect<void, ConnectorError> = Effect.gen({ self: this }, function*() {
    const request = this.requests.shift()
    if (this.requests.length === 0) this.asked.closeUnsafe()
    const state = request === undefined ? undefined : this.tables.get(request.table)
    if (request === undefined || state === undefined) return
    yield* this.endReading
    yield* this.copy(state, request)
  })

  private copied: {
    readonly state: Table
    readonly position: bigint
    readonly scope: Scope.Closeable
    readonly rows: Pull.Pull<NonEmptyReadonlyArray<RowChange>, ConnectorError>
    readonly at: At
    count: number
  } | undefined

  /** A table's copy can't be had: it is set aside when that is its own trouble. */
  private noCopy(state: Table, error: ConnectorError): Effect.Effect<void, ConnectorError> {
    if (!Quarantine.concernsTable(error)) return Effect.fail(error)
    this.tables.fail(state, error)
    return Effect.void
  }

  private beginCopy(
    state: Table,
    position: bigint,
    estimatedRows: number | undefined,
    request: Request | undefined
  ): void {
    this.tables.renew(state, position)
    this.tables.ready.push({
      _tag: "SnapshotBegin",
      table: state.table.schema,
      position,
      plan: undefined,
      resumed: false,
      estimatedRows,
      estimatedBytes: undefined
    })
    this.beginning = request
  }

  /** Begins a table's copy. */
  private copy(state: Table, request: Request | undefined): Effect.Effect<void, ConnectorError> {
    return Effect.gen({ self: this }, function*() {
      const { definition } = this
      const isQuarantined = this.tables.isAside(state)
      if (request === undefined && isQuarantined) return
      if (definition.copy === undefined) {
        this.beginCopy(state, 1n, undefined, request)
        this.tables.ready.push({ _tag: "SnapshotEnd", table: state.table.schema, position: 1n, chunks: 0, settled: 1n })
        return
      }
      const scope = yield* Scope.fork(this.scope)
      const copy = yield* definition.copy(state.table).pipe(
        Scope.provide(scope),
        Effect.catch((error) => Effect.as(this.noCopy(state, error), undefined)),
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
      )
      if (copy === undefined) return yield* Scope.close(scope, Exit.void)
      // Of a table that was set aside nothing counts any more.
      const least = isQuarantined ? 0n : state.done ?? 0n
      if (copy.position < least || copy.position >= highest) {
        yield* Scope.close(scope, Exit.void)
        const error = this.tables.protocol(
          `The copy of ${state.id} is of a position (${copy.position}) that lies before changes of it that were read already`
        )
        return request === undefined ? yield* error : yield* Effect.asVoid(Deferred.fail(request.begun, error))
      }
      const position = copy.position + 1n
      const rows = yield* Scope.provide(Stream.toPull(copy.rows), scope)
      this.beginCopy(state, position, copy.estimatedRows, request)
      this.copied = {
        state,
        position,
        scope,
        rows: Effect.provideService(rows, Scope.Scope, scope),
        at: { position, ordinal: 0, commitTime: BigInt(yield* Clock.currentTimeMillis) * 1000n },
        count: 0
      }
    })
  }

  /** Emits some rows of the copy under way, or its end. */
  private copyMore(copied: NonNullable<RowReading["copied"]>): Effect.Effect<void, ConnectorError> {
    const { at, position, rows, scope, state } = copied
    const { table: { schema } } = state
    const { batchBytes = 1 << 20, batchRows = 1024 } = this.definition
    const flush = (): void => {
      if (state.batches.rows === 0) return
      copied.count += state.batches.rows
      this.tables.ready.push({ _tag: "SnapshotRows", batch: state.batches.finish(), position, chunk: 0 })
    }
    const end = Effect.suspend(() => {
      this.copied = undefined
      return Scope.close(scope, Exit.void)
    })
    const wait = this.context.copiesGoOn ?? Effect.void
    return Effect.andThen(wait, rows).pipe(
      Effect.flatMap((changes) => {
        for (const change of changes) {
          const error = change._tag === "Insert"
            ? state.batches.read(change.row, at)
            : this.tables.protocol(`A copy of ${state.id} has something else than rows to insert`)
          if (error !== undefined) return Effect.andThen(end, this.noCopy(state, error))
          if (state.batches.rows >= batchRows || state.batches.bytes >= batchBytes) flush()
        }
        return Effect.void
      }),
      Pull.catchDone(() => {
        flush()
        this.tables.ready.push(
          { _tag: "SnapshotChunk", table: schema, position, chunk: 0, rows: copied.count },
          { _tag: "SnapshotEnd", table: schema, position, chunks: 1, settled: position }
        )
        return end
      }),
      Effect.catch((error) => Effect.andThen(end, this.noCopy(state, error)))
    )
  }
}
