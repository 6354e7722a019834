/**
 * Blocks of Snowflake Scripting, parsed: DECLARE … BEGIN … EXCEPTION … END with what of the language is supported.
 *
 * SQL statements and expressions stay tokens; only their ends are found here. What isn't supported (loops other than WHILE, cursors, result sets, CASE statements, procedures) is refused.
 */
import * as SnowflakeError from "../SnowflakeError.ts"
import type { Cursor } from "../sql/Cursor.ts"
import { isGroup, isOp, isWord } from "../sql/Cursor.ts"
import type { SnowflakeType } from "../sql/SnowflakeType.ts"
import type { Token } from "../sql/Token.ts"

export interface Declaration {
  readonly name: string
  readonly type: SnowflakeType | undefined
  readonly value: ReadonlyArray<Token> | undefined
}

interface Branch {
  readonly condition: ReadonlyArray<Token>
  readonly steps: ReadonlyArray<Step>
}

/** One statement of a block; `at` is where it begins. */
export type Step =
  & { readonly at: number }
  & (
    | { readonly kind: "Sql"; readonly tokens: ReadonlyArray<Token> }
    /** SELECT … INTO :a, :b …, without its INTO. */
    | { readonly kind: "Into"; readonly tokens: ReadonlyArray<Token>; readonly targets: ReadonlyArray<string> }
    | { readonly kind: "Let"; readonly declaration: Declaration }
    | { readonly kind: "Assign"; readonly name: string; readonly value: ReadonlyArray<Token> }
    | { readonly kind: "If"; readonly branches: ReadonlyArray<Branch>; readonly otherwise: ReadonlyArray<Step> }
    | { readonly kind: "While"; readonly loop: Branch }
    | { readonly kind: "Block"; readonly block: Block }
    | { readonly kind: "Return"; readonly value: ReadonlyArray<Token> | undefined }
    | { readonly kind: "Raise" }
    | { readonly kind: "Null" }
  )

export interface Handler {
  /** OTHER takes everything. */
  readonly exceptions: ReadonlyArray<string>
  readonly steps: ReadonlyArray<Step>
}

export interface Block {
  readonly declarations: ReadonlyArray<Declaration>
  readonly steps: ReadonlyArray<Step>
  readonly handlers: ReadonlyArray<Handler>
}

/** Whether the tokens are a block, and not BEGIN of a transaction. */
export const isBlock = (tokens: ReadonlyArray<Token>): boolean =>
  isWord(tokens[0], "DECLARE") || (isWord(tokens[0], "BEGIN") && !beginsTransaction(tokens[1]))

const beginsTransaction = (next: Token | undefined): boolean =>
  next === undefined || isOp(next, ";") || isWord(next, "TRANSACTION", "WORK", "NAME")

const unsupportedWords = [
  "FOR",
  "LOOP",
  "REPEAT",
  "CASE",
  "OPEN",
  "FETCH",
  "CLOSE",
  "BREAK",
  "CONTINUE",
  "CALL",
  "AWAIT"
]

/** Up to the next semicolon, which is read as well. */
const statement = (cursor: Cursor): ReadonlyArray<Token> => {
  const start = cursor.at
  while (!cursor.done && !isOp(cursor.peek(), ";")) cursor.at++
  const tokens = cursor.tokens.slice(start, cursor.at)
  if (tokens.length === 0) throw cursor.unexpected()
  semicolon(cursor)
  return tokens
}

const semicolon = (cursor: Cursor): void => cursor.expectOp(";")

const assigns = (cursor: Cursor, ahead: number): boolean =>
  isOp(cursor.peek(ahead), ":") && isOp(cursor.peek(ahead + 1), "=")

/** `name [TYPE] [{ DEFAULT | := } value];` */
const declaration = (cursor: Cursor): Declaration => {
  const name = cursor.identifier()
  if (isWord(cursor.peek(), "CURSOR", "RESULTSET", "EXCEPTION")) throw SnowflakeError.unsupported(cursor.identifier())
  const typed = !assigns(cursor, 0) && !isWord(cursor.peek(), "DEFAULT")
  const type = typed ? cursor.type() : undefined
  if (cursor.accept("DEFAULT")) return { name, type, value: statement(cursor) }
  if (assigns(cursor, 0)) {
    cursor.at += 2
    return { name, type, value: statement(cursor) }
  }
  semicolon(cursor)
  return { name, type, value: undefined }
}

/** A condition in brackets. */
const condition = (cursor: Cursor): ReadonlyArray<Token> => {
  if (!isGroup(cursor.peek())) throw cursor.unexpected()
  return [cursor.next()]
}

const ifStep = (cursor: Cursor, at: number): Step => {
  const branches: Array<Branch> = []
  const branch = () => {
    const given = condition(cursor)
    cursor.expect("THEN")
    branches.push({ condition: given, steps: steps(cursor, "ELSEIF", "ELSE", "END") })
  }
  branch()
  while (cursor.accept("ELSEIF")) branch()
  const otherwise = cursor.accept("ELSE") ? steps(cursor, "END") : []
  cursor.expect("END", "IF")
  semicolon(cursor)
  return { kind: "If", at, branches, otherwise }
}

