/**
 * The internal stage: uploads of Parquet files from memory, COPY INTO, and removal.
 *
 * A file of a copy has a name of its own; a large row's file is named by its sequence and replaces an earlier attempt's, whose layout
 * may have been another. An upload that fails is repeated a few times.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as CopyColumns from "./CopyColumns.ts"
import * as Identifier from "./Identifier.ts"
import { literal, qualified, quote } from "./Identifier.ts"
import type { Purpose } from "./ParquetEncoder.ts"
import type { Session, SqlClient } from "./SqlClient.ts"
import * as TableDdl from "./TableDdl.ts"
import type { TableLayout } from "./TableLayout.ts"
import { plainName, sqlName } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

/** The cloud storage behind a stage has troubles of its own. The same content goes to the same name, so that repeating is safe. */
const patience = Schedule.max([Schedule.exponential("500 millis"), Schedule.recurs(3)]).pipe(
  Schedule.setInputType<Failed>(),
  Schedule.while(({ input }) => input.reason === "Unreachable")
)

export interface Stage {
  /** Folder of a table's files: `<stage>/<pipeline>/<table>/<part>`. */
  readonly folder: (layout: TableLayout, part: string) => string
  readonly upload: (layout: TableLayout, folder: string, file: string, content: Buffer) => Effect.Effect<void, Failed>
  /**
   * Loads files of a folder (at most 1,000) into the target or the journal, and returns how many rows that were. `constants` are columns with
   * SQL expressions of their own.
   */
  readonly copy: (
    session: Session,
    layout: TableLayout,
    purpose: Purpose,
    folder: string,
    files: ReadonlyArray<string>,
    constants: ReadonlyArray<{ readonly name: string; readonly expression: string }>
  ) => Effect.Effect<number, Failed>
  /** Removes single files of a folder. */
  readonly removeFiles: (
    layout: TableLayout,
    folder: string,
    files: ReadonlyArray<string>
  ) => Effect.Effect<void, Failed>
  /** Removes a folder with all its files. */
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
      Effect.asVoid(
        sql.execute({
          what: `Uploading rows of ${layout.id}`,
          // A bare name: the driver appends it to the stage's path as it is when it uploads from memory.
          // Parquet is compressed inside; the default would gzip it again and change its name.
          sql: `PUT file://${file} ${location(folder)} AUTO_COMPRESS = FALSE OVERWRITE = TRUE`,
          file: content,
          table: layout.id
        }).pipe(Effect.retry(patience))
      ),
    copy: (session, layout, purpose, folder, files, constants) => {
      // The two options are what the vectorised scanner has anyway: both scanners read the same.
      const columns = [...CopyColumns.of(layout, purpose), ...constants]
      const copied = session.execute({
        what: `Copying rows of ${layout.id}`,
        sql: `COPY INTO ${sqlName(purpose === "target" ? layout.target : layout.journal)} ` +
          `(${columns.map(({ name }) => quote(name)).join(", ")}) ` +
          `FROM (SELECT ${columns.map(({ expression }) => expression).join(", ")} FROM ${location(folder)}) ` +
          `FILES = (${
            files.map(literal).join(", ")
          }) FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE) ON_ERROR = ABORT_STATEMENT`,
        table: layout.id
      })
      // One row per file that was loaded; when none was, one that has no such column.
      return Effect.map(copied, ({ rows }) => rows.reduce((sum, row) => sum + Number(row["rows_loaded"] ?? 0), 0))
    },
    removeFiles: (layout, folder, files) =>
      Effect.forEach(
        files,
        (file) =>
          sql.execute({
            what: `Removing loaded files of ${layout.id}`,
            sql: `REMOVE ${location(`${folder}/${file}`)}`,
            table: layout.id
          }),
        { discard: true }
      ),
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
