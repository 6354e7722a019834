/**
 * A process that reads the source alone and lets go of every element, so that its memory is the source's own.
 *
 * Its arguments are the pipeline's name and the source's options as JSON. It writes `rows N`, the changes of rows so far, at each end of
 * a transaction that had any.
 */
import * as Config from "@etl-stream/source-postgres/Config"
import * as PostgresSource from "@etl-stream/source-postgres/PostgresSource"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

const [pipeline = "", options = ""] = process.argv.slice(2)

let acknowledged = 0n
let rows = 0
let reported = -1

const program = Effect.gen(function*() {
  const config = yield* Schema.decodeUnknownEffect(Schema.fromJsonString(Config.Config))(options)
  const source = yield* PostgresSource.make(yield* Config.resolve(config, { pipeline, directory: process.cwd() }))
  yield* source.tables
  const elements = source.stream({
    positions: new Map(),
    unwanted: new Set(),
    quarantined: () => undefined,
    acknowledged: () => acknowledged,
    conditions: { raise: () => Effect.void, clear: () => Effect.void }
  })
  yield* Stream.runForEach(elements, (element) =>
    Effect.sync(() => {
      if (element._tag === "Rows") rows += element.batch.rows
      if (element._tag !== "Watermark") return
      acknowledged = element.position
      if (rows === reported) return
      reported = rows
      console.log(`rows ${rows}`)
    }))
})

await Effect.runPromise(Effect.scoped(program))
