/**
 * A batch as a temporary table `batch`: the metadata columns of `Names.meta`, then the table's columns in their final types.
 *
 * Temporary tables aren't written to the file's log, so a batch is on disk once, as rows of its target.
 */
import { DuckDBTypeId as Type } from "@duckdb/node-api"
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import type { Config } from "./Config.ts"
import type { Session } from "./Database.ts"
import * as DataChunks from "./DataChunks.ts"
import * as Failure from "./Failure.ts"
import { literal, meta, quote } from "./Names.ts"
import type { Column } from "./TableState.ts"
import * as TypeMapping from "./TypeMapping.ts"

export const batch = "temp.main.batch"
const raw = "temp.main.raw"

/** DuckDB's types of a table's columns. */
export const typesOf = (config: Config, table: TableSchema): ReadonlyArray<TypeMapping.ColumnType> =>
  table.columns.map(({ name, type }) => TypeMapping.of(type, config.text.includes(`${tableId(table.table)}.${name}`)))

const { MetadataColumns } = ChangeBatch

/** The names of the columns that a row didn't send: bit i of the mask (bit i % 8 of byte i / 8) is that of column i. */
const unsentNames = (table: TableSchema, missing: ReadonlyArray<string>): string => {
  // DuckDB numbers a byte's bits from the highest one.
  const sent = table.columns.map(({ name }, index) =>
    `CASE WHEN unsent IS NOT NULL AND get_bit(unsent::BIT, ${(index >> 3) * 8 + 7 - (index & 7)}) = 1 THEN ${
      literal(name)
    } END`
  )
  const { KeyChangeNew, Update } = ChangeBatch.Operation
  const absent = missing.map((name) => `CASE WHEN op IN (${Update}, ${KeyChangeNew}) THEN ${literal(name)} END`)
  const list = `list_filter([${[...sent, ...absent].join(", ")}], lambda name: name IS NOT NULL)`
  return absent.length === 0 ? `CASE WHEN unsent IS NULL THEN NULL ELSE ${list} END` : `nullif(${list}, [])`
}

/**
 * Makes `batch` of a change batch, with the target's columns. A column that the batch has no more, or not yet, counts as not sent where a row has been before, and is NULL
 * where it hasn't. Rows are numbered from `start` on. Rejects when a value doesn't fit its column's type.
 */
export const load = async (
  session: Session,
  config: Config,
  { records, rows, table }: ChangeBatch.ChangeBatch,
  columns: ReadonlyArray<Column>,
  start = 0
): Promise<void> => {
  const types = typesOf(config, table)
  const carried: Array<readonly [name: string, carrier: Type, column: DataChunks.Column]> = [
    ["op", Type.UTINYINT, DataChunks.column(ChangeBatch.child(records, MetadataColumns.op), Type.UTINYINT)],
    ["commit", Type.UBIGINT, DataChunks.column(ChangeBatch.child(records, MetadataColumns.commit), Type.UBIGINT)],
    ["unsent", Type.BLOB, DataChunks.column(ChangeBatch.child(records, MetadataColumns.unsent), Type.BLOB)],
    ...types.map(({ carrier }, index): readonly [string, Type, DataChunks.Column] => [
      `c${index}`,
      carrier,
      DataChunks.column(ChangeBatch.child(records, ChangeBatch.metadataColumns + index), carrier)
    ])
  ]
  await session.run(
    `CREATE OR REPLACE TEMP TABLE raw (n BIGINT, ${
      carried.map(([name, , { type }]) => `${quote(name)} ${type.toString()}`).join(", ")
    })`
  )
  const appender = await session.connection.createAppender("raw", "main", "temp")
  try {
    DataChunks.append(appender, [DataChunks.rowNumbers(start), ...carried.map(([, , column]) => column)], rows)
  } finally {
    appender.closeSync()
  }
  await refuse(session, table, types)

  const places = new Map(table.columns.map(({ name }, index) => [name, index]))
  const values = columns.map(({ name, sql }) => {
    const place = places.get(name)
    const value = place === undefined ? "NULL" : `c${place}`
    return `CAST(${value} AS ${sql}) AS ${quote(name)}`
  })
  const missing = columns.flatMap(({ name }) => places.has(name) ? [] : [name])
  await session.run(
    `CREATE OR REPLACE TEMP TABLE batch AS SELECT n AS ${meta.n}, op AS ${meta.op}, "commit" AS ${meta.commit}, ${
      unsentNames(table, missing)
    } AS ${meta.unsent}, ${values.join(", ")} FROM ${raw};
    DROP TABLE ${raw}`
  )
}

/** Looks for values that a cast would refuse or change: then nothing of the batch is written. */
const refuse = async (
  session: Session,
  table: TableSchema,
  types: ReadonlyArray<TypeMapping.ColumnType>
): Promise<void> => {
  const checks = types.flatMap(({ refused }, index) => refused === undefined ? [] : [{ refused, index }])
  if (checks.length === 0) return
  const counts = await session.rows(
    `SELECT ${
      checks.map(({ index, refused }) => `count(*) FILTER (WHERE c${index} IS NOT NULL AND ${refused(`c${index}`)})`)
        .join(", ")
    } FROM ${raw}`
  )
  checks.forEach(({ index }, at) => {
    if (Number(counts[0]?.[at] ?? 0) === 0) return
    const name = table.columns[index]?.name ?? ""
    const id = tableId(table.table)
    throw Failure.make(
      "Rejected",
      `The column ${name} of ${id} has values that DuckDB's ${types[index]?.sql} can't hold exactly`,
      `Keep the column as text: add ${id}.${name} to the sink's option text.`,
      id
    )
  })
}
