import { assert, describe, it } from "@effect/vitest"
import type { ChannelStatus, Client } from "./streaming/Client.ts"
import { withServer } from "./streaming/Client.ts"
import type { TableSpec } from "./streaming/Server.ts"

/** Appends lines to a new channel and waits for their commit; returns the channel's status. */
const load = async (client: Client, table: string, lines: ReadonlyArray<string>): Promise<ChannelStatus> => {
  const opened = await client.open(table, "c")
  const before = opened.body.channel_status.last_committed_offset_token ?? "0"
  const offset = String(Number(before) + 1)
  const answer = await client.append(
    table,
    "c",
    opened.body.next_continuation_token,
    lines.map((line) => `${line}\n`).join(""),
    {
      single: offset
    }
  )
  assert.strictEqual(answer.status, 200, answer.text)
  return await client.committed(table, "c", offset)
}

/** What a column of a type keeps of JSON values: the stored text, or `refused`. */
const stored = (
  type: string,
  args: ReadonlyArray<number>,
  cases: ReadonlyArray<readonly [json: string, kept: string | null]>
) =>
  withServer({}, async (client) => {
    const spec: TableSpec = { name: "T", columns: [{ name: "R", type: "NUMBER" }, { name: "V", type, args }] }
    await client.table(spec)
    await load(client, "T", cases.map(([json], row) => `{"r":${row},"v":${json}}`))
    const cast = type === "BINARY" ? `hex("V")` : `CAST("V" AS VARCHAR)`
    const rows = new Map(
      (await client.sql(`SELECT "R", ${cast} FROM "DB.PUBLIC"."T"`)).map(([row, value]) => [Number(row), value])
    )
    for (const [row, [json, kept]] of cases.entries()) {
      const actual = rows.has(row) ? rows.get(row) : "refused"
      assert.strictEqual(actual, kept, `${type}(${args}) <- ${json}`)
    }
    const { rows_error_count, rows_inserted, rows_parsed } = await client.status("T", "c")
    const refused = cases.filter(([, kept]) => kept === "refused").length
    assert.deepStrictEqual([rows_parsed, rows_inserted, rows_error_count], [
      cases.length,
      cases.length - refused,
      refused
    ])
  })

const refused = "refused"

