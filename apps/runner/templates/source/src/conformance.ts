/**
 * What `@etl-stream/testkit` has to know to try the source against its contract. `npm test` and `etl-stream plugin test` run it.
 *
 * It is in the published package, so that whoever installs the plugin can try it in their own surroundings; the testkit is theirs to install.
 */
import * as SourceConformance from "@etl-stream/testkit/SourceConformance"
import * as Effect from "effect/Effect"
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { plugin } from "./index.ts"

type Notes = ReadonlyMap<number, string | null>

/** What is in the file, without the source. */
const rowsOf = (file: string): Notes => {
  const rows = new Map<number, string | null>()
  for (const line of readFileSync(file, "utf8").split("\n").filter((text) => text !== "")) {
    // Our own lines.
    const { insert, remove, update } = JSON.parse(line) as Partial<
      Record<"insert" | "update" | "remove", SourceConformance.Row>
    >
    const row = insert ?? update
    if (row !== undefined) rows.set(row.id, row.note)
    if (remove !== undefined) rows.delete(remove.id)
  }
  return rows
}

/** The lines that make a change. */
const linesOf = (
  change: SourceConformance.Change,
  noteOf: (id: number) => string | null
): ReadonlyArray<object> => {
  switch (change._tag) {
    case "Insert":
      return change.rows.map((insert) => ({ insert }))
    case "Update":
      return change.rows.map((update) => ({ update }))
    case "Touch":
      return change.ids.map((id) => ({ update: { id, note: noteOf(id) } }))
    case "Rekey":
      return [{ remove: { id: change.from } }, { insert: { id: change.to, note: noteOf(change.from) } }]
    case "Delete":
      return change.ids.map((id) => ({ remove: { id } }))
    default:
      throw new Error(`Not asked for: ${change._tag}`)
  }
}

export const conformance = SourceConformance.make({
  plugin,
  prepare: Effect.gen(function*() {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "source-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    )
    const file = join(directory, "notes.ndjson")
    writeFileSync(file, "")
    return {
      options: { file: "./notes.ndjson", every: "20 millis" },
      directory,
      tables: [{ schema: "files", name: "notes" }],
      change: (_table: unknown, changes: ReadonlyArray<SourceConformance.Change>) =>
        Effect.sync(() => {
          for (const change of changes) {
            const lines = linesOf(change, (id) => rowsOf(file).get(id) ?? null)
            appendFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(""))
          }
        }),
      rows: () => Effect.sync(() => [...rowsOf(file)].map(([id, note]) => ({ id, note })))
    }
  }),
  cannot: {
    Truncate: "no line says it",
    AddColumn: "the columns are those of the plugin",
    SetColumn: "the columns are those of the plugin",
    RenameColumn: "the columns are those of the plugin",
    DropColumn: "the columns are those of the plugin",
    SecondTable: "a file is one table",
    AddTable: "a file is one table",
    Heartbeat: "nothing comes of a file to which nothing is written",
    Resync: "without `copy` a table is copied again only when it is in quarantine",
    Cut: "a file has no connection"
  },
  refused: [
    { what: "no file", options: {}, path: "file" },
    { what: "a period that is none", options: { file: "./notes.ndjson", every: "often" }, path: "every" }
  ],
  useless: [{ what: "a file that isn't there", options: () => ({ file: "./elsewhere.ndjson" }), reason: "Missing" }]
})
