/**
 * Key-pair authentication: reading the private key, its fingerprint, and the JSON Web Tokens signed with it.
 *
 * The driver makes its own tokens from the key's PEM; the streaming API is given the ones made here.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { KeyObject } from "node:crypto"
import { createHash, createPrivateKey, createPublicKey, sign } from "node:crypto"
import { failure } from "./ErrorPolicy.ts"

export interface KeyPair {
  readonly privateKey: KeyObject
  /** `SHA256:` and the base64 of the hash of the public key's SPKI DER, as DESC USER shows it. */
  readonly fingerprint: string
  /** The private key as unencrypted PKCS#8 PEM, as the driver wants it. */
  readonly pem: Redacted.Redacted<string>
}

/** Reads a PEM private key (PKCS#8, encrypted or not, or PKCS#1). `where` names the option it came from. */
export const parse = (
  pem: Redacted.Redacted<string>,
  passphrase: Redacted.Redacted<string> | undefined,
  where: string
): Effect.Effect<KeyPair, ConnectorError.ConnectorError> =>
  Effect.try({
    try: () => {
      const privateKey = createPrivateKey({
        key: Redacted.value(pem),
        format: "pem",
        ...(passphrase === undefined ? {} : { passphrase: Redacted.value(passphrase) })
      })
      if (privateKey.asymmetricKeyType !== "rsa") throw new TypeError("not an RSA key")
      const der = createPublicKey(privateKey).export({ type: "spki", format: "der" })
      return {
        privateKey,
        fingerprint: `SHA256:${createHash("sha256").update(der).digest("base64")}`,
        pem: Redacted.make(privateKey.export({ type: "pkcs8", format: "pem" }).toString())
      }
    },
    // The crypto error may quote the key's text, so it isn't passed on.
    catch: () =>
      failure(
        "Misconfigured",
        `The private key in ${where} can't be read`,
        "It must be an RSA key in PEM form (PKCS#8); an encrypted one needs auth.passphrase."
      )
  })

const base64url = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url")

/** The account's name as tokens carry it: upper case, and without the region of a locator such as `xy12345.eu-west-1`. */
export const accountName = (account: string): string => (account.split(".")[0] ?? account).toUpperCase()

/** A token for the REST API, valid from `nowSeconds` for `lifetimeSeconds` (at most 3,600). */
export const jwt = (
  keyPair: KeyPair,
  account: string,
  user: string,
  nowSeconds: number,
  lifetimeSeconds: number
): Redacted.Redacted<string> => {
  const subject = `${accountName(account)}.${user.toUpperCase()}`
  const content = `${base64url({ alg: "RS256", typ: "JWT" })}.${
    base64url({
      iss: `${subject}.${keyPair.fingerprint}`,
      sub: subject,
      iat: nowSeconds,
      exp: nowSeconds + lifetimeSeconds
    })
  }`
  const signature = sign("RSA-SHA256", Buffer.from(content), keyPair.privateKey).toString("base64url")
  return Redacted.make(`${content}.${signature}`)
}
