/**
 * Opens sessions: one host after the other until one answers and is of the wanted kind, each with a password asked for it.
 *
 * As in libpq a host that can't be reached, or that isn't of the kind, gives way to the next, and one that refuses us ends the
 * attempt: trying our password on the others would help nobody.
 */
import { type ConnectorError, isRetryable } from "@etl-stream/core/ConnectorError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { Client, ClientConfig } from "pg"
import * as Authentication from "./Authentication.ts"
import type { Settings } from "./Config.ts"
import { describe, describeHost, type Host } from "./Endpoint.ts"
import * as PostgresError from "./PostgresError.ts"

/**
 * What a connection is for. `query`: short statements, with time limits; `copy`: reads a table for as long as it takes;
 * `replication`: a walsender session (logical), which understands replication commands.
 */
export type Purpose = "query" | "copy" | "replication"

/** Makes a connection; `watch` sees the client before it connects. */
export type Connect<A> = (
  config: ClientConfig,
  watch: (client: Client) => void
) => Effect.Effect<A, ConnectorError, Scope.Scope>

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

const tlsOptions = ({ tls }: Settings, { address, name }: Host): ClientConfig["ssl"] =>
  tls.mode === "disable" ? false : {
    rejectUnauthorized: tls.mode !== "require",
    // The certificate has to fit the name, not the address that stands for it.
    ...(address === undefined ? {} : { host: name, servername: name }),
    ...(tls.mode === "verify-ca" ? { checkServerIdentity: () => undefined } : {}),
    ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    ...(tls.crl === undefined ? {} : { crl: tls.crl }),
    ...(tls.cert === undefined ? {} : { cert: tls.cert }),
    ...(tls.key === undefined ? {} : { key: Redacted.value(tls.key) }),
    ...(tls.keyPassword === undefined ? {} : { passphrase: Redacted.value(tls.keyPassword) }),
    ...(tls.minVersion === undefined ? {} : { minVersion: tls.minVersion }),
    ...(tls.maxVersion === undefined ? {} : { maxVersion: tls.maxVersion })
  }

/** Options for node-postgres. */
export const clientConfig = (
  settings: Settings,
  purpose: Purpose,
  host: Host,
  password: () => string
): ClientConfig & { readonly replication?: string } => ({
  host: host.address ?? host.name,
  port: host.port,
  user: settings.endpoint.user,
  database: settings.endpoint.database,
  // A function also because a missing text would make node-postgres look for a password in files and the environment.
  password,
  ssl: tlsOptions(settings, host),
  // Given in any case, as node-postgres would take it from the environment.
  sslnegotiation: settings.tls.negotiation,
  enableChannelBinding: settings.tls.mode !== "disable" && settings.channelBinding !== "disable",
  application_name: settings.applicationName,
  connectionTimeoutMillis: Duration.toMillis(settings.connectTimeout),
  keepAlive: true,
  keepAliveInitialDelayMillis: 30_000,
  // The last of a setting counts: ours.
  options: [
    ...(settings.sessionOptions === "" ? [] : [settings.sessionOptions]),
    ...Object.entries(sessionSettings(purpose)).map(([name, value]) => `-c ${name}=${value}`)
  ].join(" "),
  ...(purpose === "replication" ? { replication: "database" } : {})
})

/** Where a configuration leads, for messages. */
export const describeConfig = ({ database, host, port }: ClientConfig): string =>
  `${describeHost({ name: host ?? "localhost", address: undefined, port: port ?? 5432 })}, database ${
    JSON.stringify(database)
  }`

/** What a server says of itself when a session begins. */
class Report {
  private readonly values = new Map<string, string>()

  readonly watch = ({ connection }: Client): void => {
    connection.on(
      "parameterStatus",
      (status: { readonly parameterName: string; readonly parameterValue: string }) => {
        this.values.set(status.parameterName, status.parameterValue)
      }
    )
  }

