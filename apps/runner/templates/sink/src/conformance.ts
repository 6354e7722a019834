/**
 * What `@etl-stream/testkit` has to know to try the sink against its contract. `npm test` and `etl-stream plugin test` run it.
 *
 * It is in the published package, so that whoever installs the plugin can try it in their own surroundings; the testkit is theirs to install.
 */
import * as LogicalType from "@etl-stream/core/LogicalType"
import { type ColumnSchema, tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as SinkConformance from "@etl-stream/testkit/SinkConformance"
import * as Effect from "effect/Effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync, type SQLOutputValue } from "node:sqlite"
import { plugin } from "./index.ts"
import * as Statements from "./Statements.ts"

/** The values that stand for infinity, as the source has them. */
const infinities = new Map<unknown, string>([
  [BigInt(LogicalType.dateInfinity), "infinity"],
  [BigInt(LogicalType.dateNegativeInfinity), "-infinity"],
  [LogicalType.timestampInfinity, "infinity"],
  [LogicalType.timestampNegativeInfinity, "-infinity"]
])

const textOf = ({ type }: ColumnSchema, value: SQLOutputValue | undefined): string | null => {
  if (value === null || value === undefined) return null
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex")
  const infinity = type._tag === "Date" || type._tag === "Timestamp" ? infinities.get(value) : undefined
  return infinity ?? String(value)
}

/** What is in the file, without the sink. */
const rowsOf = (file: string, table: TableSchema): ReadonlyArray<SinkConformance.HeldRow> => {
  const database = new DatabaseSync(file, { readOnly: true })
  try {
    const known = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = ?").get(tableId(table.table))
    if (known === undefined) return []
    const select = database.prepare(`SELECT * FROM ${Statements.nameOf(table)}`)
    select.setReadBigInts(true)
    return select.all().map((row) => ({
      cells: Object.fromEntries(table.columns.map((column) => [column.name, textOf(column, row[column.name])]))
    }))
  } finally {
    database.close()
  }
}

export const conformance = SinkConformance.make({
  plugin,
  mode: "mirror",
  prepare: Effect.gen(function*() {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "sink-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    )
    return {
      options: { file: "./warehouse.db" },
      directory,
      rows: (table: TableSchema) => Effect.sync(() => rowsOf(join(directory, "warehouse.db"), table))
    }
  }),
  cannot: {
    Resume: "a row-wise sink begins an unfinished copy anew",
    Cut: "a file has no connection",
    Spoil: "a table of SQLite can't be made to refuse what comes"
  },
  refused: [
    { what: "no file", options: {}, path: "file" },
    { what: "an option that there isn't", options: { file: "./warehouse.db", mode: "fast" }, path: "mode" }
  ],
  useless: [{ what: "a folder in place of the file", options: () => ({ file: "." }), reason: "Misconfigured" }]
})
