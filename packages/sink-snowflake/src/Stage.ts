/**
 * The internal stage: uploads of Parquet files from memory, COPY INTO, and removal.
 *
 * A file's name says what it holds and is never used for anything else, and an upload never replaces a file: so a COPY that is
 * repeated finds its files loaded already and does nothing.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Identifier from "./Identifier.ts"
import { literal, qualified, quote } from "./Identifier.ts"
import * as ParquetEncoder from "./ParquetEncoder.ts"
import type { Session, SqlClient } from "./SqlClient.ts"
import * as TableDdl from "./TableDdl.ts"
import type { TableLayout } from "./TableLayout.ts"
import { plainName, sqlName } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

export interface Stage {
  /** Folder of a table's files: `<stage>/<pipeline>/<table>/<part>`. */
  readonly folder: (layout: TableLayout, part: string) => string
  readonly upload: (layout: TableLayout, folder: string, file: string, content: Buffer) => Effect.Effect<void, Failed>
  /** Loads files of a folder (at most 1,000) into the target or the journal. `constants` are columns with SQL expressions of their own. */
  readonly copy: (
    session: Session,
    layout: TableLayout,
    purpose: ParquetEncoder.Purpose,
    folder: string,
    files: ReadonlyArray<string>,
    constants: ReadonlyArray<{ readonly name: string; readonly expression: string }>
  ) => Effect.Effect<void, Failed>
  readonly remove: (layout: TableLayout, folder: string) => Effect.Effect<void, Failed>
}

export const make = (sql: SqlClient, pipeline: string, database: string, schema: string): Stage => {
  // Plain names go without quotes, so that locations read as in Snowflake's documentation.
  const plain = Identifier.isPlain(database) && Identifier.isPlain(schema)
  const stage = plain
    ? `@${database}.${schema}.${TableDdl.stageName}`
    : `@${qualified(database, schema, TableDdl.stageName)}`
  const location = (folder: string): string => plain ? folder : literal(folder)
  return {
    folder: (layout, part) => `${stage}/${plainName(pipeline)}/${plainName(layout.id)}/${part}`,
    upload: (layout, folder, file, content) =>
      Effect.asVoid(sql.execute({
        what: `Uploading rows of ${layout.id}`,
        // A bare name: the driver appends it to the stage's path as it is when it uploads from memory.
        // Parquet is compressed inside; the default would gzip it again and change its name.
        sql: `PUT file://${file} ${location(folder)} AUTO_COMPRESS = FALSE OVERWRITE = FALSE`,
        file: content,
        table: layout.id
      })),
    copy: (session, layout, purpose, folder, files, constants) => {
      const columns = [...ParquetEncoder.copyColumns(layout, purpose), ...constants]
      return Effect.asVoid(session.execute({
        what: `Copying rows of ${layout.id}`,
        sql: `COPY INTO ${sqlName(purpose === "target" ? layout.target : layout.journal)} ` +
          `(${columns.map(({ name }) => quote(name)).join(", ")}) ` +
          `FROM (SELECT ${columns.map(({ expression }) => expression).join(", ")} FROM ${location(folder)}) ` +
          `FILES = (${files.map(literal).join(", ")}) FILE_FORMAT = (TYPE = PARQUET) ON_ERROR = ABORT_STATEMENT`,
        table: layout.id
      }))
    },
    remove: (layout, folder) =>
      Effect.asVoid(
        sql.execute({
          what: `Removing loaded files of ${layout.id}`,
          sql: `REMOVE ${location(folder)}`,
          table: layout.id
        })
      )
  }
}
