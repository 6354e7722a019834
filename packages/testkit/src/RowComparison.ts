/**
 * Compares tables of PostgreSQL with their copies in a Snowflake-compatible warehouse, row by row and value by value, both ways.
 *
 * It reads both sides as text with formats spelled out and brings every value to one canonical text by rules of its own, so
 * that a sink and this judge can't share a mistake. Tables with a primary key are compared by key; others as multisets. Memory is
 * bounded: a large table is compared in several passes, each over the rows whose key falls into one partition.
 * Rows are named by their key in the result, never by other values.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import { crc32 } from "node:zlib"
import { Client } from "pg"
import * as Canonical from "./internal/canonicalValue.ts"
import { quoted, type SnowflakeSession, type SnowflakeSessionError } from "./SnowflakeSession.ts"

export class RowComparisonError
  extends Schema.TaggedError<RowComparisonError>("@etl-stream/testkit/RowComparisonError")(
    "RowComparisonError",
    { message: Schema.String, cause: Schema.optionalKey(Schema.Defect()) }
  )
{}

/** A table of the source and its copy. */
export interface Pair {
  /** Schema and name at PostgreSQL. */
  readonly source: { readonly schema: string; readonly name: string }
  /** Names at the warehouse, exactly as stored. */
  readonly target: { readonly database: string; readonly schema: string; readonly name: string }
}

/** One row that isn't the same on both sides. */
export interface Example {
  readonly kind: "missing" | "extra" | "different"
  /** Its key as a JSON array, or a digest of the row when the table has no key. */
  readonly key: string
  /** Columns whose values differ. */
  readonly columns: ReadonlyArray<string>
}

export interface TableComparison {
  /** `schema.name` at PostgreSQL. */
  readonly table: string
  /** Rows at PostgreSQL. */
  readonly rows: number
  /** Rows at PostgreSQL that the warehouse doesn't have. */
  readonly missing: number
  /** Rows at the warehouse that PostgreSQL doesn't have; a second row with the same key is one. */
  readonly extra: number
  /** Rows with the same key and other values. */
  readonly different: number
  /** The first few. */
  readonly examples: ReadonlyArray<Example>
}

export interface Options {
  /** Connection string of PostgreSQL. */
  readonly postgres: string
  readonly snowflake: SnowflakeSession
  readonly tables: ReadonlyArray<Pair>
  /** The warehouse's name of a PostgreSQL column. Default: `warehouseName`. */
  readonly columnName?: (column: string) => string
  /** Rows held in memory at once. Default: 200,000. */
  readonly rowsPerPass?: number
}

/** Plain lower-case names are upper-cased, as an unquoted identifier would be; any other is kept. */
export const warehouseName = (name: string): string => /^[a-z_][a-z0-9_$]*$/.test(name) ? name.toUpperCase() : name

interface Column {
  readonly name: string
  readonly kind: Canonical.Kind
}

interface Shape {
  readonly columns: ReadonlyArray<Column>
  /** Places of the key's columns; empty for a table without key. */
  readonly key: ReadonlyArray<number>
  readonly estimate: number
}

const columnsQuery = `
  WITH RECURSIVE base(attnum, attname, oid) AS (
    SELECT attnum, attname::text, atttypid FROM pg_attribute
    WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    UNION ALL
    SELECT b.attnum, b.attname, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype = 'd'
  )
  SELECT b.attname AS name, t.typname AS type, e.typname AS element,
    COALESCE(b.attnum = ANY (i.indkey::int2[]), false) AS key
  FROM base b
  JOIN pg_type t ON t.oid = b.oid AND t.typtype <> 'd'
  LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typoutput = 'array_out'::regproc AND t.typdelim = ','
  LEFT JOIN pg_index i ON i.indrelid = $1::text::regclass AND i.indisprimary
  ORDER BY b.attnum`

const ColumnRows = Schema.Array(Schema.Struct({
  name: Schema.String,
  type: Schema.String,
  element: Schema.NullOr(Schema.String),
  key: Schema.Literals(["t", "f"])
}))

