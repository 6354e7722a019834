/**
 * Configuration databases on a real server, and runs of them in this process.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import { MemoryBudget } from "@etl-stream/core/MemoryBudget"
import type { Configuration } from "@etl-stream/runner/Configuration"
import * as Connection from "@etl-stream/runner/database/Connection"
import * as Following from "@etl-stream/runner/database/Following"
import * as Opening from "@etl-stream/runner/database/Opening"
import * as Tables from "@etl-stream/runner/database/Tables"
import * as Redaction from "@etl-stream/runner/Redaction"
import * as Supervisor from "@etl-stream/runner/Supervisor"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as Fixture from "./Fixture.ts"

export class Server
  extends Context.Service<Server, EmbeddedPostgres.EmbeddedPostgres>()("@etl-stream/runner/test/Server")
{
  static readonly layer = Layer.effect(Server, Effect.orDie(EmbeddedPostgres.start()))
}

type Row = Readonly<Record<string, unknown>>

export interface Database {
  readonly name: string
  readonly url: string
  /** Runs one statement in a transaction of its own. */
  readonly query: (statement: string, ...parameters: ReadonlyArray<unknown>) => Effect.Effect<ReadonlyArray<Row>>
  /** Runs statements in one transaction. */
  readonly transaction: (statements: ReadonlyArray<string>) => Effect.Effect<void>
  readonly client: Effect.Effect<PgClient.PgClient, never, Scope.Scope>
  readonly provide: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, Exclude<R, SqlClient.SqlClient>>
}

export const provideClient = (client: PgClient.PgClient) => Effect.provideService(SqlClient.SqlClient, client)

let databases = 0

/** A new, empty database of `server`. */
export const empty = Effect.gen(function*() {
  const server = yield* Server
  const name = `config_${++databases}`
  yield* Effect.orDie(server.query(`CREATE DATABASE ${name}`))
  const url = server.urlOf({ user: server.user, password: server.password, database: name })
  const { client } = yield* Effect.orDie(Connection.connect(Redacted.make(url)))
  return {
    name,
    url,
    query: (statement, ...parameters) => Effect.orDie(client.unsafe<Row>(statement, parameters)),
    transaction: (statements) =>
      Effect.orDie(
        client.withTransaction(Effect.forEach(statements, (statement) => client.unsafe(statement), { discard: true }))
      ),
    client: Effect.map(Effect.orDie(Connection.connect(Redacted.make(url))), ({ client }) => client),
    provide: Effect.provideService(SqlClient.SqlClient, client)
  } satisfies Database as Database
})

/** A database with the tables. */
export const prepared = Effect.tap(empty, ({ provide }) => Effect.orDie(provide(Tables.prepare)))

/** Statements that add a source, a sink and a pipeline over the fake plugins; the sink writes to `<name>.jsonl`. */
export const pipeline = (
  name: string,
  { sink = {}, source = {} }: { readonly source?: object; readonly sink?: object } = {}
): ReadonlyArray<string> => [
  stage("sources", name, "./plugins.ts:counter", { ends: false, changes: 100000, ...source }),
  stage("sinks", name, "./plugins.ts:lines", { file: `${name}.jsonl`, ...sink }, { batch: { every: "5 millis" } }),
  `INSERT INTO ${Tables.schema}.pipelines (name, source, sink) VALUES (${literal(name)}, ${literal(name)}, ${
    literal(name)
  })`
]

export const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

export const json = (value: unknown): string => `${literal(JSON.stringify(value))}::jsonb`

export const stage = (table: string, name: string, plugin: string, options: unknown, settings: unknown = {}): string =>
  `INSERT INTO ${Tables.schema}.${table} (name, plugin, options, settings) VALUES (${literal(name)}, ${
    literal(plugin)
  }, ${json(options)}, ${json(settings)})`

/** What docs/configuration-database.md says that a runner's role needs. */
export const runnerRole = (name: string, password: string): ReadonlyArray<string> => [
  `CREATE ROLE ${name} LOGIN PASSWORD ${literal(password)}`,
  `GRANT USAGE ON SCHEMA ${Tables.schema} TO ${name}`,
  `GRANT SELECT ON ALL TABLES IN SCHEMA ${Tables.schema} TO ${name}`,
  ...Tables.tables.map((table) => `GRANT UPDATE (problem, problem_at) ON ${Tables.schema}.${table} TO ${name}`)
]

/** Keeps state in memory. */
export const memoryState =
  `INSERT INTO ${Tables.schema}.settings (name, value) VALUES ('state', '{"plugin": "./plugins.ts:memory"}')`

export interface Line {
  readonly level: string
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
}

