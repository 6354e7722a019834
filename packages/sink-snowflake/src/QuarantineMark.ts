/**
 * The mark in the state table that a table is in quarantine, and who may set it.
 *
 * `RUNNER` names the run that opened the pipeline last. A run that was taken over, and doesn't know it yet, must not void what the other one holds: its mark
 * is conditional on its own name there. The marks that it set before are found by the other one, which takes over first and looks then.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import { Reason } from "@etl-stream/core/ConnectorError"
import type { Quarantine } from "@etl-stream/core/Quarantine"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { literal } from "./Identifier.ts"
import type { Session, SqlClient } from "./SqlClient.ts"

type Failed = ConnectorError.ConnectorError

const Text = Schema.NullOr(Schema.String)

/** The columns, as a query gives them. */
export const fields = {
  QUARANTINED_AT: Text,
  QUARANTINE_REASON: Text,
  QUARANTINE_MESSAGE: Text,
  QUARANTINE_HINT: Text
}

export const columns = ["QUARANTINED_AT", "QUARANTINE_REASON", "QUARANTINE_MESSAGE", "QUARANTINE_HINT"] as const

type Columns = Readonly<Record<typeof columns[number], string | null>>

/** SQL that sets a row's columns for no quarantine. */
export const none =
  `"QUARANTINED_AT" = NULL, "QUARANTINE_REASON" = NULL, "QUARANTINE_MESSAGE" = NULL, "QUARANTINE_HINT" = NULL`

const isReason = Schema.is(Reason)

/** What a row's columns say. */
export const parse = (row: Columns): Quarantine | undefined => {
  const { QUARANTINED_AT: since, QUARANTINE_HINT: hint, QUARANTINE_MESSAGE: message, QUARANTINE_REASON: reason } = row
  if (since === null) return undefined
  // Whatever a later version wrote: the table stays where it is.
  return {
    reason: isReason(reason) ? reason : "Rejected",
    message: message ?? "",
    hint: hint ?? "",
    since: Date.parse(since)
  }
}

export interface QuarantineMarks {
  /** Takes the pipeline's tables over: an earlier run can't put any of them in quarantine from then on. Comes before they are looked at. */
  readonly claim: Effect.Effect<void, Failed>
  /** Checks that no other run has taken the table over. */
  readonly expectClaim: (table: TableId) => Effect.Effect<void, Failed>
  /** Puts a table in quarantine and forgets its copy, also a table that has no row yet. */
  readonly quarantine: (table: TableId, why: Quarantine) => Effect.Effect<void, Failed>
}

export interface Options {
  readonly sql: SqlClient
  readonly pipeline: string
  /** The state table's name in SQL. */
  readonly table: string
  readonly runner: string
  /** SQL that sets a row's columns for no copy. */
  readonly forgets: string
  readonly clearChunks: (session: Session, table: { readonly id: TableId }) => Effect.Effect<void, Failed>
  readonly changedElsewhere: (table: TableId) => Failed
}

export const make = (
  { changedElsewhere, clearChunks, forgets, pipeline, runner, sql, table }: Options
): QuarantineMarks => {
  const now = "CURRENT_TIMESTAMP()"
  const ours = `"RUNNER" = ${literal(runner)}`
  const rowOf = (id: TableId): string => `"PIPELINE" = ${literal(pipeline)} AND "SOURCE_TABLE" = ${literal(id)}`
  return {
    claim: Effect.asVoid(sql.execute({
      what: "Taking the pipeline's tables over",
      sql: `UPDATE ${table} SET "RUNNER" = ${literal(runner)} WHERE "PIPELINE" = ${literal(pipeline)}`
    })),
    expectClaim: Effect.fnUntraced(function*(id) {
      const { rows } = yield* sql.execute({
        what: `Looking for the owner of ${id}`,
        sql: `SELECT "RUNNER" FROM ${table} WHERE ${rowOf(id)}`,
        table: id
      })
      if (rows[0]?.["RUNNER"] !== runner) return yield* changedElsewhere(id)
    }),
    quarantine: (id, { hint, message, reason, since }) =>
      sql.use((session) =>
        session.transaction(
          { what: `Putting ${id} in quarantine` },
          Effect.gen(function*() {
            yield* clearChunks(session, { id })
            const why = [new Date(since).toISOString(), reason, message, hint]
            const { changed } = yield* session.execute({
              what: `Putting ${id} in quarantine`,
              sql: `UPDATE ${table} SET "QUARANTINED_AT" = ?, "QUARANTINE_REASON" = ?, "QUARANTINE_MESSAGE" = ?, ` +
                `"QUARANTINE_HINT" = ?, ${forgets}, "UPDATED_AT" = ${now} WHERE ${rowOf(id)} AND ${ours}`,
              binds: why
            })
            if (changed === 1) return
            // One that couldn't be opened may have no row, and then no target either: `register` gives it one. Whose the pipeline is the others say then.
            const inserted = yield* session.execute({
              what: `Putting ${id} in quarantine`,
              sql:
                `INSERT INTO ${table} ("PIPELINE", "SOURCE_TABLE", "TARGET", "JOURNAL", "RUNNER", "QUARANTINED_AT", ` +
                `"QUARANTINE_REASON", "QUARANTINE_MESSAGE", "QUARANTINE_HINT", "UPDATED_AT") SELECT ${
                  literal(pipeline)
                }, ${literal(id)}, '', '', ${literal(runner)}, ?, ?, ?, ?, ${now} ` +
                `WHERE NOT EXISTS (SELECT 1 FROM ${table} WHERE ${rowOf(id)} OR "PIPELINE" = ${
                  literal(pipeline)
                } AND "RUNNER" <> ${literal(runner)})`,
              binds: why
            })
            if (inserted.changed !== 1) return yield* changedElsewhere(id)
          }),
          () => {}
        )
      )
  }
}
