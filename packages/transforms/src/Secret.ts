/**
 * Keys of the transforms that make values unreadable.
 */
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { createHmac, createSecretKey, type KeyObject } from "node:crypto"

/** A key, in options: any text of at least 32 characters. */
export const Key = Schema.RedactedFromValue(
  Schema.String.check(
    Schema.isMinLength(32, { expected: "at least 32 characters, for example from `openssl rand -hex 32`" })
  )
)

export type Key = typeof Key.Type

export const keyOf = (key: Key): KeyObject => createSecretKey(Redacted.value(key), "utf8")

/** HMAC-SHA-256 of `value`. */
export const mac = (key: KeyObject, value: Uint8Array | string): Buffer =>
  createHmac("sha256", key).update(value).digest()
