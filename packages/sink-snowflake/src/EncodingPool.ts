/**
 * Encodes batches in worker threads, so that the main thread is free to read what comes next.
 *
 * All sinks of a process share one pool, which has as many workers as there are processors besides the main thread's; with one processor there are none, and
 * everything is encoded where it is asked for, as small batches always are. Workers start when there is work for them; as a copy is announced before its rows come, and nothing of it can be encoded
 * while a worker loads its modules (0.2 to 0.4 seconds), one starts then (`prepare`).
 *
 * A batch that is streamed is packed once into memory that the workers share, and given to one of them as a session, which is asked for one chunk at a time: the order is the caller's,
 * and what is under way is bounded by how many ask. A file of a copy is a session, too, to which batches are appended; it gathers in its worker and leaves it when it is complete.
 * A worker that dies fails its sessions; the next ones get a new one. When none can be started at all (its file isn't where a bundler has put this one, the process may have
 * no more threads), everything is encoded where it is asked for.
 *
 * An order of 250 bytes (numbers, text, JSON, UUID) that is encoded and compressed where it is asked for takes 1.6 microseconds of the main thread, and 0.12 when a worker
 * does it, at no more processor time in all; a worker takes 31 MB.
 */
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type * as Arrow from "apache-arrow"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { availableParallelism } from "node:os"
import type { OutOfRange } from "./Config.ts"
import type { Call, Calls, Work } from "./EncodingProtocol.ts"
import { EncodingThread, ended } from "./EncodingThread.ts"
import type { NdjsonEncoder, Selection } from "./NdjsonEncoder.ts"
import type { Chunk } from "./NdjsonRows.ts"
import { NdjsonRows } from "./NdjsonRows.ts"
import * as PackedBatch from "./PackedBatch.ts"
import * as Parquet from "./ParquetRows.ts"
import { SharedBuffers } from "./SharedBuffers.ts"
import type { TableValues } from "./ValueLayout.ts"
import * as ValueLayout from "./ValueLayout.ts"
import { Unwritable } from "./ValueWriter.ts"

type Failed = ConnectorError.ConnectorError

/** More than these would take the processors that the server, the kernel and compression need. */
const maxWorkers = 4
/** Smaller batches are encoded in a millisecond or two, which is what a worker costs in waiting. */
const smallBytes = 256 << 10
/** Calls per worker that are under way at a time: one is encoded while the one before is compressed. */
const callsPerWorker = 3
/** Shared memory that is kept for the next batches. */
const keptBytes = 32 << 20

/** In the repository modules are TypeScript. */
const ownEntry = new URL(`./EncodingWorker.${import.meta.url.endsWith(".ts") ? "ts" : "js"}`, import.meta.url)

/** How rows of a table are encoded. */
export interface Options {
  readonly layout: TableValues
  readonly outOfRange: OutOfRange
  /** Whether refused values are noted, or are errors. */
  readonly noting: boolean
}

/** The rows of a batch as they are asked for, one call at a time; see `NdjsonRows`. */
export interface Rows {
  readonly next: (given: Calls["Chunk"]["given"]) => Effect.Effect<Chunk | undefined, Unwritable | Failed>
}

/** A Parquet file as rows come, one call at a time; see `ParquetRows`. */
export interface File {
  readonly append: (batch: ChangeBatch, firstCopy: number) => Effect.Effect<Parquet.Appended, Unwritable | Failed>
  readonly finish: Effect.Effect<Uint8Array, Failed>
}

interface Packing {
  readonly batch: PackedBatch.PackedBatch
  users: number
}

/** Calls of one session, one at a time. What is given is made when it may be sent. */
type Session = <Name extends keyof Calls>(
  name: Name,
  given: () => Calls[Name]["given"]
) => Effect.Effect<Calls[Name]["answer"], Unwritable | Failed>

