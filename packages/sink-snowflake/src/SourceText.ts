/**
 * Values as the source's text, whatever they travel as: for VARCHAR columns that were chosen for other types, and for dead letters.
 *
 * Dates and timestamps are PostgreSQL's in ISO style, infinity and BC included; numbers are the shortest text that reads back the same; bytes are
 * hexadecimal after `\x`. `parse` reads what `write` wrote.
 */
import * as ColumnBuilder from "@etl-stream/core/ColumnBuilder"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as Logical from "@etl-stream/core/LogicalType"
import type * as Arrow from "apache-arrow"
import type { ByteBuffer } from "./ByteBuffer.ts"

/** Days of 0001-01-01 and 9999-12-31, between which dates have no sign and four digits of a year. */
export const minDay = -719_162
export const maxDay = 2_932_896
const daySeconds = 86_400

/** `YYYY-MM-DD` of any day, the year as it is counted in its era, and whether that is before Christ. */
const dateOf = (days: number): readonly [text: string, bc: boolean] => {
  const shifted = days + 719_468
  const era = Math.floor(shifted / 146_097)
  const dayOfEra = shifted - era * 146_097
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365
  )
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153)
  const day = dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  const two = (value: number) => String(value).padStart(2, "0")
  return [`${String(year > 0 ? year : 1 - year).padStart(4, "0")}-${two(month)}-${two(day)}`, year <= 0]
}

/** Days since 1970-01-01 of a date whose year counts from 1 BC as 0. */
const daysOf = (year: number, month: number, day: number): number => {
  const shifted = month <= 2 ? year - 1 : year
  const era = Math.floor(shifted / 400)
  const yearOfEra = shifted - era * 400
  const dayOfYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear
  return era * 146_097 + dayOfEra - 719_468
}

/** Takes the zeros from the end of a fraction of a second, and the point with the last of them. */
const trimFraction = (out: ByteBuffer): void => {
  while (out.bytes[out.length - 1] === 0x30) out.length--
  if (out.bytes[out.length - 1] === 0x2e) out.length--
}

const writeTime = (seconds: number, micros: number, out: ByteBuffer): void => {
  out.time(seconds, micros)
  trimFraction(out)
}

const writeDate = (days: number, out: ByteBuffer): void => {
  if (days >= minDay && days <= maxDay) return out.date(days)
  if (days === Logical.dateInfinity) return out.ascii("infinity")
  if (days === Logical.dateNegativeInfinity) return out.ascii("-infinity")
  const [text, bc] = dateOf(days)
  out.ascii(bc ? `${text} BC` : text)
}

const writeTimestamp = (high: number, low: number, utc: boolean, out: ByteBuffer): void => {
  if (high === 0x7fffffff && low === -1) return out.ascii("infinity")
  if (high === -0x80000000 && low === 0) return out.ascii("-infinity")
  const part = high * 967_296 + (low >>> 0)
  const carry = Math.floor(part / 1_000_000)
  const seconds = high * 4294 + carry
  const days = Math.floor(seconds / daySeconds)
  const plain = days >= minDay && days <= maxDay
  const [text, bc] = plain ? ["", false] : dateOf(days)
  if (plain) out.date(days)
  else out.ascii(text)
  out.byte(0x20)
  writeTime(seconds - days * daySeconds, part - carry * 1_000_000, out)
  if (utc) out.ascii("+00")
  if (bc) out.ascii(" BC")
}

const hexDigits = Buffer.from("0123456789abcdef")

/** Appends the value of a row that isn't null. */
export type Writer = (row: number, out: ByteBuffer) => void

