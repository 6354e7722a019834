/**
 * Runs a source as the engine does, into an ideal sink, until a case is satisfied.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import type { Quarantine } from "@etl-stream/core/Quarantine"
import * as Sequence from "@etl-stream/core/Sequence"
import type { Source } from "@etl-stream/core/Source"
import { type TableId, tableId, type TableName } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import assert from "node:assert/strict"
import * as CanonicalCell from "../CanonicalCell.ts"
import { ElementRules } from "../ElementRules.ts"
import type { Kit } from "./sourceKit.ts"
import { boundedScope, eventually, within } from "./waiting.ts"

export interface RunOptions {
  /** Called when an element has come, with how many came so far, before the sink has it; as long as it isn't over, nothing is pulled. */
  readonly each?: (element: Element, count: number) => Effect.Effect<void>
  /** What the engine says is durable; default: what is. */
  readonly acknowledged?: () => bigint
  readonly unwanted?: ReadonlySet<TableId>
  readonly quarantined?: ReadonlyMap<TableId, Quarantine>
}

export interface Run {
  readonly source: Source
  readonly count: () => number
  /** Changes as they came in this run: table, sequence, operation and cells. */
  readonly changes: ReadonlyArray<string>
  /** Commit positions of rows by table and `id`, as far as they came in this run. */
  readonly at: (table: TableName, id: number) => bigint | undefined
  /** Kinds of elements that came, with their tables. */
  readonly kinds: ReadonlyArray<string>
  /** The last watermark. */
  readonly watermark: () => bigint | undefined
  /** Waits for a condition; fails as the stream does. */
  readonly until: (what: string, condition: () => boolean) => Effect.Effect<void, ConnectorError>
  /** Waits until the stream fails. */
  readonly failure: Effect.Effect<ConnectorError>
  /** Whether it has failed. */
  readonly failed: () => ConnectorError | undefined
  /** Interrupts it and closes its scope, as a crash would: what wasn't durable is gone. Fails when that isn't over in time. */
  readonly stop: Effect.Effect<void>
}

const cellOf = (batch: ChangeBatch.ChangeBatch, index: number, row: number): string | null => {
  const column = batch.table.columns[index]
  return column === undefined
    ? null
    : CanonicalCell.ofColumn(column.type, ChangeBatch.child(batch.records, ChangeBatch.metadataColumns + index), row)
}

/** Place of the column that the kit knows by this name. */
const placeOf = (batch: ChangeBatch.ChangeBatch, name: string): number =>
  batch.table.columns.findIndex((column) => column.name.toLowerCase() === name)

const linesOf = (batch: ChangeBatch.ChangeBatch): ReadonlyArray<string> => {
  const operations = ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.op)
  return Array.from({ length: batch.rows }, (_, row) => {
    const cells = batch.table.columns.map((_column, index) => cellOf(batch, index, row))
    const sequence = Sequence.format(ChangeBatch.sequenceAt(batch.records, row))
    return `${tableId(batch.table.table)} ${sequence} ${CanonicalCell.numberAt(operations, row)} ${
      JSON.stringify(cells)
    }`
  })
}

/** Opens the source and lets it run into the kit's sink. The run is over with the scope, at the latest. */
export const start = (kit: Kit, options: RunOptions = {}): Effect.Effect<Run, ConnectorError, Scope.Scope> =>
  Effect.gen(function*() {
    const { patience, sink } = kit
    const scope = yield* boundedScope(kit.patience)
    sink.crash()
    const changes: Array<string> = []
    const kinds: Array<string> = []
    const positions = new Map<string, bigint>()
    let count = 0
    let watermark: bigint | undefined
    let failed: ConnectorError | undefined
    const note = (element: Element): void => {
      count++
      switch (element._tag) {
        case "Watermark":
          watermark = element.position
          return
        case "Message":
          return
        case "Rows":
        case "SnapshotRows": {
          const { batch } = element
          const table = tableId(batch.table.table)
          kinds.push(`${element._tag} ${table}`)
          const id = placeOf(batch, "id")
          for (let row = 0; row < batch.rows; row++) {
            positions.set(`${table} ${cellOf(batch, id, row)}`, ChangeBatch.sequenceAt(batch.records, row).commit)
          }
          if (element._tag === "Rows") changes.push(...linesOf(batch))
          return
        }
        case "Truncate":
          changes.push(`${tableId(element.table.table)} ${Sequence.format(element.sequence)} truncate`)
      }
      kinds.push(`${element._tag} ${tableId(element.table.table)}`)
    }
    const opened = yield* Effect.gen(function*() {
      const source = yield* kit.open
      const tables = yield* source.tables
      sink.mirror.begin(tables)
      const rules = new ElementRules(tables, sink.mirror.positions, options.unwanted)
      kit.rules.push(rules)
      const take = (element: Element): Effect.Effect<void> => {
        rules.take(element)
        note(element)
        const each = options.each?.(element, count) ?? Effect.void
        return Effect.andThen(each, Effect.sync(() => sink.take(element)))
      }
      const fiber = yield* source.stream({
        positions: sink.mirror.positions,
        unwanted: options.unwanted ?? new Set(),
        quarantined: (table) => options.quarantined?.get(table),
        acknowledged: options.acknowledged ?? (() => sink.acknowledged),
        conditions: { raise: () => Effect.void, clear: () => Effect.void }
      }).pipe(
        Stream.runForEach(take),
        Effect.scoped,
        Effect.tapError((error) =>
          Effect.sync(() => {
            failed = error
            kit.heard(error)
          })
        ),
        Effect.forkIn(scope, { startImmediately: true })
      )
      return { source, fiber }
    }).pipe(
      Effect.tapError((error) => Effect.andThen(Effect.sync(() => kit.heard(error)), Scope.close(scope, Exit.void))),
      Scope.provide(scope)
    )
    const { fiber, source } = opened
    const until = (what: string, condition: () => boolean): Effect.Effect<void, ConnectorError> =>
      Effect.raceFirst(
        eventually(() => what, condition, patience),
        Effect.andThen(
          Fiber.join(fiber),
          Effect.suspend(() =>
            condition() ? Effect.void : Effect.sync(() => assert.fail(`The stream ended before there was ${what}`))
          )
        )
      )
    return {
      source,
      changes,
      kinds,
      count: () => count,
      at: (table, id) => positions.get(`${tableId(table)} ${id}`),
      watermark: () => watermark,
      until,
      failed: () => failed,
      failure: Effect.flatMap(
        eventually(() => "a failure of the stream", () => failed !== undefined, patience),
        () => failed === undefined ? Effect.die(new Error("The stream didn't fail")) : Effect.succeed(failed)
      ),
      stop: Effect.andThen(
        within(
          "Stopping the source",
          Effect.andThen(Fiber.interrupt(fiber), Scope.close(scope, Exit.void)),
          patience
        ),
        Effect.sync(() => sink.crash())
      )
    }
  })
