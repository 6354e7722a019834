/**
 * Writes values of an Arrow column as text, for files, or as JSON, for streaming: one function per column and batch.
 *
 * Here is also decided what happens to a value that the target's type can't hold: it fails, becomes NULL, or the nearest
 * value that fits. Errors name the column, never the value.
 */
import * as LogicalType from "@etl-stream/core/LogicalType"
import type * as Arrow from "apache-arrow"
import * as ArrayLiteral from "./ArrayLiteral.ts"
import { ByteBuffer } from "./ByteBuffer.ts"
import type { OutOfRange } from "./Config.ts"
import type { ColumnLayout } from "./TableLayout.ts"

/** A value that can't be written. `column` is its name in Snowflake. */
export class Unwritable extends Error {
  readonly column: string
  constructor(column: string, why: string) {
    super(why)
    this.column = column
  }
}

/** Whether row `row` of `data` is null. */
export const isNull = (data: Arrow.Data, row: number): boolean => {
  const bitmap = data.nullBitmap
  if (bitmap === null || bitmap === undefined || bitmap.length === 0) return false
  const bit = data.offset + row
  return ((bitmap[bit >> 3] as number) & (1 << (bit & 7))) === 0 // the bitmap covers every row
}

/** 64-bit values as halves, low before high. */
export const halvesOf = (data: Arrow.Data): Int32Array => {
  const values = data.values as BigInt64Array // only called for 64-bit columns
  return new Int32Array(values.buffer, values.byteOffset, values.length * 2)
}

/** Largest VARCHAR and BINARY of a column declared without a length, in bytes. */
export const maxTextBytes = 16_777_216
export const maxBinaryBytes = 8_388_608

const minDay = -719_162
const maxDay = 2_932_896
const minSecond = -62_135_596_800
const maxSecond = 253_402_300_799
const daySeconds = 86_400

/**
 * Writes the value of a row that isn't null; false when it has to become NULL. Within JSON, `"text"` writes JSON values with VARIANTs as strings
 * (journals), `"raw"` with VARIANTs as they are (changelogs), except for those that can only be told as text (`isOnlyText`); `undefined`
 * writes bare text. After false, what was written of the value has to be taken back.
 */
export type ValueWriter = (row: number) => boolean

const scratch = new ByteBuffer(1024)

