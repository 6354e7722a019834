/**
 * The error of sources, sinks, transforms and state stores: what is wrong, where, and what to do about it.
 *
 * The `reason` decides what the engine does (`isRetryable`) and which exit code the runner ends with (`exitCode`).
 * Messages name tables, columns, positions and configuration keys, never a value of a row or a secret.
 */
import * as Schema from "effect/Schema"

/**
 * `Unreachable`: no connection could be made, or it was lost; `Throttled`: the other side asks for patience;
 * `Fenced`: another writer took over, or a position is stale (reopening settles it); `Unauthorized`: wrong or expired
 * credentials; `Forbidden`: a privilege is missing; `Missing`: a database, warehouse, slot, table … does not exist;
 * `Misconfigured`: the other side's settings don't allow the work (for example `wal_level`); `Lost`: changes are
 * missing that can't be had any more; `Rejected`: the other side refuses rows or a statement; `Unsupported`: it can't be
 * represented; `Protocol`: an answer that breaks the protocol, ours or theirs.
 */
export const Reason = Schema.Literals([
  "Unreachable",
  "Throttled",
  "Fenced",
  "Unauthorized",
  "Forbidden",
  "Missing",
  "Misconfigured",
  "Lost",
  "Rejected",
  "Unsupported",
  "Protocol"
])
export type Reason = typeof Reason.Type

export class ConnectorError
  extends Schema.TaggedError<ConnectorError>("@etl-stream/core/ConnectorError")("ConnectorError", {
    reason: Reason,
    /** The plugin's name, for example `@etl-stream/sink-snowflake`. */
    plugin: Schema.String,
    /** What is wrong, one sentence without row values or secrets. */
    message: Schema.String,
    /** What the operator can do about it. */
    hint: Schema.String,
    /** Table (`schema.name`) the error belongs to, when it belongs to one. */
    table: Schema.optionalKey(Schema.String),
    cause: Schema.optionalKey(Schema.Defect())
  })
{}

/** Whether running the pipeline again from its last durable position can help without anybody doing anything. */
export const isRetryable = (error: ConnectorError): boolean =>
  error.reason === "Unreachable" || error.reason === "Throttled" || error.reason === "Fenced"

/** Exit code for people and scripts: 3 when the environment has to be mended, 1 otherwise. */
export const exitCode = (error: ConnectorError): 1 | 3 => {
  switch (error.reason) {
    case "Unreachable":
    case "Unauthorized":
    case "Forbidden":
    case "Missing":
    case "Misconfigured":
      return 3
    case "Throttled":
    case "Fenced":
    case "Lost":
    case "Rejected":
    case "Unsupported":
    case "Protocol":
      return 1
  }
}
