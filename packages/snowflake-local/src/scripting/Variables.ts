/**
 * The variables that a place in a block sees, as DuckDB literals of their types.
 */
import * as SnowflakeError from "../SnowflakeError.ts"
import { isGroup, isOp } from "../sql/Cursor.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Literal from "../sql/Literal.ts"
import type { SnowflakeType } from "../sql/SnowflakeType.ts"
import * as Types from "../sql/SnowflakeType.ts"
import type { Token } from "../sql/Token.ts"

interface Variable {
  readonly type: SnowflakeType
  /** DuckDB SQL of the value. */
  literal: string
}

/** A value of a type as DuckDB SQL, from what DuckDB's cast to VARCHAR gave. */
const literalOf = (type: SnowflakeType, text: string | null): string =>
  `CAST(${text === null ? "NULL" : Literal.string(text)} AS ${Types.duckdbType(type)})`

export class Variables {
  private readonly own = new Map<string, Variable>()
  private readonly outer: Variables | undefined

  constructor(outer?: Variables) {
    this.outer = outer
  }

  add(name: string, type: SnowflakeType, text: string | null = null): void {
    this.own.set(name, { type, literal: literalOf(type, text) })
  }

  private find(name: string): Variable | undefined {
    return this.own.get(name) ?? this.outer?.find(name)
  }

  has(name: string): boolean {
    return this.find(name) !== undefined
  }

  /** Throws when there is none. */
  typeOf(name: string): SnowflakeType {
    return this.required(name).type
  }

  /** Sets a variable, from the text of DuckDB's cast to VARCHAR. */
  set(name: string, text: string | null): void {
    const variable = this.required(name)
    variable.literal = literalOf(variable.type, text)
  }

  private required(name: string): Variable {
    const found = this.find(name)
    if (found === undefined) throw SnowflakeError.invalidIdentifier(Identifier.print(name))
    return found
  }

  /** Literals by name, for `:name` in SQL. */
  binds(): ReadonlyMap<string, string> {
    const all = new Map(this.outer?.binds())
    for (const [name, { literal }] of this.own) all.set(name, literal)
    return all
  }

  /** An expression of the language, in which a variable is written without its colon, as one of SQL. */
  bound(tokens: ReadonlyArray<Token>): ReadonlyArray<Token> {
    return tokens.map((token, index) => {
      if (token.kind === "group") return { ...token, items: this.bound(token.items) }
      const before = tokens[index - 1]
      const after = tokens[index + 1]
      const alone = !isOp(before, ".") && !isOp(before, ":") && !isOp(after, ".") && !isGroup(after)
      return (token.kind === "word" || token.kind === "quoted") && alone && this.has(token.text)
        ? { kind: "bind", text: token.text, at: token.at, end: token.end }
        : token
    })
  }
}
