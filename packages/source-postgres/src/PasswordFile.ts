/**
 * Password files (`~/.pgpass`): lines of `host:port:database:user:password`, of which the first that fits gives the password.
 *
 * Each of the first four may be `*`, which fits anything. In every field a backslash takes the next character literally, so `\:` is
 * a colon and `\\` a backslash. Lines that begin with `#` are comments.
 */
import * as Redacted from "effect/Redacted"

/** What a line is looked up by. */
export interface Target {
  /** As libpq has it: the host as it was written, `localhost` for a Unix socket. */
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
}

interface Field {
  readonly value: string
  readonly wildcard: boolean
}

/** The first four fields of a line, and what remains after them. */
const fieldsOf = (line: string): { readonly fields: ReadonlyArray<Field>; readonly rest: string } | undefined => {
  const fields: Array<Field> = []
  let value = ""
  let start = 0
  for (let at = 0; at < line.length; at++) {
    if (line[at] === "\\" && at + 1 < line.length) value += line[++at]
    else if (line[at] !== ":") value += line[at]
    else {
      fields.push({ value, wildcard: line.slice(start, at) === "*" })
      value = ""
      start = at + 1
      if (fields.length === 4) return { fields, rest: line.slice(start) }
    }
  }
  return undefined
}

/** The password of the first line that fits, if there is one. */
export const find = (text: string, target: Target): Redacted.Redacted<string> | undefined => {
  const wanted = [target.host, String(target.port), target.database, target.user]
  for (const raw of text.split("\n")) {
    const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw
    if (line.startsWith("#")) continue
    const parsed = fieldsOf(line)
    if (parsed === undefined) continue
    if (!parsed.fields.every(({ value, wildcard }, index) => wildcard || value === wanted[index])) continue
    // What follows an unescaped colon is not part of the password.
    const password = /^(?:[^\\:]|\\[^]|\\$)*/.exec(parsed.rest)?.[0] ?? ""
    return Redacted.make(password.replace(/\\([^])/g, "$1"))
  }
  return undefined
}
