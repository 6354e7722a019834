/**
 * Looks at pipelines and monitors every second, and tells people by notifiers what the rules say is to be told, once, and when it is over.
 *
 * What fires and who was told is kept in the state store, so a restart neither tells it again nor forgets to tell its end. A process that runs writes it again
 * when the store was emptied or went back to an old copy. A process that starts with such a store knows only what is in it: what still holds is told once
 * more, and what is over by then is never told as over. Nothing that is looked at waits for a notifier or for the store. Where several processes share a
 * store, what one has told is known to the one that takes its pipelines over.
 */
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { closeWithin } from "../BoundedScope.ts"
import * as Alert from "./Alert.ts"
import * as AlertDelivery from "./AlertDelivery.ts"
import * as AlertMetrics from "./AlertMetrics.ts"
import * as AlertRecord from "./AlertRecord.ts"
import type { ActiveRule } from "./AlertRule.ts"
import * as AlertStore from "./AlertStore.ts"
import * as Channels from "./Channels.ts"
import { isOver, type Observation, observe, type Subject, tells } from "./Observation.ts"

export interface Options {
  readonly rules: ReadonlyArray<ActiveRule>
  readonly notifiers: ReadonlyArray<Channels.NamedNotifier>
  /** Pipelines and monitors as they are at a time (milliseconds since 1970-01-01 UTC). */
  readonly subjects: (now: number) => ReadonlyArray<Subject>
  readonly state: StateStoreShape
  /** Takes secrets out of what is told. */
  readonly redact: (text: string) => string
}

export interface Alerting {
  /** Goes over to other rules and notifiers. Alerts whose rule is gone are over, and that is told. */
  readonly reload: (
    rules: ReadonlyArray<ActiveRule>,
    notifiers: ReadonlyArray<Channels.NamedNotifier>
  ) => Effect.Effect<void>
  /**
   * Looks once more and delivers what there is to tell, for a few seconds at most. What isn't delivered then is after the next start. A pipeline that has
   * failed when the process ends by itself won't recover, so it isn't waited for (`for`); `stopped`: the process was asked to end.
   */
  readonly finish: (stopped: boolean) => Effect.Effect<void>
}

const lookEvery = Duration.seconds(1)

/** How long `finish` may take. */
const finishLimit = Duration.seconds(5)

/** How long notifiers may take to close. */
const closeLimit = Duration.seconds(2)

/** After a start, what is not there may not have come up yet: an alert of the last run is over only after this time at the earliest. */
const settlingMillis = 30_000

/** How often what other processes with this store have told is looked at. */
const refreshEvery = Duration.seconds(30)

/** How long the state is waited for at the start. */
const loadLimit = Duration.seconds(15)

interface Holding {
  readonly rule: ActiveRule
  readonly subject: Subject
  readonly observation: Observation
}

const subjectKey = ({ kind, name }: Pick<Subject, "kind" | "name">): string => `${kind}/${name}`