const whileStep = (cursor: Cursor, at: number): Step => {
  const given = condition(cursor)
  cursor.expect("DO")
  const body = steps(cursor, "END")
  cursor.expect("END", "WHILE")
  semicolon(cursor)
  return { kind: "While", at, loop: { condition: given, steps: body } }
}

/** `SELECT a, b INTO :x, :y FROM …`: the targets, and the query without them; undefined without an INTO. */
const into = (
  cursor: Cursor,
  tokens: ReadonlyArray<Token>
): Pick<Extract<Step, { kind: "Into" }>, "tokens" | "targets"> | undefined => {
  const start = tokens.findIndex((token) => isWord(token, "INTO"))
  if (start < 0) return undefined
  const targets: Array<string> = []
  let at = start
  do {
    const colon = isOp(tokens[at + 1], ":") ? 1 : 0
    const name = tokens[at + 1 + colon]
    if (name?.kind !== "word" && name?.kind !== "quoted") throw cursor.unexpected()
    targets.push(name.text)
    at += 2 + colon
  } while (isOp(tokens[at], ","))
  return { targets, tokens: [...tokens.slice(0, start), ...tokens.slice(at)] }
}

const step = (cursor: Cursor): Step => {
  const token = cursor.peek()
  const at = token?.at ?? 0
  if (isWord(token, "DECLARE") || (isWord(token, "BEGIN") && !beginsTransaction(cursor.peek(1)))) {
    const inner = block(cursor)
    semicolon(cursor)
    return { kind: "Block", at, block: inner }
  }
  if (cursor.accept("IF")) return ifStep(cursor, at)
  if (cursor.accept("WHILE")) return whileStep(cursor, at)
  if (cursor.accept("LET")) return { kind: "Let", at, declaration: declaration(cursor) }
  if (cursor.accept("NULL")) {
    semicolon(cursor)
    return { kind: "Null", at }
  }
  if (cursor.accept("RAISE")) {
    if (!isOp(cursor.peek(), ";")) throw SnowflakeError.unsupported("RAISE of a declared exception")
    semicolon(cursor)
    return { kind: "Raise", at }
  }
  if (cursor.accept("RETURN")) {
    if (!isOp(cursor.peek(), ";")) return { kind: "Return", at, value: statement(cursor) }
    semicolon(cursor)
    return { kind: "Return", at, value: undefined }
  }
  if ((token?.kind === "word" || token?.kind === "quoted") && assigns(cursor, 1)) {
    cursor.at += 3
    return { kind: "Assign", at, name: token.text, value: statement(cursor) }
  }
  if (token?.kind === "word" && unsupportedWords.includes(token.text)) {
    throw SnowflakeError.unsupported(`${token.text} of Snowflake Scripting`)
  }
  const tokens = statement(cursor)
  const query = isWord(tokens[0], "SELECT", "WITH") ? into(cursor, tokens) : undefined
  return query === undefined ? { kind: "Sql", at, tokens } : { kind: "Into", at, ...query }
}

/** Statements up to one of these words. */
const steps = (cursor: Cursor, ...stops: ReadonlyArray<string>): ReadonlyArray<Step> => {
  const out: Array<Step> = []
  while (!isWord(cursor.peek(), ...stops)) out.push(step(cursor))
  if (out.length === 0) throw cursor.unexpected()
  return out
}

/** WHEN a [OR b] THEN …; */
const handler = (cursor: Cursor): Handler => {
  cursor.expect("WHEN")
  const exceptions: Array<string> = []
  do exceptions.push(cursor.identifier())
  while (cursor.accept("OR"))
  for (const name of exceptions) {
    if (!["OTHER", "STATEMENT_ERROR", "EXPRESSION_ERROR"].includes(name)) {
      throw SnowflakeError.unsupported(`the exception ${name}`)
    }
  }
  cursor.accept("EXIT")
  cursor.expect("THEN")
  return { exceptions, steps: steps(cursor, "WHEN", "END") }
}

const block = (cursor: Cursor): Block => {
  const declarations: Array<Declaration> = []
  if (cursor.accept("DECLARE")) {
    while (!isWord(cursor.peek(), "BEGIN")) declarations.push(declaration(cursor))
  }
  cursor.expect("BEGIN")
  const body = steps(cursor, "EXCEPTION", "END")
  const handlers: Array<Handler> = []
  if (cursor.accept("EXCEPTION")) {
    do handlers.push(handler(cursor))
    while (isWord(cursor.peek(), "WHEN"))
  }
  cursor.expect("END")
  return { declarations, steps: body, handlers }
}

/** A whole text that is one block; throws a SnowflakeError. */
export const parse = (cursor: Cursor): Block => {
  const parsed = block(cursor)
  cursor.acceptOp(";")
  cursor.end()
  return parsed
}