const decodeColumns = Schema.decodeUnknownSync(ColumnRows)

/** Everything as the text that PostgreSQL sends. */
const textOnly = { getTypeParser: () => (value: string) => value }

const connect = (url: string) =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: async () => {
        const client = new Client({ connectionString: url, types: textOnly })
        client.on("error", () => {})
        await client.connect()
        await client.query(
          "SET TimeZone = 'UTC'; SET DateStyle = ISO; SET IntervalStyle = postgres; SET extra_float_digits = 1"
        )
        return client
      },
      catch: (cause) => new RowComparisonError({ message: "PostgreSQL can't be read for the comparison", cause })
    }),
    (client) => Effect.promise(() => client.end().catch(() => undefined))
  )

const sqlName = (pair: Pair): string => `${quoted(pair.source.schema)}.${quoted(pair.source.name)}`

const shapeOf = async (client: Client, pair: Pair): Promise<Shape> => {
  const rows = decodeColumns((await client.query(columnsQuery, [sqlName(pair)])).rows)
  const counted = await client.query<Array<string>>({ text: `SELECT count(*) FROM ${sqlName(pair)}`, rowMode: "array" })
  return {
    columns: rows.map(({ element, name, type }) => ({ name, kind: Canonical.kindOf(type, element) })),
    key: rows.flatMap((row, index) => row.key === "t" ? [index] : []),
    estimate: Number(counted.rows[0]?.[0] ?? 0)
  }
}

/** Values longer than this are represented by their digest, so that a wide row costs little while it waits for its copy. */
const longest = 64

const compact = (text: string): string =>
  text.length <= longest ? text : `sha256:${createHash("sha256").update(text).digest("base64url")}`

/** The values of a row in canonical text, and its key: the whole row when there is none. */
const canonicalRow = (
  shape: Shape,
  row: ReadonlyArray<string | null>,
  from: (kind: Canonical.Kind, text: string) => string
): { readonly key: string; readonly values: ReadonlyArray<string | null> } => {
  const values = shape.columns.map(({ kind }, index) => {
    const text = row[index] ?? null
    return text === null ? null : compact(from(kind, text))
  })
  const key = shape.key.length === 0 ? values : shape.key.map((index) => values[index] ?? null)
  return { key: JSON.stringify(key), values }
}

const visitPostgres = async (
  client: Client,
  pair: Pair,
  shape: Shape,
  visit: (row: ReadonlyArray<string | null>) => void
): Promise<void> => {
  const columns = shape.columns.map(({ kind, name }) => Canonical.postgresExpression(kind, quoted(name))).join(", ")
  await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
  await client.query(`DECLARE rows NO SCROLL CURSOR FOR SELECT ${columns} FROM ${sqlName(pair)}`)
  for (;;) {
    const { rows } = await client.query<Array<string | null>>({ text: "FETCH 2000 FROM rows", rowMode: "array" })
    if (rows.length === 0) break
    for (const row of rows) visit(row)
  }
  await client.query("COMMIT")
}

const mostExamples = 10

/** Counts of one table, gathered pass by pass. */
interface Tally {
  rows: number
  missing: number
  extra: number
  different: number
  readonly examples: Array<Example>
}

const named = (shape: Shape, key: string): string =>
  shape.key.length > 0 ? key : `row ${createHash("sha256").update(key).digest("hex").slice(0, 16)}`

const record = (
  tally: Tally,
  shape: Shape,
  kind: Example["kind"],
  key: string,
  columns: ReadonlyArray<string>
): void => {
  tally[kind]++
  if (tally.examples.length < mostExamples) tally.examples.push({ kind, key: named(shape, key), columns })
}

const differingColumns = (shape: Shape, ours: string, theirs: ReadonlyArray<string | null>): ReadonlyArray<string> => {
  const before: unknown = JSON.parse(ours)
  return Array.isArray(before)
    ? shape.columns.filter((_column, index) => before[index] !== (theirs[index] ?? null)).map(({ name }) => name)
    : []
}

