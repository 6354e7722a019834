/**
 * Writes values of an Arrow column as text, for files, or as JSON, for streaming: one function per column and batch.
 *
 * Here is also decided what happens to a value that the target's type can't hold: it fails, becomes NULL, or the nearest
 * value that fits. Errors name the column, never the value.
 */
import * as ByteCopy from "@etl-stream/core/ByteCopy"
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as LogicalType from "@etl-stream/core/LogicalType"
import type * as Arrow from "apache-arrow"
import * as ArrayLiteral from "./ArrayLiteral.ts"
import { ByteBuffer } from "./ByteBuffer.ts"
import type { OutOfRange } from "./Config.ts"
import * as Narrowing from "./Narrowing.ts"
import * as SourceText from "./SourceText.ts"
import type { ColumnValues, TableValues } from "./ValueLayout.ts"
import * as VariantJson from "./VariantJson.ts"

/** A value that can't be written, and with it its row. `column` is its name in Snowflake. */
export class Unwritable extends Error {
  readonly column: string
  constructor(column: string, why: string) {
    super(why)
    this.column = column
  }
}

/** A value that was left out of its row because the target's type can't hold it. */
export interface Refusal {
  readonly row: number
  readonly column: ColumnValues
  /** Without the value, as the end of a sentence that begins with the column's name. */
  readonly why: string
}

/** What becomes of values that don't fit. */
export interface Policy {
  readonly outOfRange: OutOfRange
  /** Takes note of a value that becomes NULL only in its row, or throws `Unwritable`. */
  readonly refuse: (refusal: Refusal) => void
}

/** Whether a row's values are used: only a changelog keeps those of rows that leave. */
export const mattering = ({ mode }: TableValues, operations: Uint8Array) => (row: number): boolean =>
  mode === "changelog" || (operations[row] !== Operation.Delete && operations[row] !== Operation.KeyChangeOld)

/** Notes refusals in `into`; without it they are thrown. `matters` says whether a row's values are used at all. */
export const policy = (
  outOfRange: OutOfRange,
  into: Array<Refusal> | undefined,
  matters: (row: number) => boolean = () => true
): Policy => ({
  outOfRange,
  refuse: (refusal) => {
    if (!matters(refusal.row)) return
    if (into === undefined) throw new Unwritable(refusal.column.name, refusal.why)
    into.push(refusal)
  }
})

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

const yes = Buffer.from("true")
const no = Buffer.from("false")

/** Empties the buffer, which need not stay as large as the largest value ever. */
const empty = (buffer: ByteBuffer): void => {
  if (buffer.bytes.length > 1 << 20) buffer.shrink()
  else buffer.length = 0
}

