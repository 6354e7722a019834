/**
 * The alarms of a monitor: judged at each look, raised as conditions once they have lasted, and remembered over restarts.
 */
import type { Condition, Conditions } from "@etl-stream/core/Condition"
import { keyOf } from "@etl-stream/core/Condition"
import * as Effect from "effect/Effect"
import * as Alarm from "./Alarm.ts"
import type { AlarmEntry } from "./Memory.ts"

/** For how long something has to be so, and has to be over, in milliseconds. */
export interface Sustained {
  readonly raise: number
  readonly clear: number
}

/** Told at once, and over at once. */
export const atOnce: Sustained = { raise: 0, clear: 0 }

interface Kept {
  readonly alarm: Alarm.Alarm
  readonly condition: Condition
  /** When it was looked at last. */
  judged: number
}

export class Alarms {
  private readonly conditions: Conditions
  private readonly kept = new Map<string, Kept>()

  /** `entries`: what was remembered, as of `now`. */
  constructor(conditions: Conditions, entries: ReadonlyArray<AlarmEntry>, now: number) {
    this.conditions = conditions
    for (const { overSince, raised, since, ...condition } of entries) {
      this.kept.set(keyOf(condition), { alarm: { since, raised, overSince }, condition, judged: now })
    }
  }

  /** Raises again what was raised before a restart, as of when it began. */
  readonly restore: Effect.Effect<void> = Effect.suspend(() =>
    Effect.forEach(
      [...this.kept.values()].filter(({ alarm }) => alarm.raised),
      ({ alarm, condition }) => this.conditions.raise(condition, alarm.since),
      { discard: true }
    )
  )

  /** Takes in what is seen at `now` and raises or clears `condition` accordingly. */
  judge(condition: Condition, seen: Alarm.Seen, now: number, sustained: Sustained): Effect.Effect<void> {
    return Effect.suspend(() => {
      const key = keyOf(condition)
      const before = this.kept.get(key)
      const alarm = Alarm.next(before?.alarm, seen, now, sustained)
      if (alarm === undefined) {
        this.kept.delete(key)
        return before?.alarm.raised === true ? this.withdraw(condition) : Effect.void
      }
      // What is told stays as it was while it is no longer so.
      const told = seen.met || before === undefined ? condition : before.condition
      this.kept.set(key, { alarm, condition: told, judged: now })
      return alarm.raised ? this.conditions.raise(told, alarm.since) : Effect.void
    })
  }

  /** `condition` is so since `since`, or, with undefined, not at all. */
  set(condition: Condition, since: number | undefined, now: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      const key = keyOf(condition)
      if (since === undefined) {
        const before = this.kept.get(key)
        this.kept.delete(key)
        return before?.alarm.raised === true ? this.withdraw(condition) : Effect.void
      }
      const known = this.kept.get(key)?.alarm
      const began = known?.raised === true ? known.since : since
      this.kept.set(key, { alarm: { since: began, raised: true, overSince: undefined }, condition, judged: now })
      return this.conditions.raise(condition, began)
    })
  }

  /** Whatever is known of `condition` counts as looked at. */
  touch(condition: Condition, now: number): void {
    const kept = this.kept.get(keyOf(condition))
    if (kept !== undefined) kept.judged = now
  }

  /** Clears what was last judged before `before`: what it was about is not looked at any more. */
  forgetBefore(before: number): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.forEach(
        [...this.kept].filter(([, { judged }]) => judged < before),
        ([key, { alarm, condition }]) => {
          this.kept.delete(key)
          return alarm.raised ? this.withdraw(condition) : Effect.void
        },
        { discard: true }
      )
    )
  }

  /** For the memory. */
  entries(): ReadonlyArray<AlarmEntry> {
    return [...this.kept.values()].map(({ alarm: { overSince, raised, since }, condition }) => ({
      ...condition,
      since,
      raised,
      ...(overSince === undefined ? {} : { overSince })
    }))
  }

  private withdraw({ name, subject, table }: Condition): Effect.Effect<void> {
    return this.conditions.clear(name, table, subject)
  }
}
