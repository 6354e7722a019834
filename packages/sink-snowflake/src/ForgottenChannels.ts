/**
 * What channels held that Snowflake has forgotten, as it does after 30 idle days: the journal itself says so.
 *
 * One channel that everything went through is as far as the journal's last change. Of several the journal doesn't tell whose a change was, so those that may be a
 * forgotten one's are remembered one by one.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import { failure } from "./ErrorPolicy.ts"
import { literal, quote } from "./Identifier.ts"
import type { SqlClient } from "./SqlClient.ts"
import type { TableLayout } from "./TableLayout.ts"
import { Metadata, sqlName } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

/** More can't be told apart one by one. */
const maxChanges = 100_000

const sequence = quote(Metadata.sequence)
const isChange = `${quote(Metadata.op)} <> 'read'`

/** The last change that the journal has; undefined when it has none. */
export const lastChange = Effect.fnUntraced(
  function*(sql: SqlClient, layout: TableLayout): Effect.fn.Return<Sequence.SequenceText | undefined, Failed> {
    const { rows } = yield* sql.execute({
      what: `Looking for the last change in the journal of ${layout.id}`,
      sql: `SELECT MAX(${sequence}) AS "last" FROM ${sqlName(layout.journal)} WHERE ${isChange}`,
      table: layout.id
    })
    const last = rows[0]?.["last"]
    return typeof last === "string" && Sequence.parse(last) !== undefined ? last : undefined
  }
)

/** Changes in the journal that were a forgotten channel's, or may have been. */
export class ForgottenChanges {
  private changes: ReadonlySet<Sequence.SequenceText>
  /** The last of them. */
  readonly last: Sequence.SequenceText | undefined

  constructor(changes: ReadonlySet<Sequence.SequenceText> = new Set()) {
    this.changes = changes
    let last = ""
    for (const text of changes) if (text > last) last = text
    this.last = last === "" ? undefined : last
  }

  /** Changes come in order: past the last of them none is looked for, nor kept, any more. */
  passed(sequence: Sequence.SequenceText): boolean {
    if (this.last !== undefined && sequence <= this.last) return false
    this.changes = new Set()
    return true
  }

  has(sequence: Sequence.SequenceText): boolean {
    return this.changes.has(sequence)
  }
}

/** The changes after `held` that the journal has. */
export const changesAfter = Effect.fnUntraced(function*(
  sql: SqlClient,
  layout: TableLayout,
  held: Sequence.SequenceText | undefined
): Effect.fn.Return<ForgottenChanges, Failed> {
  const { rows } = yield* sql.execute({
    what: `Looking for changes in the journal of ${layout.id}`,
    sql: `SELECT DISTINCT ${sequence} AS "sequence" FROM ${sqlName(layout.journal)} WHERE ${isChange}${
      held === undefined ? "" : ` AND ${sequence} > ${literal(held)}`
    } LIMIT ${maxChanges + 1}`,
    table: layout.id
  })
  if (rows.length > maxChanges) {
    return yield* failure(
      "Lost",
      `Snowflake has forgotten channels of ${layout.id}, and its journal holds more changes than can be told apart one by one`,
      "Have the table copied again (etl-stream resync).",
      { table: layout.id }
    )
  }
  return new ForgottenChanges(
    new Set(rows.flatMap((row) => typeof row["sequence"] === "string" ? [row["sequence"]] : []))
  )
})
