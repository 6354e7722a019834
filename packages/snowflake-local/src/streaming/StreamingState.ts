/**
 * The channels of this server: what is open, what is buffered, and the fibers that commit it.
 *
 * The database holds what is committed (`ChannelStore`), this service what is not: per channel the sequencers and the segments of accepted rows. An
 * append writes to the open segment and returns; the first one starts a fiber that waits for the commit delay and then commits all the channel's
 * segments in order. Opening, dropping and committing a channel exclude each other; an append is one synchronous step that checks the continuation
 * token, so two appends with the same token can't both be taken.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Semaphore from "effect/Semaphore"
import { mkdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import * as Catalog from "../Catalog.ts"
import * as Storage from "../Storage.ts"
import * as Channel from "./Channel.ts"
import * as ChannelCommits from "./ChannelCommits.ts"
import * as ChannelStore from "./ChannelStore.ts"
import { Faults } from "./Faults.ts"
import * as IngestToken from "./IngestToken.ts"
import * as NdjsonRows from "./NdjsonRows.ts"
import { RateLimit } from "./RateLimit.ts"
import { lostAppends, Segment } from "./Segment.ts"
import { withoutFirst } from "./SkippedRow.ts"
import * as StreamingError from "./StreamingError.ts"
import type { Options, Settings } from "./StreamingOptions.ts"
import { settings as settingsOf } from "./StreamingOptions.ts"

/** A segment grows to about this before another one is begun, so that no commit is too large for the memory. */
const segmentBytes = 128 << 20

/** An append whose body is decoded. */
export interface AppendRequest {
  readonly continuationToken: string
  readonly offsetToken: string | null
  readonly body: Uint8Array
}

