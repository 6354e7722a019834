/**
 * The state table: what Snowflake itself knows of each table of each pipeline. One row per pipeline and source table.
 *
 * `COPYING` names the run that a copy is under way in, `COPY` the copy itself, which may go on in a later run when it has a `COPY_PLAN`;
 * `COPY_POSITION` is where it began. `COPIED` is the position of the finished copy, `COPIED_TO` that of the latest snapshot it was read in, `SETTLED` what
 * the source said at its end. `MERGED` is the sequence up to which the journal is merged, `ORIGIN` what the source recognises the copied table's
 * history by, `COLUMNS` what the target was given as columns, `TASK` which task of Snowflake merges it. `RUNNER` is the run that opened the pipeline last;
 * `QUARANTINED_AT` and what follows say since when and why a table is in quarantine (it has no copy then). Every change is conditional on what the writer believes, so two runners of one pipeline can't both go on: the slower one
 * changes no row and ends with `Fenced`. It is changed last in a transaction, because a change locks the table for others.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import * as ChunkTable from "./ChunkTable.ts"
import * as Collation from "./Collation.ts"
import { failure } from "./ErrorPolicy.ts"
import { literal, qualified } from "./Identifier.ts"
import * as QuarantineMark from "./QuarantineMark.ts"
import type { Session, SqlClient } from "./SqlClient.ts"
import type { TableLayout } from "./TableLayout.ts"
import { sequenceType, sqlName } from "./TableLayout.ts"
import * as TableState from "./TableState.ts"
import * as TargetClaim from "./TargetClaim.ts"

type Failed = ConnectorError.ConnectorError

/** What is kept of a finished copy. */
export interface Finished {
  readonly position: bigint
  readonly copiedTo: bigint
  readonly settled: bigint
}

const now = "CURRENT_TIMESTAMP()"

/** Everything before a copy's position is in the copy: the greatest sequence below it. */
export const mergedByCopy = (position: bigint): Sequence.SequenceText =>
  Sequence.format(Sequence.make(position - 1n, 0xffff_ffff_ffff_ffffn))

/**
 * Up to where a finished copy makes changes void. Rows with a key supersede older changes one by one; those without can't be
 * told apart, so everything before their one snapshot is part of the copy.
 */
export const mergedByFinished = ({ keys }: TableLayout, { copiedTo, position }: Finished): Sequence.SequenceText =>
  mergedByCopy(keys.length > 0 ? position : copiedTo)

/** Where the state table has a table's row, as SQL. */
export interface StateRow {
  readonly table: string
  readonly condition: string
  /** Holds as long as no other run has taken the pipeline over. */
  readonly owned: string
}

export interface StateTable
  extends QuarantineMark.QuarantineMarks, Pick<TargetClaim.TargetClaims, "owns" | "register" | "release">
{
  readonly pipeline: string
  readonly rowOf: (layout: Pick<TableLayout, "id">) => StateRow
  readonly chunks: ChunkTable.ChunkTable
  /** The states of the pipeline's tables, by source table. */
  readonly load: Effect.Effect<ReadonlyMap<TableId, TableState.TableState>, Failed>
  /** The state of one table as it is now; undefined when it has none. */
  readonly read: (table: TableId) => Effect.Effect<TableState.TableState | undefined, Failed>
  /** The table goes to another target than before: nothing is known of what that holds. */
  readonly move: (layout: TableLayout) => Effect.Effect<void, Failed>
  /** Forgets the copies of tables that left the pipeline: their changes aren't read any more. */
  readonly abandon: (tables: ReadonlyArray<TableId>) => Effect.Effect<void, Failed>
  /** Keeps the origin of the table's shape, when it has one. */
  readonly keepOrigin: (layout: TableLayout) => Effect.Effect<void, Failed>
  /** Keeps what the target has as columns, see `KnownColumns`. */
  readonly keepColumns: (layout: TableLayout, columns: string) => Effect.Effect<void, Failed>
  /** Keeps what its metadata columns are called, see `MetadataColumns`. */
  readonly keepMetadata: (layout: TableLayout, names: string) => Effect.Effect<void, Failed>
  /** Forgets an earlier copy: the table has to be copied again. */
  readonly forget: (layout: TableLayout) => Effect.Effect<void, Failed>
  /** Begins a copy under a new identity, which is its first run's too; it can't be resumed before `keepPlan`. */
  readonly beginCopy: (
    session: Session,
    layout: TableLayout,
    copy: string,
    position: bigint
  ) => Effect.Effect<void, Failed>
  /** From here on the copy can go on in a later run. */
  readonly keepPlan: (layout: TableLayout, run: string, plan: string) => Effect.Effect<void, Failed>
  /** The copy can't be resumed any more. */
  readonly dropPlan: (layout: TableLayout, run: string) => Effect.Effect<void, Failed>
  /** Lets a copy that `from` left go on in the run `to`; `from` can record nothing any more. */
  readonly resumeCopy: (layout: TableLayout, from: string, to: string) => Effect.Effect<void, Failed>
  /** Checks that the copy is still this run's. */
  readonly expectCopy: (session: Session, layout: TableLayout, run: string) => Effect.Effect<void, Failed>
  /** Checks it, and keeps it so until the transaction ends. */
  readonly confirmCopy: (session: Session, layout: TableLayout, run: string) => Effect.Effect<void, Failed>
  readonly endCopy: (
    session: Session,
    layout: TableLayout,
    run: string,
    finished: Finished
  ) => Effect.Effect<void, Failed>
  readonly advance: (
    session: Session,
    layout: TableLayout,
    from: Sequence.SequenceText,
    to: Sequence.SequenceText
  ) => Effect.Effect<void, Failed>
}

