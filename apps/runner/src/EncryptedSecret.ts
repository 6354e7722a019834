/**
 * Secrets at rest: AES-256-GCM, as `${enc:v1:<key id>:<base64url>}` in the place of a value.
 *
 * The place where a secret stands (`sources.shop.options.password`) is authenticated with it: moved to another option, row or kind of row it no longer
 * opens, so nobody who may write rows but has no key can make a plugin send a secret elsewhere by putting it there. The key comes from the environment;
 * a second, previous key opens what has not been encrypted anew yet.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto"
import { formatPath, type Path } from "./Problem.ts"

/** Variable that holds the key: 32 bytes as base64. */
export const keyVariable = "ETL_STREAM_CONFIG_KEY"
/** Variable that holds the key from before a rotation. */
export const previousKeyVariable = "ETL_STREAM_CONFIG_KEY_PREVIOUS"

const algorithm = "aes-256-gcm"
const keyBytes = 32
const nonceBytes = 12
const tagBytes = 16

export interface Key {
  /** Tells keys apart without telling anything about them: 8 hexadecimal digits. */
  readonly id: string
  readonly bytes: Redacted.Redacted<Uint8Array>
}

export interface Keys {
  /** Encrypts, and decrypts what names it. */
  readonly current: Key
  readonly previous: Key | undefined
}

/** What is wrong and what to do about it. Never quotes a key or a secret. */
export interface SecretProblem {
  readonly message: string
  readonly remedy: string
}

const base64 = /^[A-Za-z0-9+/_-]+={0,2}$/

const parseKey = (variable: string, text: string): Result.Result<Key, SecretProblem> => {
  const trimmed = text.trim()
  const bytes = base64.test(trimmed) ? Buffer.from(trimmed, "base64") : undefined
  if (bytes?.length !== keyBytes) {
    return Result.fail({
      message: `${variable} is not a key: expected ${keyBytes} bytes as base64.`,
      remedy: "Make one with `openssl rand -base64 32`."
    })
  }
  const id = createHash("sha256").update("etl-stream configuration key\0").update(bytes).digest("hex").slice(0, 8)
  return Result.succeed({ id, bytes: Redacted.make(new Uint8Array(bytes), { label: variable }) })
}

/** The keys in `environment`. */
export const keysFrom = (
  environment: Readonly<Record<string, string | undefined>>
): Result.Result<Keys, SecretProblem> => {
  const text = environment[keyVariable] ?? ""
  if (text.trim() === "") {
    return Result.fail({
      message: `Encrypted secrets need a key, and ${keyVariable} is not set.`,
      remedy: `Set ${keyVariable} to the key that they were encrypted with: ${keyBytes} bytes as base64.`
    })
  }
  const previous = environment[previousKeyVariable] ?? ""
  const rotated: Result.Result<Key | undefined, SecretProblem> = previous.trim() === ""
    ? Result.succeed(undefined)
    : parseKey(previousKeyVariable, previous)
  return Result.flatMap(
    parseKey(keyVariable, text),
    (current) => Result.map(rotated, (previous) => ({ current, previous }))
  )
}

/** The texts of keys in `environment`: nobody may see them. */
export const keyTexts = (environment: Readonly<Record<string, string | undefined>>): ReadonlyArray<string> =>
  [environment[keyVariable], environment[previousKeyVariable]].flatMap((text) =>
    text === undefined || text.trim() === "" ? [] : [text.trim()]
  )

const authenticated = (keyId: string, place: Path): Buffer =>
  Buffer.from(JSON.stringify(["etl-stream", "v1", keyId, ...place]), "utf8")

/** `secret` for the value at `place`, as a reference. */
export const encrypt = (secret: Redacted.Redacted, place: Path, { current }: Keys): string => {
  const nonce = randomBytes(nonceBytes)
  const cipher = createCipheriv(algorithm, Redacted.value(current.bytes), nonce, { authTagLength: tagBytes })
  cipher.setAAD(authenticated(current.id, place))
  const sealed = Buffer.concat([
    nonce,
    cipher.update(Redacted.value(secret), "utf8"),
    cipher.final(),
    cipher.getAuthTag()
  ])
  return `\${enc:v1:${current.id}:${sealed.toString("base64url")}}`
}

const form = /^v1:([0-9a-f]{8}):([A-Za-z0-9_-]+)$/

/** Whether `body`, what stands between `${enc:` and `}`, has the form of an encrypted secret. */
export const isEncrypted = (body: string): boolean => form.test(body)

/** The id of the key that `body` was encrypted with; undefined when it has another form. */
export const keyIdOf = (body: string): string | undefined => form.exec(body)?.[1]

/** The secret that `body` (what stands between `${enc:` and `}`) hides, when it was encrypted for `place` by one of `keys`. */
export const decrypt = (
  body: string,
  place: Path,
  keys: Keys
): Result.Result<Redacted.Redacted, SecretProblem> => {
  const match = form.exec(body)
  const sealed = match?.[2] === undefined ? Buffer.alloc(0) : Buffer.from(match[2], "base64url")
  // Base64 that says the same in another spelling is refused, as is everything else that was altered.
  if (
    match?.[1] === undefined || sealed.length < nonceBytes + tagBytes || sealed.toString("base64url") !== match[2]
  ) {
    return Result.fail({
      message: "This is not an encrypted secret.",
      remedy: `Write what \`etl-stream encrypt ${formatPath(place)}\` prints.`
    })
  }
  const id = match[1]
  const key = [keys.current, keys.previous].find((known) => known?.id === id)
  if (key === undefined) {
    return Result.fail({
      message: `The secret was encrypted with the key ${id}, which is not among those of this process.`,
      remedy: `Set ${keyVariable}, or ${previousKeyVariable} during a rotation, to that key.`
    })
  }
  const decipher = createDecipheriv(algorithm, Redacted.value(key.bytes), sealed.subarray(0, nonceBytes), {
    authTagLength: tagBytes
  })
  decipher.setAAD(authenticated(id, place))
  decipher.setAuthTag(sealed.subarray(sealed.length - tagBytes))
  return Result.try({
    try: () =>
      Redacted.make(
        new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
          Buffer.concat([decipher.update(sealed.subarray(nonceBytes, sealed.length - tagBytes)), decipher.final()])
        )
      ),
    catch: () => ({
      message: `The secret does not open here: it was altered, or encrypted for another place than ${
        formatPath(place)
      }.`,
      remedy: `Encrypt it for this place: \`etl-stream encrypt ${formatPath(place)}\`.`
    })
  })
}
