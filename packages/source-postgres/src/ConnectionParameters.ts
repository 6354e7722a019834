/**
 * libpq's connection parameters: which there are, the environment variables that stand for them, and what they mean here.
 *
 * A parameter that would make a connection less safe than it reads, or that can't be honoured, is refused with the reason; one that
 * changes nothing here is taken and ignored. Problems name parameters, never their values.
 */
import * as Option from "effect/Option"
import type { SecureVersion } from "node:tls"
import type { Parameters } from "./ConnectionString.ts"
import type { Host, TlsMode } from "./Endpoint.ts"

/** Which of several servers will do, or which kind the only one has to be. */
export type TargetSession = "any" | "read-write" | "read-only" | "primary" | "standby" | "prefer-standby"

/** Ways in which a server may want to know who we are; `none`: it doesn't ask. */
export type AuthMethod = "none" | "password" | "md5" | "scram-sha-256"

export type ChannelBinding = "disable" | "prefer" | "require"

export const targetSessions: ReadonlyArray<TargetSession> = [
  "any",
  "read-write",
  "read-only",
  "primary",
  "standby",
  "prefer-standby"
]

export const channelBindings: ReadonlyArray<ChannelBinding> = ["disable", "prefer", "require"]

/** What is wrong with a parameter's value, without the value. */
type Check = (value: string) => string | undefined

const oneOf = (values: ReadonlyArray<string>): Check => (value) =>
  values.includes(value) ? undefined : `is none of ${values.join(", ")}`

const only = (values: ReadonlyArray<string>, why: string): Check => (value) =>
  values.includes(value) ? undefined : `can only be ${values.join(" or ")}: ${why}`

const refused = (why: string): Check => () => `is not supported: ${why}`

const any: Check = () => undefined

const sslMode: Check = (value) =>
  value === "prefer" || value === "allow"
    ? "can't be prefer or allow: they fall back to plain text, or to an unverified server, without saying so; use verify-full, or require or disable on purpose"
    : oneOf(["disable", "require", "verify-ca", "verify-full"])(value)

const ports: Check = (value) =>
  value.split(",").every((port) => port.trim() === "" || (/^[0-9]{1,5}$/.test(port.trim()) && isPort(Number(port))))
    ? undefined
    : "is not a number from 1 to 65535, or several separated by commas"

const isPort = (port: number): boolean => port >= 1 && port <= 65535

const integer: Check = (value) => /^\s*[+-]?[0-9]{1,9}\s*$/.test(value) ? undefined : "is not a whole number"

const tlsVersions: ReadonlyArray<SecureVersion> = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]

const tlsVersion: Check = oneOf(tlsVersions)

const authMethods: ReadonlyArray<AuthMethod> = ["none", "password", "md5", "scram-sha-256"]

/** The methods that a `require_auth` allows; none when it is not well formed. */
export const allowedMethods = (text: string): Option.Option<ReadonlySet<AuthMethod>> => {
  const words = text.split(",").map((word) => word.trim())
  const known = new Set<string>([...authMethods, "gss", "sspi", "oauth"])
  const negative = words.filter((word) => word.startsWith("!"))
  if (negative.length > 0 && negative.length < words.length) return Option.none()
  const names = words.map((word) => word.replace(/^!/, ""))
  if (names.some((name) => !known.has(name))) return Option.none()
  return Option.some(new Set(authMethods.filter((method) => names.includes(method) === (negative.length === 0))))
}

const requireAuth: Check = (value) =>
  Option.match(allowedMethods(value), {
    onNone: () =>
      "is not a list of none, password, md5, scram-sha-256 (gss, sspi and oauth can be excluded), either all with ! or none with it",
    onSome: (methods) => methods.size > 0 ? undefined : "leaves no method that this client has"
  })

interface Keyword {
  readonly check: Check
  /** The variable that libpq reads when the parameter is given nowhere else. */
  readonly variable?: string
}

const keyword = (check: Check, variable?: string): Keyword => variable === undefined ? { check } : { check, variable }

const otherLogin = "log in with a password or a client certificate"

