/**
 * A source of one table with a scripted history: what the contract of sources lets a source do, and nothing else.
 *
 * It remembers across runs what a replication slot does: up to where it was told that everything is durable. Each run reads every change after that (or after an
 * earlier acknowledgement, as a slot may that missed the latest) with the same sequence as before, begins a copy where the sink holds none, goes on with an unfinished one, reads chunks in
 * different snapshots between changes, and completes changes of key as long as the table hasn't settled.
 */
import { Operation } from "@etl-stream/core/ChangeBatch"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import * as Sequence from "@etl-stream/core/Sequence"
import type { Source, SourceContext } from "@etl-stream/core/Source"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Batches from "../Batches.ts"
import type { Random } from "../MirrorModel.ts"
import type { Change, Step, Transaction, Values } from "./History.ts"
import * as History from "./History.ts"
import type { Shape } from "./Shapes.ts"
import * as Shapes from "./Shapes.ts"

/** How one run goes. */
export interface Run {
  /** How much of the history there is by its end, in percent. */
  readonly upTo: number
  /**
   * `drains`: the stream ends, and everything is brought into its place; else the source fails after so many elements, and when it `lingers` not before everything up to
   * the last watermark is durable.
   */
  readonly end: "drains" | { readonly breaksAfter: number; readonly lingers: boolean }
  /** After each of how many transactions it waits until everything is durable; 0: never. */
  readonly pauses: number
  /** Has the table copied again in the middle. */
  readonly resync: boolean
  /** A changed shape ends the run, and the next one begins with it; or else it comes as an element. */
  readonly fences: boolean
  /** When its source fails, the next run begins before this one knows of it. */
  readonly overtaken: boolean
}

/** A wait until everything so far is durable, or a failure, between elements. */
type Item = Element | { readonly _tag: "Pause" } | { readonly _tag: "Break"; readonly message: string }

interface Copy {
  readonly base: bigint
  readonly rest: Generator<Element>
}

const micros = (commit: bigint): bigint => History.timeOf(commit) * 1_000_000n

const broken = (message: string): ConnectorError =>
  new ConnectorError({ reason: "Unreachable", plugin: "test", message, hint: "It is part of the test." })

export class TableLog {
  private readonly shape: Shape
  private readonly name: string
  private readonly history: ReadonlyArray<Transaction>
  private readonly chunks: number
  private readonly random: Random
  private confirmed = 0n
  private readonly acknowledgements: Array<bigint> = [0n]
  /** Transactions that a run has read, or a snapshot seen, so that later snapshots are taken after them. */
  private read = 0
  private versions = 1
  /** Where the table settled that this log copied last. */
  private settled = 0n
  private copy: Copy | undefined
  private lastWatermark = 0n
  /** The run that reads; one that was overtaken confirms nothing any more. */
  private reader: object | undefined
  /** Rows of changes as they were emitted, by their sequence: a change may be completed in one run and not in another. */
  readonly emitted = new Map<Sequence.SequenceText, Array<Change>>()
  /** Positions of the chunks of each copy that was begun, by the copy's. */
  readonly copies = new Map<bigint, Map<number, bigint>>()
  /** Runs that went on with another run's copy. */
  resumed = 0

  constructor(shape: Shape, name: string, history: ReadonlyArray<Transaction>, chunks: number, random: Random) {
    this.shape = shape
    this.name = name
    this.history = history
    this.chunks = chunks
    this.random = random
  }

  /** The position from which on transaction `index` and later ones are changes. */
  private position(index: number): bigint {
    return this.history[index]?.commit ?? (this.history.at(-1)?.commit ?? 90n) + 10n
  }

  private versionBefore(index: number): number {
    return this.history[index - 1]?.version ?? 0
  }

  private schema(version: number): TableSchema {
    return { ...Shapes.schemaOf(this.shape, this.name, version), version: this.versions }
  }

  /** The chunk that a row belongs to: by its key, if it has one. */
  chunkOf(values: Values): number {
    const { identity } = this.shape
    const key = identity._tag === "Key"
      ? identity.columns.map((index) => String(values[index])).join()
      : String(values[1])
    return [...key].reduce((sum, letter) => (sum * 31 + (letter.codePointAt(0) ?? 0)) % 9973, 7) % this.chunks
  }

  private get keyed(): boolean {
    return this.shape.identity._tag === "Key"
  }