export class EncodingPool {
  /** Workers that there may be. */
  private size: number
  private readonly entry: URL
  private threads: ReadonlyArray<EncodingThread> = []
  private readonly calls: Semaphore.Semaphore
  private readonly buffers = new SharedBuffers(keptBytes)
  /** Batches that sessions have, by their records: several channels take rows of one. */
  private readonly packings = new Map<Arrow.RecordBatch, Packing>()
  private lastSession = 0

  private constructor(workers: number, entry = ownEntry) {
    this.size = workers
    this.entry = entry
    this.calls = Semaphore.makeUnsafe(Math.max(1, workers * callsPerWorker))
  }

  /** A pool of at most so many workers, which run `entry` and end with the scope. */
  static make(workers: number, entry?: URL): Effect.Effect<EncodingPool, never, Scope.Scope> {
    return Effect.acquireRelease(Effect.sync(() => new EncodingPool(workers, entry)), (pool) => pool.end)
  }

  /** The pool of the process. Its workers end with the last scope that uses it. */
  static readonly shared: Effect.Effect<EncodingPool, never, Scope.Scope> = Effect.suspend(() =>
    Effect.acquireRelease(
      Effect.sync(() => {
        users++
        return current ??= new EncodingPool(Math.min(maxWorkers, availableParallelism() - 1))
      }),
      (pool) =>
        Effect.suspend(() => {
          if (--users > 0) return Effect.void
          current = undefined
          return pool.end
        })
    )
  )

  /** Has a worker ready for a copy that was announced, without waiting for it. What is wrong with it, the copy's first file sees. */
  get prepare(): Effect.Effect<void> {
    return Effect.ignore(Effect.try(() => {
      if (this.size > 0) this.thread().post({ _tag: "Copies" })
    }))
  }

