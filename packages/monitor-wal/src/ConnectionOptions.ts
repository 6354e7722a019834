/**
 * The options about the connection: named as the PostgreSQL source's, of which they are the simpler part.
 *
 * What is written in the options comes before the connection string. A parameter of that string that would be needed to connect as
 * it says, and isn't known here, is refused; problems never quote a part of the string, which holds a password.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import { isIP } from "node:net"
import { resolve as resolvePath } from "node:path"
import * as MonitorError from "./MonitorError.ts"

const tlsModes = ["disable", "require", "verify-ca", "verify-full"] as const
type TlsMode = typeof tlsModes[number]

/** Which of several servers will do. */
export type TargetSession = "any" | "primary" | "standby"

/** The pieces of a connection string. Values may be secrets. */
interface Parts {
  readonly hosts: ReadonlyArray<Host>
  readonly user: string | undefined
  readonly password: string | undefined
  readonly database: string | undefined
  readonly parameters: ReadonlyMap<string, string>
}

export interface Host {
  /** Name or address, or the folder of a Unix socket. */
  readonly host: string
  readonly port: number
}

const example = "postgresql://user:password@host:5432/database"

/** Parameters that change nothing of what is asked of the server, or of how it is told from another. */
const harmless = new Set([
  "application_name",
  "connect_timeout",
  "fallback_application_name",
  "options",
  "gssencmode",
  "keepalives",
  "keepalives_idle",
  "keepalives_interval",
  "keepalives_count",
  "tcp_user_timeout",
  "load_balance_hosts",
  "client_encoding",
  "sslnegotiation",
  "sslsni",
  "sslcompression"
])
const honoured = new Set([
  "sslmode",
  "sslrootcert",
  "sslcert",
  "sslkey",
  "target_session_attrs",
  "host",
  "port",
  "user",
  "password",
  "dbname"
])

const targets: Readonly<Record<string, TargetSession>> = {
  any: "any",
  primary: "primary",
  "read-write": "primary",
  standby: "standby",
  "read-only": "standby"
}

const isPort = (port: number): boolean => Number.isInteger(port) && port >= 1 && port <= 65535

const hostsOf = (names: ReadonlyArray<string>, ports: ReadonlyArray<string>): ReadonlyArray<Host> | undefined => {
  if (ports.length > 1 && ports.length !== names.length) return undefined
  const hosts = names.map((host, index) => ({
    host: host === "" ? "localhost" : host,
    port: Number((ports.length === 1 ? ports[0] : ports[index]) || 5432)
  }))
  return hosts.every(({ port }) => isPort(port)) ? hosts : undefined
}

