/**
 * Takes secrets out of text before anybody sees it.
 *
 * The secrets are those that a configuration holds: every `Redacted` option, and the password of every option that is a URL. A message of a library that quotes
 * one gets `<redacted>` in its place.
 */
import * as Redacted from "effect/Redacted"

/** Replaces the secrets that it knows. */
export type Redaction = (text: string) => string

export const none: Redaction = (text) => text

/** Shorter ones would hide ordinary words more than they'd protect. */
const shortest = 4

const urlPassword = (text: string): ReadonlyArray<string> => {
  if (!text.includes("://") || !URL.canParse(text)) return []
  const { password, searchParams } = new URL(text)
  const decoded = (() => {
    try {
      return decodeURIComponent(password)
    } catch {
      // A stray % in a password: its undecoded form is hidden.
      return password
    }
  })()
  return [password, decoded, searchParams.get("password") ?? ""]
}

/** The secrets in decoded `options`, at any depth. */
export const secretsOf = (options: unknown): ReadonlySet<string> => {
  const secrets = new Set<string>()
  const seen = new Set<object>()
  const add = (text: string) => {
    if (text.length >= shortest) secrets.add(text)
  }
  const visit = (value: unknown): void => {
    if (typeof value === "string") return urlPassword(value).forEach(add)
    if (typeof value !== "object" || value === null || seen.has(value)) return
    seen.add(value)
    if (Redacted.isRedacted(value)) {
      const secret: unknown = Redacted.value(value)
      if (typeof secret === "string") {
        add(secret)
        urlPassword(secret).forEach(add)
        // A key of several lines may be quoted line by line.
        if (secret.includes("\n")) {
          secret.split("\n").filter((line) => line.length >= 16 && !line.startsWith("-----")).forEach(add)
        }
      } else visit(secret)
      return
    }
    for (const inner of Object.values(value)) visit(inner)
  }
  visit(options)
  return secrets
}

/** Hides `secrets`, longer ones first, also in their percent-encoded and JSON-escaped forms. */
export const make = (secrets: ReadonlySet<string>): Redaction => {
  const forms = new Set(
    [...secrets].flatMap((secret) => [secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1)])
  )
  const ordered = [...forms].sort((a, b) => b.length - a.length)
  return ordered.length === 0
    ? none
    : (text) => ordered.reduce((hidden, secret) => hidden.replaceAll(secret, "<redacted>"), text)
}
