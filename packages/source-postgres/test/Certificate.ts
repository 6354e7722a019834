/**
 * Makes a self-signed certificate for tests of TLS: an X.509 v3 certificate (RFC 5280) for `localhost`, in DER by hand.
 */
import { generateKeyPairSync, sign } from "node:crypto"

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

/** A certificate for the DNS name `host`, its own authority. */
export const selfSigned = (host: string): Certificate => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" })
  const name = sequence(der(0x31, sequence(commonName, text(0x0c, host))))
  const signed = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1])),
    algorithm,
    name,
    sequence(text(0x17, "200101000000Z"), text(0x17, "491231235959Z")),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    der(
      0xa3,
      sequence(
        sequence(basicConstraints, der(0x01, Buffer.from([0xff])), der(0x04, sequence(der(0x01, Buffer.from([0xff]))))),
        sequence(subjectAlternativeName, der(0x04, sequence(text(0x82, host))))
      )
    )
  )
  const signature = sign("sha256", signed, privateKey)
  const bytes = sequence(signed, algorithm, der(0x03, Buffer.from([0]), signature))
  return {
    certificate: `-----BEGIN CERTIFICATE-----\n${
      bytes.toString("base64").replace(/.{64}/g, "$&\n")
    }\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString()
  }
}
