/**
 * Values of every type arrive as they are, by the copy and by the stream.
 *
 * Each column is a type with its hardest values; a value that the default mapping refuses is not among them. Half of the rows is there before the
 * copy, the same values again come as inserts, and as updates of a row that held something else.
 */
import { assert, describe, it } from "@effect/vitest"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as Landscape from "./Landscape.ts"

/** Types and their values as SQL. */
const types: Readonly<Record<string, ReadonlyArray<string>>> = {
  "boolean": ["true", "false"],
  "smallint": ["-32768", "32767", "0"],
  "integer": ["-2147483648", "2147483647"],
  "bigint": ["-9223372036854775808", "9223372036854775807", "9007199254740993"],
  "real": ["'NaN'", "'Infinity'", "'-Infinity'", "3.4028235e38", "1e-45", "0.1", "16777217"],
  "double precision": [
    "'NaN'",
    "'Infinity'",
    "'-Infinity'",
    "1.7976931348623157e308",
    "5e-324",
    "0.1",
    "123456789.123456789"
  ],
  "numeric": [
    "'NaN'",
    "'Infinity'",
    "'-Infinity'",
    "0",
    "0.00",
    "-1e-50",
    "12345678901234567890123456789012345678901234567890.5"
  ],
  "numeric(38,0)": ["99999999999999999999999999999999999999", "-99999999999999999999999999999999999999", "0"],
  "numeric(38,37)": ["9.9999999999999999999999999999999999999", "-0.0000000000000000000000000000000000001"],
  "numeric(12,2)": ["-0.01", "9999999999.99", "5"],
  "numeric(50,10)": ["1234567890123456789012345678901234567890.0123456789", "'NaN'"],
  // Scales below zero came with PostgreSQL 15.
  ...(EmbeddedPostgres.version >= 15 ? { "numeric(5,-2)": ["1234567", "-100"] } : {}),
  "text": [
    "''",
    "' '",
    "E'tab\\tnewline\\nquote\"back\\\\slash'",
    "'NULL'",
    "'ä€😀\u2028\ufeff'",
    "E'\\u0001\\u001f\\u007f'",
    "repeat('long ', 5000)"
  ],
  "varchar(10)": ["'ünïcödé!!!'", "''"],
  "char(5)": ["'ab'", "''", "'abcde'"],
  "name": ["'a name'"],
  "\"char\"": ["'x'"],
  "bytea": ["'\\x'", "'\\x00ff7f80'", "decode(repeat('00ff', 3000), 'hex')"],
  "uuid": ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
  "date": ["'0001-01-01'", "'9999-12-31'", "'1970-01-01'", "'1969-12-31'", "'2024-02-29'", "'1582-10-10'"],
  "time": ["'00:00:00'", "'23:59:59.999999'", "'12:34:56.000001'"],
  "timetz": ["'24:00:00-15:59'", "'12:00:00.5+05:30'"],
  "timestamp": [
    "'0001-01-01 00:00:00'",
    "'9999-12-31 23:59:59.999999'",
    "'1969-12-31 23:59:59.999999'",
    "'2024-03-31 02:30:00'"
  ],
  "timestamptz": [
    "'0001-01-02 00:00:00+00'",
    "'9999-12-31 23:59:59.999999+00'",
    "'1969-12-31 23:59:59.999999+00'",
    "'2024-07-01 00:00:00.1+02'"
  ],
  "interval": ["'0'", "'-1 year 2 mons -3 days 04:05:06.789'", "'178000000 years'"],
  "json": [
    "'null'",
    "'{\"a\": [1, 2.50, 1e3, -0, \"x\\u00e9\"], \"b\": {}}'",
    "'\"text\"'",
    "'123456789012345678901234567890'",
    "' [ ] '"
  ],
  "jsonb": ["'null'", "'{\"b\": 1, \"a\": [null, true, 0.1]}'", "'\"\"'", "'[]'", "'12345678901234567890.123456789'"],
  "mood": ["'calm'", "'very wild, \"indeed\"'"],
  "positive": ["1", "99.5"],
  "short_list": ["'{1,2}'"],
  // Not a box, whose arrays alone are separated by semicolons.
  "boxed[]": ["'{calm,NULL}'"],
  "box[]": ["'{(1,1),(0,0);(2,2),(0,0)}'"],
  "int2vector": ["'1 -2'"],
  "citext": ["'Ünïcode'"],
  "hstore": ["'\"a b\"=>\"1\", c=>NULL'"],
  "ltree": ["'Top.Science'"],
  "integer[]": ["'{}'", "'{1,NULL,-2147483648}'", "'{{1,2},{3,4}}'", "'[0:1]={7,8}'"],
  "bigint[]": ["'{9223372036854775807,-9223372036854775808}'"],
  "text[]": ["'{}'", "ARRAY['a,b', '\"q\"', 'NULL', NULL, '', '{x}', E'back\\\\slash', E'new\\nline']"],
  "boolean[]": ["'{t,f,NULL}'"],
  "double precision[]": ["'{0.1,NaN,Infinity,-Infinity,NULL}'"],
  "numeric[]": ["'{1.10,NaN,123456789012345678901234567890.5}'"],
  "timestamptz[]": ["ARRAY['2024-01-01 00:00:00+00'::timestamptz, NULL]"],
  "jsonb[]": ["ARRAY['{\"a\": \"b,c\"}'::jsonb, 'null']"],
  "bytea[]": ["ARRAY['\\x00ff'::bytea]"],
  "pair": ["ROW(1, 'a,b')::pair", "ROW(NULL, NULL)::pair"],
  "int4range": ["'[1,5)'", "'empty'", "'(,)'"],
  "tstzmultirange": ["'{[2024-01-01 00:00:00+00,2024-01-02 00:00:00+00)}'"],
  "inet": ["'10.0.0.1'", "'::1/64'", "'192.168.0.0/24'"],
  "cidr": ["'10.0.0.0/8'"],
  "macaddr": ["'08:00:2b:01:02:03'"],
  "point": ["'(1.5,-2)'"],
  "polygon": ["'((0,0),(1,1),(1,0))'"],
  "bit(4)": ["B'1010'"],
  "varbit": ["B''", "B'101'"],
  "tsvector": ["'a:1 b:2'::tsvector"],
  "xml": ["'<a b=\"c\">d</a>'"],
  "money": ["'-12.34'"],
  "oid": ["4294967295"],
  "pg_lsn": ["'16/B374D848'"],
  "jsonpath": ["'$.a[*]'"]
}

