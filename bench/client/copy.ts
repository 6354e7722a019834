/**
 * The copy of tables: to Arrow batches, which nobody wants, or to Parquet files as the sink makes them for COPY, in memory.
 */
import * as Condition from "@etl-stream/core/Condition"
import type { Element } from "@etl-stream/core/Element"
import * as Progress from "@etl-stream/core/Progress"
import { tableId } from "@etl-stream/core/TableSchema"
import * as SinkConfig from "@etl-stream/sink-snowflake/Config"
import type { File } from "@etl-stream/sink-snowflake/EncodingPool"
import { EncodingPool } from "@etl-stream/sink-snowflake/EncodingPool"
import * as TableLayout from "@etl-stream/sink-snowflake/TableLayout"
import * as Config from "@etl-stream/source-postgres/Config"
import * as PostgresSource from "@etl-stream/source-postgres/PostgresSource"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as Outcome from "./Outcome.ts"
import * as Slot from "./Slot.ts"

const { name, tables, to, url } = Slot.options(Schema.Struct({
  url: Schema.String,
  /** Of the slot and the publication that the copy makes. */
  name: Schema.String,
  tables: Schema.Array(Schema.String),
  to: Schema.Literals(["arrow", "parquet"])
}))

let rows = 0
let bytes = 0
let ended = 0
const layouts = new Map<string, TableLayout.TableLayout>()
const files = new Map<
  string,
  { readonly file: File; readonly scope: Scope.Closeable; readonly turn: Semaphore.Semaphore }
>()
/** One batch is encoded while the next one is read, as in the sink. */
const busy = Semaphore.makeUnsafe(2)

const each = (pool: EncodingPool, element: Element): Effect.Effect<void> => {
  if (element._tag === "SnapshotBegin") return to === "parquet" ? pool.prepare : Effect.void
  if (element._tag === "SnapshotEnd") return Effect.sync(() => void ended++)
  if (element._tag === "SnapshotRows") {
    rows += element.batch.rows
    const id = tableId(element.batch.table.table)
    const layout = layouts.get(id)
    if (to === "arrow" || layout === undefined) return Effect.void
    const key = `${id} ${element.chunk}`
    return Effect.gen(function*() {
      let growing = files.get(key)
      if (growing === undefined) {
        const scope = yield* Scope.make()
        const options = {
          layout,
          purpose: "target",
          outOfRange: "null",
          noting: false
        } as const
        growing = {
          file: yield* Scope.provide(pool.parquet(options), scope),
          scope,
          turn: Semaphore.makeUnsafe(1)
        }
        files.set(key, growing)
      }
      const append = growing.turn.withPermits(1)(Effect.orDie(growing.file.append(element.batch, 1)))
      yield* busy.take(1)
      yield* Effect.forkDetach(Effect.ensuring(append, busy.release(1)), { startImmediately: true })
    })
  }
  if (element._tag === "SnapshotChunk") {
    const key = `${tableId(element.table.table)} ${element.chunk}`
    const growing = files.get(key)
    files.delete(key)
    return growing === undefined ? Effect.void : Effect.gen(function*() {
      bytes += (yield* growing.turn.withPermits(1)(Effect.orDie(growing.file.finish))).length
      yield* Scope.close(growing.scope, Exit.void)
    })
  }
  return Effect.void
}

const streamSeconds = await Effect.runPromise(
  Effect.gen(function*() {
    const settings = yield* Config.resolve(
      Schema.decodeUnknownSync(Config.Config)({ url, tables, heartbeat: { enabled: false } }),
      { pipeline: name, directory: "." }
    )
    const source = yield* PostgresSource.make(settings)
    const schemas = yield* source.tables
    const config = Schema.decodeUnknownSync(SinkConfig.Config)({
      account: "BENCH-NULL",
      user: "BENCH",
      auth: { token: "none" },
      warehouse: "WH",
      database: "RAW"
    })
    for (const table of schemas) layouts.set(tableId(table.table), yield* TableLayout.of(config, name, table))
    const pool = yield* EncodingPool.shared
    const started = performance.now()
    yield* source.stream({
      positions: new Map(),
      unwanted: new Set(),
      quarantined: () => undefined,
      acknowledged: () => 0n,
      conditions: Condition.make(name, Progress.make(name))
    }).pipe(
      Stream.tap((element) => each(pool, element)),
      Stream.runForEachWhile(() => Effect.succeed(ended < schemas.length))
    )
    return (performance.now() - started) / 1000
  }).pipe(Effect.scoped, Effect.provideService(References.MinimumLogLevel, "Error"))
)
Outcome.print(rows, { streamSeconds, bytes })
process.exit(0)
