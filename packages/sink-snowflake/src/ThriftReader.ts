/**
 * Reads structures of Thrift's compact protocol, of which nothing is taken for granted.
 */

export type Value = number | boolean | Uint8Array | ReadonlyArray<Value> | Struct
/** Values by the identifiers of their fields. */
export type Struct = ReadonlyMap<number, Value>

/** What is read isn't what it should be. */
export class Malformed extends Error {}

/** How deep structures and lists are in others; those of Parquet have seven. */
const deepest = 16

export class ThriftReader {
  private readonly bytes: Uint8Array
  /** Where the next byte is read. */
  at: number
  private readonly end: number

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.bytes = bytes
    this.at = at
    this.end = end
  }

  struct(depth = 0): Struct {
    const fields = new Map<number, Value>()
    for (let field = 0;;) {
      const head = this.byte()
      if (head === 0) return fields
      field = head >> 4 === 0 ? this.integer() : field + (head >> 4)
      const type = head & 15
      // The type of a field that is true or false says which.
      fields.set(field, type === 1 || type === 2 ? type === 1 : this.value(type, depth))
    }
  }

  /** A number from zero on, seven bits a byte. */
  varint(): number {
    let value = 0
    for (let factor = 1;; factor *= 0x80) {
      const byte = this.byte()
      value += (byte & 0x7f) * factor
      if (value > Number.MAX_SAFE_INTEGER) throw new Malformed("a number is too large")
      if (byte < 0x80) return value
    }
  }

  byte(): number {
    const byte = this.at < this.end ? this.bytes[this.at++] : undefined
    if (byte === undefined) throw new Malformed("it ends too early")
    return byte
  }

  /** Its sign is in the lowest bit. */
  private integer(): number {
    const value = this.varint()
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2
  }

  private value(type: number, depth: number): Value {
    if (depth > deepest) throw new Malformed("structures are nested too deeply")
    switch (type) {
      case 1:
      case 2:
        return this.byte() === 1
      case 3:
        return this.byte()
      case 4:
      case 5:
      case 6:
        return this.integer()
      case 7:
        return this.take(8)
      case 8:
        return this.take(this.varint())
      case 9:
      case 10: {
        const head = this.byte()
        const length = head >> 4 === 15 ? this.varint() : head >> 4
        // Every element has a byte at least.
        if (length > this.end - this.at) throw new Malformed("a list is longer than what it is in")
        return Array.from({ length }, () => this.value(head & 15, depth + 1))
      }
      case 12:
        return this.struct(depth + 1)
      default:
        throw new Malformed("a field has a type that isn't known")
    }
  }

  private take(length: number): Uint8Array {
    const from = this.at
    if (length > this.end - from) throw new Malformed("it ends too early")
    this.at += length
    return this.bytes.subarray(from, this.at)
  }
}

export const number = (struct: Struct, field: number): number => {
  const value = struct.get(field)
  if (typeof value !== "number") throw new Malformed(`field ${field} isn't a number`)
  return value
}

export const bytes = (value: Value | undefined): Uint8Array => {
  if (!(value instanceof Uint8Array)) throw new Malformed("a text is missing")
  return value
}

export const structOf = (value: Value | undefined): Struct => {
  if (!(value instanceof Map)) throw new Malformed("a structure is missing")
  return value
}

export const list = (struct: Struct, field: number): ReadonlyArray<Value> => {
  const value = struct.get(field)
  if (!Array.isArray(value)) throw new Malformed(`field ${field} isn't a list`)
  return value
}
