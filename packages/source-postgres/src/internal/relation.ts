/**
 * Relation messages and what is made of them: a plan that says, per column as it comes over the wire, how to decode it
 * and which column of the table it belongs to.
 *
 * A plan is made once per Relation message, never per row. Columns are matched by name; one that the table's schema
 * doesn't have is skipped, one that the server doesn't send is an error, because it would silently become null. Only of a relation of the past it is
 * known that the column came later, and null is what it was.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import { tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as BinaryValues from "../BinaryValues.ts"
import * as PostgresError from "../PostgresError.ts"
import * as PostgresType from "../PostgresType.ts"
import * as TextValues from "../TextValues.ts"
import { uint32At } from "./frameBuffer.ts"
import { malformedMessage } from "./malformedMessage.ts"
import type { ValueDecoder } from "./valueDecoder.ts"

/** A column as a Relation message describes it. */
export interface RelationColumn {
  readonly name: string
  readonly typeOid: number
  /** Type modifier, -1 when there is none. */
  readonly typmod: number
  /** Whether it is part of the replica identity; with REPLICA IDENTITY FULL every column is. */
  readonly key: boolean
}

/** A Relation message: a table as its following changes have it. */
export interface Relation {
  readonly oid: number
  readonly schema: string
  readonly name: string
  /** `pg_class.relreplident`: default (primary key), nothing, full, or a named index. */
  readonly replicaIdentity: "d" | "n" | "f" | "i"
  readonly columns: ReadonlyArray<RelationColumn>
}

/** How to decode rows of one relation into one table's builders; arrays are by column as it comes over the wire. */
export interface Plan {
  readonly schema: TableSchema
  readonly relation: Relation
  /** Names that the relation's columns have in the table's schema; undefined for one that the table doesn't have. */
  readonly names: ReadonlyArray<string | undefined>
  /** Indexes of the table's columns that the relation hadn't yet: they are null. */
  readonly absent: Int32Array
  /** Index of the table's column, -1 for a column that the table doesn't have. */
  readonly targets: Int32Array
  readonly text: ReadonlyArray<ValueDecoder>
  readonly binary: ReadonlyArray<ValueDecoder | undefined>
  /** The key's columns; empty when the identity is not a key. */
  readonly key: Int32Array
  /** What a row takes in builders beyond its values' bytes, roughly. */
  readonly rowBytes: number
}

const text = new TextDecoder()

/** A zero-terminated string's end. */
export const stringEnd = (bytes: Uint8Array, at: number, limit: number, what: string): number => {
  const end = bytes.indexOf(0, at)
  return end < 0 || end >= limit ? malformedMessage(`a ${what} without an end`) : end
}

const identities: Readonly<Record<number, Relation["replicaIdentity"]>> = { 0x64: "d", 0x6e: "n", 0x66: "f", 0x69: "i" }

/** Reads a Relation message's body, which begins at `start` after the type byte. */
export const parse = (bytes: Uint8Array, start: number, limit: number): Relation => {
  if (limit - start < 4) malformedMessage("a Relation message that is too short")
  const oid = uint32At(bytes, start)
  const schemaEnd = stringEnd(bytes, start + 4, limit, "schema name")
  const nameEnd = stringEnd(bytes, schemaEnd + 1, limit, "table name")
  let at = nameEnd + 1
  if (limit - at < 3) malformedMessage("a Relation message that is too short")
  const replicaIdentity = identities[bytes[at] as number] // in range
    ?? malformedMessage("a replica identity that is not known")
  const count = (bytes[at + 1] as number) << 8 | (bytes[at + 2] as number) // in range
  at += 3
  const columns: Array<RelationColumn> = []
  for (let index = 0; index < count; index++) {
    if (at >= limit) malformedMessage("fewer columns than announced")
    const key = ((bytes[at] as number) & 1) !== 0 // in range
    const end = stringEnd(bytes, at + 1, limit, "column name")
    if (limit - end < 9) malformedMessage("a column without a type")
    columns.push({
      name: text.decode(bytes.subarray(at + 1, end)),
      typeOid: uint32At(bytes, end + 1),
      typmod: uint32At(bytes, end + 5) | 0,
      key
    })
    at = end + 9
  }
  if (at !== limit) malformedMessage("bytes after a Relation message")
  return {
    oid,
    // pgoutput leaves the system schema's name out.
    schema: schemaEnd === start + 4 ? "pg_catalog" : text.decode(bytes.subarray(start + 4, schemaEnd)),
    name: text.decode(bytes.subarray(schemaEnd + 1, nameEnd)),
    replicaIdentity,
    columns
  }
}

const unsent = (schema: TableSchema, columns: ReadonlyArray<string>): ConnectorError =>
  PostgresError.make(
    "Misconfigured",
    `Changes of table ${tableId(schema.table)} come without column ${columns.join(", ")}`,
    "The publication's column list, or a generated column, leaves it out: publish the column, or start the pipeline again " +
      "so that the table is taken without it.",
    tableId(schema.table)
  )

/** What a column that isn't wanted is decoded as: never. */
const other: LogicalType = { _tag: "Other" }

/**
 * The plan for a relation's rows; throws a `ConnectorError` when a column of the table isn't sent. `now`: the relation is one of the past, and its
 * columns have these names now; columns of the table that it lacks hadn't been added yet.
 */
export const compile = (
  relation: Relation,
  schema: TableSchema,
  types: PostgresType.TypeCatalog,
  now?: ReadonlyArray<string | undefined>
): Plan => {
  const indexes = new Map(schema.columns.map((column, index) => [column.name, index]))
  const names = now ?? relation.columns.map(({ name }) => name)
  const wire = new Set(names)
  const missing = schema.columns.flatMap((column, index) => wire.has(column.name) ? [] : [index])
  if (missing.length > 0 && now === undefined) {
    throw unsent(schema, missing.map((index) => schema.columns[index]?.name ?? ""))
  }
  const targets = Int32Array.from(names, (name) => indexes.get(name ?? "") ?? -1)
  const identity = schema.identity
  const keyNames = identity._tag === "Key"
    ? new Set(identity.columns.map((index) => schema.columns[index]?.name))
    : new Set<string | undefined>()
  const decoders = relation.columns.map((column, position) => {
    const type = schema.columns[targets[position] ?? -1]?.type ?? other
    const resolved = PostgresType.resolve(types, column.typeOid, column.typmod)
    return { type, resolved: resolved.type._tag === type._tag ? resolved : undefined }
  })
  return {
    schema,
    relation,
    names,
    absent: Int32Array.from(missing),
    targets,
    text: decoders.map(({ resolved, type }) =>
      resolved === undefined ? TextValues.decoder(type) : TextValues.decoderOf(resolved)
    ),
    binary: decoders.map(({ resolved }) => resolved === undefined ? undefined : BinaryValues.decoder(resolved)),
    key: Int32Array.from(names.flatMap((name, index) => keyNames.has(name) ? [index] : [])),
    rowBytes: 32 + schema.columns.length * 8
  }
}

/** Whether batches of `a` are batches of `b`: same columns, types and identity. */
export const sameShape = (a: TableSchema, b: TableSchema): boolean =>
  a === b || (
    a.columns.length === b.columns.length &&
    JSON.stringify(a.identity) === JSON.stringify(b.identity) &&
    a.columns.every((column, index) => {
      const other = b.columns[index]
      return other !== undefined && column.name === other.name && column.sourceType === other.sourceType &&
        JSON.stringify(column.type) === JSON.stringify(other.type)
    })
  )
