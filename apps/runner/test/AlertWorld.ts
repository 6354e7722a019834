/**
 * Pipelines, monitors, notifiers and a state store that do what a test says, for alerts on the test clock.
 */
import type { Condition, Raised } from "@etl-stream/core/Condition"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Notification } from "@etl-stream/core/Notifier"
import * as Progress from "@etl-stream/core/Progress"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Alerting from "@etl-stream/runner/alerts/Alerting"
import * as AlertRule from "@etl-stream/runner/alerts/AlertRule"
import type { NamedNotifier } from "@etl-stream/runner/alerts/Channels"
import type { Subject } from "@etl-stream/runner/alerts/Observation"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** A rule as a configuration file writes it. */
export type WrittenRule = typeof AlertRule.AlertRule.Encoded

export const rules = (
  ...written: ReadonlyArray<WrittenRule>
): ReadonlyArray<AlertRule.ActiveRule> =>
  AlertRule.activate(Schema.decodeUnknownSync(Schema.Array(AlertRule.AlertRule))(written))

/** A pipeline that streams and has everything in place. */
export class Pipeline {
  readonly progress = Progress.make("shop")
  readonly name: string
  constructor(name = "shop") {
    this.name = name
    this.progress.begin(0)
    this.progress.phase = "streaming"
  }

  /** From now on the sink is that far behind `now`; 0: nothing is under way. */
  behind(millis: number, now: number): void {
    this.progress.receivedPosition = millis === 0 ? 1n : 2n
    this.progress.acknowledgedPosition = 1n
    this.progress.durableCommitTime = BigInt(now - millis) * 1000n
  }

  raise(condition: Partial<Condition> & { readonly name: string }, now: number): void {
    const raised: Raised = {
      severity: "warning",
      message: `${condition.name} is so`,
      hint: "Mend it.",
      since: now,
      ...condition
    }
    this.progress.conditions.set(`${condition.name}/${condition.table ?? ""}`, raised)
  }

  clear(name: string): void {
    for (const [key, condition] of this.progress.conditions) {
      if (condition.name === name) this.progress.conditions.delete(key)
    }
  }

  subject(now: number): Subject {
    const view = this.progress.snapshot(now)
    return { name: this.name, kind: "pipeline", view, conditions: view.conditions }
  }
}

/** A notifier that keeps what it was told, with the time; `answer` says what becomes of each. */
export class Recorder {
  readonly name: string
  readonly told: Array<Notification> = []
  readonly times: Array<number> = []
  attempts = 0
  answer: () => Effect.Effect<void, ConnectorError> = () => Effect.void
  constructor(name = "ops") {
    this.name = name
  }

  get notifier(): NamedNotifier {
    const notify = (notification: Notification) =>
      Effect.gen({ self: this }, function*() {
        this.attempts++
        yield* this.answer()
        this.told.push(notification)
        this.times.push(yield* Clock.currentTimeMillis)
      })
    return { name: this.name, identity: this.name, make: Effect.succeed({ notify }) }
  }

  /** What was told as `status type`, in order. */
  get lines(): ReadonlyArray<string> {
    return this.told.map(({ reminder, status, table, type }) =>
      `${reminder ? "still " : ""}${status} ${type}${table === undefined ? "" : ` ${table}`}`
    )
  }
}

export const unreachable = new ConnectorError({ reason: "Unreachable", plugin: "test", message: "gone", hint: "Wait." })

export interface Memory {
  readonly store: StateStoreShape
  readonly entries: Map<string, { readonly value: string; readonly version: string }>
  /** What becomes of each call before it does anything. */
  before: Effect.Effect<void, ConnectorError>
}

/** A state store in memory. */
export const memory = (): Memory => {
  const entries = new Map<string, { readonly value: string; readonly version: string }>()
  let versions = 0
  const made: Memory = {
    entries,
    before: Effect.void,
    store: {
      get: (key) => Effect.map(first(), () => Option.fromNullishOr(entries.get(key))),
      list: (prefix) =>
        Effect.map(
          first(),
          () => [...entries].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => a < b ? -1 : 1)
        ),
      compareAndSet: (key, value, expected) =>
        Effect.map(first(), () => {
          if (entries.get(key)?.version !== expected) return Option.none()
          const version = String(++versions)
          entries.set(key, { value, version })
          return Option.some(version)
        }),
      remove: (key) => Effect.map(first(), () => void entries.delete(key)),
      now: Clock.currentTimeMillis
    }
  }
  const first = () => Effect.suspend(() => made.before)
  return made
}

/** The alerts that a store keeps, as text. */
export const kept = ({ entries }: Memory): ReadonlyArray<string> =>
  [...entries].filter(([key]) => key !== "alerts/epoch").map(([, { value }]) => value)

/** What a store keeps now, and `putBack`: it keeps that again, as after a restart from a backup. */
export const copyOf = ({ entries }: Memory): Memory["entries"] => new Map(entries)

export const putBack = ({ entries }: Memory, copy: Memory["entries"]): void => {
  entries.clear()
  for (const [key, entry] of copy) entries.set(key, entry)
}

export interface World {
  readonly pipeline: Pipeline
  readonly ops: Recorder
  readonly memory: Memory
  readonly monitors: Array<Subject>
}

export const world = (): World => ({ pipeline: new Pipeline(), ops: new Recorder(), memory: memory(), monitors: [] })

/** Alerts over `world`, told by its recorder and `others`. */
export const start = (
  { memory, monitors, ops, pipeline }: World,
  active: ReadonlyArray<AlertRule.ActiveRule>,
  others: ReadonlyArray<Recorder> = []
) =>
  Alerting.start({
    rules: active,
    notifiers: [ops, ...others].map(({ notifier }) => notifier),
    subjects: (now) => [pipeline.subject(now), ...monitors],
    state: memory.store,
    redact: (text) => text.replaceAll("hunter2", "<redacted>")
  })
