/**
 * Random values of every type that a column can have, as literals for the type's input function.
 *
 * Keyed by `typname`, so that a test can hold the keys against the server's `pg_type`: a type that PostgreSQL adds is missed
 * there and nowhere else. Types made of others (arrays, composites) get their literals from `arrayOf` and `compositeOf`.
 */
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as fc from "fast-check"
import { samples } from "./sampleValues.ts"

export interface TypeValues {
  /** What carries the type's values; see docs/types.md. */
  readonly carrier: LogicalType["_tag"]
  /** Values at the type's ends, which are always tried. */
  readonly edges: ReadonlyArray<string>
  /** Any values, the edges now and then. */
  readonly values: fc.Arbitrary<string>
}

const sampled = (name: string): fc.Arbitrary<string> => {
  const found = samples[name]
  if (found === undefined) throw new Error(`no samples of ${name}`)
  return found.values
}

const often = (edges: ReadonlyArray<string>, more: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.oneof({ weight: 1, arbitrary: fc.constantFrom(...edges) }, { weight: 3, arbitrary: more })

const uint32 = fc.integer({ min: 0, max: 0xffffffff })
const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const hex = (bytes: Uint8Array, separator: string): string =>
  [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(separator)
const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length })

/** Text with every kind of code point: controls, quotes, noncharacters, astral ones, joiners. */
export const texts: fc.Arbitrary<string> = fc.oneof(
  sampled("text"),
  fc.array(
    fc.oneof(
      fc.integer({ min: 1, max: 0x10ffff }).filter((point) => point < 0xd800 || point > 0xdfff),
      fc.constantFrom(
        1,
        8,
        9,
        10,
        13,
        0x1b,
        0x22,
        0x27,
        0x2c,
        0x5c,
        0x7b,
        0x7d,
        0x7f,
        0x85,
        0xa0,
        0xad,
        0xfeff,
        0xffff
      ),
      fc.constantFrom(0x200d, 0x2028, 0x202e, 0xfffd, 0xfffe, 0x1f468, 0x10fffe, 0x10ffff)
    ),
    { maxLength: 30 }
  ).map((points) => String.fromCodePoint(...points)),
  fc.constantFrom(
    "NULL",
    "\\N",
    "\\.",
    "{}",
    "()",
    "()()",
    ",",
    "''",
    "\"\"",
    "\r\n",
    "x".repeat(3000),
    "é".repeat(1500)
  )
)

const floats = sampled("float8")
const point = fc.tuple(floats, floats).map(([x, y]) => `(${x},${y})`)
const points = fc.array(point, { minLength: 1, maxLength: 5 }).map((list) => list.join(","))

const address4 = fc.tuple(bytes(4), fc.integer({ min: 0, max: 32 })).map(([address, length]) => ({
  address: BigInt(`0x${hex(address, "")}`),
  bits: 32,
  length
}))
const address6 = fc.tuple(
  fc.oneof(
    bytes(16),
    bytes(4).map((low) => Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...low])),
    bytes(2).map((low) => Uint8Array.from([...low, ...new Uint8Array(13), 1]))
  ),
  fc.integer({ min: 0, max: 128 })
).map(([address, length]) => ({ address: BigInt(`0x${hex(address, "")}`), bits: 128, length }))
const networks = fc.oneof(address4, address6)
const addressText = (address: bigint, bits: number): string =>
  bits === 32
    ? [24n, 16n, 8n, 0n].map((shift) => String((address >> shift) & 255n)).join(".")
    : address.toString(16).padStart(32, "0").replace(/(.{4})(?!$)/g, "$1:")

const moneys = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((cents) => {
  const digits = String(cents < 0n ? -cents : cents).padStart(3, "0")
  return `${cents < 0n ? "-" : ""}${digits.slice(0, -2)}.${digits.slice(-2)}`
})

const offsets = fc.integer({ min: -57_599, max: 57_599 }).map((seconds) => {
  const size = Math.abs(seconds)
  const part = (value: number): string => String(Math.floor(value)).padStart(2, "0")
  return `${seconds < 0 ? "-" : "+"}${part(size / 3600)}:${part(size / 60 % 60)}:${part(size % 60)}`
})

/** `infinity` came with PostgreSQL 17. */
const endlessIntervals = EmbeddedPostgres.version >= 17 ? ["infinity", "-infinity"] : []
/** Before PostgreSQL 15 the input function overflows earlier than the type. */
const hours = EmbeddedPostgres.version >= 15 ? "2562047788:00:54.775807" : "2147483647:59:59.999999"
const intervalEdges = [
  "0",
  "178000000 years",
  "-178000000 years",
  "2147483647 days",
  "-2147483648 days",
  hours,
  `-${hours}`,
  "1 year -1 month 1 day -00:00:00.000001",
  ...endlessIntervals
]
const intervals = fc.tuple(fc.integer({ min: -99_999, max: 99_999 }), fc.integer(), fc.integer()).map((
  [months, days, micros]
) => `${months} months ${days} days ${micros} microseconds`)

