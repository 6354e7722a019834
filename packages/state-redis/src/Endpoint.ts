/**
 * Where the store is, as the options say: one server, the primary that sentinels name, or a cluster.
 */
import * as Duration from "effect/Duration"
import type * as Redacted from "effect/Redacted"
import * as Redact from "effect/Redacted"
import type { Config } from "./Config.ts"
import * as RedisUrl from "./RedisUrl.ts"

export interface Credentials {
  readonly username: string | undefined
  readonly password: Redacted.Redacted<string> | undefined
}

export type Place =
  | { readonly _tag: "Server"; readonly address: RedisUrl.Address }
  | {
    readonly _tag: "Sentinel"
    readonly name: string
    readonly sentinels: ReadonlyArray<RedisUrl.Address>
    readonly credentials: Credentials
    readonly tls: boolean
  }
  | { readonly _tag: "Cluster"; readonly nodes: ReadonlyArray<RedisUrl.Address> }

export interface Endpoint {
  readonly place: Place
  readonly credentials: Credentials
  readonly database: number
  /** Undefined: plain text. */
  readonly tls: Partial<NonNullable<Config["tls"]>> | undefined
  /** Milliseconds. */
  readonly connectTimeout: number
  readonly timeout: number
  /** What messages call it; no secrets. */
  readonly label: string
}

const addresses = (texts: ReadonlyArray<string>, port: number): ReadonlyArray<RedisUrl.Address> =>
  texts.map((text) => RedisUrl.parseAddress(text, port)).filter((address) => address !== undefined)

const list = (nodes: ReadonlyArray<RedisUrl.Address>): string => nodes.map(RedisUrl.formatAddress).join(", ")

const placeOf = (config: Config, url: RedisUrl.RedisUrl | undefined): readonly [Place, label: string] => {
  if (config.cluster !== undefined) {
    const nodes = addresses(config.cluster.nodes, RedisUrl.defaultPort)
    return [{ _tag: "Cluster", nodes }, `the Redis cluster of ${list(nodes)}`]
  }
  if (config.sentinel !== undefined) {
    const { name, nodes, password, tls, username } = config.sentinel
    const sentinels = addresses(nodes, RedisUrl.defaultSentinelPort)
    return [
      { _tag: "Sentinel", name, sentinels, credentials: { username, password }, tls },
      `the Redis primary ${name} of the sentinels ${list(sentinels)}`
    ]
  }
  const address = {
    host: url?.host ?? config.host ?? "localhost",
    port: url?.port ?? config.port ?? RedisUrl.defaultPort
  }
  return [{ _tag: "Server", address }, `Redis at ${RedisUrl.formatAddress(address)}`]
}

/** The endpoint that decoded options mean. */
export const make = (config: Config): Endpoint => {
  const parsed = config.url === undefined ? undefined : RedisUrl.parse(Redact.value(config.url))
  const url = typeof parsed === "object" ? parsed : undefined
  const [place, label] = placeOf(config, url)
  return {
    place,
    label,
    credentials: {
      username: config.username ?? url?.username,
      password: config.password ?? url?.password
    },
    database: config.database ?? url?.database ?? 0,
    tls: config.tls ?? (url?.tls === true ? {} : undefined),
    connectTimeout: Duration.toMillis(config.connectTimeout),
    timeout: Duration.toMillis(config.timeout)
  }
}
