/**
 * The catalog's questions and the rows of their answers, each for all tables at once.
 */
import * as Schema from "effect/Schema"

export const Relation = Schema.Struct({
  oid: Schema.Number,
  schema: Schema.String,
  name: Schema.String,
  kind: Schema.String,
  persistence: Schema.String,
  ancestors: Schema.Array(Schema.Number)
})
export type Relation = typeof Relation.Type

export const relationQuery = `SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
  c.relpersistence::text AS persistence,
  CASE WHEN c.relispartition
    THEN ARRAY(SELECT a.relid::oid FROM pg_partition_ancestors(c.oid) a WHERE a.relid <> c.oid) ELSE '{}'::oid[] END AS ancestors
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
ORDER BY n.nspname, c.relname`

/** Only what is flushed: that is visible a moment later, sooner than the next query comes. */
export const positionQuery =
  `SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text AS position`

export const Position = Schema.Struct({ position: Schema.NullOr(Schema.String) })

export const Detail = Schema.Struct({
  oid: Schema.Number,
  lastNumber: Schema.Number,
  replicaIdentity: Schema.String,
  owned: Schema.Boolean,
  usable: Schema.Boolean,
  rowsHidden: Schema.Boolean
})

export const detailQuery = `SELECT c.oid, c.relnatts::int4 AS "lastNumber", c.relreplident::text AS "replicaIdentity",
  pg_has_role(c.relowner, 'USAGE') AS owned,
  has_schema_privilege(c.relnamespace, 'USAGE') AS usable,
  c.relrowsecurity AND row_security_active(c.oid) AS "rowsHidden"
FROM pg_class c WHERE c.oid = ANY($1::oid[])`

export const Column = Schema.Struct({
  table: Schema.Number,
  number: Schema.Number,
  name: Schema.String,
  typeOid: Schema.Number,
  typmod: Schema.Number,
  notNull: Schema.Boolean,
  generated: Schema.String,
  altered: Schema.String,
  readable: Schema.Boolean
})
export type Column = typeof Column.Type

export const columnQuery = `SELECT a.attrelid AS table, a.attnum AS number, a.attname AS name, a.atttypid AS "typeOid",
  a.atttypmod AS typmod, a.attnotnull AS "notNull", a.attgenerated::text AS generated,
  a.xmin::text AS altered, has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable
FROM pg_attribute a WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`

/**
 * The relations of a partition tree as a recursive query named `tree`, from roots of which `roots` is a query. PostgreSQL's own
 * `pg_partition_tree` locks every partition until its transaction ends, which DDL that runs meanwhile may be the victim of in a deadlock.
 */
const treeOf = (roots: string): string =>
  `WITH RECURSIVE tree AS (SELECT r.root, r.root AS oid FROM (${roots}) r UNION ALL
  SELECT t.root, i.inhrelid FROM tree t JOIN pg_class p ON p.oid = t.oid AND p.relkind = 'p'
  JOIN pg_inherits i ON i.inhparent = t.oid AND NOT i.inhdetachpending)`

const givenRoots = "SELECT unnest($1::oid[]) AS root"

export const History = Schema.Struct({
  table: Schema.Number,
  missing: Schema.Array(Schema.String),
  files: Schema.Array(Schema.String)
})

/**
 * Columns whose value in older rows is the default that they were added with, in the table or in any of its partitions; and
 * the files of its heaps, once more.
 */
export const historyQuery = `${treeOf(givenRoots)} SELECT l.root AS table,
  coalesce(array_agg(DISTINCT a.attname::text) FILTER (WHERE a.atthasmissing), '{}') AS missing,
  coalesce(array_agg(DISTINCT c.oid || ' ' || c.relfilenode) FILTER (WHERE c.relkind = 'r'), '{}') AS files
FROM tree l JOIN pg_class c ON c.oid = l.oid LEFT JOIN pg_attribute a ON a.attrelid = l.oid AND a.atthasmissing
GROUP BY l.root`

export const Key = Schema.Struct({
  table: Schema.Number,
  primary: Schema.Boolean,
  replica: Schema.Boolean,
  columns: Schema.Array(Schema.Number)
})
export type Key = typeof Key.Type

/** A deferrable key may be violated within a transaction, so PostgreSQL doesn't identify rows by it and neither do we. */
export const keyQuery = `SELECT i.indrelid AS table, i.indisprimary AS primary, i.indisreplident AS replica,
  ARRAY(SELECT i.indkey[n] FROM generate_series(0, i.indnkeyatts - 1) n ORDER BY n) AS columns
FROM pg_index i
WHERE i.indrelid = ANY($1::oid[]) AND (i.indisprimary OR i.indisreplident) AND i.indimmediate AND i.indisvalid`

export const HeapRow = Schema.Struct({
  root: Schema.Number,
  oid: Schema.Number,
  schema: Schema.String,
  name: Schema.String,
  kind: Schema.String,
  persistence: Schema.String,
  replicaIdentity: Schema.String,
  file: Schema.Number,
  pages: Schema.Number,
  bytes: Schema.Number,
  rows: Schema.Number,
  readable: Schema.Boolean,
  /** Its rows are laid out as the root's: the same columns, dropped ones included, at the same numbers. */
  rootLayout: Schema.Boolean
})
export type HeapRow = typeof HeapRow.Type

const layoutOf = (oid: string): string =>
  `ARRAY(SELECT CASE WHEN a.attisdropped THEN '' ELSE a.attname::text END || ' ' || a.atttypid || ' ' || a.attlen || a.attalign::text
    FROM pg_attribute a WHERE a.attrelid = ${oid} AND a.attnum > 0 ORDER BY a.attnum)`

export const heapQuery = `${
  treeOf(givenRoots)
} SELECT l.root, c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
  c.relpersistence::text AS persistence, c.relreplident::text AS "replicaIdentity", c.relfilenode AS file,
  coalesce(pg_relation_size(c.oid) / current_setting('block_size')::int8, 0)::float8 AS pages,
  coalesce(pg_table_size(c.oid), 0)::float8 AS bytes, c.reltuples::float8 AS rows,
  has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable,
  c.oid = l.root OR ${layoutOf("c.oid")} = ${layoutOf("l.root")} AS "rootLayout"
FROM tree l JOIN pg_class c ON c.oid = l.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'f')
ORDER BY n.nspname, c.relname`
