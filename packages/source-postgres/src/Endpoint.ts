/**
 * Where a PostgreSQL server is and as whom to log in: parsed from a connection URL or taken from separate options.
 *
 * The URL form is libpq's (`postgresql://user:password@host:5432/database?sslmode=require`). Problems are described without
 * quoting the URL, which holds a password.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { isIP } from "node:net"

/** How the connection is protected; see `Config.Tls`. */
export type TlsMode = "disable" | "require" | "verify-full"

export interface Endpoint {
  /** Name or address, or the absolute folder of a Unix socket. */
  readonly host: string
  readonly port: number
  readonly user: string
  readonly password: Redacted.Redacted<string> | undefined
  readonly database: string
  /** The mode that a URL's `sslmode` asks for; undefined when it doesn't say. */
  readonly tlsMode: TlsMode | undefined
}

/** libpq's modes that check nothing or fall back to plain text are not offered: the nearest safe one is taken. */
const tlsModes: Readonly<Record<string, TlsMode>> = {
  disable: "disable",
  require: "require",
  "verify-ca": "verify-full",
  "verify-full": "verify-full"
}

/** Parameters that other clients want in the same URL and that change nothing here. */
const ignoredParameters: ReadonlySet<string> = new Set(["application_name", "connect_timeout", "options", "gssencmode"])

const decoded = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/** libpq takes a URL without a host for one of this machine; URLs with a user must have one. */
const withHost = (text: string): string => {
  const start = text.indexOf("//") + 2
  const length = text.slice(start).search(/[/?#]/)
  const end = length === -1 ? text.length : start + length
  const host = start + text.slice(start, end).lastIndexOf("@") + 1
  return host === end || text[host] === ":" ? `${text.slice(0, host)}localhost${text.slice(host)}` : text
}

const example = "postgresql://user:password@host:5432/database"

/** The endpoint of a connection URL, or what is wrong with it (without a part of it). */
export const fromUrl = (url: Redacted.Redacted<string>): Result.Result<Endpoint, string> => {
  const text = Redacted.value(url)
  if (!/^postgres(ql)?:\/\//.test(text)) return Result.fail(`expected a URL of the form ${example}`)
  let parsed: URL
  try {
    parsed = new URL(withHost(text))
  } catch {
    return Result.fail(
      `expected a URL of the form ${example}; characters such as @ : / ? # % in a password are percent-encoded`
    )
  }
  const parts = [parsed.username, parsed.password, parsed.pathname.slice(1), parsed.hostname].map(decoded)
  const [user, password, database, host] = parts
  if (user === undefined || password === undefined || database === undefined || host === undefined) {
    return Result.fail("the URL holds a % that does not begin a percent-encoded character; write % itself as %25")
  }
  if (user === "") return Result.fail(`the URL names no user; expected ${example}`)
  if (database.includes("/")) return Result.fail(`the URL's path is not one database name; expected ${example}`)
  let tlsMode: TlsMode | undefined
  let socketFolder: string | undefined
  for (const [name, value] of parsed.searchParams) {
    if (name === "sslmode") {
      tlsMode = tlsModes[value]
      if (tlsMode === undefined) {
        return Result.fail("the URL's sslmode is none of disable, require, verify-ca, verify-full")
      }
    } else if (name === "host" && value.startsWith("/")) socketFolder = value
    else if (!ignoredParameters.has(name)) {
      return Result.fail(
        `the URL's parameter ${JSON.stringify(name)} is not supported; TLS files belong in the option tls`
      )
    }
  }
  const bare = host.startsWith("[") ? host.slice(1, -1) : host
  return Result.succeed({
    host: socketFolder ?? (bare === "" ? "localhost" : bare),
    port: parsed.port === "" ? 5432 : Number(parsed.port),
    user,
    password: password === "" ? undefined : Redacted.make(password),
    database: database === "" ? user : database,
    tlsMode
  })
}

/** Whether traffic to `host` stays on this machine (loopback or a Unix socket). */
export const isLocal = (host: string): boolean =>
  host.startsWith("/") || host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."))

/** `host:port/database`, for messages. */
export const describe = (endpoint: Endpoint): string =>
  endpoint.host.startsWith("/")
    ? `${endpoint.host}/.s.PGSQL.${endpoint.port}, database ${JSON.stringify(endpoint.database)}`
    : `${endpoint.host.includes(":") ? `[${endpoint.host}]` : endpoint.host}:${endpoint.port}, database ${
      JSON.stringify(endpoint.database)
    }`
