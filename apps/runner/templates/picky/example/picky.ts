/**
 * A sink for trying things out: prints what comes, and takes no address with an even number. That goes to the pipeline's dead-letter store, before the row is printed without it. Where there is no
 * store the table is set aside: a value is never left out without a trace.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import { type DeadLetter, idOf } from "@etl-stream/core/DeadLetter"
import * as Plugin from "@etl-stream/core/Plugin"
import * as RowSink from "@etl-stream/core/RowSink"
import { type TableId, tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const name = "picky"

const print = (line: string): void => void process.stdout.write(`${line}\n`)

const isRefused = (email: unknown): boolean => typeof email === "string" && /[02468]@/.test(email)

const text = JSON.stringify({ _tag: "Text" })

const letterOf = (pipeline: string, table: TableId, row: RowSink.SinkRow, at: RowSink.At): DeadLetter => {
  const now = new Date().toISOString()
  const identified = {
    pipeline,
    table,
    sequence: at.position,
    row: JSON.stringify([String(row.get("id"))]),
    column: { name: "email", target: "email", type: text }
  }
  return {
    id: idOf(identified),
    ...identified,
    operation: row.change,
    commitTime: now,
    identity: "Key",
    key: [{ name: "id", target: "id", type: JSON.stringify({ _tag: "Int64" }) }],
    reason: "its number is even",
    values: { id: String(row.get("id")), email: String(row.get("email")) },
    unsent: [],
    at: now
  }
}

const nowhere = (table: TableId) =>
  new ConnectorError({
    reason: "Rejected",
    plugin: name,
    message: `The table ${table} has an address that isn't taken, and the pipeline has no store for it`,
    hint: "Mend the row, or give the pipeline a `deadLetters:`, which keeps such values.",
    table
  })

export const plugin = Plugin.sink({
  name,
  version: "0.1.0",
  summary: "Prints rows, but for some values",
  config: Schema.Struct({}),
  make: (_config, { deadLetters, pipeline }) =>
    Effect.sync(() => {
      /** By table, and gone with the run: the next one begins anew. */
      const positions = new Map<TableId, string>()
      return RowSink.make({
        plugin: name,
        retain: () => Effect.void,
        open: (table) => {
          const id = tableId(table.table)
          return Effect.succeed({
            position: positions.get(id),
            write: (rows, at) =>
              Effect.gen(function*() {
                for (const row of rows) {
                  const refused = isRefused(row.get("email"))
                  if (refused) {
                    if (deadLetters === undefined) return yield* nowhere(id)
                    yield* deadLetters.put([letterOf(pipeline, id, row, at)])
                  }
                  const [user, email] = [row.get("id"), row.get("email")].map(String)
                  print(`${row.change} ${id} ${user} ${refused ? "(a dead letter)" : email}`)
                }
                positions.set(id, at.position)
              }),
            clear: (at) =>
              Effect.sync(() => {
                print(`clear ${id}`)
                positions.set(id, at.position)
              })
          })
        }
      })
    }),
  deadLetters: (_config, { deadLetters }) =>
    Effect.succeed(
      deadLetters === undefined ? undefined : {
        store: deadLetters,
        replay: ({ row }) => Effect.sync(() => print(`replay ${row}`)).pipe(Effect.as({ _tag: "Written" } as const))
      }
    )
})
