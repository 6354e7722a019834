/**
 * Single values of columns: reading one from a row, and writing one to a column of another type without losing anything.
 *
 * For transforms that convert or compute values; those that copy or cut bytes work on the buffers.
 */
import * as ColumnBuilder from "@etl-stream/core/ColumnBuilder"
import {
  arrowType,
  dateInfinity,
  dateNegativeInfinity,
  type LogicalType,
  timestampInfinity,
  timestampNegativeInfinity
} from "@etl-stream/core/LogicalType"
import type * as Arrow from "apache-arrow"
import * as Calendar from "./Calendar.ts"
import { DecimalNumber } from "./DecimalNumber.ts"
import { Instant } from "./Instant.ts"

/** A value that is not NULL. Integers are bigints, decimals and text carriers strings, times microseconds (bigint) since midnight. */
export type CellValue = boolean | bigint | number | string | Uint8Array | Instant | DecimalNumber

const bytesOf = (data: Arrow.Data, row: number): Buffer => {
  const { valueOffsets } = data
  const values = data.values as Uint8Array // Utf8 and Binary columns hold bytes
  const start = valueOffsets[row] ?? 0
  return Buffer.from(values.buffer, values.byteOffset + start, (valueOffsets[row + 1] ?? start) - start)
}

/** Reads values of a column whose type is `type`; not to be asked for NULLs. */
export const reader = (type: LogicalType, data: Arrow.Data): (row: number) => CellValue => {
  switch (type._tag) {
    case "Boolean": {
      const bits = data.values as Uint8Array // a Bool column
      return (row) => ((bits[row >> 3] ?? 0) & (1 << (row & 7))) !== 0
    }
    case "Int16":
    case "Int32": {
      const numbers = data.values as Int32Array // or an Int16Array, whose elements are read alike
      return (row) => BigInt(numbers[row] ?? 0)
    }
    case "Float32":
    case "Float64": {
      const numbers = data.values as Float64Array // or a Float32Array, whose elements are read alike
      return (row) => numbers[row] ?? 0
    }
    case "Int64":
    case "Time": {
      const integers = data.values as BigInt64Array // 64-bit columns are built over BigInt64Array
      return (row) => integers[row] ?? 0n
    }
    case "Timestamp": {
      const integers = data.values as BigInt64Array // the same
      return (row) => new Instant(integers[row] ?? 0n)
    }
    case "Date": {
      const days = data.values as Int32Array // DateDay columns are built over Int32Array
      return (row) => {
        const day = days[row] ?? 0
        return new Instant(
          day === dateInfinity
            ? timestampInfinity
            : day === dateNegativeInfinity
            ? timestampNegativeInfinity
            : Calendar.microsOfDay(day)
        )
      }
    }
    case "Binary":
      return (row) => bytesOf(data, row)
    default:
      return (row) => bytesOf(data, row).toString("utf8")
  }
}

/** Whether a type's values are carried as UTF-8 text. */
export const isTextual = ({ _tag }: LogicalType): boolean => {
  switch (_tag) {
    case "Decimal":
    case "Text":
    case "Uuid":
    case "Json":
    case "Array":
    case "Interval":
    case "Other":
      return true
    default:
      return false
  }
}

/** Values of a column as text, the same for equal values: ISO 8601 for days and times, hexadecimal for bytes. Not to be asked for NULLs. */
export const textReader = (type: LogicalType, data: Arrow.Data): (row: number) => string => {
  const read = reader(type, data)
  switch (type._tag) {
    case "Date":
      return (row) => {
        const value = read(row) as Instant // dates are read as instants
        return value.isFinite ? Calendar.dateText(Calendar.split(value.micros)[0]) : value.toString()
      }
    case "Timestamp":
      return (row) => {
        const value = read(row) as Instant // timestamps are read as instants
        return value.isFinite ? Calendar.timestampText(value.micros, type.utc) : value.toString()
      }
    case "Time":
      return (row) => Calendar.timeText(Number(read(row)))
    case "Binary":
      return (row) => bytesOf(data, row).toString("hex")
    default:
      return (row) => String(read(row))
  }
}

