/**
 * The source's options about the connection, and how they, a connection string, a service file and the environment become one.
 *
 * What is written in the configuration comes before the connection string, that before the service, and that before the `PG*`
 * variables. The variables belong to the process, not to a pipeline, so they count only with `environment: true`. `problem` needs
 * nothing but the options; `load` reads files and the environment.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import type { SecureVersion } from "node:tls"
import * as ConnectionParameters from "./ConnectionParameters.ts"
import * as ConnectionString from "./ConnectionString.ts"
import type { Parameters } from "./ConnectionString.ts"
import * as Endpoint from "./Endpoint.ts"
import * as PasswordProvider from "./PasswordProvider.ts"
import * as PostgresError from "./PostgresError.ts"
import * as ServiceFile from "./ServiceFile.ts"

const Tls = Schema.Struct({
  mode: Schema.optionalKey(Schema.Literals(["disable", "require", "verify-ca", "verify-full"])).annotateKey({
    description:
      "disable: plain text; require: encrypted, the server's identity is not checked; verify-ca: its certificate is from an authority " +
      "in ca; verify-full: certificate and host name are checked. Default: the connection string's sslmode, otherwise verify-full, or " +
      "disable when the server is on this machine."
  }),
  ca: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description:
      "Certificates (PEM text, for example ${file:./ca.pem}) of the authorities to trust instead of the system's."
  }),
  cert: Schema.optionalKey(Schema.NonEmptyString).annotateKey({ description: "Client certificate, PEM text." }),
  key: Schema.optionalKey(Schema.RedactedFromValue(Schema.NonEmptyString)).annotateKey({
    description: "Private key of the client certificate, PEM text."
  }),
  keyPassword: Schema.optionalKey(Schema.RedactedFromValue(Schema.NonEmptyString)).annotateKey({
    description: "Passphrase of an encrypted key."
  }),
  negotiation: Schema.optionalKey(Schema.Literals(["postgres", "direct"])).annotateKey({
    description: "direct: TLS from the first byte, which saves a round trip and needs PostgreSQL 17. Default: postgres."
  })
})

const ConnectionUrl = Schema.RedactedFromValue(Schema.String).check(
  Schema.makeFilter((url: Redacted.Redacted<string>) =>
    Result.match(ConnectionString.parse(url), {
      onFailure: (problem) => problem,
      onSuccess: (parameters) => {
        const problem = ConnectionParameters.problem(parameters)
        if (problem !== undefined) return `in the connection string, ${problem}`
        const hosts = ConnectionParameters.hostsOf(ConnectionParameters.merge([parameters]))
        return typeof hosts === "string" ? `in the connection string, ${hosts}` : undefined
      }
    })
  )
)

/** Fields of the source's options. */
export const fields = {
  url: Schema.optionalKey(ConnectionUrl).annotateKey({
    description:
      "Connection string, as psql takes it: postgresql://user:password@host:5432/database?sslmode=verify-full, or host=… user=…. The " +
      "options below come before what it says."
  }),
  host: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description:
      "Host name, address, or the folder of a Unix socket; several, separated by commas, are tried in order. Default: localhost."
  }),
  port: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65535 }))).annotateKey({
    description: "TCP port. Default: 5432."
  }),
  user: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description: "Role to log in as; it needs REPLICATION."
  }),
  password: Schema.optionalKey(Schema.Union([
    Schema.RedactedFromValue(Schema.NonEmptyString),
    PasswordProvider.Command,
    PasswordProvider.Module
  ])).annotateKey({
    description:
      "The role's password, or, for one that expires, a command or module that is asked for it. Default: the password file's, if it " +
      "has one."
  }),
  database: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description: "Database to replicate. Default: the user's name."
  }),
  service: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description: "Name of a service in pg_service.conf that gives what isn't said here."
  }),
  serviceFile: Schema.optionalKey(ConfigOption.Path).annotateKey({
    description:
      "Path of the service file. Default: PGSERVICEFILE or ~/.pg_service.conf, then PGSYSCONFDIR/pg_service.conf."
  }),
  passwordFile: Schema.optionalKey(ConfigOption.Path).annotateKey({
    description: "Path of the password file. Default: PGPASSFILE or ~/.pgpass."
  }),
  environment: Schema.Boolean.pipe(ConfigOption.withDefault(false)).annotateKey({
    description:
      "Whether PGHOST, PGUSER, PGPASSWORD and the like give what is said nowhere else. Beware: they belong to all pipelines " +
      "of the process."
  }),
  targetSession: Schema.optionalKey(Schema.Literals(ConnectionParameters.targetSessions)).annotateKey({
    description:
      "Which of several hosts will do; after a failover the new primary is found by it. Default: read-write with several hosts, any " +
      "with one."
  }),
  channelBinding: Schema.optionalKey(Schema.Literals(ConnectionParameters.channelBindings)).annotateKey({
    description:
      "require: log in only by SCRAM that is bound to the TLS connection, so nobody can sit in between. Default: prefer."
  }),
  requireAuth: Schema.optionalKey(
    Schema.NonEmptyString.check(
      Schema.makeFilter((text: string) => ConnectionParameters.problem(new Map([["require_auth", text]])))
    )
  ).annotateKey({
    description:
      "Ways to log in that are allowed, for example scram-sha-256, as libpq's require_auth. Default: all, but over a plain connection " +
      "to another machine not password and md5."
  }),
  applicationName: Schema.optionalKey(Schema.NonEmptyString.check(Schema.isMaxLength(63))).annotateKey({
    description: "Name of the sessions in pg_stat_activity. Default: etl-stream and the pipeline's name."
  }),
  tls: Tls.pipe(ConfigOption.withDefault({})).annotateKey({ description: "Encryption." }),
  connectTimeout: Schema.optionalKey(Schema.DurationFromString).annotateKey({
    description: "How long a connection to a host may take to be made. Default: 10 seconds."
  })
} as const

