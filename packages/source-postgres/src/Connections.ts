/**
 * Connections to one server: a small pool for ordinary queries, and clients of their own for copies and replication.
 *
 * Every session has the same settings, so text that the server writes (dates, intervals, floats, bytea) looks the same in
 * the copy and in the replication stream, whatever the role's or the database's defaults are. node-postgres does the
 * connecting: TLS, SCRAM, Unix sockets.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { Client, type ClientConfig, DatabaseError, Pool } from "pg"
import type { Settings } from "./Config.ts"
import * as Endpoint from "./Endpoint.ts"
import * as PostgresError from "./PostgresError.ts"

/**
 * What a connection is for. `query`: short statements, with time limits; `copy`: reads a table for as long as it takes;
 * `replication`: a walsender session (logical), which understands replication commands.
 */
export type Purpose = "query" | "copy" | "replication"

/** Time limits of ordinary statements. ALTER PUBLICATION waits for locks; nothing else should take long. */
const statementTimeoutMillis = 60_000
const lockTimeoutMillis = 20_000

/**
 * `row_security=off` makes a table with policies an error instead of a silently incomplete copy. `search_path` keeps names in
 * texts (regclass, deparsed filters) independent of the role. The timeouts of idle sessions would end a waiting snapshot.
 */
const sessionSettings = (purpose: Purpose): Readonly<Record<string, string | number>> => ({
  client_encoding: "UTF8",
  datestyle: "ISO",
  intervalstyle: "postgres",
  extra_float_digits: 1,
  bytea_output: "hex",
  timezone: "UTC",
  search_path: "pg_catalog",
  row_security: "off",
  jit: "off",
  client_min_messages: "warning",
  idle_in_transaction_session_timeout: 0,
  idle_session_timeout: 0,
  statement_timeout: purpose === "query" ? statementTimeoutMillis : 0,
  lock_timeout: purpose === "query" ? lockTimeoutMillis : 0
})

const tlsOptions = ({ tls }: Settings): ClientConfig["ssl"] =>
  tls.mode === "disable" ? false : {
    rejectUnauthorized: tls.mode === "verify-full",
    ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    ...(tls.cert === undefined ? {} : { cert: tls.cert }),
    ...(tls.key === undefined ? {} : { key: Redacted.value(tls.key) })
  }

/** Options for node-postgres. They hold the password in plain text: for a client's constructor only. */
export const clientConfig = (
  settings: Settings,
  purpose: Purpose
): ClientConfig & { readonly replication?: string } => {
  const { endpoint } = settings
  const password = endpoint.password === undefined ? "" : Redacted.value(endpoint.password)
  return {
    host: endpoint.host,
    port: endpoint.port,
    user: endpoint.user,
    database: endpoint.database,
    // A function, because an empty text would make node-postgres look for a password in files and the environment.
    password: () => password,
    ssl: tlsOptions(settings),
    application_name: settings.applicationName,
    connectionTimeoutMillis: Duration.toMillis(settings.connectTimeout),
    keepAlive: true,
    keepAliveInitialDelayMillis: 30_000,
    options: Object.entries(sessionSettings(purpose)).map(([name, value]) => `-c ${name}=${value}`).join(" "),
    ...(purpose === "replication" ? { replication: "database" } : {})
  }
}

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
  readonly client: (purpose: Purpose) => Effect.Effect<Client, ConnectorError, Scope.Scope>
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
export const connect = Effect.fn("PostgresSource.connect")(function*(settings: Settings, purpose: Purpose) {
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const made = new Client(clientConfig(settings, purpose))
      // Failures reach whoever runs a query or reads the socket; an idle client's loss shows at its next use.
      made.on("error", () => {})
      return made
    }),
    close
  )
  yield* Effect.tryPromise({
    try: () => client.connect(),
    catch: (cause) => PostgresError.fromCause(cause, `connecting to ${Endpoint.describe(settings.endpoint)}`)
  })
  return client
})

/** Whether the server takes no connections because it shuts down or is down. */
export const isDown = (settings: Settings): Effect.Effect<boolean> =>
  Effect.promise(async () => {
    const client = new Client(clientConfig(settings, "query"))
    client.on("error", () => {})
    try {
      await client.connect()
      await client.end()
      return false
    } catch (cause) {
      const code = PostgresError.codeOf(cause)
      return code === "57P03" || code === "ECONNREFUSED"
    }
  })

/** Runs a statement on a client; an error names what was being done. */
export const run = (client: Client, doing: string, sql: string): Effect.Effect<ReadonlyArray<Row>, ConnectorError> =>
  Effect.tryPromise({
    try: async () => (await client.query<Row>(sql)).rows,
    catch: (cause) => PostgresError.fromCause(cause, doing)
  })

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

/** The pool of a source, closed with the scope. Makes no connection before the first query. */
export const make = (settings: Settings): Effect.Effect<Connections, never, Scope.Scope> =>
  Effect.gen(function*() {
    const where = `connecting to ${Endpoint.describe(settings.endpoint)}`
    const pool = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const made = new Pool({ ...clientConfig(settings, "query"), max: 2, idleTimeoutMillis: 10_000 })
        // An idle connection's end (a server restart) is no event: the next query makes a new one.
        made.on("error", () => {})
        // A loss in mid-query fails the query; the client tells it as an event of its own, too, which must not end the process.
        made.on("connect", (client) => client.on("error", () => {}))
        return made
      }),
      (made) => Effect.promise(() => made.end()).pipe(Effect.timeoutOption("1 second"))
    )
    const rows = (doing: string, sql: string, parameters?: ReadonlyArray<unknown>) =>
      Effect.tryPromise({
        try: async () => {
          const client = await pool.connect().catch((cause: unknown) => {
            throw PostgresError.fromCause(cause, where)
          })
          try {
            const result = await client.query<Row>(sql, parameters === undefined ? undefined : [...parameters])
            client.release()
            return result.rows
          } catch (cause) {
            // After an error of the connection itself the client must not be used again.
            client.release(cause instanceof DatabaseError ? undefined : true)
            throw cause
          }
        },
        catch: (cause) => PostgresError.fromCause(cause, doing)
      })
    return {
      settings,
      query: (doing, row, sql, parameters) =>
        Effect.flatMap(rows(doing, sql, parameters), (found) => decodeRows(doing, row, found)),
      execute: (doing, sql) => Effect.asVoid(rows(doing, sql)),
      client: (purpose) => connect(settings, purpose)
    }
  })