  private get end(): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.forEach(this.threads, ({ terminate }) => terminate, { concurrency: "unbounded", discard: true })
    )
  }

  /** The rows of `batch`, or the selected ones, as NDJSON. `encoder` encodes those of small batches. */
  ndjson(
    encoder: NdjsonEncoder,
    { layout, noting, outOfRange }: Options,
    batch: ChangeBatch,
    selection?: Selection
  ): Effect.Effect<Rows, never, Scope.Scope> {
    const inline = Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new NdjsonRows(encoder, batch, noting, selection)),
        (rows) => Effect.promise(() => rows.release())
      ),
      (rows): Rows => ({ next: ({ encoding, from, limit }) => settled(() => rows.next(from, limit, encoding)) })
    )
    if (this.size <= 0 || batch.bytes < smallBytes) return inline
    return Effect.gen({ self: this }, function*() {
      const packed = yield* Effect.acquireRelease(
        Effect.sync(() => this.pack(batch)),
        () => Effect.sync(() => this.unpack(batch))
      )
      const session = yield* this.open({
        _tag: "Ndjson",
        layout: ValueLayout.of(layout),
        outOfRange,
        noting,
        selection,
        batch: packed
      })
      return session === undefined ? yield* inline : { next: (given) => session("Chunk", () => given) }
    })
  }

  /** A Parquet file that rows are appended to; it is given up with the scope unless it was ended. */
  parquet(options: Parquet.Options): Effect.Effect<File, never, Scope.Scope> {
    const inline = Effect.sync((): File => {
      const rows = new Parquet.ParquetRows(options)
      return {
        append: (batch, firstCopy) => settled(async () => rows.append(batch, firstCopy)),
        finish: Effect.sync(() => rows.finish())
      }
    })
    if (this.size <= 0) return inline
    return Effect.flatMap(
      this.open({ _tag: "Parquet", options: { ...options, layout: ValueLayout.of(options.layout) } }),
      (session) => session === undefined ? inline : Effect.succeed(this.fileOf(session))
    )
  }

  private fileOf(session: Session): File {
    return {
      append: (batch, firstCopy) =>
        Effect.suspend(() => {
          let memory: SharedArrayBuffer | undefined
          return session("Append", () => {
            const packed = PackedBatch.pack(batch, (bytes) => this.buffers.take(bytes))
            memory = packed.memory
            return { batch: packed, firstCopy }
          }).pipe(
            // After an interruption the worker may still read it.
            Effect.onExit((exit) =>
              Effect.sync(() => {
                if (memory !== undefined && !Exit.hasInterrupts(exit)) this.buffers.give(memory)
              })
            )
          )
        }),
      finish: Effect.catchIf(
        session("Finish", () => undefined),
        (error) => error instanceof Unwritable,
        Effect.die
      )
    }
  }

  /** Opens a session at the worker that has the fewest; undefined when there can't be one. */
  private open(work: Work): Effect.Effect<Session | undefined, never, Scope.Scope> {
    return Effect.matchEffect(this.held, {
      onFailure: (why) => Effect.as(this.limit(why), undefined),
      onSuccess: (thread) =>
        Effect.map(
          Effect.acquireRelease(
            Effect.sync(() => {
              const session = ++this.lastSession
              thread.post({ _tag: "Open", session, work })
              return session
            }),
            // Once this is answered, the worker reads nothing of the batch any more; one that has ended doesn't either.
            (session) => Effect.exit(thread.call(session, { _tag: "Close", given: undefined }))
          ),
          (session): Session => (name, given) =>
            this.calls.withPermits(1)(
              Effect.suspend(() =>
                // The name goes with what is given, and what answers goes with the name.
                thread.call(session, { _tag: name, given: given() } as Call) as Effect.Effect<
                  Calls[typeof name]["answer"],
                  Unwritable | Failed
                >
              )
            )
        )
    })
  }

  /** A thread that is ready, held for the time of the scope. */
  private get held(): Effect.Effect<EncodingThread, Failed, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.try({
        try: () => {
          const thread = this.thread()
          thread.hold()
          return thread
        },
        catch: ended
      }),
      (thread) => Effect.sync(() => thread.letGo())
    ).pipe(Effect.tap((thread) => thread.ready))
  }

  /** Goes on with the workers that there are. */
  private limit(why: Failed): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.size <= this.threads.length) return Effect.void
      this.size = this.threads.length
      return Effect.logWarning(
        "a thread that would encode rows can't be started: they are encoded by those that there are, at least the main thread"
      ).pipe(Effect.annotateLogs({ threads: this.size, why: String(why.cause) }))
    })
  }

  private thread(): EncodingThread {
    let least: EncodingThread | undefined
    for (const thread of this.threads) if (thread.sessions < (least?.sessions ?? Infinity)) least = thread
    if (least !== undefined && (least.sessions === 0 || this.threads.length >= this.size)) return least
    const started = new EncodingThread(this.entry, (ended) => this.forget(ended))
    this.threads = [...this.threads, started]
    return started
  }

  private forget(ended: EncodingThread): void {
    this.threads = this.threads.filter((thread) => thread !== ended)
  }

  private pack(batch: ChangeBatch): PackedBatch.PackedBatch {
    let packing = this.packings.get(batch.records)
    if (packing === undefined) {
      packing = { batch: PackedBatch.pack(batch, (bytes) => this.buffers.take(bytes)), users: 0 }
      this.packings.set(batch.records, packing)
    }
    packing.users++
    return packing.batch
  }

  private unpack({ records }: ChangeBatch): void {
    const packing = this.packings.get(records)
    if (packing === undefined || --packing.users > 0) return
    this.packings.delete(records)
    this.buffers.give(packing.batch.memory)
  }
}

/** The pool of the process, while somebody uses it. */
let current: EncodingPool | undefined
let users = 0

const settled = <A>(work: () => Promise<A>): Effect.Effect<A, Unwritable> =>
  Effect.catchDefect(
    Effect.promise(work),
    (cause) => cause instanceof Unwritable ? Effect.fail(cause) : Effect.die(cause)
  )
