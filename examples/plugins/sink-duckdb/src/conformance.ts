/**
 * What `@etl-stream/testkit` has to know to try the sink against its contract. `npm test` and `etl-stream plugin test` run it.
 *
 * It is in the published package, so that whoever installs the plugin can try it in their own surroundings; the testkit is theirs to install.
 */
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as SinkConformance from "@etl-stream/testkit/SinkConformance"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Config } from "./Config.ts"
import * as Database from "./Database.ts"
import { plugin } from "./index.ts"
import * as Names from "./Names.ts"

// The rows of a case are few: a second thread would only wait for the first, which takes half as long again.
const options = { file: "warehouse.duckdb", memory: "256MiB", threads: 1 }
const config = Schema.decodeUnknownSync(Config)(options)

/** A value as the text that the kit compares. */
const cell = (name: string, isBinary: boolean): string =>
  isBinary ? `lower(hex(${Names.quote(name)}))` : `CAST(${Names.quote(name)} AS VARCHAR)`

export const conformance = SinkConformance.make({
  plugin,
  mode: "mirror",
  prepare: Effect.gen(function*() {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "sink-duckdb-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    )
    const file = join(directory, options.file)
    /** Statements beside the sink's, by the same way: DuckDB has one instance of a file. */
    const beside = <A>(use: (session: Database.Session) => Promise<A>) =>
      Effect.scoped(Effect.flatMap(Database.make(file, config), (database) => database.transaction(undefined, use)))
    const targetOf = (table: TableSchema) => Names.qualified(Names.targetOf(config, table))
    return {
      options,
      directory,
      rows: (table) =>
        beside(async (session) => {
          const found = await session.number(
            `SELECT count(*) FROM information_schema.tables WHERE table_schema = ${
              Names.literal(table.table.schema)
            } AND table_name = ${Names.literal(table.table.name)}`
          )
          if (found === 0) return []
          const rows = await session.rows(
            `SELECT ${table.columns.map(({ name, type }) => cell(name, type._tag === "Binary")).join(", ")} FROM ${
              targetOf(table)
            }`
          )
          return rows.map((values) => ({
            cells: Object.fromEntries(
              table.columns.map(({ name }, index) => {
                const value = values[index] ?? null
                return [name, value === null ? null : String(value)]
              })
            )
          }))
        }),
      // A view can't be written to.
      spoil: (table) =>
        beside((session) =>
          session.run(`DROP TABLE IF EXISTS ${targetOf(table)}; CREATE VIEW ${targetOf(table)} AS SELECT 1 AS spoiled`)
        )
    }
  }),
  cannot: {
    Cut: "a file of this machine has no connection"
  },
  // Each of them opens the file again and again, which takes a tenth of a second.
  rounds: 2,
  refused: [
    { what: "no file", options: {}, path: "file" },
    { what: "a size that is none", options: { ...options, memory: "much" }, path: "memory" },
    { what: "a column without its table", options: { ...options, text: ["amount"] }, path: "text.0" }
  ],
  useless: [
    {
      what: "a folder that doesn't exist",
      options: () => ({ ...options, file: "no/such/folder/warehouse.duckdb" }),
      reason: "Missing"
    }
  ]
})
