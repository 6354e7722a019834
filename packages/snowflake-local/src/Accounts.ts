/**
 * Who may connect, and how they prove it.
 *
 * A user has a password, a public key, programmatic access tokens or OAuth tokens, in any combination. Key-pair tokens are really verified: the RS256
 * signature by the configured public key, the issuer (`ACCOUNT.USER.SHA256:<fingerprint>`) exactly, the subject and the times. The driver writes a
 * token's times in milliseconds and everything else in seconds, so both are understood.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { KeyObject } from "node:crypto"
import { createHash, createPublicKey, timingSafeEqual, verify } from "node:crypto"

/** A user as configured. Names are folded to upper case. */
export interface User {
  readonly name: string
  /** PEM (SPKI) of the RSA public key for key-pair login. */
  readonly publicKeyPem?: string | undefined
  readonly password?: Redacted.Redacted<string> | undefined
  /** Programmatic access tokens and OAuth access tokens that are accepted for this user. */
  readonly tokens?: ReadonlyArray<Redacted.Redacted<string>> | undefined
  /** Roles the user may take; the first is the default. Default: SYSADMIN, PUBLIC. */
  readonly roles?: ReadonlyArray<string> | undefined
}

/** The credentials don't prove what they should. The message never holds them. */
export class AuthError extends Schema.TaggedError<AuthError>()("@etl-stream/snowflake-local/Accounts/AuthError", {
  reason: Schema.Literals(["InvalidToken", "WrongPassword", "UnknownUser"]),
  message: Schema.String
}) {}

const Header = Schema.fromJsonString(Schema.Struct({ alg: Schema.Literal("RS256") }))
const Claims = Schema.fromJsonString(Schema.Struct({
  iss: Schema.String,
  sub: Schema.String,
  iat: Schema.optionalKey(Schema.Number),
  exp: Schema.Number
}))
const decodeHeader = Schema.decodeUnknownResult(Header)
const decodeClaims = Schema.decodeUnknownResult(Claims)

/** A token of the driver counts milliseconds where the standard says seconds: no date in seconds reaches 10^11 before the year 5138. */
const epochMillis = (time: number): number => time > 100_000_000_000 ? time : time * 1000

/** Clocks of client and server may differ by this much. */
const clockSkewMillis = 60_000
/** Snowflake refuses tokens that were made for longer than an hour. */
const maxLifetimeMillis = 3_600_000

const same = (left: string, right: string): boolean => {
  const digest = (value: string) => createHash("sha256").update(value).digest()
  return timingSafeEqual(digest(left), digest(right))
}

/** `SHA256:<base64 of the hash of the SPKI DER>`, as `DESC USER` shows it in RSA_PUBLIC_KEY_FP. */
export const fingerprint = (key: KeyObject): string =>
  `SHA256:${createHash("sha256").update(key.export({ type: "spki", format: "der" })).digest("base64")}`

export class Accounts extends Context.Service<Accounts, {
  /** The account's identifier, upper case. */
  readonly account: string
  /** Verifies a key-pair JWT. */
  readonly verifyKeyPairJwt: (token: string) => Effect.Effect<{ readonly user: string }, AuthError>
  /** Verifies a programmatic access token or OAuth access token. */
  readonly verifyToken: (token: string) => Effect.Effect<{ readonly user: string }, AuthError>
  readonly verifyPassword: (user: string, password: string) => Effect.Effect<{ readonly user: string }, AuthError>
  readonly users: () => ReadonlyArray<string>
  /** The roles of a user as configured, its default first. */
  readonly rolesOf: (user: string) => ReadonlyArray<string>
}>()("@etl-stream/snowflake-local/Accounts") {
  static readonly layer = (options: {
    readonly account: string
    readonly users: ReadonlyArray<User>
  }): Layer.Layer<Accounts> =>
    Layer.sync(Accounts, () => {
      const account = options.account.toUpperCase()
      const users = new Map(options.users.map((user) => [user.name.toUpperCase(), user]))
      const keys = new Map<string, { readonly user: string; readonly key: KeyObject }>()
      for (const [name, user] of users) {
        if (user.publicKeyPem === undefined) continue
        const key = createPublicKey(user.publicKeyPem)
        keys.set(`${account}.${name}.${fingerprint(key)}`, { user: name, key })
      }
      const invalid = (message: string) => new AuthError({ reason: "InvalidToken", message })

      return Accounts.of({
        account,
        verifyKeyPairJwt: Effect.fn("Accounts.verifyKeyPairJwt")(function*(token) {
          const parts = token.split(".")
          const [head, body, signature] = parts
          if (parts.length !== 3 || head === undefined || body === undefined || signature === undefined) {
            return yield* invalid("JWT token is invalid: not three parts")
          }
          const header = decodeHeader(Buffer.from(head, "base64url").toString())
          const claims = decodeClaims(Buffer.from(body, "base64url").toString())
          if (Result.isFailure(header) || Result.isFailure(claims)) {
            return yield* invalid("JWT token is invalid: not an RS256 token with iss, sub and exp")
          }
          const { exp, iat, iss, sub } = claims.success
          const known = keys.get(iss)
          if (known === undefined) return yield* invalid("JWT token is invalid: unknown issuer")
          if (sub !== `${account}.${known.user}`) return yield* invalid("JWT token is invalid: wrong subject")
          const signed = verify(
            "RSA-SHA256",
            Buffer.from(`${head}.${body}`),
            known.key,
            Buffer.from(signature, "base64url")
          )
          if (!signed) return yield* invalid("JWT token is invalid: wrong signature")
          const now = yield* Clock.currentTimeMillis
          if (epochMillis(exp) <= now - clockSkewMillis) return yield* invalid("JWT token is invalid: expired")
          if (iat !== undefined && epochMillis(iat) > now + clockSkewMillis) {
            return yield* invalid("JWT token is invalid: issued in the future")
          }
          if (epochMillis(exp) - (iat === undefined ? now : epochMillis(iat)) > maxLifetimeMillis + clockSkewMillis) {
            return yield* invalid("JWT token is invalid: lives longer than an hour")
          }
          return { user: known.user }
        }),
        verifyToken: Effect.fn("Accounts.verifyToken")(function*(token) {
          for (const [name, user] of users) {
            if (user.tokens?.some((known) => same(Redacted.value(known), token)) === true) return { user: name }
          }
          return yield* invalid("Token is invalid")
        }),
        verifyPassword: Effect.fn("Accounts.verifyPassword")(function*(user, password) {
          const known = users.get(user.toUpperCase())?.password
          if (known === undefined || !same(Redacted.value(known), password)) {
            return yield* new AuthError({
              reason: "WrongPassword",
              message: "Incorrect username or password was specified."
            })
          }
          return { user: user.toUpperCase() }
        }),
        users: () => [...users.keys()],
        rolesOf: (user) =>
          users.get(user.toUpperCase())?.roles?.map((role) => role.toUpperCase()) ?? ["SYSADMIN", "PUBLIC"]
      })
    })
}
