/**
 * Lists of columns as statements write them.
 */
import { quote } from "./Identifier.ts"
import type { ColumnLayout, TableLayout } from "./TableLayout.ts"

type Columns = ReadonlyArray<Pick<ColumnLayout, "name">>

/** Each column's name, of what `alias` stands for. */
export const names = (columns: Columns, alias?: string): ReadonlyArray<string> =>
  columns.map(({ name }) => alias === undefined ? quote(name) : `${alias}.${quote(name)}`)

/** The key's columns. */
export const keyList = ({ keys }: TableLayout, alias: string): string => names(keys, alias).join(", ")

/** Whether two rows have one key. */
export const sameKey = ({ keys }: TableLayout, a: string, b: string): string =>
  keys.map(({ name }) => `${a}.${quote(name)} = ${b}.${quote(name)}`).join(" AND ")