const numericEdges = [
  "NaN",
  "Infinity",
  "-Infinity",
  "1e131071",
  "-1e-16383",
  `0.${"0".repeat(300)}1`,
  "0.00000",
  "-0.0",
  "9".repeat(200)
]

const words = fc.oneof(fc.stringMatching(/^[a-z]{1,8}$/), texts.map((text) => text.slice(0, 20).toWellFormed())).filter(
  (text) => text !== ""
)
const lexeme = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`
const positions = fc.array(
  fc.tuple(fc.integer({ min: 1, max: 16383 }), fc.constantFrom("", "A", "B", "C")),
  { maxLength: 4 }
).map((list) => list.length === 0 ? "" : `:${list.map((entry) => entry.join("")).join(",")}`)

const queries: fc.Arbitrary<string> = fc.letrec<{ query: string; leaf: string }>((tie) => ({
  leaf: fc.tuple(words, fc.constantFrom("", ":*", ":A", ":BC*")).map(([word, flags]) => lexeme(word) + flags),
  query: fc.oneof(
    { depthSize: "small" },
    tie("leaf"),
    fc.tuple(tie("query"), fc.constantFrom("&", "|", "<->", "<3>"), tie("query")).map(([a, op, b]) =>
      `(${a} ${op} ${b})`
    ),
    tie("query").map((query) => `!(${query})`)
  )
})).query

/** Numbers of more digits than a double holds; `json` keeps their spelling, white space and repeated keys, too. */
const jsonNumbers = fc.constantFrom(
  "0.1000000000000000055511151231257827",
  "123456789012345678901234567890.12",
  "-0",
  "1.50"
)
const jsons = fc.oneof(
  sampled("json").filter((text) => !text.includes("\\u0000")),
  jsonNumbers,
  fc.tuple(texts, jsonNumbers).map(([text, number]) =>
    `{"a": ${JSON.stringify(text)}, "b": [${number}, null], "a": true}`
  ),
  fc.constantFrom(" [ ] ", "\t{\n}", "null", "\"\"", "\"\\ud83d\\ude00 \\u00e9\"")
)

const xmls = fc.oneof(
  texts.map((text) =>
    `<a b="c">${text.replaceAll(/[^\t\n\u0020-\ud7ff\ue000-\ufffd]/gu, "").replaceAll(/[<>&\r]/g, "")}</a>`
  ),
  fc.constantFrom(
    "",
    "text",
    "<a/><b/>",
    "<?xml version=\"1.0\"?><a>é</a>",
    "<!-- c --><a xmlns:x='u' x:y=\"1\"><![CDATA[<]]></a>"
  )
)

const snapshots = fc.tuple(
  fc.array(fc.integer({ min: 1, max: 1000 }), { maxLength: 5 }),
  fc.integer({ min: 1, max: 10 ** 9 })
)
  .map(([running, from]) => {
    const list = [...new Set(running)].sort((a, b) => a - b).map((step) => from + step)
    return `${from}:${from + 1001}:${list.join(",")}`
  })

const bit = (max: number): fc.Arbitrary<string> =>
  fc.array(fc.constantFrom("0", "1"), { maxLength: max }).map((list) => list.join(""))

const as = (
  carrier: LogicalType["_tag"],
  values: fc.Arbitrary<string>,
  edges: ReadonlyArray<string> = []
): TypeValues => ({ carrier, edges, values: edges.length === 0 ? values : often(edges, values) })
/** All the values that are tried. */
const listed = (values: ReadonlyArray<string>, carrier: LogicalType["_tag"] = "Other"): TypeValues =>
  as(carrier, fc.constantFrom(...values), values)
/** Up to the last year that fits into microseconds since 1970. */
const timestampEdges = ["infinity", "-infinity", "4714-11-24 00:00:00+00 BC", "294246-12-31 23:59:59.999999+00"]
const text = (values: fc.Arbitrary<string>, edges?: ReadonlyArray<string>): TypeValues => as("Text", values, edges)
const other = (values: fc.Arbitrary<string>, edges?: ReadonlyArray<string>): TypeValues => as("Other", values, edges)

/** A range's literal from bounds that are texts of numbers in order. */
const ranges = (bound: fc.Arbitrary<bigint>, print: (value: bigint) => string): fc.Arbitrary<string> => {
  const end = fc.option(bound, { freq: 6 })
  return fc.tuple(end, end, fc.constantFrom("[", "("), fc.constantFrom("]", ")")).map(([a, b, open, close]) => {
    const [low, high] = a !== null && b !== null && a > b ? [b, a] : [a, b]
    const quoted = (value: bigint | null): string => value === null ? "" : `"${print(value)}"`
    return `${open}${quoted(low)},${quoted(high)}${close}`
  })
}

const bigs = (limit: bigint): fc.Arbitrary<bigint> => fc.bigInt({ min: -limit, max: limit })
const instant = (micros: bigint): string => {
  const rest = (micros % 1_000_000n + 1_000_000n) % 1_000_000n
  const whole = new Date(Number((micros - rest) / 1000n)).toISOString().slice(0, 19).replace("T", " ")
  return `${whole}.${String(rest).padStart(6, "0")}`
}
/** From 1653 to 2286, so that years have four digits. */
const instants = bigs(10n ** 16n)

const rangeValues: Readonly<Record<string, fc.Arbitrary<string>>> = {
  int4: ranges(bigs(2n ** 31n - 2n), String),
  int8: ranges(bigs(2n ** 63n - 2n), String),
  num: ranges(bigs(10n ** 40n), (value) => `${value}.50`),
  date: ranges(bigs(100_000n), (value) => new Date(Number(value) * 86_400_000).toISOString().slice(0, 10)),
  ts: ranges(instants, instant),
  tstz: ranges(instants, (value) => `${instant(value)}+00`)
}

const rangeTypes: Readonly<Record<string, TypeValues>> = Object.fromEntries(
  Object.entries(rangeValues).flatMap(([name, values]) => [
    [`${name}range`, other(values, ["empty", "(,)"])],
    [
      `${name}multirange`,
      other(fc.array(values, { maxLength: 4 }).map((list) => `{${list.join(",")}}`), ["{}", "{(,)}", "{empty}"])
    ]
  ])
)

/** Base, range and multirange types of `pg_catalog`. */
export const builtIn: Readonly<Record<string, TypeValues>> = {
  bool: as("Boolean", sampled("bool")),
  bytea: as("Binary", sampled("bytea")),
  // Without bytes beyond ASCII: how they are written depends on the version, and has a test of its own.
  char: listed(["", "a", " ", "\"", "\\", ",", "{", "'", "\u0001", "\u007f"], "Text"),
  name: text(sampled("name"), ["", "a b", "\"", "é".repeat(31)]),
  int8: as("Int64", sampled("int8"), ["-9223372036854775808", "9223372036854775807", "0"]),
  int2: as("Int16", sampled("int2"), ["-32768", "32767", "0"]),
  int4: as("Int32", sampled("int4"), ["-2147483648", "2147483647", "0"]),
  int2vector: other(fc.array(sampled("int2"), { maxLength: 5 }).map((list) => list.join(" "))),
  oidvector: other(fc.array(uint32, { maxLength: 5 }).map((list) => list.join(" "))),
  regproc: listed(["array_in", "-", "4294967295", "round_trip.\"Odd, fn\""]),
  regprocedure: listed(["abs(integer)", "now()", "-", "4294967295", "round_trip.\"Odd, fn\"(integer)"]),
  regoper: listed(["||/", "0", "4294967295"]),
  regoperator: listed(["+(integer,integer)", "-(NONE,integer)", "0"]),
  regclass: listed(["pg_class", "-", "4294967295", "round_trip.\"Odd, table\""]),
  regcollation: listed(["\"C\"", "\"POSIX\"", "-", "4294967295"]),
  regtype: listed(["integer", "timestamp with time zone[]", "\"char\"", "-", "round_trip.\"Odd, mood\""]),
  regrole: listed(["postgres", "-", "4294967295"]),
  regnamespace: listed(["pg_catalog", "round_trip", "-"]),
  regconfig: listed(["english", "simple", "-"]),
  regdictionary: listed(["simple", "english_stem", "-"]),
  text: text(texts),
  bpchar: text(texts),
  varchar: text(texts),
  oid: other(uint32.map(String)),
  xid: other(uint32.map(String)),
  cid: other(uint32.map(String)),
  xid8: other(uint64.map(String)),
  tid: other(fc.tuple(uint32, fc.integer({ min: 0, max: 65535 })).map(([page, item]) => `(${page},${item})`)),
  json: as("Json", jsons),
  jsonb: as("Json", jsons),
  jsonpath: listed(["$", "strict $.a[*] ? (@.b > 1.50)", "$.\"ü \\\"q\\\"\"", "$.a.size() + 2"]),
  xml: other(xmls),
  point: other(point),
  lseg: other(fc.tuple(point, point).map(([a, b]) => `[${a},${b}]`)),
  path: other(fc.tuple(points, fc.boolean()).map(([list, open]) => open ? `[${list}]` : `(${list})`)),
  box: other(fc.tuple(point, point).map(([a, b]) => `${a},${b}`)),
  polygon: other(points.map((list) => `(${list})`)),
  line: other(fc.tuple(fc.integer({ min: 1 }), floats, floats).map((coefficients) => `{${coefficients.join(",")}}`)),
  circle: other(
    fc.tuple(point, floats.map((value) => value.replace(/^-/, ""))).map(([at, radius]) => `<${at},${radius}>`)
  ),
  float4: as("Float32", sampled("float4"), [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e-45",
    "-0",
    "3.4028235e38",
    "1.1754944e-38"
  ]),
  float8: as("Float64", floats, [
    "NaN",
    "Infinity",
    "-Infinity",
    "5e-324",
    "-0",
    "1.7976931348623157e308",
    "2.2250738585072009e-308"
  ]),
  money: other(moneys, ["-92233720368547758.08", "92233720368547758.07"]),
  macaddr: other(bytes(6).map((address) => hex(address, ":"))),
  macaddr8: other(bytes(8).map((address) => hex(address, ":"))),
  inet: other(
    fc.tuple(networks, fc.boolean()).map(([{ address, bits, length }, whole]) =>
      addressText(address, bits) + (whole ? "" : `/${length}`)
    )
  ),
  cidr: other(networks.map(({ address, bits, length }) => {
    const rest = BigInt(bits - length)
    return `${addressText((address >> rest) << rest, bits)}/${length}`
  })),
  aclitem: listed(["postgres=r/postgres", "=X/postgres", "postgres=ar*w*d/postgres", "postgres=/postgres"]),
  date: as("Date", sampled("date"), ["infinity", "-infinity", "4714-11-24 BC", "5874897-12-31"]),
  time: as("Time", sampled("time"), ["24:00:00", "00:00:00", "23:59:59.999999"]),
  timestamp: as("Timestamp", sampled("timestamp"), timestampEdges),
  timestamptz: as(
    "Timestamp",
    fc.oneof(sampled("timestamptz"), offsets.map((offset) => `2024-06-30 23:59:59.999999${offset}`)),
    timestampEdges
  ),
  interval: as("Interval", intervals, intervalEdges),
  timetz: other(fc.tuple(sampled("time"), offsets).map((parts) => parts.join("")), [
    "24:00:00-15:59:59",
    "00:00:00+15:59:59",
    "24:00:00+00"
  ]),
  bit: listed(["0", "1"]),
  varbit: other(bit(80)),
  numeric: as("Decimal", sampled("numeric"), numericEdges),
  refcursor: other(texts),
  uuid: as("Uuid", sampled("uuid")),
  pg_lsn: other(fc.tuple(uint32, uint32).map(([high, low]) => `${high.toString(16)}/${low.toString(16)}`)),
  tsvector: other(
    fc.array(fc.tuple(words, positions), { maxLength: 5 }).map((list) =>
      list.map(([word, where]) => lexeme(word) + where).join(" ")
    )
  ),
  tsquery: other(fc.oneof(queries, fc.constant(""))),
  txid_snapshot: other(snapshots),
  pg_snapshot: other(snapshots),
  ...rangeTypes
}

/** Types whose input functions refuse everything, but of which the server makes values itself: expressions that give one. */
export const madeByServer: Readonly<Record<string, string>> = {
  pg_node_tree: "(SELECT adbin FROM pg_catalog.pg_attrdef LIMIT 1)",
  pg_ndistinct: "(SELECT stxdndistinct FROM pg_catalog.pg_statistic_ext_data LIMIT 1)",
  pg_dependencies: "(SELECT stxddependencies FROM pg_catalog.pg_statistic_ext_data LIMIT 1)",
  pg_mcv_list: "(SELECT stxdmcv FROM pg_catalog.pg_statistic_ext_data LIMIT 1)"
}

/** Types of which no column can hold a value, and why. */
export const withoutValues: Readonly<Record<string, string>> = {
  gtsvector: "keys of GiST indexes only: its input function refuses everything, and no query returns one",
  pg_brin_bloom_summary: "summaries within BRIN indexes only: its input function refuses everything",
  pg_brin_minmax_multi_summary: "summaries within BRIN indexes only: its input function refuses everything"
}

/** Types with modifiers, enough to have every modifier's rounding, padding and cutting. */
export const modified: Readonly<Record<string, TypeValues>> = {
  "varchar(100)": text(sampled("varchar(100)")),
  "char(70)": text(sampled("char(70)")),
  "numeric(38,10)": as("Decimal", sampled("numeric(38,10)")),
  "numeric(1000,900)": listed(["NaN", `0.${"1234567890".repeat(90)}`, "-1"], "Decimal"),
  // Scales below zero, and above the precision, came with PostgreSQL 15.
  ...(EmbeddedPostgres.version >= 15
    ? {
      "numeric(5,-2)": as("Decimal", fc.integer({ min: -9_999_949, max: 9_999_949 }).map(String)),
      "numeric(3,5)": as("Decimal", fc.integer({ min: -999, max: 999 }).map((value) => `${value}e-5`))
    }
    : {}),
  "bit(9)": other(fc.array(fc.constantFrom("0", "1"), { minLength: 9, maxLength: 9 }).map((list) => list.join(""))),
  "bit varying(20)": other(bit(20)),
  "time(3)": as("Time", sampled("time")),
  "timestamp(0)": as("Timestamp", sampled("timestamp")),
  "timestamptz(2)": as("Timestamp", sampled("timestamptz")),
  "timetz(1)": other(sampled("timetz")),
  "interval day to second(3)": as("Interval", sampled("interval")),
  "interval year to month": as("Interval", sampled("interval"))
}

/** Types of PostgreSQL's own extensions. */
export const fromExtensions: Readonly<Record<string, TypeValues>> = {
  citext: other(texts),
  hstore: other(
    fc.dictionary(texts.filter((key) => key !== ""), fc.option(texts), { maxKeys: 4 }).map((entries) =>
      Object.entries(entries).map(([key, value]) => {
        const quoted = (part: string): string => `"${part.replaceAll("\\", "\\\\").replaceAll("\"", "\\\"")}"`
        return `${quoted(key)}=>${value === null ? "NULL" : quoted(value)}`
      }).join(", ")
    )
  ),
  ltree: other(fc.array(fc.stringMatching(/^[A-Za-z0-9_]{1,9}$/), { maxLength: 6 }).map((labels) => labels.join("."))),
  lquery: listed(["Top.*{1,2}.Sci@|Art*", "*", "!a.b%"]),
  ltxtquery: listed(["Europe & !Russia*@", "a | (b & c)"]),
  cube: listed(["(1,2),(3,4.5)", "(1e-300)", "(NaN,0)", "(1,2,3)"]),
  seg: listed(["1.50 .. 2", "~6.25", "<5", "1e3 .. "]),
  isbn13: listed(["978-0-393-04002-9", "9780306406157"])
}

