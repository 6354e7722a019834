/**
 * URLs to which messages are posted. They are secrets: whoever knows one may post too.
 */
import * as Schema from "effect/Schema"

const isLoopback = (hostname: string): boolean =>
  hostname === "localhost" || hostname === "[::1]" || /^127(\.\d{1,3}){3}$/.test(hostname)

/** What is wrong with `text` as a URL to post to, in the words of an error; undefined when nothing is. Never quotes it. */
export const problemOf = (text: string, plain: boolean): string | undefined => {
  if (!URL.canParse(text)) return "expected a URL beginning with https://"
  const { hash, hostname, password, protocol, username } = new URL(text)
  if (protocol !== "https:" && protocol !== "http:") return "expected a URL beginning with https://"
  if (protocol === "http:" && !plain && !isLoopback(hostname)) return "expected https://: the URL is a secret"
  if (username !== "" || password !== "") {
    return "expected a URL without user and password; give an Authorization header"
  }
  return hash === "" ? undefined : "expected a URL without #"
}

/** `plain`: whether http:// is allowed to any host, and not to this machine alone. `more` finds further problems. */
export const SecretUrl = (plain: boolean, more: (url: URL) => string | undefined = () => undefined) =>
  Schema.RedactedFromValue(
    Schema.String.check(
      Schema.makeFilter((text: string) => problemOf(text, plain) ?? more(new URL(text)))
    )
  )
