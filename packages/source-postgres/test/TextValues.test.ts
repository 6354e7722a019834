import { assert, describe, it } from "@effect/vitest"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as TextValues from "@etl-stream/source-postgres/TextValues"
import * as fc from "fast-check"
import { vi } from "vitest"
import { decodeAll, decodeOne } from "./columnValues.ts"

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
const decode = (type: LogicalType, text: string): string | null => decodeOne(type, TextValues.decoder(type), utf8(text))

const expectAll = (type: LogicalType, cases: Readonly<Record<string, string>>): void => {
  for (const [text, value] of Object.entries(cases)) assert.strictEqual(decode(type, text), value, text)
}

const refuse = (
  type: LogicalType,
  texts: ReadonlyArray<string>,
  reason: TextValues.ValueError["reason"] = "Malformed"
): void => {
  for (const text of texts) {
    try {
      decode(type, text)
    } catch (error) {
      assert.instanceOf(error, TextValues.ValueError, text)
      assert.strictEqual(error.reason, reason, text)
      if (text.length > 3) assert.notInclude(error.message, text, "a value never gets into a message")
      continue
    }
    assert.fail(`${JSON.stringify(text)} was taken as ${type._tag}`)
  }
}

const micros = (iso: string): string => String(BigInt(Date.parse(iso)) * 1000n)

const Int64: LogicalType = { _tag: "Int64" }
const Float64: LogicalType = { _tag: "Float64" }
const DateType: LogicalType = { _tag: "Date" }
const Time: LogicalType = { _tag: "Time" }
const Plain: LogicalType = { _tag: "Timestamp", utc: false }
const Utc: LogicalType = { _tag: "Timestamp", utc: true }
const Binary: LogicalType = { _tag: "Binary" }

