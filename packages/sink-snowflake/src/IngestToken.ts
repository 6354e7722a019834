/**
 * The ingest host of the account and the token for it: found once, renewed ahead of its end, by one caller for all.
 *
 * The control host names an ingest host; the credentials are exchanged for a token scoped to it. A token is renewed a minute before it ends, or at half of a short
 * life, which it has by its own claims, so that a clock that is wrong here doesn't matter. When that fails for the moment, the old one serves until it ends. A token
 * that Snowflake refuses is replaced at once.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import type { Config } from "./Config.ts"
import type { Credentials } from "./Credentials.ts"
import * as Identifier from "./Identifier.ts"
import * as KeyPair from "./KeyPair.ts"
import * as StreamingAnswer from "./StreamingAnswer.ts"
import type { StreamingFailure } from "./StreamingTransport.ts"
import { exchange, unexpected } from "./StreamingTransport.ts"

const jwtSeconds = 600
/** A token without a readable end is taken to live this long. */
const defaultTokenMillis = 300_000

/** A bearer token and what kind of token it is. */
interface Bearer {
  readonly value: Redacted.Redacted<string>
  readonly type: string
}

export interface Token extends Bearer {
  readonly renewAtMillis: number
  readonly endsAtMillis: number
}

export interface IngestTokens {
  readonly host: Effect.Effect<string, StreamingFailure>
  /** A token that isn't about to end; a new one when `refused` is the one in use. */
  readonly current: (refused?: Token) => Effect.Effect<Token, StreamingFailure>
}

const Claims = Schema.fromJsonString(Schema.Struct({ exp: Schema.Finite, iat: Schema.optionalKey(Schema.Finite) }))

/** How long a token lives from now on, by its own claims. */
const lifeOf = (token: string, nowMillis: number): number => {
  const claims = Schema.decodeOption(Claims)(Buffer.from(token.split(".")[1] ?? "", "base64url").toString())
  return Option.match(claims, {
    onNone: () => defaultTokenMillis,
    onSome: ({ exp, iat }) => iat === undefined ? exp * 1000 - nowMillis : (exp - iat) * 1000
  })
}

export const authorization = (by: Bearer): Record<string, string> => ({
  authorization: `Bearer ${Redacted.value(by.value)}`,
  "x-snowflake-authorization-token-type": by.type
})

/** Where the account is reached: `https://…` unless the configured URL says otherwise. */
export const controlUrl = (config: Config): string =>
  config.url?.replace(/\/$/, "") ??
    `https://${config.account.toLowerCase().replaceAll("_", "-")}.snowflakecomputing.com`

export const make = (config: Config, credentials: Credentials): IngestTokens => {
  const control = controlUrl(config)
  const renewing = Semaphore.makeUnsafe(1)
  let host: string | undefined
  let token: Token | undefined

  /** The credentials themselves as a bearer token. */
  const bearer: Effect.Effect<Bearer> = Effect.map(Clock.currentTimeMillis, (now) => {
    switch (credentials._tag) {
      case "KeyPair":
        return {
          value: KeyPair.jwt(credentials.keyPair, config.account, config.user, Math.floor(now / 1000), jwtSeconds),
          type: "KEYPAIR_JWT"
        }
      case "Token":
        return { value: credentials.token, type: "PROGRAMMATIC_ACCESS_TOKEN" }
      case "Password":
        return { value: credentials.password, type: "PROGRAMMATIC_ACCESS_TOKEN" }
      case "OAuth":
        return { value: credentials.token, type: "OAUTH" }
    }
  })

  const ingestHost = Effect.fnUntraced(function*() {
    if (host !== undefined) return host
    const what = "Asking for the ingest host"
    const text = yield* exchange({
      what,
      url: `${control}/v2/streaming/hostname`,
      method: "GET",
      headers: authorization(yield* bearer)
    })
    const answer = Option.getOrUndefined(Schema.decodeOption(StreamingAnswer.Host)(text))?.hostname ?? text.trim()
    if (!/^[\w.-]+(:\d+)?$/.test(answer)) return yield* unexpected(what)
    // Underscores in the host end in internal errors (documented); the token's scope has to name the same spelling.
    host = answer.replaceAll("_", "-")
    return host
  })

  const renew = Effect.fnUntraced(function*() {
    const to = yield* ingestHost()
    const credential = yield* bearer
    const scope = config.role === undefined ? to : `${to} session:role:${Identifier.fromConfig(config.role)}`
    const text = yield* exchange({
      what: "Exchanging the credentials for a token",
      url: `${control}/oauth/token`,
      method: "POST",
      headers: { ...authorization(credential), "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({ grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", scope }).toString()
    }).pipe(Effect.catch((failure) =>
      // Only key-pair tokens are documented for the exchange; the others may have to be presented as they are.
      credentials._tag !== "KeyPair" && failure.action !== "retry" ? Effect.succeed(undefined) : Effect.fail(failure)
    ))
    const now = yield* Clock.currentTimeMillis
    if (text === undefined) {
      const endsAtMillis = now + defaultTokenMillis
      return { ...credential, renewAtMillis: endsAtMillis, endsAtMillis }
    }
    const parsed = Option.getOrUndefined(Schema.decodeOption(StreamingAnswer.Token)(text)) ?? text.trim()
    const value = typeof parsed === "string" ? parsed : "token" in parsed ? parsed.token : parsed.access_token
    const life = Math.max(0, lifeOf(value, now))
    return {
      value: Redacted.make(value),
      type: "OAUTH",
      renewAtMillis: now + Math.max(life - 60_000, life / 2),
      endsAtMillis: now + life
    }
  })

  return {
    host: Effect.suspend(ingestHost),
    current: (refused) =>
      renewing.withPermits(1)(Effect.gen(function*() {
        const now = yield* Clock.currentTimeMillis
        const held = token === refused ? undefined : token
        if (held !== undefined && now < held.renewAtMillis) return held
        token = yield* renew().pipe(Effect.catch((failure) =>
          held !== undefined && failure.action === "retry" && now < held.endsAtMillis
            ? Effect.succeed(held)
            : Effect.fail(failure)
        ))
        return token
      }))
  }
}
