/**
 * Runs a sink as the engine does: tells it the tables, opens them, gives each element that it doesn't hold yet, and judges what it reports.
 */
import * as BatchSlice from "@etl-stream/core/BatchSlice"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import type { Sink, TableElement, TablePosition } from "@etl-stream/core/Sink"
import { type TableId, tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import type { Item } from "./script.ts"
import type { Kit } from "./sinkKit.ts"
import { boundedScope, eventually, within } from "./waiting.ts"

/** What a sink has said about a table in all runs so far: it must not take that back. */
export interface Promised {
  copied: bigint | undefined
  durable: Sequence.Sequence | undefined
  /** The last change that was ever given. */
  given: Sequence.Sequence | undefined
}

export interface OpenTable {
  readonly schema: TableSchema
  readonly position: TablePosition
  /** Gives an item as the engine does: what the sink holds is cut off. */
  readonly give: (item: Item) => Effect.Effect<void, ConnectorError>
  /** Gives an element as it is. */
  readonly write: (element: TableElement) => Effect.Effect<void, ConnectorError>
  /** The last sequence that was reported durable in this run. */
  readonly durable: () => Sequence.Sequence | undefined
  /** Waits until every change that was given is durable; fails as the table or the sink does. */
  readonly allDurable: Effect.Effect<void, ConnectorError>
  /** What went wrong in the background. */
  readonly failure: () => ConnectorError | undefined
  /** Closes the table's writer. */
  readonly close: Effect.Effect<void>
}

export interface SinkRun {
  readonly sink: Sink
  readonly open: (table: TableSchema) => Effect.Effect<OpenTable, ConnectorError>
  /** Fails as `run` does; never ends otherwise. */
  readonly background: Effect.Effect<never, ConnectorError>
  /** How `run` has failed. */
  readonly failure: () => ConnectorError | undefined
  /** Ends everything without settling: what wasn't durable may be gone. Fails when that isn't over in time. */
  readonly crash: Effect.Effect<void>
  /** Brings everything into its place, and ends. */
  readonly finish: Effect.Effect<void, ConnectorError>
}

const isAfter = (a: Sequence.Sequence, b: Sequence.Sequence | undefined): boolean =>
  b === undefined || Sequence.compare(a, b) > 0

/** Makes the sink, tells it the tables that the run begins with, and lets its background work run. */
export const start = (
  kit: Kit,
  tables: ReadonlyArray<TableSchema>
): Effect.Effect<SinkRun, ConnectorError, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* boundedScope(kit.patience)
    const failed = yield* Deferred.make<never, ConnectorError>()
    let broken: ConnectorError | undefined
    const end = within("Stopping the sink", Scope.close(scope, Exit.void), kit.patience)
    const sink = yield* Effect.gen(function*() {
      const sink = yield* kit.open
      yield* sink.begin(tables, { raise: () => Effect.void, clear: () => Effect.void })
      yield* sink.run.pipe(
        Effect.scoped,
        Effect.catch((error) => {
          broken = error
          kit.heard(error)
          return Deferred.fail(failed, error)
        }),
        Effect.forkIn(scope, { startImmediately: true })
      )
      return sink
    }).pipe(
      Effect.tapError((error) => Effect.andThen(Effect.sync(() => kit.heard(error)), end)),
      Scope.provide(scope)
    )
    const background = Deferred.await(failed)
    return {
      sink,
      background,
      failure: () => broken,
      open: (table) => openTable(kit, sink, table, scope, background),
      crash: end,
      finish: Effect.andThen(sink.settle, end)
    }
  })

