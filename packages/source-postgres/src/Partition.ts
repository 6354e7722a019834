/**
 * How the partitions of a table hang at it, and whether they may hold rows that never came as the table's.
 *
 * The log has a partition's rows as the table's only while it is attached. What tells is the transaction that wrote each link (the
 * `xmin` of its `pg_inherits` row, new with every attachment), and whether the same one created the partition: then only rows from before the
 * attachment within that transaction can be foreign, and those lie in the first pages.
 */
import type { TableName } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Connections } from "./Connections.ts"
import * as Sql from "./Sql.ts"

/** A leaf partition's way up to its table. */
export const Link = Schema.Struct({
  root: Schema.Number,
  oid: Schema.Number,
  /** The transactions that attached it, and what lies between it and the table, from the top. */
  link: Schema.String,
  /** It, and everything on the way, was created by the transaction that attached it. */
  born: Schema.Boolean
})
export type Link = typeof Link.Type

/** Whether two readings of one table's links agree. */
export const sameLinks = (
  a: ReadonlyArray<Pick<Link, "oid" | "link">>,
  b: ReadonlyArray<Pick<Link, "oid" | "link">>
): boolean => {
  const links = new Map(a.map(({ link, oid }) => [oid, link]))
  return links.size === b.length && b.every(({ link, oid }) => links.get(oid) === link)
}

/** Reads in whatever snapshot it is run: the numbers are OIDs of tables. The row of a system column is as old as its table. */
export const linksQuery = (roots: ReadonlyArray<number>): string =>
  `WITH RECURSIVE tree AS (
  SELECT r.root, r.root AS oid, ''::text AS link, true AS born
  FROM unnest(ARRAY[${roots.join(", ")}]::oid[]) AS r(root) JOIN pg_class c ON c.oid = r.root AND c.relkind = 'p'
  UNION ALL
  SELECT t.root, i.inhrelid, t.link || ' ' || i.xmin::text, t.born AND i.xmin::text = a.xmin::text
  FROM tree t JOIN pg_class p ON p.oid = t.oid AND p.relkind = 'p'
  JOIN pg_inherits i ON i.inhparent = t.oid AND NOT i.inhdetachpending
  JOIN pg_attribute a ON a.attrelid = i.inhrelid AND a.attname = 'tableoid' AND a.attnum < 0
)
SELECT t.root, t.oid, ltrim(t.link) AS link, t.born FROM tree t JOIN pg_class c ON c.oid = t.oid AND c.relkind = 'r' ORDER BY t.root, t.oid`

/** Links of the leaf partitions of `roots`, as they are now. */
export const links = (connections: Connections, roots: ReadonlyArray<number>) =>
  connections.query("reading partitions", Link, linksQuery(roots))

const Found = Schema.Struct({ found: Schema.Boolean })

/**
 * Whether a partition that was created and attached by one transaction holds rows that this transaction wrote before the attachment. Rows that
 * were changed since count as such: what they were is not known.
 */
export const hasEarlierRows = Effect.fn("PostgresSource.partitionRows")(function*(
  connections: Connections,
  partition: number,
  table: TableName
) {
  const [row] = yield* connections.query(
    "looking for rows of a new partition",
    Found,
    `SELECT EXISTS (SELECT FROM ONLY ${
      Sql.table(table)
    } r, pg_inherits i WHERE i.inhrelid = $1::oid AND r.ctid < '(256,0)'
  AND r.xmin = i.xmin AND (r.cmin::text::int8 < i.cmin::text::int8 OR r.xmax::text <> '0')) AS found`,
    [partition]
  )
  return row?.found !== false
})
