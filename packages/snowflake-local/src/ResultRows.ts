/**
 * Results as the driver reads them: JSON rows of strings and nulls, the first part in the response, the rest in chunks that it fetches.
 *
 * Chunks are written to files while the query runs, so a result of any size needs the memory of one DuckDB vector at a time.
 */
import type { DuckDBDataChunk, DuckDBResult, DuckDBType } from "@duckdb/node-api"
import {
  DuckDBBlobValue,
  DuckDBDateValue,
  DuckDBTimestampTZValue,
  DuckDBTimestampValue,
  DuckDBTimeValue,
  DuckDBTypeId
} from "@duckdb/node-api"
import { open } from "node:fs/promises"
import type { FileHandle } from "node:fs/promises"
import type { SnowflakeType } from "./sql/SnowflakeType.ts"
import * as Types from "./sql/SnowflakeType.ts"

export interface ResultColumn {
  readonly name: string
  readonly type: SnowflakeType
  readonly nullable: boolean
}

/** One statement's result. `inline` is JSON rows without the outer brackets; chunks hold rows in the same form. */
export interface ResultSet {
  readonly columns: ReadonlyArray<ResultColumn>
  readonly inline: string
  readonly inlineRows: number
  readonly total: number
  readonly chunks: ReadonlyArray<{ readonly path: string; readonly rows: number; readonly bytes: number }>
}

/** Rows that stand in the response itself, and the bytes of a chunk (about). */
const inlineBytes = 1_000_000
const chunkBytes = 8_000_000

/** A column from its name and Snowflake type. */
export const column = (name: string, type: SnowflakeType = Types.text, nullable = true): ResultColumn => ({
  name,
  type,
  nullable
})

/** A small result that the server made itself. */
export const ofRows = (
  columns: ReadonlyArray<ResultColumn>,
  rows: ReadonlyArray<ReadonlyArray<string | null>>
): ResultSet => ({
  columns,
  inline: rows.map((row) => JSON.stringify(row)).join(","),
  inlineRows: rows.length,
  total: rows.length,
  chunks: []
})

/** The result of a statement that has nothing to tell but that it worked. */
export const status = (message: string): ResultSet => ofRows([column("status")], [[message]])

/** The Snowflake type of a DuckDB result column. */
export const typeOf = (type: DuckDBType): SnowflakeType => {
  switch (type.typeId) {
    case DuckDBTypeId.DECIMAL:
      return { kind: "FIXED", precision: "width" in type ? type.width : 38, scale: "scale" in type ? type.scale : 0 }
    case DuckDBTypeId.TINYINT:
    case DuckDBTypeId.SMALLINT:
    case DuckDBTypeId.INTEGER:
    case DuckDBTypeId.BIGINT:
    case DuckDBTypeId.HUGEINT:
    case DuckDBTypeId.UTINYINT:
    case DuckDBTypeId.USMALLINT:
    case DuckDBTypeId.UINTEGER:
    case DuckDBTypeId.UBIGINT:
    case DuckDBTypeId.UHUGEINT:
      return Types.number38
    case DuckDBTypeId.FLOAT:
    case DuckDBTypeId.DOUBLE:
      return { kind: "REAL" }
    case DuckDBTypeId.BOOLEAN:
      return { kind: "BOOLEAN" }
    case DuckDBTypeId.DATE:
      return { kind: "DATE" }
    case DuckDBTypeId.TIME:
      return { kind: "TIME", scale: 9 }
    case DuckDBTypeId.TIMESTAMP:
    case DuckDBTypeId.TIMESTAMP_S:
    case DuckDBTypeId.TIMESTAMP_MS:
    case DuckDBTypeId.TIMESTAMP_NS:
      return { kind: "TIMESTAMP_NTZ", scale: 9 }
    case DuckDBTypeId.TIMESTAMP_TZ:
      return { kind: "TIMESTAMP_LTZ", scale: 9 }
    case DuckDBTypeId.BLOB:
      return { kind: "BINARY", length: Types.defaultBinaryLength }
    case DuckDBTypeId.VARCHAR:
      return type.alias === "JSON" ? { kind: "VARIANT" } : Types.text
    default:
      return Types.text
  }
}

/** Whether a DuckDB result type can stand for this Snowflake type, so that a guess from the query's columns may refine it. */
export const fits = (guess: SnowflakeType, type: SnowflakeType): boolean => {
  const family = (of: SnowflakeType) =>
    Types.isSemiStructured(of) ? "JSON" : of.kind === "TIMESTAMP_TZ" || of.kind === "TIMESTAMP_LTZ" ? "TZ" : of.kind
  if (family(guess) !== family(type)) return false
  return !(guess.kind === "FIXED" && type.kind === "FIXED") ||
    (guess.precision === type.precision && guess.scale === type.scale)
}