const originOf = ({ table }: TableLayout): string => table.origin === undefined ? "NULL" : literal(table.origin)

/** Columns that state tables of earlier versions lack. */
export const addedColumns = [
  "ORIGIN",
  "SETTLED",
  "COPIED_TO",
  "COPY",
  "COPY_POSITION",
  "COPY_PLAN",
  "COLUMNS",
  "METADATA",
  "TASK",
  "RUNNER",
  ...QuarantineMark.columns
] as const

/** The SQL that creates the state table in `schema`. */
export const create = (database: string, schema: string): string =>
  `CREATE TABLE IF NOT EXISTS ${qualified(database, schema, "TABLES")} (` +
  `"PIPELINE" VARCHAR, "SOURCE_TABLE" VARCHAR, "TARGET" VARCHAR, "JOURNAL" VARCHAR, "COPYING" VARCHAR, ` +
  `"COPIED" VARCHAR, "MERGED" ${sequenceType}, ${
    addedColumns.map((column) => `"${column}" VARCHAR`).join(", ")
  }, "UPDATED_AT" TIMESTAMP_TZ(6)) ${Collation.none}`

const noCopying = `"COPYING" = NULL, "COPY" = NULL, "COPY_POSITION" = NULL, "COPY_PLAN" = NULL`
const noCopied = `"COPIED" = NULL, "COPIED_TO" = NULL, "SETTLED" = NULL, "MERGED" = NULL`
/** Nothing is known of the target. */
const noKnowledge = `"COLUMNS" = NULL, "METADATA" = NULL, "TASK" = NULL`

export const changedElsewhere = ({ id }: Pick<TableLayout, "id">): Failed =>
  failure(
    "Fenced",
    `The state of ${id} in Snowflake was changed by somebody else`,
    "Run only one runner per pipeline. This one starts again from what Snowflake holds.",
    { table: id }
  )

