/**
 * A sink that keeps its tables in memory, and makes durable what it accepted a little later, in pieces that needn't end where a batch does.
 *
 * Each defect breaks one promise of sinks, so that the suite can be seen to notice it.
 */
import * as BatchConcat from "@etl-stream/core/BatchConcat"
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Plugin from "@etl-stream/core/Plugin"
import type { Quarantine } from "@etl-stream/core/Quarantine"
import * as Sequence from "@etl-stream/core/Sequence"
import type { Sink, TableElement, TablePosition } from "@etl-stream/core/Sink"
import { type TableId, tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as BatchOf from "@etl-stream/testkit/BatchOf"
import * as CanonicalCell from "@etl-stream/testkit/CanonicalCell"
import { ElementMirror } from "@etl-stream/testkit/ElementMirror"
import type { HeldRow, Place, Subject } from "@etl-stream/testkit/SinkConformance"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

export type Defect =
  | "says durable what it only accepted"
  | "takes changes twice"
  | "loses what wasn't sent"
  | "leaks a timer"
  | "hangs on interruption"
  | "doesn't fence"
  | "keeps rows of an earlier copy"
  | "forgets that a copy is complete"
  | "says durable what it never got"
  | "goes back"
  | "overlooks truncates"
  | "takes empty for null"
  | "holds all that it gets"
  | "tells a row in its error"
  | "gives up on a lost connection"
  | "forgets a quarantine"
  | "drops tables that leave"
  | "tells half a chunk"
  | "fails all tables"
  | "rounds numbers"
  | "never says durable"
  | "overlooks new columns"
  | "takes columns by their places"
  | "takes a renamed column for another one"

interface Table {
  epoch: number
  quarantined: Quarantine | undefined
  spoilt: boolean
}

class Store {
  mirror = new ElementMirror()
  readonly tables = new Map<TableId, Table>()
  readonly hoard: Array<unknown> = []
  /** Entries of a sink that appends. */
  readonly entries = new Map<TableId, Array<HeldRow>>()
  /** Rows of chunks that haven't ended. */
  readonly chunks = new Map<TableId, Map<number, Array<HeldRow>>>()
  /** Shapes of tables, as they were told last. */
  readonly shapes = new Map<TableId, TableSchema>()
  /** Rows of an earlier copy. */
  readonly kept = new Map<TableId, ReadonlyArray<Readonly<Record<string, string | null>>>>()
  pieces: number | undefined
  cuts = 0

  table(id: TableId): Table {
    const known = this.tables.get(id) ?? { epoch: 0, quarantined: undefined, spoilt: false }
    this.tables.set(id, known)
    return known
  }
}

const stores = new Map<string, Store>()
let made = 0

const fail = (
  reason: "Unreachable" | "Missing" | "Protocol" | "Fenced" | "Rejected",
  message: string,
  table?: TableId
) =>
  new ConnectorError({
    reason,
    plugin: "memory-sink",
    message,
    hint: "It is a test.",
    ...(table === undefined ? {} : { table })
  })

const valueOf = (batch: ChangeBatch.ChangeBatch, row: number, index: number): string | null => {
  const type = batch.table.columns[index]?.type ?? { _tag: "Other" }
  return CanonicalCell.ofColumn(type, ChangeBatch.child(batch.records, ChangeBatch.metadataColumns + index), row)
}

const operationAt = (batch: ChangeBatch.ChangeBatch, row: number): ChangeBatch.Operation =>
  Number(
    CanonicalCell.numberAt(ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.op), row)
  ) as ChangeBatch.Operation // it was one

/** The batch with other values; for tables of the kit, whose values are numbers and text. */
const changed = (
  batch: ChangeBatch.ChangeBatch,
  change: (value: BatchOf.Value, isUnsent: boolean) => BatchOf.Value
): ChangeBatch.ChangeBatch => {
  const child = (index: number) => ChangeBatch.child(batch.records, index)
  return BatchOf.make(
    batch.table,
    Array.from({ length: batch.rows }, (_, row) => ({
      operation: operationAt(batch, row),
      sequence: ChangeBatch.sequenceAt(batch.records, row),
      values: batch.table.columns.map(({ type }, index) => {
        const text = valueOf(batch, row, index)
        const value = text !== null && type._tag.startsWith("Int") ? BigInt(text) : text
        const isUnsent = CanonicalCell.isUnsent(child(ChangeBatch.MetadataColumns.unsent), row, index)
        return change(isUnsent ? BatchOf.unsent : value, isUnsent)
      })
    }))
  )
}

