/**
 * Dead letters as rows of a Parquet file, for tools that read Parquet: text in every column, lists and records as JSON.
 */
import { DeadLetter } from "@etl-stream/core/DeadLetter"
import { vectorFromArray } from "apache-arrow/factories"
import { Table } from "apache-arrow/table"
import { Utf8 } from "apache-arrow/type"
import * as Schema from "effect/Schema"
import * as ParquetFile from "./ParquetFile.ts"
import * as ParquetReader from "./ParquetReader.ts"

const Row = Schema.Struct({
  id: Schema.String,
  pipeline: Schema.String,
  table: Schema.String,
  sequence: Schema.String,
  operation: Schema.String,
  commit_time: Schema.String,
  row: Schema.String,
  identity: DeadLetter.fields.identity,
  key: Schema.fromJsonString(DeadLetter.fields.key),
  column: Schema.String,
  column_target: Schema.String,
  column_type: Schema.String,
  reason: Schema.String,
  values: Schema.fromJsonString(DeadLetter.fields.values),
  unsent: Schema.fromJsonString(DeadLetter.fields.unsent),
  at: Schema.String
})
const names = Object.keys(Row.fields) as ReadonlyArray<keyof typeof Row.Encoded> // the struct's own

const encodeRow = Schema.encodeSync(Row)
const decodeRow = Schema.decodeUnknownSync(Row)

const rowOf = ({ column, commitTime, ...letter }: DeadLetter): typeof Row.Encoded =>
  encodeRow({
    ...letter,
    commit_time: commitTime,
    column: column.name,
    column_target: column.target,
    column_type: column.type
  })

const letterOf = (row: unknown): DeadLetter => {
  const { column, column_target: target, column_type: type, commit_time: commitTime, ...letter } = decodeRow(row)
  return { ...letter, commitTime, column: { name: column, target, type } }
}

/** A file of letters. */
export const encode = (letters: ReadonlyArray<DeadLetter>): Uint8Array => {
  const rows = letters.map(rowOf)
  return ParquetFile.of(
    new Table(
      Object.fromEntries(
        names.map((name) => [name, vectorFromArray(rows.map((row) => row[name]), new Utf8())])
      )
    )
  )
}

/** The letters of a file; throws when it is something else. */
export const decode = (content: Buffer): ReadonlyArray<DeadLetter> => ParquetReader.read(content).map(letterOf)
