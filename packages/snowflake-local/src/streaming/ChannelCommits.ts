/**
 * What makes a channel's buffered rows permanent, or gives them up.
 *
 * One fiber per channel that has something buffered: it waits for the commit delay and then commits segment after segment, each with its record in one
 * transaction. What can't be committed, because the table is another one by now or DuckDB keeps refusing, makes the channel unusable until it is opened
 * again; so a client is told, and nothing waits for ever.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as Semaphore from "effect/Semaphore"
import type * as Catalog from "../Catalog.ts"
import type * as Storage from "../Storage.ts"
import * as StreamLog from "../StreamLog.ts"
import * as Channel from "./Channel.ts"
import * as ChannelStore from "./ChannelStore.ts"
import type { Faults } from "./Faults.ts"
import type { RateLimit } from "./RateLimit.ts"
import * as RowCommit from "./RowCommit.ts"
import type { Segment } from "./Segment.ts"
import * as StreamingError from "./StreamingError.ts"
import type { Settings } from "./StreamingOptions.ts"

/** Counts since the server started. */
export interface Counters {
  appends: number
  rowsAccepted: number
  rowsDiscarded: number
  commits: number
}

/** A channel as it is in memory: what is committed of it, and what is not yet. */
export interface OpenChannel {
  record: Channel.ChannelRecord
  rowSequencer: number
  readonly segments: Array<Segment>
  readonly lock: Semaphore.Semaphore
  readonly rate: RateLimit
  opening: boolean
  committing: boolean
}

const retries = Schedule.exponential("20 millis").pipe(Schedule.upTo({ times: 6 }))

/** The operations on channels that commit or discard; `scope` ends their fibers. */
export const make = (options: {
  readonly storage: Storage.Storage["Service"]
  readonly catalog: Catalog.Catalog["Service"]
  readonly settings: Settings
  readonly faults: Faults
  readonly counters: Counters
  readonly scope: Scope.Scope
}) => {
  const { catalog, counters, faults, scope, settings, storage } = options

  /** Stores a record, in the place of the one of id `replaced`. */
  const persist = (
    record: Channel.ChannelRecord,
    replaced = record.id
  ): Effect.Effect<void, StreamingError.StreamingError> =>
    storage.write((connection) =>
      replaced === record.id
        ? ChannelStore.put(connection, record)
        : Effect.andThen(ChannelStore.remove(connection, replaced), ChannelStore.put(connection, record))
    ).pipe(Effect.mapError(() => StreamingError.internal("The channel could not be stored. Retry.")))

  const discard = (channel: OpenChannel): void => {
    for (const segment of channel.segments.splice(0)) {
      counters.rowsDiscarded += segment.rows
      segment.discard()
    }
  }

  /** Marks a channel unusable; what it had buffered can't be committed any more. */
  const invalidate = (channel: OpenChannel, code: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      channel.record = { ...channel.record, statusCode: code }
      discard(channel)
      return Effect.ignore(persist(channel.record))
    })

  /** The table as it is now, when it is still the one that the channel writes to. */
  const tableOf = (record: Channel.ChannelRecord): Catalog.Table | undefined => {
    const table = catalog.relation(record.tableDatabase, record.tableSchema, record.table)
    return table?.kind === "TABLE" && table.id === record.tableId ? table : undefined
  }

  /** The status code of a channel, that of its table included. */
  const statusCode = (record: Channel.ChannelRecord): string => {
    if (tableOf(record) !== undefined) return record.statusCode
    const table = catalog.relation(record.tableDatabase, record.tableSchema, record.table)
    return table === undefined ? Channel.tableGone : Channel.mustBeReopened
  }

  const commitFirst = Effect.fnUntraced(function*(channel: OpenChannel) {
    const segment = channel.segments[0]
    if (segment === undefined) return
    segment.seal()
    // Catalog.change keeps the table as it is until rows and record are committed.
    const next = yield* catalog.change((changes) =>
      Effect.suspend(() => {
        const table = tableOf(channel.record)
        return table === undefined
          ? Effect.succeed(undefined)
          : Effect.tap(
            RowCommit.commit(changes.connection, segment, table, channel.record, changes.now),
            ({ rowsInserted }) =>
              rowsInserted === channel.record.rowsInserted
                ? Effect.void
                : StreamLog.record(changes.connection, catalog.streamsOn(table.id))
          )
      })
    )
    if (next === undefined) return yield* invalidate(channel, statusCode(channel.record))
    channel.record = next
    channel.segments.shift()
    segment.discard()
    counters.commits++
  })

  const commitAll = (channel: OpenChannel): Effect.Effect<void> =>
    channel.lock.withPermit(
      Effect.whileLoop({
        // An open waits for the commit under way only, else a busy older writer could keep it out for ever.
        while: () => channel.segments.length > 0 && !channel.opening && !faults.holds(channel.record.channel),
        body: () =>
          Effect.uninterruptible(commitFirst(channel)).pipe(
            Effect.retry(retries),
            Effect.catchCause((cause) =>
              Cause.hasInterruptsOnly(cause) ? Effect.interrupt : Effect.andThen(
                // DuckDB's own message may hold a value, so it stays out of the log.
                Effect.logError("a channel's rows can't be committed", {
                  table: channel.record.table,
                  channel: channel.record.channel
                }),
                invalidate(channel, Channel.mustBeReopened)
              )
            )
          ),
        step: () => {}
      })
    )

  const schedule = (channel: OpenChannel): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (channel.committing || channel.segments.length === 0 || faults.holds(channel.record.channel)) {
        return Effect.void
      }
      channel.committing = true
      const { max, min } = settings.commitDelayMillis
      const more = faults.commitDelayMillis(channel.record.channel)
      return Effect.flatMap(Random.next, (fraction) => Effect.sleep(min + fraction * (max - min) + more)).pipe(
        Effect.andThen(commitAll(channel)),
        Effect.ensuring(Effect.sync(() => {
          channel.committing = false
        })),
        Effect.andThen(Effect.suspend(() => schedule(channel))),
        Effect.forkIn(scope),
        Effect.asVoid
      )
    })

  return { persist, discard, invalidate, statusCode, commitAll, schedule }
}