export interface Run {
  readonly directory: string
  readonly supervisor: Supervisor.Supervisor
  readonly logs: ReadonlyArray<Line>
  /** How often a pipeline was started; 0: never. */
  readonly runs: (pipeline: string) => number
  readonly isRunning: (pipeline: string) => boolean
  /** Lines of a kind that a pipeline's sink wrote. */
  readonly lines: (pipeline: string, kind: string) => ReadonlyArray<{ readonly n?: string }>
  /** The configuration that runs, as it was taken over last. */
  readonly taken: () => Configuration
  /** As SIGHUP does. */
  readonly ask: Effect.Effect<void>
  readonly stop: Effect.Effect<void>
}

export interface RunOptions {
  readonly poll?: Duration.Input
  readonly environment?: Readonly<Record<string, string>>
  readonly url?: string
  readonly drain?: Duration.Input
  readonly patience?: Duration.Input
  /** What takes over the sections that aren't about pipelines. */
  readonly taken?: Effect.Effect<void>
}

/** Runs what the database says, and follows it, until the scope closes. */
export const run = Effect.fnUntraced(function*(database: Database, options: RunOptions = {}) {
  const directory = yield* Fixture.folder
  const url = Redacted.make(options.url ?? database.url)
  const logs: Array<Line> = []
  const logger = Logger.make<unknown, void>(({ fiber, logLevel, message }) => {
    logs.push({
      level: logLevel,
      message: (Array.isArray(message) ? message : [message]).map(String).join(" "),
      annotations: { ...fiber.getRef(References.CurrentLogAnnotations) }
    })
  })
  const stopped = yield* Deferred.make<void>()
  const asks = yield* Queue.sliding<void>(1)
  let redact: Redaction.Redaction = Redaction.none
  let taken: Configuration | undefined
  const supervisor = yield* Effect.gen(function*() {
    const { evaluation, initial } = yield* Opening.open(url, { directory, environment: options.environment ?? {} })
    const state = yield* Supervisor.makeState(initial.configuration)
    taken = initial.configuration
    const supervisor = yield* Supervisor.start(initial.configuration, state, {
      stop: Deferred.await(stopped),
      drain: Duration.fromInputUnsafe(options.drain ?? "10 seconds"),
      lasting: true
    })
    yield* Following.run({
      url,
      evaluation,
      initial,
      supervisor,
      asked: Queue.take(asks),
      ...(options.patience === undefined ? {} : { patience: Duration.fromInputUnsafe(options.patience) }),
      // Nothing is found by looking unless a test wants it.
      poll: Duration.fromInputUnsafe(options.poll ?? "1 hour"),
      loaded: (configuration) => {
        redact = configuration.redact
      },
      taken: (configuration) =>
        Effect.andThen(
          Effect.sync(() => {
            taken = configuration
          }),
          options.taken ?? Effect.void
        ),
      redact: (text) => redact(text)
    }).pipe(Effect.forkScoped)
    return supervisor
  }).pipe(
    Effect.provide([Logger.layer([logger]), MemoryBudget.layer(64 * 1024 * 1024)])
  )
  const viewOf = (name: string) =>
    supervisor.pipelines().find((pipeline) => pipeline.name === name)?.progress.snapshot(0)
  return {
    directory,
    supervisor,
    logs,
    runs: (name) => viewOf(name)?.run ?? 0,
    isRunning: (name) => ["snapshot", "streaming"].includes(viewOf(name)?.phase ?? ""),
    lines: (name, kind) => Fixture.written(directory, `${name}.jsonl`).filter((line) => line.kind === kind),
    taken: () => {
      if (taken === undefined) throw new Error("nothing was taken over")
      return taken
    },
    ask: Queue.offer(asks, undefined),
    stop: Deferred.succeed(stopped, undefined)
  } satisfies Run as Run
})

/** Waits until something is so. */
export const until = (condition: () => boolean | Effect.Effect<boolean>) =>
  Effect.gen(function*() {
    while (true) {
      const result = condition()
      if (typeof result === "boolean" ? result : yield* result) return
      yield* Effect.sleep(10)
    }
  }).pipe(Effect.timeout("20 seconds"), Effect.orDie)

/** What is written back to a row. */
export const problemOf = (database: Database, table: string, name: string) =>
  Effect.map(
    database.query(
      `SELECT problem, problem_at IS NOT NULL AS dated FROM ${Tables.schema}.${table} WHERE name = $1::text`,
      name
    ),
    ([row]) => {
      const problem = row?.["problem"]
      if ((typeof problem === "string") !== row?.["dated"]) throw new Error("problem and problem_at don't go together")
      return typeof problem === "string" ? problem : undefined
    }
  )
