/**
 * Connections to one server: a small pool for ordinary queries, and clients of their own for copies and replication.
 *
 * Every session has the same settings, so text that the server writes (dates, intervals, floats, bytea) looks the same in
 * the copy and in the replication stream, whatever the role's or the database's defaults are. node-postgres does the
 * connecting: TLS, SCRAM, Unix sockets. Where several hosts are given, all connections go to the one that the first of them
 * reached: a copy, a slot and a stream of different servers don't fit together.
 */
import { type ConnectorError, isRetryable } from "@etl-stream/core/ConnectorError"
import * as Telemetry from "@etl-stream/core/Telemetry"
import * as Effect from "effect/Effect"
import * as Pool from "effect/Pool"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { Client, type ClientConfig, DatabaseError } from "pg"
import type { Settings } from "./Config.ts"
import type * as Endpoint from "./Endpoint.ts"
import * as DirectSocket from "./internal/directSocket.ts"
import * as PostgresError from "./PostgresError.ts"
import * as Session from "./Session.ts"

export type { Purpose } from "./Session.ts"

/** A row as node-postgres gives it, to be decoded with a schema. */
type Row = Readonly<Record<string, unknown>>

export interface Connections {
  readonly settings: Settings
  /** Runs one statement and decodes its rows. `doing` completes the sentence of an error: "reading the catalog". */
  readonly query: <A>(
    doing: string,
    row: Schema.ConstraintDecoder<A>,
    sql: string,
    parameters?: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<A>, ConnectorError>
  /** Runs statements without a result. */
  readonly execute: (doing: string, sql: string) => Effect.Effect<void, ConnectorError>
  /** A connection of its own, closed with the scope. */
  readonly client: (purpose: Session.Purpose) => Effect.Effect<Client, ConnectorError, Scope.Scope>
  /** A connection that `connect` makes. */
  readonly open: <A>(
    purpose: Session.Purpose,
    connect: Session.Connect<A>
  ) => Effect.Effect<A, ConnectorError, Scope.Scope>
  /** The primary server when this one is a standby, for what has to be written; otherwise this server itself. */
  readonly primary: Connections
  /** Whether the server takes no connections because it shuts down or is down. */
  readonly isDown: Effect.Effect<boolean>
}

/** Closes politely, but not for long: a peer that is gone never answers. */
const close = (client: Client): Effect.Effect<void> =>
  Effect.promise(() => client.end().catch(() => undefined)).pipe(
    Effect.timeoutOrElse({
      duration: "1 second",
      orElse: () => Effect.sync(() => client.connection.stream.destroy())
    })
  )

/** Connects a client of its own, closed with the scope. */
const connectClient: Session.Connect<Client> = Effect.fn("PostgresSource.connect")(
  function*(config: ClientConfig, watch: (client: Client) => void) {
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const made = new Client({ ...config, stream: DirectSocket.stream })
        // Failures reach whoever runs a query or reads the socket; an idle client's loss shows at its next use.
        made.on("error", () => {})
        watch(made)
        return made
      }),
      close
    )
    yield* Effect.tryPromise({
      try: () => client.connect(),
      catch: (cause) =>
        PostgresError.fromCause(
          cause,
          `connecting to ${Session.describeConfig(config)}`
        )
    })
    return client
  }
)

/** Connects a client to the first host that will do, closed with the scope. */
export const connect = (
  settings: Settings,
  purpose: Session.Purpose
): Effect.Effect<Client, ConnectorError, Scope.Scope> =>
  Effect.map(Session.open(settings, purpose, connectClient), ({ made }) => made)

/** Whether a host takes no connections because it shuts down or is down; needs no password to tell. */
const isHostDown = (settings: Settings, host: Endpoint.Host): Effect.Effect<boolean> =>
  Effect.promise(async () => {
    const client = new Client(Session.clientConfig(settings, "query", host, () => {
      throw new TypeError("no password is needed to see that a server is up")
    }))
    client.on("error", () => {})
    try {
      await client.connect()
      return false
    } catch (cause) {
      const code = PostgresError.codeOf(cause)
      return code === "57P03" || code === "ECONNREFUSED"
    } finally {
      client.connection.stream.destroy()
    }
  })

const timed = <A>(statement: Effect.Effect<A, ConnectorError>, sql: string): Effect.Effect<A, ConnectorError> =>
  Telemetry.timedStatement(statement, "postgresql", sql, ({ reason }) => reason)

