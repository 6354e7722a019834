import { assert, describe, it } from "@effect/vitest"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Duration from "effect/Duration"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"

const Options = Schema.Struct({
  rows: Schema.Int.pipe(ConfigOption.withDefault(500), ConfigOption.describe("Rows of a request")),
  every: ConfigOption.Period.pipe(ConfigOption.withDefault("5 seconds")),
  size: ConfigOption.ByteSize.pipe(ConfigOption.withDefault("1kB"), ConfigOption.withExamples("16MiB", 4096)),
  token: Schema.optionalKey(ConfigOption.Secret).pipe(ConfigOption.describe("A token")),
  old: Schema.optionalKey(Schema.Int).pipe(ConfigOption.deprecated("Use `rows`"))
})

const decode = Schema.decodeUnknownSync(Options)

/** Annotations of a key as it is written. */
const written = (key: string) => {
  const ast = SchemaAST.toEncoded(Options.ast)
  assert.isTrue(SchemaAST.isObjects(ast))
  return SchemaAST.isObjects(ast)
    ? ast.propertySignatures.find(({ name }) => name === key)?.type.context?.annotations
    : undefined
}

describe("ConfigOption", () => {
  it("a default is decoded in the place of an absent key, and stands in the schema as it would be written", () => {
    const { every, rows, size } = decode({})
    assert.deepStrictEqual([rows, Duration.toMillis(every), size], [500, 5000, 1000])
    assert.deepInclude(decode({ rows: 7, size: "2KiB" }), { rows: 7, size: 2048 })
    assert.deepStrictEqual(
      ["rows", "every", "size"].map((key) => written(key)?.["default"]),
      [500, "5 seconds", "1kB"]
    )
  })

  it("a default leaves the encoded form as it is: encoding writes the value", () => {
    const encoded = Schema.encodeSync(Options)(decode({ rows: 7 }))
    assert.deepInclude(encoded, { rows: 7, size: 1000 })
    assert.deepStrictEqual(decode(encoded), decode({ rows: 7 }))
  })

  it("examples are as they would be written, whatever they decode to", () => {
    assert.deepStrictEqual(written("size")?.["examples"], ["16MiB", 4096])
    assert.strictEqual(written("size")?.["default"], "1kB")
  })

  it("a description and a deprecation are annotations of the key", () => {
    const described = Options.fields.rows.ast.context?.annotations
    assert.strictEqual(described?.["description"], "Rows of a request")
    assert.strictEqual(Options.fields.old.ast.context?.annotations?.["deprecated"], "Use `rows`")
  })

  it("a secret is redacted and not empty, a period above 0 and not infinite", () => {
    const { token } = decode({ token: "hunter22" })
    assert.strictEqual(String(token), "<redacted>")
    assert.strictEqual(token === undefined ? undefined : Redacted.value(token), "hunter22")
    for (const wrong of [{ token: "" }, { every: "0 seconds" }, { every: "Infinity" }, { every: "5" }]) {
      assert.throws(() => decode(wrong))
    }
  })

  it("default, examples and description reach the JSON Schema of Effect as well", () => {
    const { schema } = Schema.toJsonSchemaDocument(Schema.Struct({
      rows: Schema.Int.pipe(ConfigOption.withDefault(500), ConfigOption.withExamples(1, 2))
    }))
    assert.deepInclude(schema["properties"], { rows: { type: "integer", default: 500, examples: [1, 2] } })
  })
})
