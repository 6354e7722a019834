/**
 * An alert as this process knows it: its record, what is stored of it, and what there is to tell of it by whom.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type * as AlertRecord from "./AlertRecord.ts"
import type { ActiveRule } from "./AlertRule.ts"
import type { Stored } from "./AlertStore.ts"

/** One notifier's part in an alert, while there is something to tell. */
export interface Delivery {
  running: boolean
  /** Not before this time, milliseconds since 1970-01-01 UTC. */
  retryAt: number
  /** The wait before the next attempt, each longer than the one before. */
  readonly step: (now: number, input: unknown) => Effect.Effect<readonly [unknown, Duration.Duration], unknown>
}

export interface Alert {
  record: AlertRecord.AlertRecord
  /** Of the stored record. */
  version: string | undefined
  /** Whether the stored record says less than this one. */
  dirty: boolean
  /** When a save that failed is tried again, milliseconds since 1970-01-01 UTC. */
  saveAt: number
  readonly saving: Semaphore.Semaphore
  /** Since when it has not been there; undefined while it is. */
  absentSince: number | undefined
  /** Known from the store alone: not seen since this process, or the pipeline's run, began. Another process may have it in hand. */
  restored: boolean
  /** By notifier. */
  readonly deliveries: Map<string, Delivery>
}

export const make = (stored: Stored, restored: boolean): Effect.Effect<Alert> =>
  Effect.map(Semaphore.make(1), (saving) => ({
    ...stored,
    dirty: !restored,
    saveAt: 0,
    saving,
    absentSince: undefined,
    restored,
    deliveries: new Map()
  }))

export type Notice = "firing" | "reminder" | "resolved"

/** An end that can't be told for this long is given up. */
const staleMillis = 24 * 3_600_000

/** What there is to tell by the notifier `name` now. `rule`: the alert's, if it is still there. */
export const due = (
  { absentSince, record, restored }: Alert,
  rule: ActiveRule | undefined,
  name: string,
  now: number
): Notice | undefined => {
  const told = Object.hasOwn(record.told, name) ? record.told[name] : undefined
  if (record.status === "resolved") {
    return told?.status === "firing" && now - (record.endedAt ?? now) < staleMillis ? "resolved" : undefined
  }
  if (rule === undefined || !rule.to.includes(name)) return undefined
  if (told?.status !== "firing" || (told.severity === "warning" && record.severity === "critical")) return "firing"
  const isSeen = absentSince === undefined && !restored
  return isSeen && rule.repeatMillis !== undefined && now - told.at >= rule.repeatMillis ? "reminder" : undefined
}

/** Whether nothing of it is under way here that the store doesn't say. */
export const isAsStored = ({ deliveries, dirty, restored }: Alert): boolean =>
  restored && !dirty && ![...deliveries.values()].some(({ running }) => running)

/** What log lines about an alert say besides their message. */
export const annotations = ({ subject, table, type }: AlertRecord.AlertRecord) =>
  Effect.annotateLogs({ alert: type, [subject.kind]: subject.name, ...(table === null ? {} : { table }) })
