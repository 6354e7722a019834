/**
 * One table's channel: appends in order, within Snowflake's limits, and what of them is committed.
 *
 * Appends are serial, each with the continuation token of the one before. While one is on its way the next chunk is encoded
 * and compressed. Chunks grow or shrink with the compression that is achieved, so that requests stay below the limit; requests are paced so
 * that the channel's rates can't be exceeded. When it is not known whether an append was taken, it is repeated with the same
 * continuation token: had it been taken, that token is stale, and the run ends (`Fenced`) to resume after what is committed.
 * A request that is refused as too large, or for one of its rows, is sent again in halves, down to single rows.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { sequenceAt } from "@etl-stream/core/ChangeBatch"
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import type * as Semaphore from "effect/Semaphore"
import * as Zlib from "node:zlib"
import * as ErrorPolicy from "./ErrorPolicy.ts"
import type { NdjsonEncoder } from "./NdjsonEncoder.ts"
import type { ChannelStatus } from "./StreamingAnswer.ts"
import type { StreamingClient, StreamingFailure } from "./StreamingClient.ts"
import { uncommittedData } from "./StreamingClient.ts"
import * as StreamingErrors from "./StreamingErrors.ts"
import type { TableLayout } from "./TableLayout.ts"
import { Unwritable } from "./ValueWriter.ts"

type Failed = ConnectorError.ConnectorError

/** Published limits per named channel, with some room to them. */
const maxRequestBytes = 3_900_000
const maxRowBytes = 15_000_000
/** Chunks of this size reach the channel's rate already at a few requests per second. */
const maxChunkBytes = 8_000_000
const minRequestMillis = 110
const bytesPerMilli = 19_000

/** How long an earlier writer's rows may take to be committed before opening gives up. */
const uncommittedPatience = Schedule.spaced("500 millis").pipe(
  Schedule.upTo({ duration: "3 minutes" }),
  Schedule.setInputType<StreamingFailure>(),
  Schedule.while(({ input }) => input.code === uncommittedData)
)

/** What to do about rows that Snowflake skipped. */
export const skippedHint =
  "See which and why (SHOW CHANNELS, or ERROR_TABLE when ERROR_LOGGING is on), mend that, and have the table copied again: delete its row from the state table TABLES."

interface Compressed {
  readonly body: Uint8Array
  readonly rawBytes: number
  readonly from: number
  readonly to: number
}

/** A row that no request can carry. */
export interface TooLarge {
  readonly _tag: "TooLarge"
  readonly row: number
}

/** What became of a request; a failure: Snowflake refused one of its rows. */
type Outcome = "taken" | "tooLarge" | StreamingFailure

const encoding = typeof Zlib.zstdCompress === "function" ? "zstd" : "gzip"

const compress = (bytes: Uint8Array): Effect.Effect<Buffer> =>
  Effect.callback((resume) => {
    const done = (error: Error | null, result: Buffer) =>
      resume(error === null ? Effect.succeed(result) : Effect.die(error))
    if (encoding === "zstd") Zlib.zstdCompress(bytes, { params: { [Zlib.constants.ZSTD_c_compressionLevel]: 1 } }, done)
    else Zlib.gzip(bytes, { level: 1 }, done)
  })

export class Channel {
  readonly layout: TableLayout
  private readonly client: StreamingClient
  private readonly encoder: NdjsonEncoder
  private readonly report: (sequence: Sequence.Sequence) => Effect.Effect<void>
  /** Signals that something is in flight. */
  private readonly activity: Latch.Latch
  /** Bounds how many channels encode and send at a time, and with that the memory for it. */
  private readonly writers: Semaphore.Semaphore
  private readonly idle = Latch.makeUnsafe(true)
  private continuationToken = ""
  private errors = 0
  private chunkBytes = 3_500_000
  /** Most bytes per request: less after one was refused as too large, and then slowly more again. */
  private requestBytes = maxRequestBytes
  private nextRequestMillis = 0
  /** Last offset token that Snowflake accepted, and the last that it committed; undefined when there is none. */
  accepted: Sequence.SequenceText | undefined
  committed: Sequence.SequenceText | undefined
  /** Last offset token that was sent, whether or not it was accepted yet: a commit can be seen before its answer comes. */
  private sent: Sequence.SequenceText | undefined
  /** When a commit was last seen, or rows went in flight with none before them. */
  progressMillis = 0