/** Rows of one partition by key, for a table that has one: each key holds the row's other values until the copy is seen. */
const keyed = (shape: Shape, tally: Tally) => {
  const waiting = new Map<string, string>()
  return {
    source: (key: string, values: ReadonlyArray<string | null>): void => {
      waiting.set(key, JSON.stringify(values))
    },
    target: (key: string, values: ReadonlyArray<string | null>): void => {
      const ours = waiting.get(key)
      if (ours === undefined) return record(tally, shape, "extra", key, [])
      waiting.delete(key)
      if (ours !== JSON.stringify(values)) record(tally, shape, "different", key, differingColumns(shape, ours, values))
    },
    finish: (): void => {
      for (const key of waiting.keys()) record(tally, shape, "missing", key, [])
    }
  }
}

/** How many more times each row occurs at the source than at the copy. */
const multiset = (shape: Shape, tally: Tally) => {
  const surplus = new Map<string, number>()
  const add = (key: string, count: number): void => {
    const next = (surplus.get(key) ?? 0) + count
    if (next === 0) surplus.delete(key)
    else surplus.set(key, next)
  }
  return {
    source: (key: string): void => add(key, 1),
    target: (key: string): void => add(key, -1),
    finish: (): void => {
      for (const [key, count] of surplus) {
        const kind = count > 0 ? "missing" : "extra"
        for (let i = 0; i < Math.abs(count); i++) record(tally, shape, kind, key, [])
      }
    }
  }
}

const compareTable = (
  client: Client,
  options: Options,
  pair: Pair
): Effect.Effect<TableComparison, RowComparisonError | SnowflakeSessionError> =>
  Effect.gen(function*() {
    const table = `${pair.source.schema}.${pair.source.name}`
    const failure = (cause: unknown) =>
      new RowComparisonError({ message: `${table} can't be read for the comparison`, cause })
    const shape = yield* Effect.tryPromise({ try: () => shapeOf(client, pair), catch: failure })
    const passes = Math.max(1, Math.ceil(shape.estimate / (options.rowsPerPass ?? 200_000)))
    const tally: Tally = { rows: 0, missing: 0, extra: 0, different: 0, examples: [] }
    const columnName = options.columnName ?? warehouseName
    const selected = shape.columns.map(({ kind, name }) =>
      Canonical.warehouseExpression(kind, quoted(columnName(name)))
    )
    const target = [pair.target.database, pair.target.schema, pair.target.name].map(quoted).join(".")
    for (let pass = 0; pass < passes; pass++) {
      const rows = shape.key.length > 0 ? keyed(shape, tally) : multiset(shape, tally)
      const mine = (key: string): boolean => passes === 1 || crc32(key) % passes === pass
      yield* Effect.tryPromise({
        try: () =>
          visitPostgres(client, pair, shape, (row) => {
            const { key, values } = canonicalRow(shape, row, Canonical.fromPostgres)
            if (!mine(key)) return
            tally.rows++
            rows.source(key, values)
          }),
        catch: failure
      })
      yield* options.snowflake.forEach(`SELECT ${selected.join(", ")} FROM ${target}`, (row) => {
        const { key, values } = canonicalRow(shape, row, Canonical.fromWarehouse)
        if (mine(key)) rows.target(key, values)
      })
      rows.finish()
    }
    return { table, ...tally }
  })

/** Compares the tables one after the other. Nothing may be written on either side meanwhile. */
export const compare = (
  options: Options
): Effect.Effect<ReadonlyArray<TableComparison>, RowComparisonError | SnowflakeSessionError> =>
  Effect.scoped(
    Effect.flatMap(
      connect(options.postgres),
      (client) => Effect.forEach(options.tables, (pair) => compareTable(client, options, pair))
    )
  )

/** Whether both sides are the same. */
export const isSame = (comparison: TableComparison): boolean =>
  comparison.missing === 0 && comparison.extra === 0 && comparison.different === 0
