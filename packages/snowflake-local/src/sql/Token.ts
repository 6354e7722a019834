/**
 * Snowflake SQL as tokens.
 *
 * Words, quoted names, strings (with backslash escapes, or between `$$`), numbers, binds, stage names and operators, without comments. Brackets are matched
 * here, once: a bracketed part is one token of kind "group" that holds what is inside.
 */
import * as SnowflakeError from "../SnowflakeError.ts"

export type Token =
  /** `text` is folded to upper case for a word, exact for a quoted name. */
  | { readonly kind: "word" | "quoted"; readonly text: string; readonly at: number; readonly end: number }
  | { readonly kind: "string"; readonly text: string; readonly at: number; readonly end: number }
  | { readonly kind: "number"; readonly text: string; readonly at: number; readonly end: number }
  /** `?` (text is its place, counted from 1), `:1` or `:name`. */
  | { readonly kind: "bind"; readonly text: string; readonly at: number; readonly end: number }
  /** `$1`: a column by place of a staged file; `$NAME`: a session variable. */
  | { readonly kind: "dollar"; readonly text: string; readonly at: number; readonly end: number }
  /** `@stage/path`, without the `@`. */
  | { readonly kind: "stage"; readonly text: string; readonly at: number; readonly end: number }
  | { readonly kind: "op"; readonly text: string; readonly at: number; readonly end: number }
  | {
    readonly kind: "group"
    /** "(", "[" or "{". */
    readonly text: string
    readonly items: ReadonlyArray<Token>
    readonly at: number
    readonly end: number
  }

const operators = [
  "=>",
  "::",
  "!=",
  "<>",
  "<=",
  ">=",
  "||",
  "=",
  "<",
  ">",
  "+",
  "-",
  "*",
  "/",
  "%",
  ",",
  ".",
  ";",
  ":",
  "&",
  "|",
  "^"
]
const closing: Readonly<Record<string, string>> = { "(": ")", "[": "]", "{": "}" }
const escapes: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", b: "\b", f: "\f", "0": "\0" }

const wordStart = /[A-Za-z_\u0080-\uffff]/
const wordPart = /[A-Za-z0-9_$\u0080-\uffff]/

const unexpected = (sql: string, at: number): SnowflakeError.SnowflakeError => {
  const lines = sql.slice(0, at).split("\n")
  const column = lines[lines.length - 1]?.length ?? 0
  const what = at >= sql.length ? "<EOF>" : sql.slice(at).split(/\s/, 1)[0] ?? ""
  return SnowflakeError.syntax(`syntax error line ${lines.length} at position ${column} unexpected '${what}'.`)
}

/** The error for a token that doesn't fit, as Snowflake words it. */
export const unexpectedToken = (sql: string, token: Token | undefined): SnowflakeError.SnowflakeError =>
  unexpected(sql, token?.at ?? sql.length)