const keywords: Readonly<Record<string, Keyword>> = {
  service: keyword(any, "PGSERVICE"),
  servicefile: keyword(any, "PGSERVICEFILE"),
  host: keyword(any, "PGHOST"),
  hostaddr: keyword(any, "PGHOSTADDR"),
  port: keyword(ports, "PGPORT"),
  dbname: keyword(any, "PGDATABASE"),
  user: keyword(any, "PGUSER"),
  password: keyword(any, "PGPASSWORD"),
  passfile: keyword(any, "PGPASSFILE"),
  require_auth: keyword(requireAuth, "PGREQUIREAUTH"),
  channel_binding: keyword(oneOf(channelBindings), "PGCHANNELBINDING"),
  connect_timeout: keyword(integer, "PGCONNECT_TIMEOUT"),
  options: keyword(any, "PGOPTIONS"),
  application_name: keyword(any, "PGAPPNAME"),
  target_session_attrs: keyword(oneOf(targetSessions), "PGTARGETSESSIONATTRS"),
  load_balance_hosts: keyword(oneOf(["disable", "random"]), "PGLOADBALANCEHOSTS"),
  sslmode: keyword(sslMode, "PGSSLMODE"),
  sslnegotiation: keyword(oneOf(["postgres", "direct"]), "PGSSLNEGOTIATION"),
  sslrootcert: keyword(any, "PGSSLROOTCERT"),
  sslcert: keyword(any, "PGSSLCERT"),
  sslkey: keyword(any, "PGSSLKEY"),
  sslpassword: keyword(any),
  sslcrl: keyword(any, "PGSSLCRL"),
  ssl_min_protocol_version: keyword(tlsVersion, "PGSSLMINPROTOCOLVERSION"),
  ssl_max_protocol_version: keyword(tlsVersion, "PGSSLMAXPROTOCOLVERSION"),
  // Taken, and of no effect: what they ask for is so anyway, or is none of a client's that isn't libpq.
  client_encoding: keyword(any, "PGCLIENTENCODING"),
  fallback_application_name: keyword(any),
  gssencmode: keyword(only(["disable", "prefer"], "there is no GSSAPI encryption, use TLS"), "PGGSSENCMODE"),
  gssdelegation: keyword(any, "PGGSSDELEGATION"),
  gsslib: keyword(any, "PGGSSLIB"),
  krbsrvname: keyword(any, "PGKRBSRVNAME"),
  keepalives: keyword(only(["1"], "a lost server would go unnoticed")),
  keepalives_idle: keyword(integer),
  keepalives_interval: keyword(integer),
  keepalives_count: keyword(integer),
  tcp_user_timeout: keyword(integer),
  min_protocol_version: keyword(only(["3.0"], "the protocol is 3.0"), "PGMINPROTOCOLVERSION"),
  max_protocol_version: keyword(any, "PGMAXPROTOCOLVERSION"),
  sslcompression: keyword(only(["0"], "TLS is not compressed"), "PGSSLCOMPRESSION"),
  sslcertmode: keyword(
    only(["allow", "disable"], "whether a server asked for the certificate is not known"),
    "PGSSLCERTMODE"
  ),
  sslsni: keyword(only(["1"], "the host's name is always sent"), "PGSSLSNI"),
  // Refused: ignoring them would leave out something that was asked for.
  replication: keyword(refused("which connections replicate is decided here")),
  requiressl: keyword(refused("use sslmode"), "PGREQUIRESSL"),
  sslcrldir: keyword(refused("name one file in sslcrl"), "PGSSLCRLDIR"),
  sslkeylogfile: keyword(refused("session keys are not written to files")),
  requirepeer: keyword(refused("the owner of a Unix socket can't be checked"), "PGREQUIREPEER"),
  scram_client_key: keyword(refused(otherLogin)),
  scram_server_key: keyword(refused(otherLogin)),
  oauth_issuer: keyword(refused(otherLogin)),
  oauth_client_id: keyword(refused(otherLogin)),
  oauth_client_secret: keyword(refused(otherLogin)),
  oauth_scope: keyword(refused(otherLogin))
}

/**
 * What is wrong with parameters, if anything is. A keyword that isn't libpq's is not quoted: it may be a piece of a password that
 * was not encoded.
 */
export const problem = (
  parameters: Parameters,
  named: (keyword: string) => string = (name) => name
): string | undefined => {
  for (const [name, value] of parameters) {
    const known = Object.hasOwn(keywords, name) ? keywords[name] : undefined
    if (known === undefined) {
      return "a parameter is not one of libpq's; check its spelling, and that special characters are encoded"
    }
    if (value === "") continue
    const wrong = known.check(value)
    if (wrong !== undefined) return `${named(name)} ${wrong}`
  }
  return undefined
}

/** The variable that stands for a keyword, for messages. */
export const variableOf = (name: string): string => keywords[name]?.variable ?? name

/** The parameters that environment variables give. */
export const fromEnvironment = (environment: Readonly<Record<string, string | undefined>>): Parameters => {
  const parameters = new Map<string, string>()
  for (const [name, { variable }] of Object.entries(keywords)) {
    const value = variable === undefined ? undefined : environment[variable]
    if (value !== undefined && value !== "") parameters.set(name, value)
  }
  return parameters
}

/** One set of parameters from several, of which the first that has one counts; an empty value is as good as none. */
export const merge = (layers: ReadonlyArray<Parameters>): Parameters => {
  const merged = new Map<string, string>()
  for (const layer of layers) {
    for (const [name, value] of layer) {
      if (value !== "" && !merged.has(name)) merged.set(name, value)
    }
  }
  return merged
}

/** The hosts, or what is wrong with them. */
export const hostsOf = (parameters: Parameters): string | readonly [Host, ...ReadonlyArray<Host>] => {
  const list = (name: string) => (parameters.get(name) ?? "").split(",").map((item) => item.trim())
  const names = list("host")
  const addresses = list("hostaddr")
  const ports = list("port")
  const count = parameters.has("host") ? names.length : addresses.length
  if (parameters.has("hostaddr") && addresses.length !== count) {
    return "host and hostaddr don't name equally many servers"
  }
  if (ports.length > 1 && ports.length !== count) return "there are neither one port nor as many as hosts"
  const at = (index: number): Host => {
    const address = addresses[index] || undefined
    return {
      name: names[index] || address || "localhost",
      address,
      port: Number((ports.length === 1 ? ports[0] : ports[index]) || 5432)
    }
  }
  return [at(0), ...Array.from({ length: count - 1 }, (_, index) => at(index + 1))]
}

/** Whether a word is one of `values`. */
export const isOneOf = <A extends string>(values: ReadonlyArray<A>, word: string | undefined): word is A =>
  values.some((value) => value === word)

const tlsModes: ReadonlyArray<TlsMode> = ["disable", "require", "verify-ca", "verify-full"]

/** The mode that `sslmode` asks for. As in libpq, `require` with an authority's certificate checks that. */
export const tlsModeOf = (parameters: Parameters, hasAuthority: boolean): TlsMode | undefined => {
  const mode = parameters.get("sslmode")
  if (mode === "require" && hasAuthority) return "verify-ca"
  return isOneOf(tlsModes, mode) ? mode : undefined
}

/** The version of TLS that a parameter names. */
export const tlsVersionOf = (parameters: Parameters, name: string): SecureVersion | undefined => {
  const version = parameters.get(name)
  return isOneOf(tlsVersions, version) ? version : undefined
}
