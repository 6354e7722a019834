/** Sinks that forget something. */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Plugin from "@etl-stream/core/Plugin"
import * as RowSink from "@etl-stream/core/RowSink"
import * as Sink from "@etl-stream/core/Sink"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

export const forgetsTruncate = (element: Sink.TableElement): Effect.Effect<void, ConnectorError> =>
  // tsc: 'Mistake<"nothing is said of Truncate elements">'
  Sink.match(element, {
    Rows: () => Effect.void,
    SnapshotBegin: () => Effect.void,
    SnapshotRows: () => Effect.void,
    SnapshotChunk: () => Effect.void,
    SnapshotEnd: () => Effect.void,
    TableLeft: () => Effect.void,
    Schema: () => Effect.void
  })

export const answersWithANumber = (element: Sink.TableElement): Effect.Effect<void, ConnectorError> =>
  // tsc: Type 'number' is not assignable to type 'Effect<void, ConnectorError
  Sink.match(element, {
    Rows: ({ batch }) => batch.rows,
    SnapshotBegin: () => Effect.void,
    SnapshotRows: () => Effect.void,
    SnapshotChunk: () => Effect.void,
    SnapshotEnd: () => Effect.void,
    TableLeft: () => Effect.void,
    Truncate: () => Effect.void,
    Schema: () => Effect.void
  })

// tsc: Property 'retain' is missing in type
export const neverForgetsPositions = RowSink.make({
  plugin: "example",
  open: () => Effect.succeed({ position: undefined, write: () => Effect.void, clear: () => Effect.void })
})

export const failsWithSomethingElse = RowSink.make({
  plugin: "example",
  retain: () => Effect.void,
  open: () =>
    // tsc: Type 'Error' is missing the following properties from type 'ConnectorError'
    Effect.succeed({
      position: undefined,
      write: () => Effect.fail(new Error("no")),
      clear: () => Effect.void
    })
})

export const makesASource = Plugin.sink({
  name: "example",
  version: "1.0.0",
  summary: "Makes what it isn't",
  config: Schema.Struct({}),
  // tsc: is missing the following properties from type 'Sink': begin, open, run, settle
  make: () => Effect.succeed({ tables: Effect.succeed([]), stream: () => undefined })
})