/** Half of the rows of a batch, and one more when a change of key would be torn apart. */
const half = (batch: ChangeBatch.ChangeBatch): number => {
  const middle = batch.rows >> 1
  return operationAt(batch, middle - 1) === ChangeBatch.Operation.KeyChangeOld ? middle + 1 : middle
}

const withoutIds = (schema: TableSchema): TableSchema => ({
  ...schema,
  columns: schema.columns.map(({ name, nullable, sourceType, type }) => ({ name, nullable, sourceType, type }))
})

/** An entry with the names that the columns of `after` have, of those that they had before. */
const renamed = (entry: HeldRow, before: TableSchema, after: TableSchema): HeldRow => {
  const names = new Map(before.columns.map(({ id, name }) => [
    name,
    after.columns.find((column) => id !== undefined && column.id === id)?.name ?? name
  ]))
  const nameOf = (name: string): string => names.get(name) ?? name
  return {
    ...entry,
    cells: Object.fromEntries(Object.entries(entry.cells).map(([name, cell]) => [nameOf(name), cell])),
    ...(entry.unsent === undefined ? {} : { unsent: entry.unsent.map(nameOf) })
  }
}

const entriesOf = (batch: ChangeBatch.ChangeBatch): ReadonlyArray<HeldRow> =>
  Array.from({ length: batch.rows }, (_, row) => ({
    operation: operationAt(batch, row),
    sequence: Sequence.format(ChangeBatch.sequenceAt(batch.records, row)),
    cells: Object.fromEntries(batch.table.columns.map(({ name }, index) => [name, valueOf(batch, row, index)])),
    unsent: batch.table.columns.filter((_column, index) =>
      CanonicalCell.isUnsent(ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.unsent), row, index)
    ).map(({ name }) => name)
  }))

interface Opened {
  readonly id: TableId
  readonly durable: (sequence: Sequence.Sequence) => Effect.Effect<void>
  readonly epoch: number
  /** Accepted, not yet durable. */
  readonly pending: Array<TableElement>
  last: Sequence.Sequence | undefined
}

