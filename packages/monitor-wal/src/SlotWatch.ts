/**
 * One watched slot from look to look: what it keeps, how that grows and when it is too much, what has become of it, and what is done about it.
 */
import * as ByteSize from "@etl-stream/core/ByteSize"
import type { Condition } from "@etl-stream/core/Condition"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { type Alarms, atOnce, type Sustained } from "./Alarms.ts"
import * as Config from "./Config.ts"
import * as Drift from "./Drift.ts"
import { Growth } from "./Growth.ts"
import { Ladder, type Target } from "./Ladder.ts"
import * as Lsn from "./Lsn.ts"
import type { Lag, LsnHistory } from "./LsnHistory.ts"
import type { LadderEntry, SlotEntry } from "./Memory.ts"
import * as Metrics from "./Metrics.ts"
import type { Look, Slot } from "./Observation.ts"
import * as Outlook from "./Outlook.ts"
import * as Trigger from "./Trigger.ts"

/** What all slots of a monitor share. */
export interface Surroundings {
  readonly monitor: string
  readonly config: Config.Config
  readonly alarms: Alarms
  readonly history: LsnHistory
  readonly scope: Scope.Scope
}

export const sustainedOf = ({ thresholds }: Config.Config): Sustained => {
  const millis = Duration.toMillis(thresholds.sustained)
  return { raise: millis, clear: millis }
}

/** The levels of which an outlook is told. */
export const levels = ["warning", "danger"] as const

/** Whether an outlook has come to a level, and whether it is clearly below it. Of what isn't a slot, sizes say nothing: they are slots'. */
export const judgeLevel = (
  { thresholds }: Config.Config,
  level: typeof levels[number],
  outlook: Outlook.Outlook,
  sizes: boolean
): { readonly met: boolean; readonly over: boolean } => {
  const triggers = Config.triggers(thresholds[level]).filter(({ _tag }) => sizes || _tag !== "Size")
  return {
    met: triggers.some((trigger) => Trigger.isMet(trigger, outlook)),
    over: triggers.every((trigger) => Trigger.isOver(trigger, outlook, thresholds.hysteresis))
  }
}

/** `12 GiB of WAL (62 % of what it may); at 4.5 MiB/s the rest lasts 28 minutes`. */
export const describe = ({ growth, left, share, used }: Outlook.Outlook): string =>
  [
    `${ByteSize.format(used)} of WAL${share === undefined ? "" : ` (${Trigger.percent(share)} of its budget)`}`,
    growth !== undefined && growth > 0 && left !== undefined && Number.isFinite(left)
      ? `at ${ByteSize.format(Math.round(growth))}/s the rest lasts ${Trigger.span(left)}`
      : ""
  ].filter((part) => part !== "").join("; ")

const hint =
  "See why its reader falls behind (the pipeline's freshness and errors, and the sink's), or raise max_slot_wal_keep_size or `budget` if the disk has room."

const lagJson = (lag: Lag | undefined): Schema.Json =>
  lag === undefined ? null : { seconds: Math.round(lag.millis / 100) / 10, atLeast: lag.atLeast }

const iso = (millis: number | undefined): string | null => millis === undefined ? null : new Date(millis).toISOString()

export class SlotWatch {
  private readonly surroundings: Surroundings
  private readonly name: string
  private readonly growth: Growth
  private readonly ladder: Ladder
  private readonly metrics: ReturnType<typeof Metrics.forSlot>
  private slot: Slot | undefined
  private outlook: Outlook.Outlook | undefined
  private lags: { readonly restart: Lag | undefined; readonly confirmed: Lag | undefined } | undefined
  private end: Lsn.Lsn = 0n
  private target: Target = { pipeline: undefined, control: undefined }
  /** Whether the metrics tell a state, and a limit. */
  private told = false
  private limitTold = false
  /** What is known of it; undefined as long as it has never been seen. */
  entry: SlotEntry | undefined

  constructor(
    surroundings: Surroundings,
    name: string,
    remembered: { readonly entry: SlotEntry | undefined; readonly ladder: LadderEntry | undefined }
  ) {
    const { alarms, config, monitor, scope } = surroundings
    this.surroundings = surroundings
    this.name = name
    this.entry = remembered.entry
    this.growth = new Growth(Duration.toMillis(config.window))
    this.metrics = Metrics.forSlot(monitor, name)
    this.ladder = new Ladder({
      monitor,
      slot: name,
      actions: config.actions,
      wait: Duration.toMillis(config.wait),
      sustained: Duration.toMillis(config.thresholds.sustained),
      hysteresis: config.thresholds.hysteresis,
      alarms,
      scope
    }, remembered.ladder)
  }

  ladderEntry(): LadderEntry {
    return this.ladder.entry()
  }

  /** The monitor ends. */
  get release(): Effect.Effect<void> {
    return Effect.andThen(this.unseen, this.ladder.release)
  }

  /** It isn't watched any more: its metrics shall not go on telling what was. */
  readonly unseen: Effect.Effect<void> = Effect.suspend(() =>
    this.told ? Effect.andThen(this.recordState(undefined), this.recordGone) : Effect.void
  )