/** Options about the connection, as decoded. */
export type ConnectionOptions = Schema.Struct.Type<typeof fields>

/** Everything about the connection, decided. */
export interface Connection {
  readonly endpoint: Endpoint.Endpoint
  readonly password: PasswordProvider.Provider
  readonly tls: {
    readonly mode: Endpoint.TlsMode
    readonly ca: string | undefined
    readonly crl: string | undefined
    readonly cert: string | undefined
    readonly key: Redacted.Redacted<string> | undefined
    readonly keyPassword: Redacted.Redacted<string> | undefined
    readonly negotiation: "postgres" | "direct"
    readonly minVersion: SecureVersion | undefined
    readonly maxVersion: SecureVersion | undefined
  }
  readonly connectTimeout: Duration.Duration
  readonly applicationName: string | undefined
  /** Settings that the user wants for the sessions, as command-line options of the server; ours come after them. */
  readonly sessionOptions: string
  readonly targetSession: ConnectionParameters.TargetSession
  /** Hosts in a new order each time. */
  readonly randomHosts: boolean
  readonly channelBinding: ConnectionParameters.ChannelBinding
  /** Undefined: the default. */
  readonly allowedMethods: ReadonlySet<ConnectionParameters.AuthMethod> | undefined
}

/** The process's surroundings, so that tests have their own. */
export const Surroundings = Context.Reference<
  { readonly environment: Readonly<Record<string, string | undefined>>; readonly home: string }
>("@etl-stream/source-postgres/Surroundings", {
  defaultValue: () => ({ environment: process.env, home: os.homedir() })
})

const fromUrl = (url: ConnectionOptions["url"]): Parameters =>
  // The schema has checked the URL; options made without it get the error as a defect.
  url === undefined
    ? new Map()
    : Result.getOrThrowWith(ConnectionString.parse(url), (problem) => new TypeError(`url: ${problem}`))

/** What is wrong with options taken together, if anything is. */
export const problem = (options: ConnectionOptions): string | undefined => {
  const url = fromUrl(options.url)
  const elsewhere = options.environment || options.service !== undefined || url.has("service")
  if (options.user !== undefined || url.has("user") || elsewhere) return undefined
  return options.url === undefined
    ? "expected url, or at least user or service; or environment: true, when PG* variables say where to connect"
    : "the connection string names no user; expected user too"
}

const own = (options: ConnectionOptions): Parameters => {
  const parameters = new Map<string, string>()
  const set = (name: string, value: string | number | undefined): void => {
    if (value !== undefined) parameters.set(name, String(value))
  }
  set("host", options.host)
  set("port", options.port)
  set("user", options.user)
  set("dbname", options.database)
  set("service", options.service)
  set("servicefile", options.serviceFile)
  set("passfile", options.passwordFile)
  set("target_session_attrs", options.targetSession)
  set("channel_binding", options.channelBinding)
  set("require_auth", options.requireAuth)
  set("application_name", options.applicationName)
  set("sslnegotiation", options.tls.negotiation)
  return parameters
}

