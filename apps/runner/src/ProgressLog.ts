/**
 * Progress as log lines, one per pipeline and period, for where there is no live view.
 */
import type { Raised } from "@etl-stream/core/Condition"
import type { View } from "@etl-stream/core/Progress"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Watching } from "./Monitors.ts"
import { PipelinesRates } from "./Rates.ts"
import type { Supervised } from "./Supervisor.ts"

/** What a line says of a pipeline, as log annotations. */
export const describe = (
  view: View,
  rates: { readonly snapshot: number; readonly changes: number }
): Readonly<Record<string, unknown>> => {
  const copying = view.tables.filter(({ phase }) => phase === "copying")
  const quarantined = view.tables.filter(({ phase }) => phase === "quarantined")
  const sum = (values: ReadonlyArray<number>): number => values.reduce((total, value) => total + value, 0)
  return {
    phase: view.phase,
    tables: view.tables.length,
    tablesInStep: view.tables.filter(({ phase }) => phase === "streaming").length,
    ...(copying.length === 0 ? {} : {
      snapshotRows: sum(copying.map(({ snapshotRows }) => snapshotRows)),
      estimatedRows: sum(copying.map(({ estimatedRows }) => estimatedRows ?? 0)),
      snapshotRowsPerSecond: Math.round(rates.snapshot)
    }),
    changes: sum(view.tables.map(({ changes }) => changes)),
    changesPerSecond: Math.round(rates.changes),
    ...(view.freshness === undefined ? {} : { lagSeconds: Math.round(view.freshness / 100) / 10 }),
    lagBytes: Number(
      view.receivedPosition > view.acknowledgedPosition ? view.receivedPosition - view.acknowledgedPosition : 0n
    ),
    memoryBytes: view.memory,
    run: view.run,
    ...(quarantined.length === 0 ? {} : { tablesInQuarantine: quarantined.map(({ table }) => table) }),
    ...(view.conditions.length === 0 ? {} : { conditions: view.conditions.map(named) })
  }
}

const named = ({ name, subject, table }: Raised): string =>
  [name, table, subject].filter((part) => part !== undefined).join(" ")

/** Logs every pipeline's progress, and the conditions of monitors that have any, every so often, for as long as it is not interrupted. */
export const run = (
  pipelines: () => ReadonlyArray<Supervised>,
  every: Duration.Duration,
  monitors: () => ReadonlyArray<Watching> = () => []
): Effect.Effect<void> => {
  const rates = new PipelinesRates()
  const log = Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.forEach(pipelines(), ({ name, progress }) => {
      const view = progress.snapshot(now)
      const current = rates.of(progress).record(view, now)
      // Before its first run there is nothing to tell.
      return view.run === 0 || view.phase === "stopped" || view.phase === "failed"
        ? Effect.void
        : Effect.logInfo("Progress").pipe(Effect.annotateLogs({ pipeline: name, ...describe(view, current) }))
    }, { discard: true }))
  const watching = Effect.suspend(() =>
    Effect.forEach(monitors(), ({ conditions, name }) =>
      conditions.length === 0
        ? Effect.void
        : Effect.logInfo("Conditions of a monitor").pipe(
          Effect.annotateLogs({ monitor: name, conditions: conditions.map(named) })
        ), { discard: true })
  )
  return Effect.asVoid(Effect.repeat(Effect.delay(Effect.andThen(log, watching), every), Schedule.forever))
}
