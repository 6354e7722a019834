/**
 * The state table: what Snowflake itself knows of each table of each pipeline. One row per pipeline and source table.
 *
 * `COPYING` names the copy that is under way, `COPIED` the position of the finished one, `MERGED` the sequence up to which the journal
 * is merged, `ORIGIN` what the source recognises the copied table's history by. Every change is conditional on what the writer
 * believes, so two runners of one pipeline can't both go on: the slower one changes no row and ends with `Fenced`. It is changed last in a transaction, because a change locks the table for others.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { failure } from "./ErrorPolicy.ts"
import { literal, qualified } from "./Identifier.ts"
import type { Session, SqlClient } from "./SqlClient.ts"
import type { TableLayout } from "./TableLayout.ts"
import { sequenceType, sqlName } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

export interface TableState {
  /** Position of the finished copy. */
  readonly copied: bigint | undefined
  /** Sequence up to which the journal is merged; in mode changelog where the copy ends. */
  readonly merged: Sequence.SequenceText | undefined
  /** The source's text about the history that the copy belongs to. */
  readonly origin: string | undefined
}

const Row = Schema.Struct({
  SOURCE_TABLE: Schema.String,
  TARGET: Schema.String,
  COPIED: Schema.NullOr(Schema.String),
  MERGED: Schema.NullOr(Schema.String),
  ORIGIN: Schema.NullOr(Schema.String)
})
const OwnerRow = Schema.Struct({ PIPELINE: Schema.String, SOURCE_TABLE: Schema.String })

const now = "CURRENT_TIMESTAMP()"

/** Everything before a copy's position is in the copy: the greatest sequence below it. */
export const mergedByCopy = (position: bigint): Sequence.SequenceText =>
  Sequence.format(Sequence.make(position - 1n, 0xffff_ffff_ffff_ffffn))

export interface StateTable {
  /** The states of the pipeline's tables, by source table. */
  readonly load: Effect.Effect<ReadonlyMap<TableId, TableState>, Failed>
  /** Makes sure that the table has a row, and that no other table or pipeline has the same target. */
  readonly register: (layout: TableLayout) => Effect.Effect<void, Failed>
  /** Forgets the copies of tables that left the pipeline: their changes aren't read any more. */
  readonly abandon: (tables: ReadonlyArray<TableId>) => Effect.Effect<void, Failed>
  /** Keeps the origin of the table's shape, when it has one. */
  readonly keepOrigin: (layout: TableLayout) => Effect.Effect<void, Failed>
  /** Forgets an earlier copy: the table has to be copied again. */
  readonly forget: (layout: TableLayout) => Effect.Effect<void, Failed>
  readonly beginCopy: (session: Session, layout: TableLayout, copy: string) => Effect.Effect<void, Failed>
  /** Checks that the copy is still this one, and keeps it so until the transaction ends. */
  readonly confirmCopy: (session: Session, layout: TableLayout, copy: string) => Effect.Effect<void, Failed>
  readonly endCopy: (
    session: Session,
    layout: TableLayout,
    copy: string,
    position: bigint
  ) => Effect.Effect<void, Failed>
  readonly advance: (
    session: Session,
    layout: TableLayout,
    from: Sequence.SequenceText,
    to: Sequence.SequenceText
  ) => Effect.Effect<void, Failed>
}

const originColumn = `"ORIGIN"`

const originOf = ({ table }: TableLayout): string => table.origin === undefined ? "NULL" : literal(table.origin)

/** The SQL that creates the state table in `schema`. */
export const create = (database: string, schema: string): string =>
  `CREATE TABLE IF NOT EXISTS ${qualified(database, schema, "TABLES")} (` +
  `"PIPELINE" VARCHAR, "SOURCE_TABLE" VARCHAR, "TARGET" VARCHAR, "JOURNAL" VARCHAR, "COPYING" VARCHAR, ` +
  `"COPIED" VARCHAR, "MERGED" ${sequenceType}, ${originColumn} VARCHAR, "UPDATED_AT" TIMESTAMP_TZ(6))`

/** The SQL that adds what a state table of an earlier version lacks. */
export const addOrigin = (database: string, schema: string): string =>
  `ALTER TABLE ${qualified(database, schema, "TABLES")} ADD COLUMN ${originColumn} VARCHAR`

const decode = <A>(
  schema: Schema.ConstraintDecoder<A>,
  rows: ReadonlyArray<unknown>
): Effect.Effect<ReadonlyArray<A>, Failed> =>
  Effect.forEach(
    rows,
    (row) =>
      Schema.decodeUnknownEffect(schema)(row).pipe(Effect.mapError(() =>
        failure(
          "Protocol",
          "The state table TABLES in Snowflake has another form than expected",
          "Check whether something else created or changed it."
        )
      ))
  )