/** The pieces of a connection string, or what is wrong with it (without a part of it). */
export const parseUrl = (url: string): Parts | string => {
  const match = /^postgres(?:ql)?:\/\/(?:([^@/]*)@)?([^/?#@]*)(?:\/([^/?#@]*))?(?:\?([^#]*))?$/.exec(url)
  if (match === null || url.includes("\0")) {
    return `expected a URL of the form ${example}, with characters such as @ : / ? # % in user and password percent-encoded`
  }
  const [, login, authority = "", path = "", query = ""] = match
  try {
    const parameters = new Map<string, string>()
    for (const pair of query.split("&")) {
      const equals = pair.indexOf("=")
      if (equals > 0) {
        parameters.set(decodeURIComponent(pair.slice(0, equals)), decodeURIComponent(pair.slice(equals + 1)))
      }
    }
    if ([...parameters.keys()].some((name) => !honoured.has(name) && !harmless.has(name))) {
      return `a parameter of the URL is not supported here; ${[...honoured].slice(0, 5).join(", ")} are`
    }
    const mode = parameters.get("sslmode")
    if (mode !== undefined && !tlsModes.some((known) => known === mode)) {
      return `sslmode is none of ${
        tlsModes.join(", ")
      } (prefer and allow fall back to plain text, or to an unverified server, without saying so)`
    }
    const target = parameters.get("target_session_attrs")
    if (target !== undefined && targets[target] === undefined) {
      return `target_session_attrs is none of ${Object.keys(targets).join(", ")}`
    }
    const colon = login?.indexOf(":") ?? -1
    const user = login === undefined ? "" : decodeURIComponent(colon === -1 ? login : login.slice(0, colon))
    const password = login === undefined || colon === -1 ? "" : decodeURIComponent(login.slice(colon + 1))
    const pairs = authority.split(",").map((text) => /^(?:\[([^\]]*)\]|([^:\s]*))(?::(\d*))?$/.exec(text))
    if (pairs.some((pair) => pair === null)) return `expected a URL of the form ${example}`
    const inAuthority = pairs.map((pair) => decodeURIComponent(pair?.[1] ?? pair?.[2] ?? ""))
    const hosts = hostsOf(
      parameters.get("host")?.split(",") ?? inAuthority,
      parameters.get("port")?.split(",") ?? pairs.map((pair) => pair?.[3] ?? "")
    )
    if (hosts === undefined) return "hosts and ports of the URL don't fit together, or a port is none from 1 to 65535"
    return {
      hosts,
      user: parameters.get("user") ?? (user === "" ? undefined : user),
      password: parameters.get("password") ?? (password === "" ? undefined : password),
      database: parameters.get("dbname") ?? (path === "" ? undefined : decodeURIComponent(path)),
      parameters
    }
  } catch {
    return "the URL holds a % that does not begin a percent-encoded character; write % itself as %25"
  }
}

const Url = Schema.RedactedFromValue(Schema.String).check(
  Schema.makeFilter((url: Redacted.Redacted<string>) => {
    const parsed = parseUrl(Redacted.value(url))
    return typeof parsed === "string" ? parsed : undefined
  })
)

const Tls = Schema.Struct({
  mode: Schema.optionalKey(Schema.Literals(tlsModes)).annotateKey({
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
  })
})

/** Fields of the monitor's options. */
export const fields = {
  url: Schema.optionalKey(Url).annotateKey({
    description:
      "Connection URL: postgresql://user:password@host:5432/database?sslmode=verify-full. The options below come before what it says."
  }),
  host: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description:
      "Host name, address, or the folder of a Unix socket; several, separated by commas, are tried in order until one is no standby. " +
      "Default: localhost."
  }),
  port: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65535 }))).annotateKey({
    description: "TCP port. Default: 5432."
  }),
  user: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description: "Role to log in as. It needs pg_monitor to see the size of the WAL directory, and nothing else."
  }),
  password: Schema.optionalKey(Schema.RedactedFromValue(Schema.NonEmptyString)).annotateKey({
    description: "The role's password."
  }),
  database: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description: "Database whose publications are looked at: the slots'. Default: the user's name."
  }),
  applicationName: Schema.optionalKey(Schema.NonEmptyString.check(Schema.isMaxLength(63))).annotateKey({
    description: "Name of the session in pg_stat_activity. Default: etl-stream monitor and the monitor's name."
  }),
  tls: Tls.pipe(ConfigOption.withDefault({})).annotateKey({ description: "Encryption." }),
  connectTimeout: Schema.DurationFromString.pipe(
    ConfigOption.withDefault("10 seconds")
  ).annotateKey({ description: "How long a connection may take to be made." }),
  statementTimeout: Schema.DurationFromString.pipe(
    ConfigOption.withDefault("10 seconds")
  ).annotateKey({ description: "How long one query may take at the server." })
} as const

export type ConnectionOptions = Schema.Struct.Type<typeof fields>

/** Everything about the connection, decided. */
export interface Endpoint {
  /** In the order in which they are tried. */
  readonly hosts: ReadonlyArray<Host>
  readonly user: string
  readonly password: Redacted.Redacted<string> | undefined
  readonly database: string
  readonly applicationName: string
  readonly target: TargetSession
  readonly tls: {
    readonly mode: TlsMode
    readonly ca: string | undefined
    readonly cert: string | undefined
    readonly key: Redacted.Redacted<string> | undefined
  }
  readonly connectTimeout: Duration.Duration
  readonly statementTimeout: Duration.Duration
}