export const make = (sql: SqlClient, pipeline: string, database: string, schema: string): StateTable => {
  const table = qualified(database, schema, "TABLES")
  const runner = randomUUID()
  const owned = `"RUNNER" = ${literal(runner)}`
  const rowOf = ({ id }: Pick<TableLayout, "id">): string =>
    `"PIPELINE" = ${literal(pipeline)} AND "SOURCE_TABLE" = ${literal(id)}`
  const chunks = ChunkTable.make(sql, pipeline, database, schema)
  const marks = QuarantineMark.make({
    sql,
    pipeline,
    table,
    runner,
    // A task of Snowflake that merges the table is in charge no more, see `MergeTask`.
    forgets: `${noCopying}, ${noCopied}, "TASK" = CASE WHEN "TASK" IS NULL THEN NULL ELSE '' END`,
    clearChunks: chunks.clear,
    changedElsewhere: (id) => changedElsewhere({ id })
  })
  const claims = TargetClaim.make({
    sql,
    pipeline,
    table,
    runner,
    rowOf,
    forgets: noKnowledge
  })
  const states = Effect.fnUntraced(function*(only?: TableId) {
    const { rows } = yield* sql.execute({
      what: "Reading the state table",
      sql: `SELECT ${TableState.columns.map((column) => `"${column}"`).join(", ")} FROM ${table} WHERE ${
        only === undefined ? `"PIPELINE" = ${literal(pipeline)}` : rowOf({ id: only })
      }`
    })
    const found = yield* TableState.decode(TableState.Row, rows)
    const parts = found.some(({ COPY_PLAN }) => COPY_PLAN !== null) ? yield* chunks.load(only) : new Map()
    return new Map(found.map((row) => [row.SOURCE_TABLE, TableState.parse(row, parts)]))
  })
  const change = Effect.fnUntraced(function*(
    session: Session,
    layout: TableLayout,
    set: string,
    condition: string,
    binds: ReadonlyArray<string> = []
  ) {
    const { changed } = yield* session.execute({
      what: `Recording the state of ${layout.id}`,
      sql: `UPDATE ${table} SET ${set}, "UPDATED_AT" = ${now} WHERE ${rowOf(layout)}${
        condition === "" ? "" : ` AND ${condition}`
      }`,
      table: layout.id,
      ...(binds.length === 0 ? {} : { binds })
    })
    if (changed !== 1) return yield* changedElsewhere(layout)
  })
  return {
    pipeline,
    chunks,
    rowOf: (layout) => ({ table, condition: rowOf(layout), owned }),
    ...marks,
    register: claims.register,
    owns: claims.owns,
    release: claims.release,
    load: Effect.tap(states(), (found) =>
      Effect.sync(() => {
        for (const [id, { journal, target }] of found) claims.known(id, target, journal)
      })),
    read: (id) => Effect.map(states(id), (found) => found.get(id)),
    move: (layout) =>
      sql.use((session) =>
        Effect.andThen(
          change(
            session,
            layout,
            `"TARGET" = ${literal(sqlName(layout.target))}, "JOURNAL" = ${literal(sqlName(layout.journal))}, ` +
              `${noCopying}, ${noCopied}, ${noKnowledge}`,
            ""
          ),
          chunks.clear(session, layout)
        )
      ),
    abandon: (tables) =>
      Effect.andThen(
        sql.execute({
          what: "Forgetting the copies of tables that left the pipeline",
          sql: `UPDATE ${table} SET ${noCopying}, ${noCopied}, ${QuarantineMark.none}, "UPDATED_AT" = ${now} ` +
            `WHERE "PIPELINE" = ${literal(pipeline)} AND "SOURCE_TABLE" IN (${tables.map(literal).join(", ")})`
        }),
        chunks.abandon(tables)
      ),
    keepOrigin: (layout) =>
      layout.table.origin === undefined
        ? Effect.void
        : sql.use((session) => change(session, layout, `"ORIGIN" = ${originOf(layout)}`, "")),
    keepColumns: (layout, columns) => sql.use((session) => change(session, layout, `"COLUMNS" = ?`, "", [columns])),
    keepMetadata: (layout, names) => sql.use((session) => change(session, layout, `"METADATA" = ?`, "", [names])),
    forget: (layout) =>
      sql.use((session) =>
        Effect.andThen(
          change(session, layout, `${noCopying}, ${noCopied}, ${QuarantineMark.none}`, ""),
          chunks.clear(session, layout)
        )
      ),
    beginCopy: (session, layout, copy, position) =>
      Effect.andThen(
        chunks.clear(session, layout),
        change(
          session,
          layout,
          `"COPYING" = ${literal(copy)}, "COPY" = ${literal(copy)}, "COPY_POSITION" = ${literal(String(position))}, ` +
            `"COPY_PLAN" = NULL, ${noCopied}, ${QuarantineMark.none}, "ORIGIN" = ${originOf(layout)}`,
          ""
        )
      ),
    keepPlan: (layout, run, plan) =>
      sql.use((session) => change(session, layout, `"COPY_PLAN" = ?`, `"COPYING" = ${literal(run)}`, [plan])),
    dropPlan: (layout, run) =>
      sql.use((session) => change(session, layout, `"COPY_PLAN" = NULL`, `"COPYING" = ${literal(run)}`)),
    resumeCopy: (layout, from, to) =>
      sql.use((session) =>
        change(
          session,
          layout,
          `"COPYING" = ${literal(to)}`,
          `"COPYING" = ${literal(from)} AND "COPY_PLAN" IS NOT NULL`
        )
      ),
    expectCopy: Effect.fnUntraced(function*(session, layout, run) {
      const { rows } = yield* session.execute({
        what: `Looking for the copy of ${layout.id}`,
        sql: `SELECT "COPYING" FROM ${table} WHERE ${rowOf(layout)}`,
        table: layout.id
      })
      if (rows[0]?.["COPYING"] !== run) return yield* changedElsewhere(layout)
    }),
    confirmCopy: (session, layout, run) =>
      change(session, layout, `"COPYING" = ${literal(run)}`, `"COPYING" = ${literal(run)}`),
    endCopy: (session, layout, run, finished) =>
      Effect.andThen(
        chunks.clear(session, layout),
        change(
          session,
          layout,
          `${noCopying}, "COPIED" = ${literal(String(finished.position))}, "COPIED_TO" = ${
            literal(String(finished.copiedTo))
          }, "SETTLED" = ${literal(String(finished.settled))}, "MERGED" = ${
            literal(mergedByFinished(layout, finished))
          }`,
          `"COPYING" = ${literal(run)}`
        )
      ),
    advance: (session, layout, from, to) =>
      // A run that was taken over may know older columns.
      change(
        session,
        layout,
        `"MERGED" = ${literal(to)}`,
        `"MERGED" = ${literal(from)} AND "COPIED" IS NOT NULL AND ${owned}`
      )
  }
}