export class StreamingState extends Context.Service<StreamingState, {
  readonly settings: Settings
  readonly tokens: IngestToken.IngestTokens
  readonly faults: Faults
  readonly counters: ChannelCommits.Counters
  /** Bodies are decoded a few at a time, for each may unpack to `maxUncompressedBytes`. */
  readonly decoding: Semaphore.Semaphore
  /**
   * Opens a channel, creating it when there is none: raises its client sequencer and discards what is uncommitted, or fails with 409 when there is
   * such data and `failOnUncommittedRows`.
   */
  readonly open: (pipe: Channel.PipeTarget, channel: string, options: {
    readonly offsetToken: string | undefined
    readonly failOnUncommittedRows: boolean
  }) => Effect.Effect<
    { readonly continuationToken: string; readonly record: Channel.ChannelRecord },
    StreamingError.StreamingError
  >
  /** Checks an append by what is known before its body is read, and takes it from the channel's request rate. */
  readonly admit: (
    pipe: Channel.PipeTarget,
    channel: string,
    continuationToken: string
  ) => Effect.Effect<void, StreamingError.StreamingError>
  /** Buffers rows; returns the next continuation token. */
  readonly append: (
    pipe: Channel.PipeTarget,
    channel: string,
    request: AppendRequest
  ) => Effect.Effect<string, StreamingError.StreamingError>
  /** The channels of these names that exist. */
  readonly statuses: (
    pipe: Channel.PipeTarget,
    channels: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<Channel.ChannelRecord>>
  readonly drop: (pipe: Channel.PipeTarget, channel: string, options: {
    readonly failOnUncommittedRows: boolean
  }) => Effect.Effect<void, StreamingError.StreamingError>
  /** Makes a channel unusable until it is opened again. */
  readonly invalidate: (pipe: Channel.PipeTarget, channel: string, code: string) => Effect.Effect<void>
  /** Forgets channels of this name, or all, with their offset tokens: what Snowflake does with those that nobody used for 30 days. */
  readonly forget: (channel: string | undefined) => Effect.Effect<void, StreamingError.StreamingError>
  /** Lets commits that a removed fault held back go on. */
  readonly resumeCommits: Effect.Effect<void>
  /** Every channel with its uncommitted rows, for inspection. */
  readonly channels: () => ReadonlyArray<{
    readonly record: Channel.ChannelRecord
    readonly bufferedRows: number
    readonly bufferedBytes: number
  }>
}>()("@etl-stream/snowflake-local/streaming/StreamingState") {
  static readonly layer = (
    options: Options = {}
  ): Layer.Layer<StreamingState, Storage.StorageError, Storage.Storage | Catalog.Catalog> =>
    Layer.effect(StreamingState, make(settingsOf(options)))
}

const make = Effect.fnUntraced(function*(settings: Settings) {
  const storage = yield* Storage.Storage
  const catalog = yield* Catalog.Catalog
  const faults = new Faults()
  const counters: ChannelCommits.Counters = { appends: 0, rowsAccepted: 0, rowsDiscarded: 0, commits: 0 }
  const channels = new Map<string, ChannelCommits.OpenChannel>()
  const spool = new NdjsonRows.SpoolBuffer()
  const folder = join(storage.dataDir, "streaming", "spool")
  const tokens = yield* IngestToken.open(join(storage.dataDir, "streaming", "token.key"))
  let lastId = 0

  const add = (record: Channel.ChannelRecord, now: number): ChannelCommits.OpenChannel => {
    const channel: ChannelCommits.OpenChannel = {
      record,
      rowSequencer: record.rowSequencer,
      segments: [],
      lock: Semaphore.makeUnsafe(1),
      rate: new RateLimit(settings, now),
      opening: false,
      committing: false
    }
    channels.set(Channel.keyOf(record, record.channel), channel)
    lastId = Math.max(lastId, record.id)
    return channel
  }

  const { commitAll, discard, invalidate, persist, schedule, statusCode } = ChannelCommits.make({
    storage,
    catalog,
    settings,
    faults,
    counters,
    scope: yield* Effect.scope
  })

  // ---- start and stop

  yield* storage.write(ChannelStore.prepare)
  const stored = yield* Effect.scoped(Effect.flatMap(storage.connect, ChannelStore.load))
  const startedAt = yield* Clock.currentTimeMillis
  const lost = lostAppends(folder)
  for (const record of stored) {
    const appends = lost.get(record.id)
    // A spool file is committed when the record's row sequencer has passed its first append; any other held accepted rows.
    const gap = appends?.some((file) =>
      file.clientSequencer === record.clientSequencer && file.rowSequencer >= record.rowSequencer
    ) === true
    const next = gap ? { ...record, statusCode: Channel.rowSequencerGap } : record
    if (gap) {
      yield* storage.write((connection) =>
        ChannelStore.put(connection, next)
      )
    }
    add(next, startedAt)
  }
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  // An orderly stop commits what it may; only a crash loses what is buffered.
  yield* Effect.addFinalizer(() => Effect.forEach([...channels.values()], commitAll, { discard: true }))

  // ---- the operations

  const find = (
    pipe: Channel.PipeTarget,
    name: string
  ): Effect.Effect<ChannelCommits.OpenChannel, StreamingError.StreamingError> =>
    Effect.suspend(() => {
      const channel = channels.get(Channel.keyOf(pipe, name))
      return channel === undefined
        ? Effect.fail(StreamingError.noChannel("The channel does not exist. Open it first."))
        : Effect.succeed(channel)
    })

  /** Why an append may not be taken now; undefined when it may. */
  const obstacle = (
    channel: ChannelCommits.OpenChannel,
    continuationToken: string
  ): StreamingError.StreamingError | undefined => {
    const { clientSequencer, id } = channel.record
    const code = statusCode(channel.record)
    if (code !== Channel.success) return StreamingError.channelInvalid(code)
    return continuationToken === Channel.continuationToken(id, clientSequencer, channel.rowSequencer)
      ? undefined
      : StreamingError.staleContinuationToken(
        "Another writer opened the channel, or an append is missing. Reopen the channel."
      )
  }

  const busy = StreamingError.openInProgress("The channel is being opened by another request. Retry with backoff.")
  const uncommitted = StreamingError.uncommittedData("The channel has uncommitted rows. Wait until they are committed.")

  const open = Effect.fn("StreamingState.open")(function*(
    pipe: Channel.PipeTarget,
    name: string,
    options: { readonly offsetToken: string | undefined; readonly failOnUncommittedRows: boolean }
  ) {
    const now = yield* Clock.currentTimeMillis
    const key = Channel.keyOf(pipe, name)
    return yield* Effect.acquireUseRelease(
      Effect.suspend(() => {
        const channel = channels.get(key) ?? add(Channel.fresh(++lastId, pipe, name, now), now)
        if (channel.opening) return Effect.fail(busy)
        channel.opening = true
        return Effect.succeed(channel)
      }),
      (channel) =>
        channel.lock.withPermit(Effect.gen(function*() {
          if (channels.get(key) !== channel) return yield* busy
          if (faults.take("loseUncommitted", "open", name) !== undefined) discard(channel)
          if (options.failOnUncommittedRows && channel.segments.length > 0) return yield* uncommitted
          const same = channel.record.tableId === pipe.table.id
          // A table that was created again holds none of the channel's rows, so the channel starts anew with it.
          const previous = same ? channel.record : Channel.fresh(++lastId, pipe, name, now)
          const replaced = channel.record.id
          const record: Channel.ChannelRecord = {
            ...previous,
            clientSequencer: previous.clientSequencer + 1,
            rowSequencer: 0,
            statusCode: Channel.success,
            offsetToken: options.offsetToken ?? previous.offsetToken
          }
          // The older writer is fenced before anything is awaited: nothing it sends now may be taken and then discarded unseen.
          channel.record = record
          channel.rowSequencer = 0
          discard(channel)
          yield* persist(record, replaced)
          return { continuationToken: Channel.continuationToken(record.id, record.clientSequencer, 0), record }
        })),
      (channel) =>
        Effect.sync(() => {
          channel.opening = false
        })
    )
  })

  /** What a status tells of a channel: with `lateRows` what it has accepted is committed. */
  const reported = ({ record, segments }: ChannelCommits.OpenChannel): Channel.ChannelRecord => {
    if (!faults.hides(record.channel)) return record
    const appends = segments.flatMap((segment) => segment.appends)
    const accepted = segments.reduce((rows, segment) => rows + segment.rows, 0)
    return {
      ...record,
      offsetToken: appends.findLast(({ offsetToken }) => offsetToken !== null)?.offsetToken ?? record.offsetToken,
      rowsParsed: record.rowsParsed + accepted,
      rowsInserted: record.rowsInserted + accepted
    }
  }

  const removeRecord = (id: number): Effect.Effect<void, StreamingError.StreamingError> =>
    storage.write((connection) => ChannelStore.remove(connection, id)).pipe(
      Effect.mapError(() => StreamingError.internal("The channel could not be removed. Retry."))
    )

  const admit = Effect.fnUntraced(function*(pipe: Channel.PipeTarget, name: string, continuationToken: string) {
    const channel = yield* find(pipe, name)
    const refused = obstacle(channel, continuationToken)
    if (refused !== undefined) return yield* refused
    const now = yield* Clock.currentTimeMillis
    if (!channel.rate.admit(now)) {
      return yield* StreamingError.saturated(
        "The channel is over its rate of requests or bytes per second. Retry with backoff."
      )
    }
    if (channel.segments.reduce((bytes, segment) => bytes + segment.bytes, 0) > settings.maxBufferedBytes) {
      return yield* StreamingError.saturated("The channel has too much uncommitted data. Retry with backoff.")
    }
  })

  const append = Effect.fnUntraced(function*(pipe: Channel.PipeTarget, name: string, request: AppendRequest) {
    const channel = yield* find(pipe, name)
    const now = yield* Clock.currentTimeMillis
    // Rows that are stored must have their commit scheduled, whatever becomes of the request.
    return yield* Effect.uninterruptible(
      Effect.tap(
        Effect.try({
          try: () => take(channel, pipe.table, request, now),
          catch: (cause) =>
            cause instanceof StreamingError.StreamingError
              ? cause
              : StreamingError.internal(`The rows could not be buffered (${kindOf(cause)}). Retry.`)
        }),
        schedule(channel)
      )
    )
  })

  /** Checks the continuation token and uses it up, in one synchronous step. Throws a StreamingError. */
  const take = (
    channel: ChannelCommits.OpenChannel,
    table: Catalog.Table,
    request: AppendRequest,
    now: number
  ): string => {
    const refused = obstacle(channel, request.continuationToken)
    if (refused !== undefined) throw refused
    channel.rate.spend(request.body.length)
    const encoded = store(channel, table, request, now)
    if (encoded._tag === "Malformed") throw StreamingError.malformedRows(`Row ${encoded.line}: ${encoded.message}.`)
    channel.rowSequencer++
    counters.appends++
    counters.rowsAccepted += encoded.rows
    const { clientSequencer, id } = channel.record
    return Channel.continuationToken(id, clientSequencer, channel.rowSequencer)
  }

  /** Encodes an append's rows into the open segment; leaves nothing behind when they are malformed. */
  const store = (
    channel: ChannelCommits.OpenChannel,
    table: Catalog.Table,
    request: AppendRequest,
    now: number
  ): NdjsonRows.Encoded => {
    const segment = segmentFor(channel, table, now)
    spool.reset()
    const encoded = NdjsonRows.encode(request.body, segment.layout, segment.rows, spool)
    if (encoded._tag === "Malformed") {
      if (segment.appends.length === 0) channel.segments.pop()?.discard()
      return encoded
    }
    const skip = faults.take("rejectRowSilently", "append", channel.record.channel) !== undefined
    segment.append(
      skip ? withoutFirst(encoded, segment.rows, spool, request.body) : encoded,
      spool,
      request.body,
      request.offsetToken
    )
    return encoded
  }

  const segmentFor = (channel: ChannelCommits.OpenChannel, table: Catalog.Table, now: number): Segment => {
    const last = channel.segments[channel.segments.length - 1]
    if (last !== undefined && !last.sealed && last.fits(table) && last.bytes < segmentBytes) return last
    const segment = new Segment({
      folder,
      channelId: channel.record.id,
      clientSequencer: channel.record.clientSequencer,
      rowSequencer: channel.rowSequencer,
      table,
      now
    })
    channel.segments.push(segment)
    return segment
  }

  const drop = Effect.fn("StreamingState.drop")(function*(
    pipe: Channel.PipeTarget,
    name: string,
    options: { readonly failOnUncommittedRows: boolean }
  ) {
    const channel = yield* find(pipe, name)
    yield* channel.lock.withPermit(Effect.gen(function*() {
      if (options.failOnUncommittedRows && channel.segments.length > 0) return yield* uncommitted
      yield* removeChannel(channel)
    }))
  })

  const removeChannel = Effect.fnUntraced(function*(channel: ChannelCommits.OpenChannel) {
    // Fences its writer first, as an open does.
    channel.record = { ...channel.record, clientSequencer: channel.record.clientSequencer + 1 }
    discard(channel)
    yield* removeRecord(channel.record.id)
    channels.delete(Channel.keyOf(channel.record, channel.record.channel))
  })

  return StreamingState.of({
    settings,
    tokens,
    faults,
    counters,
    decoding: Semaphore.makeUnsafe(4),
    open,
    admit,
    append,
    drop,
    statuses: (pipe, names) =>
      Effect.sync(() =>
        names.flatMap((name) => {
          const channel = channels.get(Channel.keyOf(pipe, name))
          return channel === undefined || channel.record.clientSequencer === 0
            ? []
            : [{ ...reported(channel), statusCode: statusCode(channel.record) }]
        })
      ),
    invalidate: (pipe, name, code) =>
      Effect.suspend(() => {
        const channel = channels.get(Channel.keyOf(pipe, name))
        return channel === undefined ? Effect.void : channel.lock.withPermit(invalidate(channel, code))
      }),
    forget: (name) =>
      Effect.suspend(() =>
        Effect.forEach(
          [...channels.values()].filter(({ record }) => name === undefined || record.channel === name),
          (channel) => channel.lock.withPermit(removeChannel(channel)),
          { discard: true }
        )
      ),
    resumeCommits: Effect.suspend(() => Effect.forEach([...channels.values()], schedule, { discard: true })),
    channels: () =>
      [...channels.values()].map(({ record, segments }) => ({
        record: { ...record, statusCode: statusCode(record) },
        bufferedRows: segments.reduce((rows, segment) => rows + segment.rows, 0),
        bufferedBytes: segments.reduce((bytes, segment) => bytes + segment.bytes, 0)
      }))
  })
})

/** What failed, without a value: the system's error code, or the error's class. */
const kindOf = (cause: unknown): string =>
  cause instanceof Error ? "code" in cause && typeof cause.code === "string" ? cause.code : cause.name : typeof cause
