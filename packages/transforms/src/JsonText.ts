/**
 * JSON read without losing digits: a number that a double doesn't hold as it is written stays the text that it was.
 */
import type { CellValue } from "./CellValue.ts"

/** JSON with our numbers in it: what TypeScript's library doesn't know of JavaScript's yet. */
interface ExactJson {
  readonly parse: (
    text: string,
    reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown
  ) => unknown
  readonly rawJSON: (text: string) => unknown
  readonly isRawJSON: (value: unknown) => value is { readonly rawJSON: string }
}

const exact = JSON as unknown as ExactJson // as of Node 22

/** What `text` says, or undefined when it is no JSON. */
export const parse = (text: string): unknown => {
  try { // The only way to ask.
    return exact.parse(
      text,
      (_, value, { source }) =>
        typeof value === "number" && source !== undefined && String(value) !== source ? exact.rawJSON(source) : value
    )
  } catch {
    return undefined
  }
}

/** What is at `path` in a parsed value; undefined when there is nothing. Numbers of a path are indexes into lists. */
export const at = (value: unknown, path: ReadonlyArray<string>): unknown => {
  let found = value
  for (const key of path) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, key)) return undefined
    found = (found as Readonly<Record<string, unknown>>)[key] // an object that has the key
  }
  return found
}

/** A parsed value (not null) as one for a column: numbers as they are written, lists and objects as JSON text. */
export const cell = (value: unknown, asJson: boolean): CellValue | undefined => {
  if (asJson) return JSON.stringify(value)
  switch (typeof value) {
    case "string":
    case "boolean":
      return value
    case "number":
      return Number.isSafeInteger(value) ? BigInt(value) : value
    default:
      return exact.isRawJSON(value) ? value.rawJSON : JSON.stringify(value)
  }
}