const openTable = (
  kit: Kit,
  sink: Sink,
  table: TableSchema,
  scope: Scope.Scope,
  background: Effect.Effect<never, ConnectorError>
): Effect.Effect<OpenTable, ConnectorError> =>
  Effect.gen(function*() {
    const id: TableId = tableId(table.table)
    const promised = kit.promised(id)
    const say = (text: string): void => void kit.problems.push(`${id}: ${text}`)
    const own = yield* Scope.fork(scope)
    const failed = yield* Deferred.make<never, ConnectorError>()
    let failure: ConnectorError | undefined
    let durable: Sequence.Sequence | undefined
    let upTo: Sequence.Sequence | undefined
    let last: Sequence.Sequence | undefined
    let complete: Sequence.Sequence | undefined
    let writing = false
    let closed = false
    const writer = yield* sink.open(
      table,
      (sequence) =>
        Effect.sync(() => {
          // What was begun before the end may still report.
          if (closed) return
          if (durable !== undefined && Sequence.compare(sequence, durable) < 0) say("durable went back")
          if (isAfter(sequence, promised.given)) say("something is reported durable that was never given")
          durable = sequence
          if (isAfter(sequence, promised.durable)) promised.durable = sequence
        }),
      (error) =>
        Effect.suspend(() => {
          failure = error
          kit.heard(error)
          return Deferred.fail(failed, error)
        }),
      () => writing ? undefined : complete
    ).pipe(Scope.provide(own), Effect.tapError((error) => Effect.sync(() => kit.heard(error))))
    const { committed, copied, copying } = writer.position
    if (writer.position.quarantined === undefined) {
      if (promised.copied !== undefined && copied !== promised.copied) {
        say(`its complete copy at ${promised.copied} is told as ${copied}`)
      }
      if (promised.durable !== undefined && (committed === undefined || isAfter(promised.durable, committed))) {
        // Of a copy that has to begin anew, changes don't count.
        if (copied !== undefined || copying !== undefined || promised.copied !== undefined) {
          say("what was durable isn't there any more")
        }
      }
      if (committed !== undefined && isAfter(committed, promised.given)) {
        say("the sink tells changes that were never given")
      }
    }
    upTo = copied === undefined ? committed : Sequence.max(committed ?? Sequence.zero, Sequence.before(copied))
    const write = (element: TableElement): Effect.Effect<void, ConnectorError> =>
      Effect.suspend(() => {
        if (element._tag === "SnapshotBegin" && !element.resumed) {
          promised.copied = undefined
          promised.durable = undefined
          durable = undefined
          promised.given = Sequence.before(element.position)
        } else if (element._tag === "TableLeft") promised.copied = undefined
        const sequence = element._tag === "Rows"
          ? element.batch.last
          : element._tag === "Truncate"
          ? element.sequence
          : undefined
        if (sequence !== undefined && isAfter(sequence, promised.given)) promised.given = sequence
        writing = true
        return writer.write(element)
      }).pipe(
        Effect.tap(() =>
          Effect.sync(() => {
            writing = false
            if (element._tag === "SnapshotEnd") promised.copied = element.position
            if (element._tag === "Rows") last = element.batch.last
            else if (element._tag === "Truncate") last = element.sequence
            else if (element._tag === "SnapshotBegin" && !element.resumed) last = undefined
          })
        ),
        Effect.tapError((error) => Effect.sync(() => kit.heard(error)))
      )
    const give = (item: Item): Effect.Effect<void, ConnectorError> =>
      Effect.suspend(() => {
        switch (item._tag) {
          case "Watermark":
            complete = Sequence.before(item.position)
            return Effect.void
          case "Rows": {
            const batch = BatchSlice.after(item.batch, upTo)
            if (batch === undefined) return Effect.void
            upTo = batch.last
            return write(batch === item.batch ? item : { _tag: "Rows", batch })
          }
          case "Truncate":
            if (upTo !== undefined && Sequence.compare(item.sequence, upTo) <= 0) return Effect.void
            upTo = item.sequence
            return write(item)
          case "SnapshotBegin": {
            const covered = Sequence.before(item.position)
            if (!item.resumed || upTo === undefined || isAfter(covered, upTo)) upTo = covered
            return write(item)
          }
          default:
            return write(item)
        }
      })
    const waits = eventually(
      () => `a report that all of ${id} is durable`,
      () => last === undefined || (durable !== undefined && Sequence.compare(durable, last) >= 0),
      kit.patience
    )
    return {
      schema: table,
      position: writer.position,
      write,
      give,
      durable: () => durable,
      failure: () => failure,
      allDurable: Effect.raceFirst(waits, Effect.raceFirst(Deferred.await(failed), background)),
      close: Effect.suspend(() => {
        closed = true
        return within(`Closing ${id}`, Scope.close(own, Exit.void), kit.patience)
      })
    }
  })

/** Gives all items, up to `count` of them. Says whether there were more. */
export const giveAll = (
  table: OpenTable,
  items: Iterator<Item>,
  count = Number.POSITIVE_INFINITY
): Effect.Effect<boolean, ConnectorError> =>
  Effect.gen(function*() {
    for (let given = 0; given < count; given++) {
      const next = items.next()
      if (next.done === true) return false
      yield* table.give(next.value)
    }
    return true
  })

/** The error of what must fail. */
export const failureOf = (
  what: string,
  effect: Effect.Effect<unknown, ConnectorError>
): Effect.Effect<ConnectorError> =>
  Effect.matchEffect(effect, {
    onFailure: Effect.succeed,
    onSuccess: () => Effect.sync(() => assert.fail(`${what} didn't fail`))
  })