  constructor(
    layout: TableLayout,
    client: StreamingClient,
    encoder: NdjsonEncoder,
    { activity, writers }: { readonly activity: Latch.Latch; readonly writers: Semaphore.Semaphore },
    report: (sequence: Sequence.Sequence) => Effect.Effect<void>
  ) {
    this.layout = layout
    this.client = client
    this.encoder = encoder
    this.activity = activity
    this.writers = writers
    this.report = report
  }

  /** Rows that Snowflake skipped since the channel was created, as far as is known. */
  get skipped(): number {
    return this.errors
  }

  get name(): string {
    return this.layout.channel
  }

  get inFlight(): boolean {
    return this.accepted !== undefined && (this.committed === undefined || this.accepted > this.committed)
  }

  /** The error that a failed call on this channel ends the run, or the table, with. */
  failed(failure: StreamingFailure): Failed {
    const { action, error } = failure
    // What isn't this table's own trouble must not be taken for it: credentials, privileges, and the network are everybody's.
    if (action === "stop" || action === "refresh") return error
    return ErrorPolicy.failure(error.reason, error.message, error.hint, { table: this.layout.id })
  }

  private skippedRows(rows: number): Failed {
    return ErrorPolicy.failure(
      "Rejected",
      `Snowflake skipped ${rows} rows of ${this.layout.id} on their way into ${this.layout.journal.name}`,
      skippedHint,
      { table: this.layout.id }
    )
  }

  private fenced(message: string): Failed {
    return ErrorPolicy.failure(
      "Fenced",
      message,
      "The pipeline reopens the channel and goes on after its committed offset.",
      {
        table: this.layout.id
      }
    )
  }

  /**
   * Opens the channel, which fences an older writer, and waits for a bounded time until what that one wrote is committed. With `offsetToken`
   * the channel's committed offset is set to it.
   */
  open(offsetToken?: Sequence.SequenceText): Effect.Effect<void, Failed> {
    const attempt = Effect.suspend(() =>
      this.client.open(this.layout.journal, this.name, {
        failOnUncommittedRows: true,
        ...(offsetToken === undefined ? {} : { offsetToken })
      })
    )
    return attempt.pipe(
      Effect.retry(uncommittedPatience),
      Effect.mapError((failure) => this.failed(failure)),
      Effect.flatMap(({ continuationToken, status }) => {
        if (!StreamingErrors.isHealthy(status.code)) return Effect.fail(this.unhealthy(status))
        const { committed } = status
        if (committed !== undefined && Sequence.parse(committed) === undefined) {
          return Effect.fail(ErrorPolicy.failure(
            "Protocol",
            `The channel ${this.name} of ${this.layout.journal.name} holds an offset token that isn't one of ours`,
            "Somebody else writes to this channel. Drop it, or rename the pipeline.",
            { table: this.layout.id }
          ))
        }
        if (offsetToken !== undefined && committed !== offsetToken) {
          return Effect.fail(this.fenced("The channel was reopened with an offset that it doesn't show"))
        }
        this.continuationToken = continuationToken
        this.errors = status.errors
        this.sent = committed
        this.accepted = committed
        this.committed = committed
        return this.idle.open
      }),
      Effect.asVoid
    )
  }

  /**
   * Opens the channel again, which must be where this runner left it with nothing in flight: a runner that took over in the meantime
   * is ahead, and nothing may be decided for it.
   */
  get reopen(): Effect.Effect<void, Failed> {
    return Effect.suspend(() => {
      const { committed, errors } = this
      return Effect.andThen(
        this.open(),
        Effect.suspend(() => {
          if (this.errors > errors) return Effect.fail(this.skippedRows(this.errors - errors))
          return this.committed === committed ? Effect.void : Effect.fail(
            this.fenced(`The channel ${this.name} of ${this.layout.journal.name} was written to by somebody else`)
          )
        })
      )
    })
  }

