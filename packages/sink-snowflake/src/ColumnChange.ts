/**
 * What differs between the columns that a target should have and those that it has in Snowflake: a pure comparison, of which nothing is
 * decided here.
 *
 * Columns are told apart by the source's ids where it gives any, else by their names, and by what the sink remembers of its own
 * (`KnownColumns`). Columns that are neither wanted nor remembered were made by hand: they are let be.
 */
import type { ExistingColumn, ExistingTable } from "./ExistingTable.ts"
import type { KnownColumn, KnownColumns } from "./KnownColumns.ts"
import type { ColumnLayout, TableLayout } from "./TableLayout.ts"
import * as Layout from "./TableLayout.ts"
import * as TypeMapping from "./TypeMapping.ts"

export type ColumnChange =
  /** It is new at the source: older rows have no value. */
  | { readonly _tag: "Added"; readonly column: ColumnLayout }
  /** It was made by hand before the source had one of its name. */
  | { readonly _tag: "Adopted"; readonly column: ColumnLayout }
  /** It wasn't written for a while: values are missing. `held`: the target has a column for it. */
  | {
    readonly _tag: "Returned"
    readonly column: ColumnLayout
    readonly held: boolean
    readonly omitted: boolean
  }
  /** It was written, and somebody dropped it in Snowflake: its values are gone. */
  | { readonly _tag: "Lost"; readonly column: ColumnLayout }
  /** `from` is its name in Snowflake. */
  | { readonly _tag: "Renamed"; readonly column: ColumnLayout; readonly from: string }
  /** It was renamed, and the target has another column of its new name. */
  | { readonly _tag: "NameTaken"; readonly column: ColumnLayout; readonly from: string }
  /** Another column of the source had this name: its values are still there. */
  | { readonly _tag: "Replaced"; readonly column: ColumnLayout }
  /** Its type `from` can be changed in place. `at` is its name in Snowflake after renames. */
  | { readonly _tag: "Widened"; readonly column: ColumnLayout; readonly at: string; readonly from: string }
  | { readonly _tag: "Incompatible"; readonly column: ColumnLayout; readonly at: string; readonly from: string }
  /** It refuses NULL, which the source may send. */
  | { readonly _tag: "Required"; readonly column: ColumnLayout; readonly at: string }
  /** The source has it no more. `held`: the target does; `required`: and it refuses rows without it. */
  | {
    readonly _tag: "Dropped"
    readonly known: KnownColumn
    readonly held: boolean
    readonly nullable: boolean
    readonly required: boolean
  }
  /** Nothing is written to it, and it refuses rows without a value. */
  | { readonly _tag: "Unfillable"; readonly name: string }

/** What is remembered of a column: by its id, or by its name where one of the two has none. */
const find = (
  known: KnownColumns | undefined,
  layout: TableLayout,
  column: ColumnLayout
): KnownColumn | undefined => {
  const schema = layout.table.columns[column.index]
  if (known === undefined || schema === undefined) return undefined
  const { id, name } = schema
  return (id === undefined ? undefined : known.find((other) => other.id === id)) ??
    known.find((other) => other.source === name && (id === undefined || other.id === undefined))
}

/** Where a column's values are in the target, after a rename, and what happened to it on the way there. */
const placed = (
  column: ColumnLayout,
  entry: KnownColumn | undefined,
  known: KnownColumns | undefined,
  existing: ExistingTable,
  keepNames: boolean
): { readonly change?: ColumnChange; readonly at?: string; readonly now?: string } => {
  const { name } = column
  const held = existing.columns.has(name)
  if (entry === undefined) {
    if (!held) return { change: { _tag: "Added", column } }
    if (known === undefined) return { at: name, now: name }
    const tag = known.some((other) => other.name === name && other.state !== "omitted") ? "Replaced" : "Adopted"
    return { change: { _tag: tag, column }, at: name, now: name }
  }
  if (entry.state !== undefined) {
    const omitted = entry.state === "omitted"
    return { change: { _tag: "Returned", column, held, omitted }, ...(held ? { at: name, now: name } : {}) }
  }
  const from = entry.name
  if (from !== name && existing.columns.has(from)) {
    if (keepNames) return { change: { _tag: "Renamed", column, from }, at: from, now: from }
    return held
      ? { change: { _tag: "NameTaken", column, from }, at: name, now: name }
      : { change: { _tag: "Renamed", column, from }, at: from, now: name }
  }
  return held ? { at: name, now: name } : { change: { _tag: "Lost", column } }
}

/**
 * The changes from what the target is to what `layout` wants of it, those of names before those of types. `keepNames`: renamed columns keep their
 * names in Snowflake.
 */
export const compare = (
  known: KnownColumns | undefined,
  layout: TableLayout,
  existing: ExistingTable,
  keepNames: boolean
): ReadonlyArray<ColumnChange> => {
  const changes: Array<ColumnChange> = []
  const types: Array<ColumnChange> = []
  const used = new Set<string>(Object.values(Layout.Metadata))
  const matched = new Set<KnownColumn>()
  /** Of a key that isn't wanted any more the constraint goes with the key. */
  const refuses = (name: string, { filled, nullable }: ExistingColumn): boolean =>
    !nullable && !filled && !existing.primaryKey.includes(name)
  for (const column of layout.columns) {
    const entry = find(known, layout, column)
    if (entry !== undefined) matched.add(entry)
    const { at, change, now } = placed(column, entry, known, existing, keepNames)
    if (change !== undefined) changes.push(change)
    const have = at === undefined ? undefined : existing.columns.get(at)
    if (at === undefined || now === undefined || have === undefined) continue
    used.add(at)
    const fits = TypeMapping.compare(have.type, column.target)
    if (fits === "widens") types.push({ _tag: "Widened", column, at: now, from: have.type })
    if (fits === "differs") types.push({ _tag: "Incompatible", column, at: now, from: have.type })
    const schema = layout.table.columns[column.index]
    // A primary key makes its columns NOT NULL.
    if (!have.nullable && !column.isKey && schema?.nullable !== false) types.push({ _tag: "Required", column, at: now })
  }
  for (const entry of known ?? []) {
    if (matched.has(entry) || entry.state !== undefined || used.has(entry.name)) continue
    used.add(entry.name)
    const have = existing.columns.get(entry.name)
    changes.push({
      _tag: "Dropped",
      known: entry,
      held: have !== undefined,
      nullable: have?.nullable !== false,
      required: have !== undefined && refuses(entry.name, have)
    })
  }
  for (const [name, column] of existing.columns) {
    if (refuses(name, column) && !used.has(name)) changes.push({ _tag: "Unfillable", name })
  }
  return [...changes, ...types]
}
