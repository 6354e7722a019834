/**
 * The checks of `etl-stream doctor`: those of a run, and everything that costs more to ask or concerns the long run. Changes nothing at the server.
 *
 * A server that refuses us is a critical finding with its remedy; one that can't be reached, or has no connection to spare, is an error.
 */
import { type Check, evaluate } from "@etl-stream/core/Check"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import { critical, type Finding, type Found, info } from "@etl-stream/core/Finding"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Settings } from "./Config.ts"
import * as Connections from "./Connections.ts"
import * as PostgresError from "./PostgresError.ts"
import * as Preflight from "./Preflight.ts"
import * as DetailChecks from "./preflight/DetailChecks.ts"
import * as Facts from "./preflight/Facts.ts"
import * as Inspection from "./preflight/Inspection.ts"
import * as LogChecks from "./preflight/LogChecks.ts"
import * as SessionChecks from "./preflight/SessionChecks.ts"
import * as TableChecks from "./preflight/TableChecks.ts"
import * as Sql from "./Sql.ts"

/** Why the server refused the connection, as far as it said; nothing else can be checked then. */
const connection: Check<{ readonly settings: Settings; readonly refusal: ConnectorError | undefined }> = {
  name: "connection",
  looksAt: "the server lets the role connect to the database",
  severities: ["critical"],
  *find({ refusal, settings }) {
    if (refusal !== undefined) yield refused(settings, refusal)
  }
}

const refused = ({ endpoint }: Settings, error: ConnectorError): Found => {
  const role = Sql.identifier(endpoint.user)
  const told = (remedy: string, ...sql: ReadonlyArray<string>) => critical(error.reason, error.message, remedy, { sql })
  switch (PostgresError.sqlStateOf(error)) {
    case "42501":
      return told(
        "Let the role connect to the database.",
        `GRANT CONNECT ON DATABASE ${Sql.identifier(endpoint.database)} TO ${role};`
      )
    case "28000":
      return /not permitted to log in/.test(error.message)
        ? told("Let the role log in.", `ALTER ROLE ${role} LOGIN;`)
        : told(
          "Check the role's name, and that the server's pg_hba.conf has a line for it; after a change, reload the file:",
          "SELECT pg_reload_conf();"
        )
    default:
      return told(error.hint)
  }
}

/** A pipeline that runs has its slot in use: nothing is wrong with that while doctor looks. */
const whileRunning = (finding: Finding): Finding =>
  finding.check === "slot" && finding.reason === "Fenced"
    ? {
      check: finding.check,
      ...info(finding.message.replace(/, still after .*$/, ""), "That is as it should be when this pipeline runs now.")
    }
    : finding

/** A run can't tell virtual columns from stored ones, which the publication may be made to publish. */
const generatedColumns = TableChecks.generatedColumns<Inspection.Inspection>(({ tables }, oid) =>
  tables.get(oid)?.virtualColumns ?? []
)

const replicaIdentity = TableChecks.replicaIdentity<Inspection.Inspection>(({ tables }, oid) =>
  (tables.get(oid)?.identity ?? []).length > 0
)

/** Checks of a run that know more here. */
const better = new Map([generatedColumns, replicaIdentity].map((check) => [check.name, check]))

/** Every check of doctor, in the order of its report. */
export const checks: ReadonlyArray<Check<Inspection.Inspection>> = [
  ...SessionChecks.checks,
  ...Preflight.checks.map((check) => better.get(check.name) ?? check),
  ...LogChecks.checks,
  ...DetailChecks.checks
]

/** Names, meaning and severities of everything that a report can hold, for pages about it. */
export const described: ReadonlyArray<Pick<Check<never>, "name" | "looksAt" | "severities">> = [connection, ...checks]

/** What a refusal is, rather than trouble of the moment. */
const isRefusal = (error: ConnectorError): boolean =>
  error.reason === "Unauthorized" || error.reason === "Forbidden" || error.reason === "Missing" ||
  error.reason === "Misconfigured"

/** Runs every check. */
export const check = Effect.fn("PostgresSource.doctor")(function*(
  settings: Settings,
  limits: Inspection.Limits = Inspection.defaultLimits
): Effect.fn.Return<ReadonlyArray<Finding>, ConnectorError, Scope.Scope> {
  const connections = yield* Connections.make(settings)
  const server = yield* Effect.result(Facts.readServer(connections))
  if (server._tag === "Failure") {
    const error = server.failure
    if (error.reason === "Unsupported") {
      return [{ check: "server-version", ...critical(error.reason, error.message, error.hint) }]
    }
    return isRefusal(error) ? evaluate([connection], { settings, refusal: error }) : yield* error
  }
  const facts = yield* Facts.read(connections, server.success, "now")
  const inspection = yield* Inspection.read(connections, facts, limits)
  return [
    ...evaluate([connection], { settings, refusal: undefined }),
    ...evaluate(checks, inspection).map(whileRunning)
  ]
})
