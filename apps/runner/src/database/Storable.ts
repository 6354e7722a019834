/**
 * What PostgreSQL's jsonb can't hold, or would hold as something else: refused before it is written.
 */
import type { Finding, Path } from "../Problem.ts"
import { documentPath } from "./PlainSecrets.ts"
import type { Content } from "./Rows.ts"

const textProblem = (text: string): string | undefined =>
  text.includes("\0")
    ? "This text has a NUL character, which the database can't hold."
    : text.isWellFormed()
    ? undefined
    : "This text is no valid Unicode, which the database can't hold."

const within = (value: unknown, path: Path): ReadonlyArray<Finding> => {
  const found = (message: string, at: Finding["at"] = "value"): ReadonlyArray<Finding> => [
    { path, at, message, remedy: "Write it in another way." }
  ]
  switch (typeof value) {
    case "string": {
      const problem = textProblem(value)
      return problem === undefined ? [] : found(problem)
    }
    case "number":
      return Number.isFinite(value) ? [] : found("This number is not finite, which the database can't hold.")
    case "boolean":
      return []
    case "object": {
      if (value === null) return []
      if (Array.isArray(value)) return value.flatMap((item, index) => within(item, [...path, index]))
      if (Object.getPrototypeOf(value) !== Object.prototype) break
      return Object.entries(value).flatMap(([key, item]) => {
        const problem = textProblem(key)
        return problem === undefined ? within(item, [...path, key]) : found(problem)
      })
    }
  }
  return found("A value of this kind can't be in the database.")
}

/** What can't be stored of `row`, by path of the document. */
export const problems = (row: Content): ReadonlyArray<Finding> => {
  const path = documentPath(row)
  return row.name.length > 100
    ? [{ path, at: "key", message: "The name is longer than 100 characters.", remedy: "Shorten it." }]
    : within(row.value, path)
}
