/**
 * Makes certificates for tests of TLS: X.509 v3 (RFC 5280), in DER by hand.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto"

const der = (tag: number, ...parts: ReadonlyArray<Uint8Array>): Buffer => {
  const body = Buffer.concat(parts)
  const length = body.length < 0x80
    ? [body.length]
    : body.length < 0x100
    ? [0x81, body.length]
    : [0x82, body.length >> 8, body.length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...length]), body])
}

const sequence = (...parts: ReadonlyArray<Uint8Array>): Buffer => der(0x30, ...parts)
const text = (tag: number, value: string): Buffer => der(tag, Buffer.from(value))
const objectId = (...bytes: ReadonlyArray<number>): Buffer => der(0x06, Buffer.from(bytes))

const commonName = objectId(0x55, 0x04, 0x03)
const basicConstraints = objectId(0x55, 0x1d, 0x13)
const subjectAlternativeName = objectId(0x55, 0x1d, 0x11)
/** ecdsa-with-SHA256 */
const algorithm = sequence(objectId(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02))

export interface Certificate {
  readonly certificate: string
  readonly key: string
}

const nameOf = (common: string): Buffer => sequence(der(0x31, sequence(commonName, text(0x0c, common))))

interface Options {
  readonly name: string
  /** A DNS name to be valid for. */
  readonly host?: string
  readonly authority?: boolean
  readonly expired?: boolean
}

const issue = (options: Options, issuer?: { readonly name: string; readonly key: KeyObject }): Certificate => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" })
  const yes = der(0x01, Buffer.from([0xff]))
  const extensions = [
    ...(options.authority === true
      ? [sequence(basicConstraints, yes, der(0x04, sequence(yes)))]
      : []),
    ...(options.host === undefined
      ? []
      : [sequence(subjectAlternativeName, der(0x04, sequence(text(0x82, options.host))))])
  ]
  const signed = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    algorithm,
    nameOf(issuer?.name ?? options.name),
    sequence(text(0x17, "200101000000Z"), text(0x17, options.expired === true ? "210101000000Z" : "491231235959Z")),
    nameOf(options.name),
    publicKey.export({ type: "spki", format: "der" }),
    ...(extensions.length === 0 ? [] : [der(0xa3, sequence(...extensions))])
  )
  const bytes = sequence(
    signed,
    algorithm,
    der(0x03, Buffer.from([0]), sign("sha256", signed, issuer?.key ?? privateKey))
  )
  return {
    certificate: `-----BEGIN CERTIFICATE-----\n${
      bytes.toString("base64").replace(/.{64}(?=.)/g, "$&\n")
    }\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString()
  }
}

/** A certificate for the DNS name `host`, its own authority. */
export const selfSigned = (host: string): Certificate => issue({ name: host, host, authority: true })

/** An authority, and what it signs. */
export const authority = (name: string) => {
  const own = issue({ name, authority: true })
  const key = createPrivateKey(own.key)
  return {
    certificate: own.certificate,
    issue: (options: Options): Certificate => issue(options, { name, key })
  }
}

/** The same private key, encrypted with a passphrase. */
export const encrypted = (key: string, passphrase: string): string =>
  createPrivateKey(key).export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase }).toString()