describe("TextValues", () => {
  it("takes booleans as t and f only", () => {
    expectAll({ _tag: "Boolean" }, { t: "true", f: "false" })
    refuse({ _tag: "Boolean" }, ["", "true", "T", "1", "tt"])
  })

  it("takes integers up to their type's bounds, and refuses what lies beyond or isn't one", () => {
    expectAll({ _tag: "Int16" }, { "0": "0", "-32768": "-32768", "32767": "32767" })
    expectAll({ _tag: "Int32" }, { "2147483647": "2147483647", "-2147483648": "-2147483648" })
    expectAll(Int64, {
      "9223372036854775807": "9223372036854775807",
      "-9223372036854775808": "-9223372036854775808",
      "999999999999999": "999999999999999",
      "-1000000000000000": "-1000000000000000",
      "4294967296": "4294967296",
      "-4294967297": "-4294967297"
    })
    refuse({ _tag: "Int16" }, ["32768", "-32769", "", "-", "1.5", " 1", "12a"])
    refuse({ _tag: "Int32" }, ["2147483648", "-2147483649", "99999999999", "0x10"])
    refuse(Int64, [
      "9223372036854775808",
      "-9223372036854775809",
      "99999999999999999999",
      "",
      "-",
      "1-2",
      "123456789012345x78"
    ])
  })

  it("decodes every int64 as BigInt does", () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
        fc.integer({ min: 0, max: 62 }),
        (value, shift) => {
          const shifted = value >> BigInt(shift)
          assert.strictEqual(decode(Int64, String(shifted)), String(shifted))
        }
      ),
      { numRuns: 2000 }
    )
  })

  it("rounds every float as JavaScript's own parser does", () => {
    expectAll(Float64, {
      NaN: "NaN",
      Infinity: "Infinity",
      "-Infinity": "-Infinity",
      "-0": "-0",
      "0.1": "0.1",
      "1e+22": "1e+22",
      "1e+23": "1e+23",
      "5e-324": "5e-324",
      "2.2250738585072014e-308": "2.2250738585072014e-308",
      "1.7976931348623157e+308": "1.7976931348623157e+308",
      "9007199254740993": "9007199254740992",
      "123456789012345680": "123456789012345680"
    })
    const texts = fc.oneof(
      fc.double({ noNaN: true }).map(String),
      fc.tuple(fc.integer(), fc.integer({ min: 0, max: 9 }), fc.integer({ min: -30, max: 30 })).map(
        ([mantissa, decimals, exponent]) => {
          const digits = String(Math.abs(mantissa)).padStart(decimals + 1, "0")
          const fraction = decimals === 0 ? "" : `.${digits.slice(-decimals)}`
          return `${mantissa < 0 ? "-" : ""}${digits.slice(0, digits.length - decimals)}${fraction}e${
            exponent < 0 ? "" : "+"
          }${exponent}`
        }
      )
    )
    fc.assert(
      fc.property(texts, (text) => {
        const expected = Number(text)
        assert.strictEqual(decode(Float64, text), Object.is(expected, -0) ? "-0" : String(expected))
      }),
      { numRuns: 3000 }
    )
    refuse(Float64, [
      "",
      "-",
      ".",
      "e5",
      "1e",
      "1e+",
      "1.2.3",
      "0x10",
      "nan",
      "inf",
      "1 ",
      "1e99999999",
      `${"1".repeat(100)}`
    ])
  })

  it("decodes dates before Christ, beyond the year 9999, and both infinities", () => {
    expectAll(DateType, {
      "1970-01-01": "0",
      "2000-02-29": "11016",
      "1969-12-31": "-1",
      "0001-01-01": "-719162",
      "0001-12-31 BC": "-719163",
      "4714-11-24 BC": "-2440588",
      "10000-01-01": "2932897",
      "5874897-12-31": "2145042905",
      infinity: "2147483647",
      "-infinity": "-2147483648"
    })
    refuse(DateType, [
      "",
      "2000-13-01",
      "2000-00-10",
      "2000-01-32",
      "200-01-01",
      "2000/01/01",
      "2000-01-01 AD",
      "0000-01-01",
      "infinityy"
    ])
    fc.assert(
      fc.property(fc.integer({ min: -135000, max: 2932896 }), (days) => {
        const text = new Date(days * 86_400_000).toISOString().slice(0, 10)
        assert.strictEqual(decode(DateType, text), String(days))
      }),
      { numRuns: 2000 }
    )
  })

  it("decodes times with any number of decimals, and 24:00", () => {
    expectAll(Time, {
      "00:00:00": "0",
      "24:00:00": "86400000000",
      "23:59:59.999999": "86399999999",
      "01:02:03.5": "3723500000",
      "01:02:03.000040": "3723000040"
    })
    refuse(Time, [
      "",
      "24:00:01",
      "1:02:03",
      "01:60:00",
      "01:02:60",
      "01:02:03.",
      "01:02:03.1234567",
      "01:02",
      "01:02:03+00"
    ])
  })

  it("decodes timestamps of the whole range in microseconds", () => {
    expectAll(Plain, {
      "1970-01-01 00:00:00": "0",
      "1969-12-31 23:59:59.999999": "-1",
      "2024-02-29 12:34:56.789012": "1709210096789012",
      "4713-01-01 00:00:00 BC": "-210863520000000000",
      "0001-12-31 23:59:59.5 BC": "-62135596800500000",
      "10000-01-01 00:00:00": "253402300800000000",
      "294246-12-31 23:59:59.999999": "9223371244799999999",
      infinity: "9223372036854775807",
      "-infinity": "-9223372036854775808"
    })
    refuse(Plain, ["294247-01-10 04:00:54", "294276-12-31 23:59:59.999999"], "OutOfRange")
    refuse(Plain, [
      "",
      "2024-02-29",
      "2024-02-29T12:34:56",
      "2024-02-29 12:34:56+00",
      "2024-02-29 12:34:56 AD",
      "2024-02-29 12:34"
    ])
  })

  it("takes a timestamp's offset from UTC, with minutes and seconds", () => {
    expectAll(Utc, {
      "2024-06-01 12:00:00+00": micros("2024-06-01T12:00:00Z"),
      "2024-06-01 12:00:00.25+02": micros("2024-06-01T10:00:00.250Z"),
      "2024-06-01 12:00:00-03:30": micros("2024-06-01T15:30:00Z"),
      "1880-01-01 00:00:00+00:19:32": micros("1879-12-31T23:40:28Z"),
      "0044-03-15 12:00:00+00 BC": "-63517780800000000",
      infinity: "9223372036854775807"
    })
    refuse(Utc, [
      "2024-06-01 12:00:00",
      "2024-06-01 12:00:00+0",
      "2024-06-01 12:00:00+00:",
      "2024-06-01 12:00:00+00:0x",
      "2024-06-01 12:00:00Z"
    ])
  })

  it("decodes the same microsecond that Date knows", () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date("0001-01-01T00:00:00Z"), max: new Date("9999-12-31T23:59:59Z"), noInvalidDate: true }),
        fc.integer({ min: 0, max: 999 }),
        (date, rest) => {
          const text = `${date.toISOString().slice(0, 23).replace("T", " ")}${String(rest).padStart(3, "0")}`
          const expected = String(BigInt(date.getTime()) * 1000n + BigInt(rest))
          assert.strictEqual(decode(Plain, text), expected)
          assert.strictEqual(decode(Utc, `${text}+00`), expected)
        }
      ),
      { numRuns: 2000 }
    )
  })

  it("decodes timestamps of one day after another alike, whatever offset they have", () => {
    const at = fc.tuple(
      fc.date({ min: new Date("1600-01-01T00:00:00Z"), max: new Date("2400-01-01T00:00:00Z"), noInvalidDate: true }),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: -15, max: 15 })
    )
    const cases = fc.array(at, { minLength: 1, maxLength: 20 })
    fc.assert(fc.property(cases, (values) => {
      for (const [date, times, hours] of values) {
        const offset = `${hours < 0 ? "-" : "+"}${String(Math.abs(hours)).padStart(2, "0")}`
        const text = date.toISOString().slice(0, 19).replace("T", " ")
        const seconds = Math.floor(date.getTime() / 1000)
        for (let again = 0; again < times; again++) {
          assert.strictEqual(decode(Utc, `${text}${offset}`), String((seconds - hours * 3600) * 1e6))
          assert.strictEqual(decode(Plain, `${text}.00000${again}`), String(BigInt(seconds) * 1000000n + BigInt(again)))
        }
      }
    }))
    refuse(Plain, [
      "2024-01-01 10:00:00+00",
      "2024-13-01 10:00:00",
      "2024-01-01 10:00:00.1234567",
      "2024-01-01 10-00-00"
    ])
    refuse(Utc, ["2024-01-01 10:00:00", "2024-01-01 10:00:00+0x", "2024-01-01 10:00:0x+00", "2024-01-0x 10:00:00+00"])
  })

  it("takes no day for the one before when there was none", async () => {
    vi.resetModules()
    const { decoder } = await import("@etl-stream/source-postgres/TextValues")
    for (const [type, offset] of [[Plain, ""], [Utc, "+00"]] as const) {
      const text = utf8(`\0\0\0\0-\0\0-\0\0 10:00:00${offset}`)
      assert.throws(() => decodeOne(type, decoder(type), text), /not a valid timestamp/)
    }
  })

  it("decodes bytea in hex and in escape format", () => {
    expectAll(Binary, {
      "\\x": "",
      "\\xDEADbeef00": "deadbeef00",
      "": "",
      "abc": "616263",
      "a\\\\b\\000\\377": "615c6200ff"
    })
    refuse(Binary, ["\\x1", "\\xgg", "\\", "\\1", "\\400", "\\12x", "a\\x41"])
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const hex = Buffer.from(bytes).toString("hex")
      assert.strictEqual(decode(Binary, `\\x${hex}`), hex)
    }))
  })

  it("copies text of any length as it is", () => {
    for (const type of ["Json", "Interval", "Other"] as const) {
      fc.assert(fc.property(fc.string({ unit: "binary", maxLength: 100 }), (text) => {
        assert.strictEqual(decode({ _tag: type }, text), text)
      }))
    }
    assert.strictEqual(
      decode({ _tag: "Uuid" }, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
      "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    )
    refuse({ _tag: "Uuid" }, ["", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1"])
  })

  it("keeps nulls and values apart in one column", () => {
    const values = [null, utf8("1"), null, utf8("-2")]
    assert.deepStrictEqual(decodeAll(Int64, TextValues.decoder(Int64), values), [null, "1", null, "-2"])
  })

  it("answers any bytes with one value or a ValueError", () => {
    const types: ReadonlyArray<LogicalType> = [
      { _tag: "Boolean" },
      { _tag: "Int16" },
      { _tag: "Int32" },
      Int64,
      Float64,
      DateType,
      Time,
      Plain,
      Utc,
      Binary,
      { _tag: "Uuid" }
    ]
    const hostile = fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.string({ unit: fc.constantFrom(..."0123456789-+:. eEBCinfty\\x"), maxLength: 40 }).map(utf8)
    )
    fc.assert(
      fc.property(fc.constantFrom(...types), hostile, (type, bytes) => {
        try {
          decodeOne(type, TextValues.decoder(type), bytes)
        } catch (error) {
          assert.instanceOf(error, TextValues.ValueError)
        }
      }),
      { numRuns: 5000 }
    )
  })
})
