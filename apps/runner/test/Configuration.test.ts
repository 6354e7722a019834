import { assert, describe, it } from "@effect/vitest"
import { test } from "@etl-stream/runner/commands/Test"
import * as Configuration from "@etl-stream/runner/Configuration"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { join } from "node:path"
import { load, loaded, only, problems, scenario, sourceOptions } from "./ConfigurationFixture.ts"
import * as Fixture from "./Fixture.ts"

describe("a valid configuration", () => {
  scenario("gets defaults, sizes, durations and its plugins", (directory) =>
    Effect.gen(function*() {
      const configuration = yield* loaded(load(directory, Fixture.onePipeline("rows: 7, password: hunter22")))
      assert.strictEqual(configuration.memory, 32 * 1024 * 1024)
      assert.strictEqual(configuration.directory, directory)
      const [pipeline] = configuration.pipelines
      if (pipeline === undefined) throw new Error("There is no pipeline")
      assert.strictEqual(pipeline.source.plugin.name, "counter")
      assert.strictEqual(pipeline.sink.plugin.name, "lines")
      assert.strictEqual(pipeline.batch.rows, 50_000)
      assert.strictEqual(pipeline.batch.bytes, 8 * 1024 * 1024)
      assert.strictEqual(Duration.toMillis(pipeline.batch.every), 5)
      assert.strictEqual(sourceOptions(configuration)["rows"], 7)
      assert.strictEqual(configuration.redact("the password is hunter22"), "the password is <redacted>")
    }))

  scenario(
    "runs its pipelines, watches over them and serves no API unless it says otherwise",
    (directory) =>
      Effect.gen(function*() {
        const plain = yield* loaded(load(directory, Fixture.onePipeline("")))
        assert.strictEqual(plain.http, undefined)
        assert.deepInclude(plain.pipelines[0], {
          status: "running",
          watchdog: { after: Duration.minutes(10), restart: true }
        })
        const text = Fixture.onePipeline("")
          .replace(
            "pipelines:\n  numbers:\n",
            "http: {}\npipelines:\n  numbers:\n    status: paused\n    watchdog: {after: 1 hour, restart: false}\n"
          )
        const other = yield* loaded(load(directory, text))
        assert.deepStrictEqual(other.http, { host: "127.0.0.1", port: 8086, hosts: [], tapValues: false })
        assert.deepInclude(other.pipelines[0], {
          status: "paused",
          watchdog: { after: Duration.hours(1), restart: false }
        })
      })
  )

  scenario("hides the token of the API as every secret", (directory) =>
    Effect.gen(function*() {
      const token = "a-token-of-more-than-24-characters"
      const { redact } = yield* loaded(load(directory, `http: {token: "${token}"}\n${Fixture.onePipeline("")}`))
      assert.strictEqual(redact(`it is ${token}`), "it is <redacted>")
    }))

  scenario("may listen elsewhere than on loopback only with a token", (directory) =>
    Effect.gen(function*() {
      const http = (section: string) => `http: {${section}}\n${Fixture.onePipeline("")}`
      for (const host of ["0.0.0.0", "'::'", "10.1.2.3", "etl.example", "127.evil.example"]) {
        assert.strictEqual(only(yield* problems(directory, http(`host: ${host}`))).path, "http.host", host)
        yield* loaded(load(directory, http(`host: ${host}, token: a-token-of-more-than-24-characters`)))
      }
      for (const host of ["127.0.0.1", "127.1.2.3", "'::1'", "localhost"]) {
        yield* loaded(load(directory, http(`host: ${host}`)))
      }
      for (const token of ["short", "'spaces in it, though long enough'", "ümlauts-are-not-ascii-letters"]) {
        assert.strictEqual(only(yield* problems(directory, http(`token: ${token}`))).path, "http.token", token)
      }
    }))

  scenario("keeps its state in a SQLite file when it names no store", (directory) =>
    Effect.gen(function*() {
      const configuration = yield* loaded(load(directory, Fixture.onePipeline("").replace(/^state: .*\n/m, "")))
      assert.strictEqual(configuration.state.plugin.name, "@etl-stream/state-sqlite")
      assert.deepStrictEqual(configuration.state.options, { file: "./.etl-stream/state.sqlite" })
    }))

  scenario("may use anchors and aliases", (directory) =>
    Effect.gen(function*() {
      const text = `apiVersion: 1
state: {plugin: "./plugins.ts:memory"}
pipelines:
  a: &pipeline
    source: {plugin: "./plugins.ts:counter"}
    sink: {plugin: "./plugins.ts:lines", options: {file: x}}
  b: *pipeline
`
      assert.deepStrictEqual((yield* load(directory, text))?.pipelines.map(({ name }) => name), ["a", "b"])
      const found = yield* problems(directory, text.replace("file: x", "file: 5"))
      assert.deepStrictEqual(found.map(({ line, path }) => [path, line]), [
        ["pipelines.a.sink.options.file", 6],
        ["pipelines.b.sink.options.file", 6]
      ])
    }))
})

