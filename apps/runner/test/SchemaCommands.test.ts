import { assert, describe } from "@effect/vitest"
import { Ajv } from "ajv"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { join } from "node:path"
import * as Yaml from "yaml"
import { envelope, errorOf, scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

/** The plugin and the configuration of the page about options, and what it says that `validate` prints. */
const page = Fs.readFileSync(join(import.meta.dirname, "../../../docs/plugins/options.md"), "utf8")
const fence = (language: string): string =>
  new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, "m").exec(page)?.[1] ?? ""

/** A configuration with the page's plugin, in `directory`. */
const withChat = (directory: string): string => {
  Fixture.write(directory, "chat.ts", fence("ts"))
  return Fixture.write(directory, "etl.yaml", `${Fixture.onePipeline("rows: 2, changes: 1")}${fence("yaml")}`)
}

const environment = { CHAT_TOKEN: "a-secret-of-the-chat" }

const compile = (schema: unknown) =>
  new Ajv({ strict: false, validateFormats: false }).compile(
    // What the command printed.
    schema as object
  )

describe("deprecated options", () => {
  scenario(
    "validate warns with path, line and what to do, as the page about options says",
    (directory) =>
      Effect.gen(function*() {
        const file = withChat(directory)
        const text = yield* Fixture.run(["validate", file], { env: environment })
        assert.deepStrictEqual([text.code, text.stderr], [0, ""])
        const shown = fence("text").trim()
        assert.include(shown, "maxAttempts")
        assert.include(text.stdout, `${shown.replace("etl.yaml", file)}\n${file} is valid: 1 pipeline (numbers)`)
        const json = envelope(yield* Fixture.run(["validate", file, "--json"], { env: environment }))
        assert.deepInclude(json, {
          ok: true,
          warnings: [{
            path: "notifiers.chat.options.maxAttempts",
            line: 18,
            column: 7,
            message: "`maxAttempts` is deprecated.",
            remedy: "Use `retry.attempts`."
          }]
        })
        // Without the variable too.
        const offline = envelope(yield* Fixture.run(["validate", file, "--offline", "--json"]))
        assert.deepStrictEqual(offline["warnings"], json["warnings"])
        const clean = Fixture.write(directory, "clean.yaml", Fixture.onePipeline(""))
        assert.deepInclude(envelope(yield* Fixture.run(["validate", clean, "--json"])), { warnings: [] })
      })
  )

  scenario(
    "run logs them once when it starts and has them in its result; doctor shows them",
    (directory) =>
      Effect.gen(function*() {
        const file = withChat(directory)
        const ended = yield* Fixture.run(["run", file, "--log-format", "logfmt"], { env: environment })
        assert.strictEqual(ended.code, 0, ended.stderr)
        const told = ended.stderr.split("\n").filter((line) => line.includes("`maxAttempts` is deprecated"))
        assert.strictEqual(told.length, 1, ended.stderr)
        for (const part of ["notifiers.chat.options.maxAttempts", "line=18", "Use `retry.attempts`."]) {
          assert.include(told[0], part)
        }

        const json = envelope(yield* Fixture.run(["run", file, "--json"], { env: environment }))
        assert.strictEqual((json["warnings"] as ReadonlyArray<unknown>).length, 1) // the envelope's list
        const doctor = yield* Fixture.run(["doctor", file], { env: environment })
        assert.include(doctor.stdout, "`maxAttempts` is deprecated.\n  -> Use `retry.attempts`.")
        const examined = envelope(yield* Fixture.run(["doctor", file, "--json"], { env: environment }))
        assert.strictEqual((examined["configurationWarnings"] as ReadonlyArray<unknown>).length, 1) // the envelope's list
      })
  )
})

describe("schema", () => {
  scenario("knows the built-in plugins, and with a file its local ones", (directory) =>
    Effect.gen(function*() {
      const file = withChat(directory)
      const document: unknown = Yaml.parse(Fs.readFileSync(file, "utf8"))
      const wrong: unknown = Yaml.parse(Fs.readFileSync(file, "utf8").replace("keepBytes: 1GiB", "keepBytes: much"))
      const alone = yield* Fixture.run(["schema"], { cwd: directory })
      assert.strictEqual(alone.code, 0)
      const general = compile(JSON.parse(alone.stdout))
      // Of a plugin that it doesn't know, it takes any options.
      assert.deepStrictEqual([general(document), general(wrong)], [true, true])

      const printed = yield* Fixture.run(["schema", "--file", file], { cwd: directory })
      const own = compile(JSON.parse(printed.stdout))
      assert.deepStrictEqual([own(document), own(wrong)], [true, false])

      const named = yield* Fixture.run(["schema", "--plugin", "./chat.ts"], { cwd: directory })
      assert.isFalse(compile(JSON.parse(named.stdout))(wrong))
    }))

  scenario("writes a file and says how an editor finds it", (directory) =>
    Effect.gen(function*() {
      const ended = yield* Fixture.run(["schema", "--output", ".etl-stream/schema.json"], { cwd: directory })
      assert.strictEqual(ended.code, 0)
      assert.include(ended.stdout, "# yaml-language-server: $schema=.etl-stream/schema.json")
      const written: unknown = JSON.parse(Fs.readFileSync(join(directory, ".etl-stream/schema.json"), "utf8"))
      assert.deepInclude(written, { $schema: "http://json-schema.org/draft-07/schema#" })
      const json = envelope(yield* Fixture.run(["schema", "--json"], { cwd: directory }))
      assert.deepStrictEqual([json["ok"], json["schema"]], [true, written])
      assert.include(json["plugins"], "@etl-stream/notifiers:slack")
      // A file is no folder.
      const nowhere = yield* Fixture.run(["schema", "--output", "plugins.ts/schema.json", "--json"], { cwd: directory })
      assert.deepStrictEqual([nowhere.code, errorOf(nowhere)["code"]], [3, "Forbidden"])
    }))

  scenario(
    "leaves out a plugin that a file names in vain, and refuses one that is asked for",
    (directory) =>
      Effect.gen(function*() {
        const file = Fixture.write(directory, "etl.yaml", Fixture.onePipeline("").replace("counter", "counterr"))
        const printed = yield* Fixture.run(["schema", "--file", file, "--json"], { cwd: directory })
        assert.strictEqual(printed.code, 0)
        assert.include(printed.stderr, "the options of ./plugins.ts:counterr are not in the schema")
        assert.deepInclude(envelope(printed)["missing"], {
          plugin: "./plugins.ts:counterr",
          problem: "The module ./plugins.ts has no plugin `counterr`. Did you mean `./plugins.ts:counter`?"
        })
        const asked = yield* Fixture.run(["schema", "--plugin", "./absent.ts", "--json"], { cwd: directory })
        assert.deepStrictEqual([asked.code, errorOf(asked)["code"]], [2, "Usage"])
      })
  )
})

