/**
 * Runs the source against a server and a `Mirror`, as the engine would, until the test is satisfied.
 */
import * as Condition from "@etl-stream/core/Condition"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import * as Progress from "@etl-stream/core/Progress"
import * as Quarantine from "@etl-stream/core/Quarantine"
import type { SourceSpool } from "@etl-stream/core/Source"
import { tableId } from "@etl-stream/core/TableSchema"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Config from "../src/Config.ts"
import * as Lsn from "../src/Lsn.ts"
import * as PostgresSource from "../src/PostgresSource.ts"
import * as Session from "../src/Session.ts"
import type { Mirror } from "./Mirror.ts"

/** A server that the tests of a file share, each with a schema (and so a pipeline, slot and publication) of its own. */
export class Server
  extends Context.Service<Server, EmbeddedPostgres.EmbeddedPostgres>()("source-postgres/test/Server")
{
  static readonly layer = Layer.effect(Server, Effect.orDie(EmbeddedPostgres.start()))
}

export type Options = Partial<Record<keyof Config.Config, unknown>>

/** Settings as a configuration file would give them. */
export const settings = (options: Options, pipeline: string): Config.Settings =>
  Effect.runSync(Config.resolve(
    Schema.decodeUnknownSync(Config.Config)(options, { errors: "all", onExcessProperty: "error" }),
    { pipeline, directory: "." }
  ))

/** node-postgres's options of a session as the source makes it. */
export const clientConfig = (url: string, purpose: Session.Purpose): ReturnType<typeof Session.clientConfig> => {
  const made = settings({ url }, "session")
  const [host] = made.endpoint.hosts
  const { password } = Effect.runSync(made.password.get(made.endpoint, host))
  return Session.clientConfig(made, purpose, host, () => password === undefined ? "" : Redacted.value(password))
}

/** Runs statements, as one transaction unless they say otherwise, in the test's schema. */
export const write = (pg: EmbeddedPostgres.EmbeddedPostgres, schema: string) => (sql: string): Effect.Effect<void> =>
  pg.query(`SET search_path = ${schema}, public; ${sql}`).pipe(Effect.orDie, Effect.asVoid)

/** A new schema with what `sql` creates in it, and the function to write into it. */
export const schema = Effect.fnUntraced(function*(name: string, sql: string) {
  const pg = yield* Server
  yield* Effect.orDie(pg.query(`CREATE SCHEMA ${name}`))
  const run = write(pg, name)
  yield* run(sql)
  return run
})

export interface Run {
  /** Waits until no table is being copied any more, or fails as the stream did. */
  readonly copied: Effect.Effect<void, ConnectorError>
  /** Waits until everything that the server has written so far has come, copies included, or fails as the stream did. */
  readonly caughtUp: Effect.Effect<void, ConnectorError>
  /** Waits for a condition, or fails as the stream did. */
  readonly until: (condition: () => boolean) => Effect.Effect<void, ConnectorError>
  /** The error that ends the stream. */
  readonly failure: Effect.Effect<ConnectorError>
  /** Asks for a new copy of a table. */
  readonly resync: (table: string) => Effect.Effect<void, ConnectorError>
  /** Interrupts the stream and closes its connections, as a crash of the pipeline would. */
  readonly stop: Effect.Effect<void>
}

/** Polls: what is waited for happens in another process. */
const eventually = (condition: Effect.Effect<boolean>): Effect.Effect<void> =>
  condition.pipe(
    Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: (done) => done }),
    Effect.asVoid
  )

export interface StartOptions extends Options {
  /** Sees every element first, and may hold the stream up. */
  readonly each?: (element: Element) => Effect.Effect<void>
  /** Default: what the mirror has applied. */
  readonly acknowledge?: () => bigint
  /** Whether the sink is told the tables of the run; default true. */
  readonly begin?: boolean
  /** Where the source's conditions are kept; default: nowhere that is looked at. */
  readonly progress?: Progress.Progress
  /** Tables that transforms leave out; default none. */
  readonly unwanted?: ReadonlySet<string>
  /** Tables in quarantine: those that fail come here. By default such a table ends the run. */
  readonly quarantined?: Map<string, Quarantine.Quarantine>
  /** What the engine keeps on disk; default nothing. */
  readonly spool?: SourceSpool
  /** Holds copies up; default never. */
  readonly copiesGoOn?: Effect.Effect<void>
}