const misconfigured = (message: string, hint: string) => PostgresError.make("Misconfigured", message, hint)

const read = (file: string, what: string): Effect.Effect<string, ConnectorError> =>
  Effect.try({
    try: () => fs.readFileSync(file, "utf8"),
    catch: (cause) =>
      misconfigured(
        `${what} ${file} can't be read: ${PostgresError.codeOf(cause) ?? "unknown error"}`,
        "Check its path, which is relative to the configuration's folder, and its permissions."
      )
  })

const readService = Effect.fnUntraced(function*(name: string, explicit: string | undefined, directory: string) {
  const { environment, home } = yield* Surroundings
  const system = environment["PGSYSCONFDIR"]
  const files = [
    explicit !== undefined
      ? path.resolve(directory, explicit)
      : environment["PGSERVICEFILE"] || path.join(home, ".pg_service.conf"),
    ...(system ? [path.join(system, "pg_service.conf")] : [])
  ]
  for (const [index, file] of files.entries()) {
    if ((index > 0 || explicit === undefined) && !fs.existsSync(file)) continue
    const found = ServiceFile.find(yield* read(file, "the service file"), name)
    if (Result.isFailure(found)) {
      return yield* misconfigured(`the service file ${file}, ${found.failure}`, "Correct the file.")
    }
    if (found.success === undefined) continue
    const wrong = ConnectionParameters.problem(found.success)
    if (wrong !== undefined) {
      return yield* misconfigured(`service ${name} in ${file}: ${wrong}`, "Correct the file.")
    }
    return found.success
  }
  return yield* misconfigured(
    `service ${name} is defined nowhere; looked in ${files.join(" and ")}`,
    "Correct its name, or add a section of that name to a service file (serviceFile, PGSERVICEFILE or ~/.pg_service.conf)."
  )
})

/** The password file's text; undefined when there is none, or when others may read it. */
const readPasswords = Effect.fnUntraced(function*(explicit: string | undefined, directory: string) {
  const { environment, home } = yield* Surroundings
  const file = explicit !== undefined
    ? path.resolve(directory, explicit)
    : environment["PGPASSFILE"] || path.join(home, ".pgpass")
  const stat = fs.statSync(file, { throwIfNoEntry: false })
  if (stat === undefined && explicit === undefined) return undefined
  if (stat !== undefined && (!stat.isFile() || (process.platform !== "win32" && (stat.mode & 0o077) !== 0))) {
    const message = stat.isFile()
      ? `the password file ${file} may be read by others`
      : `the password file ${file} is not a plain file`
    const hint = stat.isFile() ? `Run chmod 0600 ${file}.` : "Name a file in passwordFile."
    if (explicit !== undefined) return yield* misconfigured(message, hint)
    yield* Effect.logWarning(`${message}; it is not used`, { hint })
    return undefined
  }
  return Redacted.make(yield* read(file, "the password file"))
})

const passwordOf = Effect.fnUntraced(function*(options: ConnectionOptions, parameters: Parameters, directory: string) {
  const given = options.password
  if (Redacted.isRedacted(given)) return PasswordProvider.fixed(given)
  if (given !== undefined) {
    return "command" in given
      ? PasswordProvider.command(given, directory)
      : PasswordProvider.module(given, directory)
  }
  const text = parameters.get("password")
  if (text !== undefined) return PasswordProvider.fixed(Redacted.make(text))
  const passwords = yield* readPasswords(parameters.get("passfile"), directory)
  return passwords === undefined ? PasswordProvider.fixed(undefined) : PasswordProvider.file(passwords)
})