const sink = (store: Store, defect: Defect | undefined, appends: boolean): Sink => {
  const opened = new Map<TableId, Opened>()
  const cuts = store.cuts
  const exchange = (id?: TableId): Effect.Effect<void, ConnectorError> =>
    Effect.suspend(() => {
      if (store.pieces !== undefined && --store.pieces <= 0) {
        store.pieces = undefined
        store.cuts++
      }
      return store.cuts === cuts
        ? Effect.void
        : fail(defect === "gives up on a lost connection" ? "Protocol" : "Unreachable", "The connection was lost", id)
    })

  /** The shape of a table as it comes from now on. */
  const reshape = (schema: TableSchema): void => {
    const id = tableId(schema.table)
    const before = store.shapes.get(id)
    store.shapes.set(id, schema)
    const entries = store.entries.get(id)
    if (before === undefined || entries === undefined) return
    store.entries.set(id, entries.map((entry) => renamed(entry, before, schema)))
  }
  const seen = (schema: TableSchema): TableSchema =>
    defect === "takes a renamed column for another one" ? withoutIds(schema) : schema
  /** Names that columns had when the table was opened, by their places. */
  const places = new Map<TableId, TableSchema>()
  const misplaced = (id: TableId, batch: ChangeBatch.ChangeBatch): ChangeBatch.ChangeBatch => {
    const columns = batch.table.columns.map((column, at) => ({
      ...column,
      name: places.get(id)?.columns[at]?.name ?? column.name
    }))
    return { ...batch, table: { ...batch.table, columns } }
  }

  const apply = (id: TableId, element: TableElement): void => {
    if (element._tag === "Truncate" && defect === "overlooks truncates") return
    const altered = element._tag !== "Rows" && element._tag !== "SnapshotRows"
      ? element
      : defect === "loses what wasn't sent"
      ? { ...element, batch: changed(element.batch, (value, isUnsent) => isUnsent ? null : value) }
      : defect === "takes empty for null"
      ? { ...element, batch: changed(element.batch, (value) => value === "" ? null : value) }
      : defect === "takes columns by their places"
      ? { ...element, batch: misplaced(id, element.batch) }
      : defect === "rounds numbers" && element.batch.table.columns.some(({ type }) => type._tag === "Int64")
      ? {
        ...element,
        batch: changed(element.batch, (value) => typeof value === "bigint" ? BigInt(Number(value)) : value)
      }
      : element
    if (altered._tag === "Schema") {
      const table = seen(altered.table)
      reshape(table)
      return store.mirror.apply({ ...altered, table })
    }
    if (!appends) return store.mirror.apply(altered)
    const entries = store.entries.get(id) ?? []
    store.entries.set(id, entries)
    if (altered._tag === "SnapshotBegin") {
      store.chunks.delete(id)
      if (!altered.resumed) entries.length = 0
    }
    if (altered._tag === "SnapshotRows") {
      const chunks = store.chunks.get(id) ?? new Map<number, Array<HeldRow>>()
      store.chunks.set(id, chunks)
      chunks.set(altered.chunk, [...chunks.get(altered.chunk) ?? [], ...entriesOf(altered.batch)])
    }
    if (altered._tag === "SnapshotChunk") entries.push(...store.chunks.get(id)?.get(altered.chunk) ?? [])
    if (altered._tag === "Rows") {
      // It knows what it has by the same rules.
      const committed = store.mirror.positions.get(id)?.committed
      entries.push(
        ...entriesOf(altered.batch).filter(({ sequence = "" }) =>
          committed === undefined || sequence > Sequence.format(committed)
        )
      )
    }
    store.mirror.apply(altered)
  }

  /** Makes a part of what a table accepted durable, or all of it. */
  const commit = (table: Opened, all: boolean): Effect.Effect<void, ConnectorError> =>
    Effect.gen(function*() {
      const { durable, epoch, id, pending } = table
      while (pending.length > 0) {
        yield* exchange()
        if (store.table(id).epoch !== epoch && defect !== "doesn't fence") {
          return yield* fail("Fenced", "Another writer has the table", id)
        }
        const [element] = pending
        if (element === undefined) {
          return
        }
        if (store.table(id).spoilt) {
          return yield* fail("Rejected", "The table takes nothing", defect === "fails all tables" ? undefined : id)
        }
        if (element._tag === "Rows" && element.batch.rows > 1 && !all) {
          // Half of a batch, which may be all that is left of it after a crash.
          const { batch } = element
          const rows = half(batch)
          const parts = rows === batch.rows
            ? [batch]
            : [BatchConcat.copyRows(batch, 0, rows), BatchConcat.copyRows(batch, rows, batch.rows)]
          pending.splice(0, 1, ...parts.map((part) => ({ _tag: "Rows", batch: part } as const)))
        }
        const next = pending.shift()
        if (next === undefined) return
        apply(id, next)
        const sequence = next._tag === "Rows" ? next.batch.last : next._tag === "Truncate" ? next.sequence : undefined
        if (sequence !== undefined && defect !== "never says durable") {
          if (defect === "goes back" && table.last !== undefined) yield* durable(table.last)
          yield* durable(sequence)
          if (defect === "goes back" && table.last !== undefined) yield* durable(table.last)
          table.last = sequence
        }
        if (!all) return
      }
    })

  return {
    begin: (tables) =>
      Effect.sync(() => {
        const shapes = tables.map(seen)
        for (const schema of shapes) reshape(schema)
        store.mirror.begin(shapes)
      }),
    quarantine: (table, why) =>
      Effect.sync(() => {
        const id = tableId(table.table)
        if (defect !== "forgets a quarantine") store.table(id).quarantined = why
        store.mirror.apply({ _tag: "TableLeft", table })
      }),
    open: (schema, durable, failed) =>
      Effect.gen(function*() {
        const id = tableId(schema.table)
        yield* exchange(id)
        const table = store.table(id)
        const epoch = ++table.epoch
        places.set(id, schema)
        const own: Opened = { id, durable, epoch, pending: [], last: undefined }
        opened.set(id, own)
        yield* Effect.addFinalizer(() =>
          Effect.sync(() => {
            if (opened.get(id) === own) opened.delete(id)
          })
        )
        // Failures of the background are the table's.
        failures.set(id, failed)
        const known = store.mirror.positions.get(id)
        const position: TablePosition = {
          ...known ?? { copied: undefined, committed: undefined },
          ...(table.quarantined === undefined ? {} : { quarantined: table.quarantined, copied: undefined }),
          ...(defect === "tells half a chunk" && known?.copying !== undefined
            ? { copying: { ...known.copying, chunks: new Map([0, 1, 2].map((chunk) => [chunk, 0n])) } }
            : {}),
          ...(defect === "takes changes twice" ? { committed: undefined } : {}),
          ...(defect === "forgets that a copy is complete" ? { copied: undefined, committed: undefined } : {})
        }
        const write = (element: TableElement): Effect.Effect<void, ConnectorError> =>
          Effect.gen(function*() {
            yield* exchange()
            if (defect === "hangs on interruption") {
              yield* Effect.onInterrupt(Effect.sleep(5), () => Effect.sleep(10_000))
            }
            if (defect === "holds all that it gets") store.hoard.push(element)
            if (table.epoch !== epoch && defect !== "doesn't fence") {
              return yield* fail("Fenced", "Another writer has the table", id)
            }
            if (table.spoilt && defect === "tells a row in its error" && element._tag === "Rows") {
              return yield* fail("Rejected", `The table takes no ${JSON.stringify(entriesOf(element.batch))}`, id)
            }
            switch (element._tag) {
              case "SnapshotBegin":
                table.quarantined = undefined
                own.pending.length = 0
                own.last = undefined
                if (defect === "keeps rows of an earlier copy") {
                  store.kept.set(id, store.mirror.rows(schema.table))
                }
                apply(id, element)
                return
              case "SnapshotRows":
              case "SnapshotChunk":
              case "SnapshotEnd":
              case "TableLeft":
              case "Schema":
                if (element._tag === "Schema" && defect === "overlooks new columns") return
                yield* commit(own, true)
                apply(id, element)
                if (element._tag === "TableLeft" && defect === "drops tables that leave") {
                  apply(id, {
                    _tag: "SnapshotBegin",
                    table: element.table,
                    position: 0n,
                    plan: undefined,
                    resumed: false,
                    estimatedRows: undefined,
                    estimatedBytes: undefined
                  })
                }
                return
              case "Rows":
              case "Truncate": {
                own.pending.push(element)
                const sequence = element._tag === "Rows" ? element.batch.last : element.sequence
                if (defect === "says durable what it only accepted") yield* durable(sequence)
                if (defect === "says durable what it never got") {
                  yield* durable(Sequence.make(sequence.commit, sequence.ordinal + 1n))
                }
                // What is accepted must not grow without bound.
                if (own.pending.length > 3) yield* commit(own, true)
              }
            }
          })
        return { position, write }
      }),
    run: Effect.gen(function*() {
      for (;;) {
        for (const table of opened.values()) {
          yield* commit(table, false).pipe(
            Effect.catch((error) =>
              error.table === undefined ? Effect.fail(error) : Effect.andThen(
                Effect.sync(() => opened.delete(table.id)),
                failures.get(table.id)?.(error) ?? Effect.void
              )
            )
          )
        }
        yield* Effect.sleep(1)
      }
    }),
    settle: Effect.suspend(() => Effect.forEach(opened.values(), (table) => commit(table, true), { discard: true }))
  }
}

