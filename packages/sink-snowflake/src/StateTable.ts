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
import type { Quarantine } from "@etl-stream/core/Quarantine"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { randomUUID } from "node:crypto"
import * as ChunkTable from "./ChunkTable.ts"
import * as Collation from "./Collation.ts"
import { failure } from "./ErrorPolicy.ts"
import { literal, qualified } from "./Identifier.ts"
import * as QuarantineMark from "./QuarantineMark.ts"
import type { Session, SqlClient } from "./SqlClient.ts"
import type { TableLayout } from "./TableLayout.ts"
import { sequenceType, sqlName } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

/** A copy that can go on. */
export interface Resumable {
  readonly copy: string
  readonly position: bigint
  readonly plan: string
  readonly chunks: ChunkTable.Chunks
}

/** A copy that isn't finished: the run that it is under way in, or was. */
export interface Unfinished {
  readonly run: string
  readonly resumable: Resumable | undefined
}

/** What is kept of a finished copy. */
export interface Finished {
  readonly position: bigint
  readonly copiedTo: bigint
  readonly settled: bigint
}

export interface TableState {
  /** The target that all of this is about, as SQL; empty for a table that never had one. */
  readonly target: string
  /** Position of the finished copy. */
  readonly copied: bigint | undefined
  /** Position of the latest snapshot that it was read in; undefined when a version without resumable copies made it. */
  readonly copiedTo: bigint | undefined
  readonly settled: bigint | undefined
  readonly copying: Unfinished | undefined
  /** Sequence up to which the journal is merged; in mode changelog where the copy ends. */
  readonly merged: Sequence.SequenceText | undefined
  /** The source's text about the history that the copy belongs to. */
  readonly origin: string | undefined
  /** What the target was given as columns, see `KnownColumns`. */
  readonly columns: string | undefined
  /** The token of the task that merges the table; empty when there is one that is not in charge. */
  readonly task: string | undefined
  /** Why the table is in quarantine; undefined when it isn't. */
  readonly quarantined: Quarantine | undefined
}

const Position = Schema.NullOr(Schema.String.check(Schema.isPattern(/^\d{1,20}$/)))
const Row = Schema.Struct({
  SOURCE_TABLE: Schema.String,
  TARGET: Schema.String,
  COPYING: Schema.NullOr(Schema.String),
  COPY: Schema.NullOr(Schema.String),
  COPY_POSITION: Position,
  COPY_PLAN: Schema.NullOr(Schema.String),
  COPIED: Position,
  COPIED_TO: Position,
  SETTLED: Position,
  MERGED: Schema.NullOr(Schema.String),
  ORIGIN: Schema.NullOr(Schema.String),
  COLUMNS: Schema.NullOr(Schema.String),
  TASK: Schema.NullOr(Schema.String),
  ...QuarantineMark.fields
})
const OwnerRow = Schema.Struct({ PIPELINE: Schema.String, SOURCE_TABLE: Schema.String })

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
}

