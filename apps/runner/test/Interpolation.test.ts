import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Fs from "node:fs"
import { join } from "node:path"
import { load, only, problems, scenario, sourceOptions } from "./ConfigurationFixture.ts"
import * as Fixture from "./Fixture.ts"

describe("references", () => {
  const referencing = Fixture.onePipeline(
    "password: \"${env:PASSWORD}\", rows: \"${env:ROWS}\", ends: \"${env:ENDS:-false}\""
  )

  scenario("become text, numbers and booleans as the schema wants them", (directory) =>
    Effect.gen(function*() {
      const options = sourceOptions(yield* load(directory, referencing, { PASSWORD: "12345678", ROWS: "12" }))
      assert.strictEqual(options["rows"], 12)
      assert.strictEqual(options["ends"], false)
      assert.strictEqual(
        Redacted.isRedacted(options["password"]) ? Redacted.value(options["password"]) : undefined,
        "12345678"
      )
    }))

  scenario("that are not set are each a problem with its place", (directory) =>
    Effect.gen(function*() {
      const found = yield* problems(directory, referencing)
      assert.deepStrictEqual(found.map(({ column, line, message, path }) => [path, `${line}:${column}`, message]), [
        ["pipelines.numbers.source.options.password", "7:27", "The environment variable PASSWORD is not set."],
        ["pipelines.numbers.source.options.rows", "7:52", "The environment variable ROWS is not set."]
      ])
    }))

  scenario("that don't fit are refused without telling what they hold", (directory) =>
    Effect.gen(function*() {
      const found = yield* problems(directory, referencing, {
        PASSWORD: "p",
        ROWS: "tell-nobody",
        ENDS: "tell-nobody-either"
      })
      assert.deepStrictEqual(found.map(({ path }) => path), [
        "pipelines.numbers.source.options.rows",
        "pipelines.numbers.source.options.ends"
      ])
      assert.include(found[0]?.remedy, "The value comes from `${env:ROWS}`.")
      assert.notInclude(JSON.stringify(found), "tell-nobody")
    }))

  scenario("offline are left alone, and the rest is checked", (directory) =>
    Effect.gen(function*() {
      assert.isUndefined(yield* load(directory, referencing, {}, true))
      const found = yield* problems(directory, referencing.replace("rows:", "rovs:"), {}, true)
      assert.deepStrictEqual(only(found).remedy, "Did you mean `rows`?")
      assert.strictEqual((yield* load(directory, Fixture.onePipeline(""), {}, true))?.pipelines.length, 1)
    }))

  scenario("are resolved once, and can't change the document's structure", (directory) =>
    Effect.gen(function*() {
      const hostile = "x\", rows: 999, mode: \"bursts\n  - ${env:ROWS} ${file:/etc/passwd} #"
      const options = sourceOptions(yield* load(directory, referencing, { PASSWORD: hostile, ROWS: "1" }))
      assert.strictEqual(
        Redacted.isRedacted(options["password"]) ? Redacted.value(options["password"]) : undefined,
        hostile
      )
      assert.strictEqual(options["rows"], 1)
      assert.strictEqual(options["mode"], "steady")
    }))

  scenario("in keys and comments mean nothing", (directory) =>
    Effect.gen(function*() {
      const text = Fixture.onePipeline("\"${env:NAME}\": 1").replace(
        "state:",
        "# ${env:NOT_SET} and ${nonsense\nstate:"
      )
      const problem = only(yield* problems(directory, text, { NAME: "rows" }))
      assert.strictEqual(problem.message, "Unknown key `${env:NAME}`.")
    }))

  scenario(
    "to files give their text without the last line's end, relative to the configuration",
    (directory) =>
      Effect.gen(function*() {
        Fs.writeFileSync(join(directory, "password.txt"), "from a file\n")
        const options = sourceOptions(
          yield* load(directory, Fixture.onePipeline("password: \"<${file:password.txt}>\""))
        )
        assert.strictEqual(
          Redacted.isRedacted(options["password"]) ? Redacted.value(options["password"]) : undefined,
          "<from a file>"
        )
        const problem = only(yield* problems(directory, Fixture.onePipeline("password: \"${file:./nope.txt}\"")))
        assert.strictEqual(problem.message, "The file ./nope.txt does not exist.")
        assert.strictEqual(
          only(yield* problems(directory, Fixture.onePipeline("password: \"${file:.}\""))).message,
          "The file . is a folder."
        )
      })
  )

  scenario(
    "use their default when the variable is not set or empty, and may stand within text",
    (directory) =>
      Effect.gen(function*() {
        const text = Fixture.onePipeline("password: \"${env:A:-a:-b}/${env:B:-c}/${env:C}/$${env:D}\"")
        const options = sourceOptions(yield* load(directory, text, { B: "", C: "" }))
        assert.strictEqual(
          Redacted.isRedacted(options["password"]) ? Redacted.value(options["password"]) : undefined,
          "a:-b/c//${env:D}"
        )
      })
  )

  for (
    const [written, remedy] of [
      ["${HOME}", "Write `${env:HOME}`"],
      ["${env:}", "a name has letters"],
      ["${env:A-B}", "a name has letters"],
      ["${secret:x}", "Use `${env:NAME}`"],
      ["${file:}", "Write `${file:path}`"],
      ["${env:OPEN", "Close it with `}`"]
    ] as const
  ) {
    scenario(`${written} is refused, offline too`, (directory) =>
      Effect.gen(function*() {
        for (const offline of [false, true]) {
          const problem = only(
            yield* problems(directory, Fixture.onePipeline(`password: "${written}"`), { OPEN: "x" }, offline)
          )
          assert.strictEqual(problem.message, "This is not a reference that etl-stream knows.")
          assert.include(problem.remedy, remedy)
        }
      }))
  }
})
