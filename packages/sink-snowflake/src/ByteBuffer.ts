/**
 * A growing byte buffer with the formats that encoders need, all written digit by digit: no string, object or BigInt per value.
 *
 * 64-bit integers come as two 32-bit halves (`high` signed, `low` unsigned), as they lie in Arrow buffers.
 */
import * as ByteCopy from "@etl-stream/core/ByteCopy"

const base64Alphabet = Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
const hexDigits = Buffer.from("0123456789abcdef")

/** For each byte: 0 when JSON takes it as it is, 1 for `\u00xx`, otherwise the letter after the backslash. */
const jsonEscapes = new Uint8Array(256)
jsonEscapes.fill(1, 0, 0x20)
jsonEscapes[0x08] = 0x62
jsonEscapes[0x09] = 0x74
jsonEscapes[0x0a] = 0x6e
jsonEscapes[0x0c] = 0x66
jsonEscapes[0x0d] = 0x72
jsonEscapes[0x22] = 0x22
jsonEscapes[0x5c] = 0x5c

const minus = 0x2d
const zero = 0x30

/** A number from 0 to 99. */
const twoDigits = (bytes: Uint8Array, at: number, value: number): void => {
  const tens = (value * 103) >> 10
  bytes[at] = zero + tens
  bytes[at + 1] = zero + (value - tens * 10)
}

/**
 * Whether one of the four bytes of a word has to be escaped in JSON: below 0x20, `"` or `\\`. A byte below n leaves its highest bit set when n is taken from it ("Bit Twiddling
 * Hacks", Sean Eron Anderson, hasless and hasvalue); bytes from 0x80 on, parts of longer characters, are none of them.
 */
const needsEscape = (word: number): boolean =>
  (((word - 0x20202020) | ((word ^ 0x22222222) - 0x01010101) | ((word ^ 0x5c5c5c5c) - 0x01010101)) & ~word &
    0x80808080) !== 0

/** Bytes that are escaped at a time. */
const escapedPiece = 4096

export class ByteBuffer {
  length = 0
  private memory: Uint8Array
  private memoryView: DataView
  /** The last date that was written, and its text. */
  private day = Number.NaN
  private readonly dayText = new Uint8Array(10)

  constructor(capacity: number) {
    this.memory = new Uint8Array(capacity)
    this.memoryView = ByteCopy.viewOf(this.memory)
  }

  get bytes(): Uint8Array {
    return this.memory
  }

  /** Another memory: what is written so far, if it still counts, has to be there. */
  set bytes(memory: Uint8Array) {
    this.memory = memory
    this.memoryView = ByteCopy.viewOf(memory)
  }

  /** The same memory, for whoever reads it by words. Like `bytes` it is another one after it had to grow. */
  get words(): DataView {
    return this.memoryView
  }

  /** Makes room for `more` bytes. */
  reserve(more: number): void {
    const needed = this.length + more
    if (needed <= this.bytes.length) return
    const larger = new Uint8Array(Math.max(needed, this.bytes.length * 2))
    larger.set(this.bytes.subarray(0, this.length))
    this.bytes = larger
  }

  /** Empties the buffer, and gives up its memory when it has grown. */
  shrink(): void {
    this.length = 0
    if (this.bytes.length > 64 << 10) this.bytes = new Uint8Array(1024)
  }

  /** What is written so far; valid until the next write. */
  view(): Uint8Array {
    return this.bytes.subarray(0, this.length)
  }

  byte(value: number): void {
    this.reserve(1)
    this.bytes[this.length++] = value
  }

  /** Copies `source[start, end)`. */
  raw(source: Uint8Array, start = 0, end = source.length): void {
    this.reserve(end - start)
    const { bytes } = this
    // Break-even between loop and set is near 32 bytes (measured).
    if (end - start < 32) {
      let at = this.length
      for (let from = start; from < end; from++) bytes[at++] = source[from] as number // in range
      this.length = at
    } else {
      bytes.set(start === 0 && end === source.length ? source : source.subarray(start, end), this.length)
      this.length += end - start
    }
  }

  /** The same for the values of a column, of which there are many in one source. */
  copy(source: DataView, start: number, end: number): void {
    if (end <= start) return
    this.reserve(end - start)
    ByteCopy.copy(this.words, this.length, source, start, end)
    this.length += end - start
  }

