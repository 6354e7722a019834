/**
 * Quarantine of single tables: a table that can't go on is set aside with its reason and remedy, so that all others go on.
 *
 * The sink remembers it durably (`Sink.quarantine`): what it holds of the table is void from then on, so nothing waits for the table any more
 * and its changes are dropped. It stays so over restarts until somebody has the table copied again, which begins it anew.
 */
import type { ConnectorError, Reason } from "./ConnectorError.ts"
import type { TableId } from "./TableSchema.ts"

/** Why a table is in quarantine, and since when. */
export interface Quarantine {
  readonly reason: Reason
  /** What is wrong, one sentence without row values or secrets. */
  readonly message: string
  /** What the operator can do about it. */
  readonly hint: string
  /** Milliseconds since 1970-01-01 UTC. */
  readonly since: number
}

/** What a pipeline does about a table that can't go on: sets it aside, or ends. */
export type Policy = "quarantine" | "stop"

/** The condition that is raised while a table is in quarantine. */
export const condition = "table-quarantined"

/**
 * Whether an error is about one table alone, so that the others can go on without it.
 *
 * It must name the table: a connector leaves it out when more than the table is concerned, as when a warehouse is gone. `Unreachable`,
 * `Throttled` and `Fenced` pass by themselves, so the run is repeated and nothing is copied again for them. `Unauthorized` and
 * `Misconfigured` are about a login or a server, whatever table they were met with. The rest stays as it is until somebody does something about that
 * table: refused rows and statements, a privilege or an object that is missing, values that can't be represented, lost changes, broken order.
 */
export const concernsTable = ({ reason, table }: ConnectorError): boolean => {
  switch (reason) {
    case "Unreachable":
    case "Throttled":
    case "Fenced":
    case "Unauthorized":
    case "Misconfigured":
      return false
    case "Forbidden":
    case "Missing":
    case "Lost":
    case "Rejected":
    case "Unsupported":
    case "Protocol":
      return table !== undefined
  }
}

export const of = ({ hint, message, reason }: ConnectorError, since: number): Quarantine => ({
  reason,
  message,
  hint,
  since
})

/** The hint for people: mending the cause alone doesn't bring the table back. */
export const remedy = ({ hint }: Quarantine, table: TableId): string =>
  `${hint} Then have the table copied again: etl-stream resync <file> ${table}`