export const make = (
  column: ColumnLayout,
  data: Arrow.Data,
  out: ByteBuffer,
  policy: OutOfRange,
  within: "text" | "raw" | undefined
): ValueWriter => {
  /** JSON has types for numbers, booleans and JSON itself; a column of text takes them as strings only, or their form would be the reader's. */
  const asText = within !== undefined && column.quoted === true
  const json = asText ? "text" : within
  const strict = policy === "fail" || column.isKey
  /** What a value outside the type's range becomes; true: write the nearest. */
  const nearest = (why: string): boolean => {
    if (strict) throw new Unwritable(column.name, why)
    return policy === "clamp"
  }
  const quoted = (write: () => void): true => {
    if (json !== undefined) out.byte(0x22)
    write()
    if (json !== undefined) out.byte(0x22)
    return true
  }
  const values = data.values as Int32Array // narrowed per case by the column's Arrow type
  const offsets = data.valueOffsets
  const bytes = data.values as Uint8Array // for variable-width columns

  switch (column.form) {
    case "boolean":
      return (row) => {
        const bit = data.offset + row
        if (asText) out.byte(0x22)
        out.ascii(((bytes[bit >> 3] as number) & (1 << (bit & 7))) !== 0 ? "true" : "false") // one bit per row
        if (asText) out.byte(0x22)
        return true
      }
    case "int16":
    case "int32":
      return (row) => {
        if (asText) out.byte(0x22)
        out.integer(values[row] as number) // in range
        if (asText) out.byte(0x22)
        return true
      }
    case "int64": {
      const halves = halvesOf(data)
      return (row) => {
        const low = halves[row * 2] as number // in range
        const high = halves[row * 2 + 1] as number // in range
        // A reader that takes JSON numbers for doubles would round beyond 53 bits; text is safe.
        const wide = asText || (json !== undefined && (high >= 0x200000 || high < -0x200000))
        if (wide) out.byte(0x22)
        out.int64(high, low)
        if (wide) out.byte(0x22)
        return true
      }
    }
    case "float": {
      const doubles = data.values as Float64Array // Float32 or Float64
      return (row) => {
        const value = doubles[row] as number // in range
        if (Number.isFinite(value)) {
          if (asText) out.byte(0x22)
          out.finite(value)
          if (asText) out.byte(0x22)
        } else quoted(() => out.ascii(Number.isNaN(value) ? "NaN" : value > 0 ? "inf" : "-inf"))
        return true
      }
    }
    case "number":
      return (row) => {
        const start = offsets[row] as number // in range
        const first = bytes[start] as number // numbers aren't empty
        const second = bytes[start + 1] as number // only looked at after a minus
        // NaN, Infinity, -Infinity: none of them has a nearest number.
        if (column.quoted !== true && (first === 0x4e || first === 0x49 || (first === 0x2d && second === 0x49))) {
          if (strict) throw new Unwritable(column.name, "holds NaN or an infinite number")
          return false
        }
        if (json !== undefined) out.byte(0x22)
        out.raw(bytes, start, offsets[row + 1])
        if (json !== undefined) out.byte(0x22)
        return true
      }
    case "text":
      return (row) => {
        const start = offsets[row] as number // in range
        const end = offsets[row + 1] as number // in range
        if (end - start > maxTextBytes) return tooLong(column, policy, maxTextBytes)
        if (json === undefined) out.raw(bytes, start, end)
        else {
          out.byte(0x22)
          out.jsonText(bytes, start, end)
          out.byte(0x22)
        }
        return true
      }
    case "binary":
      return (row) => {
        const start = offsets[row] as number // in range
        const end = offsets[row + 1] as number // in range
        if (end - start > maxBinaryBytes) return tooLong(column, policy, maxBinaryBytes)
        if (json !== undefined) out.byte(0x22)
        out.base64(bytes, start, end)
        if (json !== undefined) out.byte(0x22)
        return true
      }
    case "date":
      return (row) => {
        let days = values[row] as number // in range
        if (days < minDay || days > maxDay) {
          const infinite = days === LogicalType.dateInfinity || days === LogicalType.dateNegativeInfinity
          if (!nearest(infinite ? "holds an infinite date" : "holds a date outside the years 1 to 9999")) return false
          days = days < minDay ? minDay : maxDay
        }
        if (json !== undefined) out.byte(0x22)
        out.date(days)
        if (json !== undefined) out.byte(0x22)
        return true
      }
    case "time": {
      const halves = halvesOf(data)
      return (row) => {
        const total = (halves[row * 2 + 1] as number) * 0x100000000 + ((halves[row * 2] as number) >>> 0) // in range
        let seconds = Math.floor(total / 1_000_000)
        let micros = total - seconds * 1_000_000
        if (seconds >= daySeconds) {
          if (!nearest("holds the time 24:00")) return false
          seconds = daySeconds - 1
          micros = 999_999
        }
        if (json !== undefined) out.byte(0x22)
        out.time(seconds, micros)
        if (json !== undefined) out.byte(0x22)
        return true
      }
    }
    case "timestamp":
    case "timestampUtc": {
      const halves = halvesOf(data)
      const utc = column.form === "timestampUtc"
      return (row) => {
        const low = halves[row * 2] as number // in range
        const high = halves[row * 2 + 1] as number // in range
        const seconds = high * 4294 + Math.floor((high * 967_296 + (low >>> 0)) / 1_000_000)
        if (json !== undefined) out.byte(0x22)
        if (seconds >= minSecond && seconds <= maxSecond) out.timestamp(high, low)
        else {
          const infinite = (high === 0x7fffffff && low === -1) || (high === -0x80000000 && low === 0)
          if (!nearest(infinite ? "holds an infinite timestamp" : "holds a timestamp outside the years 1 to 9999")) {
            return false
          }
          out.ascii(seconds < minSecond ? "0001-01-01T00:00:00.000000" : "9999-12-31T23:59:59.999999")
        }
        if (utc) out.byte(0x5a)
        if (json !== undefined) out.byte(0x22)
        return true
      }
    }
    case "json":
      return (row) => {
        const start = offsets[row] as number // in range
        const end = offsets[row + 1] as number // in range
        if (end - start > maxTextBytes) return tooLong(column, policy, maxTextBytes)
        if (json === undefined) out.raw(bytes, start, end)
        else if (json === "raw") {
          if (isOnlyText(bytes, start, end)) {
            out.byte(0x22)
            out.jsonText(bytes, start, end)
            out.byte(0x22)
            return true
          }
          const from = out.length
          out.raw(bytes, start, end)
          // Line ends between JSON tokens would end the record.
          for (let at = from; at < out.length; at++) {
            if (out.bytes[at] === 0x0a || out.bytes[at] === 0x0d) out.bytes[at] = 0x20
          }
        } else {
          out.byte(0x22)
          out.jsonText(bytes, start, end)
          out.byte(0x22)
        }
        return true
      }
    case "array":
      return (row) => {
        const start = offsets[row] as number // in range
        const end = offsets[row + 1] as number // in range
        try {
          if (json !== "text") {
            const from = out.length
            ArrayLiteral.toJson(bytes, start, end, column.element, out)
            if (out.length - from > maxTextBytes) return tooLong(column, policy, maxTextBytes)
          } else {
            scratch.length = 0
            ArrayLiteral.toJson(bytes, start, end, column.element, scratch)
            if (scratch.length > maxTextBytes) return tooLong(column, policy, maxTextBytes)
            out.byte(0x22)
            out.jsonText(scratch.bytes, 0, scratch.length)
            out.byte(0x22)
          }
        } catch (cause) {
          if (cause instanceof ArrayLiteral.MalformedArray) {
            throw new Unwritable(column.name, "holds a malformed array literal")
          }
          throw cause
        }
        return true
      }
  }
}

