/**
 * The pipeline's sign of life in the server's log, and the gate of what may be confirmed.
 *
 * A record (`HeartbeatRecord`) is written every `heartbeat.every`, and within a second after changes became durable; only the position in
 * the last one is confirmed (of a slot on a standby, or one that standbys keep, in the last one that came back: then they have it, too). So a slot moves on idle databases, too, and the next run can tell that it stands where this pipeline left it.
 * The records come back in the stream, which shows that all of it works: their delay is a metric, and a condition when they stay away. The
 * session that writes them is also the first to hear that the server shuts down: the stream then hangs up, for a server waits
 * for its readers, also for those that stand still.
 */
import type { Conditions } from "@etl-stream/core/Condition"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import type { SourceSpool } from "@etl-stream/core/Source"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import type { Client } from "pg"
import * as Connections from "./Connections.ts"
import * as HeartbeatRecord from "./HeartbeatRecord.ts"
import * as Lsn from "./Lsn.ts"
import * as Metrics from "./Metrics.ts"
import type { WalStream } from "./ReplicationConnection.ts"
import * as Slot from "./Slot.ts"

export interface Options {
  readonly connections: Connections.Connections
  readonly serverVersion: number
  readonly conditions: Conditions
  /** The position up to which everything is durable at the sink. */
  readonly acknowledged: () => Lsn.Lsn
  /** What may stand behind a higher position. */
  readonly spool: SourceSpool | undefined
}

export interface Heartbeat {
  /** The position that may be confirmed to the server. */
  readonly confirmable: () => Lsn.Lsn
  /** Takes note of what the stream brings, and leaves out heartbeats, other pipelines' too. */
  readonly observe: (elements: ReadonlyArray<Element>) => ReadonlyArray<Element>
  /** Runs beside the stream. Never ends; when heartbeats can't be written at all, it hangs the stream up. */
  readonly run: (wal: WalStream) => Effect.Effect<never>
  /** Why the stream was hung up, when it was for that reason. */
  readonly failure: () => ConnectorError | undefined
  /** Writes and confirms what became durable last, for the end of a stream. Never fails and doesn't take long. */
  readonly finish: (wal: WalStream) => Effect.Effect<void>
}

const tick = Duration.millis(250)
/** After changes: how soon the position that became durable is written and confirmed. */
const freshMillis = 1000
/** So many heartbeats may be on their way before that is a condition. */
const lateBeats = 3
const reconnect = Duration.seconds(1)
const finishTimeout = Duration.seconds(1)

const late = "heartbeat-late"
const atRisk = "slot-at-risk"

const isHeartbeat = (element: Element): boolean =>
  element._tag === "Message" && element.prefix === HeartbeatRecord.prefix

/** Nobody can grant or create it while the pipeline runs, so a new attempt is of no use. */
const unwritable = (error: ConnectorError): ConnectorError | undefined =>
  error.reason === "Forbidden" || error.reason === "Rejected"
    ? new ConnectorError({
      ...error,
      hint:
        "Allow it (GRANT EXECUTE ON FUNCTION pg_catalog.pg_logical_emit_message TO the role), or set heartbeat.enabled to false."
    })
    : undefined

