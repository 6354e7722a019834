/**
 * One channel: who may write to it, what was sent of it, and what of that is committed.
 *
 * Appends are serial, each with the continuation token of the one before, and paced so that the channel's rates can't be exceeded. When it is not known whether
 * an append was taken, it is repeated with the same continuation token: had it been taken, that token is stale, and the run ends (`Fenced`) to resume
 * after what is committed.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import type { Encoding } from "./BodyCoding.ts"
import * as ErrorPolicy from "./ErrorPolicy.ts"
import { RequestPacer } from "./RequestPacer.ts"
import * as SkippedRows from "./SkippedRows.ts"
import type { ChannelStatus } from "./StreamingAnswer.ts"
import type { StreamingClient } from "./StreamingClient.ts"
import * as StreamingErrors from "./StreamingErrors.ts"
import type { StreamingFailure } from "./StreamingTransport.ts"
import { uncommittedData } from "./StreamingTransport.ts"
import type { TableLayout } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

/** How long an earlier writer's rows may take to be committed before opening gives up. */
const uncommittedPatience = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("500 millis")]).pipe(
  Schedule.upTo({ duration: "3 minutes" }),
  Schedule.setInputType<StreamingFailure>(),
  Schedule.while(({ input }) => input.code === uncommittedData)
)

export class Channel {
  /** Its table's shape; changed by `reshape`. */
  layout: TableLayout
  readonly name: string
  private readonly client: StreamingClient
  /** Done when more is committed. */
  private readonly report: Effect.Effect<void>
  /** Why Snowflake skipped rows of this channel, as far as it tells. */
  readonly reasons: Effect.Effect<ReadonlyArray<string>>
  /** Signals that something is in flight. */
  private readonly activity: Latch.Latch
  private readonly idle = Latch.makeUnsafe(true)
  private continuationToken = ""
  private errors = 0
  private lastError: string | undefined
  private readonly pacer = new RequestPacer()
  /** Last offset token that Snowflake accepted, and the last that it committed; undefined when there is none. */
  accepted: Sequence.SequenceText | undefined
  committed: Sequence.SequenceText | undefined
  /** Offset tokens that were sent and aren't committed, whether or not they were accepted yet: a commit can be seen before its answer comes. */
  private sent: Array<Sequence.SequenceText> = []
  /** When a commit was last seen, or rows went in flight with none before them. */
  progressMillis = 0

  constructor(
    layout: TableLayout,
    name: string,
    client: StreamingClient,
    activity: Latch.Latch,
    report: Effect.Effect<void>,
    reasons: Effect.Effect<ReadonlyArray<string>> = Effect.succeed([])
  ) {
    this.layout = layout
    this.name = name
    this.client = client
    this.activity = activity
    this.report = report
    this.reasons = reasons
  }

  /** Rows that Snowflake skipped since the channel was created, as far as is known. */
  get skipped(): number {
    return this.errors
  }

  /** The offset at or before which the last of them was. */
  get lastSkipped(): string | undefined {
    return this.lastError
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

  /** Fails for rows that Snowflake skipped, with what it tells about them. */
  private skippedRows(rows: number, last: string | undefined): Effect.Effect<never, Failed> {
    return Effect.flatMap(this.reasons, (why) => Effect.fail(SkippedRows.error(this.layout, rows, last, why)))
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
        this.lastError = status.lastError
        this.sent = []
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
          if (this.errors > errors) return this.skippedRows(this.errors - errors, this.lastError)
          return this.committed === committed ? Effect.void : Effect.fail(
            this.fenced(`The channel ${this.name} of ${this.layout.journal.name} was written to by somebody else`)
          )
        })
      )
    })
  }

  /** Opens the channel again after its table's shape, which its pipe depends on, has changed. */
  reshape(layout: TableLayout): Effect.Effect<void, Failed> {
    return Effect.suspend(() => {
      this.layout = layout
      return this.reopen
    })
  }

  /** Moves the committed offset to `to`, after rows that came by another way. */
  advance(to: Sequence.SequenceText): Effect.Effect<void, Failed> {
    return Effect.andThen(this.reopen, this.open(to))
  }

  /** Makes Snowflake forget the channel. */
  get drop(): Effect.Effect<void, Failed> {
    return Effect.suspend(() => this.client.drop(this.layout.journal, this.name)).pipe(
      Effect.mapError((failure) => this.failed(failure))
    )
  }

  /** Forgets the channel, its count of skipped rows included, and opens it anew with the offset `from`. */
  restart(from: Sequence.SequenceText): Effect.Effect<void, Failed> {
    return this.reopen.pipe(Effect.andThen(this.drop), Effect.andThen(this.open(from)))
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
        return yield* this.skippedRows(status.errors - this.errors, status.lastError)
      }
      const { committed } = status
      if (committed === undefined || committed === this.committed) return
      if (this.committed !== undefined && committed < this.committed) {
        return yield* this.fenced(
          `The committed offset of the channel ${this.name} of ${this.layout.journal.name} went back`
        )
      }
      const last = this.sent.indexOf(committed)
      if (last < 0) {
        // Somebody else's, or in the midst of a request: opening anew goes on after that very change.
        return yield* this.fenced(
          `The channel ${this.name} of ${this.layout.journal.name} committed up to where no request of this runner ended`
        )
      }
      this.sent.splice(0, last + 1)
      this.committed = committed
      this.progressMillis = yield* Clock.currentTimeMillis
      if (!this.inFlight) yield* this.idle.open
      yield* this.report
    })
  }

  /** Waits until everything accepted is committed. */
  get settled(): Effect.Effect<void> {
    return this.idle.await
  }

  /** Appends rows, which are accepted then, not committed; returns how many milliseconds the answer took. A failure may be one that the caller can mend. */
  append(request: {
    readonly body: Uint8Array
    readonly encoding: Encoding
    readonly rawBytes: number
    readonly startOffset: Sequence.SequenceText
    readonly endOffset: Sequence.SequenceText
  }): Effect.Effect<number, StreamingFailure> {
    return Effect.gen({ self: this }, function*() {
      const { endOffset } = request
      let began = 0
      this.sent.push(endOffset)
      this.continuationToken = yield* this.client.append(this.layout.journal, this.name, {
        ...request,
        continuationToken: this.continuationToken,
        before: Effect.andThen(
          this.pacer.admit(request.rawBytes),
          Effect.map(Clock.currentTimeMillis, (now) => {
            began = now
          })
        )
      }).pipe(Effect.tapError(() =>
        Effect.sync(() => {
          this.sent.pop()
        })
      ))
      const now = yield* Clock.currentTimeMillis
      if (!this.inFlight) this.progressMillis = now
      this.accepted = endOffset
      if (this.inFlight) {
        yield* this.idle.close
        yield* this.activity.open
      }
      return now - began
    })
  }
}
