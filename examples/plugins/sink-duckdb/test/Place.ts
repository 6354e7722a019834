/**
 * A sink on a file of its own for each test, elements for it, and a look at the file beside it.
 */
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type * as LogicalType from "@etl-stream/core/LogicalType"
import type * as Sequence from "@etl-stream/core/Sequence"
import type { Sink, TableElement, TableWriter } from "@etl-stream/core/Sink"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach } from "vitest"
import { Config } from "../src/Config.ts"
import * as Database from "../src/Database.ts"
import * as DuckdbSink from "../src/DuckdbSink.ts"
import * as Elements from "./Elements.ts"

export const conditions = { raise: () => Effect.void, clear: () => Effect.void }

export let folder = ""
export let scope: Scope.Closeable
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "duckdb-"))
  scope = Scope.makeUnsafe()
})
afterEach(async () => {
  await Effect.runPromise(Scope.close(scope, Exit.void))
  rmSync(folder, { recursive: true, force: true })
})

export const configOf = (options: object = {}): Config =>
  Schema.decodeUnknownSync(Config)({ file: "test.duckdb", ...options })

/** Closes what is open, as a crash would after the last write, and opens the sink again. */
export const open = async (options: object = {}): Promise<Sink> => {
  await Effect.runPromise(Scope.close(scope, Exit.void))
  scope = Scope.makeUnsafe()
  return Effect.runPromise(
    Scope.provide(DuckdbSink.make(configOf(options), { pipeline: "test", directory: folder }), scope)
  )
}

export const openTable = (
  sink: Sink,
  table: TableSchema,
  durable: (sequence: Sequence.Sequence) => void = () => {}
): Promise<TableWriter> =>
  Effect.runPromise(
    Scope.provide(
      sink.open(table, (sequence) => Effect.sync(() => durable(sequence)), () => Effect.void, () => undefined),
      scope
    )
  )

export const write = (writer: TableWriter, ...elements: ReadonlyArray<TableElement>): Promise<void> =>
  Effect.runPromise(Effect.forEach(elements, (element) => writer.write(element), { discard: true }))

export const refusal = (writer: TableWriter, element: TableElement): Promise<ConnectorError> =>
  Effect.runPromise(Effect.flip(writer.write(element)))

/** Rows of the file by SQL, beside the sink. */
export const rows = (sql: string): Promise<ReadonlyArray<ReadonlyArray<unknown>>> =>
  Effect.runPromise(Effect.scoped(
    Effect.flatMap(
      Database.make(join(folder, "test.duckdb"), configOf()),
      (database) => database.transaction(undefined, (session) => session.rows(sql))
    )
  ))

export const begin = (table: TableSchema, position = 1n): TableElement => ({
  _tag: "SnapshotBegin",
  table,
  position,
  plan: "plan",
  resumed: false,
  estimatedRows: undefined,
  estimatedBytes: undefined
})
export const chunk = (table: TableSchema, number: number, position: bigint, count: number): TableElement => ({
  _tag: "SnapshotChunk",
  table,
  chunk: number,
  position,
  rows: count
})
export const end = (table: TableSchema, chunks: number, settled = 1n, position = 1n): TableElement => ({
  _tag: "SnapshotEnd",
  table,
  position,
  chunks,
  settled
})
export const changes = (table: TableSchema, ...rows: Parameters<typeof Elements.batch>[1]): TableElement => ({
  _tag: "Rows",
  batch: Elements.batch(table, rows)
})
export const copied = (
  table: TableSchema,
  number: number,
  position: number,
  ...values: ReadonlyArray<ReadonlyArray<Elements.Value>>
): TableElement => ({
  _tag: "SnapshotRows",
  position: BigInt(position),
  chunk: number,
  batch: Elements.batch(table, values.map((row) => [Operation.Read, position, 0, ...row]))
})

export const text: LogicalType.LogicalType = { _tag: "Text", maxLength: undefined }
export const int64: LogicalType.LogicalType = { _tag: "Int64" }
export const orders = Elements.table("orders", { id: int64, note: text, large: text })
export const ordersNow = () => rows(`SELECT id, note, large FROM public.orders ORDER BY id`)

/** A writer of an empty table whose copy is complete. */
export const ready = async (table: TableSchema, options?: object): Promise<TableWriter> => {
  const sink = await open(options)
  await Effect.runPromise(sink.begin([table], conditions))
  const writer = await openTable(sink, table)
  await write(writer, begin(table), end(table, 0))
  return writer
}