export const make = (
  column: ColumnValues,
  data: Arrow.Data,
  out: ByteBuffer,
  policy: Policy,
  json: "text" | "raw" | undefined
): ValueWriter => {
  const { maxLength, narrowing } = column
  /** A value that no row can have: keys must tell rows apart, so a row without its key is none. */
  const refuse = (row: number, why: string): false => {
    if (column.isKey) throw new Unwritable(column.name, why)
    policy.refuse({ row, column, why })
    return false
  }
  /** What a value outside the type's range becomes; true: write the nearest. */
  const nearest = (row: number, why: string): boolean =>
    policy.outOfRange === "fail" || column.isKey ? refuse(row, why) : policy.outOfRange === "clamp"
  /** What can't be shortened or rounded becomes NULL only where that was asked for. */
  const unfit = (row: number, why: string): false =>
    policy.outOfRange === "null" && !column.isKey ? false : refuse(row, why)
  // The texts are made once: there may be as many refusals as values.
  const whyTooLong = `holds a value of more than ${maxLength} ${
    column.form === "binary" ? "bytes" : "characters"
  }, the most that its type takes`
  const tooLong = (row: number): false => unfit(row, whyTooLong)
  const whyRounded = `holds a number that ${column.target} would round or can't hold`
  const rounded = (row: number): false => unfit(row, whyRounded)
  const quoted = (write: () => void): true => {
    if (json !== undefined) out.byte(0x22)
    write()
    if (json !== undefined) out.byte(0x22)
    return true
  }
  const text = (source: DataView, start: number, end: number): true => {
    if (json === undefined) out.copy(source, start, end)
    else {
      out.byte(0x22)
      out.jsonText(source, start, end)
      out.byte(0x22)
    }
    return true
  }
  const values = data.values as Int32Array // narrowed per case by the column's Arrow type
  const offsets = data.valueOffsets
  const bytes = data.values as Uint8Array // for variable-width columns
  const view = ByteCopy.viewOf(bytes)

  switch (column.form) {
    case "boolean":
      return (row) => {
        const bit = data.offset + row
        out.raw(((bytes[bit >> 3] as number) & (1 << (bit & 7))) !== 0 ? yes : no) // one bit per row
        return true
      }
    case "int16":
    case "int32":
      return (row) => {
        const start = out.length
        out.integer(values[row] as number) // in range
        return narrowing === undefined || Narrowing.integer(narrowing, out.bytes, start, out.length) || rounded(row)
      }
    case "int64": {
      const halves = halvesOf(data)
      return (row) => {
        const low = halves[row * 2] as number // in range
        const high = halves[row * 2 + 1] as number // in range
        // A reader that takes JSON numbers for doubles would round beyond 53 bits; text is safe.
        const wide = json !== undefined && (high >= 0x200000 || high < -0x200000)
        if (wide) out.byte(0x22)
        const start = out.length
        out.int64(high, low)
        if (narrowing !== undefined && !Narrowing.integer(narrowing, out.bytes, start, out.length)) return rounded(row)
        if (wide) out.byte(0x22)
        return true
      }
    }
    case "float": {
      const doubles = data.values as Float64Array // Float32 or Float64
      return (row) => {
        const value = doubles[row] as number // in range
        if (Number.isFinite(value)) {
          out.finite(value)
        } else quoted(() => out.ascii(Number.isNaN(value) ? "NaN" : value > 0 ? "inf" : "-inf"))
        return true
      }
    }
    case "number":
      return (row) => {
        const start = offsets[row] as number // in range
        const end = offsets[row + 1] as number // in range
        const first = bytes[start] as number // numbers aren't empty
        const second = bytes[start + 1] as number // only looked at after a minus
        // NaN, Infinity, -Infinity.
        if (first === 0x4e || first === 0x49 || (first === 0x2d && second === 0x49)) {
          if (narrowing?._tag === "Double") {
            return quoted(() => out.ascii(first === 0x4e ? "NaN" : first === 0x49 ? "inf" : "-inf"))
          }
          // None of them has a nearest number.
          return nearest(row, "holds NaN or an infinite number") && false
        }
        if (narrowing !== undefined && !Narrowing.decimal(narrowing, bytes, start, end)) return rounded(row)
        if (json !== undefined) out.byte(0x22)
        out.copy(view, start, end)
        if (json !== undefined) out.byte(0x22)
        return true
      }
    case "text":
      return (row) => {
        const start = offsets[row] as number // in range
        const end = offsets[row + 1] as number // in range
        return Narrowing.text(maxLength, bytes, start, end) ? text(view, start, end) : tooLong(row)
      }
    case "sourceText": {
      const write = SourceText.writer(column.type, data)
      return (row) => {
        empty(scratch)
        write(row, scratch)
        return Narrowing.text(maxLength, scratch.bytes, 0, scratch.length)
          ? text(scratch.words, 0, scratch.length)
          : tooLong(row)
      }
    }
    case "binary":
      return (row) => {
        const start = offsets[row] as number // in range
        const end = offsets[row + 1] as number // in range
        if (end - start > maxLength) return tooLong(row)
        if (json !== undefined) out.byte(0x22)
        out.base64(bytes, start, end)
        if (json !== undefined) out.byte(0x22)
        return true
      }
    case "date":
      return (row) => {
        let days = values[row] as number // in range
        if (days < SourceText.minDay || days > SourceText.maxDay) {
          const infinite = days === LogicalType.dateInfinity || days === LogicalType.dateNegativeInfinity
          if (!nearest(row, infinite ? "holds an infinite date" : "holds a date outside the years 1 to 9999")) {
            return false
          }
          days = days < SourceText.minDay ? SourceText.minDay : SourceText.maxDay
        }
        if (json !== undefined) out.byte(0x22)
        out.date(days)
        if (json !== undefined) out.byte(0x22)
        return true
      }
    case "time": {
      const halves = halvesOf(data)
      const step = narrowing?._tag === "Step" ? narrowing.micros : 1
      const whyCut = `holds a time that ${column.target} would cut`
      return (row) => {
        const total = (halves[row * 2 + 1] as number) * 0x100000000 + ((halves[row * 2] as number) >>> 0) // in range
        let seconds = Math.floor(total / 1_000_000)
        let micros = total - seconds * 1_000_000
        if (seconds >= daySeconds) {
          if (!nearest(row, "holds the time 24:00")) return false
          seconds = daySeconds - 1
          micros = 1_000_000 - step
        }
        if (micros % step !== 0) return unfit(row, whyCut)
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
      const step = narrowing?._tag === "Step" ? narrowing.micros : 1
      const whyCut = `holds a timestamp that ${column.target} would cut`
      return (row) => {
        const low = halves[row * 2] as number // in range
        const high = halves[row * 2 + 1] as number // in range
        const seconds = high * 4294 + Math.floor((high * 967_296 + (low >>> 0)) / 1_000_000)
        if (json !== undefined) out.byte(0x22)
        if (seconds >= minSecond && seconds <= maxSecond) {
          // 2^32 = 967,296 beyond a multiple of 10^6, of which every step is a divisor.
          if (step > 1 && (high * 967_296 + (low >>> 0)) % step !== 0) {
            return unfit(row, whyCut)
          }
          out.timestamp(high, low)
        } else {
          const infinite = (high === 0x7fffffff && low === -1) || (high === -0x80000000 && low === 0)
          if (
            !nearest(row, infinite ? "holds an infinite timestamp" : "holds a timestamp outside the years 1 to 9999")
          ) {
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
        if (!Narrowing.text(maxLength, bytes, start, end)) return tooLong(row)
        // Streaming can't tell a JSON null by itself from no value.
        if (VariantJson.isInexact(bytes, start, end) || (json === "raw" && VariantJson.isNull(bytes, start, end))) {
          empty(scratch)
          scratch.byte(0x22)
          scratch.jsonText(view, start, end)
          scratch.byte(0x22)
          if (!Narrowing.text(maxLength, scratch.bytes, 0, scratch.length)) return tooLong(row)
          if (json === "text") return text(scratch.words, 0, scratch.length)
          out.copy(scratch.words, 0, scratch.length)
          return true
        }
        if (json !== "raw") return text(view, start, end)
        // Line ends would end the record.
        out.jsonLine(view, start, end)
        return true
      }
    case "array":
      return (row) => {
        const start = offsets[row] as number // in range
        const end = offsets[row + 1] as number // in range
        empty(scratch)
        try {
          ArrayLiteral.toJson(bytes, view, start, end, column.element, scratch)
        } catch (cause) {
          if (cause instanceof ArrayLiteral.MalformedArray) return refuse(row, "holds a malformed array literal")
          throw cause
        }
        if (!Narrowing.text(maxLength, scratch.bytes, 0, scratch.length)) return tooLong(row)
        if (json === "text") return text(scratch.words, 0, scratch.length)
        out.copy(scratch.words, 0, scratch.length)
        return true
      }
  }
}
