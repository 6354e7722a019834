/**
 * Reads from a table what a change of key left unsent, see `Settling`.
 *
 * Such changes are rare: a row must get another key while it has values that are stored out of line and stay as they are, in a
 * table whose replica identity is not FULL. Each costs one look-up by key.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import { type TableId, tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { CatalogTable } from "./Catalog.ts"
import type { Connections } from "./Connections.ts"
import * as Lsn from "./Lsn.ts"
import type { IncompleteChange } from "./PgOutputDecoder.ts"
import * as PostgresError from "./PostgresError.ts"
import type { Settling } from "./Settling.ts"
import * as Sql from "./Sql.ts"

const Row = Schema.Struct({
  end: Schema.String,
  found: Schema.Boolean,
  values: Schema.Array(Schema.NullOr(Schema.String))
})

const Equality = Schema.Struct({ column: Schema.String, schema: Schema.String, operator: Schema.String })

/**
 * The operator by which the index of a table's identity tells each key column's values apart. A type from an extension has its own, which the
 * session's search path doesn't lead to.
 */
const equalityQuery = `SELECT a.attname AS column, n.nspname AS schema, o.oprname AS operator
FROM pg_index i CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) k(n)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.n]
JOIN pg_opclass c ON c.oid = i.indclass[k.n]
JOIN pg_amop s ON s.amopfamily = c.opcfamily AND s.amopstrategy = 3 AND s.amoplefttype = c.opcintype
  AND s.amoprighttype = c.opcintype
JOIN pg_operator o ON o.oid = s.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
WHERE i.indrelid = $1::oid AND CASE WHEN $2 = 'i' THEN i.indisreplident ELSE i.indisprimary END`

/** A function that gives the unsent values of a change as text, by column name; undefined when its row is there no more. */
export const make = (
  connections: Connections,
  tables: ReadonlyMap<TableId, CatalogTable>,
  settling: ReadonlyMap<TableId, Settling>
): (change: IncompleteChange) => Effect.Effect<ReadonlyMap<string, string | null> | undefined, ConnectorError> => {
  const equalities = new Map<CatalogTable, ReadonlyMap<string, string>>()

  /** Comparison of a table's key columns, by their names, as SQL operators. */
  const equalityOf = Effect.fnUntraced(function*(table: CatalogTable) {
    const known = equalities.get(table)
    if (known !== undefined) return known
    const rows = yield* connections.query("looking up how a key is compared", Equality, equalityQuery, [
      table.oid,
      table.replicaIdentity
    ])
    const found = new Map(
      rows.map(({ column, operator, schema }) => [column, `OPERATOR(${Sql.identifier(schema)}.${operator})`] as const)
    )
    equalities.set(table, found)
    return found
  })

  return (change) =>
    Effect.gen(function*() {
      const id = tableId(change.table)
      const table = tables.get(id)
      const operators = table === undefined ? new Map<string, string>() : yield* equalityOf(table)
      const only = table?.partitioned === false ? "ONLY " : ""
      const condition = change.key.map(({ name }, index) =>
        `t.${Sql.identifier(name)} ${operators.get(name) ?? "="} $${index + 1}`
      ).join(" AND ")
      const values = change.unsent.map((name) => {
        const column = `t.${Sql.identifier(name)}`
        return `CASE WHEN ${column} IS DISTINCT FROM NULL THEN pg_catalog.concat(${column}) END`
      }).join(", ")
      // One row in any case, so that the end of the log comes with it: read after the statement's snapshot was taken.
      const [row] = yield* connections.query(
        `completing a change of key in ${id}`,
        Row,
        `SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text AS end,
           r.found IS NOT NULL AS found, coalesce(r.held, '{}') AS values
         FROM (SELECT 1) one LEFT JOIN LATERAL (
           SELECT true AS found, ARRAY[${values}]::text[] AS held FROM ${only}${
          Sql.table(change.table)
        } t WHERE ${condition}
         ) r ON true`,
        change.key.map(({ value }) => value)
      )
      settling.get(id)?.read(Lsn.parse(row?.end ?? "") ?? 0n)
      if (row?.found !== true) return undefined
      return new Map(change.unsent.map((name, index) => [name, row.values[index] ?? null]))
    }).pipe(
      // Whatever can't be read is this table's.
      Effect.mapError(({ hint, message, reason }) => PostgresError.make(reason, message, hint, tableId(change.table)))
    )
}
