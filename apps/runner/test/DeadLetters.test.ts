/**
 * `etl-stream dlq` where there is nothing to work on, or nothing but the store that the pipeline names; and what is said of a configuration with such a store.
 */
import { assert, describe } from "@effect/vitest"
import { type DeadLetter, encodeType, idOf } from "@etl-stream/core/DeadLetter"
import * as DeadLetterFiles from "@etl-stream/core/DeadLetterFiles"
import * as PlainSecrets from "@etl-stream/runner/database/PlainSecrets"
import * as Effect from "effect/Effect"
import { join } from "node:path"
import { envelope, errorOf, scenario } from "./CommandFixture.ts"
import * as ConfigurationFixture from "./ConfigurationFixture.ts"
import * as Fixture from "./Fixture.ts"

/** A pipeline that names a store of letters. */
const named = (plugin: string, options: string): string =>
  `${Fixture.onePipeline("tables: [numbers]")}    deadLetters: {plugin: "${plugin}", options: {${options}}}
`

const letter = (ordinal: number): DeadLetter => {
  const identified = {
    pipeline: "numbers",
    table: "public.numbers",
    sequence: `0000000000000001/${String(ordinal).padStart(16, "0")}`,
    row: `["${ordinal}"]`,
    column: { name: "n", target: "N", type: encodeType({ _tag: "Int64" }) }
  }
  return {
    id: idOf(identified),
    ...identified,
    operation: "insert",
    commitTime: "2026-01-02T03:04:05Z",
    identity: "Key",
    key: [],
    reason: "is too long",
    values: { n: `value ${ordinal}` },
    unsent: [],
    at: "2026-01-02T03:04:06.000Z"
  }
}

describe("dlq", () => {
  scenario(
    "says that a sink keeps no dead letters, and what pipelines and tables there could be",
    (directory) =>
      Effect.gen(function*() {
        const file = Fixture.write(directory, "c.yaml", Fixture.onePipeline("tables: [numbers]"))
        for (const command of ["ls", "show", "replay", "drop --all"]) {
          const ended = yield* Fixture.run(["dlq", ...command.split(" "), file, "--json"])
          assert.strictEqual(ended.code, 2, ended.stderr)
          assert.strictEqual(errorOf(ended)["code"], "NoDeadLetters")
        }
        const unnamed = yield* Fixture.run(["dlq", "drop", file])
        assert.strictEqual(unnamed.code, 2)
        assert.include(unnamed.stderr, "No letters are named")
        const unknown = yield* Fixture.run(["dlq", "ls", file, "--pipeline", "nmbers"])
        assert.strictEqual(unknown.code, 2)
        assert.include(unknown.stderr, "There is no pipeline nmbers")
      })
  )

  scenario(
    "works on the store that the pipeline names, whatever its sink; only writing letters is the sink's",
    (directory) =>
      Effect.gen(function*() {
        const file = Fixture.write(directory, "c.yaml", named("@etl-stream/dead-letters-files", "directory: ./letters"))
        assert.deepStrictEqual(envelope(yield* Fixture.run(["dlq", "ls", file, "--json"]))["deadLetters"], [])
        const store = DeadLetterFiles.make({ directory: join(directory, "letters"), limit: 10, plugin: "test" })
        yield* store.put([letter(1), letter(2), { ...letter(3), pipeline: "another" }])
        const [group] = envelope(yield* Fixture.run(["dlq", "ls", file, "--json"]))["deadLetters"] as ReadonlyArray<
          object
        > // as `ls` prints it
        assert.deepInclude(group, { pipeline: "numbers", table: "public.numbers", column: "n", count: 2 })
        const shown = yield* Fixture.run(["dlq", "show", file, letter(2).id])
        assert.include(shown.stdout, "n = \"value 2\"")
        const replayed = yield* Fixture.run(["dlq", "replay", file, "--json"])
        assert.deepStrictEqual([replayed.code, errorOf(replayed)["code"]], [1, "Unsupported"])
        assert.deepInclude(envelope(yield* Fixture.run(["dlq", "drop", file, "--all", "--json"])), { dropped: 2 })
        assert.deepStrictEqual(envelope(yield* Fixture.run(["dlq", "ls", file, "--json"]))["deadLetters"], [])
        const listed = yield* Fixture.run(["plugin", "list"])
        assert.match(listed.stdout, /@etl-stream\/dead-letters-files +deadLetters/)
        const checked = envelope(yield* Fixture.run(["doctor", file, "--json"]))
        assert.include(JSON.stringify(checked), "\"deadLetters\":{\"plugin\":\"@etl-stream/dead-letters-files\"")
      })
  )
})

