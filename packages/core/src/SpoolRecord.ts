/**
 * Elements as records of a spool's files, and back.
 *
 * A record is its payload's length and CRC-32 (each four bytes, little-endian) and the payload. Its first byte tells what it is: the header of a file, a
 * table's schema (which later records of the file name by its number), a batch as the buffers of its columns, or any other element as JSON. Whatever
 * isn't exactly what was written is refused, never read as something else.
 */
import * as Arrow from "apache-arrow"
import * as Schema from "effect/Schema"
import { crc32 } from "node:zlib"
import * as BatchConcat from "./BatchConcat.ts"
import * as ChangeBatch from "./ChangeBatch.ts"
import { ConnectorError, Reason } from "./ConnectorError.ts"
import type { Element, Rows, SnapshotRows } from "./Element.ts"
import type { LogicalType } from "./LogicalType.ts"
import type { TableSchema } from "./TableSchema.ts"

/** Bytes before a record's payload. */
export const frameSize = 8
/** Largest payload. */
export const largestPayload = 0x7ffffff0

const Kind = { header: 0, table: 1, batch: 2, mark: 3 } as const

/** Bytes that are no record of this version. */
export class Malformed extends Error {}

const Unsigned = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const Position = Schema.BigIntFromString

/** What a file begins with. */
const Header = Schema.Struct({
  version: Schema.Literal(1),
  pipeline: Schema.String,
  spool: Schema.String,
  /** The run that wrote the file. */
  run: Schema.String,
  number: Unsigned,
  /** The file before, and its length when this one was begun; null for the first. */
  previous: Schema.NullOr(Schema.Struct({ number: Unsigned, length: Unsigned }))
})
export type Header = typeof Header.Type

const Type: Schema.Codec<LogicalType> = Schema.Union([
  Schema.Struct({
    _tag: Schema.Literals([
      "Boolean",
      "Int16",
      "Int32",
      "Int64",
      "Float32",
      "Float64",
      "Binary",
      "Uuid",
      "Date",
      "Time",
      "Json",
      "Interval",
      "Other"
    ])
  }),
  Schema.Struct({
    _tag: Schema.Literal("Decimal"),
    precision: Schema.UndefinedOr(Schema.Int),
    scale: Schema.UndefinedOr(Schema.Int)
  }),
  Schema.Struct({ _tag: Schema.Literal("Text"), maxLength: Schema.UndefinedOr(Schema.Int) }),
  Schema.Struct({ _tag: Schema.Literal("Timestamp"), utc: Schema.Boolean }),
  Schema.Struct({ _tag: Schema.Literal("Array"), element: Schema.suspend(() => Type) })
])

const Table = Schema.Struct({
  table: Schema.Struct({ schema: Schema.String, name: Schema.String }),
  version: Schema.Finite,
  columns: Schema.Array(Schema.Struct({
    name: Schema.String,
    type: Type,
    sourceType: Schema.String,
    nullable: Schema.Boolean,
    id: Schema.optionalKey(Schema.String)
  })),
  identity: Schema.Union([
    Schema.Struct({ _tag: Schema.Literal("Key"), columns: Schema.Array(Unsigned) }),
    Schema.Struct({ _tag: Schema.Literals(["Full", "None"]) })
  ]),
  origin: Schema.optionalKey(Schema.String)
})

const Sequence = Schema.Struct({ commit: Position, ordinal: Position })
/** Number of a table's schema in the file. */
const table = Unsigned
/** Copies of the table that began below this position are void from here on. */
const below = Position

const Mark = Schema.Union([
  Schema.Struct({
    _tag: Schema.Literal("SnapshotBegin"),
    table,
    position: Position,
    plan: Schema.NullOr(Schema.String),
    resumed: Schema.Boolean,
    estimatedRows: Schema.NullOr(Schema.Finite),
    estimatedBytes: Schema.NullOr(Schema.Finite),
    below
  }),
  Schema.Struct({
    _tag: Schema.Literal("SnapshotChunk"),
    table,
    position: Position,
    chunk: Unsigned,
    rows: Unsigned
  }),
  Schema.Struct({
    _tag: Schema.Literal("SnapshotEnd"),
    table,
    position: Position,
    chunks: Unsigned,
    settled: Position
  }),
  Schema.Struct({ _tag: Schema.Literal("TableLeft"), table, below }),
  Schema.Struct({
    _tag: Schema.Literal("TableFailed"),
    table,
    error: Schema.Struct({
      reason: Reason,
      plugin: Schema.String,
      message: Schema.String,
      hint: Schema.String,
      table: Schema.optionalKey(Schema.String)
    }),
    below
  }),
  Schema.Struct({ _tag: Schema.Literal("Schema"), table, sequence: Sequence }),
  Schema.Struct({ _tag: Schema.Literal("Truncate"), table, sequence: Sequence, commitTime: Position }),
  Schema.Struct({ _tag: Schema.Literal("Watermark"), position: Position, commitTime: Schema.NullOr(Position) }),
  Schema.Struct({
    _tag: Schema.Literal("Message"),
    sequence: Sequence,
    prefix: Schema.String,
    content: Schema.Uint8ArrayFromBase64
  })
])

