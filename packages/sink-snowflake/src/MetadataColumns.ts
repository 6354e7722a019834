/**
 * Gives a target's metadata columns the names that the options say.
 *
 * The state table keeps what they are called (`METADATA`), because nothing else tells a column of ours from another one of the table: no entry stands for the names that they have without
 * options. When the options say otherwise the columns are renamed, so that what they hold stays, before anything else is altered. Both names are kept while that is under way: whatever
 * the options of the run say that follows one that died, it finds each column by one of them.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { failure } from "./ErrorPolicy.ts"
import { describe } from "./ExistingTable.ts"
import { quote } from "./Identifier.ts"
import type { SqlClient } from "./SqlClient.ts"
import type { StateTable } from "./StateTable.ts"
import { modeOf } from "./TableDdl.ts"
import type { NamedColumn, TableLayout } from "./TableLayout.ts"
import { Metadata, namedColumns, sqlName } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

/** Metadata columns that a target has, and what they are called. */
type Names = { readonly [Column in NamedColumn]?: string }

const name = Schema.optionalKey(Schema.String)
const Kept = Schema.fromJsonString(
  Schema.Array(Schema.Struct({ deleted: name, syncedAt: name, validFrom: name, validTo: name }))
)

const usualNames: Names = {
  deleted: Metadata.deleted,
  syncedAt: Metadata.syncedAt,
  validFrom: Metadata.validFrom,
  validTo: Metadata.validTo
}

const wantedOf = (layout: TableLayout): Names =>
  Object.fromEntries(namedColumns(layout).map((column) => [column, layout.names[column]]))

const taken = (layout: TableLayout, column: NamedColumn): Failed =>
  failure(
    "Unsupported",
    `The table ${sqlName(layout.target)} has a column ${
      layout.names[column]
    } already, which isn't the one of metadata.${column}`,
    `Give metadata.${column} another name, or rename the column in Snowflake.`,
    { table: layout.id }
  )

/** Renames what has another name. `noted`: what the state table had in `METADATA` when the run began. */
export const settle = Effect.fn("MetadataColumns.settle")(function*(
  sql: SqlClient,
  state: Pick<StateTable, "keepMetadata" | "read">,
  layout: TableLayout,
  noted: string | undefined
): Effect.fn.Return<void, Failed> {
  const columns = namedColumns(layout)
  const wanted = wantedOf(layout)
  const text = JSON.stringify([wanted])
  const usual = noted === undefined && columns.every((column) => wanted[column] === usualNames[column])
  if (columns.length === 0 || usual || noted === text) return
  // The table may have been opened before in this run.
  const known = yield* state.read(layout.id)
  if (known?.metadata === text) return
  const target = sqlName(layout.target)
  const execute = (what: string, statement: string) =>
    sql.execute({ what: `${what} of ${target}`, sql: statement, table: layout.id })
  const existing = yield* describe(sql, layout.target, layout.id)
  if (existing !== undefined) {
    // One of another mode is refused.
    if (modeOf(existing) !== layout.mode) return
    const kept = known?.metadata === undefined
      ? [usualNames]
      : Option.getOrElse(Schema.decodeUnknownOption(Kept)(known.metadata), () => [usualNames])
    const held = (column: NamedColumn): string | undefined =>
      kept.map((names) => names[column]).find((called) => called !== undefined && existing.columns.has(called))
    const renames = columns.flatMap((column) => {
      const [from, to] = [held(column), layout.names[column]]
      return from === to ? [] : [{ column, from, to }]
    })
    // Of a target of which nothing is known the column may be ours.
    const foreign = known?.metadata !== undefined || known?.copied !== undefined || known?.copying !== undefined
    const clash = renames.find(({ from, to }) => existing.columns.has(to) && (from !== undefined || foreign))
    if (clash !== undefined) return yield* taken(layout, clash.column)
    yield* state.keepMetadata(layout, JSON.stringify([...kept, wanted]))
    const deleted = held("deleted")
    if (deleted !== undefined && wanted.deleted === undefined) {
      // Deletes are hard now. The column goes last: until then it is known that there may be such rows.
      yield* execute("Removing softly deleted rows", `DELETE FROM ${target} WHERE ${quote(deleted)}`)
      yield* execute("Dropping a column", `ALTER TABLE ${target} DROP COLUMN ${quote(deleted)}`)
    }
    for (const { from, to } of renames) {
      if (from === undefined) continue
      yield* execute("Renaming a column", `ALTER TABLE ${target} RENAME COLUMN ${quote(from)} TO ${quote(to)}`)
    }
  }
  yield* state.keepMetadata(layout, text)
})
