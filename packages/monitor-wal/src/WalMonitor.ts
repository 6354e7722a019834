/**
 * The monitor of one server: looks at it every so often, judges what it sees, acts, and remembers.
 *
 * A server that can't be looked at is a condition: the monitor goes on asking, with longer and longer waits. What it remembers outlives a restart, so nothing is
 * told twice for that, and nothing forgotten.
 */
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
import { LsnHistory } from "./LsnHistory.ts"
import * as Memory from "./Memory.ts"
import * as Metrics from "./Metrics.ts"
import type { Look, Publication } from "./Observation.ts"
import { ServerWatch } from "./ServerWatch.ts"
import { SlotWatch, type Surroundings, sustainedOf } from "./SlotWatch.ts"

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

/** What a monitor knows while it runs. */
class Session {
  private readonly name: string
  private readonly config: Config.Config
  private readonly context: MonitorContext
  private readonly observer: Observer
  private readonly alarms: Alarms
  private readonly history: LsnHistory
  private readonly server: ServerWatch
  private readonly metrics: ReturnType<typeof Metrics.forMonitor>
  private readonly surroundings: Surroundings
  private memory: Memory.Memory | undefined
  private asked: number
  private readonly watches = new Map<string, SlotWatch>()
  private drifted = -Infinity
  private driftFails = false
  private saved = { at: -Infinity, gist: "" }
  private savingFails = false

  constructor(options: {
    readonly name: string
    readonly config: Config.Config
    readonly context: MonitorContext
    readonly observer: Observer
    readonly memory: Memory.Memory | undefined
    readonly now: number
    readonly surroundings: Surroundings
  }) {
    this.name = options.name
    this.config = options.config
    this.context = options.context
    this.observer = options.observer
    this.memory = options.memory
    this.asked = options.now
    this.surroundings = options.surroundings
    this.alarms = options.surroundings.alarms
    this.history = options.surroundings.history
    this.server = new ServerWatch(options.surroundings)
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
        this.server.restart()
        for (const watch of this.watches.values()) watch.restart()
      }
      this.history.add(now, look.server.lsn)
      for (const one of watched) {
        const pipeline = pipelines.find(({ name }) => name === one.pipeline)
        yield* this.watchOf(one.slot).see(one, look, { pipeline: one.pipeline, control: pipeline?.control }, now)
      }
      for (const [slot, watch] of this.watches) {
        if (!watched.some((one) => one.slot === slot)) yield* watch.unseen
      }
      yield* this.server.see(look, watched, now)
      if (now - this.drifted >= Duration.toMillis(this.config.drift)) {
        this.drifted = now
        yield* this.lookForDrift(look, watched, pipelines, now)
      }
      const patience = Math.max(Duration.toMillis(this.config.every), Duration.toMillis(this.config.drift)) * 3
      // What can't be looked at is as it was.
      if (!this.driftFails) yield* this.alarms.forgetBefore(now - patience)
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

  /** The monitor ends. */
  readonly release: Effect.Effect<void> = Effect.suspend(() =>
    Effect.andThen(
      Metric.update(this.metrics.up, 1),
      Effect.forEach([...this.watches.values()], (watch) => watch.release, { discard: true })
    )
  )

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

  /** Looks at the publications; that this fails is told, and is no reason to lose sight of the slots. */
  private lookForDrift(
    look: Look,
    watched: ReadonlyArray<Config.Watched>,
    pipelines: ReadonlyArray<MonitoredPipeline>,
    now: number
  ): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const error = yield* Effect.match(this.judgePublications(look, watched, pipelines, now), {
        onFailure: (error) => error,
        onSuccess: () => undefined
      })
      this.driftFails = error !== undefined
      yield* this.alarms.judge(
        {
          name: "publications-unknown",
          severity: "warning",
          message: `The publications can't be looked at: ${error?.message ?? ""}`,
          hint: error?.hint ?? ""
        },
        { met: error !== undefined, over: error === undefined },
        now,
        { ...sustainedOf(this.config), clear: 0 }
      )
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
      const here = watched.filter(({ slot }) => {
        const seen = look.slots.find(({ name }) => name === slot)
        return (seen?.database ?? this.watchOf(slot).entry?.database) === look.server.database
      })
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
      if (memory === undefined) return this.askAgain(now)
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

  /** The state store didn't answer when the monitor began. What it holds is older than what is seen since, but it can be written to. */
  private askAgain(now: number): Effect.Effect<void> {
    if (now - this.asked < keepEvery) return Effect.void
    this.asked = now
    return Memory.load(this.context.state, this.name).pipe(Effect.match({
      onFailure: () => undefined,
      onSuccess: (memory) => {
        this.memory = memory
      }
    }))
  }

  private status(look: Look, watched: ReadonlyArray<Config.Watched>, now: number): Schema.Json {
    return {
      lookedAt: new Date(now).toISOString(),
      ...this.server.status(look, watched),
      slots: watched.filter(({ named, slot }) => named || this.watchOf(slot).entry !== undefined).map(({ slot }) =>
        this.watchOf(slot).status()
      )
    }
  }
}

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
      const now = yield* Clock.currentTimeMillis
      const alarms = new Alarms(context.conditions, document.alarms, now)
      yield* alarms.restore
      const session = new Session({
        name,
        config,
        context,
        observer,
        memory,
        now,
        surroundings: { monitor: name, config, alarms, history: new LsnHistory(document.history), scope }
      })
      yield* Effect.addFinalizer(() => session.release)
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
