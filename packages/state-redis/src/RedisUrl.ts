/**
 * URLs and addresses of Redis servers: `redis://user:password@host:port/database`, `host:port`.
 *
 * What can't be read is refused, with what is wrong and never with what was there: a URL may hold a password.
 */
import * as Redacted from "effect/Redacted"

export interface Address {
  readonly host: string
  readonly port: number
}

export interface RedisUrl extends Address {
  readonly tls: boolean
  readonly username: string | undefined
  readonly password: Redacted.Redacted<string> | undefined
  readonly database: number | undefined
}

export const defaultPort = 6379
export const defaultSentinelPort = 26379

const portOf = (text: string): number | undefined => {
  const port = Number(text)
  return /^\d{1,5}$/.test(text) && port >= 1 && port <= 65535 ? port : undefined
}

/** The address in `host:port`, `host`, `[address]:port` or `[address]`; undefined when it is none. */
export const parseAddress = (text: string, otherwise: number): Address | undefined => {
  const match = /^(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\s[\]/@:?#]+))(?::(.*))?$/.exec(text)
  if (match === null) return undefined
  const host = match[1] ?? match[2]
  const port = match[3] === undefined ? otherwise : portOf(match[3])
  return host === undefined || port === undefined ? undefined : { host, port }
}

export const formatAddress = ({ host, port }: Address): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`

const decoded = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/** What a URL says, or what is wrong with it. */
export const parse = (text: string): RedisUrl | string => {
  if (!URL.canParse(text)) {
    return "expected redis://user:password@host:6379/0 (a password's special characters %-encoded)"
  }
  const url = new URL(text)
  if (url.protocol !== "redis:" && url.protocol !== "rediss:") {
    return "expected a URL that begins with redis:// or rediss://"
  }
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1")
  if (host === "") return "the URL has no host"
  const port = url.port === "" ? defaultPort : portOf(url.port)
  if (port === undefined) return "the URL's port is none"
  if (url.search !== "" || url.hash !== "") {
    return "the URL has parameters (after ? or #), which nobody would look at: use the options beside it"
  }
  const username = decoded(url.username)
  const password = decoded(url.password)
  if (username === undefined || password === undefined) {
    return "the URL's user or password has a % that encodes nothing: write %25"
  }
  const path = /^\/?(\d{0,9})$/.exec(url.pathname)?.[1]
  if (path === undefined) return "the URL's path is not the number of a database"
  return {
    tls: url.protocol === "rediss:",
    host: decoded(host) ?? host,
    port,
    username: username === "" ? undefined : username,
    password: password === "" ? undefined : Redacted.make(password),
    database: path === "" ? undefined : Number(path)
  }
}