const failures = new Map<TableId, (error: ConnectorError) => Effect.Effect<void>>()

const Options = Schema.Struct({ store: Schema.NonEmptyString, password: Schema.RedactedFromValue(Schema.String) })

const plugin = (defect: Defect | undefined, appends: boolean) =>
  Plugin.sink({
    name: "memory-sink",
    version: "1.0.0",
    summary: "Keeps tables in memory",
    config: Options,
    make: ({ store }) =>
      Effect.suspend(() => {
        const known = stores.get(store)
        if (known === undefined) return Effect.fail(fail("Missing", `There is no store ${store}`))
        if (defect === "leaks a timer") setInterval(() => {}, 3_600_000)
        return Effect.succeed(sink(known, defect, appends))
      })
  })

export const subject = (defect?: Defect, mode: "mirror" | "append" = "mirror"): Subject<typeof Options.Type> => ({
  plugin: plugin(defect, mode === "append"),
  mode,
  prepare: Effect.sync((): Place => {
    const store = new Store()
    const name = `store ${made++}`
    stores.set(name, store)
    return {
      options: { store: name, password: "hunter2" },
      rows: ({ table }: TableSchema) =>
        Effect.sync(() => {
          if (mode === "append") return store.entries.get(tableId(table)) ?? []
          const rows = store.mirror.rows(table)
          const kept = (store.kept.get(tableId(table)) ?? []).filter((old) =>
            !rows.some((row) => row["id"] === old["id"])
          )
          return [...rows, ...kept].map((cells) => ({ cells }))
        }),
      cut: (pieces) =>
        Effect.sync(() => {
          if (pieces === 0) store.cuts++
          else store.pieces = pieces
        }),
      spoil: ({ table }) => Effect.sync(() => void (store.table(tableId(table)).spoilt = true))
    }
  }),
  ...(defect === "holds all that it gets" ? {} : { cannot: { Bounded: "it keeps its tables in memory" } }),
  refused: [{ what: "the store has no name", options: { store: "", password: "hunter2" }, path: "store" }],
  useless: [{
    what: "there is no such store",
    options: () => ({ store: "none", password: "hunter2" }),
    reason: "Missing"
  }],
  secrets: ["hunter2"],
  patience: "3 seconds",
  volume: 16 << 20
})
