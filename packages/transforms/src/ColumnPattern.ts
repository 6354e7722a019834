/**
 * How options name columns: by name, or by a pattern in which `*` stands for any characters.
 *
 * Names are taken exactly as the source stores them. A name without a column is an error, since something that was to be done to the column would silently not be
 * done (a mask, say) after somebody has renamed it; a pattern may match none. A backslash makes the next character a plain one.
 */
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Schema from "effect/Schema"
import { didYouMean } from "./ClosestName.ts"
import { failure } from "./Failure.ts"

/** A column's name or a pattern, in options. */
export const ColumnPattern = Schema.NonEmptyString.annotate({
  description: "A column's name, exactly as the source stores it, or a pattern in which `*` stands for any characters"
})

/** At least one column's name or pattern, in options. */
export const ColumnPatterns = Schema.Array(ColumnPattern).check(
  Schema.isMinLength(1, { expected: "at least one column" })
)

/** The name of one column, in options. */
export const ColumnName = Schema.NonEmptyString

/** A pattern, parsed. */
export interface Parsed {
  readonly text: string
  /** The name that it is, unless it is a pattern. */
  readonly name: string | undefined
  readonly matches: (name: string) => boolean
}

export const parse = (text: string): Parsed => {
  const parts: Array<string> = [""]
  for (let at = 0; at < text.length; at++) {
    const escaped = text[at] === "\\" && at + 1 < text.length
    if (text[at] === "*" && !escaped) {
      parts.push("")
      continue
    }
    if (escaped) at++
    parts[parts.length - 1] += text[at] ?? ""
  }
  const [name = ""] = parts
  return parts.length === 1
    ? { text, name, matches: (other) => other === name }
    : { text, name: undefined, matches: (other) => glob(parts, other) }
}

/** Whether `name` is made of `parts` in their order, whatever is between them. Takes time linear in the name's length for each part. */
const glob = (parts: ReadonlyArray<string>, name: string): boolean => {
  const first = parts[0] ?? ""
  const last = parts[parts.length - 1] ?? ""
  if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) return false
  let at = first.length
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return at <= name.length - last.length
}

export const noColumn = (plugin: string, table: TableSchema, name: string) =>
  failure(
    plugin,
    table.table,
    `There is no column ${name}.${didYouMean(name, table.columns.map((column) => column.name))}`,
    "Correct the transform's options; if the column was renamed or dropped at the source, change them to what it is now."
  )

/** Index of the column `name`. Throws when there is none. */
export const indexOf = (plugin: string, table: TableSchema, name: string): number => {
  const index = table.columns.findIndex((column) => column.name === name)
  if (index < 0) throw noColumn(plugin, table, name)
  return index
}

/** Indexes of the columns that some of `patterns` match, ascending. Throws when one of them is a name without a column. */
export const indexesOf = (
  plugin: string,
  table: TableSchema,
  patterns: ReadonlyArray<Parsed>
): ReadonlyArray<number> => {
  for (const { name } of patterns) if (name !== undefined) indexOf(plugin, table, name)
  return table.columns.flatMap((column, index) =>
    patterns.some((pattern) => pattern.matches(column.name)) ? [index] : []
  )
}
