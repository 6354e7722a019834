/**
 * Deprecated options that a configuration still has: warnings, which keep nothing from running.
 */
import type * as Schema from "effect/Schema"
import type { Finding, Path } from "./Problem.ts"
import * as SchemaShape from "./SchemaShape.ts"

const sentence = (text: string): string => /[.!?]$/.test(text) ? text : `${text}.`

/** The deprecated keys of `value`, which `schema` takes and which stands at `root` of the document. */
export const find = (schema: Schema.Constraint, value: unknown, root: Path): ReadonlyArray<Finding> => {
  const within = (inner: unknown, path: Path): ReadonlyArray<Finding> => {
    if (typeof inner !== "object" || inner === null || SchemaShape.at(schema, path).length === 0) return []
    const items: ReadonlyArray<readonly [string | number, unknown]> = Array.isArray(inner)
      ? inner.map((item: unknown, index) => [index, item])
      : Object.entries(inner)
    return items.flatMap(([key, item]) => {
      const at = [...path, key]
      const instead = SchemaShape.deprecation(schema, at)
      const own: ReadonlyArray<Finding> = instead === undefined ? [] : [{
        path: [...root, ...at],
        at: "key",
        message: `\`${key}\` is deprecated.`,
        remedy: sentence(instead)
      }]
      return [...own, ...within(item, at)]
    })
  }
  return within(value, [])
}
