/**
 * The pipeline's source, reading a slot from its beginning to a given end.
 *
 * Nothing is confirmed, and nothing has to be copied: the tables were empty when the slot was made.
 */
import * as Condition from "@etl-stream/core/Condition"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import * as Progress from "@etl-stream/core/Progress"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Config from "@etl-stream/source-postgres/Config"
import * as Lsn from "@etl-stream/source-postgres/Lsn"
import * as PostgresSource from "@etl-stream/source-postgres/PostgresSource"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

export const Options = Schema.Struct({
  url: Schema.String,
  slot: Schema.String,
  publication: Schema.String,
  tables: Schema.Array(Schema.String),
  /** Position at which the slot was made. */
  from: Schema.String,
  /** Position up to which it is read; beyond every position: for ever. */
  until: Schema.String
})
export type Options = typeof Options.Type

export const options = <A>(schema: Schema.ConstraintDecoder<A>): A =>
  Schema.decodeUnknownSync(Schema.fromJsonString(schema))(process.argv[2])

/** Reads the slot; `begin` is given the tables first. Returns the seconds from asking for the stream to its end. */
export const read = (
  { from, publication, slot, tables, until, url }: Options,
  begin: (tables: ReadonlyArray<TableSchema>) => Effect.Effect<void, ConnectorError>,
  each: (element: Element) => Effect.Effect<void, ConnectorError>
): Effect.Effect<{ readonly streamSeconds: number }, ConnectorError> =>
  Effect.gen(function*() {
    const name = "bench"
    const settings = yield* Config.resolve(
      Schema.decodeUnknownSync(Config.Config)({
        url,
        tables,
        slot: { name: slot },
        publication: { name: publication, manage: false },
        heartbeat: { enabled: false }
      }),
      { pipeline: name, directory: "." }
    )
    const source = yield* PostgresSource.make(settings)
    const schemas = yield* source.tables
    yield* begin(schemas)
    const copied = Lsn.parse(from) ?? 0n
    const end = Lsn.parse(until) ?? 0n
    const started = performance.now()
    yield* source.stream({
      positions: new Map(schemas.map(({ table }) => [tableId(table), { copied, committed: undefined }])),
      unwanted: new Set(),
      quarantined: () => undefined,
      acknowledged: () => 0n,
      conditions: Condition.make(name, Progress.make(name))
    }).pipe(
      Stream.tap(each),
      Stream.runForEachWhile((element) => Effect.succeed(!(element._tag === "Watermark" && element.position >= end)))
    )
    return { streamSeconds: (performance.now() - started) / 1000 }
  }).pipe(Effect.scoped, Effect.provideService(References.MinimumLogLevel, "Error"))
