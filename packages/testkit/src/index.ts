/**
 * Fixtures and conformance suites of etl-stream.
 *
 * The conformance suites register tests and import vitest: import their modules directly, from a test file.
 */
export * as BatchOf from "./BatchOf.ts"
export * as CanonicalCell from "./CanonicalCell.ts"
export * as Certificate from "./Certificate.ts"
export * as ChildProcess from "./ChildProcess.ts"
export * as Conformance from "./Conformance.ts"
export * as DebianProgram from "./DebianProgram.ts"
export * as ElementMirror from "./ElementMirror.ts"
export * as ElementRules from "./ElementRules.ts"
export * as EmbeddedPostgres from "./EmbeddedPostgres.ts"
export * as FaultProxy from "./FaultProxy.ts"
export * as HttpReceiver from "./HttpReceiver.ts"
export * as MirrorState from "./MirrorState.ts"
export * as OtlpReceiver from "./OtlpReceiver.ts"
export * as RedisServer from "./RedisServer.ts"
export * as ResourceCensus from "./ResourceCensus.ts"
export * as RowComparison from "./RowComparison.ts"
export * as Secrecy from "./Secrecy.ts"
export * as SinkConformance from "./SinkConformance.ts"
export * as SnowflakeSession from "./SnowflakeSession.ts"
export * as SourceConformance from "./SourceConformance.ts"
export * as Standby from "./Standby.ts"
export * as Warehouse from "./Warehouse.ts"
