/**
 * Checks everything that a run needs before it starts, and says what is to be done about each thing that is not so.
 *
 * A `critical` finding makes a run impossible or its result wrong; a `warning` is worth knowing. What can only be asked
 * once a connection stands (unreachable host, wrong password, missing database) fails with its own error at once. `Doctor`
 * makes the same checks and those that cost more or concern the long run.
 */
import { type Check, evaluate } from "@etl-stream/core/Check"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Finding } from "@etl-stream/core/Finding"
import type { SourceSpool } from "@etl-stream/core/Source"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Connections from "./Connections.ts"
import * as Lsn from "./Lsn.ts"
import * as PostgresError from "./PostgresError.ts"
import * as Facts from "./preflight/Facts.ts"
import * as PublicationChecks from "./preflight/PublicationChecks.ts"
import * as ServerChecks from "./preflight/ServerChecks.ts"
import * as SlotChecks from "./preflight/SlotChecks.ts"
import * as TableChecks from "./preflight/TableChecks.ts"
import * as StandbyDecoding from "./StandbyDecoding.ts"

export type Server = Facts.Server

/** What the checks saw. */
export interface Report extends Facts.Facts {
  readonly findings: ReadonlyArray<Finding>
}

/** Every check of a run. */
export const checks: ReadonlyArray<Check<Facts.Facts>> = [
  ...ServerChecks.checks,
  ...TableChecks.checks,
  ...PublicationChecks.checks,
  ...SlotChecks.checks
]

const Log = Schema.Struct({ end: Schema.String })

/**
 * Refuses a server whose log ends before a position that the sink or the spool holds: it can't be the one that was read. Its positions say
 * nothing about theirs, so changes would be skipped as known ones until its log has grown that far, and what the spool has be taken for changes of this server.
 *
 * @returns the end of the log.
 */
export const checkLog = Effect.fn("PostgresSource.checkLog")(function*(
  connections: Connections.Connections,
  held: Lsn.Lsn,
  spool?: SourceSpool
) {
  const doing = "reading the end of the server's log"
  // After a restart a standby replays again what it had replayed before.
  const [row] = yield* connections.primary.query(doing, Log, "SELECT pg_current_wal_insert_lsn()::text AS end")
  yield* StandbyDecoding.caughtUp(connections)
  const end = row === undefined ? undefined : Lsn.parse(row.end)
  if (end === undefined) return held
  if (spool !== undefined && spool.position > end) {
    return yield* PostgresError.make(
      "Lost",
      `the server's log ends at ${Lsn.format(end)}, behind ${Lsn.format(spool.position)}, up to where the spool in ` +
        `${spool.directory} has changes: this is another server, or one that was restored to an earlier state`,
      "Connect to the server that was replicated. When this one takes its place, what the spool has was never written here: move the spool's " +
        "folder away, and set slot.onLost to resnapshot to have the tables copied again."
    )
  }
  if (held <= end) return end
  return yield* PostgresError.make(
    "Lost",
    `the server's log ends at ${Lsn.format(end)}, behind ${Lsn.format(held)}, which the sink holds: ` +
      "this is another server, or one that was restored to an earlier state",
    "Connect to the server that was replicated. When this one takes its place, drop its slot if there is one, and remove the " +
      "tables from the sink so that they are copied again."
  )
})

/** Runs every check of a run. */
export const check = Effect.fn("PostgresSource.preflight")(function*(connections: Connections.Connections) {
  const facts = yield* Facts.read(connections, yield* Facts.readServer(connections), "settled")
  return { ...facts, findings: evaluate(checks, facts) } satisfies Report
})

/** What is to be done, as one text: the statements follow unless the remedy names them itself. */
export const hintOf = ({ remedy, sql }: Finding): string => {
  const rest = sql.filter((statement) => !remedy.includes(statement.slice(0, -1)))
  return rest.length === 0 ? remedy : `${remedy} Run ${rest.join(" ")}`
}

const shown = 5

/** The critical findings as one error, undefined when there is none. */
export const errorOf = (findings: ReadonlyArray<Finding>): ConnectorError | undefined => {
  const all = findings.filter((finding) => finding.severity === "critical")
  const [first] = all
  if (first === undefined) return undefined
  const some = all.slice(0, shown)
  const more = all.length > shown ? `; and ${all.length - shown} more` : ""
  return new ConnectorError({
    reason: first.reason ?? "Misconfigured",
    plugin: PostgresError.pluginName,
    message: some.map((finding) => finding.message).join("; ") + more,
    hint: [...new Set(some.map(hintOf))].join(" "),
    ...(first.table === undefined || all.some(({ table }) => table !== first.table) ? {} : { table: first.table })
  })
}