/** Splits SQL into tokens; throws a SnowflakeError for what can't be one. */
export const tokenize = (sql: string): ReadonlyArray<Token> => {
  let at = 0
  let binds = 0
  const read = (until: string | undefined): Array<Token> => {
    const out: Array<Token> = []
    for (;;) {
      skipSpace()
      if (at >= sql.length) {
        if (until !== undefined) throw unexpected(sql, at)
        return out
      }
      const start = at
      const c = sql.charAt(at)
      if (c === until) {
        at++
        return out
      }
      const close = closing[c]
      if (close !== undefined) {
        at++
        const items = read(close)
        out.push({ kind: "group", text: c, items, at: start, end: at })
      } else if (c === "'") {
        const text = readString()
        out.push({ kind: "string", text, at: start, end: at })
      } else if (sql.startsWith("$$", at)) {
        const finish = sql.indexOf("$$", at + 2)
        if (finish < 0) throw unexpected(sql, start)
        at = finish + 2
        out.push({ kind: "string", text: sql.slice(start + 2, finish), at: start, end: at })
      } else if (c === "\"") {
        out.push({ kind: "quoted", text: readQuoted(), at: start, end: at })
      } else if (c === "$") {
        at++
        while (at < sql.length && wordPart.test(sql.charAt(at))) at++
        if (at === start + 1) throw unexpected(sql, start)
        out.push({ kind: "dollar", text: sql.slice(start + 1, at).toUpperCase(), at: start, end: at })
      } else if (c === "@") {
        at++
        let text = ""
        while (at < sql.length && !/[\s,();'"]/.test(sql.charAt(at))) text += sql.charAt(at++)
        // A stage name may hold quoted parts: @"Db"."Schema"."Stage"/path
        while (sql.charAt(at) === "\"") {
          const from = at
          readQuoted()
          text += sql.slice(from, at)
          while (at < sql.length && !/[\s,();'"]/.test(sql.charAt(at))) text += sql.charAt(at++)
        }
        out.push({ kind: "stage", text, at: start, end: at })
      } else if (/[0-9]/.test(c) || (c === "." && /[0-9]/.test(sql.charAt(at + 1)) && !afterName(out, start))) {
        const match = /^(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?/.exec(sql.slice(at))
        at += match?.[0].length ?? 1
        if (wordStart.test(sql.charAt(at))) throw unexpected(sql, start)
        out.push({ kind: "number", text: sql.slice(start, at), at: start, end: at })
      } else if (c === "?") {
        at++
        out.push({ kind: "bind", text: String(++binds), at: start, end: at })
      } else if (wordStart.test(c)) {
        while (at < sql.length && wordPart.test(sql.charAt(at))) at++
        out.push({ kind: "word", text: sql.slice(start, at).toUpperCase(), at: start, end: at })
      } else {
        const op = operators.find((operator) => sql.startsWith(operator, at))
        if (op === undefined) throw unexpected(sql, at)
        at += op.length
        if (op === ":" && /[0-9]/.test(sql.charAt(at)) && !afterOperand(out)) {
          const from = at
          while (/[0-9]/.test(sql.charAt(at))) at++
          out.push({ kind: "bind", text: sql.slice(from, at), at: start, end: at })
        } else out.push({ kind: "op", text: op, at: start, end: at })
      }
    }
  }

  const skipSpace = () => {
    for (;;) {
      const c = sql.charAt(at)
      if (c !== "" && /\s/.test(c)) at++
      else if (sql.startsWith("--", at) || (sql.startsWith("//", at))) {
        const end = sql.indexOf("\n", at)
        at = end < 0 ? sql.length : end + 1
      } else if (sql.startsWith("/*", at)) {
        const end = sql.indexOf("*/", at + 2)
        if (end < 0) throw unexpected(sql, at)
        at = end + 2
      } else return
    }
  }

  const readQuoted = (): string => {
    const start = at
    let text = ""
    at++
    for (;;) {
      if (at >= sql.length) throw unexpected(sql, start)
      const c = sql.charAt(at++)
      if (c !== "\"") text += c
      else if (sql.charAt(at) === "\"") {
        text += "\""
        at++
      } else break
    }
    if (text === "") throw SnowflakeError.syntax("Invalid identifier '\"\"'.")
    return text
  }

  const readString = (): string => {
    const start = at
    let text = ""
    let plain = ++at
    for (;;) {
      if (at >= sql.length) throw unexpected(sql, start)
      const c = sql.charCodeAt(at)
      if (c === 39) {
        text += sql.slice(plain, at)
        at++
        if (sql.charCodeAt(at) !== 39) return text
        plain = at++
      } else if (c === 92) {
        text += sql.slice(plain, at)
        at++
        const next = sql.charAt(at)
        if (next === "u" && /^[0-9a-fA-F]{4}$/.test(sql.slice(at + 1, at + 5))) {
          text += String.fromCharCode(Number.parseInt(sql.slice(at + 1, at + 5), 16))
          at += 5
        } else if (next === "x" && /^[0-9a-fA-F]{2}$/.test(sql.slice(at + 1, at + 3))) {
          text += String.fromCharCode(Number.parseInt(sql.slice(at + 1, at + 3), 16))
          at += 3
        } else {
          text += escapes[next] ?? next
          at++
        }
        plain = at
      } else at++
    }
  }

  return read(undefined)
}

/** Whether the last token ends an operand, so that a colon after it opens a path and doesn't name a bind. */
const afterOperand = (tokens: ReadonlyArray<Token>): boolean => {
  const last = tokens[tokens.length - 1]
  return last !== undefined && last.kind !== "op" && last.kind !== "word"
}

const afterName = (tokens: ReadonlyArray<Token>, start: number): boolean => {
  const last = tokens[tokens.length - 1]
  return last !== undefined && last.end === start &&
    (last.kind === "word" || last.kind === "quoted" || last.kind === "dollar")
}

/** Splits tokens at semicolons of the outermost level; empty statements are dropped. */
export const statements = (tokens: ReadonlyArray<Token>): ReadonlyArray<ReadonlyArray<Token>> => {
  const out: Array<Array<Token>> = [[]]
  for (const token of tokens) {
    if (token.kind === "op" && token.text === ";") out.push([])
    else out[out.length - 1]?.push(token)
  }
  return out.filter((statement) => statement.length > 0)
}

/** Splits tokens at commas of this level. */
export const commas = (tokens: ReadonlyArray<Token>): ReadonlyArray<ReadonlyArray<Token>> => {
  if (tokens.length === 0) return []
  const out: Array<Array<Token>> = [[]]
  for (const token of tokens) {
    if (token.kind === "op" && token.text === ",") out.push([])
    else out[out.length - 1]?.push(token)
  }
  return out
}
