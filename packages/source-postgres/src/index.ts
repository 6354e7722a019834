/**
 * The PostgreSQL source of etl-stream: `plugin`, and its modules for programs that use them directly.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Claims from "./Claims.ts"
import * as Config from "./Config.ts"
import * as Doctor from "./Doctor.ts"
import { pluginName } from "./PostgresError.ts"
import * as PostgresSource from "./PostgresSource.ts"

/** The plugin that the runner loads. */
export const plugin = Plugin.source({
  name: pluginName,
  version: "0.1.0",
  summary: "PostgreSQL: a consistent snapshot of the tables, then every change by logical replication",
  description:
    "Tables are copied in parallel while changes are already read, and every change comes exactly once, in the order of commits. The publication and the replication " +
    "slot are made at the first run, and named after the pipeline unless the options say otherwise. What the server needs and which privileges: " +
    "docs/postgres.md; `etl-stream doctor` checks it.",
  examples: [
    {
      title: "All tables of the schema `public`, with a publication and a slot that the pipeline makes",
      options: { url: "${env:DATABASE_URL}", tables: ["public.*"] }
    },
    {
      title: "Some tables, through a publication that somebody else looks after",
      options: {
        host: "db.example.com",
        user: "replicator",
        password: "${file:/run/secrets/postgres}",
        database: "shop",
        publication: { name: "warehouse", manage: false },
        slot: { name: "warehouse", onLost: "resnapshot" },
        tables: ["public.orders", "public.items", "billing.*"],
        snapshot: { parallel: 4 }
      }
    },
    {
      title: "Copies and changes from a standby (PostgreSQL 16), heartbeats to the primary",
      options: {
        url: "${env:STANDBY_URL}",
        primary: { url: "${env:PRIMARY_URL}" },
        tables: ["public.*"]
      }
    }
  ],
  config: Config.Config,
  make: (config, context) => Effect.flatMap(Config.resolve(config, context), PostgresSource.make),
  claims: Claims.of,
  check: (config, context) => Effect.flatMap(Config.resolve(config, context), (settings) => Doctor.check(settings))
})

export * as BinaryValues from "./BinaryValues.ts"
export * as Catalog from "./Catalog.ts"
export * as Claims from "./Claims.ts"
export * as Config from "./Config.ts"
export * as ConnectionOptions from "./ConnectionOptions.ts"
export * as ConnectionParameters from "./ConnectionParameters.ts"
export * as Connections from "./Connections.ts"
export * as ConnectionString from "./ConnectionString.ts"
export * as CopyPlan from "./CopyPlan.ts"
export * as CopyReader from "./CopyReader.ts"
export * as Doctor from "./Doctor.ts"
export * as Endpoint from "./Endpoint.ts"
export * as Heartbeat from "./Heartbeat.ts"
export * as HeartbeatRecord from "./HeartbeatRecord.ts"
export * as Lsn from "./Lsn.ts"
export * as Metrics from "./Metrics.ts"
export * as PasswordFile from "./PasswordFile.ts"
export * as PasswordProvider from "./PasswordProvider.ts"
export * as PgOutputDecoder from "./PgOutputDecoder.ts"
export * as PostgresError from "./PostgresError.ts"
export * as PostgresSource from "./PostgresSource.ts"
export * as PostgresType from "./PostgresType.ts"
export * as Preflight from "./Preflight.ts"
export * as Publication from "./Publication.ts"
export * as RelationResolver from "./RelationResolver.ts"
export * as ReplicationConnection from "./ReplicationConnection.ts"
export * as RowCompletion from "./RowCompletion.ts"
export * as ServiceFile from "./ServiceFile.ts"
export * as Settling from "./Settling.ts"
export * as Slot from "./Slot.ts"
export * as SlotContinuity from "./SlotContinuity.ts"
export * as Snapshot from "./Snapshot.ts"
export * as Sql from "./Sql.ts"
export * as StandbyDecoding from "./StandbyDecoding.ts"
export * as StreamedTransactions from "./StreamedTransactions.ts"
export * as SynchronousGuard from "./SynchronousGuard.ts"
export * as TextValues from "./TextValues.ts"
