/**
 * What `@etl-stream/testkit` has to know to try the source against its contract. `npm test` and `etl-stream plugin test` run it.
 *
 * It is in the published package, so that whoever installs the plugin can try it in their own surroundings; the testkit is theirs to install.
 */
import { tableId, type TableName } from "@etl-stream/core/TableSchema"
import * as SourceConformance from "@etl-stream/testkit/SourceConformance"
import * as Effect from "effect/Effect"
import { appendFileSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { plugin } from "./index.ts"

const tables: ReadonlyArray<TableName> = [{ schema: "kit", name: "orders" }, { schema: "kit", name: "customers" }]

const options = {
  directory: ".",
  poll: "20 millis",
  tables: Object.fromEntries(tables.map((table) => [tableId(table), {
    files: `${table.name}-*.ndjson`,
    columns: { id: "int64", note: "text?" },
    key: ["id"],
    op: "op"
  }]))
}

/** The lines of a change. */
const linesOf = (change: SourceConformance.Change): ReadonlyArray<object> => {
  switch (change._tag) {
    case "Insert":
      return change.rows.map((row) => ({ op: "insert", ...row }))
    case "Update":
      return change.rows.map((row) => ({ op: "update", ...row }))
    case "Touch":
      return change.ids.map((id) => ({ op: "update", id }))
    case "Delete":
      return change.ids.map((id) => ({ op: "delete", id }))
    case "Truncate":
      return [{ op: "truncate" }]
    default:
      throw new Error(`${change._tag} isn't tried`)
  }
}

export const conformance = SourceConformance.make({
  plugin,
  prepare: Effect.gen(function*() {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "source-ndjson-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    )
    // What the files say, kept by the test itself.
    const held = new Map(tables.map((table) => [tableId(table), new Map<number, string | null>()]))
    let number = 0
    let last: TableName | undefined
    const apply = (rows: Map<number, string | null>, change: SourceConformance.Change): void => {
      if (change._tag === "Insert" || change._tag === "Update") {
        for (const { id, note } of change.rows) rows.set(id, note)
      } else if (change._tag === "Delete") { for (const id of change.ids) rows.delete(id) }
      else if (change._tag === "Truncate") rows.clear()
    }
    return {
      options,
      directory,
      tables,
      change: (table, changes) =>
        Effect.sync(() => {
          // A table's next change often goes to the same file, and always to a new one after another table's.
          if (last !== table || number % 3 === 0) number++
          last = table
          const file = join(directory, `${table.name}-${String(number).padStart(6, "0")}.ndjson`)
          const text = changes.flatMap(linesOf).map((line) => `${JSON.stringify(line)}\n`).join("")
          // In two pieces, the first of which ends within a line.
          appendFileSync(file, text.slice(0, -5))
          appendFileSync(file, text.slice(-5))
          for (const change of changes) apply(held.get(tableId(table)) ?? new Map(), change)
        }),
      rows: (table) => Effect.sync(() => [...held.get(tableId(table)) ?? []].map(([id, note]) => ({ id, note })))
    }
  }),
  cannot: {
    Rekey: "a line has no old key: a row's new key is a delete and an insert",
    AddColumn: "columns are declared in the options",
    SetColumn: "columns are declared in the options",
    RenameColumn: "columns are declared in the options",
    DropColumn: "columns are declared in the options",
    AddTable: "tables are declared in the options",
    Cut: "files of this machine have no connection",
    Heartbeat: "nothing comes of a folder to which nothing is written",
    Resync: "a table is copied again only when it is in quarantine"
  },
  refused: [
    { what: "no folder", options: { tables: options.tables }, path: "directory" },
    {
      what: "a type that is none",
      options: { ...options, tables: { "a.b": { files: "b-*.ndjson", columns: { id: "bigint" } } } },
      path: "tables.a.b.columns.id"
    },
    {
      what: "a pattern without a place for the number",
      options: { ...options, tables: { "a.b": { files: "b.ndjson", columns: { id: "int64" } } } },
      path: "tables.a.b.files"
    }
  ],
  useless: [
    {
      what: "a folder that doesn't exist",
      options: () => ({ ...options, directory: "no/such/folder" }),
      reason: "Missing"
    }
  ]
})
