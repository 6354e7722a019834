/**
 * Fixtures and conformance suites of etl-stream.
 *
 * Nothing here imports a test runner: suites are lists of cases, which any runner can run (`Conformance.register`).
 */
export * as Certificate from "./Certificate.ts"
export * as ChildProcess from "./ChildProcess.ts"
export * as Conformance from "./Conformance.ts"
export * as DeadLetterStoreConformance from "./DeadLetterStoreConformance.ts"
export * as DebianProgram from "./DebianProgram.ts"
export * as EmbeddedPostgres from "./EmbeddedPostgres.ts"
export * as FaultProxy from "./FaultProxy.ts"
export * as HttpReceiver from "./HttpReceiver.ts"
export * as MirrorState from "./MirrorState.ts"
export * as NotifierConformance from "./NotifierConformance.ts"
export * as OtlpReceiver from "./OtlpReceiver.ts"
export * as PluginOptions from "./PluginOptions.ts"
export * as RedisServer from "./RedisServer.ts"
export * as RowBatch from "./RowBatch.ts"
export * as RowComparison from "./RowComparison.ts"
export * as SnowflakeSession from "./SnowflakeSession.ts"
export * as Standby from "./Standby.ts"
export * as StateStoreConformance from "./StateStoreConformance.ts"
export * as TransformConformance from "./TransformConformance.ts"
export * as Warehouse from "./Warehouse.ts"
