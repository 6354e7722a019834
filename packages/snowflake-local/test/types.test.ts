/**
 * Every type of column, from SQL and from bind variables, to what the driver hands out; and what may not be stored.
 */
import { assert, layer, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Driver from "./driver/Driver.ts"

const { Local } = Driver

// The longest values take 20 seconds of a processor that nothing else uses.
vi.setConfig({ testTimeout: 240_000 })

layer(Local.layer(), { timeout: "60 seconds", excludeTestServices: true })("types", (it) => {
  it.effect("come back as they were stored", () =>
    Effect.gen(function*() {
      const { rows, script } = yield* Local
      yield* script(
        "alter session set timezone = 'UTC'",
        `create table kinds (n number(38,0), m number(38,10), f float, s varchar, b boolean, x binary, d date, t time(6),
           ntz timestamp_ntz(6), ltz timestamp_ltz(6), tz timestamp_tz(6), v variant, a array, o object)`,
        `insert into kinds select 99999999999999999999999999999999999999, -1234567890123456789012345678.0123456789, 1.5e300, 'it''s "é" \\\\ \\n end', true,
           to_binary('00FF10', 'HEX'), '0001-01-01', '23:59:59.999999', '9999-12-31 23:59:59.999999', '2024-02-29 12:00:00.000001 +00:00',
           '1969-12-31 23:59:59.5 -05:00', parse_json('{"big": 12345678901234567890123456789012345678, "null": null}'),
           parse_json('[1, "two"]'), parse_json('{"k": [true]}')`,
        "insert into kinds (n) values (null)"
      )
      const result = yield* rows(
        `select n, m, f, s, b, x, to_varchar(d) d, to_varchar(t) t, ntz::varchar ntz, to_varchar(ltz) ltz, date_part(epoch_second, tz) tz,
           v::varchar v, v:"null" is null jsonnull, typeof(v:"null") jsonnulltype, a[1]::varchar a, o:k[0]::boolean o from kinds order by n nulls last`
      )
      assert.deepStrictEqual(result[0], {
        N: "99999999999999999999999999999999999999",
        M: "-1234567890123456789012345678.0123456789",
        F: "1.5e+300",
        S: "it's \"é\" \\ \n end",
        B: true,
        X: Buffer.from([0, 255, 16]),
        D: "0001-01-01",
        T: "23:59:59",
        NTZ: "9999-12-31 23:59:59.999",
        LTZ: "2024-02-29 12:00:00.000 +0000",
        TZ: "17999",
        V: "{\"big\": 12345678901234567890123456789012345678, \"null\": null}",
        JSONNULL: false,
        JSONNULLTYPE: "NULL_VALUE",
        A: "two",
        O: true
      })
      // The driver gives NULLs of columns that are fetched as text as the word NULL.
      const { JSONNULL: _, ...nulls } = result[1] ?? {}
      for (const [name, value] of Object.entries(nulls)) assert.include([null, "NULL"], value, name)
    }))

  it.effect("keep instants to the microsecond in the driver's own values", () =>
    Effect.gen(function*() {
      const { run, script } = yield* Local
      yield* script(
        "create or replace table times (ntz timestamp_ntz, ltz timestamp_ltz, tz timestamp_tz, d date, t time)",
        `insert into times select '1900-01-01 00:00:00.000001', '2024-06-01 00:00:00.123456 +02:00', '2024-06-01 00:00:00.5 +00:00', '1969-07-20', '10:11:12.000001'`
      )
      const { rows, statement } = yield* run("select * from times")
      const [row] = rows
      const at = (name: string): number => {
        const value = row?.[name]
        assert.instanceOf(value, Date)
        return value.getTime()
      }
      assert.strictEqual(at("NTZ"), Date.parse("1900-01-01T00:00:00.000Z"))
      assert.strictEqual(at("LTZ"), Date.parse("2024-05-31T22:00:00.123Z"))
      assert.strictEqual(at("TZ"), Date.parse("2024-06-01T00:00:00.500Z"))
      assert.strictEqual(at("D"), Date.parse("1969-07-20T00:00:00Z"))
      assert.deepStrictEqual(
        (statement.getColumns() ?? []).map((column) => column.getType()),
        ["timestamp_ntz", "timestamp_ltz", "timestamp_tz", "date", "time"]
      )
    }))

  it.effect("are told by the driver's metadata and by DESCRIBE", () =>
    Effect.gen(function*() {
      const { rows, run, script } = yield* Local
      yield* script(
        `create or replace table told (a number(10,2) not null, b varchar(7), c variant, d array, e object, f float, "g g" binary(5), h boolean) comment = 'x'`
      )
      const { statement } = yield* run("select * from told")
      assert.deepStrictEqual(
        (statement.getColumns() ?? []).map((column) => `${column.getName()} ${column.getType()}`),
        ["A fixed", "B text", "C variant", "D array", "E object", "F real", "g g binary", "H boolean"]
      )
      const described = yield* rows("describe table told")
      assert.deepStrictEqual(
        described.map((row) => [row["name"], row["type"], row["null?"]]),
        [
          ["A", "NUMBER(10,2)", "N"],
          ["B", "VARCHAR(7)", "Y"],
          ["C", "VARIANT", "Y"],
          ["D", "ARRAY", "Y"],
          ["E", "OBJECT", "Y"],
          ["F", "FLOAT", "Y"],
          ["g g", "BINARY(5)", "Y"],
          ["H", "BOOLEAN", "Y"]
        ]
      )
      const columns = yield* rows(
        `select column_name, data_type, is_nullable, numeric_scale from demo.information_schema.columns where table_name = 'TOLD' and ordinal_position <= 2
         order by ordinal_position`
      )
      assert.deepStrictEqual(columns.map((row) => Object.values(row)), [["A", "NUMBER", "NO", "2"], [
        "B",
        "TEXT",
        "YES",
        "NULL"
      ]])
    }))

  it.effect("take bind variables, single and in arrays", () =>
    Effect.gen(function*() {
      const { rows, run, script } = yield* Local
      yield* script("create or replace table bound (id int, name varchar, ok boolean, amount number(10,2))")
      const { statement } = yield* run("insert into bound values (?, ?, ?, ?), (:1, 'O''Brien', :3, null)", {
        binds: [1, "it's; -- \"x\" \\ ?", true, "12.345"]
      })
      assert.strictEqual(statement.getNumUpdatedRows(), 2)
      yield* run("insert into bound values (?, ?, ?, ?)", { binds: [[2, "two", false, 2], [3, null, null, "3.5"]] })
      assert.deepStrictEqual(
        yield* rows("select * from bound where id = ? or name = :2 order by id, name", {
          binds: [3, "it's; -- \"x\" \\ ?"]
        }),
        [
          { ID: "1", NAME: "it's; -- \"x\" \\ ?", OK: true, AMOUNT: "12.35" },
          { ID: "3", NAME: "NULL", OK: null, AMOUNT: "3.50" }
        ].map((row) => ({ ...row, NAME: row.NAME === "NULL" ? null : row.NAME }))
      )
      const error = yield* Effect.flip(run("select ?"))
      assert.strictEqual(error.code, "002049")
    }))

  it.effect("refuse what Snowflake refuses to store", () =>
    Effect.gen(function*() {
      const { rows, run, script } = yield* Local
      yield* script(
        `create or replace table strict (id number(4,1) not null, s varchar(3), v variant, a array, b binary(2), d date, t time, n timestamp_ntz, f float, q boolean)`
      )
      const refused = (sql: string, code: string, sqlState: string) =>
        Effect.map(Effect.flip(run(sql)), (error) =>
          assert.deepStrictEqual([error.code, error.sqlState], [code, sqlState], sql))
      yield* refused("insert into strict (s) values ('x')", "100072", "22000")
      yield* refused("insert into strict (id, s) values (1, 'four')", "100078", "22000")
      yield* refused("insert into strict (id) values (1000)", "100132", "22003")
      yield* refused("insert into strict (id) values ('one')", "100038", "22018")
      yield* refused("insert into strict (id, v) select 1, '{}'", "002023", "22000")
      yield* refused("insert into strict (id, v) select 1, 5", "002023", "22000")
      yield* refused("insert into strict (id, v) values (1, parse_json('{}'))", "002014", "22000")
      yield* refused("insert into strict (id, a) select 1, parse_json('{}')", "100071", "22000")
      yield* refused("insert into strict (id, b) select 1, 'AB'", "002023", "22000")
      yield* refused("insert into strict (id, b) select 1, to_binary('AABBCC')", "100145", "22000")
      yield* refused("insert into strict (id, b) select 1, to_binary('zz')", "100115", "22000")
      yield* refused("insert into strict (id, b) select 1, to_binary('a', 'BASE64')", "100115", "22000")
      yield* refused("insert into strict (id, d) values (1, '10000-01-01')", "100040", "22007")
      yield* refused("insert into strict (id, d) values (1, '2024-02-30')", "100040", "22007")
      yield* refused("insert into strict (id, t) values (1, '24:00:00')", "100108", "22007")
      yield* refused("insert into strict (id, n) values (1, 'infinity')", "100035", "22007")
      yield* refused("insert into strict (id, n) values (1, '0001-01-01 00:00:00 BC')", "100035", "22007")
      yield* refused("insert into strict (id, q) values (1, 'maybe')", "100037", "22018")
      yield* refused("insert into strict (id, f) values (1, 'x')", "100038", "22018")
      yield* refused("insert into strict (id) values (1, 2)", "002057", "42601")
      yield* refused("insert into strict (id, id) values (1, 2)", "002025", "42S21")
      yield* refused("insert into strict (nope) values (1)", "000904", "42000")
      yield* refused("select parse_json('{a')", "100069", "22P02")
      assert.deepStrictEqual(yield* rows("select count(*) n from strict"), [{ N: "0" }])
    }))

  it.effect("round numbers to their scale and take the forms that Snowflake coerces", () =>
    Effect.gen(function*() {
      const { rows, script } = yield* Local
      yield* script(
        "create or replace table coerced (n number(4,1), s varchar, d date, t timestamp_ntz, f float, b boolean)",
        "insert into coerced values ('12.25', 5, '2024-01-31 10:00:00', '2024-01-31', '1e3', 'true')"
      )
      assert.deepStrictEqual(yield* rows("select n, s, d::varchar d, t::varchar t, f, b from coerced"), [
        { N: "12.3", S: "5", D: "2024-01-31", T: "2024-01-31 00:00:00.000", F: "1000", B: true }
      ])
    }))

  it.effect("refuse what is longer than their column or than any value may be, and never cut it", () =>
    Effect.gen(function*() {
      const { rows, run, script } = yield* Local
      yield* script(
        "create or replace table long (w varchar(134217728), n varchar(20000000))",
        "insert into long select repeat('x', 134217728), repeat('x', 16777217)",
        "create or replace table longest (s varchar, w varchar(134217728), c varchar(3), b binary, v variant)"
      )
      const refused = (sql: string, code: string) =>
        Effect.map(Effect.flip(run(sql)), (error) => assert.strictEqual(error.code, code, sql))
      yield* refused("insert into longest (s) select n from long", "100078")
      yield* refused("select n::varchar from long", "100078")
      yield* refused("insert into longest (c) select 'üüüü'", "100078")
      yield* refused("insert into longest (w) select w || 'x' from long", "100078")
      yield* refused("insert into longest (b) select to_binary(repeat('00', 8388609))", "100145")
      yield* refused("insert into longest (v) select to_variant(w) from long", "100069")
      yield* refused("insert into longest (v) select parse_json('\"' || w || '\"') from long", "100069")
      yield* script("insert into longest (s, c) select repeat('ü', 16777216), 'üüü'")
      assert.deepStrictEqual(yield* rows("select length(s) s, length(c) c from longest"), [{ S: "16777216", C: "3" }])
      yield* script("drop table long", "drop table longest")
    }))
})