export const make = (sql: SqlClient, pipeline: string, database: string, schema: string): StateTable => {
  const table = qualified(database, schema, "TABLES")
  const rowOf = (layout: TableLayout): string =>
    `"PIPELINE" = ${literal(pipeline)} AND "SOURCE_TABLE" = ${literal(layout.id)}`
  const change = Effect.fnUntraced(function*(session: Session, layout: TableLayout, set: string, condition: string) {
    const { changed } = yield* session.execute({
      what: `Recording the state of ${layout.id}`,
      sql: `UPDATE ${table} SET ${set}, "UPDATED_AT" = ${now} WHERE ${rowOf(layout)}${
        condition === "" ? "" : ` AND ${condition}`
      }`,
      table: layout.id
    })
    if (changed === 1) return
    return yield* failure(
      "Fenced",
      `The state of ${layout.id} in Snowflake was changed by somebody else`,
      "Run only one runner per pipeline. This one starts again from what Snowflake holds.",
      { table: layout.id }
    )
  })
  return {
    load: Effect.gen(function*() {
      const { rows } = yield* sql.execute({
        what: "Reading the state table",
        sql: `SELECT "SOURCE_TABLE", "TARGET", "COPIED", "MERGED", ${originColumn} FROM ${table} WHERE "PIPELINE" = ${
          literal(pipeline)
        }`
      })
      const states = yield* decode(Row, rows)
      return new Map(states.map((row) => [row.SOURCE_TABLE, {
        copied: row.COPIED === null ? undefined : BigInt(row.COPIED),
        merged: row.MERGED ?? undefined,
        origin: row.ORIGIN ?? undefined
      }]))
    }),
    register: Effect.fnUntraced(function*(layout) {
      const target = sqlName(layout.target)
      yield* sql.execute({
        what: `Registering ${layout.id}`,
        sql: `MERGE INTO ${table} AS t USING (SELECT ${literal(pipeline)} AS "P", ${literal(layout.id)} AS "S") AS s ` +
          `ON t."PIPELINE" = s."P" AND t."SOURCE_TABLE" = s."S" ` +
          `WHEN NOT MATCHED THEN INSERT ("PIPELINE", "SOURCE_TABLE", "TARGET", "JOURNAL", "UPDATED_AT") ` +
          `VALUES (s."P", s."S", ${literal(target)}, ${literal(sqlName(layout.journal))}, ${now})`,
        table: layout.id
      })
      const { rows } = yield* sql.execute({
        what: `Looking for other owners of ${target}`,
        sql: `SELECT "PIPELINE", "SOURCE_TABLE" FROM ${table} WHERE ("TARGET" = ${literal(target)} OR "JOURNAL" = ${
          literal(sqlName(layout.journal))
        }) AND NOT (${rowOf(layout)})`,
        table: layout.id
      })
      const [other] = yield* decode(OwnerRow, rows)
      if (other === undefined) return
      // Rows that nothing was written for would refuse the corrected configuration, too.
      yield* sql.execute({
        what: `Forgetting ${layout.id}`,
        sql: `DELETE FROM ${table} WHERE "PIPELINE" = ${literal(pipeline)} AND "TARGET" = ${literal(target)} ` +
          `AND "COPYING" IS NULL AND "COPIED" IS NULL`,
        table: layout.id
      })
      return yield* failure(
        "Unsupported",
        `${layout.id} and ${other.SOURCE_TABLE} of the pipeline ${other.PIPELINE} would both be written to ${target}`,
        "Give one of them another schema or name; if the other pipeline is no more, delete its rows from the state table TABLES.",
        { table: layout.id }
      )
    }),
    abandon: (tables) =>
      Effect.asVoid(sql.execute({
        what: `Forgetting the copies of tables that left the pipeline`,
        sql: `UPDATE ${table} SET "COPYING" = NULL, "COPIED" = NULL, "MERGED" = NULL, "UPDATED_AT" = ${now} ` +
          `WHERE "PIPELINE" = ${literal(pipeline)} AND "SOURCE_TABLE" IN (${tables.map(literal).join(", ")})`
      })),
    keepOrigin: (layout) =>
      layout.table.origin === undefined
        ? Effect.void
        : sql.use((session) => change(session, layout, `${originColumn} = ${originOf(layout)}`, "")),
    forget: (layout) =>
      sql.use((session) => change(session, layout, `"COPYING" = NULL, "COPIED" = NULL, "MERGED" = NULL`, "")),
    beginCopy: (session, layout, copy) =>
      change(session, layout, `"COPYING" = ${literal(copy)}, "COPIED" = NULL, "MERGED" = NULL`, ""),
    confirmCopy: (session, layout, copy) =>
      change(session, layout, `"COPYING" = ${literal(copy)}`, `"COPYING" = ${literal(copy)}`),
    endCopy: (session, layout, copy, position) =>
      change(
        session,
        layout,
        `"COPYING" = NULL, "COPIED" = ${literal(String(position))}, "MERGED" = ${literal(mergedByCopy(position))}, ` +
          `${originColumn} = ${originOf(layout)}`,
        `"COPYING" = ${literal(copy)}`
      ),
    advance: (session, layout, from, to) =>
      change(session, layout, `"MERGED" = ${literal(to)}`, `"MERGED" = ${literal(from)} AND "COPIED" IS NOT NULL`)
  }
}
