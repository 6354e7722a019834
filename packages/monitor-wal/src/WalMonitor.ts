/**
 * The monitor of one server: looks at it every so often, judges what it sees, acts, and remembers.
 *
 * A server that can't be looked at is a condition: the monitor goes on asking, with longer and longer waits. What it remembers outlives a restart, so nothing is
 * told twice for that, and nothing forgotten.
 */
import * as ByteSize from "@etl-stream/core/ByteSize"
import type { Condition } from "@etl-stream/core/Condition"
import { type ConnectorError, isRetryable } from "@etl-stream/core/ConnectorError"
import type { Monitor, MonitorContext, MonitoredPipeline } from "@etl-stream/core/Monitor"
import * as RetryPolicy from "@etl-stream/core/RetryPolicy"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import { Alarms, atOnce } from "./Alarms.ts"
import * as Config from "./Config.ts"
import * as Drift from "./Drift.ts"
import { Growth } from "./Growth.ts"
import * as Lsn from "./Lsn.ts"
import { LsnHistory } from "./LsnHistory.ts"
import * as Memory from "./Memory.ts"
import * as Metrics from "./Metrics.ts"
import type { Look, Publication } from "./Observation.ts"
import * as Outlook from "./Outlook.ts"
import { describe, directoryOf, judgeLevel, levels, SlotWatch, type Surroundings, sustainedOf } from "./SlotWatch.ts"

/** What the monitor sees the server with. */
export interface Observer {
  readonly look: Effect.Effect<Look, ConnectorError>
  /** The publications of those names. */
  readonly publications: (names: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Publication>, ConnectorError>
}

/** Samples of the log's end that outlive a restart. */
const keptSamples = 64
/** What changes all the time (texts, samples) is kept this often, everything else at once. Milliseconds. */
const keepEvery = 60_000
/** The longest wait between attempts to look, when looks are more frequent. */
const longestWait = Duration.minutes(1)

/** Tables that a pipeline reads. */
const tablesOf = (pipeline: MonitoredPipeline | undefined): ReadonlyArray<TableId> =>
  pipeline === undefined
    ? []
    : pipeline.view().tables.filter(({ phase }) => phase !== "left").map(({ table }) => table)

const unreachable = (error: ConnectorError): Condition => ({
  name: "server-unreachable",
  severity: "warning",
  message: `The server can't be looked at: ${error.message}`,
  hint: error.hint
})

const withoutDirectory: Condition = {
  name: "wal-directory-unknown",
  severity: "warning",
  message: "The role may not see the WAL directory; its size is taken to be what the slots keep",
  hint: "GRANT pg_monitor TO the monitor's role, or leave `disk` out: slots are watched all the same."
}

const withoutBudget: Condition = {
  name: "wal-budget-unknown",
  severity: "warning",
  message: "Nothing says how much WAL slots may keep, so shares of it and the time that is left are not known",
  hint: "Set `budget` (or `disk`) in the monitor's options, or max_slot_wal_keep_size at the server."
}

const idleSlot = (slot: string, bytes: number): Condition => ({
  name: "slot-idle",
  subject: slot,
  severity: "warning",
  message: `The slot ${slot}, which nobody reads, keeps ${ByteSize.format(bytes)} of WAL`,
  hint: "It fills the disk for all. If its reader is not to come back, drop it: SELECT pg_drop_replication_slot('…')."
})

/** What a monitor knows while it runs. */
class Session {
  private readonly name: string
  private readonly config: Config.Config
  private readonly context: MonitorContext
  private readonly observer: Observer
  private readonly alarms: Alarms
  private readonly history: LsnHistory
  private readonly directoryGrowth: Growth
  private readonly metrics: ReturnType<typeof Metrics.forMonitor>
  private readonly surroundings: Surroundings
  private readonly memory: Memory.Memory | undefined
  private readonly watches = new Map<string, SlotWatch>()
  private drifted = -Infinity
  private saved = { at: -Infinity, gist: "" }
  private savingFails = false

  constructor(options: {
    readonly name: string
    readonly config: Config.Config
    readonly context: MonitorContext
    readonly observer: Observer
    readonly memory: Memory.Memory | undefined
    readonly surroundings: Surroundings
  }) {
    this.name = options.name
    this.config = options.config
    this.context = options.context
    this.observer = options.observer
    this.memory = options.memory
    this.surroundings = options.surroundings
    this.alarms = options.surroundings.alarms
    this.history = options.surroundings.history
    this.directoryGrowth = new Growth(Duration.toMillis(options.config.window))
    this.metrics = Metrics.forMonitor(options.name)
  }

