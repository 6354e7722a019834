/**
 * Random values of every type, through the replication stream (text and binary) and the copy, against the server's own text.
 *
 * Each type has a table with the type itself, a domain over it, its array, a domain over the array and an array of the domain.
 * What arrives is compared with what a session with the source's settings gets from the type's output function.
 * `TYPE_CASES` sets the number of cases per type, `TYPE_SEED` the seed, which a failure names.
 */
import { assert, layer } from "@effect/vitest"
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type { Element } from "@etl-stream/core/Element"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import { randomInt } from "node:crypto"
import { Client } from "pg"
import * as BinaryValues from "../src/BinaryValues.ts"
import * as Lsn from "../src/Lsn.ts"
import * as PgOutputDecoder from "../src/PgOutputDecoder.ts"
import * as PostgresType from "../src/PostgresType.ts"
import * as ReplicationConnection from "../src/ReplicationConnection.ts"
import { valueAt } from "./columnValues.ts"
import { expectedValue } from "./expectedValue.ts"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"
import * as TypeValues from "./typeValues.ts"

const { Server } = SourceRun

const cases = Number(process.env["TYPE_CASES"] ?? 2)
const seed = Number(process.env["TYPE_SEED"] ?? randomInt(1_000_000))

const schema = "round_trip"

/** A column of a table under test: its type as SQL, and its values as literals or, for `expression`, as SQL. */
interface Column {
  readonly name: string
  readonly type: string
  /** Values that are always tried. */
  readonly edges: ReadonlyArray<string>
  readonly values: fc.Arbitrary<string>
  readonly expression?: true
  readonly carrier: LogicalType["_tag"]
}

interface Table {
  readonly name: string
  readonly columns: ReadonlyArray<Column>
}

type Cells = ReadonlyArray<string | null>

const quote = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** What the source emitted, by table and row. */
class Seen {
  readonly tables = new Map<string, { readonly types: ReadonlyArray<LogicalType>; readonly rows: Map<number, Cells> }>()

  readonly take = (element: Element): Effect.Effect<void> =>
    Effect.sync(() => {
      if (element._tag !== "Rows" && element._tag !== "SnapshotRows") return
      const { records, rows, table } = element.batch
      const types = table.columns.map(({ type }) => type)
      const held = this.tables.get(table.table.name) ?? { types, rows: new Map<number, Cells>() }
      this.tables.set(table.table.name, held)
      for (let row = 0; row < rows; row++) {
        const cells = types.map((type, index) =>
          valueAt(ChangeBatch.child(records, ChangeBatch.metadataColumns + index), type, row)
        )
        held.rows.set(Number(cells[0]), cells)
      }
    })

  readonly has = (table: string, ids: ReadonlyArray<number>): boolean => {
    const rows = this.tables.get(table)?.rows
    return ids.every((id) => rows?.has(id) === true)
  }
}

const TypeRow = Schema.Struct({
  oid: Schema.NumberFromString,
  name: Schema.String,
  schema: Schema.String,
  kind: Schema.String,
  baseType: Schema.NumberFromString,
  baseTypmod: Schema.Number,
  element: Schema.NumberFromString
})

/** The tables of one kind of type, and of what can be made of it. */
const tableOf = (
  name: string,
  type: string,
  { carrier, edges, values }: TypeValues.TypeValues,
  index: number
): Table => {
  const delimiter = name === "box" ? ";" : ","
  const array = TypeValues.arrayOf(values, delimiter)
  const arrayEdges = [TypeValues.arrayLiteral(edges, delimiter)]
  // Of all types, box has a delimiter of its own, which a JSON array could not keep apart.
  const arrayCarrier = name === "box" ? "Other" : "Array"
  return {
    name: `t${index}`,
    columns: [
      { name: "v", type, edges, values, carrier },
      { name: "d", type: `d${index}`, edges, values, carrier },
      { name: "a", type: `${type}[]`, edges: arrayEdges, values: array, carrier: arrayCarrier },
      { name: "da", type: `da${index}`, edges: arrayEdges, values: array, carrier: arrayCarrier },
      { name: "ad", type: `d${index}[]`, edges: arrayEdges, values: array, carrier: arrayCarrier }
    ]
  }
}

const moods = ["calm", "very, \"wild\"", "ü'\\", " "]

const entries = [
  ...Object.entries(TypeValues.builtIn).map(([name, of]) => [name, `pg_catalog."${name}"`, of] as const),
  ...Object.entries(TypeValues.modified).map(([name, of]) => [name, name, of] as const),
  ...Object.entries(TypeValues.fromExtensions).map(([name, of]) => [name, `public.${name}`, of] as const),
  // Like PostGIS's: base types that only their extension's functions understand, one without a binary form.
  ["shape", `${schema}.shape`, { carrier: "Other", edges: [], values: TypeValues.texts }] as const,
  ["blob", `${schema}.blob`, { carrier: "Other", edges: [], values: TypeValues.texts }] as const,
  ["mood", `${schema}."Odd, mood"`, {
    carrier: "Text",
    edges: moods,
    values: fc.constantFrom(...moods)
  }] as const
]

