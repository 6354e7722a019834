/**
 * What a change of a table's columns makes of its target.
 *
 * A column is recognised by the source's id, where it gives one, or by its name. New columns are added, renamed ones renamed, types widened in place where every value stays
 * what it is. Any other type stops the table, because values that are there would have to be other ones: a new copy begins with the new type.
 */
import { tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import type { Config } from "./Config.ts"
import type { Session } from "./Database.ts"
import * as Failure from "./Failure.ts"
import { literal, meta, quote, reserved } from "./Names.ts"
import * as Staging from "./Staging.ts"
import type { Column } from "./TableState.ts"
import * as TypeMapping from "./TypeMapping.ts"

/** The columns of a table as the target has them. Rejects for names that DuckDB would take for the same, or that are the sink's own. */
export const columnsOf = (config: Config, table: TableSchema): ReadonlyArray<Column> => {
  const types = Staging.typesOf(config, table)
  const seen = new Set<string>()
  const id = tableId(table.table)
  return table.columns.map((column, index): Column => {
    const lower = column.name.toLowerCase()
    if (seen.has(lower) || lower.startsWith(reserved)) {
      throw Failure.make(
        "Unsupported",
        seen.has(lower)
          ? `${id} has two columns whose names differ by case alone: ${column.name}`
          : `The column ${column.name} of ${id} has a name that the sink uses itself`,
        "Rename one of the columns by a transform.",
        id
      )
    }
    seen.add(lower)
    return {
      name: column.name,
      sql: types[index]?.sql ?? "VARCHAR",
      ...(column.id === undefined ? {} : { id: column.id })
    }
  })
}

/** One step of a change of shape. */
export type Step =
  | { readonly _tag: "Add"; readonly column: Column }
  | { readonly _tag: "Drop"; readonly name: string }
  | { readonly _tag: "Rename"; readonly from: string; readonly to: string }
  | { readonly _tag: "Widen"; readonly name: string; readonly sql: string }

export interface Plan {
  readonly steps: ReadonlyArray<Step>
  /** The columns afterwards. */
  readonly columns: ReadonlyArray<Column>
}

/**
 * What has to be done for rows of `next`. In a barrier (`whole`) `next` is what the table is from now on; rows alone may be older than what is known, so
 * that columns which they lack stay, and types that hold theirs do, too.
 */
export const plan = (
  table: TableSchema,
  known: ReadonlyArray<Column>,
  next: ReadonlyArray<Column>,
  whole: boolean
): Plan => {
  const steps: Array<Step> = []
  const left = new Set(known)
  const columns = next.map((column): Column => {
    const before = known.find(({ id }) => id !== undefined && id === column.id) ??
      known.find(({ id, name }) => name === column.name && (id === undefined || column.id === undefined))
    if (before === undefined) {
      steps.push({ _tag: "Add", column })
      return column
    }
    left.delete(before)
    if (before.name !== column.name) steps.push({ _tag: "Rename", from: before.name, to: column.name })
    if (before.sql === column.sql || (!whole && TypeMapping.widens(column.sql, before.sql))) {
      return { ...column, sql: before.sql }
    }
    if (!TypeMapping.widens(before.sql, column.sql)) {
      throw Failure.make(
        "Unsupported",
        `The column ${column.name} of ${
          tableId(table.table)
        } became ${column.sql}; in the file it is ${before.sql}, which can't be changed in place`,
        "A new copy begins with the new type.",
        tableId(table.table)
      )
    }
    steps.push({ _tag: "Widen", name: column.name, sql: column.sql })
    return column
  })
  if (!whole) return { steps, columns: [...columns, ...left] }
  // First, so that a new column may have the name.
  return { steps: [...[...left].map(({ name }): Step => ({ _tag: "Drop", name })), ...steps], columns }
}

/** Makes the steps in one table. `policy` is that for dropped columns. */
export const alter = async (
  session: Session,
  target: string,
  steps: ReadonlyArray<Step>,
  policy: Config["dropColumn"]
): Promise<void> => {
  for (const step of steps) {
    switch (step._tag) {
      case "Add": {
        // A column that was kept, or that somebody made, is taken over when its type fits.
        await session.run(
          `ALTER TABLE ${target} ADD COLUMN IF NOT EXISTS ${quote(step.column.name)} ${step.column.sql}`
        )
        break
      }
      case "Drop": {
        if (policy === "drop") await session.run(`ALTER TABLE ${target} DROP COLUMN ${quote(step.name)}`)
        break
      }
      case "Rename":
        await session.run(`ALTER TABLE ${target} RENAME COLUMN ${quote(step.from)} TO ${quote(step.to)}`)
        break
      case "Widen":
        await session.run(`ALTER TABLE ${target} ALTER COLUMN ${quote(step.name)} TYPE ${step.sql}`)
        break
    }
  }
}

/** Makes the steps among changes that wait for a copy: the names of what wasn't sent change with the columns'. */
export const alterWaiting = async (session: Session, waiting: string, steps: ReadonlyArray<Step>): Promise<void> => {
  await alter(session, waiting, steps, "drop")
  for (const step of steps) {
    if (step._tag !== "Rename") continue
    await session.run(
      `UPDATE ${waiting} SET ${meta.unsent} = list_transform(${meta.unsent}, lambda name: CASE WHEN name = ${
        literal(step.from)
      } THEN ${literal(step.to)} ELSE name END) WHERE ${meta.unsent} IS NOT NULL`
    )
  }
}
