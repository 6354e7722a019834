import { assert, describe, it } from "@effect/vitest"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Decoding from "@etl-stream/runner/Decoding"
import * as OptionJsonSchema from "@etl-stream/runner/schema/OptionJsonSchema"
import * as OptionTable from "@etl-stream/runner/schema/OptionTable"
import { Ajv } from "ajv"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"

const judge = (schema: Schema.Constraint) => {
  const { definitions, schema: made } = OptionJsonSchema.make(schema)
  return new Ajv({ strict: false, validateFormats: false }).compile({
    ...made,
    definitions: { ...definitions, reference: OptionJsonSchema.reference }
  })
}

const node = (schema: Schema.Constraint, key: string): OptionJsonSchema.Node => {
  // The schema of a struct has the properties of its keys.
  const properties = OptionJsonSchema.make(schema).schema["properties"] as Record<string, OptionJsonSchema.Node>
  return properties[key] ?? {}
}

const Kinds = {
  text: Schema.String,
  word: Schema.NonEmptyString,
  short: Schema.String.check(Schema.isMaxLength(3)),
  named: Schema.String.check(Schema.isPattern(/^[a-z]{1,3}$/u)),
  whole: Schema.Int,
  few: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 9 })),
  positive: Schema.Int.check(Schema.isGreaterThan(0)),
  share: Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 })),
  flag: Schema.Boolean,
  choice: Schema.Literals(["a", "b"]),
  number: Schema.Literal(1),
  either: Schema.Union([Schema.Boolean, Schema.Literals(["on", "off"])]),
  size: ConfigOption.ByteSize,
  period: ConfigOption.Period,
  duration: Schema.DurationFromString,
  secret: ConfigOption.Secret,
  list: Schema.NonEmptyArray(Schema.NonEmptyString),
  map: Schema.Record(Schema.String.check(Schema.isPattern(/^[a-z]+$/u)), Schema.Int),
  section: Schema.Struct({ a: Schema.Int, b: Schema.optionalKey(Schema.String) }),
  defaulted: Schema.Int.pipe(ConfigOption.withDefault(5))
}

const near = fc.constantFrom(
  "a",
  "b",
  "on",
  "1",
  "5 seconds",
  "5 second",
  "0 seconds",
  "0.5 hours",
  "-5 days",
  "Infinity",
  "5seconds",
  "16MiB",
  "16 mib",
  "1.5GB",
  "0MiB",
  "0",
  "12",
  "12 B",
  "16XB",
  "abc",
  "abcd",
  "",
  " ",
  "true"
)

const value = fc.oneof(
  near,
  fc.string({ maxLength: 5 }),
  fc.integer({ min: -3, max: 12 }),
  fc.double({ min: -2, max: 2, noNaN: true }),
  fc.boolean(),
  fc.constant(null),
  fc.array(fc.oneof(near, fc.integer()), { maxLength: 2 }),
  fc.dictionary(fc.constantFrom("a", "b", "c", "C"), fc.oneof(near, fc.integer()))
)