  /** What keeps the server from being of the wanted kind. */
  mismatch(target: Settings["targetSession"], last: boolean): string | undefined {
    const standby = this.values.get("in_hot_standby") === "on"
    const readOnly = standby || this.values.get("default_transaction_read_only") === "on"
    switch (target) {
      case "any":
        return undefined
      case "primary":
        return standby ? "is a standby" : undefined
      case "read-write":
        return standby ? "is a standby" : readOnly ? "is read-only" : undefined
      case "standby":
        return standby ? undefined : "is a primary server"
      case "prefer-standby":
        return standby || last ? undefined : "is a primary server"
      case "read-only":
        return readOnly ? undefined : "is writable"
    }
  }
}

/** Keeps what `effect` opens only when it succeeds. */
const keptOnSuccess = <A>(
  effect: Effect.Effect<A, ConnectorError, Scope.Scope>
): Effect.Effect<A, ConnectorError, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope)
    return yield* effect.pipe(
      Scope.provide(scope),
      Effect.onError(() => Scope.close(scope, Exit.void))
    )
  })

/** The server is there but not of the wanted kind. */
const unsuitable = (settings: Settings, host: Host, mismatch: string): ConnectorError =>
  PostgresError.make(
    "Unreachable",
    `${describeHost(host)} ${mismatch}, and targetSession asks for ${settings.targetSession}`,
    "Name the server that is, for example as one of several hosts. The pipeline tries again by itself."
  )

/** One host, once. */
const attempt = <A>(
  settings: Settings,
  purpose: Purpose,
  host: Host,
  last: boolean,
  connect: Connect<A>
): Effect.Effect<A, ConnectorError, Scope.Scope> => {
  const once: Effect.Effect<A, ConnectorError, Scope.Scope> = Effect.gen(function*() {
    const { kept, password } = yield* settings.password.get(settings.endpoint, host)
    const authentication = Authentication.make(settings, host, password)
    const report = new Report()
    const opened = keptOnSuccess(Effect.gen(function*() {
      const made = yield* connect(clientConfig(settings, purpose, host, authentication.password), (client) => {
        authentication.watch(client)
        report.watch(client)
      })
      const problem = authentication.problem()
      if (problem !== undefined) return yield* problem
      const mismatch = report.mismatch(settings.targetSession, last)
      if (mismatch !== undefined) return yield* unsuitable(settings, host, mismatch)
      return made
    }))
    // A password kept from an earlier connection may have expired before its time.
    return yield* Effect.catchIf(
      opened,
      ({ reason }) => kept && reason === "Unauthorized",
      () => Effect.andThen(settings.password.forget, once)
    )
  })
  return once
}

/** The hosts in the order in which they are tried; a preference for standbys takes two rounds. */
const rounds = Effect.fnUntraced(function*(settings: Settings) {
  const { hosts } = settings.endpoint
  const order = settings.randomHosts ? yield* Random.shuffle(hosts) : hosts
  return settings.targetSession === "prefer-standby"
    ? [...order.map((host) => ({ host, last: false })), ...order.map((host) => ({ host, last: true }))]
    : order.map((host) => ({ host, last: true }))
})

/** Opens a session on the first host that will do, and says which. */
export const open = <A>(
  settings: Settings,
  purpose: Purpose,
  connect: Connect<A>
): Effect.Effect<{ readonly made: A; readonly host: Host }, ConnectorError, Scope.Scope> =>
  Effect.gen(function*() {
    const failures: Array<ConnectorError> = []
    for (const { host, last } of yield* rounds(settings)) {
      const result = yield* Effect.result(attempt(settings, purpose, host, last, connect))
      if (result._tag === "Success") return { made: result.success, host }
      if (!isRetryable(result.failure)) return yield* result.failure
      failures.push(result.failure)
    }
    const [first] = failures
    if (first !== undefined && settings.endpoint.hosts.length === 1) return yield* first
    return yield* PostgresError.make(
      "Unreachable",
      `no host of ${describe(settings.endpoint)} will do: ${
        [...new Set(failures.map(({ message }) => message))].join("; ")
      }`,
      "Check that one of them runs and is of the kind that targetSession asks for. The pipeline tries again by itself."
    )
  })

/** Opens a session on one host only. */
export const openOn = <A>(
  settings: Settings,
  purpose: Purpose,
  host: Host,
  connect: Connect<A>
): Effect.Effect<A, ConnectorError, Scope.Scope> => attempt(settings, purpose, host, true, connect)
