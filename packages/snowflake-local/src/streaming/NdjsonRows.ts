/**
 * Reads the NDJSON body of an append and re-encodes its rows for the commit.
 *
 * One pass over the bytes checks every line against RFC 8259, matches its keys with the table's columns and writes one spool line per good
 * row: `{"r":<row>,"c0":"<text>",...}`, in which every value is a JSON string holding exactly the characters that the client sent. So numbers
 * keep all their digits and the commit can hand the spool to DuckDB as text columns. A row that can't be matched (unknown column, key given
 * twice, a structure where a scalar belongs) is rejected with its reason and leaves no spool line; a line that is no JSON at all fails the
 * whole body.
 */
import { isUtf8 } from "node:buffer"
import { array, JsonScanner, literal, nothing, number, object, string } from "./JsonScanner.ts"

/** What a column takes: `text` any scalar, `semiStructured` any JSON, `object` and `array` only those. */
export type Holds = "text" | "varchar" | "semiStructured" | "object" | "array"

/** The columns that keys are matched with, in table order; the position is the number in the spool's field names. */
export interface RowLayout {
  readonly names: ReadonlyArray<string>
  readonly holds: ReadonlyArray<Holds>
  /** Columns with a DEFAULT: an explicit null must stay distinct from a missing key, so it sets the field `n<position>`. */
  readonly hasDefault: ReadonlyArray<boolean>
  readonly exact: ReadonlyMap<string, number>
  readonly folded: ReadonlyMap<string, number>
}

const ambiguous = -2

/**
 * Prepares the matching of a table's columns. A key matches the column of exactly that name, else the only column that is equal ignoring case:
 * MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE, as the default pipe matches.
 */
export const layout = (
  columns: ReadonlyArray<{ readonly name: string; readonly holds: Holds; readonly hasDefault: boolean }>
): RowLayout => {
  const folded = new Map<string, number>()
  columns.forEach((column, index) => {
    const key = column.name.toUpperCase()
    folded.set(key, folded.has(key) ? ambiguous : index)
  })
  return {
    names: columns.map((column) => column.name),
    holds: columns.map((column) => column.holds),
    hasDefault: columns.map((column) => column.hasDefault),
    exact: new Map(columns.map((column, index) => [column.name, index])),
    folded
  }
}

/** A row that was taken but can't be stored: its number, and where its bytes lie in the body. */
export interface RejectedRow {
  readonly row: number
  readonly message: string
  readonly start: number
  readonly end: number
}

export type Encoded =
  | { readonly _tag: "Rows"; readonly rows: number; readonly rejected: ReadonlyArray<RejectedRow> }
  /** The body is no NDJSON; nothing of it may be stored. `line` counts from 1. */
  | { readonly _tag: "Malformed"; readonly line: number; readonly message: string }

/** A growable byte buffer that is used again for each body. */
export class SpoolBuffer {
  bytes: Buffer = Buffer.allocUnsafe(1 << 20)
  length = 0

  /** Makes room for `more` further bytes. */
  reserve(more: number): void {
    if (this.length + more <= this.bytes.length) return
    const grown = Buffer.allocUnsafe(Math.max(this.bytes.length * 2, this.length + more))
    this.bytes.copy(grown, 0, 0, this.length)
    this.bytes = grown
  }

  /** Forgets the content, and the memory too when one large body had made it grow. */
  reset(): void {
    this.length = 0
    if (this.bytes.length > 64 << 20) this.bytes = Buffer.allocUnsafe(1 << 20)
  }
}

const absent = 0

const quote = 0x22
const backslash = 0x5c
const newline = 0x0a

/**
 * Encodes a body's rows into `out`, numbering them from `firstRow`; `Rows.rows` counts the rejected ones too.
 */
export const encode = (body: Uint8Array, columns: RowLayout, firstRow: number, out: SpoolBuffer): Encoded => {
  if (!isUtf8(body)) return { _tag: "Malformed", line: 1, message: "the body is not UTF-8" }
  if (body.length === 0) return { _tag: "Malformed", line: 1, message: "the body holds no rows" }
  if (body[body.length - 1] !== newline) {
    const lines = body.reduce((count, byte) => byte === newline ? count + 1 : count, 1)
    return { _tag: "Malformed", line: lines, message: "the last row does not end with a newline" }
  }
  return new Encoder(body, columns, out).encode(firstRow)
}

class Encoder extends JsonScanner {
  private rejection: string | undefined = undefined
  private readonly kinds: Uint8Array
  private readonly starts: Int32Array
  private readonly ends: Int32Array
  private readonly fields: ReadonlyArray<Uint8Array>
  // The key that stood at each place in the row before: rows of one writer mostly repeat their keys in the same order.
  private readonly knownKeys: Array<Uint8Array> = []
  private readonly knownColumns: Array<number> = []
  private readonly columns: RowLayout
  private readonly out: SpoolBuffer

  constructor(body: Uint8Array, columns: RowLayout, out: SpoolBuffer) {
    super(body)
    this.columns = columns
    this.out = out
    const count = columns.names.length
    this.kinds = new Uint8Array(count)
    this.starts = new Int32Array(count)
    this.ends = new Int32Array(count)
    this.fields = columns.names.map((_, index) => Buffer.from(`,"c${index}":`))
  }