/** Writes values of a column of type `type` that travel in `data`. */
export const writer = (type: LogicalType, data: Arrow.Data): Writer => {
  // Each buffer is what `Logical.arrowType` says of the type.
  const offsets = data.valueOffsets
  const bytes = data.values as Uint8Array
  const halves = (): Int32Array => {
    const values = data.values as BigInt64Array
    return new Int32Array(values.buffer, values.byteOffset, values.length * 2)
  }
  switch (type._tag) {
    case "Boolean":
      return (row, out) => {
        const bit = data.offset + row
        out.ascii(((bytes[bit >> 3] as number) & (1 << (bit & 7))) !== 0 ? "true" : "false") // one bit per row
      }
    case "Int16":
    case "Int32":
      return (row, out) => out.integer(bytes[row] as number) // in range
    case "Int64": {
      const values = halves()
      return (row, out) => out.int64(values[row * 2 + 1] as number, values[row * 2] as number) // in range
    }
    case "Float32":
    case "Float64":
      return (row, out) => {
        const value = bytes[row] as number // in range
        if (Number.isFinite(value)) out.finite(value)
        else out.ascii(String(value))
      }
    case "Binary":
      return (row, out) => {
        const end = offsets[row + 1] as number // in range
        out.byte(0x5c)
        out.byte(0x78)
        for (let at = offsets[row] as number; at < end; at++) { // in range
          const byte = bytes[at] as number // in range
          out.byte(hexDigits[byte >> 4] as number) // four bits
          out.byte(hexDigits[byte & 15] as number) // four bits
        }
      }
    case "Date":
      return (row, out) => writeDate(bytes[row] as number, out) // in range
    case "Time": {
      const values = halves()
      return (row, out) => {
        const total = (values[row * 2 + 1] as number) * 0x100000000 + ((values[row * 2] as number) >>> 0) // in range
        const seconds = Math.floor(total / 1_000_000)
        writeTime(seconds, total - seconds * 1_000_000, out)
      }
    }
    case "Timestamp": {
      const values = halves()
      const { utc } = type
      return (row, out) => writeTimestamp(values[row * 2 + 1] as number, values[row * 2] as number, utc, out) // in range
    }
    case "Decimal":
    case "Text":
    case "Uuid":
    case "Json":
    case "Array":
    case "Interval":
    case "Other":
      return (row, out) => out.raw(bytes, offsets[row], offsets[row + 1])
  }
}

const datePattern = /^(\d{4,7})-(\d\d)-(\d\d)( BC)?$/
const timestampPattern = /^(\d{4,7})-(\d\d)-(\d\d) (\d\d:\d\d:\d\d(?:\.\d{1,6})?)(?:\+00)?( BC)?$/
const timePattern = /^(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?$/

const parseDate = (text: string): number | undefined => {
  if (text === "infinity") return Logical.dateInfinity
  if (text === "-infinity") return Logical.dateNegativeInfinity
  const [, year, month, day, bc] = datePattern.exec(text) ?? []
  return year === undefined
    ? undefined
    : daysOf(bc === undefined ? Number(year) : 1 - Number(year), Number(month), Number(day))
}

const parseTime = (text: string): bigint | undefined => {
  const [, hours, minutes, seconds, fraction] = timePattern.exec(text) ?? []
  return hours === undefined
    ? undefined
    : BigInt(Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds)) * 1_000_000n +
      BigInt((fraction ?? "").padEnd(6, "0"))
}

const parseTimestamp = (text: string): bigint | undefined => {
  if (text === "infinity") return Logical.timestampInfinity
  if (text === "-infinity") return Logical.timestampNegativeInfinity
  const [, year, month, day, clock = "", bc] = timestampPattern.exec(text) ?? []
  const time = parseTime(clock)
  const days = parseDate(`${year}-${month}-${day}${bc ?? ""}`)
  return time === undefined || days === undefined ? undefined : BigInt(days) * 86_400_000_000n + time
}

/** Appends the value that `text` stands for to a column of type `type`; false when it is no text of the type. */
export const parse = (type: LogicalType, text: string, column: ColumnBuilder.ColumnBuilder): boolean => {
  if (column instanceof ColumnBuilder.BytesColumn) {
    const hexadecimal = type._tag === "Binary"
    if (hexadecimal && !/^\\x([0-9a-f]{2})*$/.test(text)) return false
    const bytes = hexadecimal ? Buffer.from(text.slice(2), "hex") : Buffer.from(text)
    column.append(bytes, 0, bytes.length)
    return true
  }
  if (column instanceof ColumnBuilder.BoolColumn) {
    column.append(text === "true")
    return text === "true" || text === "false"
  }
  if (column instanceof ColumnBuilder.Int64Column) {
    const value = type._tag === "Time"
      ? parseTime(text)
      : type._tag === "Timestamp"
      ? parseTimestamp(text)
      : /^-?\d{1,19}$/.test(text)
      ? BigInt(text)
      : undefined
    if (value === undefined) return false
    column.append(Number(BigInt.asIntN(32, value >> 32n)), Number(BigInt.asIntN(32, value)))
    return true
  }
  const value = type._tag === "Date" ? parseDate(text) : Number(text)
  if (value === undefined || (Number.isNaN(value) && text !== "NaN") || text === "") return false
  column.append(value)
  return true
}