  /** One look and everything that follows from it: the status. */
  readonly look: Effect.Effect<Schema.Json, ConnectorError> = Effect.suspend(() =>
    Effect.gen({ self: this }, function*() {
      const look = yield* this.observer.look
      const now = yield* Clock.currentTimeMillis
      const pipelines = this.context.pipelines()
      const watched = Config.watched(this.config, pipelines.map(({ name }) => name))
      yield* Metric.update(this.metrics.up, 1)
      yield* this.alarms.judge(
        { name: "server-unreachable", severity: "warning", message: "", hint: "" },
        { met: false, over: true },
        now,
        atOnce
      )
      const last = this.history.thinned(2).at(-1)
      if (last !== undefined && look.server.lsn < last.lsn) {
        // The log begins anew, as after a server was put back: rates across that mean nothing.
        this.directoryGrowth.reset()
        for (const watch of this.watches.values()) watch.restart()
      }
      this.history.add(now, look.server.lsn)
      for (const one of watched) {
        const pipeline = pipelines.find(({ name }) => name === one.pipeline)
        yield* this.watchOf(one.slot).see(one, look, { pipeline: one.pipeline, control: pipeline?.control }, now)
      }
      yield* this.judgeOthers(look, watched, now)
      yield* this.judgeServer(look, now)
      if (now - this.drifted >= Duration.toMillis(this.config.drift)) {
        yield* this.judgePublications(look, watched, pipelines, now)
        this.drifted = now
      }
      const patience = Math.max(Duration.toMillis(this.config.every), Duration.toMillis(this.config.drift)) * 3
      yield* this.alarms.forgetBefore(now - patience)
      yield* this.save(now)
      return this.status(look, watched, now)
    })
  )

  /** A look has failed. */
  failed(error: ConnectorError): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const now = yield* Clock.currentTimeMillis
      yield* Metric.update(this.metrics.up, 0)
      const sustained = sustainedOf(this.config)
      // What a wait doesn't mend is told at once.
      yield* this.alarms.judge(
        unreachable(error),
        { met: true, over: false },
        now,
        isRetryable(error) ? sustained : atOnce
      )
      yield* this.save(now)
    })
  }

  private watchOf(slot: string): SlotWatch {
    const known = this.watches.get(slot)
    if (known !== undefined) return known
    const document = this.memory?.document ?? Memory.nothing
    const made = new SlotWatch(this.surroundings, slot, {
      entry: document.slots[slot],
      ladder: document.ladders[slot]
    })
    this.watches.set(slot, made)
    return made
  }

  private judgeOthers(look: Look, watched: ReadonlyArray<Config.Watched>, now: number): Effect.Effect<void> {
    const { hysteresis } = this.config.thresholds
    return Effect.forEach(othersOf(look, watched), ({ bytes, slot }) => {
      const idle = !slot.active && !slot.temporary && slot.synced !== true
      return this.alarms.judge(
        idleSlot(slot.name, bytes),
        {
          met: idle && bytes >= this.config.idleSlots,
          over: !idle || bytes < this.config.idleSlots * (1 - hysteresis)
        },
        now,
        sustainedOf(this.config)
      )
    }, { discard: true })
  }

  private judgeServer(look: Look, now: number): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const { actions, budget, disk, thresholds } = this.config
      const size = directoryOf(look)
      yield* Metric.update(this.metrics.directory, size)
      const blind = look.directory === undefined
      yield* this.alarms.judge(withoutDirectory, { met: blind, over: !blind }, now, atOnce)
      const triggers = [
        ...levels.flatMap((level) => Config.triggers(thresholds[level])),
        ...actions.map(({ at }) => at)
      ]
      const aimless = budget === undefined && disk === undefined && look.server.keepSize === undefined &&
        triggers.some(({ _tag }) => _tag !== "Size")
      yield* this.alarms.judge(withoutBudget, { met: aimless, over: !aimless }, now, atOnce)
      this.directoryGrowth.add(now, size)
      if (disk === undefined) return
      const outlook = Outlook.make(
        size,
        { server: undefined, budget: undefined, disk: disk - size },
        this.directoryGrowth.rate()
      )
      yield* Effect.forEach(levels, (level) =>
        this.alarms.judge(
          {
            name: `wal-directory-${level}`,
            severity: level === "danger" ? "critical" : "warning",
            message: `The WAL directory has ${describe(outlook)}`,
            hint: "See which slots keep it, what archiving does (archive_command), and whether the disk can grow."
          },
          judgeLevel(this.config, level, outlook, false),
          now,
          sustainedOf(this.config)
        ), { discard: true })
    })
  }

  private judgePublications(
    look: Look,
    watched: ReadonlyArray<Config.Watched>,
    pipelines: ReadonlyArray<MonitoredPipeline>,
    now: number
  ): Effect.Effect<void, ConnectorError> {
    return Effect.gen({ self: this }, function*() {
      // A database has only its own publications.
      const here = watched.filter(({ slot }) =>
        look.slots.some(({ database, name }) => name === slot && database === look.server.database)
      )
      const names = here.map((one) => one.publication ?? this.watchOf(one.slot).entry?.publication ?? one.slot)
      const found = yield* this.observer.publications([...new Set(names)])
      for (const one of here) {
        const watch = this.watchOf(one.slot)
        const { entry } = watch
        if (entry === undefined) continue
        const expected = one.tables ?? tablesOf(pipelines.find(({ name }) => name === one.pipeline))
        const { identified, judgements, publication } = Drift.ofPublication(one, found, expected, entry)
        watch.entry = {
          ...entry,
          ...(publication === undefined ? {} : { publication }),
          ...(identified === undefined ? {} : { identified })
        }
        for (const { condition, met } of judgements) {
          yield* this.alarms.judge(condition, { met, over: !met }, now, { ...sustainedOf(this.config), clear: 0 })
        }
      }
    })
  }

  /** Keeps what has to outlive a restart. */
  private save(now: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { memory } = this
      if (memory === undefined) return Effect.void
      const slots = { ...memory.document.slots }
      const ladders = { ...memory.document.ladders }
      for (const [name, watch] of this.watches) {
        if (watch.entry !== undefined) slots[name] = watch.entry
        const ladder = watch.ladderEntry()
        if (ladder.actions.length > 0) ladders[name] = ladder
        else delete ladders[name]
      }
      const alarms = this.alarms.entries()
      const gist = JSON.stringify([
        alarms.map((
          { name, overSince, raised, since, subject, table }
        ) => [name, table, subject, since, raised, overSince]),
        Object.entries(slots).map(([name, { present, anew, identified }]) => [name, present, anew, identified]),
        ladders
      ])
      if (gist === this.saved.gist && now - this.saved.at < keepEvery) return Effect.void
      return memory.save({ version: 1, alarms, slots, ladders, history: this.history.thinned(keptSamples) }).pipe(
        Effect.andThen(Effect.sync(() => {
          this.saved = { at: now, gist }
          this.savingFails = false
        })),
        Effect.catch((error) => {
          const again = this.savingFails
          this.savingFails = true
          return again ? Effect.void : Effect.logWarning(`What the monitor knows can't be kept: ${error.message}`).pipe(
            Effect.annotateLogs({ monitor: this.name, hint: error.hint })
          )
        })
      )
    })
  }

  private status(look: Look, watched: ReadonlyArray<Config.Watched>, now: number): Schema.Json {
    const { server } = look
    return {
      lookedAt: new Date(now).toISOString(),
      server: {
        version: `${Math.floor(server.version / 10_000)}.${server.version % 10_000}`,
        standby: server.standby,
        database: server.database,
        wal: Lsn.format(server.lsn),
        slotKeepBytes: server.keepSize ?? null
      },
      directory: {
        bytes: directoryOf(look),
        estimated: look.directory === undefined,
        growthBytesPerSecond: this.directoryGrowth.rate() ?? null,
        diskBytes: this.config.disk ?? null
      },
      slots: watched.filter(({ named, slot }) => named || this.watchOf(slot).entry !== undefined).map(({ slot }) =>
        this.watchOf(slot).status()
      ),
      otherSlots: othersOf(look, watched).map(({ bytes, slot }) => ({
        slot: slot.name,
        active: slot.active,
        retainedBytes: bytes
      }))
    }
  }
}

