/**
 * The bodies of the driver's answers to a query: a result, an error, or "still in progress".
 *
 * Built as text, because a result's rows are JSON text already.
 */
import * as ResultRows from "./ResultRows.ts"
import type { Session } from "./Session.ts"
import type * as SnowflakeError from "./SnowflakeError.ts"
import * as Control from "./statement/ControlStatement.ts"
import type { Outcome } from "./statement/StatementContext.ts"

/** The driver's response body, as JSON text. */
export type Answer = string

/** Boolean and numeric parameters travel as such. */
const parameterValue = (text: string): string | number | boolean =>
  text === "true" ? true : text === "false" ? false : /^\d+$/.test(text) ? Number(text) : text

export const parametersOf = (
  session: Session
): ReadonlyArray<{ readonly name: string; readonly value: string | number | boolean }> =>
  [...Control.parameterDefaults].map(([name, standard]) => ({
    name,
    value: parameterValue(session.parameters.get(name) ?? standard)
  }))

/** The body of an error; the driver needs `data.sqlState`. */
export const failure = (error: SnowflakeError.SnowflakeError, queryId: string | null = null): Answer =>
  JSON.stringify({
    success: false,
    code: error.code,
    message: error.message,
    headers: null,
    data: {
      sqlState: error.sqlState,
      queryId,
      errorCode: error.code,
      internalError: false,
      pos: -1,
      line: -1,
      type: "COMPILATION"
    }
  })

/** The result of a statement: rows that fit in it, and where the other chunks are (below `origin`). */
export const success = (session: Session, queryId: string, outcome: Outcome, origin: string): Answer => {
  const { result } = outcome
  const state = {
    queryId,
    parameters: parametersOf(session),
    finalDatabaseName: session.database ?? null,
    finalSchemaName: session.schema ?? null,
    finalWarehouseName: session.warehouse ?? null,
    finalRoleName: session.role,
    statementTypeId: outcome.typeId,
    version: 1,
    numberOfBinds: 0,
    databaseProvider: null
  }
  if (outcome.extra !== undefined) {
    return JSON.stringify({
      success: true,
      code: null,
      message: null,
      data: { ...outcome.extra, ...state, statementTypeId: null }
    })
  }
  const head = JSON.stringify({
    ...state,
    rowtype: result.columns.map(ResultRows.rowType),
    total: result.total,
    returned: result.total,
    arrayBindSupported: false,
    queryResultFormat: "json",
    ...(result.chunks.length === 0 ? {} : {
      chunks: result.chunks.map((chunk) => ({
        url: `${origin}/results/${chunk.path}`,
        rowCount: chunk.rows,
        uncompressedSize: chunk.bytes,
        compressedSize: chunk.bytes
      })),
      chunkHeaders: {},
      qrmk: null
    })
  })
  return `{"success":true,"code":null,"message":null,"data":{"rowset":[${result.inline}],${head.slice(1)}}`
}

/** The query goes on; the driver asks again for its result. */
export const inProgress = (session: Session, queryId: string, asynchronous: boolean): Answer =>
  JSON.stringify({
    success: true,
    code: asynchronous ? "333334" : "333333",
    message: asynchronous
      ? "Asynchronous execution in progress. Use provided query id to perform query monitoring and management."
      : "Query execution in progress.",
    data: {
      queryId: queryId,
      getResultUrl: `/queries/${queryId}/result`,
      queryAbortsAfterSecs: 300,
      progressDesc: null,
      parameters: parametersOf(session)
    }
  })
