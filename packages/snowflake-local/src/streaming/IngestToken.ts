/**
 * The scoped token that a client exchanges its key-pair JWT for, and presents on every ingest call.
 *
 * It is a JWT (HS256) signed with a secret of this server, which is kept beside the database so that tokens outlive a restart. Clients read its
 * `exp` claim and renew it before that.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { createHmac, randomBytes, randomUUID, timingSafeEqual } from "node:crypto"
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { dirname } from "node:path"
import * as StreamingError from "./StreamingError.ts"

/** What a token says: who, for which ingest host (absent: any), as which role (absent: the user's default), until when (seconds). */
export const Claims = Schema.Struct({
  sub: Schema.String,
  aud: Schema.optionalKey(Schema.String),
  role: Schema.optionalKey(Schema.String),
  iat: Schema.Number,
  exp: Schema.Number,
  /** Tells tokens of the same second apart. */
  jti: Schema.optionalKey(Schema.String)
})
export type Claims = typeof Claims.Type

const decodeClaims = Schema.decodeUnknownResult(Schema.fromJsonString(Claims))

export interface IngestTokens {
  readonly sign: (claims: Claims) => string
  /** Makes a token expire now. */
  readonly expire: (token: string) => void
  /** Fails with 401 when the token is no token of this server or has expired at `nowMillis`. */
  readonly verify: (token: string, nowMillis: number) => Effect.Effect<Claims, StreamingError.StreamingError>
}

const base64 = (text: string): string => Buffer.from(text).toString("base64url")

/** Opens the secret at `file`, creating it at the first start. */
export const open = (file: string): Effect.Effect<IngestTokens> =>
  Effect.promise(async () => {
    await mkdir(dirname(file), { recursive: true })
    const stored = await readFile(file).catch(() => Buffer.alloc(0))
    if (stored.length >= 32) return make(stored)
    const secret = randomBytes(32)
    await writeFile(file, secret, { mode: 0o600 })
    return make(secret)
  })

const make = (secret: Buffer): IngestTokens => {
  const signature = (content: string): Buffer => createHmac("sha256", secret).update(content).digest()
  const header = base64(JSON.stringify({ alg: "HS256", typ: "JWT" }))
  const expired = new Set<string>()
  return {
    expire: (token) => void expired.add(token),
    sign: (claims) => {
      const content = `${header}.${base64(JSON.stringify({ ...claims, jti: randomUUID() }))}`
      return `${content}.${signature(content).toString("base64url")}`
    },
    verify: Effect.fnUntraced(function*(token, nowMillis) {
      const invalid = StreamingError.invalidToken("Invalid access token. Exchange a new one at /oauth/token.")
      const [head, body, signed, ...rest] = token.split(".")
      if (head !== header || body === undefined || signed === undefined || rest.length > 0) return yield* invalid
      const given = Buffer.from(signed, "base64url")
      const expected = signature(`${head}.${body}`)
      if (given.length !== expected.length || !timingSafeEqual(given, expected)) return yield* invalid
      const claims = decodeClaims(Buffer.from(body, "base64url").toString())
      if (Result.isFailure(claims)) return yield* invalid
      if (claims.success.exp * 1000 <= nowMillis || expired.has(token)) {
        return yield* StreamingError.expiredToken("The access token has expired. Exchange a new one at /oauth/token.")
      }
      return claims.success
    })
  }
}
