/**
 * What is done about a slot as its WAL budget runs out: the configured actions, each once when its trigger is met, in their order.
 *
 * What can be undone is undone, last first, once the trigger has been over for a while: copies go on, changes are no longer kept on disk. A table in
 * quarantine stays there. An action that fails is told and tried again later; those after it are not held up by it. A share or a size acts at once, since
 * what is used is used; a predicted time has to last first. The quarantine sets one table aside, then waits to see whether that helps, as it waits for
 * what was done before it.
 */
import * as ByteSize from "@etl-stream/core/ByteSize"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { PipelineControl } from "@etl-stream/core/PipelineControl"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import * as ActionCondition from "./ActionCondition.ts"
import type { Alarms } from "./Alarms.ts"
import type { Action } from "./Config.ts"
import type { ActionEntry, LadderEntry } from "./Memory.ts"
import * as Metrics from "./Metrics.ts"
import * as MonitorError from "./MonitorError.ts"
import type { Outlook } from "./Outlook.ts"
import * as Trigger from "./Trigger.ts"

export interface Options {
  readonly monitor: string
  readonly slot: string
  readonly actions: ReadonlyArray<Action>
  /** Milliseconds: before a quarantine, and before what failed is tried again. */
  readonly wait: number
  /** Milliseconds. */
  readonly sustained: number
  readonly hysteresis: number
  readonly alarms: Alarms
  /** Where a quarantine goes on that takes longer than a look. */
  readonly scope: Scope.Scope
}

/** The pipeline that reads the slot; without a control when it doesn't run in this process. */
export interface Target {
  readonly pipeline: string | undefined
  readonly control: PipelineControl | undefined
}

/** An action and what has become of it. */
export interface State {
  readonly action: Action
  readonly state: "waiting" | "done" | "failed"
  readonly entry: ActionEntry | undefined
}

/** How long a request may take that a pipeline answers at once. */
const answerWithin = "30 seconds"

/** How long the end of the monitor waits for its pipelines. */
const releaseWithin = "5 seconds"

const keyOf = (action: Action): string => `${Trigger.format(action.at)} ${action.do}`

/** A quarantine that was asked for and isn't in place yet. */
interface UnderWay {
  readonly action: Action
  readonly table: TableId
  readonly fiber: Fiber.Fiber<void, ConnectorError>
}

type Attempt =
  | { readonly _tag: "Done"; readonly notOurs?: boolean; readonly table?: TableId }
  | { readonly _tag: "Waits" }
  | { readonly _tag: "Failed"; readonly why: string }

const done: Attempt = { _tag: "Done" }
const waits: Attempt = { _tag: "Waits" }
const failed = (why: string): Attempt => ({ _tag: "Failed", why })

/** Somebody else asked for it: it isn't ours to undo. */
const notOurs: Attempt = { _tag: "Done", notOurs: true }

const sentence = ({ message }: ConnectorError): string => message.replace(/\.$/, "")

const asked = (request: Effect.Effect<void, ConnectorError>): Effect.Effect<Attempt> =>
  request.pipe(
    Effect.timeoutOrElse({
      duration: answerWithin,
      orElse: () =>
        Effect.fail(MonitorError.make("Unreachable", "the pipeline doesn't answer", "See what keeps it busy."))
    }),
    Effect.match({ onFailure: (error) => failed(sentence(error)), onSuccess: () => done })
  )

const outcomeOf = (table: TableId, exit: Exit.Exit<void, ConnectorError>): Attempt => {
  if (Exit.isSuccess(exit)) return { _tag: "Done", table }
  const error = exit.cause.reasons.find(Cause.isFailReason)?.error
  return failed(error === undefined ? `the quarantine of ${table} was cut short` : sentence(error))
}

export class Ladder {
  private readonly options: Options
  private readonly metrics: ReturnType<typeof Metrics.forSlot>
  private readonly entries = new Map<string, ActionEntry>()
  private last: LadderEntry["last"]
  private underWay: UnderWay | undefined
  /** Whether what stands has been asked of this process's pipeline. */
  private asserted = false
  private control: PipelineControl | undefined

  constructor(options: Options, remembered: LadderEntry | undefined) {
    this.options = options
    this.metrics = Metrics.forSlot(options.monitor, options.slot)
    const known = new Set(options.actions.map(keyOf))
    for (const entry of remembered?.actions ?? []) if (known.has(entry.key)) this.entries.set(entry.key, entry)
    this.last = remembered?.last
  }

  /** For the memory. */
  entry(): LadderEntry {
    return { actions: [...this.entries.values()], ...(this.last === undefined ? {} : { last: this.last }) }
  }

  states(): ReadonlyArray<State> {
    return this.options.actions.map((action) => {
      const entry = this.entries.get(keyOf(action))
      return {
        action,
        entry,
        state: entry?.done !== undefined ? "done" : entry?.failed !== undefined ? "failed" : "waiting"
      }
    })
  }

