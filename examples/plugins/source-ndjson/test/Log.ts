/**
 * A log in a folder for tests, and readings of it as an engine would make them.
 */
import type { Condition } from "@etl-stream/core/Condition"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import * as RowView from "@etl-stream/core/RowView"
import type { TablePosition } from "@etl-stream/core/Sink"
import type { SourceContext } from "@etl-stream/core/Source"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { appendFileSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Config } from "../src/Config.ts"
import * as NdjsonSource from "../src/NdjsonSource.ts"

/** A row that came: `insert 5 {…}`, with its position. */
export interface Came {
  readonly table: string
  readonly position: bigint
  readonly operation: number
  readonly row: Readonly<Record<string, unknown>>
}

export interface Log {
  readonly directory: string
  readonly path: (name: string) => string
  /** Appends text to a file. */
  readonly append: (name: string, text: string) => void
}

export const make: Effect.Effect<Log, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "ndjson-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  ),
  (directory) => ({
    directory,
    path: (name) => join(directory, name),
    append: (name, text) => appendFileSync(join(directory, name), text)
  })
)

export const orders = { files: "orders-*.ndjson", columns: { id: "int64", note: "text?" }, key: ["id"] }

/** Reads a log; `committed`: positions of the last changes that a sink has of each table. */
export const read = Effect.fnUntraced(function*(
  log: Log,
  options: object = {},
  committed: Readonly<Record<TableId, bigint>> = {}
) {
  const config = yield* Effect.orDie(
    Schema.decodeUnknownEffect(Config)({
      directory: ".",
      poll: "5 millis",
      tables: { "shop.orders": orders },
      ...options
    })
  )
  const conditions: Array<Condition> = []
  const context: SourceContext = {
    positions: new Map(
      Object.entries(committed).map(([table, commit]): [TableId, TablePosition] => [
        table,
        { copied: 1n, settled: 1n, committed: { commit, ordinal: 1n } }
      ])
    ),
    unwanted: new Set(),
    quarantined: () => undefined,
    acknowledged: () => 0n,
    conditions: {
      raise: (condition) => Effect.sync(() => void conditions.push(condition)),
      clear: () => Effect.void
    }
  }
  const source = NdjsonSource.make(config, { pipeline: "test", directory: log.directory })
  const elements = yield* Queue.unbounded<Element, ConnectorError>()
  yield* source.stream(context).pipe(
    Stream.runForEach((element) => Queue.offer(elements, element)),
    Effect.catch((error) => Queue.fail(elements, error)),
    Effect.forkScoped
  )
  let rows: Array<Came> = []
  /** The next rows, so many of them; fails with what the stream fails with, or a table does. */
  const take = Effect.fnUntraced(function*(count: number) {
    while (rows.length < count) {
      const element = yield* Queue.take(elements)
      if (element._tag === "TableFailed") return yield* element.error
      if (element._tag !== "Rows") continue
      for (const row of RowView.rows(element.batch)) {
        rows.push({
          table: element.batch.table.table.name,
          position: row.sequence.commit,
          operation: row.operation,
          row: row.toObject()
        })
      }
    }
    const taken = rows.slice(0, count)
    rows = rows.slice(count)
    return taken
  }, Effect.timeout("10 seconds"))
  return {
    source,
    conditions,
    take,
    /** The error that the table, or the stream, ends with. */
    failure: Effect.flip(take(Infinity)),
    /** Waits until a watermark has come, so that everything so far was looked at. */
    ids: (count: number) => Effect.map(take(count), (came) => came.map(({ row }) => Number(row["id"])))
  }
})
