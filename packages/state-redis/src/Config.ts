/**
 * Options of the Redis state store.
 *
 * Decoding is pure; `Endpoint` makes of them where to connect to. Secrets are redacted from the moment they are decoded, the URL too, as it may hold one.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Duration from "effect/Duration"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as RedisUrl from "./RedisUrl.ts"

const secret = ConfigOption.Secret

const Port = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65535 }))

const Tls = Schema.Struct({
  verify: Schema.Boolean.pipe(ConfigOption.withDefault(true)).annotate({
    description:
      "Whether the server's certificate and name are checked; false is open to whoever can get in between, and no place for a password"
  }),
  ca: Schema.optionalKey(Schema.NonEmptyString).annotate({
    description:
      "Certificates (PEM text, for example ${file:./ca.pem}) of the authorities to trust instead of the system's"
  }),
  cert: Schema.optionalKey(Schema.NonEmptyString).annotate({
    description: "Client certificate, PEM text (${file:./client.pem})"
  }),
  key: Schema.optionalKey(secret).annotate({ description: "Private key of the client certificate, PEM text" }),
  keyPassword: Schema.optionalKey(secret).annotate({ description: "Passphrase of an encrypted key" }),
  serverName: Schema.optionalKey(Schema.NonEmptyString).annotate({
    description: "Name that the certificate has to be for (default: the host's)"
  })
}).check(Schema.makeFilter(({ cert, key, keyPassword }) =>
  (cert === undefined) !== (key === undefined)
    ? "a client certificate needs both `cert` and `key`"
    : keyPassword !== undefined && key === undefined
    ? { path: ["keyPassword"], issue: "is only for an encrypted `key`" }
    : undefined
))

/** `host:port`, `host` or `[address]:port`. */
const Address = Schema.String.check(
  Schema.makeFilter((text: string) =>
    RedisUrl.parseAddress(text, 1) === undefined
      ? "expected host:port, for example redis-1.internal:6379 or [::1]:6379"
      : undefined
  )
)
const Addresses = Schema.Array(Address).check(Schema.isMinLength(1))

const Sentinel = Schema.Struct({
  name: Schema.NonEmptyString.annotate({ description: "Name that the sentinels know the primary by" }),
  nodes: Addresses.annotate({
    description: "Addresses of sentinels, host:port (port 26379 when absent); the others are learned from them"
  }),
  username: Schema.optionalKey(Schema.NonEmptyString).annotate({ description: "ACL user at the sentinels" }),
  password: Schema.optionalKey(secret).annotate({ description: "Password at the sentinels" }),
  tls: Schema.Boolean.pipe(ConfigOption.withDefault(false)).annotate({
    description: "Whether connections to sentinels are encrypted, by the options in `tls`"
  })
}).check(Schema.makeFilter(({ password, username }) =>
  username !== undefined && password === undefined
    ? { path: ["password"], issue: "is needed with `username`" }
    : undefined
))

const Cluster = Schema.Struct({
  nodes: Addresses.annotate({
    description: "Addresses of some of the cluster's nodes, host:port; the others are learned from them"
  })
})

const positive = Schema.DurationFromString.check(
  Schema.makeFilter((duration) => {
    const millis = Duration.toMillis(duration)
    return millis > 0 && Number.isFinite(millis) ? undefined : "must be longer than zero, and end"
  })
)

const places = ["url", "host", "sentinel", "cluster"] as const

export const Config = Schema.Struct({
  url: Schema.optionalKey(
    Schema.RedactedFromValue(Schema.String).check(
      Schema.makeFilter((url: Redacted.Redacted<string>) => {
        const parsed = RedisUrl.parse(Redacted.value(url))
        return typeof parsed === "string" ? parsed : undefined
      })
    )
  ).annotate({
    description: "redis://user:password@host:6379/0, or rediss:// for TLS. Instead of `host`, `sentinel` or `cluster`"
  }),
  host: Schema.optionalKey(Schema.NonEmptyString).annotate({ description: "Host name or address of the server" }),
  port: Schema.optionalKey(Port).annotate({ description: "TCP port of `host` (default: 6379)" }),
  sentinel: Schema.optionalKey(Sentinel).annotate({ description: "A primary that sentinels watch" }),
  cluster: Schema.optionalKey(Cluster).annotate({ description: "A Redis Cluster" }),
  username: Schema.optionalKey(Schema.NonEmptyString).annotate({ description: "ACL user (default: `default`)" }),
  password: Schema.optionalKey(secret).annotate({ description: "The user's password" }),
  database: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2 ** 31 - 1 }))).annotate({
    description: "Number of the database (default: 0); a cluster has no other"
  }),
  namespace: Schema.String.check(
    Schema.isPattern(/^[A-Za-z0-9_.:-]{1,100}$/u, { expected: "1 to 100 characters of A-Z, a-z, 0-9, _, ., : and -" })
  ).pipe(ConfigOption.withDefault("etl-stream")).annotate({
    description:
      "What is kept is in the hash `{<namespace>}:state`; runners that should know nothing of each other have namespaces of their own"
  }),
  tls: Schema.optionalKey(Tls).annotate({
    description: "TLS; `{}` switches it on where there is no rediss:// URL"
  }),
  connectTimeout: positive.pipe(ConfigOption.withDefault("10 seconds")).annotate({
    description: "How long a connection may take to be made"
  }),
  timeout: positive.pipe(ConfigOption.withDefault("5 seconds")).annotate({
    description:
      "How long an operation may take, waiting for a lost connection to be made again included; then it fails, and the pipeline goes on without"
  })
}).check(Schema.makeFilter((config) => {
  const given = places.filter((place) => config[place] !== undefined)
  if (given.length !== 1) {
    return `exactly one of url, host, sentinel or cluster is needed, ${
      given.length === 0 ? "none is" : given.join(" and ") + " are"
    } given`
  }
  const { cluster, database, host, password, port, tls, url, username } = config
  if (port !== undefined && host === undefined) return { path: ["port"], issue: "goes with `host` only" }
  if (cluster !== undefined && database !== undefined && database !== 0) {
    return { path: ["database"], issue: "a cluster has only database 0" }
  }
  const parsed = url === undefined ? undefined : RedisUrl.parse(Redacted.value(url))
  if (parsed !== undefined && typeof parsed !== "string") {
    if (tls !== undefined && !parsed.tls) return { path: ["tls"], issue: "needs a URL that begins with rediss://" }
    for (const key of ["username", "password", "database"] as const) {
      if (config[key] !== undefined && parsed[key] !== undefined) return { path: [key], issue: "is in the URL, too" }
    }
  }
  const inUrl = typeof parsed === "object" ? parsed : undefined
  if ((username ?? inUrl?.username) !== undefined && (password ?? inUrl?.password) === undefined) {
    return { path: ["password"], issue: "is needed with a user name" }
  }
  if (config.sentinel?.tls === true && tls === undefined) {
    return { path: ["sentinel", "tls"], issue: "needs `tls`" }
  }
  return undefined
}))
export type Config = typeof Config.Type
