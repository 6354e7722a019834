/**
 * The expression language's types and functions, beyond what the library brings: timestamps with microseconds, exact decimals, regular expressions in linear time.
 *
 * The library's own timestamps are JavaScript's `Date`s, which lose microseconds, and its `matches` is JavaScript's, which can take exponential time; the
 * dialect (`Dialect`) has expressions use these instead.
 */
import { Environment } from "@marcbachmann/cel-js"
import { Duration } from "@marcbachmann/cel-js/evaluator"
import { RE2JS } from "re2js"
import * as Calendar from "../Calendar.ts"
import { DecimalNumber } from "../DecimalNumber.ts"
import { Instant } from "../Instant.ts"

/** What the dialect writes in place of `timestamp`, `matches` and `decimal`. */
export const timestampFunction = "instant__"
export const matchesFunction = "matches__"

/** An error of a function, without the value that it was given. */
const refuse = (what: string): never => {
  throw new Error(what)
}

const finite = (instant: Instant): Instant => instant.isFinite ? instant : refuse("infinite timestamp")

const day = (instant: Instant): number => Calendar.split(finite(instant).micros)[0]
const within = (instant: Instant): number => Calendar.split(finite(instant).micros)[1]

const earliest = Calendar.microsOfDay(Calendar.dayOf(-4713, 1, 1))
const latest = Calendar.microsOfDay(Calendar.dayOf(294_277, 1, 1))

const instant = (micros: bigint): Instant =>
  micros >= earliest && micros < latest ? new Instant(micros) : refuse("timestamp out of range")

const microsOf = (duration: Duration): bigint => {
  const nanos = BigInt(duration.nanos)
  if (nanos % 1000n !== 0n) refuse("duration finer than a microsecond")
  return BigInt(duration.seconds) * Calendar.microsPerSecond + nanos / 1000n
}

/** A duration of so many microseconds. */
export const durationOf = (micros: bigint): Duration => {
  const seconds = micros / Calendar.microsPerSecond
  return new Duration(seconds, Number(micros % Calendar.microsPerSecond) * 1000)
}

const number = (value: DecimalNumber | undefined): DecimalNumber => value ?? refuse("no decimal number")

/** Patterns are literals, so there are few. */
const patterns = new Map<string, RE2JS>()

/** A pattern's matcher; throws when it is none. */
export const pattern = (text: string): RE2JS => {
  const known = patterns.get(text)
  if (known !== undefined) return known
  const compiled = RE2JS.compile(text)
  if (patterns.size < 1000) patterns.set(text, compiled)
  return compiled
}

const comparisons: Readonly<Record<string, (order: number) => boolean>> = {
  "<": (order) => order < 0,
  "<=": (order) => order <= 0,
  ">": (order) => order > 0,
  ">=": (order) => order >= 0
}

const order = (a: bigint, b: bigint): number => a < b ? -1 : a > b ? 1 : 0

const withTimestamps = (environment: Environment): Environment => {
  environment.registerType("timestamp", Instant)
  for (const [operator, holds] of Object.entries(comparisons)) {
    environment.registerOperator(
      `timestamp ${operator} timestamp`,
      (a: Instant, b: Instant) => holds(order(a.micros, b.micros))
    )
  }
  return environment
    .registerOperator("timestamp == timestamp", (a: Instant, b: Instant) => a.micros === b.micros)
    .registerOperator(
      "timestamp - timestamp: google.protobuf.Duration",
      (a: Instant, b: Instant) => durationOf(finite(a).micros - finite(b).micros)
    )
    .registerOperator(
      "timestamp + google.protobuf.Duration: timestamp",
      (a: Instant, b: Duration) => instant(finite(a).micros + microsOf(b))
    )
    .registerOperator(
      "timestamp - google.protobuf.Duration: timestamp",
      (a: Instant, b: Duration) => instant(finite(a).micros - microsOf(b))
    )
    .registerFunction(
      `${timestampFunction}(string): timestamp`,
      (text: string) => new Instant(Calendar.parseTimestamp(text, true) ?? refuse("no timestamp with a time zone"))
    )
    .registerFunction(`${timestampFunction}(int): timestamp`, (seconds: bigint) => instant(seconds * 1_000_000n))
    .registerFunction(`${timestampFunction}(timestamp): timestamp`, (same: Instant) => same)
    .registerFunction("string(timestamp): string", (value: Instant) => value.toString())
    .registerFunction("timestamp.getFullYear(): int", (value: Instant) => BigInt(Calendar.civil(day(value))[0]))
    .registerFunction("timestamp.getMonth(): int", (value: Instant) => BigInt(Calendar.civil(day(value))[1] - 1))
    .registerFunction("timestamp.getDate(): int", (value: Instant) => BigInt(Calendar.civil(day(value))[2]))
    .registerFunction("timestamp.getDayOfMonth(): int", (value: Instant) => BigInt(Calendar.civil(day(value))[2] - 1))
    .registerFunction(
      "timestamp.getDayOfYear(): int",
      (value: Instant) => BigInt(day(value) - Calendar.dayOf(Calendar.civil(day(value))[0], 1, 1))
    )
    // The first of January 1970 was a Thursday; Sunday is 0.
    .registerFunction("timestamp.getDayOfWeek(): int", (value: Instant) => BigInt((((day(value) + 4) % 7) + 7) % 7))
    .registerFunction("timestamp.getHours(): int", (value: Instant) => BigInt(Math.floor(within(value) / 3.6e9)))
    .registerFunction("timestamp.getMinutes(): int", (value: Instant) => BigInt(Math.floor(within(value) / 6e7) % 60))
    .registerFunction("timestamp.getSeconds(): int", (value: Instant) => BigInt(Math.floor(within(value) / 1e6) % 60))
    .registerFunction(
      "timestamp.getMilliseconds(): int",
      (value: Instant) => BigInt(Math.floor(within(value) / 1000) % 1000)
    )
}