/** A column that values are written to. */
export interface Writer {
  readonly builder: ColumnBuilder.ColumnBuilder
  /** Appends the value when the column can hold just that; false, with nothing appended, when it can't. */
  readonly append: (value: CellValue) => boolean
}

const integerOf = (value: CellValue): bigint | undefined => {
  switch (typeof value) {
    case "bigint":
      return value
    case "boolean":
      return value ? 1n : 0n
    case "number":
      return Number.isInteger(value) ? BigInt(value) : undefined
    case "string":
      // No exponent, fraction or spaces: what somebody wrote as an integer, or a decimal's text.
      return /^[+-]?\d{1,40}(?:\.0+)?$/.test(value) ? DecimalNumber.parse(value)?.integer() : undefined
    default:
      return value instanceof DecimalNumber ? value.integer() : undefined
  }
}

const decimalOf = (value: CellValue): DecimalNumber | undefined =>
  value instanceof DecimalNumber
    ? value
    : typeof value === "bigint"
    ? DecimalNumber.of(value)
    : typeof value === "number"
    ? DecimalNumber.fromDouble(value)
    : typeof value === "string"
    ? DecimalNumber.parse(value)
    : undefined

/** A double that means the same number: for integers and decimals one whose shortest text is that number. */
const doubleOf = (value: CellValue, round: (value: number) => number): number | undefined => {
  if (typeof value === "number") return Number.isNaN(value) || round(value) === value ? value : undefined
  const exact = decimalOf(value)
  if (exact === undefined) return undefined
  const double = exact.toNumber()
  if (exact.special !== undefined) return double
  const shortest = round === Math.fround ? shortestFloat(round(double)) : String(double)
  return DecimalNumber.parse(shortest)?.equals(exact) === true ? round(double) : undefined
}

/** The shortest decimal text that is read as this 32-bit float. */
const shortestFloat = (value: number): string => {
  for (let digits = 1; digits < 10; digits++) {
    const text = value.toPrecision(digits)
    if (Math.fround(Number(text)) === value) return String(Number(text))
  }
  return String(value)
}

const integers = (bits: 16 | 32 | 64) => (value: CellValue): bigint | undefined => {
  const integer = integerOf(value)
  return integer !== undefined && BigInt.asIntN(bits, integer) === integer ? integer : undefined
}

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** Number of characters, not more than are needed to know that there are more than `limit`. */
const exceeds = (text: string, limit: number): boolean => {
  if (text.length <= limit) return false
  if (text.length > limit * 2) return true
  let count = 0
  for (const _ of text) if (++count > limit) return true
  return false
}