/** Alerts until the scope closes. */
export const start = Effect.fn("Alerting.start")(function*(
  options: Options
): Effect.fn.Return<Alerting, never, Scope.Scope> {
  const scope = yield* Effect.acquireRelease(
    Scope.make(),
    (scope, exit) => closeWithin(scope, exit, closeLimit, "notifiers")
  )
  const { redact, subjects } = options
  const store = AlertStore.make(options.state)
  const channels = yield* Scope.provide(Channels.make(options.notifiers), scope)
  const work = yield* Scope.provide(FiberSet.make<void>(), scope)
  const loaded = Latch.makeUnsafe(false)
  const alerts = new Map<string, Alert.Alert>()
  /** What holds and is no alert yet: since when, and where. */
  const pending = new Map<string, { readonly since: number; readonly rule: string; readonly subject: string }>()
  /** Stored records that are to be removed, with their versions. */
  const removals = new Map<string, string>()
  const removing = new Set<string>()
  /** What ended here since the store was asked last. */
  const ended = new Set<string>()
  let rules = new Map(options.rules.map((rule) => [rule.id, rule]))
  const delivery = AlertDelivery.make({ channels, store, work, ruleOf: ({ record }) => rules.get(record.rule) })

  const count = ({ subject, type }: AlertRecord.AlertRecord): Effect.Effect<void> => {
    const same = [...alerts.values()].filter(({ record }) =>
      record.status === "firing" && record.type === type && record.subject.name === subject.name
    )
    return AlertMetrics.alerts(subject.name, type, same.length)
  }

  const fire = Effect.fnUntraced(
    function*(key: string, { observation, rule, subject }: Holding, since: number, now: number) {
      const record = AlertRecord.begin(key, rule.id, subject, observation, since, now, redact)
      const before = alerts.get(key)
      if (before === undefined) {
        alerts.set(key, yield* Alert.make({ record, version: removals.get(key) }, false))
        removals.delete(key)
      } else {
        // Whoever was not told its end yet goes on believing what is true again.
        before.record = { ...record, told: before.record.told }
        before.dirty = true
        before.absentSince = undefined
      }
      yield* count(record)
      const text = `An alert fires: ${record.title}`
      yield* (record.severity === "critical" ? Effect.logError(text) : Effect.logWarning(text)).pipe(
        Alert.annotations(record)
      )
    }
  )

  const resolve = Effect.fnUntraced(function*(alert: Alert.Alert, now: number) {
    alert.record = { ...alert.record, status: "resolved", endedAt: alert.absentSince ?? now }
    alert.dirty = true
    yield* count(alert.record)
    yield* Effect.logInfo(`An alert is over: ${alert.record.title}`).pipe(Alert.annotations(alert.record))
  })

  const tell = Effect.fnUntraced(function*(now: number, present: ReadonlyMap<string, Subject>) {
    for (const [key, alert] of alerts) {
      const subject = present.get(subjectKey(alert.record.subject))
      // Another process may run it, and tells then.
      const hold = alert.restored && subject !== undefined && !tells(subject)
      const open = yield* delivery.tell(alert, now, hold)
      if (alert.record.status === "firing" || open) continue
      alerts.delete(key)
      ended.add(key)
      if (alert.version !== undefined) removals.set(key, alert.version)
    }
    for (const key of removals.keys()) {
      if (removing.has(key)) continue
      removing.add(key)
      yield* FiberSet.run(
        work,
        Effect.map(store.remove(key), (removed) => {
          removing.delete(key)
          if (removed) removals.delete(key)
        })
      )
    }
  })

  const looking = yield* Semaphore.make(1)
  const looked = Effect.fnUntraced(function*(last: boolean) {
    if (rules.size === 0 && alerts.size === 0 && removals.size === 0) return
    const now = yield* Clock.currentTimeMillis
    const present = subjects(now)
    const byName = new Map(present.map((subject) => [subjectKey(subject), subject]))
    const holding = new Map<string, Holding>()
    for (const rule of rules.values()) {
      for (const subject of present) {
        for (const observation of observe(rule, subject, now)) {
          holding.set(AlertRecord.keyOf(rule.id, subject, observation), { rule, subject, observation })
        }
      }
    }
    for (const [key, held] of holding) {
      const alert = alerts.get(key)
      if (alert?.record.status === "firing") {
        alert.record = AlertRecord.seen(alert.record, held.observation, redact)
        alert.absentSince = undefined
        alert.restored = false
        continue
      }
      const since = Math.min(pending.get(key)?.since ?? now, held.observation.since ?? now)
      const waits = !last || held.rule.when._tag !== "PipelineFailed"
      if (waits && now - since < held.rule.forMillis) {
        pending.set(key, { since, rule: held.rule.id, subject: subjectKey(held.subject) })
      } else {
        pending.delete(key)
        yield* fire(key, held, since, now)
      }
    }
    for (const [key, waiting] of pending) {
      if (holding.has(key)) continue
      const [rule, subject] = [rules.get(waiting.rule), byName.get(waiting.subject)]
      if (rule === undefined || subject === undefined || isOver(rule, subject, now)) pending.delete(key)
    }
    for (const [key, alert] of alerts) {
      if (alert.record.status === "resolved" || holding.has(key)) continue
      const rule = rules.get(alert.record.rule)
      if (rule !== undefined) {
        const subject = byName.get(subjectKey(alert.record.subject))
        if (subject !== undefined && !tells(subject)) {
          alert.absentSince = undefined
          alert.restored = true
          continue
        }
        alert.absentSince ??= now
        const least = alert.restored ? Math.max(settlingMillis, rule.recoverAfterMillis) : rule.recoverAfterMillis
        if (now - alert.absentSince < least) continue
      }
      yield* resolve(alert, now)
    }
    yield* tell(now, byName)
  })
  const look = (last: boolean): Effect.Effect<void> =>
    looking.withPermits(1)(looked(last)).pipe(
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause) ? Effect.failCause(cause) : Effect.logDebug("Looking for alerts broke", cause)
      )
    )

  /** Goes over to what is stored of an alert that isn't in hand here, unless that is from before what was known of it. */
  const takeOver = (known: Alert.Alert, stored: AlertStore.Stored, lost: boolean): void => {
    const [ours, theirs] = [known.record, stored.record]
    if (!lost || theirs.firedAt > ours.firedAt) {
      Object.assign(known, stored)
      return
    }
    known.version = stored.version
    if (theirs.firedAt === ours.firedAt) known.record = { ...theirs, told: AlertStore.together(ours.told, theirs.told) }
    known.dirty = theirs.firedAt < ours.firedAt || AlertStore.saysLess(theirs.told, ours.told)
  }

  /**
   * Takes over what is stored of pipelines and monitors that are here: those that aren't may be another process's. `first`: also what was told by rules that
   * are gone.
   */
  const adopt = Effect.fnUntraced(function*(contents: AlertStore.Contents, first: boolean) {
    const { lost, stored } = contents
    const here = new Set(subjects(yield* Clock.currentTimeMillis).map(subjectKey))
    const found = new Set(stored.map(({ record }) => record.key))
    for (const one of stored) {
      const { key, rule, subject } = one.record
      if (!here.has(subjectKey(subject)) || ended.has(key) || (!first && !rules.has(rule))) continue
      const known = alerts.get(key)
      if (known === undefined) alerts.set(key, yield* Alert.make(one, true))
      else if (Alert.isAsStored(known)) takeOver(known, one, lost)
      // It went back to an old copy.
      else if (AlertStore.saysLess(one.record.told, known.record.told)) known.dirty = true
      yield* count(alerts.get(key)?.record ?? one.record)
    }
    for (const [key, alert] of alerts) {
      if (found.has(key)) continue
      // Nobody else has ended what is seen here, or what the store has lost.
      if (lost || !alert.restored) alert.dirty = true
      if (!Alert.isAsStored(alert)) continue
      alerts.delete(key)
      yield* count(alert.record)
    }
  })

  const refresh = Effect.gen(function*() {
    ended.clear()
    const contents = yield* store.load
    if (contents === undefined || rules.size === 0) return
    // Looks don't wait for the store.
    if (contents.begins) yield* store.begin
    yield* looking.withPermits(1)(adopt(contents, false))
  })

  const load = Effect.gen(function*() {
    const contents = yield* store.load.pipe(
      Effect.flatMap((found) => found === undefined ? Effect.fail("unreadable" as const) : Effect.succeed(found)),
      Effect.retry(Schedule.spaced("1 second")),
      Effect.timeoutOption(loadLimit)
    )
    if (contents._tag === "None") {
      yield* Effect.logWarning("What alerts were told before can't be read").pipe(
        Effect.annotateLogs({ hint: "Those that still hold are told once more. Check the state store." })
      )
      return
    }
    if (contents.value.begins && rules.size > 0) yield* store.begin
    yield* adopt(contents.value, true)
  })

  yield* load.pipe(
    Effect.andThen(loaded.open),
    Effect.andThen(Effect.repeat(look(false), Schedule.spaced(lookEvery))),
    Effect.forkIn(scope)
  )
  yield* loaded.await.pipe(
    Effect.andThen(Effect.forever(Effect.andThen(Effect.sleep(refreshEvery), refresh))),
    Effect.forkIn(scope)
  )

  return {
    reload: Effect.fn("Alerting.reload")(function*(next, notifiers) {
      rules = new Map(next.map((rule) => [rule.id, rule]))
      yield* Scope.provide(channels.update(notifiers), scope)
      // What failed before may be mended now.
      for (const { deliveries } of alerts.values()) {
        for (const [name, { running }] of deliveries) if (!running) deliveries.delete(name)
      }
    }),
    finish: (stopped) =>
      Effect.raceFirst(loaded.await, Effect.sleep("2 seconds")).pipe(
        Effect.andThen(look(!stopped)),
        Effect.andThen(FiberSet.awaitEmpty(work)),
        Effect.timeoutOption(finishLimit),
        Effect.asVoid
      )
  }
})