export const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<Heartbeat> {
  const { conditions, connections, spool } = options
  const { heartbeat, pipeline, slot } = connections.settings
  const clock = yield* Clock.Clock
  const metrics = Metrics.forPipeline(pipeline)
  /** Whether a record counts only once it has come back: then the standbys have it, or this standby. */
  const roundTrip = slot.failover || connections.primary !== connections
  const every = Duration.toMillis(heartbeat.every)
  // A record is written, and its return seen, when one looks: no sooner can one be late.
  const lateAfter = Math.max(every, Duration.toMillis(tick)) * lateBeats
  const run = crypto.randomUUID()
  let recorded = 0n
  /** The position in the last record that came back. */
  let seen = 0n
  let writtenAt = 0
  /** When the last record that came back was written; before there is one, the first record's time. */
  let returnedAt: number | undefined
  /** Changes have come since the last watermark. */
  let changed = false
  /** The watermark after the last changes: what is to be recorded soon. */
  let wanted = 0n
  let delay: number | undefined
  let failure: ConnectorError | undefined

  /** The position up to which everything is durable, at the sink or in the spool. */
  const safe = (): Lsn.Lsn => {
    const durable = options.acknowledged()
    const kept = spool?.kept() ?? 0n
    return kept > durable ? kept : durable
  }

  const write = Effect.fnUntraced(function*(execute: (sql: string) => Effect.Effect<unknown, ConnectorError>) {
    const durable = options.acknowledged()
    const position = safe()
    const at = clock.currentTimeMillisUnsafe()
    const common = { pipeline, slot: slot.name, run, at, confirmed: Lsn.format(position) }
    const record: HeartbeatRecord.Record = spool === undefined || position === durable
      ? { version: 1, ...common }
      : { version: 2, ...common, durable: Lsn.format(durable), spool: spool.id }
    yield* execute(HeartbeatRecord.statement(record))
    // Never lower: what was recorded once stays allowed.
    if (position > recorded) recorded = position
    writtenAt = at
    returnedAt ??= at
  })

  const returned = (element: Element): void => {
    if (element._tag !== "Message") return
    const record = HeartbeatRecord.parse(element.content)
    if (record?.run !== run) return
    returnedAt = record.at
    seen = HeartbeatRecord.confirmed(record)
    delay = (clock.currentTimeMillisUnsafe() - record.at) / 1000
  }

  /** Raises what needs somebody, and clears it. */
  const watch = Effect.gen(function*() {
    if (delay !== undefined) yield* Metric.update(metrics.heartbeatDelay, delay)
    const now = clock.currentTimeMillisUnsafe()
    const waiting = returnedAt === undefined || returnedAt >= writtenAt ? 0 : now - returnedAt
    if (waiting > lateAfter) {
      yield* conditions.raise({
        name: late,
        severity: "warning",
        message: `heartbeats of slot ${slot.name} don't come back in the stream within ${
          Duration.format(Duration.millis(lateAfter))
        }`,
        hint:
          "The stream is far behind the server, or stands still: see whether the sink takes changes, and how far the slot is."
      })
    } else yield* conditions.clear(late)
  })

  const inspect = Effect.gen(function*() {
    const state = yield* Slot.read(connections, options.serverVersion)
    if (state?.safeBytes !== undefined) yield* Metric.update(metrics.slotSafeSize, state.safeBytes)
    if (state?.walStatus === "unreserved") {
      yield* conditions.raise({
        name: atRisk,
        severity: "critical",
        message:
          `replication slot ${slot.name} holds more log than the server keeps for it: it is lost at the next checkpoint`,
        hint: "Raise max_slot_wal_keep_size (it needs no restart) until the pipeline has caught up."
      })
    } else if (state !== undefined) yield* conditions.clear(atRisk)
  })

  const beat = (execute: (sql: string) => Effect.Effect<unknown, ConnectorError>, wal: WalStream) =>
    Effect.gen(function*() {
      const since = clock.currentTimeMillisUnsafe() - writtenAt
      const due = since >= every || since < 0
      if (due || (since >= freshMillis && wanted > recorded && safe() > recorded)) {
        yield* write(execute)
        yield* wal.sendStatus
        if (due) yield* inspect
      }
      yield* watch
    })

  const ended = (client: Client) =>
    Effect.callback<void>((resume) => {
      client.once("end", () => resume(Effect.void))
    })

  /** One session: beats until the connection ends. */
  const session = (wal: WalStream) =>
    Effect.gen(function*() {
      const client = yield* connections.client("query")
      const writer = connections.primary === connections ? client : yield* connections.primary.client("query")
      const execute = (sql: string) => Connections.run(writer, "writing a heartbeat", sql)
      const beating = heartbeat.enabled ? beat(execute, wal) : Effect.void
      yield* Effect.raceAllFirst([ended(client), ended(writer), Effect.repeat(beating, Schedule.spaced(tick))])
    }).pipe(Effect.scoped)

  return {
    confirmable: !heartbeat.enabled ? options.acknowledged : roundTrip ? () => seen : () => recorded,
    observe: (elements) => {
      let own = false
      for (const element of elements) {
        if (isHeartbeat(element)) {
          own = true
          returned(element)
        } else if (element._tag !== "Watermark") changed = true
        else if (changed) {
          changed = false
          wanted = element.position
        }
      }
      return own ? elements.filter((element) => !isHeartbeat(element)) : elements
    },
    run: (wal) =>
      session(wal).pipe(
        Effect.catch((error) => {
          failure = unwritable(error)
          return failure === undefined ? watch : Effect.andThen(wal.hangUp, Effect.never)
        }),
        Effect.andThen(Effect.flatMap(
          connections.isDown,
          (down) => down ? wal.hangUp : Effect.void
        )),
        Effect.repeat(Schedule.spaced(reconnect)),
        Effect.andThen(Effect.never)
      ),
    failure: () => failure,
    finish: (wal) =>
      !heartbeat.enabled || safe() <= recorded
        ? Effect.void
        : write((sql) => connections.primary.execute("writing a heartbeat", sql)).pipe(
          Effect.andThen(wal.sendStatus),
          Effect.timeoutOption(finishTimeout),
          Effect.ignore,
          Effect.interruptible
        )
  }
})
