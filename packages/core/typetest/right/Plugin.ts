/** Plugins that are as they should be: a source in forty lines, a sink by columns that says something of each element, a notifier. */
import * as Column from "@etl-stream/core/Column"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Plugin from "@etl-stream/core/Plugin"
import * as RowChange from "@etl-stream/core/RowChange"
import * as RowSource from "@etl-stream/core/RowSource"
import * as RowTable from "@etl-stream/core/RowTable"
import * as Sink from "@etl-stream/core/Sink"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

const orders = RowTable.make({
  name: "shop.orders",
  columns: { id: Column.int64(), total: Column.decimal(12, 2), note: Column.text().nullable },
  key: ["id"]
})
const visits = RowTable.make({ name: "shop.visits", columns: { page: Column.text() } })

export const source = Plugin.source({
  name: "example",
  version: "1.0.0",
  summary: "Counts",
  config: Schema.Struct({ upTo: Schema.Int }),
  make: ({ upTo }) =>
    Effect.succeed(RowSource.make({
      plugin: "example",
      tables: [orders, visits],
      history: "kept",
      read: (from) =>
        Stream.range(Number(from) + 1, upTo).pipe(
          Stream.map((number) => ({
            position: BigInt(number),
            changes: [
              RowChange.insert(orders, { id: BigInt(number), total: "1.50", note: null }),
              RowChange.update(orders, { id: BigInt(number), total: Column.notSent, note: "changed" }),
              RowChange.rekey(orders, { id: 1n }, { id: 2n, total: "1.50", note: Column.notSent }),
              RowChange.remove(orders, { id: BigInt(number) }),
              RowChange.insert(visits, { page: "/" }),
              RowChange.truncate(visits)
            ]
          }))
        )
    }))
})

export const write = (element: Sink.TableElement): Effect.Effect<number, ConnectorError> =>
  Sink.match(element, {
    Rows: ({ batch }) => Effect.succeed(batch.rows),
    SnapshotBegin: ({ position }) => Effect.succeed(Number(position)),
    SnapshotRows: ({ batch }) => Effect.succeed(batch.rows),
    SnapshotChunk: () => Effect.succeed(0),
    SnapshotEnd: () => Effect.succeed(0),
    TableLeft: () => Effect.succeed(0),
    Truncate: () => Effect.succeed(0),
    Schema: () => Effect.succeed(0)
  })

export const notifier = Plugin.notifier({
  name: "example",
  version: "1.0.0",
  summary: "Tells nobody",
  config: Schema.Struct({ token: Schema.RedactedFromValue(Schema.String) }),
  make: ({ token }) =>
    Effect.succeed({
      notify: ({ key, status }) => Effect.logInfo(key, status, Redacted.value(token).length)
    })
})
