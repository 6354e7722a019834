/**
 * Tells alerts by notifiers and keeps who was told.
 *
 * Each delivery is a fiber of its own: one that hangs or fails holds up no other, no pipeline and no stop, and is begun again, at growing
 * intervals, as long as there is something to tell. An end that can't be told for a day is given up.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Schedule from "effect/Schedule"
import { isConnectorError } from "../CommandError.ts"
import * as Alert from "./Alert.ts"
import * as AlertMetrics from "./AlertMetrics.ts"
import * as AlertRecord from "./AlertRecord.ts"
import type { ActiveRule } from "./AlertRule.ts"
import * as AlertStore from "./AlertStore.ts"
import type { Channels } from "./Channels.ts"

export interface Options {
  readonly channels: Channels
  readonly store: AlertStore.AlertStore
  /** The fibers at work. */
  readonly work: FiberSet.FiberSet<void>
  /** An alert's rule, if it is still there. */
  readonly ruleOf: (alert: Alert.Alert) => ActiveRule | undefined
}

export interface AlertDelivery {
  /**
   * Begins what there is to tell of an alert now, unless it is to be held back, and to keep. Whether anything is left to tell or
   * on its way.
   */
  readonly tell: (alert: Alert.Alert, now: number, hold: boolean) => Effect.Effect<boolean>
}

/** A delivery that takes longer has failed. Notifiers have closer limits of their own. */
const deliveryLimit = Duration.minutes(15)

/** A failed save is tried again after this time. */
const saveAgainMillis = 10_000

/** Waits between attempts to deliver the same thing. */
const again = Schedule.min([Schedule.exponential("10 seconds"), Schedule.spaced("5 minutes")]).pipe(Schedule.jittered)

const asConnectorError = (cause: Cause.Cause<unknown>): ConnectorError => {
  const failure = Cause.squash(cause)
  return isConnectorError(failure)
    ? failure
    // Its message may quote anything.
    : new ConnectorError({
      reason: "Protocol",
      plugin: "the notifier",
      message: "The notifier broke",
      hint: "This is a bug of its plugin: report it to its author."
    })
}

const tooLong = new ConnectorError({
  reason: "Unreachable",
  plugin: "the notifier",
  message: `The notifier did not get it through in ${Duration.format(deliveryLimit)}`,
  hint: "Check with `etl-stream alert test` whether it works."
})

export const make = ({ channels, ruleOf, store, work }: Options): AlertDelivery => {
  const save = (alert: Alert.Alert): Effect.Effect<void> =>
    alert.saving.withPermits(1)(Effect.gen(function*() {
      if (!alert.dirty) return
      alert.dirty = false
      const stored = yield* store.save(alert.record, alert.version)
      if (stored === undefined) {
        alert.dirty = true
        alert.saveAt = (yield* Clock.currentTimeMillis) + saveAgainMillis
        return
      }
      alert.version = stored.version
      // Told by another process with this store, or by this one meanwhile.
      alert.record = { ...alert.record, told: AlertStore.together(alert.record.told, stored.record.told) }
    }))

  const failed = Effect.fnUntraced(
    function*(alert: Alert.Alert, name: string, delivery: Alert.Delivery, error: ConnectorError) {
      const now = yield* Clock.currentTimeMillis
      const wait = yield* delivery.step(now, undefined).pipe(
        Effect.map(([, wait]) => wait),
        // The schedule has no end.
        Effect.orDie
      )
      delivery.retryAt = now + Duration.toMillis(wait)
      yield* AlertMetrics.failed(name, error.reason)
      yield* Effect.logWarning(`An alert could not be told: ${error.message}`).pipe(
        Effect.annotateLogs({
          notifier: name,
          reason: error.reason,
          hint: error.hint,
          retryInMillis: Math.round(Duration.toMillis(wait))
        }),
        Alert.annotations(alert.record)
      )
    }
  )

  /** Tells one notifier; `running` is set until it has ended. */
  const deliver = (
    alert: Alert.Alert,
    name: string,
    notice: Alert.Notice,
    delivery: Alert.Delivery
  ): Effect.Effect<void> =>
    Effect.gen(function*() {
      // Kept before it is told: of two processes with one store, the later one sees that it was.
      yield* save(alert)
      const now = yield* Clock.currentTimeMillis
      if (Alert.due(alert, ruleOf(alert), name, now) !== notice || !channels.has(name)) return
      const { record } = alert
      const exit = yield* channels.notify(name, AlertRecord.notification(record, notice === "reminder", now)).pipe(
        Effect.timeoutOrElse({ duration: deliveryLimit, orElse: () => Effect.fail(tooLong) }),
        Effect.exit
      )
      if (exit._tag === "Failure") return yield* failed(alert, name, delivery, asConnectorError(exit.cause))
      const told = { status: record.status, severity: record.severity, at: now }
      alert.record = { ...alert.record, told: { ...alert.record.told, [name]: told } }
      alert.dirty = true
      yield* AlertMetrics.delivered(name)
      yield* save(alert)
      // The next notice of this alert has waits of its own.
      alert.deliveries.delete(name)
    }).pipe(
      Effect.ensuring(Effect.sync(() => {
        delivery.running = false
      }))
    )

  return {
    tell: Effect.fnUntraced(function*(alert, now, hold) {
      const rule = ruleOf(alert)
      let open = false
      for (const name of new Set([...rule?.to ?? [], ...Object.keys(alert.record.told)])) {
        const delivery = alert.deliveries.get(name)
        const notice = channels.has(name) ? Alert.due(alert, rule, name, now) : undefined
        if (notice !== undefined || delivery?.running === true) open = true
        if (hold || notice === undefined || delivery?.running === true || now < (delivery?.retryAt ?? 0)) continue
        const next: Alert.Delivery = delivery ?? { running: false, retryAt: 0, step: yield* Schedule.toStep(again) }
        next.running = true
        alert.deliveries.set(name, next)
        yield* FiberSet.run(work, deliver(alert, name, notice, next))
      }
      if (alert.dirty && now >= alert.saveAt && (open || alert.record.status === "firing")) {
        yield* FiberSet.run(work, save(alert))
      }
      return open
    })
  }
}
