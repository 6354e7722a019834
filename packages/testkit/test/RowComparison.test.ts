import { assert, describe, it } from "@effect/vitest"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as RowComparison from "@etl-stream/testkit/RowComparison"
import type { Row, SnowflakeSession } from "@etl-stream/testkit/SnowflakeSession"
import * as Effect from "effect/Effect"

/** A warehouse that answers every statement with these rows. */
const holding = (rows: ReadonlyArray<Row>): SnowflakeSession => ({
  query: () => Effect.succeed(rows),
  forEach: (_sql, visit) => Effect.sync(() => rows.forEach((row) => visit(row)))
})

const pair = (name: string): RowComparison.Pair => ({
  source: { schema: "public", name },
  target: { database: "RAW", schema: "SHOP", name: name.toUpperCase() }
})

const compareOne = (postgres: string, table: string, rows: ReadonlyArray<Row>, rowsPerPass = 1000) =>
  Effect.map(
    RowComparison.compare({ postgres, snowflake: holding(rows), tables: [pair(table)], rowsPerPass }),
    ([comparison]) => {
      if (comparison === undefined) throw new Error("no comparison")
      return comparison
    }
  )

describe("RowComparison", () => {
  it.live("finds the same values in the formats of both sides", () =>
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      yield* server.query(`
        CREATE TYPE mood AS ENUM ('calm', 'wild');
        CREATE DOMAIN cents AS numeric(10, 2);
        CREATE TABLE t (id bigint PRIMARY KEY, b bool, n numeric(12, 4), c cents, f4 real, f8 float8, x bytea, d date, tm time,
          ts timestamp, tz timestamptz, j jsonb, ints int[], words text[], bools bool[], reals float8[], m mood, v interval, nothing text);
        INSERT INTO t VALUES (9007199254740993, true, -0.5, 12.3, 0.1, 'NaN', '\\x00ff', '2024-02-29', '12:34:56.5',
          '1969-12-31 23:59:59.999999', '2024-01-01 00:30:00+01', '{"b": 1.10, "a": [null, 12345678901234567890]}',
          '{1,NULL,-3}', '{"a,b","NULL",NULL,"\\"q\\""}', '{t,f}', '{1.5,Infinity}', 'wild', '1 day 02:00:00', NULL)`)
      const copy: Row = [
        "9007199254740993",
        "true",
        "-0.5000",
        "12.30",
        "0.10000000149011612",
        "NaN",
        "00FF",
        "2024-02-29",
        "12:34:56.500000",
        "1969-12-31 23:59:59.999999",
        "2023-12-31 23:30:00.000000",
        "{\"a\":[null,12345678901234567890],\"b\":1.1}",
        "[1,null,-3]",
        "[\"a,b\",\"NULL\",null,\"\\\"q\\\"\"]",
        "[true,false]",
        "[1.5,\"Infinity\"]",
        "wild",
        "1 day 02:00:00",
        null
      ]
      const same = yield* compareOne(server.url, "t", [copy])
      assert.deepStrictEqual(same, { table: "public.t", rows: 1, missing: 0, extra: 0, different: 0, examples: [] })
      for (let column = 1; column < copy.length; column++) {
        const other = copy.map((value, index) => index === column ? value === null ? "x" : null : value)
        assert.strictEqual((yield* compareOne(server.url, "t", [other])).different, 1, `column ${column}`)
      }
    }))

  it.live("tells missing, extra and different rows apart and names them by key, in one pass or in many", () =>
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      yield* server.query("CREATE TABLE t (a int, b text, v text, PRIMARY KEY (b, a))")
      yield* server.query("INSERT INTO t SELECT i, 'k', 'v' || i FROM generate_series(1, 100) i")
      const rows = Array.from({ length: 100 }, (_unused, index): Row => [String(index + 1), "k", `v${index + 1}`])
        .filter(([a]) => a !== "7")
        .map((row): Row => row[0] === "9" ? ["9", "k", "w"] : row)
        .concat([["1", "k", "v1"], ["101", "k", "v101"]])
      for (const rowsPerPass of [1000, 30]) {
        const found = yield* compareOne(server.url, "t", rows, rowsPerPass)
        assert.deepStrictEqual([found.rows, found.missing, found.extra, found.different], [100, 1, 2, 1])
        assert.sameDeepMembers([...found.examples], [
          { kind: "missing", key: "[\"7\",\"k\"]", columns: [] },
          { kind: "extra", key: "[\"1\",\"k\"]", columns: [] },
          { kind: "extra", key: "[\"101\",\"k\"]", columns: [] },
          { kind: "different", key: "[\"9\",\"k\"]", columns: ["v"] }
        ])
      }
    }))

  it.live("counts equal rows of a table without a key", () =>
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      yield* server.query("CREATE TABLE log (line text); INSERT INTO log VALUES ('a'), ('a'), ('a'), ('b'), (NULL)")
      const same = yield* compareOne(server.url, "log", [["b"], ["a"], [null], ["a"], ["a"]])
      assert.isTrue(RowComparison.isSame(same))
      const found = yield* compareOne(server.url, "log", [["a"], ["b"], ["b"], [null]])
      assert.deepStrictEqual([found.rows, found.missing, found.extra, found.different], [5, 2, 1, 0])
      assert.isFalse(JSON.stringify(found.examples).includes("\"a\""))
    }))

  it.live("sees a difference deep inside a long value", () =>
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      yield* server.query(
        "CREATE TABLE wide (id int PRIMARY KEY, v text); INSERT INTO wide VALUES (1, repeat('x', 100000))"
      )
      assert.isTrue(RowComparison.isSame(yield* compareOne(server.url, "wide", [["1", "x".repeat(100_000)]])))
      const found = yield* compareOne(server.url, "wide", [["1", `${"x".repeat(50_000)}y${"x".repeat(49_999)}`]])
      assert.strictEqual(found.different, 1)
    }))
})
