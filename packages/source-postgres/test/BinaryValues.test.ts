import { assert, describe, it } from "@effect/vitest"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as BinaryValues from "@etl-stream/source-postgres/BinaryValues"
import * as PostgresType from "@etl-stream/source-postgres/PostgresType"
import * as TextValues from "@etl-stream/source-postgres/TextValues"
import * as fc from "fast-check"
import { decodeOne } from "./columnValues.ts"

const { Oid } = PostgresType

const typeOf = (oid: number) => PostgresType.resolve(PostgresType.emptyCatalog, oid, -1)

const decoderOf = (oid: number) => {
  const decoder = BinaryValues.decoder(typeOf(oid))
  assert.isDefined(decoder)
  return decoder
}

const decode = (oid: number, bytes: Uint8Array): string | null => decodeOne(typeOf(oid).type, decoderOf(oid), bytes)

const int16s = (...values: ReadonlyArray<number>): Uint8Array => {
  const bytes = Buffer.alloc(values.length * 2)
  values.forEach((value, index) => bytes.writeUInt16BE(value & 0xffff, index * 2))
  return bytes
}

const int64 = (value: bigint): Uint8Array => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(value)
  return bytes
}

const refuse = (oid: number, bytes: Uint8Array, reason: TextValues.ValueError["reason"] = "Malformed"): void => {
  try {
    decode(oid, bytes)
  } catch (error) {
    assert.instanceOf(error, TextValues.ValueError)
    assert.strictEqual(error.reason, reason)
    return
  }
  assert.fail(`${Buffer.from(bytes).toString("hex")} was taken as type ${oid}`)
}

const micros2000 = 946_684_800_000_000n

describe("BinaryValues", () => {
  it("writes numerics as the server prints them", () => {
    const cases: ReadonlyArray<readonly [string, Uint8Array]> = [
      ["0", int16s(0, 0, 0, 0)],
      ["0.00", int16s(0, 0, 0, 2)],
      ["1", int16s(1, 0, 0, 0, 1)],
      ["-12345.6700", int16s(3, 1, 0x4000, 4, 1, 2345, 6700)],
      ["10000", int16s(1, 1, 0, 0, 1)],
      ["100000000.5", int16s(4, 2, 0, 1, 1, 0, 0, 5000)],
      ["0.0001", int16s(1, -1, 0, 4, 1)],
      ["0.00001234", int16s(1, -2, 0, 8, 1234)],
      ["0.000012", int16s(1, -2, 0, 6, 1200)],
      ["9999.9", int16s(2, 0, 0, 1, 9999, 9000)],
      ["NaN", int16s(0, 0, 0xc000, 0)],
      ["Infinity", int16s(0, 0, 0xd000, 0)],
      ["-Infinity", int16s(0, 0, 0xf000, 0)]
    ]
    for (const [text, bytes] of cases) assert.strictEqual(decode(Oid.numeric, bytes), text)
  })

  it("refuses numerics that break their own format", () => {
    refuse(Oid.numeric, new Uint8Array())
    refuse(Oid.numeric, int16s(1, 0, 0, 0))
    refuse(Oid.numeric, int16s(1, 0, 0, 0, 10000))
    refuse(Oid.numeric, int16s(1, 0, 0x1234, 0, 1))
    refuse(Oid.numeric, int16s(1, 0, 0, 0x4000, 1))
    refuse(Oid.numeric, int16s(0xffff, 0, 0, 0, 1))
    // The widest claims cost no more than the room that they name.
    assert.strictEqual(decode(Oid.numeric, int16s(1, 0x7fff, 0, 0, 1))?.length, 4 * 0x8000 - 3)
    assert.strictEqual(decode(Oid.numeric, int16s(1, -0x8000, 0, 2, 1)), "0.00")
  })

  it("moves dates and timestamps from PostgreSQL's epoch to 1970, and keeps infinities", () => {
    assert.strictEqual(decode(Oid.date, Uint8Array.of(0, 0, 0, 0)), "10957")
    assert.strictEqual(decode(Oid.date, Uint8Array.of(0x7f, 0xff, 0xff, 0xff)), "2147483647")
    assert.strictEqual(decode(Oid.date, Uint8Array.of(0x80, 0, 0, 0)), "-2147483648")
    refuse(Oid.date, Uint8Array.of(0x7f, 0xff, 0xff, 0xfe))
    assert.strictEqual(decode(Oid.timestamptz, int64(2n ** 63n - 1n)), "9223372036854775807")
    assert.strictEqual(decode(Oid.timestamptz, int64(-(2n ** 63n))), "-9223372036854775808")
    refuse(Oid.timestamp, int64(9223371331199999999n), "OutOfRange")
    refuse(Oid.timestamp, int64(9_223_372_036_854_000_000n - micros2000), "OutOfRange")
    assert.strictEqual(
      decode(Oid.timestamp, int64(9_223_372_036_853_999_999n - micros2000)),
      "9223372036853999999"
    )
    fc.assert(fc.property(fc.bigInt({ min: -211813488000000000n, max: 9222425352053999999n }), (value) => {
      assert.strictEqual(decode(Oid.timestamp, int64(value)), String(value + micros2000))
    }))
  })

  it("refuses values of the wrong length, unknown versions and times beyond 24:00", () => {
    const fixed = {
      bool: 1,
      int2: 2,
      int4: 4,
      int8: 8,
      float4: 4,
      float8: 8,
      date: 4,
      time: 8,
      timestamp: 8,
      uuid: 16
    } as const
    for (const [name, length] of Object.entries(fixed)) {
      const oid = Oid[name as keyof typeof fixed] // the keys of `fixed`
      for (const wrong of [0, length - 1, length + 1]) if (wrong !== length) refuse(oid, new Uint8Array(wrong))
    }
    refuse(Oid.time, int64(86_400_000_001n))
    refuse(Oid.time, int64(-1n))
    assert.strictEqual(decode(Oid.time, int64(86_400_000_000n)), "86400000000")
    refuse(Oid.jsonb, Uint8Array.of(2, 0x7b, 0x7d))
    refuse(Oid.jsonb, new Uint8Array())
    assert.strictEqual(decode(Oid.jsonb, Uint8Array.of(1, 0x7b, 0x7d)), "{}")
    refuse(Oid.char, new Uint8Array())
    refuse(Oid.char, Uint8Array.of(0x61, 0x62))
  })

  it("has no decoder where binary says less than text", () => {
    for (const oid of [Oid.interval, Oid.timetz, Oid.bit, 1007, 869, 99999]) {
      assert.isUndefined(BinaryValues.decoder(typeOf(oid)), String(oid))
    }
  })

  it("answers any bytes with one value or a ValueError", () => {
    const oids = Object.values(Oid).filter((oid) => BinaryValues.decoder(typeOf(oid)) !== undefined)
    fc.assert(
      fc.property(fc.constantFrom(...oids), fc.uint8Array({ maxLength: 40 }), (oid, bytes) => {
        try {
          decode(oid, bytes)
        } catch (error) {
          assert.instanceOf(error, TextValues.ValueError)
        }
      }),
      { numRuns: 5000 }
    )
  })
})

