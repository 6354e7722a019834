import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { join } from "node:path"
import { envelope, errorOf, scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

describe("the command line", () => {
  scenario("tells its version, also as JSON", () =>
    Effect.gen(function*() {
      assert.match((yield* Fixture.run(["--version"])).stdout, /^\d+\.\d+\.\d+\n$/)
      assert.include(envelope(yield* Fixture.run(["--version", "--json"])), { ok: true, command: "version" })
    }))

  scenario(
    "wrong usage exits with 2, says what is meant, and shows no stack trace",
    (directory) =>
      Effect.gen(function*() {
        for (
          const [args, message] of [
            [["rnu"], "Unknown subcommand \"rnu\""],
            [["run"], "There is no configuration to run"],
            [["validate", "x.yaml", "--ofline"], "--ofline"],
            [["run", "x.yaml", "--drain-timeout", "soon"], "--drain-timeout"],
            [["validate", join(directory, "absent.yaml")], "does not exist"],
            [["run", directory], "is a folder"]
          ] as const
        ) {
          const text = yield* Fixture.run(args)
          assert.strictEqual(text.code, 2, args.join(" "))
          assert.strictEqual(text.stdout, "")
          assert.include(text.stderr, message)
          assert.notMatch(text.stderr, /\n\s+at /)
        }
        const json = yield* Fixture.run(["run", "--json"])
        assert.deepStrictEqual([json.code, json.stderr, errorOf(json)["code"]], [2, "", "Usage"])
      })
  )

  scenario("help goes to standard output and exits with 0", () =>
    Effect.gen(function*() {
      const help = yield* Fixture.run(["run", "--help"])
      assert.strictEqual(help.code, 0)
      assert.include(help.stdout, "--drain-timeout")
    }))
})

describe("validate", () => {
  scenario("exits with 0, or with 2 and every problem as text and as JSON", (directory) =>
    Effect.gen(function*() {
      const good = Fixture.write(directory, "good.yaml", Fixture.onePipeline(""))
      const valid = yield* Fixture.run(["validate", good])
      assert.deepStrictEqual([valid.code, valid.stderr], [0, ""])
      assert.include(valid.stdout, "is valid: 1 pipeline (numbers)")
      assert.deepInclude(envelope(yield* Fixture.run(["validate", good, "--json"])), { ok: true, command: "validate" })
      assert.isFalse(Fs.existsSync(join(directory, "out.jsonl")))

      const bad = Fixture.write(directory, "bad.yaml", Fixture.onePipeline("rowz: 5, mode: \"${env:MODE}\""))
      const text = yield* Fixture.run(["validate", bad])
      assert.deepStrictEqual([text.code, text.stdout], [2, ""])
      assert.include(
        text.stderr,
        `${bad}:7:17  pipelines.numbers.source.options.rowz\n  Unknown key \`rowz\`.\n  -> Did you mean \`rows\`?`
      )
      assert.include(text.stderr, "MODE is not set")
      const json = yield* Fixture.run(["validate", bad, "--json"])
      assert.strictEqual(json.code, 2)
      const error = errorOf(json)
      assert.strictEqual(error["code"], "ConfigurationInvalid")
      assert.deepStrictEqual((error["problems"] as ReadonlyArray<unknown>)[0], { // the envelope's list
        path: "pipelines.numbers.source.options.rowz",
        line: 7,
        column: 17,
        message: "Unknown key `rowz`.",
        remedy: "Did you mean `rows`?"
      })
      const offline = yield* Fixture.run(["validate", bad, "--offline", "--json"])
      assert.strictEqual((errorOf(offline)["problems"] as ReadonlyArray<unknown>).length, 1) // the envelope's list
    }))
})

describe("plugin list", () => {
  scenario("shows built-in plugins and those that the project depends on", (directory) =>
    Effect.gen(function*() {
      for (
        const [name, keywords, source] of [
          ["good-plugin", ["etl-stream-plugin"], "export { memory as plugin } from \"../../plugins.ts\""],
          ["broken-plugin", ["etl-stream-plugin"], "throw new Error(\"broken inside\")"],
          ["other-package", [], "export {}"]
        ] as const
      ) {
        const folder = join(directory, "node_modules", name)
        Fs.mkdirSync(folder, { recursive: true })
        Fs.writeFileSync(
          join(folder, "package.json"),
          JSON.stringify({ name, keywords, type: "module", exports: "./index.js" })
        )
        Fs.writeFileSync(join(folder, "index.js"), source)
      }
      Fs.writeFileSync(
        join(directory, "package.json"),
        JSON.stringify({
          type: "module",
          dependencies: { "good-plugin": "1", "other-package": "1" },
          devDependencies: { "broken-plugin": "1" }
        })
      )
      const ended = yield* Fixture.run(["plugin", "list", "--json"], { cwd: directory })
      assert.strictEqual(ended.code, 0, ended.stderr)
      const plugins = envelope(ended)["plugins"] as ReadonlyArray<Record<string, unknown>> // the envelope's list
      const named = (name: string) => plugins.find((plugin) => plugin["name"] === name)
      assert.include(named("@etl-stream/state-sqlite"), { kind: "state", apiVersion: 1, builtIn: true })
      assert.include(named("@etl-stream/notifiers:slack"), { kind: "notifier", version: "0.1.0", builtIn: true })
      assert.isUndefined(named("@etl-stream/notifiers"))
      assert.include(named("good-plugin"), { kind: "state", version: "1.2.3", summary: "Forgets", builtIn: false })
      assert.include(String(named("broken-plugin")?.["problem"]), "broken inside")
      assert.isUndefined(named("other-package"))
      const text = yield* Fixture.run(["plugin", "list"], { cwd: directory })
      assert.match(text.stdout, /good-plugin +state +1\.2\.3 +1 +stable +project +Forgets/)
      assert.match(text.stdout, /\n  warning: .*good-plugin.package\.json has no manifest/)
      assert.match(text.stdout, /broken-plugin( +-)+ +project\n  .*broken-plugin.index\.js\n  problem: .*broken inside/)
    }))

  scenario(
    "shows those that a configuration names, with the places where it does, whatever is wrong with it",
    (directory) =>
      Effect.gen(function*() {
        const file = Fixture.write(
          directory,
          "etl.yaml",
          `${Fixture.onePipeline("rows: wrong").replace(/^state: .*\n/m, "")}  more:
    source: {plugin: "./plugins.ts:lines", options: {plugin: not-a-plugin}}
    transforms: [{plugin: "\${env:TRANSFORM}"}]
    sink: {plugin: "./plugins.ts:lines"}
`
        )
        const ended = yield* Fixture.run(["plugin", "list", "--file", file, "--json"], {
          env: { TRANSFORM: "not-there" }
        })
        assert.strictEqual(ended.code, 0, ended.stderr)
        const plugins = envelope(ended)["plugins"] as ReadonlyArray<Record<string, unknown>> // the envelope's list
        assert.deepStrictEqual(plugins.map(({ kind, name, origin, uses }) => [name, kind, origin, uses]), [
          ["@etl-stream/state-sqlite", "state", "built-in", ["state"]],
          ["./plugins.ts:counter", "source", "file", ["pipelines.numbers.source"]],
          ["./plugins.ts:lines", "sink", "file", ["pipelines.numbers.sink", "pipelines.more.sink"]],
          ["./plugins.ts:lines", undefined, "file", ["pipelines.more.source"]],
          ["not-there", undefined, null, ["pipelines.more.transforms[0]"]]
        ])
        assert.include(String(plugins[3]?.["problem"]), "is a sink; a source is needed here")
        assert.strictEqual(plugins[3]?.["path"], join(directory, "plugins.ts"))
      })
  )
})