const columns = Object.keys(types).map((type, index) => ({ name: `c${index}`, type, values: types[type] ?? [] }))
const longest = Math.max(...columns.map(({ values }) => values.length))

const list = columns.map(({ name }) => name).join(", ")

/** The n-th value of every column; NULL where a column has fewer, and everywhere in the row after the last. */
const row = (n: number): string => columns.map(({ type, values }) => `(${values[n] ?? "NULL"})::${type}`).join(", ")

const insertAll = (table: string, firstId: number): string =>
  Array.from(
    { length: longest + 1 },
    (_unused, n) => `INSERT INTO ${table} (id, ${list}) VALUES (${firstId + n}, ${row(n)});`
  ).join("\n")

describe("values", () => {
  it.live(
    "of every type arrive as they are, by copy, insert, update and with the whole old row",
    () =>
      Effect.gen(function*() {
        const landscape = yield* Landscape.make()
        const { postgres } = landscape
        yield* postgres.query(`
        CREATE TYPE mood AS ENUM ('calm', 'very wild, "indeed"');
        CREATE TYPE boxed AS ENUM ('calm');
        CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree;
        CREATE DOMAIN positive AS numeric(10, 2) CHECK (VALUE > 0);
        CREATE DOMAIN short_list AS int[] CHECK (array_length(VALUE, 1) < 5);
        CREATE TYPE pair AS (a int, b text);
        CREATE TABLE keyed (id int PRIMARY KEY, ${columns.map(({ name, type }) => `${name} ${type}`).join(", ")});
        CREATE TABLE keyless (LIKE keyed);
        ALTER TABLE keyless REPLICA IDENTITY FULL;`)
        yield* postgres.query(insertAll("keyed", 100))
        yield* postgres.query(insertAll("keyless", 100))

        const runner = yield* landscape.run(landscape.write(landscape.configuration()))
        const mirror = yield* landscape.mirror
        const check = Effect.gen(function*() {
          yield* Landscape.caughtUp(landscape, mirror, ["keyed", "keyless"]).pipe(
            Effect.raceFirst(Effect.flatMap(runner.ended(Infinity), () => Effect.die(new Error(runner.output()))))
          )
          yield* Landscape.assertSame(landscape, mirror, ["keyed", "keyless"])
        })
        yield* check

        yield* postgres.query(insertAll("keyed", 200))
        yield* postgres.query(insertAll("keyless", 200))
        yield* check

        // Each row takes the values of the one before it.
        const assignments = columns.map(({ name }) => `${name} = n.${name}`).join(", ")
        for (const table of ["keyed", "keyless"]) {
          yield* postgres.query(`UPDATE ${table} t SET ${assignments} FROM ${table} n WHERE n.id = t.id - 1`)
        }
        yield* check

        yield* postgres.query("DELETE FROM keyed WHERE id % 2 = 0; DELETE FROM keyless WHERE id % 2 = 0")
        yield* check

        // The judge is judged: what is changed behind the mirror's back is seen, in every column.
        const target = `${mirror.database}.${Landscape.schema}.KEYED`
        yield* mirror.session.query(
          `UPDATE ${target} SET ${columns.map(({ name }) => `${name} = NULL`).join(", ")} WHERE ID = 101`
        )
        yield* mirror.session.query(`DELETE FROM ${target} WHERE ID = 103`)
        yield* mirror.session.query(`INSERT INTO ${target} (ID) VALUES (1)`)
        const [found] = yield* Landscape.compare(landscape, mirror, ["keyed"])
        assert.sameDeepMembers([...found?.examples ?? []], [
          { kind: "different", key: "[\"101\"]", columns: columns.map(({ name }) => name) },
          { kind: "missing", key: "[\"103\"]", columns: [] },
          { kind: "extra", key: "[\"1\"]", columns: [] }
        ])
      }),
    150_000
  )
})