describe("PostgresType", () => {
  const catalog: PostgresType.TypeCatalog = new Map(
    [
      { oid: 50001, name: "mood", schema: "public", kind: "e", baseType: 0, baseTypmod: -1, element: 0 },
      {
        oid: 50002,
        name: "Price",
        schema: "shop",
        kind: "d",
        baseType: Oid.numeric,
        baseTypmod: (10 << 16 | 2) + 4,
        element: 0
      },
      { oid: 50003, name: "net_price", schema: "public", kind: "d", baseType: 50002, baseTypmod: -1, element: 0 },
      { oid: 50004, name: "_mood", schema: "public", kind: "b", baseType: 0, baseTypmod: -1, element: 50001 },
      { oid: 50005, name: "loop", schema: "public", kind: "d", baseType: 50005, baseTypmod: -1, element: 0 }
    ].map((info) => [info.oid, info])
  )
  const resolve = (oid: number, typmod = -1): readonly [LogicalType, string] => {
    const { sourceType, type } = PostgresType.resolve(catalog, oid, typmod)
    return [type, sourceType]
  }

  it("reads type modifiers as the server shows them", () => {
    assert.deepStrictEqual(resolve(Oid.numeric, (12 << 16 | 2) + 4), [
      { _tag: "Decimal", precision: 12, scale: 2 },
      "numeric(12,2)"
    ])
    assert.deepStrictEqual(resolve(Oid.numeric, (3 << 16 | (-2 & 0x7ff)) + 4), [
      { _tag: "Decimal", precision: 3, scale: -2 },
      "numeric(3,-2)"
    ])
    assert.deepStrictEqual(resolve(Oid.varchar, 24), [{ _tag: "Text", maxLength: 20 }, "character varying(20)"])
    assert.deepStrictEqual(resolve(Oid.timestamptz, 3), [
      { _tag: "Timestamp", utc: true },
      "timestamp(3) with time zone"
    ])
    assert.deepStrictEqual(resolve(1231, (12 << 16 | 2) + 4), [
      { _tag: "Array", element: { _tag: "Decimal", precision: 12, scale: 2 } },
      "numeric(12,2)[]"
    ])
  })

  it("takes domains as their base, enums as text, and anything else as other", () => {
    assert.deepStrictEqual(resolve(50001), [{ _tag: "Text", maxLength: undefined }, "mood"])
    assert.deepStrictEqual(resolve(50002), [{ _tag: "Decimal", precision: 10, scale: 2 }, "shop.\"Price\""])
    assert.deepStrictEqual(resolve(50003), [{ _tag: "Decimal", precision: 10, scale: 2 }, "net_price"])
    assert.deepStrictEqual(resolve(50004), [
      { _tag: "Array", element: { _tag: "Text", maxLength: undefined } },
      "mood[]"
    ])
    assert.deepStrictEqual(resolve(50005), [{ _tag: "Other" }, "loop"])
    assert.deepStrictEqual(resolve(99999), [{ _tag: "Other" }, "type with OID 99999"])
  })
})