const withDecimals = (environment: Environment): Environment => {
  environment.registerType("decimal", DecimalNumber)
  const compare = DecimalNumber.compare
  const ofInt = (value: bigint): DecimalNumber => DecimalNumber.of(value)
  for (const [operator, holds] of Object.entries(comparisons)) {
    environment
      .registerOperator(
        `decimal ${operator} decimal`,
        (a: DecimalNumber, b: DecimalNumber) => holds(compare(a, b))
      )
      .registerOperator(`decimal ${operator} int`, (a: DecimalNumber, b: bigint) => holds(compare(a, ofInt(b))))
      .registerOperator(`int ${operator} decimal`, (a: bigint, b: DecimalNumber) => holds(compare(ofInt(a), b)))
  }
  return environment
    .registerOperator("decimal == decimal", (a: DecimalNumber, b: DecimalNumber) => a.equals(b))
    .registerOperator("decimal == int", (a: DecimalNumber, b: bigint) => a.equals(ofInt(b)))
    .registerOperator("-decimal", (a: DecimalNumber) => a.negated())
    .registerOperator("decimal + decimal", (a: DecimalNumber, b: DecimalNumber) => a.plus(b))
    .registerOperator("decimal - decimal", (a: DecimalNumber, b: DecimalNumber) => a.plus(b.negated()))
    .registerOperator("decimal * decimal", (a: DecimalNumber, b: DecimalNumber) => a.times(b))
    .registerOperator("decimal + int", (a: DecimalNumber, b: bigint) => a.plus(ofInt(b)))
    .registerOperator("decimal - int", (a: DecimalNumber, b: bigint) => a.plus(ofInt(-b)))
    .registerOperator("decimal * int", (a: DecimalNumber, b: bigint) => a.times(ofInt(b)))
    .registerOperator("int + decimal: decimal", (a: bigint, b: DecimalNumber) => ofInt(a).plus(b))
    .registerOperator("int - decimal: decimal", (a: bigint, b: DecimalNumber) => ofInt(a).plus(b.negated()))
    .registerOperator("int * decimal: decimal", (a: bigint, b: DecimalNumber) => ofInt(a).times(b))
    .registerFunction("decimal(string): decimal", (text: string) => number(DecimalNumber.parse(text)))
    .registerFunction("decimal(int): decimal", ofInt)
    .registerFunction("decimal(double): decimal", (value: number) => number(DecimalNumber.fromDouble(value)))
    .registerFunction("decimal(decimal): decimal", (same: DecimalNumber) => same)
    .registerFunction("string(decimal): string", (value: DecimalNumber) => value.toString())
    .registerFunction("double(decimal): double", (value: DecimalNumber) => value.toNumber())
    .registerFunction("int(decimal): int", (value: DecimalNumber) => {
      const integer = value.integer() ?? refuse("no integer")
      return BigInt.asIntN(64, integer) === integer ? integer : refuse("integer out of range")
    })
}

/** JSON whose reviver is given the text of each value. */
const exactJson = JSON as unknown as { // Node 22 has it; the compiler's library doesn't know it yet
  readonly parse: (
    text: string,
    reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown
  ) => unknown
}

/** Doubles hold every number of fifteen digits, so JSON without such text is read the fast way. */
const longNumber = /[\d.]{16}|\d[eE]/

/** A number of JSON as a double where that is the number that was written, else as an int or a decimal: never as another number. */
const jsonNumber = (value: number, source: string): number | bigint | DecimalNumber => {
  if (String(value) === source) return value
  const exact = number(DecimalNumber.parse(source))
  if (DecimalNumber.fromDouble(value)?.equals(exact) === true) return value
  const integer = exact.integer()
  return integer !== undefined && BigInt.asIntN(64, integer) === integer ? integer : exact
}

/** Limits of one expression: far above what people write by hand, and low enough that none takes noticeable time to compile. */
const limits = { maxAstNodes: 5000, maxDepth: 64, maxListElements: 1000, maxMapEntries: 200, maxCallArguments: 16 }

/** What all expressions can use; the columns of a table are added to a clone. */
export const base: Environment = withDecimals(withTimestamps(
  new Environment({ limits })
    .registerFunction(
      `string.${matchesFunction}(string): bool`,
      (text: string, literal: string) => pattern(literal).matcher(text).find()
    )
    .registerFunction("json(string): dyn", (text: string): unknown => {
      try { // The parser's error would quote the value.
        if (!longNumber.test(text)) return JSON.parse(text)
        return exactJson.parse(
          text,
          (_, value, { source }) =>
            typeof value === "number" && source !== undefined ? jsonNumber(value, source) : value
        )
      } catch {
        return refuse("no JSON")
      }
    })
))

/** Names that stand for something without being columns, such as types. */
export const reserved: ReadonlySet<string> = new Set(base.getDefinitions().variables.map(({ name }) => name))
