/**
 * Types that the configuration gives columns: what can be kept as what, what a narrower type refuses, and that every way honours it.
 */
import { assert, describe, it } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as ColumnBuilder from "@etl-stream/core/ColumnBuilder"
import * as LogicalType from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import { ByteBuffer } from "../src/ByteBuffer.ts"
import { Config } from "../src/Config.ts"
import * as Narrowing from "../src/Narrowing.ts"
import * as SourceText from "../src/SourceText.ts"
import * as TypeOverride from "../src/TypeOverride.ts"
import * as VariantJson from "../src/VariantJson.ts"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

/** A decimal number as digits and a power of ten, both without zeros that count for nothing. */
const decimalOf = (text: string): readonly [digits: bigint, exponent: number] => {
  const [, sign = "", integer = "", fraction = "", exponent = "0"] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text) ?? []
  let digits = BigInt(`${integer}${fraction}`)
  let power = Number(exponent) - fraction.length
  while (digits !== 0n && digits % 10n === 0n) {
    digits /= 10n
    power++
  }
  return [sign === "-" ? -digits : digits, digits === 0n ? 0 : power]
}

const number = fc.tuple(
  fc.constantFrom("", "-"),
  fc.oneof(fc.constant("0"), fc.bigInt({ min: 1n, max: 10n ** 45n }).map(String), fc.nat(999).map(String)),
  fc.option(fc.stringMatching(/^[0-9]{1,45}$/), { nil: undefined })
).map(([sign, integer, fraction]) => `${sign}${integer}${fraction === undefined ? "" : `.${fraction}`}`)

describe("VariantJson", () => {
  const inexact = (text: string) => {
    const bytes = Buffer.from(text)
    return VariantJson.isInexact(bytes, 0, bytes.length)
  }

  it("lets numbers stay numbers exactly when 38 digits, or a double for those with an exponent, hold them", () => {
    fc.assert(fc.property(number, (text) => {
      const [digits, exponent] = decimalOf(text)
      const scale = Math.max(0, -exponent)
      const whole = exponent > 0 ? digits * 10n ** BigInt(exponent) : digits
      const integer = Math.max(0, String(whole < 0n ? -whole : whole).length - scale)
      assert.strictEqual(inexact(text), digits !== 0n && (scale > 37 || integer + scale > 38), text)
    }))
    fc.assert(
      fc.property(
        number,
        fc.integer({ min: -400, max: 400 }),
        fc.constantFrom("e", "E", "e+"),
        (mantissa, power, e) => {
          const text = `${mantissa}${e === "e+" && power < 0 ? "e" : e}${power}`
          // What is called exact comes out of a double as it went in; no number of 15 digits in a moderate range is called inexact.
          if (!inexact(text)) assert.deepStrictEqual(decimalOf(String(Number(text))), decimalOf(text), text)
          else {
            const [digits, exponent] = decimalOf(text)
            assert.isTrue(String(digits).replace("-", "").length > 15 || Math.abs(exponent) > 250, text)
          }
        }
      )
    )
  })

  it("finds such numbers anywhere in a document, and none in strings", () => {
    const long = "1".repeat(39)
    fc.assert(
      fc.property(fc.json(), fc.string(), (document, name) => {
        const safe = JSON.stringify({ [name]: long, [`${name}"\\`]: "1e999" })
        assert.isFalse(inexact(safe))
        assert.isTrue(inexact(`{"a": ${document}, "b": [${safe}, ${long}]}`))
        assert.isTrue(inexact(`[${safe},-1.5E+999]`))
      })
    )
  })

  it("finds half a surrogate pair, and takes whole ones", () => {
    for (const half of [`"\\ud800"`, `"\\uDC00x"`, `{"\\udbff\\u0041":1}`, `"\\\\\\ud800"`]) {
      assert.isTrue(inexact(half))
    }
    for (const whole of [`"\\ud83d\\ude00"`, `"\\\\ud800"`, `"\\u00e9"`]) assert.isFalse(inexact(whole), whole)
  })
})

