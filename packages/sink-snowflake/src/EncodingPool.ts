/**
 * Encodes batches in worker threads, so that the main thread is free to read what comes next.
 *
 * All sinks of a process share one pool, which has as many workers as there are processors besides the main thread's; with one processor there are none, and
 * everything is encoded where it is asked for, as small batches always are. Workers start when there is work for them.
 *
 * A batch that is streamed is packed once into memory that the workers share, and given to one of them as a session, which is asked for one chunk at a time: the order is the caller's,
 * and what is under way is bounded by how many ask. A file of a copy is a session, too, to which batches are appended; it gathers in its worker and leaves it when it is complete.
 * A worker that dies fails its sessions; the next ones get a new one.
 *
 * An order of 250 bytes (numbers, text, JSON, UUID) that is encoded and compressed where it is asked for takes 1.6 microseconds of the main thread, and 0.12 when a worker
 * does it, at no more processor time in all; a worker takes 35 MB.
 */
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type * as Arrow from "apache-arrow"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { availableParallelism } from "node:os"
import { Worker } from "node:worker_threads"
import type { OutOfRange } from "./Config.ts"
import type { Answer, Call, Calls, Request, Work } from "./EncodingProtocol.ts"
import { failure } from "./ErrorPolicy.ts"
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
/** A worker's heap holds no rows: what is young there is few and small. */
const resourceLimits = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 8 }
/** Shared memory that is kept for the next batches. */
const keptBytes = 32 << 20

/** In the repository modules are TypeScript. */
const entry = new URL(`./EncodingWorker.${import.meta.url.endsWith(".ts") ? "ts" : "js"}`, import.meta.url)

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

const ended = (cause: unknown): Failed =>
  failure(
    "Unreachable",
    "A thread that encodes rows has ended",
    "The pipeline goes on from its last durable position. If it happens again, give the process more memory.",
    { cause }
  )

type Done = Exit.Exit<Calls[keyof Calls]["answer"], Unwritable | Failed>

class Thread {
  private readonly worker: Worker
  private readonly calls = new Map<number, (done: Done) => void>()
  private lastCall = 0
  /** Sessions that it has. */
  sessions = 0
  private error: Failed | undefined

  constructor(onEnd: (thread: Thread) => void) {
    this.worker = new Worker(entry, {
      name: "etl-stream encoding",
      // What the process was started with is for its main thread: what to evaluate, to preload, to wait for a debugger.
      execArgv: [],
      resourceLimits
    })
    this.worker.unref()
    const end = (cause: unknown): void => {
      this.error ??= ended(cause)
      onEnd(this)
      for (const resume of this.calls.values()) resume(Exit.fail(this.error))
      this.calls.clear()
    }
    this.worker.on("message", (answer: Answer) => this.answered(answer))
    this.worker.on("error", end)
    this.worker.on("exit", (code) => end(new Error(`exit code ${code}`)))
  }

  /** A thread that has work keeps the process alive, one that hasn't doesn't. */
  hold(): void {
    if (this.sessions++ === 0) this.worker.ref()
  }

  letGo(): void {
    if (--this.sessions === 0) this.worker.unref()
  }

  post(request: Request): void {
    this.worker.postMessage(request, [])
  }

  call(session: number, call: Call): Effect.Effect<Calls[keyof Calls]["answer"], Unwritable | Failed> {
    return Effect.callback((resume) => {
      if (this.error !== undefined) return resume(Effect.fail(this.error))
      const id = ++this.lastCall
      this.calls.set(id, resume)
      this.post({ _tag: "Call", session, id, call })
      return Effect.sync(() => this.calls.delete(id))
    })
  }

  private answered(answer: Answer): void {
    const resume = this.calls.get(answer.id)
    this.calls.delete(answer.id)
    // One that nobody waits for any more.
    if (resume === undefined) return
    if (answer._tag === "Done") resume(Exit.succeed(answer.answer))
    else if (answer._tag === "Unwritable") resume(Exit.fail(new Unwritable(answer.column, answer.message)))
    else resume(Exit.die(answer.cause))
  }

  get terminate(): Effect.Effect<void> {
    return Effect.asVoid(Effect.promise(() => this.worker.terminate()))
  }
}