  /** The missing chunks, in any order, each as a snapshot between `from` and `to` sees it; then the end. */
  private *pieces(
    table: TableSchema,
    base: bigint,
    held: ReadonlyMap<number, bigint>,
    from: number,
    to: number
  ): Generator<Element> {
    const version = this.versionBefore(from)
    // While a table is copied its columns don't change.
    const snapshots = Array.from({ length: to - from + 1 }, (_, index) => from + index).filter((index) =>
      this.versionBefore(index) === version
    )
    const choose = () => {
      const index = snapshots[this.random(snapshots.length)] ?? from
      // What a snapshot has seen is there for every later run.
      this.read = Math.max(this.read, index)
      return this.position(index)
    }
    const single = this.keyed ? base : choose()
    const positions = new Map(held)
    this.copies.set(base, positions)
    const missing = Array.from({ length: this.chunks }, (_, chunk) => chunk).filter((chunk) => !held.has(chunk))
    while (missing.length > 0) {
      const [chunk = 0] = missing.splice(this.random(missing.length), 1)
      // Rows without a key can't be told apart: all of them are read in one snapshot.
      const position = this.keyed ? choose() : single
      positions.set(chunk, position)
      const rows = History.rowsAt(this.history, position).filter((values) => this.chunkOf(values) === chunk)
      for (let at = 0; at < rows.length;) {
        const count = 1 + this.random(4)
        const batch = Batches.batch(
          table,
          rows.slice(at, at + count).map((values) => ({
            op: Operation.Read,
            sequence: Sequence.make(position, 0n),
            values
          }))
        )
        yield { _tag: "SnapshotRows", batch, position, chunk }
        at += count
      }
      yield { _tag: "SnapshotChunk", table, position, chunk, rows: rows.length }
    }
    this.settled = [...positions.values()].reduce((a, b) => a > b ? a : b, base)
    this.copy = undefined
    yield { _tag: "SnapshotEnd", table, position: base, chunks: this.chunks, settled: this.settled }
  }

  private plan(version: number): string {
    return `${this.chunks} chunks of version ${version}`
  }

  private *begin(table: TableSchema, from: number, to: number): Generator<Element> {
    const base = this.position(from)
    this.read = Math.max(this.read, from)
    this.copy = { base, rest: this.pieces(table, base, new Map(), from, to) }
    yield {
      _tag: "SnapshotBegin",
      table,
      position: base,
      plan: this.plan(this.versionBefore(from)),
      resumed: false,
      estimatedRows: undefined,
      estimatedBytes: undefined
    }
  }

  private *someOfCopy(count: number): Generator<Element> {
    for (let taken = 0; taken < count && this.copy !== undefined; taken++) {
      const next = this.copy.rest.next()
      if (next.done === true) return
      yield next.value
    }
  }

  /** A step's changes as they are sent: a change of key with all its values while copies may lack the row as it was. */
  private sent({ changes, moved }: Step, commit: bigint): ReadonlyArray<Change> {
    const unsettled = this.copy !== undefined || commit < this.settled
    return moved === undefined || !this.keyed || !unsettled
      ? changes
      : changes.map((change) =>
        "truncate" in change || change.op !== Operation.KeyChangeNew ? change : { ...change, values: moved }
      )
  }

  /** What a run reads. */
  private *items(context: SourceContext, run: Run): Generator<Item> {
    const { history, random } = this
    const now = this.read
    const to = Math.max(now, Math.ceil(history.length * run.upTo / 100))
    // Where it goes on from: everything before was acknowledged.
    if (this.confirmed > 0n) yield { _tag: "Watermark", position: this.confirmed, commitTime: undefined }
    let version = this.versionBefore(now)
    const id = tableId(this.schema(version).table)
    const held = context.positions.get(id)
    this.copy = undefined
    this.settled = held?.settled ?? 0n
    let base = held?.copied
    if (base === undefined) {
      const unfinished = held?.copying
      const resumes = unfinished !== undefined && unfinished.plan === this.plan(version) &&
        (this.keyed || unfinished.chunks.size === this.chunks)
      if (resumes) {
        this.resumed++
        base = unfinished.position
        const table = this.schema(version)
        this.copy = { base, rest: this.pieces(table, base, unfinished.chunks, now, to) }
        yield {
          _tag: "SnapshotBegin",
          table,
          position: base,
          plan: unfinished.plan,
          resumed: true,
          estimatedRows: undefined,
          estimatedBytes: undefined
        }
      } else {
        let from = now + random(to - now + 1)
        while (this.versionBefore(from) !== version) from--
        base = this.position(from)
        yield* this.begin(this.schema(version), from, to)
      }
    }
    let gathered: Array<Batches.Row> = []
    const flush = (): ReadonlyArray<Element> => {
      const rows = gathered
      gathered = []
      // A batch of several transactions keeps the time of each.
      const time = (row: Batches.Row) => micros(row.sequence.commit)
      return rows.length === 0 ? [] : [{ _tag: "Rows", batch: Batches.batch(this.schema(version), rows, time) }]
    }
    const { confirmed } = this
    const resyncAt = run.resync ? now + random(Math.max(1, to - now)) : -1
    for (const [index, transaction] of history.entries()) {
      const { commit, end, steps } = transaction
      if (end <= confirmed || index >= to || commit < base) continue
      if (index === resyncAt && this.copy === undefined && version === this.versionBefore(index)) {
        yield* flush()
        base = commit
        yield* this.begin(this.schema(version), index, to)
      }
      yield* this.someOfCopy(random(4))
      if (transaction.version !== version) {
        yield* flush()
        if (run.fences && index >= now) {
          // The next run reads a catalog that knows the shape.
          this.read = index + 1
          yield { _tag: "Break", message: "the shape of the table changed" }
          return
        }
        yield* this.someOfCopy(Number.POSITIVE_INFINITY)
        version = transaction.version
        this.versions++
        yield { _tag: "Schema", table: this.schema(version), sequence: Sequence.make(commit, 0n) }
      }
      if (index >= this.read) this.read = index + 1
      for (const step of steps) {
        for (const change of this.sent(step, commit)) {
          const sequence = "truncate" in change ? change.truncate : change.sequence
          const text = Sequence.format(sequence)
          this.emitted.set(text, [...this.emitted.get(text) ?? [], change])
          if ("truncate" in change) {
            yield* flush()
            yield { _tag: "Truncate", table: this.schema(version), sequence, commitTime: micros(commit) }
          } else gathered.push(change)
          if (random(5) === 0) yield* flush()
        }
      }
      const pauses = run.pauses > 0 && index % run.pauses === 0
      if (pauses || index === to - 1 || random(2) === 0) {
        yield* flush()
        yield { _tag: "Watermark", position: end, commitTime: micros(commit) }
      }
      if (pauses) yield { _tag: "Pause" }
    }
    yield* this.someOfCopy(Number.POSITIVE_INFINITY)
  }