const HeaderText = Schema.fromJsonString(Header)
const TableText = Schema.fromJsonString(Schema.toCodecJson(Table))
const MarkText = Schema.fromJsonString(Mark)
const encodeHeader = Schema.encodeSync(HeaderText)
const decodeHeader = Schema.decodeUnknownSync(HeaderText)
const encodeTable = Schema.encodeSync(TableText)
const decodeTable = Schema.decodeUnknownSync(TableText)
const encodeMark = Schema.encodeSync(MarkText)
const decodeMark = Schema.decodeUnknownSync(MarkText)

const utf8 = new TextEncoder()
const text = new TextDecoder("utf-8", { fatal: true })

/** A record as pieces that belong one behind the other. */
export interface Encoded {
  readonly parts: ReadonlyArray<Uint8Array>
  readonly length: number
}

/** Puts the frame before a payload. */
const framed = (payload: ReadonlyArray<Uint8Array>): Encoded => {
  let length = 0
  let crc = 0
  for (const part of payload) {
    length += part.byteLength
    crc = crc32(part, crc)
  }
  if (length > largestPayload) throw new RangeError("A record of a spool can't hold more than 2 GiB")
  const frame = new Uint8Array(frameSize)
  const view = new DataView(frame.buffer)
  view.setUint32(0, length, true)
  view.setUint32(4, crc, true)
  return { parts: [frame, ...payload], length: frameSize + length }
}

const textual = (kind: number, json: string): Encoded => {
  const bytes = utf8.encode(json)
  const payload = new Uint8Array(1 + bytes.length)
  payload[0] = kind
  payload.set(bytes, 1)
  return framed([payload])
}

export const header = (header: Header): Encoded => textual(Kind.header, encodeHeader(header))

export const tableSchema = (schema: TableSchema): Encoded => textual(Kind.table, encodeTable(schema))

const fixedHeader = 32
const columnHeader = 16
const align = (size: number): number => (size + 7) & ~7
const padding = new Uint8Array(8)

const bytesOf = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength)

/** The buffers of a column of `rows` rows: validity, offsets, values; without what is behind the rows. */
const buffersOf = (data: Arrow.Data, rows: number): ReadonlyArray<Uint8Array> => {
  const bits = (rows + 7) >> 3
  const none = new Uint8Array(0)
  const validity = data.nullCount > 0 ? bytesOf(data.nullBitmap).subarray(0, bits) : none
  if (Arrow.DataType.isUtf8(data.type) || Arrow.DataType.isBinary(data.type)) {
    const offsets = data.valueOffsets.subarray(0, rows + 1)
    return [validity, bytesOf(offsets), bytesOf(data.values).subarray(0, offsets[rows] ?? 0)]
  }
  if (Arrow.DataType.isBool(data.type)) return [validity, none, bytesOf(data.values).subarray(0, bits)]
  const values: { readonly BYTES_PER_ELEMENT: number } & ArrayBufferView = data.values
  return [validity, none, bytesOf(values).subarray(0, rows * values.BYTES_PER_ELEMENT)]
}

const batch = (element: Rows | SnapshotRows, table: number): Encoded => {
  const { records, rows } = BatchConcat.compact(element.batch)
  const { children } = records.data
  const head = new Uint8Array(fixedHeader + children.length * columnHeader)
  const view = new DataView(head.buffer)
  head[0] = Kind.batch
  view.setUint32(4, table, true)
  view.setUint32(8, rows, true)
  view.setUint32(24, children.length, true)
  if (element._tag === "SnapshotRows") {
    head[1] = 1
    view.setUint32(12, element.chunk, true)
    view.setBigUint64(16, element.position, true)
  }
  const parts: Array<Uint8Array> = [head]
  children.forEach((child, index) => {
    const at = fixedHeader + index * columnHeader
    view.setUint32(at, child.nullCount, true)
    buffersOf(child, rows).forEach((buffer, place) => {
      view.setUint32(at + 4 + place * 4, buffer.length, true)
      parts.push(buffer, padding.subarray(0, align(buffer.length) - buffer.length))
    })
  })
  return framed(parts.filter(({ length }) => length > 0))
}

