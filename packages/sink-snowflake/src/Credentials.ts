/**
 * The configured way to log in, with its files read: what the driver and the streaming API are given.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { readFile } from "node:fs/promises"
import { resolve } from "node:path"
import type { Config } from "./Config.ts"
import { failure } from "./ErrorPolicy.ts"
import * as KeyPair from "./KeyPair.ts"

/** `Token` is a programmatic access token, or a password, which Snowflake takes in the same place. */
export type Credentials =
  | { readonly _tag: "KeyPair"; readonly keyPair: KeyPair.KeyPair }
  | { readonly _tag: "Token"; readonly token: Redacted.Redacted<string> }
  | { readonly _tag: "OAuth"; readonly token: Redacted.Redacted<string> }
  | { readonly _tag: "Password"; readonly password: Redacted.Redacted<string> }

/** Reads the credentials; a relative file is looked for in `directory`. */
export const make = Effect.fn("Credentials.make")(function*(
  auth: Config["auth"],
  directory: string
): Effect.fn.Return<Credentials, ConnectorError.ConnectorError> {
  if (auth.token !== undefined) return { _tag: "Token", token: auth.token }
  if (auth.oauthToken !== undefined) return { _tag: "OAuth", token: auth.oauthToken }
  if (auth.password !== undefined) return { _tag: "Password", password: auth.password }
  if (auth.privateKey !== undefined) {
    return { _tag: "KeyPair", keyPair: yield* KeyPair.parse(auth.privateKey, auth.passphrase, "auth.privateKey") }
  }
  const file = resolve(directory, auth.privateKeyFile ?? "")
  const pem = yield* Effect.tryPromise({
    try: () => readFile(file, "utf8"),
    catch: (cause) =>
      failure(
        "Misconfigured",
        `The private key file ${file} of auth.privateKeyFile can't be read`,
        "Check the path and the file's permissions.",
        { cause }
      )
  })
  return { _tag: "KeyPair", keyPair: yield* KeyPair.parse(Redacted.make(pem), auth.passphrase, "auth.privateKeyFile") }
})