const element = (value: string): string => `"${value.replaceAll("\\", "\\\\").replaceAll("\"", "\\\"")}"`

/** The literal of an array of one dimension. */
export const arrayLiteral = (values: ReadonlyArray<string>, delimiter: string): string =>
  `{${values.map(element).join(delimiter)}}`

/** An array's literal: up to three dimensions, NULLs, and lower bounds of its own now and then. */
export const arrayOf = (values: fc.Arbitrary<string>, delimiter = ","): fc.Arbitrary<string> =>
  fc.tuple(
    fc.oneof(
      fc.tuple(fc.integer({ min: 0, max: 6 })),
      fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 2, maxLength: 3 })
    ),
    fc.option(fc.integer({ min: -3, max: 3 }), { freq: 4 }),
    fc.infiniteStream(fc.option(values, { freq: 5 }))
  ).map(([dimensions, lower, stream]) => {
    if (dimensions.includes(0)) return "{}"
    const elements = stream[Symbol.iterator]()
    const list = ([length = 0, ...inner]: ReadonlyArray<number>): string =>
      `{${
        Array.from({ length }, () => {
          if (inner.length > 0) return list(inner)
          const value: string | null = elements.next().value
          return value === null ? "NULL" : element(value)
        }).join(delimiter)
      }}`
    const bounds = lower === null ? "" : `${dimensions.map((length) => `[${lower}:${lower + length - 1}]`).join("")}=`
    return bounds + list(dimensions)
  })

/** A composite's literal, its fields of the given types in order, NULL now and then. */
export const compositeOf = (fields: ReadonlyArray<fc.Arbitrary<string>>): fc.Arbitrary<string> =>
  fc.tuple(...fields.map((field) => fc.option(field, { freq: 5 }))).map((values) =>
    `(${
      values.map((value) => value === null ? "" : `"${value.replaceAll("\\", "\\\\").replaceAll("\"", "\"\"")}"`).join(
        ","
      )
    })`
  )