const othersOf = (look: Look, watched: ReadonlyArray<Config.Watched>) =>
  look.slots.filter(({ name }) => !watched.some(({ slot }) => slot === name)).map((slot) => ({
    slot,
    bytes: slot.restart === undefined ? 0 : Lsn.distance(slot.restart, look.server.lsn)
  }))

/** What is remembered; nothing, and it is said, when the state store doesn't answer: a server is watched all the same. */
const remembered = (context: MonitorContext, name: string): Effect.Effect<Memory.Memory | undefined> =>
  Memory.load(context.state, name).pipe(
    Effect.retry(RetryPolicy.make({ times: 3 })),
    Effect.catch((error) =>
      Effect.logWarning(`What the monitor knew can't be read: ${error.message}`).pipe(
        Effect.annotateLogs({ monitor: name, hint: error.hint }),
        Effect.as(undefined)
      )
    )
  )

/** The monitor of what `observer` sees. */
export const make = (name: string, config: Config.Config, observer: Observer): Monitor => {
  let status: Schema.Json = { lookedAt: null }
  let problem: string | null = null
  return {
    status: () =>
      typeof status === "object" && status !== null && !Array.isArray(status) ? { ...status, problem } : status,
    run: Effect.fnUntraced(function*(context) {
      const memory = yield* remembered(context, name)
      const scope = yield* Effect.scope
      const document = memory?.document ?? Memory.nothing
      const alarms = new Alarms(context.conditions, document.alarms, yield* Clock.currentTimeMillis)
      yield* alarms.restore
      const session = new Session({
        name,
        config,
        context,
        observer,
        memory,
        surroundings: { monitor: name, config, alarms, history: new LsnHistory(document.history), scope }
      })
      const waits = Schedule.min([
        Schedule.exponential(config.every),
        Schedule.spaced(Duration.max(config.every, longestWait))
      ]).pipe(Schedule.jittered)
      const once = session.look.pipe(
        Effect.tapError((error) => {
          problem = error.message
          return session.failed(error)
        }),
        Effect.retry(waits),
        Effect.map((seen): void => {
          status = seen
          problem = null
        }),
        Effect.annotateLogs({ monitor: name })
      )
      return yield* Effect.andThen(Effect.repeat(once, Schedule.spaced(config.every)), Effect.never)
    })
  }
}