describe("values", () => {
  it("NUMBER(38,0) keeps every digit, rounds a fraction and refuses what does not fit", () =>
    stored("NUMBER", [], [
      ["1", "1"],
      ["\"-17\"", "-17"],
      ["null", null],
      ["99999999999999999999999999999999999999", "99999999999999999999999999999999999999"],
      ["\"-99999999999999999999999999999999999999\"", "-99999999999999999999999999999999999999"],
      ["9223372036854775808", "9223372036854775808"],
      ["123456789012345678901234567890", "123456789012345678901234567890"],
      ["1.5", "2"],
      ["-1.5", "-2"],
      ["1e3", "1000"],
      ["1E+25", "10000000000000000000000000"],
      ["100000000000000000000000000000000000000", refused],
      ["\"\"", refused],
      ["\"abc\"", refused],
      ["\"1_000\"", refused],
      ["\"0x10\"", refused],
      ["\" 1\"", refused],
      ["\"NaN\"", refused],
      ["\"inf\"", refused],
      ["true", refused],
      ["{}", refused],
      ["[1]", refused]
    ]))

  it("NUMBER(10,2) refuses more digits than its precision and rounds to its scale", () =>
    stored("NUMBER", [10, 2], [
      ["12345678.91", "12345678.91"],
      ["1.005", "1.01"],
      ["\"-0.004\"", "0.00"],
      ["99999999.99", "99999999.99"],
      ["99999999.995", refused],
      ["100000000", refused]
    ]))

  it("NUMBER(38,10) and NUMBER(38,37) keep what a double would lose", () =>
    stored("NUMBER", [38, 10], [
      ["0.1234567891", "0.1234567891"],
      ["12345678901234567890.1234567891", "12345678901234567890.1234567891"],
      ["\"1234567890123456789012345678.1234567891\"", "1234567890123456789012345678.1234567891"],
      ["12345678901234567890123456789", refused]
    ]).then(() =>
      stored("NUMBER", [38, 37], [[
        "1.2345678901234567890123456789012345678",
        "1.2345678901234567890123456789012345678"
      ], ["10", refused]])
    ))

  it("FLOAT takes numbers and NaN, inf and -inf as text, in Snowflake's spelling only", () =>
    stored("FLOAT", [], [
      ["1.5", "1.5"],
      ["\"0.1\"", "0.1"],
      ["1.7976931348623157e308", "1.7976931348623157e+308"],
      ["5e-324", "5e-324"],
      ["\"NaN\"", "nan"],
      ["\"inf\"", "inf"],
      ["\"-inf\"", "-inf"],
      ["1e309", refused],
      ["\"Infinity\"", refused],
      ["\"1_0\"", refused],
      ["\"\"", refused],
      ["true", refused]
    ]))

  it("VARCHAR counts characters, keeps escapes and any scalar as its text", () =>
    stored("VARCHAR", [3], [
      ["\"abc\"", "abc"],
      ["\"\"", ""],
      ["\"äöü\"", "äöü"],
      ["\"😀😀😀\"", "😀😀😀"],
      ["\"\\ud83d\\ude00\"", "😀"],
      ["\"\\\"\\\\/\"", "\"\\/"],
      ["\"\\u0041\\n\\t\"", "A\n\t"],
      ["\"a\\u0000b\"", "a\u0000b"],
      ["1.0", "1.0"],
      ["{ }", "{ }"],
      ["[1]", "[1]"],
      ["\"abcd\"", refused],
      ["true", refused],
      ["\"\\ud83d\"", refused],
      ["\"\\ude00\\ud83d\"", refused]
    ]))

  it("BOOLEAN takes Snowflake's words", () =>
    stored("BOOLEAN", [], [
      ["true", "true"],
      ["false", "false"],
      ["\"TRUE\"", "true"],
      ["\"off\"", "false"],
      ["\"y\"", "true"],
      ["0", "false"],
      ["2", refused],
      ["\"maybe\"", refused],
      ["\"\"", refused]
    ]))

  it("BINARY takes base64 only, within its length", () =>
    stored("BINARY", [3], [
      ["\"AAEC\"", "000102"],
      ["\"/w==\"", "FF"],
      ["\"\\/w==\"", "FF"],
      ["\"\"", ""],
      ["\"AAECAw==\"", refused],
      ["\"AAE\"", refused],
      ["\"0a0b\"", "D1AD1B"],
      ["\"!!!!\"", refused],
      ["\"AA=A\"", refused]
    ]))

  it("DATE takes ISO dates that exist", () =>
    stored("DATE", [], [
      ["\"2024-02-29\"", "2024-02-29"],
      ["\"0001-01-01\"", "0001-01-01"],
      ["\"9999-12-31\"", "9999-12-31"],
      ["\"2023-02-29\"", refused],
      ["\"10000-01-01\"", refused],
      ["\"0000-12-31\"", refused],
      ["\"infinity\"", refused],
      ["\"0044-03-15 (BC)\"", refused],
      ["\"-0044-03-15\"", refused],
      ["\"2024-1-2\"", refused],
      ["\"2024-01-02T00:00:00\"", refused]
    ]))

  it("TIME refuses 24:00 and keeps microseconds", () =>
    stored("TIME", [], [
      ["\"00:00:00\"", "00:00:00"],
      ["\"23:59:59.999999\"", "23:59:59.999999"],
      ["\"12:34\"", "12:34:00"],
      ["\"24:00:00\"", refused],
      ["\"12:60:00\"", refused],
      ["\"12:34:56+02\"", refused]
    ]))

  it("TIMESTAMP_NTZ keeps the wall clock whatever the offset", () =>
    stored("TIMESTAMP_NTZ", [], [
      ["\"2024-01-02T03:04:05.123456\"", "2024-01-02 03:04:05.123456"],
      ["\"2024-01-02 03:04:05\"", "2024-01-02 03:04:05"],
      ["\"2024-01-02T03:04:05.5+02:00\"", "2024-01-02 03:04:05.5"],
      ["\"2024-01-02T03:04:05Z\"", "2024-01-02 03:04:05"],
      ["\"2024-01-02 03:04:05 -0700\"", "2024-01-02 03:04:05"],
      ["\"2024-01-02 03:04-07\"", "2024-01-02 03:04:00"],
      ["\"2024-01-02\"", "2024-01-02 00:00:00"],
      ["\"0001-01-01 00:00:00\"", "0001-01-01 00:00:00"],
      ["\"9999-12-31 23:59:59.999999\"", "9999-12-31 23:59:59.999999"],
      ["\"2024-02-30 00:00:00\"", refused],
      ["\"2024-01-02T24:00:00\"", refused],
      ["\"2024-01-02T03:04:60\"", refused],
      ["\"infinity\"", refused],
      ["\"-infinity\"", refused],
      ["\"epoch\"", refused],
      ["\"294276-12-31 23:59:59\"", refused],
      ["\"yesterday\"", refused]
    ]))

  it("TIMESTAMP_NTZ(3) and (0) cut the fraction", () =>
    stored("TIMESTAMP_NTZ", [3], [["\"2024-01-02T03:04:05.123999Z\"", "2024-01-02 03:04:05.123"]]).then(() =>
      stored("TIMESTAMP_NTZ", [0], [["\"2024-01-02T03:04:05.999\"", "2024-01-02 03:04:05"]])
    ))

  for (const type of ["TIMESTAMP_TZ", "TIMESTAMP_LTZ"]) {
    it(`${type} keeps the instant; a text without offset is UTC`, () =>
      stored(type, [], [
        ["\"2024-01-02T03:04:05.123456+02:00\"", "2024-01-02 01:04:05.123456+00"],
        ["\"2024-01-02 03:04:05 -07:00\"", "2024-01-02 10:04:05+00"],
        ["\"2024-01-02 03:04:05+0530\"", "2024-01-01 21:34:05+00"],
        ["\"2024-01-02 03:04:05+00\"", "2024-01-02 03:04:05+00"],
        ["\"2024-01-02T03:04:05Z\"", "2024-01-02 03:04:05+00"],
        ["\"2024-01-02T03:04:05\"", "2024-01-02 03:04:05+00"],
        ["\"2024-01-02T03:04:05 Europe/Berlin\"", refused],
        ["\"infinity\"", refused]
      ]))
  }

  it("VARIANT takes any JSON and keeps its digits", () =>
    stored("VARIANT", [], [
      ["{\"a\":[1,{\"b\":null}]}", "{\"a\":[1,{\"b\":null}]}"],
      ["123456789012345678901234567890.12345678901234567890", "123456789012345678901234567890.12345678901234567890"],
      ["1.10", "1.10"],
      ["\"text \\\"quoted\\\" \\\\ \\u00e4\"", "\"text \\\"quoted\\\" \\\\ \\u00e4\""],
      ["true", "true"],
      ["null", null]
    ]))

  it("OBJECT and ARRAY refuse each other and scalars", () =>
    stored("OBJECT", [], [["{\"a\":1}", "{\"a\":1}"], ["[1]", refused], ["\"{}\"", refused], ["1", refused]]).then(() =>
      stored("ARRAY", [], [["[1,\"x\"]", "[1,\"x\"]"], ["{}", refused], ["\"[]\"", refused]])
    ))
})

