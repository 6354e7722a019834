/**
 * Single values between JavaScript and Arrow columns: what `RowView` reads by, and what row-wise sources and transforms write by.
 *
 * Every value is checked as it is written. What is wrong with one is told without the value.
 */
import type * as Arrow from "apache-arrow"
import type { Value } from "./Column.ts"
import * as ColumnBuilder from "./ColumnBuilder.ts"
import { arrowType, type LogicalType } from "./LogicalType.ts"
import type { ColumnSchema } from "./TableSchema.ts"

/** The value of a row; null for NULL. */
export type Reader = (row: number) => Value | null

// A byte order mark is part of a text as any other character.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })
const encoder = new TextEncoder()

const readerOfValid = (data: Arrow.Data, type: LogicalType): (row: number) => Value => {
  switch (type._tag) {
    case "Boolean": {
      const bits = data.values as Uint8Array // Bool columns are bitmaps
      return (row) => ((bits[row >> 3] as number) >> (row & 7) & 1) === 1 // in range
    }
    case "Int16":
    case "Int32":
    case "Float32":
    case "Float64":
    case "Date": {
      const numbers = data.values as Float64Array // or another typed array of numbers
      return (row) => numbers[row] as number // in range
    }
    case "Int64":
    case "Time":
    case "Timestamp": {
      const numbers = data.values as BigInt64Array // 64-bit columns are built over it
      return (row) => numbers[row] as bigint // in range
    }
    case "Binary": {
      const bytes = data.values as Uint8Array // Binary columns hold bytes
      const offsets = data.valueOffsets
      return (row) => bytes.subarray(offsets[row], offsets[row + 1])
    }
    case "Decimal":
    case "Text":
    case "Uuid":
    case "Json":
    case "Array":
    case "Interval":
    case "Other": {
      const bytes = data.values as Uint8Array // Utf8 columns hold bytes
      const offsets = data.valueOffsets
      return (row) => decoder.decode(bytes.subarray(offsets[row], offsets[row + 1]))
    }
  }
}

/** Whether a row of a column is not null. */
export const isValid = (data: Arrow.Data, row: number): boolean =>
  data.nullCount === 0 || (((data.nullBitmap[row >> 3] ?? 0) >> (row & 7)) & 1) === 1

/** Reads a column of a batch. */
export const reader = (data: Arrow.Data, type: LogicalType): Reader => {
  const read = readerOfValid(data, type)
  return data.nullCount === 0 ? read : (row) => isValid(data, row) ? read(row) : null
}

/** Appends a value to a column; what is wrong with it when it is none of the column's, for which nothing was appended. */
export type Writer = (value: unknown) => string | undefined

const kind = (value: unknown): string =>
  value === undefined
    ? "missing"
    : value === null
    ? "NULL"
    : `a ${value instanceof Uint8Array ? "Uint8Array" : typeof value}`

const expected = (value: unknown, what: string): string => `is ${kind(value)}, where ${what} belongs`

const appendBigint = (builder: ColumnBuilder.Int64Column, value: bigint): void => {
  builder.append(Number(BigInt.asIntN(32, value >> 32n)), Number(BigInt.asIntN(32, value)))
}

const appendText = (builder: ColumnBuilder.BytesColumn, value: string): void => {
  // The most that it can take, unless it is long enough to look first.
  const at = builder.reserve(value.length < 4096 ? value.length * 3 : Buffer.byteLength(value))
  builder.commit(at + encoder.encodeInto(value, builder.target.subarray(at)).written)
}

/** Checks a text; undefined when it is one of the column's. */
type Check = (value: string) => string | undefined

const decimalText = /^-?(\d+)(?:\.(\d+))?$/

const decimalCheck = (precision: number | undefined, scale: number | undefined): Check => (value) => {
  const match = decimalText.exec(value)
  if (match === null) {
    if (value === "NaN") return undefined
    const isInfinite = value === "Infinity" || value === "-Infinity"
    return isInfinite && precision === undefined ? undefined : "isn't decimal text such as -12.50"
  }
  if (precision === undefined) return undefined
  const [, whole = "", fraction = ""] = match
  const fits = whole.replace(/^0+/, "").length <= precision - (scale ?? 0) &&
    fraction.replace(/0+$/, "").length <= (scale ?? 0)
  return fits ? undefined : `has more digits than decimal(${precision},${scale ?? 0}) holds`
}

const codePoints = (value: string): number => {
  let count = 0
  for (const _ of value) count++
  return count
}