const orNull = <A>(value: A | undefined): A | null => value ?? null

/** What `element` is as JSON; `copy` is the position of the copy of its table that counts before it. */
const markOf = (
  element: Exclude<Element, Rows | SnapshotRows>,
  table: number,
  copy: bigint | undefined
): typeof Mark.Type => {
  const after = (copy ?? 0n) + 1n
  switch (element._tag) {
    case "SnapshotBegin": {
      const { estimatedBytes, estimatedRows, plan, position, resumed } = element
      return {
        _tag: "SnapshotBegin",
        table,
        position,
        plan: orNull(plan),
        resumed,
        estimatedRows: orNull(estimatedRows),
        estimatedBytes: orNull(estimatedBytes),
        below: position
      }
    }
    case "SnapshotChunk":
    case "SnapshotEnd":
    case "Schema":
    case "Truncate":
      return { ...element, table }
    case "TableLeft":
      return { _tag: "TableLeft", table, below: after }
    case "TableFailed": {
      const { hint, message, plugin, reason, table: named } = element.error
      const error = { reason, plugin, message, hint, ...(named === undefined ? {} : { table: named }) }
      return { _tag: "TableFailed", table, error, below: after }
    }
    case "Watermark":
      return { ...element, commitTime: orNull(element.commitTime) }
    case "Message":
      return element
  }
}

/** The schema that an element's record names. */
export const schemaOf = (element: Element): TableSchema | undefined =>
  "batch" in element ? element.batch.table : "table" in element ? element.table : undefined

/** The record of an element whose schema has the number `table` in its file. */
export const element = (element: Element, table: number, copy: bigint | undefined): Encoded =>
  "batch" in element ? batch(element, table) : textual(Kind.mark, encodeMark(markOf(element, table, copy)))

/** What a record says. */
export type Decoded =
  | { readonly _tag: "Header"; readonly header: Header }
  | { readonly _tag: "Table"; readonly schema: TableSchema }
  | {
    readonly _tag: "Element"
    readonly element: Element
    /** Copies of its table that began below this position are void from here on. */
    readonly below: bigint | undefined
  }

const malformed = (what: string): never => {
  throw new Malformed(what)
}

const parsed = <A>(parse: (text: string) => A, payload: Uint8Array): A => {
  try {
    return parse(text.decode(payload.subarray(1)))
  } catch (cause) {
    // The cause would show what the record holds.
    return malformed(cause instanceof TypeError ? "a text that is not UTF-8" : "a text of another form")
  }
}

/** A column of `rows` rows over three buffers. */
const columnOf = (
  type: Arrow.DataType,
  rows: number,
  nullCount: number,
  [validity, offsets, values]: readonly [Uint8Array, Uint8Array, Uint8Array]
): Arrow.Data => {
  const bits = (rows + 7) >> 3
  if (nullCount > rows || validity.length !== (nullCount > 0 ? bits : 0)) malformed("a column with a wrong validity")
  const nulls = nullCount > 0 ? { nullCount, nullBitmap: validity } : { nullCount: 0 }
  const isText = Arrow.DataType.isUtf8(type)
  if (isText || Arrow.DataType.isBinary(type)) {
    if (offsets.length !== (rows + 1) * 4) malformed("a column with too few offsets")
    const valueOffsets = new Int32Array(offsets.buffer, offsets.byteOffset, rows + 1)
    let last = 0
    if (valueOffsets[0] !== 0) malformed("a column whose offsets don't begin at 0")
    for (const offset of valueOffsets) {
      if (offset < last) malformed("a column whose offsets go back")
      last = offset
    }
    if (last !== values.length) malformed("a column with values of another length")
    return isText
      ? Arrow.makeData({ type: new Arrow.Utf8(), length: rows, valueOffsets, data: values, ...nulls })
      : Arrow.makeData({ type: new Arrow.Binary(), length: rows, valueOffsets, data: values, ...nulls })
  }
  if (offsets.length !== 0) malformed("a column with offsets that it can't have")
  if (Arrow.DataType.isBool(type)) {
    if (values.length !== bits) malformed("a column with values of another length")
    return Arrow.makeData({ type, length: rows, data: values, ...nulls })
  }
  const Values: {
    readonly BYTES_PER_ELEMENT: number
    new(buffer: ArrayBufferLike, from: number, length: number): ArrayBufferView
  } = type.ArrayType
  if (values.length !== rows * Values.BYTES_PER_ELEMENT) malformed("a column with values of another length")
  const data = new Values(values.buffer, values.byteOffset, rows)
  return new Arrow.Data(type, 0, rows, nulls.nullCount, {
    [Arrow.BufferType.DATA]: data,
    ...("nullBitmap" in nulls ? { [Arrow.BufferType.VALIDITY]: nulls.nullBitmap } : {})
  })
}