/** Starts a run of the pipeline `name` (by default of all tables of the schema `name`), whose elements go to `mirror`. */
export const start = (
  name: string,
  mirror: Mirror,
  { acknowledge, begin, copiesGoOn, each, progress, quarantined, spool, unwanted, ...options }: StartOptions = {}
): Effect.Effect<Run, ConnectorError, Scope.Scope | Server> =>
  Effect.gen(function*() {
    const pg = yield* Server
    const scope = yield* Scope.fork(yield* Effect.scope)
    mirror.restart()
    const seen = progress ?? Progress.make(name)
    const { resync, streaming } = yield* Effect.gen(function*() {
      const source = yield* PostgresSource.make(settings(
        // Idle slots advance while a test waits.
        { url: pg.url, tables: [`${name}.*`], heartbeat: { every: "500 millis" }, ...options },
        name
      ))
      const tables = yield* source.tables
      if (begin !== false) mirror.begin(tables)
      const context = {
        positions: mirror.positions,
        unwanted: unwanted ?? new Set<string>(),
        quarantined: (table: string) => quarantined?.get(table),
        acknowledged: acknowledge ?? (() => mirror.acknowledged),
        ...(spool === undefined ? {} : { spool }),
        ...(copiesGoOn === undefined ? {} : { copiesGoOn }),
        conditions: Condition.make(name, seen)
      }
      const streaming = yield* source.stream(context).pipe(
        Stream.runForEach((element) =>
          Effect.andThen(
            each?.(element) ?? Effect.void,
            element._tag !== "TableFailed"
              ? Effect.sync(() => {
                if (element._tag === "SnapshotBegin") quarantined?.delete(tableId(element.table.table))
                mirror.apply(element)
              })
              : quarantined === undefined
              ? Effect.fail(element.error)
              : Effect.sync(() => quarantined.set(tableId(element.table.table), Quarantine.of(element.error, 0)))
          )
        ),
        Effect.scoped,
        Effect.forkScoped({ startImmediately: true })
      )
      return { streaming, resync: source.resync }
    }).pipe(Scope.provide(scope))
    const until = (condition: Effect.Effect<boolean>) =>
      Effect.raceFirst(eventually(condition), Effect.andThen(Fiber.join(streaming), Effect.never))
    return {
      caughtUp: Effect.gen(function*() {
        const [row] = yield* Effect.orDie(pg.query("SELECT pg_current_wal_insert_lsn()::text AS lsn"))
        const target = Lsn.parse(String(row?.["lsn"])) ?? 0n
        yield* until(Effect.sync(() => mirror.inStep && (mirror.watermarks.at(-1) ?? 0n) >= target))
      }),
      copied: until(Effect.sync(() => mirror.inStep)),
      until: (condition: () => boolean) => until(Effect.sync(condition)),
      failure: Effect.flip(Effect.andThen(Fiber.join(streaming), Effect.never)),
      resync: (table: string) => resync?.(table) ?? Effect.void,
      stop: Effect.andThen(Fiber.interrupt(streaming), Scope.close(scope, Exit.void))
    }
  }).pipe(Effect.provideService(References.MinimumLogLevel, "None"))

/** Waits until the server has noticed that nobody reads a slot any more. */
export const released = (pg: EmbeddedPostgres.EmbeddedPostgres, slot: string): Effect.Effect<void> =>
  eventually(Effect.map(
    Effect.orDie(pg.query("SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active", [slot])),
    (active) => active.length === 0
  ))

/** The error of a run that can't begin, whether that is found before or after the sink was asked. */
export const refused = (
  name: string,
  mirror: Mirror,
  options: StartOptions = {}
): Effect.Effect<ConnectorError, never, Scope.Scope | Server> =>
  Effect.matchEffect(start(name, mirror, options), {
    onFailure: Effect.succeed,
    onSuccess: ({ failure, stop }) => Effect.tap(failure, stop)
  })

/** Runs until everything that was written before has come, and stops. */
export const catchUp = Effect.fnUntraced(function*(name: string, mirror: Mirror, options: StartOptions = {}) {
  const run = yield* start(name, mirror, options)
  yield* run.caughtUp
  yield* run.stop
})
