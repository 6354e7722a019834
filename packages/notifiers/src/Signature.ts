/**
 * Signatures of webhooks as the Standard Webhooks specification describes them (https://www.standardwebhooks.com), so that a receiver can verify them
 * with any of its libraries, or in a few lines.
 *
 * What is signed is `id.timestamp.body`, with HMAC-SHA256. The id is the same for every delivery of one message; the timestamp is the delivery's own, so
 * that a receiver can refuse what was recorded and is played again.
 */
import { createHmac } from "node:crypto"

/** The prefix of a secret that is the key in base64. Of any other secret the UTF-8 bytes are the key. */
const prefix = "whsec_"

/** The key that `secret` stands for. */
export const keyOf = (secret: string): Buffer =>
  secret.startsWith(prefix) ? Buffer.from(secret.slice(prefix.length), "base64") : Buffer.from(secret, "utf8")

/** A key is at least this long, in bytes. */
export const shortestKey = 16

/** What is wrong with `secret`, without quoting it; undefined when nothing is. */
export const problemOf = (secret: string): string | undefined => {
  if (
    secret.startsWith(prefix) &&
    !/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(secret.slice(prefix.length))
  ) {
    return `expected base64 after ${prefix}`
  }
  return keyOf(secret).length < shortestKey ? `expected a key of at least ${shortestKey} bytes` : undefined
}

/** The headers `webhook-id`, `webhook-timestamp` (seconds since 1970-01-01 UTC) and `webhook-signature`. */
export const headers = (
  key: Uint8Array,
  id: string,
  timestampSeconds: number,
  body: string
): Readonly<Record<string, string>> => ({
  "webhook-id": id,
  "webhook-timestamp": String(timestampSeconds),
  "webhook-signature": `v1,${createHmac("sha256", key).update(`${id}.${timestampSeconds}.${body}`).digest("base64")}`
})