interface Packing {
  readonly batch: PackedBatch.PackedBatch
  users: number
}

export class EncodingPool {
  private readonly size: number
  private threads: ReadonlyArray<Thread> = []
  private readonly calls: Semaphore.Semaphore
  private readonly buffers = new SharedBuffers(keptBytes)
  /** Batches that sessions have, by their records: several channels take rows of one. */
  private readonly packings = new Map<Arrow.RecordBatch, Packing>()
  private lastSession = 0

  private constructor(workers: number) {
    this.size = workers
    this.calls = Semaphore.makeUnsafe(Math.max(1, workers * callsPerWorker))
  }

  /** A pool of at most so many workers, which end with the scope. */
  static make(workers: number): Effect.Effect<EncodingPool, never, Scope.Scope> {
    return Effect.acquireRelease(Effect.sync(() => new EncodingPool(workers)), (pool) => pool.end)
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
    if (this.size <= 0 || batch.bytes < smallBytes) {
      return Effect.map(
        Effect.acquireRelease(
          Effect.sync(() => new NdjsonRows(encoder, batch, noting, selection)),
          (rows) => Effect.sync(() => rows.release())
        ),
        (rows) => ({ next: ({ encoding, from, limit }) => settled(() => rows.next(from, limit, encoding)) })
      )
    }
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
      return { next: (given) => session("Chunk", given) }
    })
  }

  /** A Parquet file that rows are appended to; it is given up with the scope unless it was ended. */
  parquet(options: Parquet.Options): Effect.Effect<File, never, Scope.Scope> {
    if (this.size <= 0) {
      return Effect.sync(() => {
        const rows = new Parquet.ParquetRows(options)
        return {
          append: (batch, firstCopy) => settled(async () => rows.append(batch, firstCopy)),
          finish: Effect.sync(() => rows.finish())
        }
      })
    }
    return Effect.map(
      this.open({ _tag: "Parquet", options: { ...options, layout: ValueLayout.of(options.layout) } }),
      (session): File => ({
        append: (batch, firstCopy) =>
          Effect.suspend(() => {
            const packed = PackedBatch.pack(batch, (bytes) => this.buffers.take(bytes))
            return session("Append", { batch: packed, firstCopy }).pipe(
              // After an interruption the worker may still read it.
              Effect.onExit((exit) =>
                Exit.hasInterrupts(exit) ? Effect.void : Effect.sync(() => this.buffers.give(packed.memory))
              )
            )
          }),
        finish: Effect.catchIf(session("Finish", undefined), (error) => error instanceof Unwritable, Effect.die)
      })
    )
  }

  /** Opens a session at the worker that has the fewest. */
  private open(work: Work) {
    return Effect.acquireRelease(
      Effect.sync(() => {
        const thread = this.thread()
        const session = ++this.lastSession
        thread.hold()
        thread.post({ _tag: "Open", session, work })
        return { thread, session }
      }),
      // Once this is answered, the worker reads nothing of the batch any more; one that has ended doesn't either.
      ({ session, thread }) =>
        thread.call(session, { _tag: "Close", given: undefined }).pipe(
          Effect.ignore,
          Effect.andThen(Effect.sync(() => thread.letGo()))
        )
    ).pipe(Effect.map(({ session, thread }) =>
    <Name extends keyof Calls>(
      name: Name,
      given: Calls[Name]["given"]
    ): Effect.Effect<Calls[Name]["answer"], Unwritable | Failed> =>
      this.calls.withPermits(1)(
        // The name goes with what is given, and what answers goes with the name.
        thread.call(session, { _tag: name, given } as Call) as Effect.Effect<
          Calls[Name]["answer"],
          Unwritable | Failed
        >
      )
    ))
  }

  private thread(): Thread {
    let least: Thread | undefined
    for (const thread of this.threads) if (thread.sessions < (least?.sessions ?? Infinity)) least = thread
    if (least !== undefined && (least.sessions === 0 || this.threads.length >= this.size)) return least
    const started = new Thread((ended) => this.forget(ended))
    this.threads = [...this.threads, started]
    return started
  }

  private forget(ended: Thread): void {
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
