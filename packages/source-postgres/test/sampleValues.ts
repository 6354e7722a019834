/**
 * Random values of PostgreSQL's types as literals that the server accepts, their edge cases among them.
 */
import * as fc from "fast-check"

const two = (value: number): string => String(value).padStart(2, "0")

const dates = fc.oneof(
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      "infinity",
      "-infinity",
      "4714-11-24 BC",
      "0001-12-31 BC",
      "5874897-12-31",
      "10000-01-01"
    )
  },
  {
    weight: 6,
    arbitrary: fc.tuple(
      fc.integer({ min: 1, max: 12000 }),
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 1, max: 28 }),
      fc.boolean()
    )
      .map(([year, month, date, bc]) =>
        `${String(year).padStart(4, "0")}-${two(month)}-${two(date)}${bc && year < 4000 ? " BC" : ""}`
      )
  }
)

const clocks = fc.tuple(
  fc.integer({ min: 0, max: 23 }),
  fc.integer({ min: 0, max: 59 }),
  fc.integer({ min: 0, max: 59 }),
  fc.option(fc.integer({ min: 0, max: 999_999 }))
).map(([hours, minutes, seconds, micros]) =>
  `${two(hours)}:${two(minutes)}:${two(seconds)}${micros === null ? "" : `.${String(micros).padStart(6, "0")}`}`
)

const timestamps = (zone: string) =>
  fc.oneof(
    { weight: 1, arbitrary: fc.constantFrom("infinity", "-infinity") },
    {
      weight: 8,
      arbitrary: fc.tuple(dates.filter((text) => !text.includes("infinity") && !text.startsWith("5874897")), clocks)
        .map(
          ([date, clock]) => `${date.replace(" BC", "")} ${clock}${zone}${date.endsWith("BC") ? " BC" : ""}`
        )
    }
  )

const bits = fc.uint8Array({ minLength: 8, maxLength: 8 }).map((bytes) => new DataView(bytes.buffer, bytes.byteOffset))
const floatText = (value: number): string => Number.isNaN(value) ? "NaN" : Object.is(value, -0) ? "-0" : String(value)

const numerics = fc.oneof(
  { weight: 1, arbitrary: fc.constantFrom("NaN", "Infinity", "-Infinity", "0", "0.000", "1e100", "-1e-100") },
  {
    weight: 6,
    arbitrary: fc.tuple(fc.boolean(), fc.stringMatching(/^[0-9]{0,30}$/), fc.stringMatching(/^[0-9]{0,25}$/)).map(
      ([negative, whole, fraction]) => `${negative ? "-" : ""}${whole || "0"}${fraction === "" ? "" : `.${fraction}`}`
    )
  }
)

// NUL can't be stored, and lone surrogates are no text.
const texts = fc.oneof(
  fc.string({ unit: "binary", maxLength: 60 }).map((text) => text.replaceAll("\0", "").toWellFormed()),
  fc.constantFrom("", "null", "\\", "\"", "{a,b}", " padded ", "ü€😀")
)

/** Literals by type; `send` is the function that writes the type's binary format. */
export const samples: Readonly<
  Record<string, { readonly values: fc.Arbitrary<string>; readonly send: string | undefined }>
> = {
  bool: { values: fc.constantFrom("t", "f"), send: "boolsend" },
  int2: { values: fc.integer({ min: -32768, max: 32767 }).map(String), send: "int2send" },
  int4: { values: fc.integer().map(String), send: "int4send" },
  int8: {
    values: fc.tuple(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.integer({ min: 0, max: 62 })).map((
      [value, shift]
    ) => String(value >> BigInt(shift))),
    send: "int8send"
  },
  float4: { values: bits.map((view) => floatText(view.getFloat32(0))), send: "float4send" },
  float8: {
    values: fc.oneof(bits.map((view) => floatText(view.getFloat64(0))), fc.double().map(floatText)),
    send: "float8send"
  },
  numeric: { values: numerics, send: "numeric_send" },
  "numeric(38,10)": {
    values: fc.bigInt({ min: -(10n ** 27n), max: 10n ** 27n }).map((value) => `${value}.5`),
    send: "numeric_send"
  },
  text: { values: texts, send: "textsend" },
  "varchar(100)": { values: texts, send: "varcharsend" },
  "char(70)": { values: texts, send: "bpcharsend" },
  name: { values: fc.string({ maxLength: 20 }), send: "namesend" },
  bytea: {
    values: fc.uint8Array({ maxLength: 60 }).map((bytes) => `\\x${Buffer.from(bytes).toString("hex")}`),
    send: "byteasend"
  },
  uuid: { values: fc.uuid(), send: "uuid_send" },
  date: { values: dates, send: "date_send" },
  time: { values: fc.oneof(clocks, fc.constant("24:00:00")), send: "time_send" },
  timestamp: { values: timestamps(""), send: "timestamp_send" },
  timestamptz: { values: timestamps("+00"), send: "timestamptz_send" },
  json: { values: fc.json(), send: "json_send" },
  // jsonb has no \u0000, and refuses numbers beyond numeric.
  jsonb: { values: texts.map((text) => JSON.stringify({ text, list: [1, 2.5e10, null] })), send: "jsonb_send" },
  "int4[]": {
    values: fc.array(fc.option(fc.integer())).map((list) => `{${list.map((item) => item ?? "NULL").join(",")}}`),
    send: undefined
  },
  "text[]": { values: fc.constantFrom("{}", "{a,\"b c\",NULL}", "{{a,b},{c,d}}", "[2:3]={x,y}"), send: undefined },
  interval: {
    values: fc.tuple(fc.integer({ min: -9999, max: 9999 }), clocks).map(([days, clock]) => `${days} days ${clock}`),
    send: undefined
  },
  inet: { values: fc.ipV4(), send: undefined },
  int4range: {
    values: fc.tuple(fc.integer({ max: 0 }), fc.integer({ min: 1 })).map(([low, high]) => `[${low},${high})`),
    send: undefined
  },
  timetz: { values: clocks.map((clock) => `${clock}+02`), send: undefined },
  "\"char\"": { values: fc.constantFrom("", "a", "\\377"), send: "charsend" }
}