  /** The log is another one than before. */
  restart(): void {
    this.growth.reset()
  }

  /** Takes in what a look has seen of it at `now`. */
  see(watched: Config.Watched, look: Look, target: Target, now: number): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const slot = look.slots.find(({ name }) => name === this.name)
      this.slot = slot
      this.target = target
      this.end = look.server.lsn
      if (slot === undefined) return yield* this.seeMissing(watched, now)
      const { alarms, config, history } = this.surroundings
      this.entry = Drift.remember(look.server, slot, this.entry, now)
      for (const { condition, met } of Drift.ofSlot(slot, watched, this.entry)) {
        yield* alarms.judge(condition, { met, over: !met }, now, atOnce)
      }
      this.lags = {
        restart: slot.restart === undefined ? undefined : history.lag(slot.restart, now),
        confirmed: slot.confirmed === undefined ? undefined : history.lag(slot.confirmed, now)
      }
      const lost = slot.status === "lost" || slot.invalidation !== undefined
      if (slot.restart === undefined || lost) {
        // It keeps nothing any more: there is no outlook, and nothing that could be done about it.
        this.outlook = undefined
        this.growth.reset()
        this.ladder.keep(now)
        yield* this.judgeLevels(undefined, now)
      } else {
        const used = Lsn.distance(slot.restart, look.server.lsn)
        this.growth.add(now, used)
        this.outlook = Outlook.make(used, limitsOf(config, slot, look), this.growth.rate())
        yield* this.judgeLevels(this.outlook, now)
        yield* this.ladder.step(this.outlook, target, now)
      }
      yield* this.judgeReader(slot, now)
      yield* this.judgeHorizon(slot, now)
      yield* this.record(slot)
    })
  }

  status(): Schema.Json {
    const { entry, outlook, slot } = this
    return {
      slot: this.name,
      pipeline: this.target.pipeline ?? null,
      present: slot !== undefined,
      ...(slot === undefined ? {} : {
        active: slot.active,
        inactiveSince: iso(entry?.inactiveSince),
        walStatus: slot.status ?? null,
        invalidation: slot.invalidation ?? null,
        retainedBytes: outlook?.used ?? null,
        remainingBytes: outlook?.remaining ?? null,
        budgetShare: outlook?.share ?? null,
        growthBytesPerSecond: outlook?.growth ?? null,
        secondsLeft: outlook?.left === undefined || !Number.isFinite(outlook.left)
          ? null
          : Math.round(outlook.left / 1000),
        safeBytes: slot.safe ?? null,
        restartLagBytes: slot.restart === undefined ? null : Lsn.distance(slot.restart, this.end),
        restartLag: lagJson(this.lags?.restart),
        confirmedLagBytes: slot.confirmed === undefined ? null : Lsn.distance(slot.confirmed, this.end),
        confirmedLag: lagJson(this.lags?.confirmed),
        xminAge: slot.xminAge ?? null,
        catalogXminAge: slot.catalogXminAge ?? null,
        failover: slot.failover ?? null,
        twoPhase: slot.twoPhase ?? null,
        decoded: slot.decoded === undefined ? null : {
          spilledTransactions: slot.decoded.spilledTransactions,
          spilledBytes: slot.decoded.spilledBytes,
          streamedTransactions: slot.decoded.streamedTransactions,
          streamedBytes: slot.decoded.streamedBytes,
          totalTransactions: slot.decoded.totalTransactions,
          totalBytes: slot.decoded.totalBytes
        }
      }),
      actions: this.ladder.states().map(({ action, entry, state }) => ({
        at: Trigger.describe(action.at),
        do: action.do,
        state,
        since: iso(entry?.done),
        why: entry?.failed?.why ?? null,
        tables: [...entry?.tables ?? []]
      }))
    }
  }

  /** It isn't there: of all that is known of it only that is told. */
  private seeMissing(watched: Config.Watched, now: number): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const { alarms, config } = this.surroundings
      this.outlook = undefined
      this.lags = undefined
      this.growth.reset()
      this.ladder.keep(now)
      const known = this.entry !== undefined
      if (this.entry !== undefined) this.entry = { ...this.entry, present: false }
      const met = known || watched.named
      yield* alarms.judge(
        Drift.missing(this.name, known),
        { met, over: !met },
        now,
        known ? atOnce : sustainedOf(config)
      )
      yield* this.judgeLevels(undefined, now)
      if (met) {
        yield* this.recordState("missing")
        yield* this.recordGone
      }
    })
  }

  private judgeLevels(outlook: Outlook.Outlook | undefined, now: number): Effect.Effect<void> {
    const { alarms, config } = this.surroundings
    return Effect.forEach(levels, (level) => {
      const condition: Condition = {
        name: `slot-wal-${level}`,
        subject: this.name,
        severity: level === "danger" ? "critical" : "warning",
        message: `The slot ${this.name} keeps ${outlook === undefined ? "WAL" : describe(outlook)}`,
        hint
      }
      return outlook === undefined
        ? alarms.judge(condition, { met: false, over: true }, now, atOnce)
        : alarms.judge(condition, judgeLevel(config, level, outlook, true), now, sustainedOf(config))
    }, { discard: true })
  }

  private judgeReader(slot: Slot, now: number): Effect.Effect<void> {
    const { alarms, config } = this.surroundings
    const since = this.entry?.inactiveSince
    // A standby's copy of a slot is read by nobody until that is promoted.
    const met = since !== undefined && slot.synced !== true && now - since >= Duration.toMillis(config.inactive)
    return alarms.judge(
      {
        name: "slot-inactive",
        subject: this.name,
        severity: "warning",
        message: `The slot ${this.name} has had no reader${
          since === undefined ? "" : ` for ${Trigger.span(Math.max(0, now - since))}`
        }`,
        hint: "Start its pipeline, or drop the slot if it is not to come back: SELECT pg_drop_replication_slot('…')."
      },
      { met, over: slot.active },
      now,
      // After a start its reader may be about to begin.
      { ...sustainedOf(config), clear: 0 }
    )
  }

  private judgeHorizon(slot: Slot, now: number): Effect.Effect<void> {
    const { alarms, config } = this.surroundings
    const age = Math.max(slot.xminAge ?? 0, slot.catalogXminAge ?? 0)
    return alarms.judge(
      {
        name: "slot-xmin-age",
        subject: this.name,
        severity: "warning",
        message: `The slot ${this.name} holds vacuum back by ${age} transactions`,
        hint: "The server's catalogs bloat, and transaction ids run out in the end: let its reader catch up."
      },
      { met: age >= config.xminAge, over: age < config.xminAge * (1 - config.thresholds.hysteresis) },
      now,
      atOnce
    )
  }

  private recordState(current: string | undefined): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.told = current !== undefined
      return Effect.forEach(
        Metrics.states,
        (state) => Metric.update(this.metrics.status(state), state === current ? 1 : 0),
        { discard: true }
      )
    })
  }

  /** Of a slot that isn't there: it is not read and keeps nothing. */
  private readonly recordGone: Effect.Effect<void> = Effect.suspend(() =>
    Effect.andThen(
      Effect.forEach(
        [this.metrics.active, this.metrics.retained, this.metrics.growth],
        (metric) => Metric.update(metric, 0),
        { discard: true }
      ),
      this.recordLimit(undefined)
    )
  )

  /** What it may still keep; a limit that is gone is no longer told. */
  private recordLimit(outlook: Outlook.Outlook | undefined): Effect.Effect<void> {
    const limited = outlook?.remaining !== undefined
    if (!limited && !this.limitTold) return Effect.void
    this.limitTold = limited
    const left = Math.min((outlook?.left ?? Infinity) / 1000, Metrics.longestTimeLeft)
    return Effect.andThen(
      Metric.update(this.metrics.remaining, outlook?.remaining ?? Metrics.unlimited),
      Metric.update(this.metrics.timeLeft, left)
    )
  }

  private record(slot: Slot): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const { lags, metrics, outlook } = this
      yield* this.recordState(slot.invalidation === undefined ? slot.status ?? "reserved" : "lost")
      yield* Metric.update(metrics.active, slot.active ? 1 : 0)
      yield* Metric.update(metrics.xminAge, slot.xminAge ?? 0)
      yield* Metric.update(metrics.catalogXminAge, slot.catalogXminAge ?? 0)
      yield* Metric.update(metrics.retained, outlook?.used ?? 0)
      yield* this.recordLimit(outlook)
      yield* Metric.update(metrics.growth, outlook?.growth ?? 0)
      if (slot.restart !== undefined) yield* Metric.update(metrics.restartLag, Lsn.distance(slot.restart, this.end))
      if (slot.confirmed !== undefined) {
        yield* Metric.update(metrics.confirmedLag, Lsn.distance(slot.confirmed, this.end))
      }
      if (lags?.restart !== undefined) yield* Metric.update(metrics.restartDelay, lags.restart.millis / 1000)
      if (lags?.confirmed !== undefined) yield* Metric.update(metrics.confirmedDelay, lags.confirmed.millis / 1000)
      if (slot.decoded !== undefined) {
        yield* Metric.update(metrics.spilled, slot.decoded.spilledBytes)
        yield* Metric.update(metrics.streamed, slot.decoded.streamedBytes)
        yield* Metric.update(metrics.total, slot.decoded.totalBytes)
      }
    })
  }
}

/** The size of the WAL directory, or, where it may not be seen, what slots keep of it at least. */
export const directoryOf = ({ directory, server, slots }: Look): number =>
  directory ?? Math.max(0, ...slots.map(({ restart }) => restart === undefined ? 0 : Lsn.distance(restart, server.lsn)))

const limitsOf = (config: Config.Config, slot: Slot, look: Look): Outlook.Limits => ({
  server: look.server.keepSize === undefined ? undefined : slot.safe,
  budget: config.budget,
  disk: config.disk === undefined ? undefined : config.disk - directoryOf(look)
})