export interface StateTable extends QuarantineMark.QuarantineMarks {
  readonly rowOf: (layout: TableLayout) => StateRow
  readonly chunks: ChunkTable.ChunkTable
  /** The states of the pipeline's tables, by source table. */
  readonly load: Effect.Effect<ReadonlyMap<TableId, TableState>, Failed>
  /** Makes sure that the table has a row, and that no other table or pipeline has the same target. */
  readonly register: (layout: TableLayout) => Effect.Effect<void, Failed>
  /** The table goes to another target than before: nothing is known of what that holds. */
  readonly move: (layout: TableLayout) => Effect.Effect<void, Failed>
  /** Forgets the copies of tables that left the pipeline: their changes aren't read any more. */
  readonly abandon: (tables: ReadonlyArray<TableId>) => Effect.Effect<void, Failed>
  /** Keeps the origin of the table's shape, when it has one. */
  readonly keepOrigin: (layout: TableLayout) => Effect.Effect<void, Failed>
  /** Keeps what the target has as columns, see `KnownColumns`. */
  readonly keepColumns: (layout: TableLayout, columns: string) => Effect.Effect<void, Failed>
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

const columns = [
  "SOURCE_TABLE",
  "TARGET",
  "COPYING",
  "COPY",
  "COPY_POSITION",
  "COPY_PLAN",
  "COPIED",
  "COPIED_TO",
  "SETTLED",
  "MERGED",
  "ORIGIN",
  "COLUMNS",
  "TASK",
  ...QuarantineMark.columns
]

const noCopying = `"COPYING" = NULL, "COPY" = NULL, "COPY_POSITION" = NULL, "COPY_PLAN" = NULL`
const noCopied = `"COPIED" = NULL, "COPIED_TO" = NULL, "SETTLED" = NULL, "MERGED" = NULL`

const positionOf = (text: string | null): bigint | undefined => text === null ? undefined : BigInt(text)

const none: ChunkTable.Chunks = new Map()

const unfinished = (
  row: typeof Row.Type,
  chunks: ReadonlyMap<string, ChunkTable.Chunks>
): Unfinished | undefined => {
  const { COPY: copy, COPYING: run, COPY_PLAN: plan } = row
  if (run === null) return undefined
  const position = positionOf(row.COPY_POSITION)
  return {
    run,
    resumable: copy === null || plan === null || position === undefined
      ? undefined
      : { copy, position, plan, chunks: chunks.get(copy) ?? none }
  }
}

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

/** What is known of a table once it is in quarantine. `task`: there may be one that merged it. */
export const quarantined = (known: TableState | undefined, why: Quarantine, task: boolean): TableState => ({
  target: known?.target ?? "",
  copied: undefined,
  copiedTo: undefined,
  settled: undefined,
  copying: undefined,
  merged: undefined,
  origin: known?.origin,
  columns: known?.columns,
  task: task ? "" : undefined,
  quarantined: why
})

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
    chunks,
    rowOf: (layout) => ({ table, condition: rowOf(layout) }),
    ...marks,
    load: Effect.gen(function*() {
      const { rows } = yield* sql.execute({
        what: "Reading the state table",
        sql: `SELECT ${columns.map((column) => `"${column}"`).join(", ")} FROM ${table} WHERE "PIPELINE" = ${
          literal(pipeline)
        }`
      })
      const states = yield* decode(Row, rows)
      const loaded = states.some(({ COPY_PLAN }) => COPY_PLAN !== null) ? yield* chunks.load() : new Map()
      return new Map(states.map((row) => [row.SOURCE_TABLE, {
        target: row.TARGET,
        copied: positionOf(row.COPIED),
        copiedTo: positionOf(row.COPIED_TO),
        settled: positionOf(row.SETTLED),
        copying: unfinished(row, loaded),
        merged: row.MERGED ?? undefined,
        origin: row.ORIGIN ?? undefined,
        columns: row.COLUMNS ?? undefined,
        task: row.TASK ?? undefined,
        quarantined: QuarantineMark.parse(row)
      }]))
    }),
    register: Effect.fnUntraced(function*(layout) {
      const target = sqlName(layout.target)
      yield* sql.execute({
        what: `Registering ${layout.id}`,
        sql: `MERGE INTO ${table} AS t USING (SELECT ${literal(pipeline)} AS "P", ${literal(layout.id)} AS "S") AS s ` +
          `ON t."PIPELINE" = s."P" AND t."SOURCE_TABLE" = s."S" ` +
          `WHEN MATCHED AND t."TARGET" = '' THEN UPDATE SET "TARGET" = ${literal(target)}, "JOURNAL" = ${
            literal(sqlName(layout.journal))
          } ` +
          `WHEN NOT MATCHED THEN INSERT ("PIPELINE", "SOURCE_TABLE", "TARGET", "JOURNAL", "RUNNER", "UPDATED_AT") ` +
          `VALUES (s."P", s."S", ${literal(target)}, ${literal(sqlName(layout.journal))}, ${literal(runner)}, ${now})`,
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
    move: (layout) =>
      sql.use((session) =>
        Effect.andThen(
          change(
            session,
            layout,
            `"TARGET" = ${literal(sqlName(layout.target))}, "JOURNAL" = ${literal(sqlName(layout.journal))}, ` +
              `${noCopying}, ${noCopied}, "COLUMNS" = NULL, "TASK" = NULL`,
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
      change(session, layout, `"MERGED" = ${literal(to)}`, `"MERGED" = ${literal(from)} AND "COPIED" IS NOT NULL`)
  }
}
