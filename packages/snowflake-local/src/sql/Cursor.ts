/**
 * A reader over tokens, for the parts of Snowflake SQL that are parsed word by word: statements' heads, options, names and types.
 */
import * as SnowflakeError from "../SnowflakeError.ts"
import type { SnowflakeType } from "./SnowflakeType.ts"
import * as Types from "./SnowflakeType.ts"
import type { Token } from "./Token.ts"
import { unexpectedToken } from "./Token.ts"

export type Group = Extract<Token, { kind: "group" }>

export const isWord = (token: Token | undefined, ...texts: ReadonlyArray<string>): boolean =>
  token?.kind === "word" && texts.includes(token.text)

export const isOp = (token: Token | undefined, text: string): boolean => token?.kind === "op" && token.text === text

export const isGroup = (token: Token | undefined, text = "("): token is Group =>
  token?.kind === "group" && token.text === text

export class Cursor {
  readonly source: string
  readonly tokens: ReadonlyArray<Token>
  at = 0

  constructor(source: string, tokens: ReadonlyArray<Token>) {
    this.source = source
    this.tokens = tokens
  }

  get done(): boolean {
    return this.at >= this.tokens.length
  }

  peek(ahead = 0): Token | undefined {
    return this.tokens[this.at + ahead]
  }

  next(): Token {
    const token = this.tokens[this.at]
    if (token === undefined) throw this.unexpected()
    this.at++
    return token
  }

  unexpected(): SnowflakeError.SnowflakeError {
    return unexpectedToken(this.source, this.peek())
  }

  /** Takes the words when all of them are next. */
  accept(...words: ReadonlyArray<string>): boolean {
    if (!words.every((word, index) => isWord(this.peek(index), word))) return false
    this.at += words.length
    return true
  }

  expect(...words: ReadonlyArray<string>): void {
    if (!this.accept(...words)) throw this.unexpected()
  }

  acceptOp(text: string): boolean {
    if (!isOp(this.peek(), text)) return false
    this.at++
    return true
  }

  expectOp(text: string): void {
    if (!this.acceptOp(text)) throw this.unexpected()
  }

  group(): Group {
    const token = this.peek()
    if (!isGroup(token)) throw this.unexpected()
    this.at++
    return token
  }

  string(): string {
    const token = this.peek()
    if (token?.kind !== "string") throw this.unexpected()
    this.at++
    return token.text
  }

  identifier(): string {
    const token = this.peek()
    if (token?.kind === "quoted" || token?.kind === "word") {
      this.at++
      return token.text
    }
    throw this.unexpected()
  }

  /** A name of up to three parts, also as `IDENTIFIER('a.b')`. */
  path(): ReadonlyArray<string> {
    if (isWord(this.peek(), "IDENTIFIER") && isGroup(this.peek(1))) {
      this.next()
      const inner = this.group().items[0]
      if (inner?.kind !== "string") throw this.unexpected()
      return splitPath(inner.text)
    }
    const parts = [this.identifier()]
    while (this.acceptOp(".")) {
      // `db..table` means the schema PUBLIC.
      parts.push(isOp(this.peek(), ".") ? "PUBLIC" : this.identifier())
    }
    if (parts.length > 3) throw this.unexpected()
    return parts
  }

  /** Everything that is left. */
  rest(): ReadonlyArray<Token> {
    const rest = this.tokens.slice(this.at)
    this.at = this.tokens.length
    return rest
  }

  /** The tokens up to one of these words, which is left in place. */
  until(...words: ReadonlyArray<string>): ReadonlyArray<Token> {
    const from = this.at
    while (!this.done && !isWord(this.peek(), ...words)) this.at++
    return this.tokens.slice(from, this.at)
  }

  end(): void {
    if (!this.done) throw this.unexpected()
  }

  type(): SnowflakeType {
    let name = this.identifier()
    if (name === "DOUBLE" && this.accept("PRECISION")) name = "DOUBLE PRECISION"
    if ((name === "CHAR" || name === "NCHAR") && this.accept("VARYING")) name = `${name} VARYING`
    let args: ReadonlyArray<number> = []
    if (isGroup(this.peek())) {
      args = this.group().items.filter((token) => !isOp(token, ",")).map((token) => {
        if (token.kind !== "number") throw SnowflakeError.unsupportedType(name)
        return Number(token.text)
      })
    }
    if (name === "TIMESTAMP" || name === "TIME") {
      if (this.accept("WITH", "LOCAL", "TIME", "ZONE")) name = "TIMESTAMP WITH LOCAL TIME ZONE"
      else if (this.accept("WITH", "TIME", "ZONE")) name = "TIMESTAMP WITH TIME ZONE"
      else if (this.accept("WITHOUT", "TIME", "ZONE")) name = "TIMESTAMP WITHOUT TIME ZONE"
    }
    const type = Types.fromName(name, args)
    if (type === undefined) throw SnowflakeError.unsupportedType(name)
    return type
  }
}

/** `a."B".c` as its parts. */
export const splitPath = (path: string): ReadonlyArray<string> => {
  const parts: Array<string> = []
  const pattern = /"((?:[^"]|"")+)"|([^."]+)/g
  for (const match of path.trim().matchAll(pattern)) {
    parts.push(match[1] !== undefined ? match[1].replaceAll("\"\"", "\"") : (match[2] ?? "").trim().toUpperCase())
  }
  return parts
}