const tlsOf = Effect.fnUntraced(function*(
  { tls }: ConnectionOptions,
  parameters: Parameters,
  { hosts }: Endpoint.Endpoint,
  directory: string
) {
  const text = Effect.fnUntraced(function*(name: string, what: string) {
    const file = parameters.get(name)
    return file === undefined ? undefined : yield* read(path.resolve(directory, file), what)
  })
  const system = tls.ca === undefined && parameters.get("sslrootcert") === "system"
  const ca = tls.ca ?? (system ? undefined : yield* text("sslrootcert", "the certificates' file"))
  const mode = tls.mode ?? ConnectionParameters.tlsModeOf(parameters, ca !== undefined) ??
    (hosts.every(Endpoint.isLocal) && !system ? "disable" : "verify-full")
  if ((system && mode !== "verify-full") || (mode === "verify-ca" && ca === undefined)) {
    return yield* misconfigured(
      `TLS mode ${mode} with the system's authorities would accept anybody's certificate`,
      "Use verify-full, or give the certificate of the server's own authority in tls.ca (sslrootcert)."
    )
  }
  const negotiation = parameters.get("sslnegotiation") === "direct" ? "direct" : "postgres"
  if (negotiation === "direct" && mode === "disable") {
    return yield* misconfigured("direct TLS negotiation is asked for while TLS is off", "Set tls.mode to verify-full.")
  }
  const withoutClient = parameters.get("sslcertmode") === "disable"
  const cert = withoutClient ? undefined : tls.cert ?? (yield* text("sslcert", "the client certificate"))
  const keyText = tls.key === undefined ? yield* text("sslkey", "the client certificate's key") : undefined
  const key = tls.key ?? (keyText === undefined ? undefined : Redacted.make(keyText))
  if (cert !== undefined && key === undefined) {
    return yield* misconfigured("there is a client certificate but not its key", "Give tls.key, or sslkey.")
  }
  const passphrase = parameters.get("sslpassword")
  return {
    mode,
    ca,
    crl: yield* text("sslcrl", "the revocation list"),
    cert,
    key: cert === undefined ? undefined : key,
    keyPassword: tls.keyPassword ?? (passphrase === undefined ? undefined : Redacted.make(passphrase)),
    negotiation,
    minVersion: ConnectionParameters.tlsVersionOf(parameters, "ssl_min_protocol_version"),
    maxVersion: ConnectionParameters.tlsVersionOf(parameters, "ssl_max_protocol_version")
  } as const
})

const defaultTimeout = Duration.seconds(10)

/** Reads what the options refer to and decides everything; relative paths are relative to `directory`. */
export const load = Effect.fn("PostgresSource.connectionOptions")(function*(
  options: ConnectionOptions,
  directory: string
): Effect.fn.Return<Connection, ConnectorError> {
  const { environment } = yield* Surroundings
  const variables = options.environment ? ConnectionParameters.fromEnvironment(environment) : new Map<string, string>()
  const wrongVariable = ConnectionParameters.problem(
    variables,
    (name) => `variable ${ConnectionParameters.variableOf(name)}`
  )
  if (wrongVariable !== undefined) {
    return yield* misconfigured(
      wrongVariable,
      "Correct the variable, or set what it stands for in the source's options."
    )
  }
  const nearer = [own(options), fromUrl(options.url)]
  const named = ConnectionParameters.merge([...nearer, variables])
  const service = named.get("service")
  const parameters = ConnectionParameters.merge([
    ...nearer,
    ...(service === undefined ? [] : [yield* readService(service, named.get("servicefile"), directory)]),
    variables
  ])
  const hosts = ConnectionParameters.hostsOf(parameters)
  if (typeof hosts === "string") return yield* misconfigured(hosts, "Correct host and port.")
  const user = parameters.get("user")
  if (user === undefined) {
    return yield* misconfigured(
      `there is no user: neither in the options nor in ${service === undefined ? "PGUSER" : `service ${service}`}`,
      "Set user in the source's options."
    )
  }
  const endpoint: Endpoint.Endpoint = { hosts, user, database: parameters.get("dbname") ?? user }
  const tls = yield* tlsOf(options, parameters, endpoint, directory)
  const target = parameters.get("target_session_attrs")
  const binding = parameters.get("channel_binding")
  if (binding === "require" && tls.mode === "disable") {
    return yield* misconfigured("channel binding is required while TLS is off", "Set tls.mode to verify-full.")
  }
  const seconds = Number(parameters.get("connect_timeout") ?? 0)
  const methods = parameters.get("require_auth")
  return {
    endpoint,
    password: yield* passwordOf(options, parameters, directory),
    tls,
    // libpq waits for ever at 0 and below; nothing here does.
    connectTimeout: options.connectTimeout ?? (seconds > 0 ? Duration.seconds(seconds) : defaultTimeout),
    applicationName: parameters.get("application_name"),
    sessionOptions: parameters.get("options") ?? "",
    targetSession: ConnectionParameters.isOneOf(ConnectionParameters.targetSessions, target)
      ? target
      : hosts.length > 1
      ? "read-write"
      : "any",
    randomHosts: parameters.get("load_balance_hosts") === "random",
    channelBinding: ConnectionParameters.isOneOf(ConnectionParameters.channelBindings, binding) ? binding : "prefer",
    allowedMethods: methods === undefined
      ? undefined
      : Option.getOrUndefined(ConnectionParameters.allowedMethods(methods))
  }
})