  /** Does what `outlook` asks for at `now`, and undoes what it no longer does. */
  step(outlook: Outlook, target: Target, now: number): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      this.control = target.control
      if (!this.asserted && target.control !== undefined) {
        this.asserted = true
        yield* this.assert(target.control, now)
      }
      yield* this.settle(outlook, now)
      for (const action of this.options.actions) yield* this.take(action, outlook, target, now)
      for (const action of this.options.actions.toReversed()) yield* this.undoWhenOver(action, outlook, target, now)
      this.keep(now)
    })
  }

  /** The slot can't be judged at `now` (it is missing, or lost): everything stays as it is. */
  keep(now: number): void {
    for (const { action, entry } of this.states()) {
      if (entry === undefined) continue
      this.options.alarms.touch(ActionCondition.done(this.options.slot, action, nothing), now)
      this.options.alarms.touch(ActionCondition.failed(this.options.slot, action, ""), now)
    }
  }

  /**
   * The monitor ends: what it asked for is taken back, since nobody would undo it any more. What is remembered stays, and is asked for again when it
   * is still called for by then.
   */
  readonly release: Effect.Effect<void> = Effect.suspend(() => {
    const { control } = this
    if (control === undefined) return Effect.void
    return Effect.forEach(this.states().toReversed(), ({ action, entry }) => {
      if (entry?.done === undefined || entry.notOurs === true) return Effect.void
      if (action.do === "pause-copies") return control.pauseCopies(false)
      return action.do === "spool" ? asked(control.spool(false)) : Effect.void
    }, { discard: true }).pipe(Effect.interruptible, Effect.timeoutOption(releaseWithin))
  })

  /** A process that begins has forgotten what was asked of its pipelines. */
  private assert(control: PipelineControl, now: number): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (const { action, entry } of this.states()) {
        if (entry?.done === undefined || entry.notOurs === true) continue
        if (action.do === "pause-copies" && !control.copiesPaused()) yield* control.pauseCopies(true)
        if (action.do === "spool" && !control.isSpooling()) {
          const attempt = yield* asked(control.spool(true))
          if (attempt._tag !== "Failed") continue
          // It isn't in place any more, and is tried again like any other that failed.
          const { done: _, ...open } = entry
          yield* this.options.alarms.set(ActionCondition.done(this.options.slot, action, nothing), undefined, now)
          yield* this.fails(action, open, attempt.why, now)
        }
      }
    })
  }

  private take(action: Action, outlook: Outlook, target: Target, now: number): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const { hysteresis, sustained, wait } = this.options
      const key = keyOf(action)
      const known = this.entries.get(key)
      if (!Trigger.isMet(action.at, outlook)) {
        const rests = known?.failed === undefined || Trigger.isOver(action.at, outlook, hysteresis)
        if (known !== undefined && known.done === undefined && rests) {
          this.entries.delete(key)
          yield* this.clearFailure(action, now)
        }
        return
      }
      if (known?.done !== undefined && action.do !== "quarantine") return
      const entry = known ?? { key, since: now }
      this.entries.set(key, entry)
      if (action.at._tag === "Left" && now - entry.since < sustained) return
      if (entry.failed !== undefined && now - entry.failed.at < wait) return
      const attempt = yield* this.perform(action, entry, outlook, target, now)
      yield* this.conclude(action, entry, attempt, outlook, now)
    })
  }

  private perform(
    action: Action,
    entry: ActionEntry,
    outlook: Outlook,
    { control, pipeline }: Target,
    now: number
  ): Effect.Effect<Attempt> {
    if (action.do === "alert") return Effect.succeed(done)
    if (control === undefined) {
      return Effect.succeed(failed(
        pipeline === undefined
          ? "no pipeline of this process is known to read the slot (name it: `pipeline`)"
          : `the pipeline ${pipeline} doesn't run in this process`
      ))
    }
    switch (action.do) {
      case "pause-copies":
        return control.copiesPaused() ? Effect.succeed(notOurs) : asked(control.pauseCopies(true))
      case "spool":
        return control.isSpooling() ? Effect.succeed(notOurs) : asked(control.spool(true))
      case "quarantine":
        return this.quarantine(action, entry, outlook, control, now)
    }
  }

  private quarantine(
    action: Action,
    entry: ActionEntry,
    outlook: Outlook,
    control: PipelineControl,
    now: number
  ): Effect.Effect<Attempt> {
    return Effect.gen({ self: this }, function*() {
      if (this.underWay !== undefined) return waits
      if (this.last !== undefined) {
        if (now - this.last.at < this.options.wait) return waits
        // It shrinks: what was done last helps, and gets as much time again.
        if (outlook.used < this.last.used) {
          this.last = { at: now, used: outlook.used }
          return waits
        }
      }
      const [table] = control.blocking()
      if (table === undefined) return failed("no table holds the slot back")
      if (entry.tables?.includes(table) === true) return failed(`${table} is in quarantine and still holds it back`)
      const fiber = yield* control.quarantine(table, {
        reason: "Throttled",
        message: `The table held the replication slot ${this.options.slot} back until it kept ${
          ByteSize.format(outlook.used)
        } of WAL${outlook.share === undefined ? "" : `, ${Trigger.percent(outlook.share)} of its budget`}`,
        hint:
          "It was set aside so that the slot isn't lost for all tables: see why the sink took its changes slowly, or not at all."
      }).pipe(Effect.forkIn(this.options.scope, { startImmediately: true }))
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) return outcomeOf(table, exit)
      this.underWay = { action, table, fiber }
      return waits
    })
  }

  /** Takes in the end of a quarantine that took longer than a look. */
  private settle(outlook: Outlook, now: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      const exit = this.underWay?.fiber.pollUnsafe()
      if (this.underWay === undefined || exit === undefined) return Effect.void
      const { action, table } = this.underWay
      this.underWay = undefined
      const entry = this.entries.get(keyOf(action)) ?? { key: keyOf(action), since: now }
      return this.conclude(action, entry, outcomeOf(table, exit), outlook, now)
    })
  }

  /** Keeps and tells what an attempt came to. */
  private conclude(
    action: Action,
    entry: ActionEntry,
    attempt: Attempt,
    outlook: Outlook,
    now: number
  ): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const { alarms, slot } = this.options
      if (attempt._tag === "Waits") return
      if (attempt._tag === "Failed") return yield* this.fails(action, entry, attempt.why, now)
      const { failed: _, ...kept } = entry
      const tables = attempt.table === undefined ? entry.tables : [...entry.tables ?? [], attempt.table]
      const since = entry.done ?? now
      this.entries.set(entry.key, {
        ...kept,
        done: since,
        ...(attempt.notOurs === true ? { notOurs: true } : {}),
        ...(tables === undefined ? {} : { tables })
      })
      if (action.do !== "alert" && attempt.notOurs !== true) this.last = { at: now, used: outlook.used }
      yield* Metric.update(this.metrics.action(action.do, "done"), 1)
      yield* this.clearFailure(action, now)
      yield* alarms.set(ActionCondition.done(slot, action, outlook, tables), since, now)
      yield* Effect.logWarning(`The WAL budget of a slot runs out: ${ActionCondition.results[action.do]}`).pipe(
        Effect.annotateLogs({
          slot,
          action: action.do,
          at: Trigger.describe(action.at),
          keeps: ByteSize.format(outlook.used),
          ...(attempt.table === undefined ? {} : { table: attempt.table })
        })
      )
    })
  }

  private undoWhenOver(action: Action, outlook: Outlook, { control }: Target, now: number): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const { alarms, hysteresis, slot, sustained, wait } = this.options
      const key = keyOf(action)
      const entry = this.entries.get(key)
      if (entry?.done === undefined) return
      if (!Trigger.isOver(action.at, outlook, hysteresis)) {
        const { overSince: _, ...rest } = entry
        this.entries.set(key, rest)
        return
      }
      const overSince = Math.min(entry.overSince ?? now, now)
      const over = { ...entry, overSince }
      this.entries.set(key, over)
      if (now - overSince < sustained) return
      if (entry.failed !== undefined && now - entry.failed.at < wait) return
      const undoes = control !== undefined && entry.notOurs !== true &&
        (action.do === "pause-copies" || action.do === "spool")
      const attempt = !undoes
        ? done
        : yield* asked(action.do === "spool" ? control.spool(false) : control.pauseCopies(false))
      if (attempt._tag === "Failed") return yield* this.fails(action, over, attempt.why, now)
      this.entries.delete(key)
      if (this.entries.size === 0) this.last = undefined
      if (undoes) yield* Metric.update(this.metrics.action(action.do, "undone"), 1)
      yield* this.clearFailure(action, now)
      yield* alarms.set(ActionCondition.done(slot, action, outlook), undefined, now)
      if (undoes) {
        yield* Effect.logInfo("A slot has recovered: what was done about it is undone").pipe(
          Effect.annotateLogs({ slot, action: action.do })
        )
      }
    })
  }

  private fails(action: Action, entry: ActionEntry, why: string, now: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.entries.set(entry.key, { ...entry, failed: { at: now, why } })
      const count = entry.failed === undefined
        ? Metric.update(this.metrics.action(action.do, "failed"), 1)
        : Effect.void
      return Effect.andThen(
        count,
        this.options.alarms.set(ActionCondition.failed(this.options.slot, action, why), now, now)
      )
    })
  }

  private clearFailure(action: Action, now: number): Effect.Effect<void> {
    return this.options.alarms.set(ActionCondition.failed(this.options.slot, action, ""), undefined, now)
  }
}

/** For conditions whose text doesn't matter. */
const nothing: Outlook = { used: 0, remaining: undefined, share: undefined, growth: undefined, left: undefined }