const batchOf = (payload: Uint8Array, tables: ReadonlyArray<TableSchema>): Rows | SnapshotRows => {
  if (payload.length < fixedHeader) malformed("a batch that is cut off")
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  const table = tables[view.getUint32(4, true)] ?? malformed("a batch of an unknown table")
  const rows = view.getUint32(8, true)
  const { fields } = ChangeBatch.arrowSchema(table)
  if (rows === 0 || view.getUint32(24, true) !== fields.length) malformed("a batch of another shape than its table")
  let at = fixedHeader + fields.length * columnHeader
  if (payload.length < at) malformed("a batch that is cut off")
  const next = (size: number): Uint8Array => {
    const end = at + size
    if (end > payload.length) malformed("a batch that is cut off")
    const buffer = payload.subarray(at, end)
    at += align(size)
    return buffer
  }
  const children = fields.map(({ type }, index) => {
    const head = fixedHeader + index * columnHeader
    const size = (place: number) => view.getUint32(head + 4 + place * 4, true)
    const buffers = [next(size(0)), next(size(1)), next(size(2))] as const
    return columnOf(type, rows, view.getUint32(head, true), buffers)
  })
  if (at !== payload.length) malformed("a batch with something behind it")
  const schema = new Arrow.Schema(fields)
  const data = Arrow.makeData({ type: new Arrow.Struct(schema.fields), length: rows, nullCount: 0, children })
  const batch = ChangeBatch.make(table, new Arrow.RecordBatch(schema, data))
  return payload[1] === 1
    ? { _tag: "SnapshotRows", batch, position: view.getBigUint64(16, true), chunk: view.getUint32(12, true) }
    : { _tag: "Rows", batch }
}

const elementOf = (mark: typeof Mark.Type, tables: ReadonlyArray<TableSchema>): Element => {
  const schema = (): TableSchema =>
    ("table" in mark ? tables[mark.table] : undefined) ?? malformed("an element of an unknown table")
  switch (mark._tag) {
    case "SnapshotBegin":
      return {
        _tag: "SnapshotBegin",
        table: schema(),
        position: mark.position,
        plan: mark.plan ?? undefined,
        resumed: mark.resumed,
        estimatedRows: mark.estimatedRows ?? undefined,
        estimatedBytes: mark.estimatedBytes ?? undefined
      }
    case "SnapshotChunk":
    case "SnapshotEnd":
    case "Schema":
    case "Truncate":
      return { ...mark, table: schema() }
    case "TableLeft":
      return { _tag: "TableLeft", table: schema() }
    case "TableFailed":
      return { _tag: "TableFailed", table: schema(), error: new ConnectorError(mark.error) }
    case "Watermark":
      return { ...mark, commitTime: mark.commitTime ?? undefined }
    case "Message":
      return mark
  }
}

/**
 * What a payload says; it must be at the beginning of a buffer of its own, which a batch keeps. `tables` are the schemas of the file so far. Throws
 * `Malformed`.
 */
export const decode = (payload: Uint8Array, tables: ReadonlyArray<TableSchema>): Decoded => {
  switch (payload[0]) {
    case Kind.header:
      return { _tag: "Header", header: parsed(decodeHeader, payload) }
    case Kind.table:
      return { _tag: "Table", schema: parsed(decodeTable, payload) }
    case Kind.batch:
      return { _tag: "Element", element: batchOf(payload, tables), below: undefined }
    case Kind.mark: {
      const mark = parsed(decodeMark, payload)
      return {
        _tag: "Element",
        element: elementOf(mark, tables),
        below: "below" in mark && !(mark._tag === "SnapshotBegin" && mark.resumed) ? mark.below : undefined
      }
    }
    default:
      return malformed("a record of an unknown kind")
  }
}
