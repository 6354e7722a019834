/**
 * Names and text: what is written in Snowflake's SQL comes back exactly, and hostile SQL ends in an error.
 */
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { SnowflakeError } from "../src/SnowflakeError.ts"
import * as Identifier from "../src/sql/Identifier.ts"
import * as Literal from "../src/sql/Literal.ts"
import { tokenize } from "../src/sql/Token.ts"

const name = fc.string({
  unit: fc.constantFrom("a", "A", "b", "#", "1", "f", ".", "\"", "é", "É", " ", "_"),
  minLength: 1,
  maxLength: 12
})

describe("a name", () => {
  it("is stored under a name that stands for it alone, whatever its case", () => {
    fc.assert(fc.property(name, name, (left, right) => {
      assert.strictEqual(Identifier.decode(Identifier.encode(left)), left)
      // DuckDB compares names without regard to the case of ASCII letters.
      const stored = (text: string) => Identifier.encode(text).replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase())
      assert.strictEqual(stored(left) === stored(right), left === right)
    }))
  })

  it("without lower-case letters is stored as it is", () => {
    for (const plain of ["ORDERS", "_ETL_SEQ", "A B", "Ä"]) assert.strictEqual(Identifier.encode(plain), plain)
  })
})

describe("SQL text", () => {
  it("keeps strings and quoted names exactly", () => {
    fc.assert(fc.property(fc.string(), (text) => {
      const literal = `'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`
      const [token, ...rest] = tokenize(literal)
      assert.deepStrictEqual([token?.kind, token?.kind === "string" ? token.text : "", rest], ["string", text, []])
      assert.strictEqual(Literal.stringValue(Literal.string(text)), text)
    }))
    fc.assert(fc.property(fc.string({ minLength: 1 }), (text) => {
      const [token] = tokenize(Identifier.quote(text))
      assert.deepStrictEqual([token?.kind, token?.kind === "quoted" ? token.text : ""], ["quoted", text])
    }))
  })

  it("that is anything at all becomes tokens or a syntax error, in time", () => {
    const hostile = fc.string({
      unit: fc.constantFrom(
        "'",
        "\"",
        "$",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "--",
        "/*",
        "*/",
        "\\",
        ":",
        "?",
        "@",
        ";",
        "a",
        "1",
        ".",
        "e",
        "\n"
      )
    })
    fc.assert(fc.property(hostile, (text) => {
      try {
        tokenize(text)
      } catch (error) {
        assert.instanceOf(error, SnowflakeError)
      }
    }))
  })
})
