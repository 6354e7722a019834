/**
 * Scans JSON text in bytes, checking it against RFC 8259 without building anything of it.
 *
 * A scanner stands at a position and moves past one token or value at a time; each step says whether what stood there was valid. Newlines are no
 * white space here, because in NDJSON one ends the text.
 */

/** What kind of value the scanner has passed last. */
export const string = 1
export const number = 2
export const literal = 3
export const nothing = 4
export const object = 5
export const array = 6

/** Nesting beyond this is refused: no client needs it, and the scan recurses. */
const maxDepth = 500

const quote = 0x22
const backslash = 0x5c

export class JsonScanner {
  protected readonly body: Uint8Array
  protected pos = 0
  /** The kind of the value passed last. */
  protected kind = 0
  /** Whether a string held half of a surrogate pair: valid JSON, but no text. */
  protected unpaired = false
  private depth = 0

  constructor(body: Uint8Array) {
    this.body = body
  }

  protected space(): void {
    const body = this.body
    let byte = body[this.pos]
    while (byte === 0x20 || byte === 0x09 || byte === 0x0d) byte = body[++this.pos]
  }

  protected value(): boolean {
    switch (this.body[this.pos]) {
      case quote: {
        if (!this.text()) return false
        this.kind = string
        return true
      }
      case 0x7b:
        return this.nested(0x7d, object)
      case 0x5b:
        return this.nested(0x5d, array)
      case 0x74:
        return this.word("true", literal)
      case 0x66:
        return this.word("false", literal)
      case 0x6e:
        return this.word("null", nothing)
      default:
        return this.digits()
    }
  }

  private nested(close: number, kind: number): boolean {
    const body = this.body
    if (++this.depth > maxDepth) return false
    this.pos++
    this.space()
    if (body[this.pos] === close) {
      this.pos++
    } else {
      for (;;) {
        this.space()
        if (kind === object) {
          if (!this.text()) return false
          this.space()
          if (body[this.pos++] !== 0x3a) return false
          this.space()
        }
        if (!this.value()) return false
        this.space()
        const next = body[this.pos++]
        if (next === close) break
        if (next !== 0x2c) return false
      }
    }
    this.depth--
    this.kind = kind
    return true
  }

  private word(word: string, kind: number): boolean {
    for (let i = 0; i < word.length; i++) {
      if (this.body[this.pos + i] !== word.charCodeAt(i)) return false
    }
    this.pos += word.length
    this.kind = kind
    return true
  }

  private digits(): boolean {
    const body = this.body
    let at = this.pos
    if (body[at] === 0x2d) at++
    if (body[at] === 0x30) at++
    else {
      const from = at
      while (isDigit(body[at])) at++
      if (at === from) return false
    }
    if (body[at] === 0x2e) {
      const from = ++at
      while (isDigit(body[at])) at++
      if (at === from) return false
    }
    if (body[at] === 0x65 || body[at] === 0x45) {
      at++
      if (body[at] === 0x2b || body[at] === 0x2d) at++
      const from = at
      while (isDigit(body[at])) at++
      if (at === from) return false
    }
    this.pos = at
    this.kind = number
    return true
  }

  /** A string, from its opening quote to past its closing one. */
  protected text(): boolean {
    const body = this.body
    let at = this.pos
    if (body[at] !== quote) return false
    at++
    for (;;) {
      const byte = body[at]
      if (byte === undefined || byte < 0x20) return false
      at++
      if (byte === quote) {
        this.pos = at
        return true
      }
      if (byte !== backslash) continue
      const escape = body[at++]
      if (escape === 0x75) {
        const unit = this.hex(at)
        if (unit < 0) return false
        at += 4
        if (unit >= 0xd800 && unit < 0xdc00) {
          const low = body[at] === backslash && body[at + 1] === 0x75 ? this.hex(at + 2) : -1
          if (low >= 0xdc00 && low < 0xe000) at += 6
          else this.unpaired = true
        } else if (unit >= 0xdc00 && unit < 0xe000) {
          this.unpaired = true
        }
      } else if (
        escape !== quote && escape !== backslash && escape !== 0x2f && escape !== 0x62 && escape !== 0x66 &&
        escape !== 0x6e && escape !== 0x72 && escape !== 0x74
      ) {
        return false
      }
    }
  }

  private hex(at: number): number {
    let unit = 0
    for (let i = at; i < at + 4; i++) {
      const byte = this.body[i] ?? 0
      const digit = isDigit(byte)
        ? byte - 0x30
        : byte >= 0x61 && byte <= 0x66
        ? byte - 0x57
        : byte >= 0x41 && byte <= 0x46
        ? byte - 0x37
        : -1
      if (digit < 0) return -1
      unit = unit * 16 + digit
    }
    return unit
  }
}

const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= 0x30 && byte <= 0x39