describe("plugin docs", () => {
  scenario("prints a local plugin's reference as Markdown and as JSON", (directory) =>
    Effect.gen(function*() {
      withChat(directory)
      const text = yield* Fixture.run(["plugin", "docs", "./chat.ts"], { cwd: directory })
      assert.deepStrictEqual([text.code, text.stderr], [0, ""])
      for (
        const part of [
          "# `./chat.ts`\n\nSends alerts to the chat of the house.\n\nA notifier, version 1.0.0; beta: young, but its options stay.",
          "| `token` | text | required | *Secret.* What the service knows this process by |",
          "| `keepBytes` | a size | `10MiB` | Disk that they may take |",
          "| `retry.every` | a duration | `5 seconds` |",
          "**Deprecated.** Use `retry.attempts`.",
          "```yaml\nnotifiers:\n  chatts:\n    plugin: ./chat.ts\n    options:\n      token: ${env:CHAT_TOKEN}\n```"
        ]
      ) assert.include(text.stdout, part)

      const json = yield* Fixture.run(["plugin", "docs", "./chat.ts", "--format", "json"], { cwd: directory })
      const reference: unknown = JSON.parse(json.stdout)
      assert.deepInclude(reference, { name: "./chat.ts", kind: "notifier", stability: "beta" })
      assert.deepStrictEqual(
        envelope(yield* Fixture.run(["plugin", "docs", "./chat.ts", "--json"], { cwd: directory }))["plugin"],
        reference
      )
    }))

  scenario(
    "prints a built-in plugin's, and says what is there instead of one that isn't",
    (directory) =>
      Effect.gen(function*() {
        const slack = yield* Fixture.run(["plugin", "docs", "@etl-stream/notifiers:slack"], { cwd: directory })
        assert.include(slack.stdout, "# `@etl-stream/notifiers:slack`")
        const several = yield* Fixture.run(["plugin", "docs", "@etl-stream/notifiers"], { cwd: directory })
        assert.strictEqual(several.code, 2)
        assert.include(several.stderr, "@etl-stream/notifiers:slack")
      })
  )
})

describe("validate", () => {
  scenario("says what a wrong or missing option means, with an example", (directory) =>
    Effect.gen(function*() {
      Fixture.write(directory, "chat.ts", fence("ts"))
      const file = Fixture.write(
        directory,
        "etl.yaml",
        `${Fixture.onePipeline("")}notifiers: {chat: {plugin: ./chat.ts, options: {channel: 5}}}\n`
      )
      const { stderr } = yield* Fixture.run(["validate", file])
      assert.include(
        stderr,
        "Expected text, got a number.\n  -> Correct `channel`. Where messages go; the token's own channel when absent. For example: `\"#alerts\"`."
      )
      assert.include(stderr, "Add `token`: text. What the service knows this process by.")
    }))

  scenario("names the stage whose plugin's schema throws, without the value", (directory) =>
    Effect.gen(function*() {
      Fixture.write(
        directory,
        "chat.ts",
        `import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
const refuse = Schema.makeFilter((text: string) => { throw new RangeError("odd: " + text) })
export const plugin = Plugin.notifier({
  name: "chat", version: "1.0.0", summary: "Throws",
  config: Schema.Struct({ channel: Schema.String.check(refuse) }),
  make: () => Effect.never
})
`
      )
      const file = Fixture.write(
        directory,
        "etl.yaml",
        `${Fixture.onePipeline("")}notifiers: {chat: {plugin: ./chat.ts, options: {channel: s3cr3t-value}}}\n`
      )
      const ended = yield* Fixture.run(["validate", file, "--log-level", "debug"])
      assert.strictEqual(ended.code, 2, ended.stderr)
      assert.include(
        ended.stderr,
        "notifiers.chat.options\n  The plugin can't check these options: its schema throws (RangeError)"
      )
      assert.notInclude(ended.stderr, "s3cr3t-value")
    }))
})