  /** Forgets some of the latest acknowledgements, as a slot may that wasn't told of them in time. */
  rewind(): void {
    const known = this.acknowledgements.length
    this.confirmed = this.acknowledgements[Math.max(0, known - 1 - this.random(3))] ?? 0n
  }

  /** `copying` says whether there is a copy that another run could go on with; `overtaken` is waited for before the source fails. */
  source(run: Run, copying: Effect.Effect<boolean>, overtaken: Effect.Effect<void> | undefined): Source {
    const reader = {}
    this.reader = reader
    let left = run.end === "drains" ? Number.POSITIVE_INFINITY : run.end.breaksAfter
    this.lastWatermark = 0n
    return {
      tables: Effect.sync(() => [this.schema(this.versionBefore(this.read))]),
      stream: (context) => {
        const confirm = Effect.sync(() => {
          const position = context.acknowledged()
          if (this.reader !== reader) return
          if (position <= (this.acknowledgements.at(-1) ?? 0n)) return
          this.acknowledgements.push(position)
          this.confirmed = position
        })
        const pause = Effect.gen({ self: this }, function*() {
          while (context.acknowledged() < this.lastWatermark) yield* Effect.sleep(2)
          // Background merges get their turn.
          yield* Effect.sleep(5)
        })
        /** For a while, because a copy whose begin is still under way is none yet. */
        const begun = copying.pipe(
          Effect.repeat({
            until: (begun) => begun,
            schedule: Schedule.spaced("10 millis").pipe(Schedule.upTo({ times: 30 }))
          }),
          Effect.when(Effect.sync(() => this.copy !== undefined))
        )
        return Stream.unwrap(Effect.gen({ self: this }, function*() {
          // Feedback is a fiber of its own, however slow the sink is.
          yield* Effect.forkScoped(Effect.forever(Effect.andThen(confirm, Effect.sleep(2))))
          return Stream.fromIterable(this.items(context, run), { chunkSize: 1 }).pipe(
            Stream.mapEffect((item): Effect.Effect<Element | undefined, ConnectorError> => {
              if (left-- <= 0) {
                const breaks = Effect.fail(broken("the source broke off"))
                if (overtaken !== undefined) return Effect.andThen(overtaken, breaks)
                return run.end !== "drains" && run.end.lingers
                  ? Effect.andThen(Effect.andThen(pause, begun), breaks)
                  : breaks
              }
              if (item._tag === "Watermark") this.lastWatermark = item.position
              if (item._tag === "Pause") return Effect.as(pause, undefined)
              if (item._tag !== "Break") return Effect.succeed(item)
              return Effect.andThen(overtaken ?? Effect.void, Effect.fail(broken(item.message)))
            }),
            Stream.filter((item) => item !== undefined)
          )
        }))
      }
    }
  }

  /** What the table holds in the end. */
  get final(): ReadonlyArray<Values> {
    return this.history.at(-1)?.rows ?? []
  }

  /** All changes of the table from `position` on, by their sequence. */
  changesFrom(position: bigint): ReadonlyArray<Sequence.SequenceText> {
    return this.history.filter(({ commit }) => commit >= position).flatMap(({ steps }) =>
      steps.flatMap(({ changes }) =>
        changes.map((change) => Sequence.format("truncate" in change ? change.truncate : change.sequence))
      )
    )
  }

  /** The table's shape in the end. */
  get finalSchema(): TableSchema {
    return this.schema(this.versionBefore(this.history.length))
  }
}