const perType = entries.map(([name, type, of], index) => tableOf(name, type, of, index))
const labels = new Map(perType.map((table, index) => [table.name, entries[index]?.[0] ?? table.name]))

/** A field of every type; twice nested, in arrays and in domains. */
const pair = TypeValues.compositeOf(entries.map(([, , { values }]) => values))
const nested = TypeValues.compositeOf([pair, TypeValues.arrayOf(pair), TypeValues.texts])
const composites: Table = {
  name: "composites",
  columns: [
    { name: "v", type: "everything", edges: [], values: pair, carrier: "Other" },
    { name: "n", type: "nested", edges: [], values: nested, carrier: "Other" },
    { name: "a", type: "everything[]", edges: [], values: TypeValues.arrayOf(pair), carrier: "Array" },
    { name: "d", type: "everything_d", edges: [], values: pair, carrier: "Other" },
    { name: "ad", type: "everything_d[]", edges: [], values: TypeValues.arrayOf(pair), carrier: "Array" },
    {
      name: "r",
      type: "floatrange",
      edges: [],
      values: fc.constantFrom("[1.5,2)", "empty", "(,NaN]"),
      carrier: "Other"
    },
    {
      name: "m",
      type: "floatmultirange",
      edges: [],
      values: fc.constantFrom("{}", "{[1,2),[3,Infinity)}"),
      carrier: "Other"
    },
    { name: "rr", type: "floatrange[]", edges: [], values: TypeValues.arrayOf(fc.constant("[1,2)")), carrier: "Array" }
  ]
}
const made: Table = {
  name: "made",
  columns: Object.entries(TypeValues.madeByServer).map(([type, expression], index) => ({
    name: `m${index}`,
    type: `pg_catalog.${type}`,
    edges: [expression],
    values: fc.constant(expression),
    expression: true,
    carrier: "Other"
  }))
}
const tables = [...perType, composites, made]

const definitions = [
  "CREATE TYPE \"Odd, mood\" AS ENUM ('calm', 'very, \"wild\"', 'ü''\\', ' ')",
  "CREATE TABLE \"Odd, table\" (id int PRIMARY KEY, a int DEFAULT 1 + 1, b int)",
  "CREATE FUNCTION \"Odd, fn\"(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
  ...["shape", "blob"].flatMap((name) => [
    `CREATE TYPE ${name}`,
    `CREATE FUNCTION ${name}_in(cstring) RETURNS ${name} LANGUAGE internal IMMUTABLE STRICT AS 'textin'`,
    `CREATE FUNCTION ${name}_out(${name}) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout'`
  ]),
  "CREATE TYPE shape (INPUT = shape_in, OUTPUT = shape_out, LIKE = pg_catalog.text)",
  "CREATE FUNCTION blob_send(blob) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT AS 'textsend'",
  "CREATE TYPE blob (INPUT = blob_in, OUTPUT = blob_out, SEND = blob_send, LIKE = pg_catalog.text)",
  "CREATE TYPE floatrange AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi, MULTIRANGE_TYPE_NAME = floatmultirange)",
  // Statistics, so that there are values of the types that hold them.
  "INSERT INTO \"Odd, table\" SELECT i, i / 2, i / 2 FROM generate_series(1, 100) i",
  "CREATE STATISTICS odd (ndistinct, dependencies, mcv) ON a, b FROM \"Odd, table\"",
  "ANALYZE \"Odd, table\"",
  ...entries.flatMap(([, type], index) => [
    `CREATE DOMAIN d${index} AS ${type}`,
    `CREATE DOMAIN da${index} AS ${type}[]`
  ]),
  `CREATE TYPE everything AS (${entries.map(([, type], index) => `f${index} ${type}`).join(", ")})`,
  "CREATE DOMAIN everything_d AS everything",
  "CREATE TYPE nested AS (one everything, \"Many, of them\" everything[], note text)",
  ...tables.map(({ columns, name }) =>
    `CREATE TABLE ${name} (id int PRIMARY KEY, ${columns.map((column) => `${column.name} ${column.type}`).join(", ")})`
  )
].join("; ")

/** A session that gets values as their output functions write them, with the settings of the source's sessions. */
const plainSession = (url: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Client({
        ...SourceRun.clientConfig(url, "query"),
        types: { getTypeParser: () => (text: string) => text }
      })
      await client.connect()
      return client
    }),
    (client) => Effect.promise(() => client.end())
  )

