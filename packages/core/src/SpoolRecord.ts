/**
 * Elements as records of a spool's files, and back.
 *
 * A record's payload is in a frame (`SpoolFrame`). Its first byte tells what it is: the header of a file, a table's schema (which later records of the file
 * name by its number), a batch as the buffers of its columns (`SpoolBatch`), or any other element as JSON. Whatever isn't exactly what was written is
 * refused, never read as something else.
 */
import * as Schema from "effect/Schema"
import { ConnectorError, Reason } from "./ConnectorError.ts"
import type { Element, Rows, SnapshotRows } from "./Element.ts"
import type { LogicalType } from "./LogicalType.ts"
import * as SpoolBatch from "./SpoolBatch.ts"
import { type Encoded, framed, Kind, malformed } from "./SpoolFrame.ts"
import type { TableSchema } from "./TableSchema.ts"

export { type Encoded, frameSize, largestPayload, Malformed } from "./SpoolFrame.ts"

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

const textual = (kind: number, json: string): Encoded => {
  const bytes = utf8.encode(json)
  const payload = new Uint8Array(1 + bytes.length)
  payload[0] = kind
  payload.set(bytes, 1)
  return framed([payload])
}

export const header = (header: Header): Encoded => textual(Kind.header, encodeHeader(header))

export const tableSchema = (schema: TableSchema): Encoded => textual(Kind.table, encodeTable(schema))

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
  "batch" in element ? SpoolBatch.encode(element, table) : textual(Kind.mark, encodeMark(markOf(element, table, copy)))

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

const parsed = <A>(parse: (text: string) => A, payload: Uint8Array): A => {
  try {
    return parse(text.decode(payload.subarray(1)))
  } catch (cause) {
    // The cause would show what the record holds.
    return malformed(cause instanceof TypeError ? "a text that is not UTF-8" : "a text of another form")
  }
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
      return { _tag: "Element", element: SpoolBatch.decode(payload, tables), below: undefined }
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