const isJson = (text: string): boolean => {
  try { // The only way to ask.
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** The text that a value is in a column of `type`; undefined when it is none. */
const textFor = (type: LogicalType): (value: CellValue) => string | undefined => {
  switch (type._tag) {
    case "Decimal": {
      const { precision, scale = 0 } = type
      return (value) => {
        if (typeof value === "boolean") return undefined
        const decimal = decimalOf(value)
        if (precision === undefined || decimal === undefined) {
          // Text is kept as it was written: 1.0 and 1.00 are different texts of one number.
          return decimal === undefined ? undefined : typeof value === "string" ? value : decimal.toString()
        }
        if (Number.isNaN(decimal.special)) return "NaN"
        const fitting = decimal.rescaled(scale)
        const digits = fitting?.unscaled.toString().replace("-", "").length ?? 0
        return fitting === undefined || digits > precision ? undefined : fitting.toString()
      }
    }
    case "Uuid":
      return (value) => typeof value === "string" && uuidPattern.test(value) ? value.toLowerCase() : undefined
    case "Json":
      return (value) => typeof value === "string" && isJson(value) ? value : undefined
    case "Text": {
      const { maxLength } = type
      return (value) => {
        if (value instanceof Uint8Array) return undefined
        const text = String(value)
        // Half a character would become another one.
        return !text.isWellFormed() || (maxLength !== undefined && exceeds(text, maxLength)) ? undefined : text
      }
    }
    default:
      return (value) => typeof value === "string" && value.isWellFormed() ? value : undefined
  }
}

const dayFor = (value: CellValue): number | undefined => {
  if (typeof value === "string") {
    return value === "infinity"
      ? dateInfinity
      : value === "-infinity"
      ? dateNegativeInfinity
      : Calendar.parseDate(value)
  }
  if (!(value instanceof Instant)) return undefined
  if (!value.isFinite) return value.micros > 0n ? dateInfinity : dateNegativeInfinity
  const [day, within] = Calendar.split(value.micros)
  return within === 0 && Math.abs(day) < dateInfinity ? day : undefined
}

const microsFor = (utc: boolean) => (value: CellValue): bigint | undefined => {
  if (value instanceof Instant) return value.micros
  if (typeof value !== "string") return undefined
  if (value === "infinity") return timestampInfinity
  return value === "-infinity" ? timestampNegativeInfinity : Calendar.parseTimestamp(value, utc)
}

const timeFor = (value: CellValue): bigint | undefined => {
  const micros = typeof value === "string" ? Calendar.parseTime(value) : typeof value === "bigint" ? value : undefined
  return micros === undefined ? undefined : BigInt(micros)
}

const numberColumn = (
  builder: ColumnBuilder.ColumnBuilder,
  convert: (value: CellValue) => number | undefined
): Writer["append"] => {
  const numbers = builder as ColumnBuilder.NumberColumn<Float64Array> // the caller's type has one
  return (value) => {
    const number = convert(value)
    if (number === undefined) return false
    numbers.append(number)
    return true
  }
}

const wideColumn = (
  builder: ColumnBuilder.ColumnBuilder,
  convert: (value: CellValue) => bigint | undefined
): Writer["append"] => {
  const wide = builder as ColumnBuilder.Int64Column // the caller's type has one
  return (value) => {
    const integer = convert(value)
    if (integer === undefined) return false
    wide.append(Number(integer >> 32n), Number(integer & 0xffffffffn))
    return true
  }
}

/** Appends text as UTF-8. */
export const appendText = (builder: ColumnBuilder.BytesColumn, text: string): void => {
  const at = builder.reserve(Buffer.byteLength(text))
  const { target } = builder
  const written = Buffer.from(target.buffer, target.byteOffset, target.byteLength).write(text, at, "utf8")
  builder.commit(at + written)
}

const appender = (type: LogicalType, builder: ColumnBuilder.ColumnBuilder): Writer["append"] => {
  switch (type._tag) {
    case "Boolean": {
      const booleans = builder as ColumnBuilder.BoolColumn // of this type
      return (value) => {
        const known = typeof value === "boolean"
          ? value
          : value === 1n || value === "true" || value === "t"
          ? true
          : value === 0n || value === "false" || value === "f"
          ? false
          : undefined
        if (known === undefined) return false
        booleans.append(known)
        return true
      }
    }
    case "Int16":
    case "Int32": {
      const fitting = integers(type._tag === "Int16" ? 16 : 32)
      return numberColumn(builder, (value) => {
        const integer = fitting(value)
        return integer === undefined ? undefined : Number(integer)
      })
    }
    case "Int64":
      return wideColumn(builder, integers(64))
    case "Float32":
      return numberColumn(builder, (value) => typeof value === "boolean" ? undefined : doubleOf(value, Math.fround))
    case "Float64":
      return numberColumn(builder, (value) => typeof value === "boolean" ? undefined : doubleOf(value, (same) => same))
    case "Date":
      return numberColumn(builder, dayFor)
    case "Time":
      return wideColumn(builder, timeFor)
    case "Timestamp":
      return wideColumn(builder, microsFor(type.utc))
    case "Binary": {
      const bytes = builder as ColumnBuilder.BytesColumn // of this type
      return (value) => {
        if (!(value instanceof Uint8Array)) return false
        bytes.append(value, 0, value.length)
        return true
      }
    }
    default: {
      const bytes = builder as ColumnBuilder.BytesColumn // all others are carried as text
      const convert = textFor(type)
      return (value) => {
        const text = convert(value)
        if (text === undefined) return false
        appendText(bytes, text)
        return true
      }
    }
  }
}

/** A new column of `type`. */
export const writer = (type: LogicalType): Writer => {
  const builder = ColumnBuilder.make(arrowType(type))
  return { builder, append: appender(type, builder) }
}
