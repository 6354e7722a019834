/**
 * A source for trying things out: a new user every second, always the same ones.
 */
import * as Column from "@etl-stream/core/Column"
import * as Plugin from "@etl-stream/core/Plugin"
import * as RowChange from "@etl-stream/core/RowChange"
import type { Piece } from "@etl-stream/core/RowSource"
import * as RowSource from "@etl-stream/core/RowSource"
import * as RowTable from "@etl-stream/core/RowTable"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

const name = "numbers"

const users = RowTable.make({
  name: "demo.users",
  columns: { id: Column.int64(), email: Column.text().nullable },
  key: ["id"]
})

const piece = (id: bigint): Piece => ({
  position: id,
  changes: [RowChange.insert(users, { id, email: `User${id}@Example.com` })]
})

export const plugin = Plugin.source({
  name,
  version: "0.1.0",
  summary: "A new user every second",
  config: Schema.Struct({}),
  make: () =>
    Effect.succeed(RowSource.make({
      plugin: name,
      tables: [users],
      history: "kept",
      read: (from) =>
        Stream.iterate(from + 1n, (id) => id + 1n).pipe(Stream.map(piece), Stream.schedule(Schedule.spaced("1 second")))
    }))
})