/** Whether the escape of a surrogate (D800 to DFFF) stands at `at`: `low` for the second half of a pair, otherwise the first. */
const isSurrogate = (bytes: Uint8Array, at: number, end: number, low: boolean): boolean => {
  if (at + 6 > end || bytes[at] !== 0x5c || bytes[at + 1] !== 0x75) return false
  // Digits have the bit that makes letters lower case already.
  if (((bytes[at + 2] as number) | 0x20) !== 0x64) return false // in range
  const digit = (bytes[at + 3] as number) | 0x20 // the same
  return low ? digit >= 0x63 : digit === 0x38 || digit === 0x39 || digit === 0x61 || digit === 0x62
}

/**
 * Whether JSON text has to go into a VARIANT as a string that holds it: `null` by itself, which streaming can't tell from no value
 * (SQL NULL), and text with the escape of half a surrogate pair (PostgreSQL's `json` takes them), for which the row would be skipped.
 */
const isOnlyText = (bytes: Uint8Array, start: number, end: number): boolean => {
  let at = start
  while (at < end && (bytes[at] as number) <= 0x20) at++ // in range
  // Only `null` begins so.
  if (bytes[at] === 0x6e) return true
  while (at < end) {
    if (bytes[at] !== 0x5c) at++
    else if (isSurrogate(bytes, at, end, false) && isSurrogate(bytes, at + 6, end, true)) at += 12
    else if (isSurrogate(bytes, at, end, false) || isSurrogate(bytes, at, end, true)) return true
    else at += 2
  }
  return false
}

/** A text or bytea can't be shortened, so it becomes NULL only where that was asked for. */
const tooLong = (column: ColumnLayout, policy: OutOfRange, limit: number): false => {
  if (policy !== "null" || column.isKey) {
    throw new Unwritable(column.name, `holds a value of more than ${limit} bytes, the most that Snowflake's type takes`)
  }
  return false
}
