/**
 * Which table a target and its journal belong to: two tables must never be written to one.
 *
 * Among the tables of a run the first one to ask has it, and among pipelines the one whose row was there first. One that asks in vain leaves its row in the state
 * table without a target, as it would be for a table that was never opened; nothing of the owner is touched. A table that left the pipeline
 * gives its target up when another one asks for it: what is known of the target goes with it.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { failure } from "./ErrorPolicy.ts"
import { literal } from "./Identifier.ts"
import type { SqlClient } from "./SqlClient.ts"
import type { TableLayout } from "./TableLayout.ts"
import { sqlName } from "./TableLayout.ts"
import * as TableState from "./TableState.ts"

type Failed = ConnectorError.ConnectorError

const Owner = Schema.Struct({ PIPELINE: Schema.String, SOURCE_TABLE: Schema.String })

export interface TargetClaims {
  /** Makes sure that the table has a row, and that no other table or pipeline has the same target. */
  readonly register: (layout: TableLayout) => Effect.Effect<void, Failed>
  /** Whether the layout's target is the table's own. */
  readonly owns: (layout: TableLayout) => boolean
  /** What an earlier run registered. */
  readonly known: (table: TableId, target: string, journal: string) => void
  /** The table isn't one of this run's. */
  readonly release: (table: TableId) => void
}

export interface Options {
  readonly sql: SqlClient
  readonly pipeline: string
  /** The state table's name in SQL. */
  readonly table: string
  readonly runner: string
  readonly rowOf: (layout: TableLayout) => string
  /** SQL that sets a row's columns for nothing known of its target. */
  readonly forgets: string
}

const now = "CURRENT_TIMESTAMP()"
const noTarget = `"TARGET" = '', "JOURNAL" = ''`

export const make = ({ forgets, pipeline, rowOf, runner, sql, table }: Options): TargetClaims => {
  /** Targets and journals, each with the table that has it. */
  const owners = new Map<string, TableId>()

  const namesOf = ({ journal, target }: TableLayout) => [sqlName(target), sqlName(journal)]

  const refused = ({ id, target }: TableLayout, owner: typeof Owner.Type): Failed =>
    failure(
      "Unsupported",
      `${id} and ${owner.SOURCE_TABLE} of the pipeline ${owner.PIPELINE} would both be written to ${sqlName(target)}`,
      "Give one of them another schema or name, or leave it out." +
        (owner.PIPELINE === pipeline
          ? ""
          : " If the other pipeline is no more, delete its rows from the state table TABLES."),
      { table: id }
    )

  const release = (id: TableId): void => {
    for (const [name, owner] of owners) if (owner === id) owners.delete(name)
  }

  const register = Effect.fnUntraced(function*(layout: TableLayout): Effect.fn.Return<void, Failed> {
    const { id } = layout
    const [target, journal] = [sqlName(layout.target), sqlName(layout.journal)]
    const [owner] = namesOf(layout).flatMap((name) => owners.get(name) ?? []).filter((owner) => owner !== id)
    if (owner !== undefined) return yield* refused(layout, { PIPELINE: pipeline, SOURCE_TABLE: owner })
    // Before anything is awaited: tables are opened several at a time.
    for (const name of namesOf(layout)) owners.set(name, id)
    yield* sql.execute({
      what: `Registering ${id}`,
      sql: `MERGE INTO ${table} AS t USING (SELECT ${literal(pipeline)} AS "P", ${literal(id)} AS "S") AS s ` +
        `ON t."PIPELINE" = s."P" AND t."SOURCE_TABLE" = s."S" ` +
        `WHEN MATCHED AND t."TARGET" = '' THEN UPDATE SET "TARGET" = ${literal(target)}, "JOURNAL" = ${
          literal(journal)
        } ` +
        `WHEN NOT MATCHED THEN INSERT ("PIPELINE", "SOURCE_TABLE", "TARGET", "JOURNAL", "RUNNER", "UPDATED_AT") ` +
        `VALUES (s."P", s."S", ${literal(target)}, ${literal(journal)}, ${literal(runner)}, ${now})`,
      table: id
    })
    const same = `("TARGET" = ${literal(target)} OR "JOURNAL" = ${literal(journal)})`
    const { rows } = yield* sql.execute({
      what: `Looking for other owners of ${target}`,
      sql: `SELECT "PIPELINE", "SOURCE_TABLE" FROM ${table} WHERE ${same} AND NOT (${rowOf(layout)})`,
      table: id
    })
    const found = yield* TableState.decode(Owner, rows)
    const other = found.find(({ PIPELINE }) => PIPELINE !== pipeline)
    if (other !== undefined) {
      release(id)
      // It would refuse a corrected configuration, too. A table that was copied has had its target for longer.
      yield* sql.execute({
        what: `Giving up ${target} for ${id}`,
        sql: `UPDATE ${table} SET ${noTarget}, ${forgets}, "UPDATED_AT" = ${now} WHERE ${
          rowOf(layout)
        } AND "TARGET" = ${literal(target)} AND "COPYING" IS NULL AND "COPIED" IS NULL`,
        table: id
      })
      return yield* refused(layout, other)
    }
    // Whatever else has it is no table of this run.
    if (found.length === 0) return
    yield* sql.execute({
      what: `Taking ${target} over for ${id}`,
      sql: `UPDATE ${table} SET ${noTarget}, ${forgets}, "UPDATED_AT" = ${now} WHERE "PIPELINE" = ${
        literal(pipeline)
      } AND ${same} AND NOT (${rowOf(layout)})`,
      table: id
    })
  })

  return {
    register,
    owns: (layout) => namesOf(layout).every((name) => owners.get(name) === layout.id),
    known: (id, ...names) => {
      for (const name of names) if (name !== "" && !owners.has(name)) owners.set(name, id)
    },
    release
  }
}