describe("problems of the YAML", () => {
  scenario("a syntax error has its place", (directory) =>
    Effect.gen(function*() {
      const problem = only(yield* problems(directory, "apiVersion: 1\npipelines: {a: [1, 2\n"))
      assert.strictEqual(problem.line, 3)
      assert.strictEqual(problem.path, "")
    }))

  scenario("a key that appears twice is refused, not overwritten", (directory) =>
    Effect.gen(function*() {
      const problem = only(yield* problems(directory, "apiVersion: 1\nmemory: 1MiB\nmemory: 2MiB\n"))
      assert.deepInclude(problem, {
        line: 3,
        column: 1,
        message: "The key appears twice in this mapping.",
        remedy: "Keep one of the two keys."
      })
    }))

  scenario("tabs, tags, unknown aliases and a second document are refused", (directory) =>
    Effect.gen(function*() {
      assert.strictEqual((yield* problems(directory, "apiVersion: 1\npipelines:\n\ta: 1\n"))[0]?.line, 3)
      assert.include((yield* problems(directory, "apiVersion: !!js/function 1\n"))[0]?.remedy ?? "", "Remove the tag")
      assert.include((yield* problems(directory, "apiVersion: *nowhere\n"))[0]?.remedy ?? "", "anchor")
      assert.include(
        (yield* problems(directory, "apiVersion: 1\n---\napiVersion: 1\n"))[0]?.message ?? "",
        "more than one"
      )
    }))

  scenario("aliases that would explode are refused", (directory) =>
    Effect.gen(function*() {
      const levels = Array.from({ length: 9 }, (_, n) =>
        `l${n + 1}: &l${n + 1} [${Array.from({ length: 9 }, () => `*l${n}`).join(", ")}]`)
      const problem = only(yield* problems(directory, `l0: &l0 [x]\n${levels.join("\n")}\n`))
      assert.include(problem.remedy, "fewer aliases")
    }))

  scenario("an empty file, a list and a scalar are no configurations", (directory) =>
    Effect.gen(function*() {
      for (const text of ["", "# nothing\n", "- 1\n", "hello\n"]) {
        const problem = only(yield* problems(directory, text))
        assert.include(problem.message, "Expected a mapping")
      }
    }))
})

describe("problems of the configuration's frame", () => {
  scenario("all are found at once, in the order of the file", (directory) =>
    Effect.gen(function*() {
      const found = yield* problems(
        directory,
        `apiVersion: 2
memry: 1GiB
memory: lots
state: {plugin: "./plugins.ts:memory"}
pipelines:
  9lives: {source: {plugin: ./plugins.ts:counter}}
  shop:
    source:
      plugin: ./plugins.ts:counter
      options: {rows: many, chnges: 3}
    sink:
      plugin: ./plugins.ts:lines
      options: {file: x}
      batch: {bytes: 12XB, every: 5s}
    transform: []
`
      )
      assert.deepStrictEqual(found.map(({ column, line, path }) => `${path} ${line}:${column}`), [
        "apiVersion 1:13",
        "memry 2:1",
        "memory 3:9",
        `pipelines["9lives"] 6:3`,
        "pipelines.shop.source.options.rows 10:23",
        "pipelines.shop.source.options.chnges 10:29",
        "pipelines.shop.sink.batch.bytes 14:22",
        "pipelines.shop.sink.batch.every 14:35",
        "pipelines.shop.transform 15:5"
      ])
      const at = (path: string) => found.find((problem) => problem.path === path)
      assert.strictEqual(at("apiVersion")?.message, "Expected 1.")
      assert.strictEqual(at("memry")?.remedy, "Did you mean `memory`?")
      assert.include(at("memory")?.message, "16MiB")
      assert.strictEqual(at("pipelines.shop.source.options.rows")?.message, "Expected a number, got text.")
      assert.include(at("pipelines.shop.source.options.rows")?.remedy, "Rows of the copy.")
      assert.strictEqual(at("pipelines.shop.source.options.chnges")?.remedy, "Did you mean `changes`?")
      assert.include(at("pipelines.shop.sink.batch.every")?.remedy, "5 seconds")
      assert.strictEqual(at("pipelines.shop.transform")?.remedy, "Did you mean `transforms`?")
    }))

  scenario("missing keys are named with what they mean", (directory) =>
    Effect.gen(function*() {
      const found = yield* problems(
        directory,
        "apiVersion: 1\nstate: {plugin: \"./plugins.ts:memory\"}\npipelines:\n  shop:\n    source: {}\n"
      )
      assert.deepStrictEqual(found.map(({ line, message, path }) => [path, line, message]), [
        ["pipelines.shop.sink", 4, "The key `sink` is missing."],
        ["pipelines.shop.source.plugin", 5, "The key `plugin` is missing."]
      ])
      assert.include(found[1]?.remedy, "Name of a plugin package")
    }))

  scenario("no pipelines at all is a problem", (directory) =>
    Effect.gen(function*() {
      assert.include(
        only(yield* problems(directory, "apiVersion: 1\nstate: {plugin: \"./plugins.ts:memory\"}\npipelines: {}\n"))
          .message,
        "at least one pipeline"
      )
    }))
})