describe("a pipeline's `deadLetters`", () => {
  ConfigurationFixture.scenario("are checked like every stage", (directory) =>
    Effect.gen(function*() {
      const problem = (plugin: string, options: string) =>
        Effect.map(ConfigurationFixture.problems(directory, named(plugin, options)), ConfigurationFixture.only)
      assert.include(yield* problem("./plugins.ts:lines", "file: a"), {
        path: "pipelines.numbers.deadLetters.plugin",
        remedy: "Name a dead-letter store plugin; `etl-stream plugin list` shows what is installed."
      })
      assert.strictEqual(
        (yield* problem("@etl-stream/dead-letters-files", "directory: a, limit: 0")).path,
        "pipelines.numbers.deadLetters.options.limit"
      )
      assert.include(yield* problem("@etl-stream/dead-letters-file", ""), {
        remedy: "Did you mean `@etl-stream/dead-letters-files`?"
      })
      const loaded = yield* ConfigurationFixture.loaded(
        ConfigurationFixture.load(directory, named("@etl-stream/dead-letters-files", "directory: a"))
      )
      assert.deepStrictEqual(loaded.pipelines[0]?.deadLetters?.options, { directory: "a", limit: 10_000 })
    }))

  ConfigurationFixture.scenario(
    "don't go with a store of the sink's own, and it is said which to remove",
    (directory) =>
      Effect.gen(function*() {
        const text = `apiVersion: 1
state: {plugin: "./plugins.ts:memory"}
pipelines:
  numbers:
    source: {plugin: "./plugins.ts:counter"}
    deadLetters: {plugin: "@etl-stream/dead-letters-files", options: {directory: ./letters}}
    sink:
      plugin: "@etl-stream/sink-snowflake"
      options:
        {account: A, user: U, auth: {password: secret}, role: R, warehouse: W, database: D, schema: S, deadLetters: {table: true}}
`
        const problem = ConfigurationFixture.only(yield* ConfigurationFixture.problems(directory, text))
        assert.include(problem, {
          path: "pipelines.numbers.deadLetters",
          message: "The sink has a dead-letter store of its own."
        })
        assert.match(problem.remedy, /^Remove `deadLetters` from the sink's options, .*; or remove it here/)
      })
  )

  scenario("are warned of when the sink doesn't keep any", (directory) =>
    Effect.gen(function*() {
      const warnings = (text: string) =>
        Effect.map(
          Fixture.run(["validate", Fixture.write(directory, "c.yaml", text), "--json"]),
          (ended) => envelope(ended)["warnings"] as ReadonlyArray<object> // the envelope's list
        )
      const text = named("@etl-stream/dead-letters-files", "directory: ./letters")
      const [warning, ...others] = yield* warnings(text)
      assert.deepStrictEqual(others, [])
      assert.deepInclude(warning, { path: "pipelines.numbers.deadLetters" })
      assert.deepStrictEqual(yield* warnings(Fixture.onePipeline("")), [])
      const snowflake = text.replace(
        /plugin: \.\/plugins\.ts:lines\n +options: .*/,
        "plugin: \"@etl-stream/sink-snowflake\"\n      options: {account: A, user: U, auth: {password: p}, role: R, warehouse: W, database: D, schema: S}"
      )
      assert.include(snowflake, "sink-snowflake")
      assert.deepStrictEqual(yield* warnings(snowflake), [])
    }))

  ConfigurationFixture.scenario(
    "are looked through for plain secrets before they are stored in a database",
    (directory) =>
      Effect.gen(function*() {
        Fixture.write(
          directory,
          "letters.ts",
          `import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
export const plugin = Plugin.deadLetters({
  name: "letters",
  version: "1.0.0",
  summary: "Keeps none",
  config: Schema.Struct({ token: Schema.RedactedFromValue(Schema.String) }),
  make: () => Effect.die("never made")
})`
        )
        const value = { deadLetters: { plugin: "./letters.ts", options: { token: "a plain secret" } } }
        const found = yield* PlainSecrets.of({ table: "pipelines", name: "numbers", value }, directory)
        assert.deepStrictEqual(found.map(({ path }) => path), [["deadLetters", "options", "token"]])
      })
  )
})