/** Microseconds as seconds with nine decimals. */
const seconds = (micros: bigint): string => {
  const sign = micros < 0n ? "-" : ""
  const size = micros < 0n ? -micros : micros
  return `${sign}${size / 1_000_000n}.${String(size % 1_000_000n).padStart(6, "0")}000`
}

const real = (value: number): string =>
  Number.isNaN(value) ? "NaN" : value === Infinity ? "inf" : value === -Infinity ? "-inf" : String(value)

const encode = (value: unknown, type: SnowflakeType): string | null => {
  if (value === null || value === undefined) return null
  if (typeof value === "string") return value
  if (typeof value === "boolean") return value ? "1" : "0"
  if (typeof value === "bigint") return value.toString()
  if (typeof value === "number") return type.kind === "REAL" ? real(value) : String(value)
  if (value instanceof DuckDBDateValue) return String(value.days)
  if (value instanceof DuckDBTimestampTZValue) {
    return type.kind === "TIMESTAMP_TZ" ? `${seconds(value.micros)} 1440` : seconds(value.micros)
  }
  if (value instanceof DuckDBTimestampValue) return seconds(value.micros)
  if (value instanceof DuckDBTimeValue) return seconds(value.micros)
  if (value instanceof DuckDBBlobValue) return Buffer.from(value.bytes).toString("hex").toUpperCase()
  return String(value)
}

/** One DuckDB vector as JSON rows, without the outer brackets. */
const rowsOf = (chunk: DuckDBDataChunk, columns: ReadonlyArray<ResultColumn>): string => {
  const values = columns.map((_, index) => chunk.getColumnValues(index))
  const rows: Array<string> = []
  for (let row = 0; row < chunk.rowCount; row++) {
    let line = "["
    for (let at = 0; at < columns.length; at++) {
      const type = columns[at]?.type
      const text = type === undefined ? null : encode(values[at]?.[row], type)
      line += (at === 0 ? "" : ",") + (text === null ? "null" : JSON.stringify(text))
    }
    rows.push(`${line}]`)
  }
  return rows.join(",")
}

/** Reads a result to its end; chunks beyond the first megabyte go to `<folder>/<name>-<n>`. */
export const read = async (
  result: DuckDBResult,
  columns: ReadonlyArray<ResultColumn>,
  place: { readonly folder: string; readonly name: string }
): Promise<ResultSet> => {
  let inline = ""
  let inlineRows = 0
  let total = 0
  const chunks: Array<{ path: string; rows: number; bytes: number }> = []
  let file: FileHandle | undefined
  let current = { path: "", rows: 0, bytes: 0 }
  const close = async () => {
    if (file === undefined) return
    await file.close()
    file = undefined
    chunks.push(current)
  }
  try {
    for (;;) {
      const chunk = await result.fetchChunk()
      if (chunk === null || chunk.rowCount === 0) break
      const text = rowsOf(chunk, columns)
      total += chunk.rowCount
      if (chunks.length === 0 && file === undefined && inline.length + text.length <= inlineBytes) {
        inline += (inline === "" ? "" : ",") + text
        inlineRows += chunk.rowCount
        continue
      }
      if (file === undefined) {
        const name = `${place.name}-${chunks.length}`
        current = { path: name, rows: 0, bytes: 0 }
        file = await open(`${place.folder}/${name}`, "w")
      }
      const bytes = Buffer.from((current.rows === 0 ? "" : ",") + text)
      await file.write(bytes)
      current.rows += chunk.rowCount
      current.bytes += bytes.length
      if (current.bytes >= chunkBytes) await close()
    }
  } finally {
    await close()
  }
  return { columns, inline, inlineRows, total, chunks }
}

/** A column's entry in `rowtype`. */
export const rowType = (column: ResultColumn): Readonly<Record<string, unknown>> => {
  const { name, nullable, type } = column
  const base = {
    name,
    nullable,
    database: "",
    schema: "",
    table: "",
    byteLength: null,
    length: null,
    precision: null,
    scale: null
  }
  switch (type.kind) {
    case "FIXED":
      return { ...base, type: "fixed", precision: type.precision, scale: type.scale }
    case "REAL":
      return { ...base, type: "real" }
    case "TEXT":
      return { ...base, type: "text", length: type.length, byteLength: type.length * 4 }
    case "BINARY":
      return { ...base, type: "binary", length: type.length, byteLength: type.length }
    case "TIME":
    case "TIMESTAMP_NTZ":
    case "TIMESTAMP_LTZ":
    case "TIMESTAMP_TZ":
      return { ...base, type: type.kind.toLowerCase(), precision: 0, scale: type.scale }
    default:
      return { ...base, type: type.kind.toLowerCase() }
  }
}
