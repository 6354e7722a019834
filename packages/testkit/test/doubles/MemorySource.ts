/**
 * A source of a database in memory: copies in chunks that can be resumed, then every change behind what was confirmed.
 *
 * Each defect breaks one promise of sources, so that the suite can be seen to notice it.
 */
import { Operation } from "@etl-stream/core/ChangeBatch"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import * as Plugin from "@etl-stream/core/Plugin"
import * as Sequence from "@etl-stream/core/Sequence"
import type { Source, SourceContext } from "@etl-stream/core/Source"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as BatchOf from "@etl-stream/testkit/BatchOf"
import type { Subject, World } from "@etl-stream/testkit/SourceConformance"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Database, type Transaction } from "./MemoryDatabase.ts"

export type Defect =
  | "acknowledges what it only received"
  | "skips a row on resume"
  | "goes on behind the highest change of any table"
  | "marks the middle of a transaction"
  | "numbers changes anew in each run"
  | "hangs on interruption"
  | "leaks a timer"
  | "reads ahead without bound"
  | "loses changes beside a copy"
  | "takes null for empty"
  | "logs rows"
  | "is silent longer than promised"
  | "says nothing when it begins"
  | "changes shape without a word"
  | "gives up on a lost connection"
  | "gives no hint"
  | "tells secrets"
  | "loses what wasn't sent"
  | "copies what is in quarantine"
  | "gives what is unwanted"
  | "forgets rows of tables that are added"
  | "resumes a copy without its missing chunks"
  | "says too much of resync"
  | "can't resync"
  | "promises no heartbeat"
  | "goes on with columns that were dropped"
  | "takes a renamed column for another one"

const chunks = 3
const beat = 100

const databases = new Map<string, Database>()
let made = 0

const fail = (reason: "Unreachable" | "Missing" | "Protocol", message: string, hint = "It is a test.") =>
  new ConnectorError({ reason, plugin: "memory-source", message, hint })

/** A table as the source tells it. */
const seen = (schema: TableSchema, defect: Defect | undefined): TableSchema =>
  defect !== "takes a renamed column for another one" ? schema : {
    ...schema,
    columns: schema.columns.map(({ id = "", ...column }) => ({ ...column, id: `${id} ${column.name}` }))
  }

interface Reading {
  readonly database: Database
  readonly context: SourceContext
  readonly defect: Defect | undefined
  readonly run: number
  /** Shapes as this run knows them. */
  readonly shapes: Map<string, TableSchema>
  readonly wanted: Array<string>
}