describe("problems of plugins", () => {
  const refuses = (plugin: string, message: RegExp, remedy: RegExp) =>
    scenario(`${plugin} is refused`, (directory) =>
      Effect.gen(function*() {
        Fs.mkdirSync(join(directory, "folder"))
        Fixture.write(directory, "nothing.ts", "export const plugin = {}\n")
        Fixture.write(directory, "throws.ts", "throw new Error('broken inside')\n")
        Fixture.write(directory, "imports.ts", "import \"not-installed-anywhere\"\n")
        Fixture.write(directory, "syntax.ts", "export const = 1\n")
        const problem = only(
          yield* problems(directory, Fixture.onePipeline("").replace("./plugins.ts:counter", plugin))
        )
        assert.strictEqual(problem.path, "pipelines.numbers.source.plugin")
        assert.strictEqual(problem.line, 6)
        assert.strictEqual(problem.column, 15)
        assert.match(problem.message, message)
        assert.match(problem.remedy, remedy)
      }))

  refuses("\"@etl-stream/source-postgers\"", /not installed/, /Did you mean `@etl-stream\/source-postgres`/)
  refuses("some-plugin-nobody-has", /some-plugin-nobody-has is not installed/, /npm install some-plugin-nobody-has/)
  refuses("./missing.ts", /no plugin file/, /relative to the configuration/)
  refuses("./folder", /folder/, /file/)
  refuses("./nothing.ts", /not an etl-stream plugin/, /exports `plugin`/)
  refuses("./throws.ts", /broken inside/, /throws/)
  refuses("./imports.ts", /can't be loaded/, /imports is missing/)
  refuses("./syntax.ts", /can't be loaded/, /correct it/)
  refuses("./plugins.ts", /several plugins/, /`\.\/plugins\.ts:counter`/)
  refuses("./plugins.ts:countr", /no plugin `countr`/, /Did you mean `\.\/plugins\.ts:counter`/)
  refuses("./plugins.ts:lines", /is a sink; a source is needed/, /plugin list/)
  refuses("./plugins.ts:ancient", /API version 0; this etl-stream has version 1/, /newer version of the plugin/)
  refuses("node:fs", /part of Node|not an etl-stream plugin/, /plugin/)
  refuses("Not A Package", /not installed|not a package/, /.+/)
})

describe("options of plugins", () => {
  const wrong = (options: string, path: string, message: string, remedy: string) =>
    scenario(`{${options}} is refused`, (directory) =>
      Effect.gen(function*() {
        const problem = only(yield* problems(directory, Fixture.onePipeline(options)))
        assert.strictEqual(problem.path, `pipelines.numbers.source.options.${path}`)
        assert.strictEqual(problem.line, 7)
        assert.include(problem.message, message)
        assert.include(problem.remedy, remedy)
      }))

  wrong("mode: stedy", "mode", "Expected \"steady\" or \"bursts\"", "Did you mean `steady`?")
  wrong("mode: 5", "mode", "got a number", "Correct")
  wrong("rows: 5000", "rows", "Expected a value between 0 and 1000", "Rows of the copy.")
  wrong("rows: 1.5", "rows", "Expected", "Rows of the copy.")
  wrong("rows: [1]", "rows", "Expected a number, got a list", "Rows of the copy.")
  wrong("rows: null", "rows", "got nothing", "Rows of the copy.")
  wrong("fails: {at: make}", "fails.reason", "The key `reason` is missing", "Add `reason`")
  wrong("fails: {at: make, reason: Lots}", "fails.reason", "Expected \"Unreachable\"", "Did you mean `Lost`?")
  wrong("ends: \"yes\"", "ends", "Expected true or false, got text", "Correct")
  wrong("every: soon", "every", "Expected a duration", "5 seconds")

  scenario("a wrong secret is never quoted", (directory) =>
    Effect.gen(function*() {
      const found = yield* problems(
        directory,
        Fixture.onePipeline("password: [\"s3cr3t-value\"], secret: {a: s3cr3t-value}, rows: s3cr3t-value")
      )
      assert.strictEqual(found.length, 3)
      assert.notInclude(JSON.stringify(found), "s3cr3t-value")
    }))
})

describe("the examples", () => {
  const examples = join(import.meta.dirname, "..", "..", "..", "examples")
  for (const name of Fs.readdirSync(examples).filter((file) => /^[^.]+\.yaml$/.test(file))) {
    it.live(`${name} is valid`, () =>
      Effect.gen(function*() {
        const environment = {
          DATABASE_URL: "postgresql://me:secret@localhost:5432/shop",
          SNOWFLAKE_ACCOUNT: "MYORG-ACCT",
          HASH_KEY: "a key of thirty-two characters..."
        }
        const configuration = yield* loaded(Configuration.load(join(examples, name), { environment, offline: false }))
        assert.strictEqual(configuration.pipelines.length, 1)
        assert.strictEqual(configuration.redact("secret"), "<redacted>")
      }))
  }

  it.live("the tests of transforms.yaml pass", () =>
    Effect.gen(function*() {
      const { exitCode, text } = yield* test({ file: join(examples, "transforms.yaml"), only: undefined })
      assert.strictEqual(exitCode, 0, text)
    }))
})