const textCheck = (maxLength: number | undefined): Check => (value) =>
  maxLength === undefined || value.length <= maxLength || codePoints(value) <= maxLength
    ? undefined
    : `has more than ${maxLength} characters`

const jsonCheck: Check = (value) => {
  try {
    JSON.parse(value)
    return undefined
  } catch {
    return "isn't JSON text"
  }
}

const uuidText = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

const anyText: Check = () => undefined

const textWriter = (builder: ColumnBuilder.BytesColumn, check: Check, change?: (value: string) => string): Writer =>
(
  value
) => {
  if (typeof value !== "string") return expected(value, "a string")
  if (!value.isWellFormed()) return "is text with half of a surrogate pair, which UTF-8 can't hold"
  const problem = check(value)
  if (problem === undefined) appendText(builder, change === undefined ? value : change(value))
  return problem
}

const bigintWriter = (builder: ColumnBuilder.Int64Column, low: bigint, high: bigint, range: string): Writer =>
(
  value
) => {
  if (typeof value !== "bigint") return expected(value, "a bigint")
  if (value < low || value > high) return `is out of range: ${range}`
  appendBigint(builder, value)
  return undefined
}

/** A builder of numbers of at most 53 bits. */
type Numbers = { readonly append: (value: number) => void }

const integerWriter = (builder: Numbers, low: number, high: number): Writer => (value) => {
  if (typeof value !== "number") return expected(value, "a number")
  if (!Number.isInteger(value)) return "isn't an integer"
  if (value < low || value > high) return `is out of range: ${low} to ${high}`
  builder.append(value)
  return undefined
}

const floatWriter = (builder: Numbers, largest: number): Writer => (value) => {
  if (typeof value !== "number") return expected(value, "a number")
  if (Number.isFinite(value) && Math.abs(value) > largest) return "is out of range of a float32"
  builder.append(value)
  return undefined
}

const largestFloat32 = 3.4028235677973366e38
const int64 = { low: -(1n << 63n), high: (1n << 63n) - 1n }
const dayMicros = 86_400_000_000n

const writerOfValues = (builder: ColumnBuilder.ColumnBuilder, type: LogicalType): Writer => {
  // `ColumnBuilder.make` makes this builder for the type, as the check in `make` below has it.
  const bytes = builder as ColumnBuilder.BytesColumn
  const wide = builder as ColumnBuilder.Int64Column
  const numbers = builder as Numbers
  switch (type._tag) {
    case "Boolean": {
      const booleans = builder as ColumnBuilder.BoolColumn // the same
      return (value) => {
        if (typeof value !== "boolean") return expected(value, "a boolean")
        booleans.append(value)
        return undefined
      }
    }
    case "Int16":
      return integerWriter(numbers, -0x8000, 0x7fff)
    case "Int32":
    case "Date":
      return integerWriter(numbers, -0x80000000, 0x7fffffff)
    case "Float32":
      return floatWriter(numbers, largestFloat32)
    case "Float64":
      return floatWriter(numbers, Infinity)
    case "Int64":
    case "Timestamp":
      return bigintWriter(wide, int64.low, int64.high, "64 bits")
    case "Time":
      return bigintWriter(wide, 0n, dayMicros, "microseconds of one day")
    case "Binary":
      return (value) => {
        if (!(value instanceof Uint8Array)) return expected(value, "a Uint8Array")
        bytes.append(value, 0, value.length)
        return undefined
      }
    case "Decimal":
      return textWriter(bytes, decimalCheck(type.precision, type.scale))
    case "Text":
      return textWriter(bytes, textCheck(type.maxLength))
    case "Uuid":
      return textWriter(
        bytes,
        (value) => uuidText.test(value) ? undefined : "isn't a UUID of 36 characters",
        (value) => value.toLowerCase()
      )
    case "Json":
      return textWriter(bytes, jsonCheck)
    case "Array":
    case "Interval":
    case "Other":
      return textWriter(bytes, anyText)
  }
}

/** Writes values to a column's builder, which must be that of its type. */
export const writer = (builder: ColumnBuilder.ColumnBuilder, { nullable, type }: ColumnSchema): Writer => {
  const write = writerOfValues(builder, type)
  return (value) => {
    if (value !== null) return write(value)
    if (!nullable) return "is NULL, which the column doesn't take"
    builder.appendNull()
    return undefined
  }
}

/** A column of a table under construction, and its writer. */
export const column = (schema: ColumnSchema) => {
  const builder = ColumnBuilder.make(arrowType(schema.type))
  return { builder, write: writer(builder, schema) }
}
