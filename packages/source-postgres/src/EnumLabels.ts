/**
 * The labels of the enums in a column: of its type, or of what its domain, array, composite or range is made of.
 *
 * A row holds an enum's value by its number, so ALTER TYPE … RENAME VALUE changes rows without a change in the log. Labels are
 * remembered by short hashes in the order in which they were made: what renames a label changes one, what adds one appends.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import type { Connections } from "./Connections.ts"

/** OID of an enum, and the hashes of its labels. */
export type EnumLabels = readonly [type: number, hashes: string]

const Row = Schema.Struct({ root: Schema.Number, type: Schema.Number, labels: Schema.Array(Schema.String) })

/** A value's number is its OID in `pg_enum`, which grows. */
const query = `WITH RECURSIVE part(root, oid) AS (
  SELECT t, t FROM unnest($1::oid[]) t
  UNION
  SELECT p.root, inner_type.oid FROM part p JOIN pg_type t ON t.oid = p.oid CROSS JOIN LATERAL (
    SELECT t.typbasetype UNION SELECT t.typelem
    UNION SELECT a.atttypid FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    UNION SELECT r.rngsubtype FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
  ) inner_type(oid)
)
SELECT p.root, e.enumtypid AS type, array_agg(e.enumlabel::text ORDER BY e.oid) AS labels
FROM part p JOIN pg_enum e ON e.enumtypid = p.oid GROUP BY p.root, e.enumtypid ORDER BY p.root, e.enumtypid`

const hash = (label: string): string => createHash("sha256").update(label).digest("base64url").slice(0, 6)

/** The enums in each of the types; those without any are absent. */
export const read = (connections: Connections, types: ReadonlySet<number>) =>
  connections.query("reading the enums of the database", Row, query, [[...types]]).pipe(
    Effect.map((rows) => {
      const found = new Map<number, Array<EnumLabels>>()
      for (const { labels, root, type } of rows) {
        found.set(root, [...found.get(root) ?? [], [type, labels.map(hash).join("")]])
      }
      return found
    })
  )

/** Whether labels that `before` has are others now. A type that `now` lacks was dropped, with all columns of it. */
export const renamed = (before: ReadonlyArray<EnumLabels>, now: ReadonlyArray<EnumLabels>): boolean => {
  const current = new Map(now)
  return before.some(([type, hashes]) => current.get(type)?.startsWith(hashes) === false)
}