describe("the JSON Schema of options", () => {
  for (const [name, kind] of Object.entries(Kinds)) {
    const Options = Schema.Struct({ key: kind })
    const validate = judge(Options)
    const decodes = (input: unknown): boolean =>
      Effect.runSync(Decoding.decode<unknown>(Options, input, [], []))._tag === "Valid"

    it(`takes what decodes and nothing else: ${name}`, () => {
      fc.assert(
        fc.property(fc.option(value, { nil: undefined }), (written) => {
          const input = written === undefined ? {} : { key: written }
          assert.strictEqual(validate(input), decodes(input), JSON.stringify(input))
        }),
        { numRuns: 500 }
      )
    })

    it(`takes a reference, by itself or in text: ${name}`, () => {
      const isScalar = name !== "list" && name !== "map" && name !== "section"
      for (const reference of ["${env:X}", "${env:X:-5}", "${file:./x}", "${enc:v1.k.abc}"]) {
        assert.strictEqual(validate({ key: reference }), isScalar, reference)
      }
      assert.strictEqual(validate({ key: "${X}" }), name === "text" || name === "word" || name === "secret")
    })
  }

  it("has no place for unknown keys, and needs those that are required", () => {
    const validate = judge(Schema.Struct({ a: Schema.Int, b: Schema.optionalKey(Schema.Int) }))
    assert.deepStrictEqual([{ a: 1 }, { a: 1, b: 2 }, { b: 2 }, { a: 1, c: 3 }].map((input) => validate(input)), [
      true,
      true,
      false,
      false
    ])
  })

  it("shows descriptions, defaults and examples as they are written, secrets and deprecations", () => {
    const Options = Schema.Struct({
      every: ConfigOption.Period.pipe(
        ConfigOption.withDefault("5 seconds"),
        ConfigOption.withExamples("1 minute"),
        ConfigOption.describe("How often")
      ),
      token: Schema.optionalKey(ConfigOption.Secret).pipe(ConfigOption.describe("A token")),
      old: Schema.optionalKey(Schema.Int).pipe(ConfigOption.deprecated("Use `every`"), ConfigOption.describe("Seconds"))
    })
    assert.deepInclude(node(Options, "every"), {
      description: "How often",
      default: "5 seconds",
      examples: ["1 minute"]
    })
    assert.deepInclude(node(Options, "token"), { description: "A token", writeOnly: true })
    assert.deepInclude(node(Options, "old"), {
      description: "Deprecated. Use `every`. Seconds",
      deprecated: true,
      deprecationMessage: "Use `every`."
    })
  })

  it("goes into options that contain themselves", () => {
    interface Tree {
      readonly size: number
      readonly children?: ReadonlyArray<Tree>
    }
    const Tree = Schema.Struct({
      size: Schema.Int,
      children: Schema.optionalKey(Schema.Array(Schema.suspend((): Schema.Codec<Tree> => Tree)))
    })
    const validate = judge(Schema.Struct({ tree: Tree }))
    const tree = (size: unknown) => ({ tree: { size: 1, children: [{ size: 2, children: [{ size }] }] } })
    assert.deepStrictEqual([3, "${env:SIZE}", "three"].map((size) => validate(tree(size))), [true, true, false])
  })
})

describe("the table of options", () => {
  const Options = Schema.Struct({
    url: ConfigOption.Secret.pipe(ConfigOption.describe("Where to")),
    retry: Schema.Struct({ times: Schema.Int.pipe(ConfigOption.withDefault(3)) }).pipe(ConfigOption.withDefault({})),
    rules: Schema.Array(Schema.Struct({ when: Schema.Literals(["a|b", "c"]) })).pipe(ConfigOption.withDefault([])),
    tags: Schema.optionalKey(Schema.Record(Schema.String, Schema.Struct({ on: Schema.Boolean }))),
    old: Schema.optionalKey(Schema.Int).pipe(ConfigOption.deprecated("Use `retry.times`"))
  })

  it("has every key, also those in sections, lists and under free names", () => {
    assert.deepStrictEqual(
      OptionTable.options(Options).map(({ key, required, value }) => [key, value, required]),
      [
        ["url", "text", true],
        ["retry", "a section", false],
        ["retry.times", "a number", false],
        ["rules", "a list", false],
        ["rules[].when", "\"a|b\" or \"c\"", true],
        ["tags", "a section", false],
        ["tags.<name>.on", "true or false", true],
        ["old", "a number", false]
      ]
    )
  })

  it("is Markdown that says what is required, the default, what is secret and what is deprecated", () => {
    assert.strictEqual(
      OptionTable.markdown(OptionTable.options(Options)),
      [
        "| key | value | default | meaning |",
        "| --- | --- | --- | --- |",
        "| `url` | text | required | *Secret.* Where to |",
        "| `retry` | a section |  |  |",
        "| `retry.times` | a number | `3` |  |",
        "| `rules` | a list | `[]` |  |",
        "| `rules[].when` | \"a\\|b\" or \"c\" | required |  |",
        "| `tags` | a section |  |  |",
        "| `tags.<name>.on` | true or false | required |  |",
        "| `old` | a number |  | **Deprecated.** Use `retry.times`. |"
      ].join("\n")
    )
  })
})
