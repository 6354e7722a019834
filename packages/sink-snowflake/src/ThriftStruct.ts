/**
 * Writes structures of Thrift's compact protocol, in which Parquet describes what a file holds.
 *
 * Only what that takes: numbers from zero on, texts, lists, structures in structures. Fields are written in ascending order of their identifiers.
 */
import type { ByteBuffer } from "./ByteBuffer.ts"

const Type = { true: 1, byte: 3, i32: 5, i64: 6, binary: 8, list: 9, struct: 12 } as const

/** A whole number from zero on (below 2^53), seven bits a byte, the lowest first. */
export const varint = (out: ByteBuffer, value: number): void => {
  let rest = value
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) out.byte((rest % 0x80) | 0x80)
  out.byte(rest)
}

export class ThriftStruct {
  private readonly out: ByteBuffer
  /** Identifier of the field before: a field says by how much its own is higher. */
  private last = 0

  private constructor(out: ByteBuffer) {
    this.out = out
  }

  /** Writes a structure with the fields that `fields` writes. */
  static write(out: ByteBuffer, fields: (struct: ThriftStruct) => void): void {
    fields(new ThriftStruct(out))
    out.byte(0)
  }

  i32(field: number, value: number): this {
    this.begin(field, Type.i32)
    return this.number(value)
  }

  i64(field: number, value: number): this {
    this.begin(field, Type.i64)
    return this.number(value)
  }

  byte(field: number, value: number): this {
    this.begin(field, Type.byte)
    this.out.byte(value)
    return this
  }

  /** The type of such a field is its value. */
  true(field: number): this {
    this.begin(field, Type.true)
    return this
  }

  text(field: number, value: string): this {
    this.begin(field, Type.binary)
    return this.bytes(value)
  }

  struct(field: number, fields: (struct: ThriftStruct) => void): this {
    this.begin(field, Type.struct)
    ThriftStruct.write(this.out, fields)
    return this
  }

  i32s(field: number, values: ReadonlyArray<number>): this {
    this.list(field, Type.i32, values.length)
    for (const value of values) this.number(value)
    return this
  }

  texts(field: number, values: ReadonlyArray<string>): this {
    this.list(field, Type.binary, values.length)
    for (const value of values) this.bytes(value)
    return this
  }

  structs<A>(field: number, values: ReadonlyArray<A>, fields: (struct: ThriftStruct, value: A) => void): this {
    this.list(field, Type.struct, values.length)
    for (const value of values) ThriftStruct.write(this.out, (struct) => fields(struct, value))
    return this
  }

  private begin(field: number, type: number): void {
    this.out.byte(((field - this.last) << 4) | type)
    this.last = field
  }

  private list(field: number, type: number, length: number): void {
    this.begin(field, Type.list)
    if (length < 15) return this.out.byte((length << 4) | type)
    this.out.byte(0xf0 | type)
    varint(this.out, length)
  }

  /** Numbers may be negative elsewhere: the lowest bit is for the sign. */
  private number(value: number): this {
    varint(this.out, value * 2)
    return this
  }

  private bytes(value: string): this {
    const bytes = Buffer.from(value, "utf8")
    varint(this.out, bytes.length)
    this.out.raw(bytes)
    return this
  }
}