  encode(firstRow: number): Encoded {
    const rejected: Array<RejectedRow> = []
    let rows = 0
    while (this.pos < this.body.length) {
      const start = this.pos
      this.rejection = undefined
      this.unpaired = false
      this.kinds.fill(absent)
      if (!this.row()) {
        return {
          _tag: "Malformed",
          line: rows + 1,
          message: `not a JSON text (RFC 8259) on one line, at byte ${this.pos - start}`
        }
      }
      const end = this.pos - 1
      if (this.unpaired && this.rejection === undefined) this.rejection = "A string holds an unpaired UTF-16 surrogate"
      if (this.rejection === undefined) this.check()
      if (this.rejection === undefined) this.write(firstRow + rows, end - start)
      else rejected.push({ row: firstRow + rows, message: this.rejection, start, end })
      rows++
    }
    return { _tag: "Rows", rows, rejected }
  }

  /** One line up to and with its newline; false when it is no JSON. */
  private row(): boolean {
    this.space()
    if (this.body[this.pos] !== 0x7b) {
      if (!this.value()) return false
      this.rejection = "The row is not a JSON object"
    } else if (!this.members()) {
      return false
    }
    this.space()
    if (this.body[this.pos] !== newline) return false
    this.pos++
    return true
  }

  private members(): boolean {
    const body = this.body
    this.pos++
    this.space()
    if (body[this.pos] === 0x7d) {
      this.pos++
      return true
    }
    for (let place = 0;; place++) {
      this.space()
      const keyStart = this.pos
      if (!this.text()) return false
      const column = this.columnAt(place, keyStart, this.pos)
      this.space()
      if (body[this.pos] !== 0x3a) return false
      this.pos++
      this.space()
      const start = this.pos
      if (!this.value()) return false
      if (column >= 0) {
        if (this.kinds[column] !== absent) this.rejection ??= `Column ${this.columns.names[column]} is given twice`
        this.kinds[column] = this.kind
        this.starts[column] = start
        this.ends[column] = this.pos
      }
      this.space()
      const next = body[this.pos]
      this.pos++
      if (next === 0x7d) return true
      if (next !== 0x2c) return false
    }
  }

  private columnAt(place: number, start: number, end: number): number {
    const known = this.knownKeys[place]
    if (known !== undefined && known.length === end - start) {
      let same = true
      for (let i = 0; i < known.length; i++) {
        if (known[i] !== this.body[start + i]) {
          same = false
          break
        }
      }
      // An unknown key is never remembered, so each row that holds it is rejected by name.
      if (same) return this.knownColumns[place] ?? -1
    }
    const raw = this.body.subarray(start, end)
    // A JSON string that passed the scan is what JSON.parse takes, and it always gives a string.
    const key = JSON.parse(Buffer.from(raw).toString("utf8")) as string
    const column = this.columns.exact.get(key) ?? this.columns.folded.get(key.toUpperCase()) ?? -1
    if (column >= 0) {
      this.knownKeys[place] = raw
      this.knownColumns[place] = column
      return column
    }
    this.rejection ??= column === ambiguous
      ? "A key matches several columns that differ in case only"
      : "A key matches no column of the table"
    return -1
  }

  /** Whether each value's kind fits its column at all; what the text must look like is the conversion's concern. */
  private check(): void {
    for (let column = 0; column < this.kinds.length; column++) {
      const kind = this.kinds[column]
      if (kind === absent || kind === nothing) continue
      const holds = this.columns.holds[column]
      const fits = holds === "object"
        ? kind === object
        : holds === "array"
        ? kind === array
        : holds === "text"
        ? kind === string || kind === number || kind === literal
        : true
      if (!fits) {
        this.rejection = `The kind of JSON value does not fit column ${this.columns.names[column]}`
        return
      }
    }
  }

  private write(row: number, size: number): void {
    const out = this.out
    // Escaping at most doubles a value's bytes; each column adds its field name, each row its number.
    out.reserve(2 * size + 24 * this.kinds.length + 32)
    const target = out.bytes
    let at = out.length
    at += target.write(`{"r":${row}`, at, "latin1")
    for (let column = 0; column < this.kinds.length; column++) {
      const kind = this.kinds[column]
      if (kind === absent) continue
      if (kind === nothing) {
        if (this.columns.hasDefault[column] === true) at += target.write(`,"n${column}":"1"`, at, "latin1")
        continue
      }
      const field = this.fields[column]
      if (field !== undefined) {
        target.set(field, at)
        at += field.length
      }
      const holds = this.columns.holds[column]
      const start = this.starts[column] ?? 0
      const end = this.ends[column] ?? 0
      at = kind === string && (holds === "text" || holds === "varchar")
        ? this.copy(start, end, at)
        : this.copyEscaped(start, end, at)
    }
    target[at++] = 0x7d
    target[at++] = newline
    out.length = at
  }

  private copy(start: number, end: number, at: number): number {
    const target = this.out.bytes
    if (end - start > 64) {
      target.set(this.body.subarray(start, end), at)
      return at + end - start
    }
    for (let i = start; i < end; i++) target[at++] = this.body[i] ?? 0
    return at
  }

  /** Writes raw JSON as the content of a JSON string. */
  private copyEscaped(start: number, end: number, at: number): number {
    const target = this.out.bytes
    target[at++] = quote
    for (let i = start; i < end; i++) {
      const byte = this.body[i] ?? 0
      if (byte === quote || byte === backslash) {
        target[at++] = backslash
        target[at++] = byte
      } else if (byte < 0x20) {
        // Only tab and carriage return can stand between the tokens of one line.
        target[at++] = 0x20
      } else {
        target[at++] = byte
      }
    }
    target[at++] = quote
    return at
  }
}