/** Runs a statement on a client; an error names what was being done. */
export const run = (client: Client, doing: string, sql: string): Effect.Effect<ReadonlyArray<Row>, ConnectorError> =>
  timed(
    Effect.tryPromise({
      try: async () => (await client.query<Row>(sql)).rows,
      catch: (cause) => PostgresError.fromCause(cause, doing)
    }),
    sql
  )

/** Decodes rows of a catalog query; a mismatch means a server whose catalog we don't know. */
export const decodeRows = <A>(
  doing: string,
  row: Schema.ConstraintDecoder<A>,
  rows: ReadonlyArray<Row>
): Effect.Effect<ReadonlyArray<A>, ConnectorError> =>
  Schema.decodeUnknownEffect(Schema.Array(row))(rows).pipe(
    Effect.mapError(() =>
      PostgresError.make(
        "Protocol",
        `${doing}: the server's answer doesn't have the expected columns`,
        "Check that this is a supported PostgreSQL server (14 or later); please report it with its version."
      )
    )
  )

/** Opens sessions on one and the same host; when it is lost, the next attempt may take another. */
const onOneHost = (settings: Settings): Pick<Connections, "open" | "isDown"> => {
  let current: Endpoint.Host | undefined
  // Also when a later attempt has failed: sessions of before may still be open.
  let latest = settings.endpoint.hosts[0]
  return {
    isDown: Effect.suspend(() => isHostDown(settings, latest)),
    open: (purpose, connect) =>
      Effect.gen(function*() {
        if (current !== undefined) {
          return yield* Session.openOn(settings, purpose, current, connect).pipe(
            Effect.tapError((error) =>
              Effect.sync(() => {
                if (isRetryable(error)) current = undefined
              })
            )
          )
        }
        const { host, made } = yield* Session.open(settings, purpose, connect)
        current = host
        latest = host
        return made
      })
  }
}

/** Clients that lost their connection while nobody used them. */
class Losses {
  private readonly lost = new WeakSet<Client>()

  watch(client: Client): Client {
    const lose = (): void => void this.lost.add(client)
    client.on("error", lose)
    client.on("end", lose)
    return client
  }

  has(client: Client): boolean {
    return this.lost.has(client)
  }
}

/** After an error of the connection itself the client must not be used again, nor after one that ended the session. */
const endsSession = (cause: unknown): boolean => !(cause instanceof DatabaseError) || cause.severity === "FATAL"

/** The pool of a source, closed with the scope. Makes no connection before the first query. */
export const make = (settings: Settings): Effect.Effect<Connections, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { isDown, open } = onOneHost(settings)
    const client = (purpose: Session.Purpose) => open(purpose, connectClient)
    const losses = new Losses()
    const pool = yield* Pool.makeWithTTL({
      acquire: Effect.map(client("query"), (made) => losses.watch(made)),
      min: 0,
      max: 2,
      timeToLive: "10 seconds"
    })
    const rows = (
      doing: string,
      sql: string,
      parameters?: ReadonlyArray<unknown>
    ): Effect.Effect<ReadonlyArray<Row>, ConnectorError> => {
      const run = (client: Client) =>
        timed(
          Effect.tryPromise({
            try: () => client.query<Row>(sql, parameters === undefined ? undefined : [...parameters]),
            catch: (cause) => cause
          }).pipe(
            Effect.tapError((cause) => endsSession(cause) ? Pool.invalidate(pool, client) : Effect.void),
            // The statement may still run.
            Effect.onInterrupt(() => Pool.invalidate(pool, client)),
            Effect.mapError((cause) => PostgresError.fromCause(cause, doing)),
            Effect.map((result) => result.rows)
          ),
          sql
        )
      const once: Effect.Effect<ReadonlyArray<Row>, ConnectorError> = Effect.flatten(Pool.use(pool, (client) =>
        losses.has(client)
          // An idle connection's end (a server restart) is no event: another one is taken once this one is given back.
          ? Effect.as(Pool.invalidate(pool, client), Effect.suspend(() => once))
          : Effect.map(run(client), Effect.succeed)))
      return once
    }
    const { primary } = settings
    const written = primary === undefined
      ? undefined
      : yield* make({ ...settings, ...primary, applicationName: settings.applicationName, primary: undefined })
    const own: Connections = {
      settings,
      get primary() {
        return written ?? own
      },
      query: (doing, row, sql, parameters) =>
        Effect.flatMap(rows(doing, sql, parameters), (found) =>
          decodeRows(doing, row, found)),
      execute: (doing, sql) => Effect.asVoid(rows(doing, sql)),
      client,
      open,
      isDown
    }
    return own
  })