  /** Moves the committed offset to `to`, after rows that came by another way. */
  advance(to: Sequence.SequenceText): Effect.Effect<void, Failed> {
    return Effect.andThen(this.reopen, this.open(to))
  }

  /** Forgets the channel, its count of skipped rows included, and opens it anew with the offset `from`. */
  restart(from: Sequence.SequenceText): Effect.Effect<void, Failed> {
    const drop = Effect.suspend(() => this.client.drop(this.layout.journal, this.name)).pipe(
      Effect.mapError((failure) => this.failed(failure))
    )
    return this.reopen.pipe(Effect.andThen(drop), Effect.andThen(this.open(from)))
  }

  private unhealthy(status: ChannelStatus): Failed {
    const { action, hint, reason } = StreamingErrors.channelStatus(status.code)
    return ErrorPolicy.failure(
      reason,
      `The channel ${this.name} of ${this.layout.journal.name} has the status ${status.code}`,
      hint,
      action === "stop" || action === "refresh" ? {} : { table: this.layout.id }
    )
  }

  /** Takes a status of this channel: reports what is newly durable; fails when the channel is invalid or skipped rows. */
  observe(status: ChannelStatus | undefined): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      if (status === undefined) {
        return yield* this.fenced(`The channel ${this.name} of ${this.layout.journal.name} is gone`)
      }
      if (!StreamingErrors.isHealthy(status.code)) return yield* this.unhealthy(status)
      if (status.errors > this.errors) {
        return yield* this.skippedRows(status.errors - this.errors)
      }
      const { committed } = status
      if (committed === undefined || committed === this.committed) return
      const sequence = Sequence.parse(committed)
      if (sequence === undefined || this.sent === undefined || committed > this.sent) {
        return yield* this.fenced(
          `The channel ${this.name} of ${this.layout.journal.name} committed what this runner didn't write`
        )
      }
      if (this.committed !== undefined && committed < this.committed) {
        return yield* this.fenced(
          `The committed offset of the channel ${this.name} of ${this.layout.journal.name} went back`
        )
      }
      this.committed = committed
      this.progressMillis = yield* Clock.currentTimeMillis
      if (!this.inFlight) yield* this.idle.open
      yield* this.report(sequence)
    })
  }

  /** Waits until everything accepted is committed. */
  get settled(): Effect.Effect<void> {
    return this.idle.await
  }

  /** Appends the rows of `batch` from row `from` on. Ends early at a row that is too large for a request. */
  write(batch: ChangeBatch.ChangeBatch, from: number): Effect.Effect<TooLarge | undefined, Failed> {
    return this.writers.withPermits(1)(Effect.gen({ self: this }, function*() {
      let next = yield* this.prepare(batch, from)
      while (next !== undefined) {
        if ("row" in next) return next
        const chunk: Compressed = next
        const [outcome, following] = yield* Effect.all([
          this.send(
            chunk.body,
            chunk.rawBytes,
            Sequence.format(sequenceAt(batch.records, chunk.from)),
            Sequence.format(sequenceAt(batch.records, chunk.to - 1))
          ),
          this.prepare(batch, chunk.to)
        ], { concurrency: 2 })
        if (outcome === "taken") next = following
        else if (chunk.to > chunk.from + 1) {
          next = yield* this.prepare(batch, chunk.from, Math.ceil(chunk.rawBytes / 2))
        } else if (outcome === "tooLarge") return { _tag: "TooLarge", row: chunk.from } as const
        else return yield* this.refusedRow(outcome, Sequence.format(sequenceAt(batch.records, chunk.from)))
      }
      return undefined
    })).pipe(Effect.ensuring(Effect.sync(() => this.encoder.release())))
  }

  /** Appends the mark that all rows were removed. */
  truncate(sequence: Sequence.Sequence, commitTime: bigint): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const bytes = this.encoder.truncate(sequence, commitTime)
      const text = Sequence.format(sequence)
      const outcome = yield* this.send(yield* compress(bytes), bytes.length, text, text)
      if (outcome === "tooLarge") {
        const { hint, reason } = StreamingErrors.refusal(413, undefined)
        return yield* ErrorPolicy.failure(
          reason,
          `A truncate of ${this.layout.id} was refused as too large, which no request is smaller than`,
          hint,
          { table: this.layout.id }
        )
      }
      if (outcome !== "taken") return yield* this.refusedRow(outcome, text)
    })
  }

  /** Encodes and compresses the rows from `from` on that fit into a request, and into `atMost` bytes before compression. */
  private prepare(
    batch: ChangeBatch.ChangeBatch,
    from: number,
    atMost = Number.POSITIVE_INFINITY
  ): Effect.Effect<Compressed | TooLarge | undefined, Failed> {
    return Effect.gen({ self: this }, function*() {
      if (from >= batch.rows) return undefined
      let limit = Math.min(this.chunkBytes, atMost)
      for (;;) {
        const target = limit
        const chunk = yield* Effect.try({
          try: () => this.encoder.encode(batch, from, target),
          catch: (cause) => this.unwritable(cause)
        })
        const single = chunk.to === from + 1
        if (single && chunk.bytes.length > maxRowBytes) return { _tag: "TooLarge", row: from } as const
        const body = yield* compress(chunk.bytes)
        const rawBytes = chunk.bytes.length
        if (body.length <= (single ? maxRequestBytes : this.requestBytes)) {
          // Aim at nine tenths of the limit by the ratio just seen, growing at most twofold per request.
          const fitting = 0.9 * this.requestBytes * rawBytes / Math.max(body.length, 1)
          this.chunkBytes = Math.max(65_536, Math.min(fitting, maxChunkBytes, Math.max(this.chunkBytes * 2, 65_536)))
          return { body, rawBytes, from, to: chunk.to }
        }
        if (single) return { _tag: "TooLarge", row: from } as const
        limit = Math.floor(Math.min(rawBytes, limit) / 2)
      }
    })
  }

  private refusedRow({ code, error }: StreamingFailure, sequence: Sequence.SequenceText): Failed {
    return ErrorPolicy.failure(
      error.reason,
      `Snowflake refuses the change ${sequence} of ${this.layout.id}${code === undefined ? "" : ` (${code})`}`,
      error.hint,
      { table: this.layout.id }
    )
  }

  private unwritable(cause: unknown): Failed {
    if (!(cause instanceof Unwritable)) throw cause
    return unwritable(this.layout, cause)
  }

  /** Sends a request. When Snowflake refused it as too large, or one of its rows, nothing of it was taken. */
  private send(
    body: Uint8Array,
    rawBytes: number,
    startOffset: string,
    endOffset: string
  ): Effect.Effect<Outcome, Failed> {
    return Effect.gen({ self: this }, function*() {
      const now = yield* Clock.currentTimeMillis
      const wait = this.nextRequestMillis - now
      if (wait > 0) yield* Effect.sleep(wait)
      this.nextRequestMillis = Math.max(now, this.nextRequestMillis) +
        Math.max(minRequestMillis, rawBytes / bytesPerMilli)
      this.sent = endOffset
      const next = yield* this.client.append(this.layout.journal, this.name, {
        continuationToken: this.continuationToken,
        startOffset,
        endOffset,
        body,
        encoding
      }).pipe(
        Effect.catch((failure) =>
          failure.action === "split" || failure.action === "dead-letter"
            ? Effect.succeed(failure)
            : Effect.fail(this.failed(failure))
        )
      )
      if (typeof next !== "string") {
        if (next.action === "dead-letter") return next
        this.requestBytes = Math.max(1, Math.min(this.requestBytes, body.length) >> 1)
        return "tooLarge"
      }
      this.continuationToken = next
      this.requestBytes = Math.min(maxRequestBytes, Math.ceil(this.requestBytes * 1.1))
      if (!this.inFlight) this.progressMillis = yield* Clock.currentTimeMillis
      this.accepted = endOffset
      if (!this.inFlight) return "taken"
      yield* this.idle.close
      yield* this.activity.open
      return "taken"
    })
  }
}

/** The error for a value that can't be written. */
export const unwritable = (layout: TableLayout, { column, message }: Unwritable): Failed =>
  ErrorPolicy.failure(
    "Rejected",
    `The column ${column} of ${layout.id} ${message}`,
    "Set the sink's outOfRange to null or clamp, or change the value at the source.",
    { table: layout.id }
  )