describe("Narrowing", () => {
  it("takes a number exactly when the column holds all of its digits", () => {
    fc.assert(
      fc.property(
        number,
        fc.integer({ min: 0, max: 37 }),
        fc.integer({ min: 1, max: 38 }),
        (text, scale, precision) => {
          fc.pre(scale <= precision)
          const [digits, exponent] = decimalOf(text)
          const fits = -exponent <= scale &&
            (digits < 0n ? -digits : digits) * 10n ** BigInt(exponent + Math.max(scale, -exponent)) <
              10n ** BigInt(precision)
          const bytes = Buffer.from(text)
          assert.strictEqual(
            Narrowing.decimal({ _tag: "Digits", integer: precision - scale, scale }, bytes, 0, bytes.length),
            fits || digits === 0n,
            text
          )
        }
      )
    )
  })

  it("counts characters, not bytes", () => {
    fc.assert(fc.property(fc.string({ unit: "grapheme" }), fc.nat(20), (text, most) => {
      const bytes = Buffer.from(text)
      assert.strictEqual(Narrowing.text(most, bytes, 0, bytes.length), [...text].length <= most)
    }))
  })
})

describe("SourceText", () => {
  const roundTrip = (type: LogicalType.LogicalType, value: Batches.Value, expected?: string) => {
    const table = Batches.table("t", { v: type }, { _tag: "None" })
    const batch = Batches.batch(table, [{ op: Operation.Insert, sequence: Sequence.make(1n, 0n), values: [value] }])
    const out = new ByteBuffer(16)
    const write = (data: Parameters<typeof SourceText.writer>[1]) => {
      out.length = 0
      SourceText.writer(type, data)(0, out)
      return Buffer.from(out.view()).toString()
    }
    const data = batch.records.data.children.at(-1)
    assert.isDefined(data)
    const text = data === undefined ? "" : write(data)
    if (expected !== undefined) assert.strictEqual(text, expected)
    const column = ColumnBuilder.make(LogicalType.arrowType(type))
    assert.isTrue(SourceText.parse(type, text, column), text)
    assert.strictEqual(write(column.finish()), text)
    return text
  }

  it("writes PostgreSQL's text and reads it back", () => {
    const utc: LogicalType.LogicalType = { _tag: "Timestamp", utc: true }
    roundTrip({ _tag: "Date" }, LogicalType.dateInfinity, "infinity")
    roundTrip({ _tag: "Date" }, -719_163, "0001-12-31 BC")
    roundTrip({ _tag: "Date" }, -719_162, "0001-01-01")
    roundTrip({ _tag: "Date" }, 2_932_897, "10000-01-01")
    roundTrip({ _tag: "Time" }, 86_400_000_000n, "24:00:00")
    roundTrip({ _tag: "Time" }, 1_500_000n, "00:00:01.5")
    roundTrip(utc, LogicalType.timestampNegativeInfinity, "-infinity")
    roundTrip(utc, -62_135_596_800_000_001n, "0001-12-31 23:59:59.999999+00 BC")
    roundTrip(utc, 253_402_300_800_000_000n, "10000-01-01 00:00:00+00")
    roundTrip({ _tag: "Timestamp", utc: false }, 1n, "1970-01-01 00:00:00.000001")
    roundTrip({ _tag: "Binary" }, Buffer.from([0, 255]), "\\x00ff")
    roundTrip({ _tag: "Boolean" }, true, "true")
    roundTrip({ _tag: "Float64" }, NaN, "NaN")
    roundTrip({ _tag: "Int64" }, -(2n ** 63n), "-9223372036854775808")
  })

  it("reads back any value of any type", () => {
    const days = fc.integer({ min: -2_451_545, max: 106_751_990 })
    fc.assert(fc.property(days, (value) => {
      roundTrip({ _tag: "Date" }, value)
      roundTrip({ _tag: "Timestamp", utc: true }, BigInt(value) * 86_400_000_000n + BigInt(value & 0xffff))
    }))
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 86_400_000_000n }), (value) => void roundTrip({ _tag: "Time" }, value))
    )
    fc.assert(fc.property(fc.double(), (value) => void roundTrip({ _tag: "Float64" }, value)))
    fc.assert(
      fc.property(fc.uint8Array(), (value) => void roundTrip({ _tag: "Binary" }, value))
    )
    fc.assert(fc.property(fc.string({ unit: "grapheme" }), (value) => {
      assert.strictEqual(roundTrip({ _tag: "Text", maxLength: undefined }, value), value)
    }))
  })
})