/** What the run gives; undefined: nothing yet. */
function* elements({ context, database, defect, run, shapes, wanted }: Reading): Generator<Element | undefined> {
  // As a slot does, it begins when it is first asked.
  if (database.confirmed === 0n) database.confirmed = database.position
  const highest = [...context.positions.values()].reduce(
    (most, { committed }) => committed !== undefined && committed.commit > most ? committed.commit : most,
    0n
  )
  const resumed = defect === "goes on behind the highest change of any table" && highest > database.confirmed
    ? highest
    : database.confirmed
  const bases = new Map<string, bigint>()
  const settled = new Map<string, bigint>()
  const copies: Array<Generator<Element>> = []
  const shapeOf = (id: string): TableSchema | undefined => shapes.get(id)
  type Row = BatchOf.Row & { readonly more: ReadonlyMap<string, string | null> }
  const batchOf = (table: TableSchema, rows: ReadonlyArray<Row>) =>
    BatchOf.make(
      table,
      rows.map(({ more, values, ...rest }) => ({
        ...rest,
        values: table.columns.map(({ id = "" }, at) => at < 2 ? values[at] ?? null : more.get(id) ?? null)
      }))
    )
  const noteOf = (note: string | null) => defect === "takes null for empty" && note === "" ? null : note

  const copy = function*(id: string, base: bigint, held: ReadonlyMap<number, bigint>): Generator<Element> {
    let last = [...held.values()].reduce((most, position) => position > most ? position : most, base)
    for (let chunk = 0; chunk < chunks; chunk++) {
      if (held.has(chunk)) continue
      if (held.size > 0 && defect === "resumes a copy without its missing chunks" && chunk === chunks - 1) {
        const table = shapeOf(id)
        if (table !== undefined) yield { _tag: "SnapshotChunk", table, position: last, chunk, rows: 0 }
        continue
      }
      const table = shapeOf(id)
      const there = database.tables.get(id)
      if (table === undefined || there === undefined) return
      const position = database.position + 1n
      last = position
      const rows = [...there.rows].filter(([key]) => key % chunks === chunk).map(([key, note]) => ({
        operation: Operation.Read,
        sequence: Sequence.make(position, 0n),
        values: [BigInt(key), noteOf(note)],
        more: database.more(table.table, key)
      }))
      if (rows.length > 0) yield { _tag: "SnapshotRows", batch: batchOf(table, rows), position, chunk }
      yield { _tag: "SnapshotChunk", table, position, chunk, rows: rows.length }
    }
    const table = shapeOf(id)
    settled.set(id, last)
    if (table !== undefined) yield { _tag: "SnapshotEnd", table, position: base, chunks, settled: last }
  }
  const begin = (table: TableSchema, position: bigint, isResumed: boolean): Element => ({
    _tag: "SnapshotBegin",
    table,
    position,
    plan: "thirds",
    resumed: isResumed,
    estimatedRows: undefined,
    estimatedBytes: undefined
  })

  if (defect !== "says nothing when it begins") yield { _tag: "Watermark", position: resumed, commitTime: undefined }
  let at = database.log.findIndex(({ end }) => end > resumed)
  if (at < 0) at = database.log.length
  const notYet = [...shapes.keys()]
  for (const id of notYet) {
    const table = shapeOf(id)
    if (table === undefined) continue
    if (context.unwanted.has(id) && defect !== "gives what is unwanted") continue
    if (context.quarantined(id) !== undefined && defect !== "copies what is in quarantine") continue
    const held = context.positions.get(id)
    if (held?.copied !== undefined) {
      bases.set(id, held.copied)
      settled.set(id, held.settled ?? held.copied)
      continue
    }
    const goesOn = held?.copying
    const base = goesOn?.position ?? database.log[at]?.commit ?? database.position + 1n
    bases.set(id, defect === "loses changes beside a copy" ? base + 200n : base)
    if (defect === "forgets rows of tables that are added" && context.positions.size > 0 && goesOn === undefined) {
      const now = database.position + 1n
      bases.set(id, now)
      yield begin(table, now, false)
      yield { _tag: "SnapshotEnd", table, position: now, chunks: 0, settled: now }
      continue
    }
    yield begin(table, base, goesOn !== undefined)
    copies.push(copy(id, base, goesOn?.chunks ?? new Map()))
  }
  let skipped = false
  const change = function*({ commit, entries, table: id }: Transaction): Generator<Element> {
    let table = shapeOf(id)
    const base = bases.get(id)
    if (table === undefined || base === undefined || commit < base) return
    let rows: Array<Row> = []
    const shift = defect === "numbers changes anew in each run" ? BigInt(run) : 0n
    const flush = function*(of: TableSchema): Generator<Element> {
      const gathered = rows
      rows = []
      if (gathered.length > 0) yield { _tag: "Rows", batch: batchOf(of, gathered) }
    }
    for (const [index, entry] of entries.entries()) {
      const sequence = Sequence.make(commit, BigInt(index * 2 + 1) + shift)
      if (entry.kind === "row") {
        const held = context.positions.get(id)?.committed
        if (
          defect === "skips a row on resume" && !skipped && entry.operation === Operation.Insert &&
          held !== undefined && commit > held.commit
        ) {
          skipped = true
          continue
        }
        const unsent = entry.unsent && commit >= (settled.get(id) ?? base) && settled.has(id)
        rows.push({
          operation: entry.operation,
          sequence,
          more: entry.more,
          values: [
            BigInt(entry.id),
            !unsent ? noteOf(entry.note) : defect === "loses what wasn't sent" ? null : BatchOf.unsent
          ]
        })
        if (rows.length >= 64) yield* flush(table)
        if (
          defect === "marks the middle of a transaction" && index === 0 && entries.length > 2 &&
          entry.operation === Operation.Insert
        ) {
          yield* flush(table)
          yield { _tag: "Watermark", position: commit, commitTime: undefined }
        }
      } else if (entry.kind === "truncate") {
        yield* flush(table)
        yield { _tag: "Truncate", table, sequence, commitTime: commit }
      } else if (
        entry.table.version > table.version &&
        !(defect === "goes on with columns that were dropped" && entry.table.columns.length < table.columns.length)
      ) {
        yield* flush(table)
        table = seen(entry.table, defect)
        shapes.set(id, table)
        if (defect !== "changes shape without a word") {
          yield { _tag: "Schema", table, sequence: Sequence.make(commit, 0n) }
        }
      }
    }
    yield* flush(table)
  }
  let last = Date.now()
  for (;;) {
    for (let id = wanted.shift(); id !== undefined; id = wanted.shift()) {
      const table = shapeOf(id)
      if (table === undefined) continue
      const base = database.log[at]?.commit ?? database.position + 1n
      bases.set(id, base)
      settled.delete(id)
      yield begin(table, base, false)
      copies.push(copy(id, base, new Map()))
    }
    const next = copies[0]?.next()
    if (next?.done === true) copies.shift()
    else if (next !== undefined) yield next.value
    const transaction = database.log[at]
    if (transaction === undefined) {
      if (copies.length > 0) continue
      const silent = defect === "is silent longer than promised" || defect === "says nothing when it begins"
      if (!silent && Date.now() - last >= beat / 2) {
        last = Date.now()
        yield { _tag: "Watermark", position: database.position, commitTime: undefined }
      } else yield undefined
      continue
    }
    at++
    yield* change(transaction)
    last = Date.now()
    yield { _tag: "Watermark", position: transaction.end, commitTime: transaction.commit }
  }
}

