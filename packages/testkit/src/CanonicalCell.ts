/**
 * One text per value of a logical type, however it was written: what the conformance suites compare cells by.
 *
 * `ofText` takes what databases print (and what `ofColumn` gives), `ofColumn` a cell of a batch. Two cells are equal when their texts are. Dates are days since 1970-01-01, times
 * and timestamps microseconds, decimals lose zeros that mean nothing, JSON loses its spacing and the order of its keys.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import {
  dateInfinity,
  dateNegativeInfinity,
  type LogicalType,
  timestampInfinity,
  timestampNegativeInfinity
} from "@etl-stream/core/LogicalType"
import { canonicalDecimal, canonicalFloat, fromPostgres } from "./internal/canonicalValue.ts"

/** Buffers of one column. */
export type Column = ReturnType<typeof ChangeBatch.child>

/** Days from 1970-01-01 to a day of the proleptic Gregorian calendar; year 0 is 1 BC. */
const daysFrom = (year: number, month: number, day: number): number => {
  const shifted = month <= 2 ? year - 1 : year
  const era = Math.floor(shifted / 400)
  const ofEra = shifted - era * 400
  const ofYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1
  return era * 146_097 + ofEra * 365 + Math.floor(ofEra / 4) - Math.floor(ofEra / 100) + ofYear - 719_468
}

const day = /^(-?\d{4,7})-(\d\d)-(\d\d)( BC)?$/
const timeOfDay = /^(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?$/
const zoned = /^(.*?)\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)?( BC)?$/

const dayOf = (text: string): number | undefined => {
  const match = day.exec(text)
  if (match === null) return undefined
  const [, year, month, date, bc] = match
  return daysFrom(bc === undefined ? Number(year) : 1 - Number(year), Number(month), Number(date))
}

const microsOfDay = (text: string): bigint | undefined => {
  const match = timeOfDay.exec(text)
  if (match === null) return undefined
  const [, hours, minutes, seconds = "0", fraction = ""] = match
  const whole = Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds)
  return BigInt(whole) * 1_000_000n + BigInt(fraction.padEnd(6, "0").slice(0, 6))
}

const infinite = (text: string): string | undefined => {
  const match = /^([+-]?)inf(?:inity)?$/i.exec(text)
  return match === null ? undefined : match[1] === "-" ? "-infinity" : "infinity"
}

const timestamp = (text: string): string => {
  const known = infinite(text)
  if (known !== undefined) return known
  if (/^-?\d+$/.test(text)) return text
  const [, local = "", zone, bc = ""] = zoned.exec(text) ?? []
  const [date = "", time = "00:00"] = local.split(/[T ]/)
  const days = dayOf(`${date}${bc}`)
  const micros = microsOfDay(time)
  if (days === undefined || micros === undefined) return text
  const [, sign, hours, minutes = "0"] = /^([+-])(\d\d):?(\d\d)?$/.exec(zone ?? "") ?? []
  const offset = hours === undefined ? 0n : BigInt(Number(hours) * 60 + Number(minutes)) * 60_000_000n
  return String(BigInt(days) * 86_400_000_000n + micros - (sign === "-" ? -offset : offset))
}

/** The text that stands for a value which `text` writes. What isn't a value of the type is left as it is. */
export const ofText = (type: LogicalType, text: string | null): string | null => {
  if (text === null) return null
  switch (type._tag) {
    case "Boolean":
      return /^(t|true|1)$/i.test(text) ? "true" : /^(f|false|0)$/i.test(text) ? "false" : text
    case "Int16":
    case "Int32":
    case "Int64":
      return /^[+-]?\d+(\.0+)?$/.test(text) ? String(BigInt(text.replace(/\.0+$/, ""))) : text
    case "Float32":
      return canonicalFloat(text, "float4")
    case "Float64":
      return canonicalFloat(text, "float8")
    case "Decimal":
      return /^[+-]?(nan|inf(inity)?)$/i.test(text) ? canonicalFloat(text, "float8") : canonicalDecimal(text)
    case "Binary":
      return text.toLowerCase().replace(/^(\\x|0x)/, "")
    case "Uuid":
      return text.toLowerCase()
    case "Date": {
      const known = infinite(text)
      if (known !== undefined) return known
      return /^-?\d+$/.test(text)
        ? text
        : String(dayOf(text) ?? dayOf(text.replace(/[T ]00:00(:00(\.0+)?)?Z?$/, "")) ?? text)
    }
    case "Time":
      return /^\d+$/.test(text) ? text : String(microsOfDay(text) ?? text)
    case "Timestamp":
      return timestamp(text)
    case "Json":
      try {
        return fromPostgres("json", text)
      } catch {
        return text
      }
    case "Text":
    case "Array":
    case "Interval":
    case "Other":
      return text
  }
}

const isNull = (data: Column, row: number): boolean =>
  data.nullCount > 0 && ((data.nullBitmap[row >> 3] ?? 0) & (1 << (row & 7))) === 0

/** The bytes of a cell of text or binary. */
export const bytesAt = (data: Column, row: number): Uint8Array =>
  // Both types are built over bytes and offsets.
  (data.values as Uint8Array).subarray(data.valueOffsets[row], data.valueOffsets[row + 1])

/** The value of a cell of a column of numbers. */
export const numberAt = (data: Column, row: number): number | bigint =>
  // Numbers are built over a typed array of theirs.
  (data.values as ArrayLike<number | bigint>)[row] ?? 0

/** A cell of a batch's column (`ChangeBatch.child`); null when it is null. */
export const ofColumn = (type: LogicalType, data: Column, row: number): string | null => {
  if (isNull(data, row)) return null
  switch (type._tag) {
    case "Boolean":
      return (Number(numberAt(data, row >> 3)) & (1 << (row & 7))) === 0 ? "false" : "true"
    case "Int16":
    case "Int32":
    case "Int64":
    case "Time":
      return String(numberAt(data, row))
    case "Float32":
    case "Float64": {
      const value = Number(numberAt(data, row))
      return Object.is(value, -0) ? "-0" : String(value)
    }
    case "Binary":
      return Buffer.from(bytesAt(data, row)).toString("hex")
    case "Date": {
      const days = Number(numberAt(data, row))
      return days === dateInfinity ? "infinity" : days === dateNegativeInfinity ? "-infinity" : String(days)
    }
    case "Timestamp": {
      const micros = BigInt(numberAt(data, row))
      return micros === timestampInfinity
        ? "infinity"
        : micros === timestampNegativeInfinity
        ? "-infinity"
        : String(micros)
    }
    case "Decimal":
    case "Text":
    case "Uuid":
    case "Json":
    case "Array":
    case "Interval":
    case "Other":
      return ofText(type, Buffer.from(bytesAt(data, row)).toString("utf8"))
  }
}

/** Whether the row's value of table column `index` was not sent. */
export const isUnsent = (mask: Column, row: number, index: number): boolean =>
  !isNull(mask, row) && ((bytesAt(mask, row)[index >> 3] ?? 0) & (1 << (index & 7))) !== 0
