/**
 * Brings target and journal into the shape that a table has at the source, when it is opened and when its shape changes.
 *
 * What makes the copy void is noted before anything is altered: a run that dies in between copies the table again, too. What the target was given
 * as columns is noted after that: until then a look at the tables tells how far it came.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type { Config } from "./Config.ts"
import { failure } from "./ErrorPolicy.ts"
import * as KnownColumns from "./KnownColumns.ts"
import type { SqlClient } from "./SqlClient.ts"
import type { StateTable } from "./StateTable.ts"
import * as TableDdl from "./TableDdl.ts"
import type { TableLayout } from "./TableLayout.ts"
import * as TableOptions from "./TableOptions.ts"
import type { TableState } from "./TableState.ts"

type Failed = ConnectorError.ConnectorError

interface Context {
  readonly config: Config
  readonly sql: SqlClient
  readonly state: StateTable
}

export interface TableShape {
  /** The layout to work with. */
  readonly layout: TableLayout
  /** `KnownColumns` as text. */
  readonly columns: string
  /** Why the copy, if there was one, doesn't count any more. */
  readonly void: string | undefined
  readonly journalCreated: boolean
  readonly otherKey: TableDdl.OtherKey | undefined
}

/**
 * Alters the tables so that they fit `wanted`. `columns`: what is known of them; `held`: whether the state table knows a copy, finished or not; `quiet`: done before
 * the columns that channels write to are altered, so that nothing is on its way to them under the names of before.
 */
export const settle = Effect.fn("TableShape.settle")(function*(
  { config, sql, state }: Context,
  wanted: TableLayout,
  columns: string | undefined,
  held: boolean,
  quiet: Effect.Effect<void, Failed> = Effect.void
): Effect.fn.Return<TableShape, Failed> {
  const policies = TableOptions.of(config, wanted.id).schemaEvolution
  const examined = yield* TableDdl.examine(sql, wanted, KnownColumns.parse(columns), policies)
  const { decision, journal: journalCreated, otherKey } = examined
  const { layout, warnings } = decision
  for (const { hint, message } of warnings) {
    yield* Effect.logWarning(message).pipe(Effect.annotateLogs({ table: layout.id, hint }))
  }
  const why = examined.target || journalCreated ? "it was dropped in Snowflake" : decision.void
  if (why !== undefined && held) {
    yield* state.forget(layout)
    yield* Effect.logWarning(`the table is copied again: ${why}`).pipe(Effect.annotateLogs({ table: layout.id }))
  }
  // Of a copy that is void nothing on its way counts.
  if (why === undefined && held && TableDdl.altersJournal(examined)) yield* quiet
  yield* TableDdl.evolve(sql, examined)
  const now = KnownColumns.format(decision.known)
  // With another key most of it is still to be done.
  if (otherKey === undefined && now !== columns) yield* state.keepColumns(layout, now)
  return { layout, columns: now, void: why, journalCreated, otherKey }
})

/** Gives an emptied target the key of its layout. */
export const rekey = Effect.fn("TableShape.rekey")(function*(
  { sql, state }: Pick<Context, "sql" | "state">,
  layout: TableLayout,
  columns: string,
  other: TableDdl.OtherKey
) {
  yield* TableDdl.rekey(sql, layout, other)
  yield* state.keepColumns(layout, columns)
})

/** Ends a run whose table has to be copied again: the next one finds no copy of it. */
export const copiedAgain = (table: TableId, why: string): Failed =>
  failure(
    "Fenced",
    `The copy of ${table} is void: ${why}`,
    "The pipeline starts again by itself and copies the table again.",
    { table }
  )

/** What the state table says of a table whose copy is void. */
export const voided = (known: TableState | undefined, { void: why }: TableShape): TableState | undefined =>
  why === undefined ? known : undefined