const Options = Schema.Struct({
  database: Schema.NonEmptyString,
  password: Schema.RedactedFromValue(Schema.String),
  every: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThan(0)))
})

const source = (database: Database, defect: Defect | undefined): Source => {
  const wanted: Array<string> = []
  return {
    heartbeat: defect === "promises no heartbeat" ? undefined : Duration.millis(beat),
    tables: Effect.sync(() => [...database.tables.values()].map(({ schema }) => seen(schema, defect))),
    stream: (context) =>
      Stream.unwrap(Effect.gen(function*() {
        const cuts = database.cuts
        const shapes = new Map([...database.tables].map(([id, { schema }]) => [id, seen(schema, defect)]))
        const reading = elements({ database, context, defect, run: made++, shapes, wanted })
        const ahead: Array<Element> = []
        if (defect === "reads ahead without bound") {
          for (;;) {
            const { value } = reading.next() as IteratorYieldResult<Element | undefined> // it never ends
            if (value === undefined) break
            ahead.push(value)
          }
        }
        const confirm = (given: Element): void => {
          const position = defect === "acknowledges what it only received" && given._tag === "Watermark"
            ? given.position
            : context.acknowledged()
          if (position > database.confirmed) database.confirmed = position
        }
        const next: Effect.Effect<Element, ConnectorError> = Effect.gen(function*() {
          for (;;) {
            if (database.pieces !== undefined && --database.pieces <= 0) {
              database.pieces = undefined
              database.cuts++
            }
            if (database.cuts !== cuts) {
              return yield* fail(
                defect === "gives up on a lost connection" ? "Protocol" : "Unreachable",
                "The connection was lost"
              )
            }
            const value = ahead.shift() ?? (reading.next() as IteratorYieldResult<Element | undefined>).value // it never ends
            if (value !== undefined) {
              confirm(value)
              if (defect === "logs rows" && value._tag === "Rows") {
                const [row] = database.rows(value.batch.table.table)
                yield* Effect.logDebug("read", row)
              }
              return value
            }
            yield* defect === "hangs on interruption" ? Effect.uninterruptible(Effect.sleep(60_000)) : Effect.sleep(2)
          }
        })
        return Stream.fromEffectRepeat(next)
      })),
    ...(defect === "can't resync" ? {} : { resync: (table: string) => resync(database, wanted, defect, table) })
  }
}

const resync = (database: Database, wanted: Array<string>, defect: Defect | undefined, table: string) =>
  Effect.suspend(() => {
    if (!database.tables.has(table)) return Effect.fail(fail("Missing", `There is no table ${table}`))
    wanted.push(table)
    const taken = Effect.gen(function*() {
      while (wanted.includes(table)) yield* Effect.sleep(1)
    })
    return defect === "says too much of resync" ? Effect.void : Effect.andThen(taken, Effect.sleep(10))
  })

export const plugin = (defect?: Defect) =>
  Plugin.source({
    name: "memory-source",
    version: "1.0.0",
    summary: "Reads a database in memory",
    config: Options,
    make: ({ database, password }) =>
      Effect.gen(function*() {
        const known = databases.get(database)
        if (known === undefined) {
          return yield* fail(
            "Missing",
            `There is no database ${
              defect === "tells secrets" ? `for ${JSON.stringify(password)} "hunter2"` : database
            }`,
            defect === "gives no hint" ? "" : "Make one."
          )
        }
        const { cuts } = known
        yield* Effect.yieldNow
        if (known.cuts !== cuts) return yield* fail("Unreachable", "The connection was lost")
        if (defect === "leaks a timer") setInterval(() => {}, 3_600_000)
        return source(known, defect)
      })
  })

/** The source on databases of its own. */
export const subject = (defect?: Defect): Subject<typeof Options.Type> => ({
  plugin: plugin(defect),
  prepare: Effect.sync((): World => {
    const database = new Database()
    const name = `database ${made++}`
    databases.set(name, database)
    return {
      options: { database: name, password: "hunter2" },
      tables: [database.add("first"), database.add("second")],
      change: (table, changes) => Effect.sync(() => database.change(table, changes)),
      rows: (table) => Effect.sync(() => database.rows(table)),
      addTable: (table) => Effect.sync(() => database.add(table)),
      cut: (pieces) => Effect.sync(() => database.cut(pieces))
    }
  }),
  refused: [
    { what: "the database has no name", options: { database: "", password: "hunter2" }, path: "database" },
    { what: "there is an unknown one", options: { database: "x", password: "hunter2", databse: "x" }, path: "databse" },
    { what: "a number is none", options: { database: "x", password: "hunter2", every: 0 }, path: "every" }
  ],
  useless: [
    { what: "there is no such database", options: () => ({ database: "none", password: "hunter2" }), reason: "Missing" }
  ],
  secrets: ["hunter2"],
  patience: "3 seconds",
  backlog: 8 << 20
})