const text: LogicalType.LogicalType = { _tag: "Text", maxLength: undefined }
const shape = {
  id: { _tag: "Int64" },
  amount: { _tag: "Decimal", precision: undefined, scale: undefined },
  ratio: { _tag: "Decimal", precision: undefined, scale: undefined },
  small: { _tag: "Int32" },
  wide: { _tag: "Int64" },
  code: text,
  day: { _tag: "Date" },
  local: { _tag: "Timestamp", utc: false },
  instant: { _tag: "Timestamp", utc: true },
  at: { _tag: "Time" },
  flag: { _tag: "Boolean" },
  real: { _tag: "Float64" },
  bytes: { _tag: "Binary" },
  doc: { _tag: "Json" },
  list: { _tag: "Array", element: { _tag: "Int32" } },
  key2: { _tag: "Date" }
} as const satisfies Record<string, LogicalType.LogicalType>
const table = Batches.table("chosen", shape, { _tag: "Key", columns: [0, 15] })
const types = {
  amount: "NUMBER(20,4)",
  ratio: "float",
  small: "number(3)",
  wide: "FLOAT",
  code: "VARCHAR(5)",
  day: "VARCHAR",
  local: "TIMESTAMP_NTZ(3)",
  instant: "TIMESTAMP_LTZ(6)",
  at: "TIME(0)",
  flag: "TEXT",
  real: "STRING",
  bytes: "VARCHAR(20)",
  doc: "VARCHAR",
  list: "VARCHAR",
  key2: "VARCHAR"
}
const columns = Object.fromEntries(Object.entries(types).map(([column, type]) => [column, { type }]))

const good: ReadonlyArray<Batches.Value> = [
  "-1234567890123456.7800",
  "-0.15",
  -999,
  2n ** 53n,
  "üüüüü",
  LogicalType.dateInfinity,
  1_000n,
  1n,
  86_399_000_000n,
  true,
  -Infinity,
  Buffer.from([0, 255]),
  "{\"a\":  1e999}",
  "[2:3]={1,2}",
  -719_163
]
const expected = [
  "-1234567890123456.7800",
  "-0.15",
  "-999",
  "9007199254740992",
  "üüüüü",
  "infinity",
  "1970-01-01 00:00:00.001000",
  "1970-01-01 00:00:00.000001",
  "23:59:59",
  "true",
  "-Infinity",
  "\\x00ff",
  "{\"a\":  1e999}",
  "[2:3]={1,2}",
  "0001-12-31 BC"
]
/** Values that Snowflake would round, cut or refuse, by column. */
const bad: Readonly<Record<string, ReadonlyArray<Batches.Value>>> = {
  AMOUNT: ["0.00001", "12345678901234567", "NaN"],
  RATIO: ["0.1234567890123456"],
  SMALL: [1000, -1000],
  WIDE: [2n ** 53n + 1n, -(2n ** 53n) - 1n],
  CODE: ["üüüüüü"],
  LOCAL: [1n, -1n, LogicalType.timestampInfinity],
  AT: [1n, 86_400_000_000n],
  BYTES: [Buffer.alloc(10)]
}

