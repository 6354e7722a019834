/**
 * One connection to the server at most, made when it is needed, closed when it has been idle for a while, and never used by two at a time.
 *
 * All monitors of the process share `QueryPermits`: however many servers are watched, only a few queries run at once. Making a connection takes no
 * permit, so a server that doesn't answer holds nobody else up.
 */
import { type ConnectorError, isRetryable } from "@etl-stream/core/ConnectorError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pool from "effect/Pool"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { Client, type ClientConfig, DatabaseError } from "pg"
import { describe, type Endpoint, type Host } from "./ConnectionOptions.ts"
import * as MonitorError from "./MonitorError.ts"

/** Queries of all monitors of the process that run at the same time, at most. */
export const concurrentQueries = 4

/** The permits that all monitors of the process share. */
export class QueryPermits extends Context.Reference<Semaphore.Semaphore>("@etl-stream/monitor-wal/QueryPermits", {
  defaultValue: () => Semaphore.makeUnsafe(concurrentQueries)
}) {}

/** A connection that nobody has used for so long is closed. */
const idleTime = Duration.seconds(45)

/** Added to the server's own time limit before a query counts as lost. */
const answerGrace = Duration.seconds(5)

export interface Connection {
  /** Runs one statement and decodes its rows. `doing` begins the sentence of an error: "reading the slots". */
  readonly query: <A>(
    doing: string,
    row: Schema.ConstraintDecoder<A>,
    sql: string,
    parameters?: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<A>, ConnectorError>
}

/** The sessions' settings: as the source's, so that texts look the same whatever the role's defaults are. */
const sessionSettings = (statementTimeout: number): Readonly<Record<string, string | number>> => ({
  client_encoding: "UTF8",
  datestyle: "ISO",
  timezone: "UTC",
  search_path: "pg_catalog",
  jit: "off",
  default_transaction_read_only: "on",
  statement_timeout: statementTimeout,
  lock_timeout: Math.min(5000, statementTimeout),
  idle_session_timeout: 0
})

const clientConfig = (endpoint: Endpoint, { host, port }: Host): ClientConfig => {
  const { password, statementTimeout, tls } = endpoint
  const millis = Math.max(1, Math.round(Duration.toMillis(statementTimeout)))
  return {
    host,
    port,
    user: endpoint.user,
    database: endpoint.database,
    // A function also because a missing text would make node-postgres look for a password in files and the environment.
    password: () => password === undefined ? "" : Redacted.value(password),
    ssl: tls.mode === "disable" ? false : {
      rejectUnauthorized: tls.mode !== "require",
      ...(tls.mode === "verify-ca" ? { checkServerIdentity: () => undefined } : {}),
      ...(tls.ca === undefined ? {} : { ca: tls.ca }),
      ...(tls.cert === undefined ? {} : { cert: tls.cert }),
      ...(tls.key === undefined ? {} : { key: Redacted.value(tls.key) })
    },
    enableChannelBinding: tls.mode !== "disable",
    application_name: endpoint.applicationName,
    connectionTimeoutMillis: Math.max(1, Math.round(Duration.toMillis(endpoint.connectTimeout))),
    query_timeout: millis + Duration.toMillis(answerGrace),
    keepAlive: true,
    keepAliveInitialDelayMillis: 30_000,
    options: Object.entries(sessionSettings(millis)).map(([name, value]) => `-c ${name}=${value}`).join(" ")
  }
}

/** Closes politely, but not for long: a peer that is gone never answers. */
const close = (client: Client): Effect.Effect<void> =>
  Effect.promise(() => client.end().catch(() => undefined)).pipe(
    Effect.timeoutOrElse({
      duration: "1 second",
      orElse: () => Effect.sync(() => client.connection.stream.destroy())
    })
  )

/** A session, and whether it has ended by itself. */
interface Session {
  readonly client: Client
  readonly lost: () => boolean
}

const connectTo = (endpoint: Endpoint, host: Host): Effect.Effect<Session, ConnectorError, Scope.Scope> =>
  Effect.gen(function*() {
    const where = `connecting to ${describe({ ...endpoint, hosts: [host] })}, database ${
      JSON.stringify(endpoint.database)
    }`
    let lost = false
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const made = new Client(clientConfig(endpoint, host))
        const lose = (): void => {
          lost = true
        }
        // The loss of an idle connection is no event: it shows at the next use.
        made.on("error", lose)
        made.on("end", lose)
        return made
      }),
      close
    )
    const failed = (cause: unknown) => MonitorError.fromCause(cause, where)
    yield* Effect.tryPromise({ try: () => client.connect(), catch: failed })
    if (endpoint.target !== "any") {
      const { rows } = yield* Effect.tryPromise({
        try: () => client.query<{ readonly standby: unknown }>("SELECT pg_is_in_recovery() AS standby"),
        catch: failed
      })
      const standby = rows[0]?.standby === true
      if (standby !== (endpoint.target === "standby")) {
        return yield* MonitorError.make(
          "Unreachable",
          `${where}: it is ${standby ? "a standby" : "a primary server"}, and a ${endpoint.target} is asked for`,
          "The next host is tried. If none is left, name one that is."
        )
      }
    }
    return { client, lost: () => lost }
  })