interface Streaming {
  readonly client: Client
  readonly run: SourceRun.Run
  readonly seen: Seen
  readonly catalog: PostgresType.TypeCatalog
  /** Tables with the columns that binary format can be used for, by the table whose values they get. */
  readonly binary: ReadonlyMap<string, ReadonlyArray<string>>
}

class RoundTrip extends Context.Service<RoundTrip, Streaming>()("source-postgres/test/RoundTrip") {
  static readonly layer = Layer.effect(
    RoundTrip,
    Effect.gen(function*() {
      const pg = yield* Server
      for (const name of ["citext", "hstore", "ltree", "cube", "seg", "isn"]) {
        yield* Effect.orDie(pg.query(`CREATE EXTENSION ${name} SCHEMA public`))
      }
      yield* SourceRun.schema(schema, definitions)
      const client = yield* plainSession(pg.url)
      const types = yield* Schema.decodeUnknownEffect(Schema.Array(TypeRow))(
        yield* pg.query(PostgresType.typeQuery)
      ).pipe(Effect.orDie)
      const catalog = new Map(types.map((info) => [info.oid, info]))
      const columns = yield* Effect.orDie(
        pg.query(
          "SELECT c.relname AS table, a.attname AS column, a.atttypid::int AS oid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid " +
            `WHERE c.relnamespace = '${schema}'::regnamespace AND c.relname ~ '^t\\d+$' AND a.attnum > 1 ORDER BY 1, a.attnum`
        )
      )
      const binary = new Map<string, Array<string>>()
      for (const row of columns) {
        const type = PostgresType.resolve(catalog, Number(row["oid"]), -1)
        if (BinaryValues.decoder(type) === undefined) continue
        const list = binary.get(String(row["table"])) ?? []
        list.push(String(row["column"]))
        binary.set(String(row["table"]), list)
      }
      yield* SourceRun.schema(
        "as_binary",
        [...binary].map(([table, names]) =>
          `CREATE TABLE b_${table} AS SELECT id, ${
            names.join(", ")
          } FROM ${schema}.${table}; ALTER TABLE b_${table} ADD PRIMARY KEY (id)`
        ).join("; ")
      )
      yield* Effect.orDie(
        pg.query(
          `CREATE PUBLICATION as_binary FOR TABLE ${
            [...binary.keys()].map((table) => `as_binary.b_${table}`).join(", ")
          }`
        )
      )
      yield* Effect.orDie(pg.query("SELECT pg_create_logical_replication_slot('as_binary', 'pgoutput')"))
      const seen = new Seen()
      const run = yield* Effect.orDie(SourceRun.start(schema, new Mirror(), { each: seen.take }))
      return { client, run, seen, catalog, binary }
    })
  )
}

/** Compares rows with the server's; `columns` are the names after `id`. */
const compare = Effect.fnUntraced(function*(
  client: Client,
  way: string,
  seen: Seen,
  stored: string,
  table: string,
  columns: ReadonlyArray<string>,
  condition: string
) {
  const { rows } = yield* Effect.promise(() =>
    client.query<Record<string, string | null>>(
      `SELECT id, ${columns.join(", ")} FROM ${stored} WHERE ${condition} ORDER BY id`
    )
  )
  const held = seen.tables.get(table)
  for (const row of rows) {
    const cells = held?.rows.get(Number(row["id"]))
    columns.forEach((column, index) => {
      const text = row[column] ?? null
      const type = held?.types[index + 1]
      const expected = text === null || type === undefined ? text : expectedValue(type, text)
      assert.strictEqual(cells?.[index + 1], expected, `${way}: ${labels.get(table) ?? table}, column ${column}`)
    })
  }
  return rows.length
})

let lastId = 0

/** One case: rows of one table, inserted in one transaction, as the stream brings them. */
const insertAndCompare = Effect.fnUntraced(function*(table: Table, rows: ReadonlyArray<Cells>) {
  const pg = yield* Server
  const { binary, client, run, seen } = yield* RoundTrip
  const ids = rows.map(() => ++lastId)
  const values = rows.map((row, index) =>
    `(${ids[index]}, ${
      row.map((value, at) => {
        const column = table.columns[at]
        if (value === null || column === undefined) return "NULL"
        return column.expression === true ? value : `${quote(value)}::${column.type}`
      }).join(", ")
    })`
  )
  const names = binary.get(table.name)
  const copy = names === undefined
    ? ""
    : `; INSERT INTO as_binary.b_${table.name} SELECT id, ${names.join(", ")} FROM ${table.name} WHERE id >= ${ids[0]}`
  yield* Effect.orDie(
    pg.query(`SET search_path = ${schema}, public; INSERT INTO ${table.name} VALUES ${values.join(", ")}${copy}`)
  )
  yield* Effect.orDie(run.until(() => seen.has(table.name, ids)))
  const columns = table.columns.map(({ name }) => name)
  yield* compare(client, "stream", seen, `${schema}.${table.name}`, table.name, columns, `id >= ${ids[0]}`)
})

