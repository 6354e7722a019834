/**
 * Patterns that choose tables: `schema.table`, `schema.*`, `sales.order_*`, `"Odd schema"."My.Table"`.
 *
 * Names are taken exactly as they are stored, without folding to lower case. `*` stands for any characters; inside double
 * quotes it is a plain character, and `""` is one quote.
 */
import type { TableName } from "./TableSchema.ts"

/** A pattern, parsed. */
export interface TablePattern {
  /** The pattern as it was written. */
  readonly text: string
  readonly matches: (table: TableName) => boolean
}

const quotedPart = /^"((?:[^"]|"")+)"/
const plainPart = /^[^".]+/

const escape = (literal: string): string => literal.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")

interface Part {
  readonly matcher: RegExp
  readonly length: number
}

const part = (text: string): Part | undefined => {
  const quoted = quotedPart.exec(text)
  if (quoted !== null) {
    const name = (quoted[1] ?? "").replaceAll("\"\"", "\"")
    return { matcher: new RegExp(`^${escape(name)}$`), length: quoted[0].length }
  }
  const plain = plainPart.exec(text)
  if (plain === null) return undefined
  const pieces = plain[0].split("*")
  return {
    matcher: new RegExp(`^${pieces.map(escape).join(".*")}$`, "s"),
    length: plain[0].length
  }
}

/** The pattern that `text` describes, or undefined when it is not of the form `schema.table`. */
export const parse = (text: string): TablePattern | undefined => {
  const schema = part(text)
  if (schema === undefined || text[schema.length] !== ".") return undefined
  const rest = text.slice(schema.length + 1)
  const name = part(rest)
  if (name === undefined || name.length !== rest.length) return undefined
  return {
    text,
    matches: (table) => schema.matcher.test(table.schema) && name.matcher.test(table.name)
  }
}