/** `host:port`, or a socket's path, for messages. */
export const describe = ({ hosts }: Endpoint): string =>
  hosts.map(({ host, port }) =>
    host.startsWith("/") ? `${host}/.s.PGSQL.${port}` : `${host.includes(":") ? `[${host}]` : host}:${port}`
  ).join(",")

const isLocal = ({ host }: Host): boolean =>
  host.startsWith("/") || host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."))

const partsOf = (url: ConnectionOptions["url"]): Parts => {
  const parsed = url === undefined
    ? { hosts: [], user: undefined, password: undefined, database: undefined, parameters: new Map<string, string>() }
    : parseUrl(Redacted.value(url))
  // The schema has checked the URL; options made without it get the error as a defect.
  if (typeof parsed === "string") throw new TypeError(`url: ${parsed}`)
  return parsed
}

/** What is wrong with options taken together, if anything is. */
export const problem = (options: ConnectionOptions): string | undefined => {
  if (options.user === undefined && partsOf(options.url).user === undefined) {
    return options.url === undefined ? "expected url, or at least user" : "the URL names no user; expected user too"
  }
  return undefined
}

/** Decides everything and reads the certificates that the connection string names; relative paths are relative to `directory`. */
export const load = Effect.fn("MonitorWal.connectionOptions")(function*(
  options: ConnectionOptions,
  monitor: string,
  directory: string
): Effect.fn.Return<Endpoint, ConnectorError> {
  const parts = partsOf(options.url)
  const named = options.host === undefined ? undefined : hostsOf(
    options.host.split(",").map((name) => name.trim()),
    options.port === undefined ? [""] : [String(options.port)]
  )
  const port = options.port
  const inUrl = parts.hosts.map((host) => port === undefined ? host : { ...host, port })
  const hosts = named ?? (inUrl.length > 0 ? inUrl : [{ host: "localhost", port: port ?? 5432 }])
  const file = (name: string) =>
    Effect.suspend(() => {
      const path = parts.parameters.get(name)
      return path === undefined || path === "system" ? Effect.undefined : Effect.try({
        try: () => Fs.readFileSync(resolvePath(directory, path), "utf8"),
        catch: () =>
          MonitorError.make(
            "Misconfigured",
            `the file that ${name} names can't be read`,
            "Check its path, which is relative to the configuration's folder, and its permissions."
          )
      })
    })
  const ca = options.tls.ca ?? (yield* file("sslrootcert"))
  const cert = options.tls.cert ?? (yield* file("sslcert"))
  const keyText = options.tls.key === undefined ? yield* file("sslkey") : undefined
  const key = options.tls.key ?? (keyText === undefined ? undefined : Redacted.make(keyText))
  const written = parts.parameters.get("sslmode")
  // As in libpq, `require` with an authority's certificate checks that.
  const fromUrl = written === "require" && ca !== undefined
    ? "verify-ca"
    : tlsModes.find((known) => known === written)
  const mode = options.tls.mode ?? fromUrl ?? (hosts.every(isLocal) ? "disable" : "verify-full")
  if (mode === "verify-ca" && ca === undefined) {
    return yield* MonitorError.make(
      "Misconfigured",
      "TLS mode verify-ca with the system's authorities would accept anybody's certificate",
      "Use verify-full, or give the certificate of the server's own authority in tls.ca (sslrootcert)."
    )
  }
  if (cert !== undefined && key === undefined) {
    return yield* MonitorError.make(
      "Misconfigured",
      "there is a client certificate but not its key",
      "Give tls.key, or sslkey."
    )
  }
  const user = options.user ?? parts.user ?? ""
  const password = options.password ?? (parts.password === undefined ? undefined : Redacted.make(parts.password))
  const target = parts.parameters.get("target_session_attrs")
  return {
    hosts,
    user,
    password,
    database: options.database ?? parts.database ?? user,
    applicationName: options.applicationName ?? `etl-stream monitor ${monitor}`.slice(0, 63),
    target: (target === undefined ? undefined : targets[target]) ?? (hosts.length > 1 ? "primary" : "any"),
    tls: { mode, ca, cert, key: cert === undefined ? undefined : key },
    connectTimeout: options.connectTimeout,
    statementTimeout: options.statementTimeout
  }
})