/** Reads what the slot `as_binary` holds up to now, in binary format. */
const readBinary = Effect.fnUntraced(function*(catalog: PostgresType.TypeCatalog) {
  const pg = yield* Server
  const seen = new Seen()
  const [row] = yield* Effect.orDie(pg.query("SELECT pg_current_wal_insert_lsn()::text AS lsn"))
  const target = Lsn.parse(String(row?.["lsn"])) ?? 0n
  const connection = yield* ReplicationConnection.connect(
    SourceRun.clientConfig(pg.url, "replication")
  )
  const stream = yield* connection.start({
    slot: "as_binary",
    publications: ["as_binary"],
    binary: true,
    acknowledged: () => 0n
  })
  const decoder = PgOutputDecoder.make({
    tables: [],
    copied: new Map(),
    types: catalog,
    resolveRelation: (relation) => ({
      table: { schema: relation.schema, name: relation.name },
      version: 1,
      columns: relation.columns.map((column) => ({
        name: column.name,
        ...PostgresType.resolve(catalog, column.typeOid, column.typmod),
        nullable: true
      })),
      identity: { _tag: "Key", columns: [0] }
    })
  })
  for (;;) {
    const elements = yield* decoder.decode(yield* stream.pull)
    for (const element of elements) yield* seen.take(element)
    if (elements.some((element) => element._tag === "Watermark" && element.position >= target)) return seen
  }
}, Effect.scoped)

layer(Layer.provideMerge(RoundTrip.layer, Server.layer), { excludeTestServices: true, timeout: 60_000 })(
  "values of every type",
  (it) => {
    it.effect("are tried: a type that a column can have is covered, or named with the reason why not", () =>
      Effect.gen(function*() {
        const pg = yield* Server
        const rows = yield* pg.query(
          "SELECT typname AS name FROM pg_type t WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') " +
            "AND typoutput <> 'array_out'::regproc ORDER BY typname"
        )
        const known = [TypeValues.builtIn, TypeValues.madeByServer, TypeValues.withoutValues].flatMap(Object.keys)
        assert.deepStrictEqual(known.toSorted(), rows.map((row) => String(row["name"])).toSorted())
        for (const name of Object.keys(TypeValues.withoutValues)) {
          const refused = yield* Effect.exit(pg.query(`SELECT ''::${name}`))
          assert.strictEqual(refused._tag, "Failure", `${name} takes values: give it some`)
        }
      }))

    it.effect(
      "arrive as the server has them: by the stream in text and in binary, and by the copy",
      () =>
        Effect.gen(function*() {
          const { binary, catalog, client, seen } = yield* RoundTrip
          const run = Effect.runPromiseWith(yield* Effect.context<SourceRun.Server | RoundTrip>())
          for (const table of tables) {
            const most = Math.max(...table.columns.map(({ edges }) => edges.length))
            yield* insertAndCompare(
              table,
              Array.from(
                { length: most + 1 },
                (_unused, index) => table.columns.map(({ edges }) => edges[index] ?? null)
              )
            )
            const row = fc.tuple(...table.columns.map(({ values }) => fc.option(values, { freq: 12 })))
            yield* Effect.promise(() =>
              fc.assert(
                fc.asyncProperty(
                  fc.array(row, { minLength: 1, maxLength: 25, size: "max" }),
                  (rows) => run(insertAndCompare(table, rows))
                ),
                { seed, numRuns: cases }
              )
            )
            const types = seen.tables.get(table.name)?.types.slice(1)
            assert.deepStrictEqual(
              types?.map(({ _tag }) => _tag),
              table.columns.map(({ carrier }) => carrier),
              `what carries ${labels.get(table.name) ?? table.name}`
            )
          }

          const copied = new Seen()
          const copy = yield* SourceRun.start("by_copy", new Mirror(), {
            tables: [`${schema}.*`],
            each: copied.take,
            snapshot: { parallel: 2 }
          })
          yield* copy.caughtUp
          yield* copy.stop
          const inBinary = yield* readBinary(catalog)
          let rows = 0
          for (const { columns, name } of tables) {
            const all = columns.map((column) => column.name)
            rows += yield* compare(client, `copy, TYPE_SEED=${seed}`, copied, `${schema}.${name}`, name, all, "true")
            const plain = binary.get(name)
            if (plain === undefined) continue
            const other = `b_${name}`
            yield* compare(client, `binary, TYPE_SEED=${seed}`, inBinary, `as_binary.${other}`, other, plain, "true")
          }
          assert.isAbove(rows, tables.length)
        }),
      300_000
    )
  }
)