/** A session on the first host that will do. One that refuses us ends the attempt: trying our password on the others would help nobody. */
const connect = (endpoint: Endpoint): Effect.Effect<Session, ConnectorError, Scope.Scope> => {
  const [first, ...others] = endpoint.hosts.map((host) => connectTo(endpoint, host))
  return first === undefined
    ? Effect.fail(MonitorError.make("Misconfigured", "there is no host to connect to", "Give url or host."))
    : others.reduce((attempt, next) => attempt.pipe(Effect.catchIf(isRetryable, () => next)), first)
}

/** After an error of the connection itself the session must not be used again, nor after one that ended it. */
const endsSession = (cause: unknown): boolean => !(cause instanceof DatabaseError) || cause.severity === "FATAL"

/** A connection for as long as the scope lives. Connects at the first query. */
export const make = Effect.fnUntraced(function*(
  endpoint: Endpoint,
  { idle = idleTime }: { readonly idle?: Duration.Duration } = {}
): Effect.fn.Return<Connection, never, Scope.Scope> {
  const permits = yield* QueryPermits
  const pool = yield* Pool.makeWithTTL({ acquire: connect(endpoint), min: 0, max: 1, timeToLive: idle })
  const rows = (
    doing: string,
    sql: string,
    parameters: ReadonlyArray<unknown>
  ): Effect.Effect<ReadonlyArray<unknown>, ConnectorError> => {
    const run = (session: Session) =>
      permits.withPermit(Effect.tryPromise({
        try: () => session.client.query<Record<string, unknown>>(sql, [...parameters]),
        catch: (cause) => cause
      })).pipe(
        Effect.tapError((cause) => endsSession(cause) ? Pool.invalidate(pool, session) : Effect.void),
        // The statement may still run.
        Effect.onInterrupt(() => Pool.invalidate(pool, session)),
        Effect.mapError((cause) => MonitorError.fromCause(cause, doing)),
        Effect.map((result): ReadonlyArray<unknown> => result.rows)
      )
    const once: Effect.Effect<ReadonlyArray<unknown>, ConnectorError> = Effect.flatten(
      Pool.use(pool, (session) =>
        session.lost()
          ? Effect.as(Pool.invalidate(pool, session), Effect.suspend(() => once))
          : Effect.map(run(session), Effect.succeed))
    )
    return Effect.scoped(once)
  }
  return {
    query: Effect.fnUntraced(function*(doing, row, sql, parameters = []) {
      const found = yield* rows(doing, sql, parameters)
      return yield* Schema.decodeUnknownEffect(Schema.Array(row))(found).pipe(
        Effect.mapError(() =>
          MonitorError.make(
            "Protocol",
            `${doing}: the server's answer doesn't have the expected columns`,
            "Check that this is a supported PostgreSQL server (14 or later); please report it with its version."
          )
        )
      )
    })
  }
})