  /** Writes text that is ASCII only. */
  ascii(text: string): void {
    this.reserve(text.length)
    for (let i = 0; i < text.length; i++) this.bytes[this.length++] = text.charCodeAt(i)
  }

  /** Exactly `width` decimal digits of a non-negative integer below 2^53. */
  digits(value: number, width: number): void {
    this.reserve(width)
    const { bytes, length } = this
    let rest = value
    let at = length + width - 1
    for (; at >= length && rest > 0x7fffffff; at--) {
      const next = Math.floor(rest / 10)
      bytes[at] = zero + (rest - next * 10)
      rest = next
    }
    // Integers of 31 bits are divided much faster than doubles.
    for (let small = rest | 0; at >= length; at--) {
      const next = (small / 10) | 0
      bytes[at] = zero + (small - next * 10)
      small = next
    }
    this.length = length + width
  }

  /** A non-negative integer below 2^53 in decimal. */
  unsigned(value: number): void {
    let width = 1
    for (let limit = 10; value >= limit && width < 16; limit *= 10) width++
    this.digits(value, width)
  }

  /** An integer of at most 53 bits in decimal. */
  integer(value: number): void {
    if (value < 0) {
      this.byte(minus)
      this.unsigned(-value)
    } else this.unsigned(value)
  }

  /** A 64-bit integer in decimal. */
  int64(high: number, low: number): void {
    let upper = high
    let lower = low >>> 0
    if (high < 0) {
      this.byte(minus)
      lower = -lower >>> 0
      upper = (~high + (lower === 0 ? 1 : 0)) >>> 0
    }
    if (upper < 0x200000) return this.unsigned(upper * 0x100000000 + lower)
    // 2^32 = 4294 * 10^6 + 967296: the quotient and the remainder by 10^6 both stay below 2^53.
    const part = upper * 967_296 + lower
    const carry = Math.floor(part / 1_000_000)
    this.unsigned(upper * 4294 + carry)
    this.digits(part - carry * 1_000_000, 6)
  }

  /** A 64-bit integer as 16 hexadecimal digits. */
  hex64(high: number, low: number): void {
    this.reserve(16)
    const { bytes, length } = this
    for (let i = 0; i < 8; i++) {
      bytes[length + i] = hexDigits[(high >>> (28 - 4 * i)) & 15] as number // four bits index sixteen digits
      bytes[length + 8 + i] = hexDigits[(low >>> (28 - 4 * i)) & 15] as number // the same
    }
    this.length = length + 16
  }

  /** Writes once more what was written from `start` on, `count` bytes of it. */
  repeat(start: number, count: number): void {
    this.reserve(count)
    ByteCopy.copy(this.words, this.length, this.words, start, start + count)
    this.length += count
  }

  /** `YYYY-MM-DD` of days since 1970-01-01 (years 1 to 9999). */
  date(days: number): void {
    // Neighbours are mostly of one day.
    if (days !== this.day) {
      const start = this.length
      this.civil(days)
      this.dayText.set(this.bytes.subarray(start, this.length))
      this.day = days
    } else this.raw(this.dayText)
  }

  private civil(days: number): void {
    // Civil date from days, by eras of 400 years that begin in March (Howard Hinnant's algorithm).
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
    this.digits(yearOfEra + era * 400 + (month <= 2 ? 1 : 0), 4)
    this.byte(minus)
    this.digits(month, 2)
    this.byte(minus)
    this.digits(day, 2)
  }

  /** `HH:MM:SS.ffffff` of seconds of a day and microseconds. */
  time(seconds: number, micros: number): void {
    this.reserve(15)
    const { bytes, length } = this
    const minutes = (seconds / 60) | 0
    const hours = (minutes / 60) | 0
    twoDigits(bytes, length, hours)
    bytes[length + 2] = 0x3a
    twoDigits(bytes, length + 3, minutes - hours * 60)
    bytes[length + 5] = 0x3a
    twoDigits(bytes, length + 6, seconds - minutes * 60)
    bytes[length + 8] = 0x2e
    const hundreds = (micros / 100) | 0
    const tens = (hundreds / 100) | 0
    twoDigits(bytes, length + 9, tens)
    twoDigits(bytes, length + 11, hundreds - tens * 100)
    twoDigits(bytes, length + 13, micros - hundreds * 100)
    this.length = length + 15
  }

