/**
 * What a check of the environment has found: one sentence of what is so, and what is to be done about it.
 *
 * Plugins give findings to `etl-stream doctor` (see `Plugin.check`), and may refuse to run on critical ones. The statements in `sql` can be copied
 * and run as they are, by whoever may; they never hold a secret.
 */
import type { Reason } from "./ConnectorError.ts"
import type { TableId } from "./TableSchema.ts"

/**
 * `critical`: a run is impossible, or its result would be wrong; `warning`: it can become so, or something else suffers;
 * `info`: worth knowing, nothing to be done; `ok`: looked at and found in order.
 */
export type Severity = "ok" | "info" | "warning" | "critical"

export interface Finding {
  /** Stable name of the check in lower case with hyphens: what scripts match. */
  readonly check: string
  readonly severity: Severity
  /** What is so, one sentence without row values or secrets. */
  readonly message: string
  /** What the operator can do about it; empty when there is nothing to do. */
  readonly remedy: string
  /** The remedy's statements for the server that was checked, in order, each with its semicolon; empty when SQL is no remedy. */
  readonly sql: ReadonlyArray<string>
  /** For a critical finding: the reason that a run's error would have. */
  readonly reason?: Reason
  /** Table (`schema.name`) it is about, when it is about one. */
  readonly table?: TableId
}

/** A finding before it has the name of its check. */
export type Found = Omit<Finding, "check">

/** What a finding may have besides its message and remedy. */
export interface Details {
  readonly sql?: ReadonlyArray<string>
  readonly table?: TableId
}

const found = (severity: Severity, message: string, remedy: string, { sql = [], table }: Details): Found => ({
  severity,
  message,
  remedy,
  sql,
  ...(table === undefined ? {} : { table })
})

export const critical = (reason: Reason, message: string, remedy: string, details: Details = {}): Found => ({
  ...found("critical", message, remedy, details),
  reason
})

export const warning = (message: string, remedy: string, details: Details = {}): Found =>
  found("warning", message, remedy, details)

export const info = (message: string, remedy = "", details: Details = {}): Found =>
  found("info", message, remedy, details)