describe("rows", () => {
  it("matches keys with columns by exact name first, else ignoring case", () =>
    withServer({}, async (client) => {
      await client.table({
        name: "T",
        columns: [{ name: "ID", type: "NUMBER" }, { name: "a", type: "VARCHAR" }, { name: "A", type: "VARCHAR" }, {
          name: "Ünï",
          type: "VARCHAR"
        }]
      })
      const status = await load(client, "T", [
        `{"Id":1,"a":"lower","A":"upper","Ünï":"ü"}`,
        `{"iD":2,"\\u0061":"escaped","üNÏ":"folded"}`,
        `{"A":"only","id":3}`
      ])
      assert.strictEqual(status.rows_error_count, 0)
      const columns = (await client.sql(
        `SELECT column_name FROM duckdb_columns() WHERE schema_name = 'DB.PUBLIC' ORDER BY column_index`
      ))
        .map(([name]) => `"${name}"`)
      assert.deepStrictEqual(await client.sql(`SELECT ${columns.join(", ")} FROM "DB.PUBLIC"."T" ORDER BY 1`), [
        ["1", "lower", "upper", "ü"],
        ["2", "escaped", null, "folded"],
        ["3", null, "only", null]
      ])
    }))

  it("keeps the good rows beside bad ones, and counts and explains the bad ones without their values", () =>
    withServer({}, async (client) => {
      await client.table({
        name: "T",
        columns: [{ name: "ID", type: "NUMBER", notNull: true }, { name: "NAME", type: "VARCHAR", args: [3] }]
      })
      const opened = (await client.open("T", "c")).body.next_continuation_token
      const first = await client.append(
        "T",
        "c",
        opened,
        [{ id: 1 }, { id: 2, nmae: "x" }, { id: 3, name: "SECRET" }],
        { single: "a" }
      )
      const lines = `{"id":4,"ID":5}\n[1]\n"x"\n{"name":"n"}\n{"id":null}\n{"id":6}\n{}\n{"id":"SECRET"}\n{"id":7}\n`
      await client.append("T", "c", first.body.next_continuation_token, lines, { single: "b" })
      const status = await client.committed("T", "c", "b")
      assert.deepStrictEqual([status.rows_parsed, status.rows_inserted, status.rows_error_count], [12, 3, 9])
      assert.deepStrictEqual(await client.sql(`SELECT "ID" FROM "DB.PUBLIC"."T" ORDER BY 1`), [["1"], ["6"], ["7"]])
      assert.strictEqual(status.last_error_offset_upper_bound, "b")
      assert.approximately(status.last_error_timestamp ?? 0, Date.now(), 10_000)
      assert.notInclude(status.last_error_message ?? "", "SECRET")
      const errors = await client.sql(
        `SELECT message, offset_upper_bound FROM "_local".streaming_errors ORDER BY rowid`
      )
      assert.deepStrictEqual(errors, [
        ["A key matches no column of the table", "a"],
        ["Value is too long or not valid for VARCHAR(3), column NAME", "a"],
        ["Column ID is given twice", "b"],
        ["The row is not a JSON object", "b"],
        ["The row is not a JSON object", "b"],
        ["NULL result in a non-nullable column ID", "b"],
        ["NULL result in a non-nullable column ID", "b"],
        ["NULL result in a non-nullable column ID", "b"],
        ["Value is not recognized or out of range for NUMBER(38,0), column ID", "b"]
      ])
    }))

  it("never resets the error count, not when the channel is opened again", () =>
    withServer({}, async (client) => {
      await client.table({ name: "T", columns: [{ name: "ID", type: "NUMBER" }] })
      assert.strictEqual((await load(client, "T", [`{"id":"x"}`])).rows_error_count, 1)
      const reopened = await client.open("T", "c")
      assert.strictEqual(reopened.body.channel_status.rows_error_count, 1)
      assert.strictEqual((await load(client, "T", [`{"id":"y"}`, `{"id":1}`])).rows_error_count, 2)
    }))

  it("commits an offset token whose rows were all refused", () =>
    withServer({}, async (client) => {
      await client.table({ name: "T", columns: [{ name: "ID", type: "NUMBER" }] })
      const status = await load(client, "T", [`{"nope":1}`, `{"nope":2}`])
      assert.deepStrictEqual([status.rows_parsed, status.rows_inserted, status.rows_error_count], [2, 0, 2])
    }))

  it("fills a missing key with the column's default and keeps an explicit null", () =>
    withServer({}, async (client) => {
      await client.table({
        name: "T",
        columns: [{ name: "ID", type: "NUMBER" }, { name: "N", type: "NUMBER", default: "7" }, {
          name: "S",
          type: "VARCHAR",
          default: "'x'",
          notNull: true
        }]
      })
      const status = await load(client, "T", [
        `{"id":1}`,
        `{"id":2,"n":null,"s":"y"}`,
        `{"id":3,"s":null}`,
        `{"id":4,"n":8,"s":"z"}`
      ])
      assert.strictEqual(status.rows_error_count, 1)
      assert.deepStrictEqual(await client.sql(`SELECT * FROM "DB.PUBLIC"."T" ORDER BY 1`), [["1", "7", "x"], [
        "2",
        null,
        "y"
      ], ["4", "8", "z"]])
    }))

  it("commits 100,000 rows of 20 columns within seconds", () =>
    withServer({ maxUncompressedBytes: 100_000_000, maxRequestBytes: 100_000_000 }, async (client) => {
      const types = ["NUMBER", "TIMESTAMP_NTZ", "VARCHAR", "NUMBER", "VARIANT"] as const
      await client.table({
        name: "T",
        columns: Array.from({ length: 20 }, (_, column) => ({
          name: `C${column}`,
          type: types[column % 5] ?? "VARCHAR",
          ...(column % 5 === 3 ? { args: [18, 4] } : {})
        }))
      })
      const value = (row: number, column: number) =>
        [
          `${row * 7}`,
          `"2024-01-02T03:04:05.123456"`,
          `"text ${row}"`,
          (row / 8).toFixed(3),
          `{"a":${row}}`
        ][column % 5]
      const fields = Array.from({ length: 20 }, (_, column) => column)
      const opened = (await client.open("T", "c")).body.next_continuation_token
      let next = opened
      const started = performance.now()
      for (let batch = 0; batch < 5; batch++) {
        const lines: Array<string> = []
        for (let row = batch * 20_000; row < (batch + 1) * 20_000; row++) {
          lines.push(`{${fields.map((column) => `"c${column}":${value(row, column)}`).join(",")}}\n`)
        }
        const answer = await client.append("T", "c", next, lines.join(""), { single: String(batch) })
        assert.strictEqual(answer.status, 200)
        next = answer.body.next_continuation_token
      }
      await client.committed("T", "c", "4")
      const elapsed = performance.now() - started
      assert.deepStrictEqual(await client.sql(`SELECT count(*), sum("C0"), sum("C3") FROM "DB.PUBLIC"."T"`), [
        ["100000", String(7 * 100_000 * 99_999 / 2), String((100_000 * 99_999 / 2 / 8).toFixed(4))]
      ])
      // About a second on an idle machine; a way that costs per row would take minutes.
      assert.isBelow(elapsed, 30_000)
    }))

  it("takes a column that was added after the channel was opened", () =>
    withServer({}, async (client) => {
      const spec: TableSpec = { name: "T", columns: [{ name: "ID", type: "NUMBER" }] }
      await client.table(spec)
      const opened = (await client.open("T", "c")).body.next_continuation_token
      await client.fault({ kind: "holdCommits" })
      const first = await client.append("T", "c", opened, [{ id: 1 }], { single: "1" })
      await client.request("POST", "/_test/column", { body: JSON.stringify({ table: "T", name: "EXTRA" }) })
      await client.append("T", "c", first.body.next_continuation_token, [{ id: 2, extra: "e" }], { single: "2" })
      await client.clearFaults()
      const status = await client.committed("T", "c", "2")
      assert.strictEqual(status.rows_error_count, 0)
      assert.deepStrictEqual(await client.sql(`SELECT * FROM "DB.PUBLIC"."T" ORDER BY 1`), [["1", null], ["2", "e"]])
    }))
})