  /** `YYYY-MM-DDTHH:MM:SS.ffffff` of microseconds since 1970-01-01 (years 1 to 9999). */
  timestamp(high: number, low: number): void {
    const part = high * 967_296 + (low >>> 0)
    const carry = Math.floor(part / 1_000_000)
    const seconds = high * 4294 + carry
    const days = Math.floor(seconds / 86_400)
    this.date(days)
    this.byte(0x54)
    this.time(seconds - days * 86_400, part - carry * 1_000_000)
  }

  /** Bytes in base64 with padding. */
  base64(source: Uint8Array, start: number, end: number): void {
    this.reserve(Math.ceil((end - start) / 3) * 4)
    const { bytes } = this
    let at = this.length
    let from = start
    for (; from + 2 < end; from += 3) {
      const group = ((source[from] as number) << 16) | ((source[from + 1] as number) << 8) |
        (source[from + 2] as number) // in range
      bytes[at++] = base64Alphabet[group >> 18] as number // six bits index 64 letters
      bytes[at++] = base64Alphabet[(group >> 12) & 63] as number // the same
      bytes[at++] = base64Alphabet[(group >> 6) & 63] as number // the same
      bytes[at++] = base64Alphabet[group & 63] as number // the same
    }
    if (from < end) {
      const two = from + 1 < end
      const group = ((source[from] as number) << 16) | (two ? (source[from + 1] as number) << 8 : 0) // in range
      bytes[at++] = base64Alphabet[group >> 18] as number // as above
      bytes[at++] = base64Alphabet[(group >> 12) & 63] as number // as above
      bytes[at++] = two ? base64Alphabet[(group >> 6) & 63] as number : 0x3d // as above
      bytes[at++] = 0x3d
    }
    this.length = at
  }

  /** UTF-8 text as the inside of a JSON string: everything but the quotes around it. */
  jsonText(source: DataView, start: number, end: number): void {
    this.reserve(end - start)
    const { words } = this
    let from = start
    let at = this.length
    for (; from + 4 <= end; from += 4, at += 4) {
      const word = source.getUint32(from)
      if (needsEscape(word)) break
      words.setUint32(at, word)
    }
    for (; from < end; from++, at++) {
      const value = source.getUint8(from)
      if (jsonEscapes[value] !== 0) break
      words.setUint8(at, value)
    }
    this.length = at
    // Where there is one character to escape there are more, as in JSON: byte by byte from there on. In pieces, since each may become six times as long.
    for (; from < end; from += escapedPiece) this.escaped(source, from, Math.min(end, from + escapedPiece))
  }

  private escaped(source: DataView, start: number, end: number): void {
    this.reserve((end - start) * 6)
    const { bytes } = this
    let at = this.length
    for (let from = start; from < end; from++) {
      const value = source.getUint8(from)
      const escape = jsonEscapes[value] as number // of every byte
      if (escape === 0) {
        bytes[at++] = value
        continue
      }
      bytes[at++] = 0x5c
      if (escape > 1) bytes[at++] = escape
      else {
        bytes[at++] = 0x75
        bytes[at++] = zero
        bytes[at++] = zero
        bytes[at++] = hexDigits[value >> 4] as number // four bits
        bytes[at++] = hexDigits[value & 15] as number // four bits
      }
    }
    this.length = at
  }

  /** JSON as it is, but on one line: line ends, which are between its tokens only, become spaces. */
  jsonLine(source: DataView, start: number, end: number): void {
    const from = this.length
    this.copy(source, start, end)
    const { bytes, length } = this
    for (let at = from; at < length; at++) {
      const value = bytes[at] as number // in range
      if (value === 0x0a || value === 0x0d) bytes[at] = 0x20
    }
  }

  /** A finite double as a JSON number, the shortest that reads back as the same value. */
  finite(value: number): void {
    if (Object.is(value, -0)) this.ascii("-0.0")
    else if (Number.isInteger(value) && Math.abs(value) <= 0x1fffffffffffff) this.integer(value)
    else this.ascii(String(value))
  }
}
