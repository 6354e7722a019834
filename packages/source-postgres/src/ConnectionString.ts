/**
 * Connection strings as libpq takes them: a URI (`postgresql://user@host:5432/database?sslmode=require`) or keywords and values
 * (`host=a port=5432 user='…'`), parsed into parameters by libpq's names.
 *
 * A connection string may hold a password anywhere, also where a mistake puts it, so problems never quote a part of it. What the
 * parameters mean is `ConnectionParameters`' business.
 */
import type * as Redacted from "effect/Redacted"
import { value as reveal } from "effect/Redacted"
import * as Result from "effect/Result"

/** Parameters by libpq's keywords. Values may be secrets. */
export type Parameters = ReadonlyMap<string, string>

const example = "postgresql://user:password@host:5432/database"

/** How a URI comes apart when something in it isn't percent-encoded. */
const encodingHint = "characters such as @ : / ? # % in a user or password are percent-encoded"

const malformed = `expected a URL of the form ${example}; ${encodingHint}`

class Malformed {
  readonly problem: string
  constructor(problem: string) {
    this.problem = problem
  }
}

const fail = (problem: string): never => {
  throw new Malformed(problem)
}

const decoded = (text: string): string => {
  let result: string
  try {
    result = decodeURIComponent(text)
  } catch {
    return fail("the URL holds a % that does not begin a percent-encoded character; write % itself as %25")
  }
  return result.includes("\0") ? fail("the URL holds %00, which no value can contain") : result
}

const isPort = (text: string): boolean => /^[0-9]{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65535

/** `host`, `host:port`, `[address]`, `[address]:port` or nothing; ports are given back as text, empty for the default. */
const hostOf = (text: string): readonly [host: string, port: string] => {
  const bracketed = /^\[([0-9a-fA-F:.]+(?:%[^\]]*)?)\](.*)$/s.exec(text)
  const colon = text.indexOf(":")
  const host = bracketed?.[1] ?? (colon === -1 ? text : text.slice(0, colon))
  const rest = bracketed?.[2] ?? (colon === -1 ? "" : text.slice(colon))
  if (/[[\]\s]/.test(host) || (rest !== "" && !rest.startsWith(":"))) return fail(malformed)
  const port = rest.slice(1)
  if (port !== "" && !isPort(port)) return fail(`the URL's port is not a number from 1 to 65535; ${encodingHint}`)
  return [bracketed === null ? decoded(host) : host, port]
}

const parseUri = (text: string, into: Map<string, string>): void => {
  let rest = text.slice(text.indexOf("//") + 2)
  // As in libpq, a user is there when an @ comes before the first slash.
  const credentials = /^([^@/]*)@/.exec(rest)
  if (credentials !== null) {
    const text = credentials[1] ?? ""
    rest = rest.slice(credentials[0].length)
    const colon = text.indexOf(":")
    const user = decoded(colon === -1 ? text : text.slice(0, colon))
    const password = colon === -1 ? "" : decoded(text.slice(colon + 1))
    if (user !== "") into.set("user", user)
    if (password !== "") into.set("password", password)
  }
  const query = rest.indexOf("?")
  const before = query === -1 ? rest : rest.slice(0, query)
  const slash = before.indexOf("/")
  const authority = slash === -1 ? before : before.slice(0, slash)
  if (authority.includes("@")) return fail(malformed)
  if (authority !== "") {
    const hosts = authority.split(",").map(hostOf)
    if (hosts.length > 1 || hosts.some(([host]) => host !== "")) into.set("host", hosts.map(([host]) => host).join(","))
    if (hosts.some(([, port]) => port !== "")) into.set("port", hosts.map(([, port]) => port).join(","))
  }
  const database = slash === -1 ? "" : before.slice(slash + 1)
  if (/[/@#]/.test(database)) return fail(`the URL's path is not one database name; expected ${example}`)
  if (database !== "") into.set("dbname", decoded(database))
  if (query === -1) return
  for (const pair of rest.slice(query + 1).split("&")) {
    if (pair === "") continue
    const equals = pair.indexOf("=")
    if (equals <= 0 || pair.includes("=", equals + 1)) {
      return fail(
        "the URL's parameters are not of the form name=value, separated by &; = and & in a value are percent-encoded"
      )
    }
    const name = decoded(pair.slice(0, equals))
    const value = decoded(pair.slice(equals + 1))
    // JDBC's spelling, which libpq understands too.
    if (name === "ssl" && value === "true") into.set("sslmode", "require")
    else into.set(name, value)
  }
}

const parseKeywords = (text: string, into: Map<string, string>): void => {
  // A keyword, =, and a value that is quoted or ends at a space; a backslash takes the next character literally.
  const item = /\s*([^\s=]+)\s*=\s*(?:'((?:[^'\\]|\\[^])*)'|((?:[^\s'\\]|\\[^])(?:[^\s\\]|\\[^])*|(?=\s|$)))\s*/y
  while (item.lastIndex < text.length && /\S/.test(text.slice(item.lastIndex))) {
    const found = item.exec(text)
    if (found === null) {
      return fail(
        "the connection string is neither a URL nor made of keyword=value, where a value with spaces is in single quotes, and ' " +
          "and \\ in it follow a backslash"
      )
    }
    into.set(found[1] ?? "", (found[2] ?? found[3] ?? "").replace(/\\([^])/g, "$1"))
  }
}

/** The parameters of a connection string, or what is wrong with it (without a part of it). */
export const parse = (text: Redacted.Redacted<string>): Result.Result<Parameters, string> => {
  const plain = reveal(text)
  const parameters = new Map<string, string>()
  try {
    if (plain.includes("\0")) return Result.fail("the connection string holds a zero byte")
    if (/^postgres(ql)?:\/\//.test(plain)) parseUri(plain, parameters)
    else if (/^[a-z0-9+.-]+:\/\//i.test(plain) || !plain.includes("=")) return Result.fail(malformed)
    else parseKeywords(plain, parameters)
  } catch (cause) {
    if (cause instanceof Malformed) return Result.fail(cause.problem)
    throw cause
  }
  return Result.succeed(parameters)
}
