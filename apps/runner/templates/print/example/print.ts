/**
 * A sink for trying things out: prints what comes, and remembers nothing, so that every run begins anew.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import * as RowSink from "@etl-stream/core/RowSink"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const name = "print"

/** Whole numbers of 64 bits aren't numbers in JSON. */
const textOf = (value: unknown): string =>
  JSON.stringify(value, (_key, inner: unknown) => typeof inner === "bigint" ? String(inner) : inner)

const print = (line: string): void => void process.stdout.write(`${line}\n`)

export const plugin = Plugin.sink({
  name,
  version: "0.1.0",
  summary: "Prints rows",
  config: Schema.Struct({}),
  make: () =>
    Effect.succeed(RowSink.make({
      plugin: name,
      retain: () => Effect.void,
      open: (table) => {
        const id = tableId(table.table)
        return Effect.succeed({
          position: undefined,
          write: (rows) =>
            Effect.sync(() => {
              for (const row of rows) print(`${row.change} ${id} ${textOf(row.values)}`)
            }),
          clear: () => Effect.sync(() => print(`clear ${id}`))
        })
      }
    }))
})
