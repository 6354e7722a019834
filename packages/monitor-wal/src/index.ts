/**
 * Monitor of etl-stream for PostgreSQL's replication slots and their WAL: the plugin `@etl-stream/monitor-wal`.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Config from "./Config.ts"
import * as Connection from "./Connection.ts"
import * as ConnectionOptions from "./ConnectionOptions.ts"
import * as MonitorError from "./MonitorError.ts"
import * as Observation from "./Observation.ts"
import * as WalMonitor from "./WalMonitor.ts"

/** The plugin that the runner loads. The context's `pipeline` is the monitor's name. */
export const plugin = Plugin.monitor({
  name: MonitorError.pluginName,
  version: "0.1.0",
  summary: "Watches PostgreSQL's replication slots: the WAL that they keep, its end, drift; acts before one is lost",
  description:
    "Thresholds, predictions and what the actions do: docs/wal-monitor.md. A monitor watches one server; its name is the one it has in `monitors`.",
  examples: [
    {
      title: "The slots of this process's pipelines, which may keep 20 GiB",
      options: { url: "${env:DATABASE_URL}", budget: "20GiB" }
    },
    {
      title: "Keeps changes on disk when half of the budget is used, and sets tables aside before a slot is lost",
      options: {
        url: "${env:DATABASE_URL}",
        slots: ["shop"],
        budget: "20GiB",
        actions: [{ at: "50%", do: "spool" }, { at: "30 minutes", do: "quarantine" }]
      }
    }
  ],
  config: Config.Config,
  make: Effect.fn("MonitorWal.make")(function*(config, { directory, pipeline: name }) {
    const endpoint = yield* ConnectionOptions.load(config, name, directory)
    const connection = yield* Connection.make(endpoint)
    return WalMonitor.make(name, config, {
      look: Observation.look(connection),
      publications: (names) => Observation.publications(connection, names)
    })
  })
})

export * as Alarm from "./Alarm.ts"
export * as Config from "./Config.ts"
export * as Connection from "./Connection.ts"
export * as ConnectionOptions from "./ConnectionOptions.ts"
export * as Growth from "./Growth.ts"
export * as Ladder from "./Ladder.ts"
export * as Lsn from "./Lsn.ts"
export * as LsnHistory from "./LsnHistory.ts"
export * as Memory from "./Memory.ts"
export * as Metrics from "./Metrics.ts"
export * as Observation from "./Observation.ts"
export * as Outlook from "./Outlook.ts"
export * as Trigger from "./Trigger.ts"
export * as WalMonitor from "./WalMonitor.ts"