describe("TypeOverride", () => {
  it("knows Snowflake's types by their names, and no others", () => {
    const known = {
      "NUMBER(20,4)": "NUMBER(20,4)",
      "decimal ( 5 )": "NUMBER(5,0)",
      NUMERIC: "NUMBER(38,0)",
      double: "FLOAT",
      string: "VARCHAR(16777216)",
      "varchar(134217728)": "VARCHAR(134217728)",
      "BINARY(67108864)": "BINARY(67108864)",
      "timestamp_tz(3)": "TIMESTAMP_TZ(3)",
      TIME: "TIME(6)",
      variant: "VARIANT"
    }
    for (const [name, sql] of Object.entries(known)) {
      const type = TypeOverride.parse(name)
      assert.strictEqual(type === undefined ? undefined : TypeOverride.print(type), sql, name)
    }
    const unknown = [
      "NUMBER(39)",
      "NUMBER(5,6)",
      "NUMBER(38,38)",
      "VARCHAR(0)",
      "VARCHAR(134217729)",
      "BINARY(67108865)",
      "DATE(3)",
      "GEOGRAPHY",
      "TIME(10)",
      "",
      "NUMBER(1,2,3)",
      "toString"
    ]
    for (const name of unknown) assert.isUndefined(TypeOverride.parse(name), name)
  })

  it.effect("is refused by validation when it is no type, naming the option", () =>
    Effect.gen(function*() {
      const config = { account: "A", user: "U", auth: { password: "p" }, warehouse: "W", database: "D" }
      const exit = yield* Effect.exit(
        Schema.decodeUnknownEffect(Config)({
          ...config,
          tables: { "public.orders": { columns: { amount: { type: "NUMBER(99)" } } } }
        })
      )
      assert.isTrue(Exit.isFailure(exit))
      const error = Exit.isFailure(exit) ? String(exit.cause) : ""
      assert.include(error, "amount")
      assert.include(error, "NUMBER(p,s)")
    }))

  it.live("is refused when the table is opened that has a column which can't be kept so, naming the option", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      for (
        const [column, type] of [["day", "NUMBER(5)"], ["doc", "BOOLEAN"], ["local", "TIMESTAMP_TZ"], ["code", "FLOAT"]]
      ) {
        const running = yield* Local.run(local, {
          tables: { "public.chosen": { columns: { [column ?? ""]: { type } } } }
        })
        const error = yield* Effect.flip(running.open(table))
        assert.include(JSON.stringify(error), "Misconfigured")
        assert.include(JSON.stringify(error), "public.chosen")
        assert.include(String(error), `columns.${column}.type`)
      }
    }).pipe(Effect.scoped))

  it.live("takes in a longer column what is too long for one without a length, whole", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const long = Batches.table("long", { id: { _tag: "Int64" }, body: text, bytes: { _tag: "Binary" } }, {
        _tag: "Key",
        columns: [0]
      })
      const body = "ab".repeat(8_388_609)
      const bytes = Buffer.alloc(8_388_609, 7)
      const row = (op: Operation, id: bigint, at: bigint) =>
        Batches.batch(long, [{ op, sequence: Sequence.make(at, 0n), values: [id, body, bytes] }])
      const refusing = yield* Local.run(local, { schema: "REFUSING" }, "refusing")
      const refused = yield* refusing.open(long)
      const error = yield* Effect.flip(refused.rows(row(Operation.Insert, 1n, 20n)))
      assert.include(String(error), "BODY")
      assert.include(String(error), "16777216 characters")
      const running = yield* Local.run(local, {
        tables: {
          "public.long": { columns: { body: { type: "VARCHAR(134217728)" }, bytes: { type: "BINARY(67108864)" } } }
        }
      })
      const opened = yield* running.open(long)
      yield* Local.copy(opened, long, 10n, [row(Operation.Read, 1n, 10n)])
      yield* opened.rows(row(Operation.Insert, 2n, 20n))
      yield* opened.durable(Sequence.make(20n, 0n))
      yield* running.sink.settle
      const found = yield* local.query(
        `SELECT "ID"::VARCHAR AS "ID", LENGTH("BODY")::VARCHAR AS "BODY", LENGTH("BYTES")::VARCHAR AS "BYTES" FROM RAW.SHOP.LONG ORDER BY 1`
      )
      const whole = { BODY: String(body.length), BYTES: String(bytes.length) }
      assert.deepStrictEqual(found, [{ ID: "1", ...whole }, { ID: "2", ...whole }])
    }).pipe(Effect.scoped))

  it.live("holds for the copy, the stream, the merge and changelogs, and nothing is rounded", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const names = Object.keys(types).map((name) => name.toUpperCase())
      const select = (name: string) =>
        `SELECT ${
          names.map((column) =>
            column === "RATIO" || column === "WIDE"
              ? `"${column}"`
              : column === "LOCAL" || column === "INSTANT"
              ? `TO_VARCHAR("${column}", 'YYYY-MM-DD HH24:MI:SS.FF6') AS "${column}"`
              : `"${column}"::VARCHAR AS "${column}"`
          ).join(", ")
        } FROM RAW."${name}".CHOSEN ORDER BY "ID"`
      for (const mode of ["mirror", "changelog"]) {
        const running = yield* Local.run(local, {
          mode,
          schema: mode.toUpperCase(),
          tables: { "public.chosen": { columns } }
        }, mode)
        const opened = yield* running.open(table)
        const row = (op: Operation, id: bigint, sequence: Sequence.Sequence, values: ReadonlyArray<Batches.Value>) =>
          Batches.batch(table, [{ op, sequence, values: [id, ...values] }])
        yield* Local.copy(opened, table, 10n, [row(Operation.Read, 1n, Sequence.make(10n, 0n), good)])
        yield* opened.rows(row(Operation.Insert, 2n, Sequence.make(20n, 0n), good))
        yield* opened.durable(Sequence.make(20n, 0n))
        yield* running.sink.settle
        const found = yield* local.query(select(mode.toUpperCase()))
        assert.deepStrictEqual(found.map((line) => names.map((name) => line[name])), [expected, expected])
        for (const [column, values] of Object.entries(bad)) {
          for (const value of values) {
            const index = names.indexOf(column)
            const error = yield* Effect.flip(
              opened.rows(
                row(Operation.Insert, 3n, Sequence.make(30n, 0n), good.map((other, at) => at === index ? value : other))
              )
            )
            assert.include(JSON.stringify(error), "Rejected")
            assert.include(String(error), column)
          }
        }
      }
    }).pipe(Effect.scoped))
})
