/**
 * A run's use of its spool: what it makes of what an earlier run left behind, and how elements go through it.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { Conditions } from "./Condition.ts"
import { ConnectorError } from "./ConnectorError.ts"
import type * as Delivery from "./Delivery.ts"
import type { Element } from "./Element.ts"
import type { OwnedControl } from "./PipelineControl.ts"
import type { TablePosition } from "./Sink.ts"
import type { Source, SourceContext, SourceSpool } from "./Source.ts"
import * as Spool from "./Spool.ts"
import { schemaOf } from "./SpoolRecord.ts"
import * as SpoolReplay from "./SpoolReplay.ts"
import { type TableId, tableId, type TableSchema } from "./TableSchema.ts"

export interface Options {
  readonly pipeline: string
  readonly settings: Spool.Settings
  readonly source: Source
  readonly conditions: Conditions
  /** Up to where everything is durable at the sink. */
  readonly acknowledged: () => bigint
  readonly control: OwnedControl
}

export interface RunSpool {
  readonly context: SourceSpool
  readonly isSpooling: () => boolean
  /** The tables of the run, each in the shape that it has by now; undefined before `begin`. */
  readonly tables: () => ReadonlyArray<TableSchema> | undefined
  /** What the source is told that the sink holds: without copies that are void by what the spool says. */
  readonly positions: (held: SourceContext["positions"]) => SourceContext["positions"]
  /** Prepares for the stream, when tables are open: sets aside the tables of which the spool says that they failed. */
  readonly begin: (
    delivery: Delivery.Delivery,
    tables: ReadonlyArray<TableSchema>
  ) => Effect.Effect<void, ConnectorError>
  /** Takes an element from the source. */
  readonly put: (element: Element, delivery: Delivery.Delivery) => Effect.Effect<void, ConnectorError>
  /** To be called when the source has come to its end. */
  readonly end: () => void
  /** Gives elements to a delivery until it takes no more. */
  readonly give: (delivery: Delivery.Delivery) => Effect.Effect<void, ConnectorError>
  readonly drained: Effect.Effect<void>
  readonly rewind: Effect.Effect<boolean>
  readonly look: () => void
  readonly run: Effect.Effect<never, ConnectorError>
}

/** The error of a request that comes before the tables are open. */
export const notYet = (pipeline: string, table: TableId): Effect.Effect<never, ConnectorError> =>
  Effect.fail(
    new ConnectorError({
      reason: "Missing",
      plugin: "@etl-stream/core",
      message: `The table ${table} can't be set aside: the pipeline ${pipeline} has not begun yet`,
      hint: "Ask again when the pipeline runs.",
      table
    })
  )

const unsuitable = new ConnectorError({
  reason: "Misconfigured",
  plugin: "@etl-stream/core",
  message: "The source can't tell whether a spool is lost, so its changes can't be kept in one",
  hint: "Remove the section `spool` from the pipeline's configuration."
})

/** The position of the copy that a sink holds; undefined when there is none. */
const copyOf = (held: TablePosition | undefined): bigint | undefined => held?.copied ?? held?.copying?.position

/** What a sink holds of a table whose copy is void. */
const nothing: TablePosition = { copied: undefined, committed: undefined }

export const open = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<RunSpool, ConnectorError, Scope.Scope> {
  const { acknowledged, conditions, control, pipeline, settings, source } = options
  yield* source.spoolable ?? Effect.fail(unsuitable)
  const spool = yield* Spool.open({
    pipeline,
    settings,
    conditions,
    acknowledged,
    asked: control.spoolWanted,
    // A copy would fill the disk with what can be read again.
    spooling: control.holdCopies
  })
  const { found } = spool
  /** Tables whose copies are void by what the spool says. */
  const voided = new Set<TableId>()
  const shapes = new Map<TableId, TableSchema>()
  let began = false

  const begin = Effect.fnUntraced(function*(delivery: Delivery.Delivery, tables: ReadonlyArray<TableSchema>) {
    const { failures, isolated, routes } = delivery
    for (const table of tables) shapes.set(tableId(table.table), table)
    for (const [id, { below, error }] of found.marks) {
      const route = routes.find(id)
      const copy = copyOf(routes.positions.get(id))
      if (route?.target === undefined || route.quarantine !== undefined || copy === undefined || copy >= below) continue
      if (error !== undefined && failures.isolates(error)) yield* failures.failed(route, error)
      else voided.add(id)
    }
    yield* isolated
    for (const [id, earlier] of found.shapes) {
      const now = shapes.get(id)
      if (now !== undefined && !earlier.every((shape) => SpoolReplay.fits(shape, now))) voided.add(id)
    }
    for (const id of voided) {
      yield* Effect.logWarning("A table is copied again: what the spool has of it can't be brought to its copy").pipe(
        Effect.annotateLogs({ table: id })
      )
    }
    for (const [id, held] of routes.positions) {
      const copy = voided.has(id) ? undefined : copyOf(held)
      if (copy !== undefined) spool.copied(id, copy)
    }
    began = true
  })

  const give = (delivery: Delivery.Delivery) =>
    Effect.gen(function*() {
      const known = new Map(shapes)
      const replay = SpoolReplay.make((id) => known.get(id))
      let replaying = false
      const offer = (element: Element) => Queue.offer(delivery.handoff, element)
      while (true) {
        const { earlier, element } = yield* spool.take
        if (earlier) {
          replaying = true
          for (const now of replay.element(element)) if (!(yield* offer(now))) return
          continue
        }
        if (replaying) {
          replaying = false
          for (const now of replay.end()) if (!(yield* offer(now))) return
        }
        const schema = schemaOf(element)
        if (schema !== undefined) {
          const id = tableId(schema.table)
          shapes.set(id, schema)
          known.set(id, schema)
        }
        if (!(yield* offer(element))) return
      }
    })

  return {
    context: {
      id: spool.id,
      directory: settings.directory,
      position: found.upTo,
      damage: found.damage,
      commits: found.commits,
      kept: spool.kept
    },
    isSpooling: spool.isSpooling,
    tables: () => began ? [...shapes.values()] : undefined,
    positions: (held) =>
      voided.size === 0 ? held : new Map([...held].map(([id, position]) => [id, voided.has(id) ? nothing : position])),
    begin,
    put: Effect.fnUntraced(function*(element, { failures, routes }) {
      if (element._tag === "TableFailed" && !failures.isolates(element.error)) {
        const route = routes.find(tableId(element.table.table))
        // It ends the run, and nothing that comes after it may be confirmed.
        if (route?.target !== undefined) return yield* element.error
      }
      yield* spool.put(element)
    }),
    end: spool.end,
    give,
    drained: spool.drained,
    rewind: spool.rewind,
    look: spool.look,
    run: spool.run
  }
})
