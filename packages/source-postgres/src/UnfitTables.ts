/**
 * What becomes of tables that can't be replicated as they are when a run begins.
 *
 * A finding that is about one table alone waits until it is known what the sink holds. Then it may not matter: the table is in quarantine already,
 * transforms leave it out, or only its copy would need what is missing. Otherwise that table fails and the others go on, unless nothing would be left to replicate.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Finding } from "@etl-stream/core/Finding"
import { concernsTable } from "@etl-stream/core/Quarantine"
import type { SourceContext } from "@etl-stream/core/Source"
import { type TableId, tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type * as Catalog from "./Catalog.ts"
import * as Preflight from "./Preflight.ts"

const isCritical = ({ severity }: Finding): boolean => severity === "critical"

/** The error of a run that can't begin, whatever the sink holds: with all that is critical, so that it can be mended at once. */
export const refusal = (findings: ReadonlyArray<Finding>): ConnectorError | undefined =>
  findings.some((finding) => isCritical(finding) && finding.table === undefined)
    ? Preflight.errorOf(findings)
    : undefined

/**
 * The tables of the catalog that fail, each with its error. Fails when the run can't begin.
 *
 * `copied` says of which tables the sink has a copy that is still good.
 */
export const find = Effect.fnUntraced(function*(
  findings: ReadonlyArray<Finding>,
  { tables }: Catalog.Catalog,
  { quarantined, unwanted }: SourceContext,
  copied: (table: TableId) => boolean
): Effect.fn.Return<ReadonlyMap<TableId, ConnectorError>, ConnectorError> {
  const relevant = findings.filter((finding) =>
    isCritical(finding) && finding.table !== undefined && quarantined(finding.table) === undefined &&
    !unwanted.has(finding.table)
  )
  const serious: Array<Finding> = []
  for (const finding of relevant) {
    const { message, reason, table } = finding
    // What the role may not read it may still be sent.
    if (reason !== "Forbidden" || table === undefined || !copied(table)) serious.push(finding)
    else yield* Effect.logWarning(message, { hint: Preflight.hintOf(finding), table })
  }
  const failed = new Map<TableId, ConnectorError>()
  for (const { schema } of tables) {
    const id = tableId(schema.table)
    const error = Preflight.errorOf(serious.filter(({ table }) => table === id))
    if (error !== undefined) failed.set(id, error)
  }
  const isEnd = failed.size === tables.length || [...failed.values()].some((error) => !concernsTable(error))
  const error = isEnd ? Preflight.errorOf(serious) : undefined
  return error === undefined ? failed : yield* error
})
