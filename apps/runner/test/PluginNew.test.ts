/**
 * `etl-stream plugin new`: what is written, under which name, and what is refused. That the projects work is the business of `test/Scaffolds.test.ts`.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import { join } from "node:path"
import { kinds, packageName } from "../src/commands/PluginNew.ts"
import { envelope, errorOf, scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

const PackageJson = Schema.Struct({
  name: Schema.String,
  keywords: Schema.Array(Schema.String),
  "etl-stream": Schema.Struct({ apiVersion: Schema.Int, conformance: Schema.String }),
  peerDependencies: Schema.Record(Schema.String, Schema.String),
  devDependencies: Schema.Record(Schema.String, Schema.String)
})
const packageIn = (folder: string) =>
  Schema.decodeUnknownSync(Schema.fromJsonString(PackageJson))(Fs.readFileSync(join(folder, "package.json"), "utf8"))

const filesIn = (folder: string): ReadonlyArray<string> =>
  Fs.readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) =>
    Fs.statSync(join(folder, file)).isFile()
  )

const create = (cwd: string, ...args: ReadonlyArray<string>) =>
  Fixture.run(["plugin", "new", ...args, "--json"], { cwd })

const manifestOf = (path: string) =>
  Schema.decodeUnknownSync(Schema.fromJsonString(
    Schema.Struct({
      version: Schema.String,
      dependencies: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
      devDependencies: Schema.optionalKey(Schema.Record(Schema.String, Schema.String))
    })
  ))(Fs.readFileSync(join(import.meta.dirname, path, "package.json"), "utf8"))

/** The version of a dependency; empty when it isn't one. */
const versionIn = (dependencies: Readonly<Record<string, string>> | undefined, name: string): string =>
  dependencies?.[name] ?? ""

describe("etl-stream plugin new", () => {
  scenario(
    "writes a whole project of each kind, with the package's name wherever it stands",
    (directory) =>
      Effect.gen(function*() {
        for (const kind of kinds) {
          const ended = yield* create(directory, kind, "trial")
          assert.strictEqual(ended.code, 0, ended.stdout)
          const name = `etl-stream-${kind === "deadLetters" ? "dead-letters" : kind}-trial`
          const folder = join(directory, name)
          const made = envelope(ended)
          assert.strictEqual(made["package"], name)
          assert.strictEqual(made["directory"], folder)
          const files = filesIn(folder)
          assert.sameMembers([...files], made["files"] as Array<string>) // part of the envelope
          assert.includeMembers([...files], [
            ".gitignore",
            "README.md",
            "example.yaml",
            "package.json",
            "src/Config.ts",
            "src/conformance.ts",
            "src/index.ts",
            "test/conformance.test.ts",
            "tsconfig.build.json",
            "tsconfig.json"
          ])
          assert.include(Fs.readFileSync(join(folder, "README.md"), "utf8"), name)
          for (const file of files) {
            assert.notInclude(Fs.readFileSync(join(folder, file), "utf8"), "etl-stream-kind-example", file)
          }
          assert.strictEqual(packageIn(folder).name, name)
          assert.deepStrictEqual(packageIn(folder).keywords, ["etl-stream-plugin"])
        }
      })
  )

  scenario(
    "gives the versions that this runner has itself, and the tools that it is built with",
    (directory) =>
      Effect.gen(function*() {
        yield* create(directory, "sink", "trial")
        const { devDependencies, peerDependencies } = packageIn(join(directory, "etl-stream-sink-trial"))
        const runner = manifestOf("..")
        const root = manifestOf("../../..")
        const ours = `^${runner.version}`
        assert.deepStrictEqual(peerDependencies, {
          "@etl-stream/core": ours,
          effect: `^${versionIn(runner.dependencies, "effect")}`
        })
        assert.deepStrictEqual(devDependencies, {
          "@etl-stream/core": ours,
          "@etl-stream/runner": ours,
          "@etl-stream/testkit": ours,
          "@types/node": versionIn(root.devDependencies, "@types/node"),
          effect: versionIn(runner.dependencies, "effect"),
          typescript: versionIn(root.devDependencies, "typescript"),
          vitest: versionIn(root.devDependencies, "vitest")
        })
      })
  )

  scenario("takes a name with its prefix, in a scope, or none", (directory) =>
    Effect.gen(function*() {
      const cases = [
        [["sink", "etl-stream-sink-files"], "etl-stream-sink-files", "etl-stream-sink-files"],
        [["source", "@acme/orders"], "@acme/etl-stream-source-orders", "etl-stream-source-orders"],
        [["state"], "etl-stream-state-example", "etl-stream-state-example"],
        [
          ["deadLetters", "etl-stream-dead-letters-lake"],
          "etl-stream-dead-letters-lake",
          "etl-stream-dead-letters-lake"
        ],
        [["notifier", "bell", "--directory", "plugins/bell"], "etl-stream-notifier-bell", "plugins/bell"]
      ] as const
      for (const [args, name, folder] of cases) {
        const ended = yield* create(directory, ...args)
        assert.strictEqual(ended.code, 0, ended.stdout)
        assert.strictEqual(envelope(ended)["package"], name)
        assert.strictEqual(packageIn(join(directory, folder)).name, name)
      }
    }))

  scenario("tells people what to do next", (directory) =>
    Effect.gen(function*() {
      const ended = yield* Fixture.run(["plugin", "new", "transform", "totals"], { cwd: directory })
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.include(ended.stdout, "  cd etl-stream-transform-totals\n  npm install\n  npm test ")
    }))

  scenario(
    "writes nothing over what is there, and leaves version control alone",
    (directory) =>
      Effect.gen(function*() {
        const folder = join(directory, "etl-stream-sink-trial")
        Fs.mkdirSync(join(folder, ".git"), { recursive: true })
        assert.strictEqual((yield* create(directory, "sink", "trial")).code, 0)
        Fs.writeFileSync(join(folder, "src", "index.ts"), "mine")
        const again = yield* create(directory, "sink", "trial")
        assert.strictEqual(again.code, 2)
        assert.strictEqual(errorOf(again)["message"], "The folder etl-stream-sink-trial is not empty")
        assert.strictEqual(Fs.readFileSync(join(folder, "src", "index.ts"), "utf8"), "mine")

        Fs.writeFileSync(join(directory, "file"), "mine")
        const file = yield* create(directory, "sink", "trial", "--directory", "file")
        assert.strictEqual(file.code, 2)
        assert.strictEqual(errorOf(file)["message"], "file can't be used as a folder")
        assert.strictEqual(Fs.readFileSync(join(directory, "file"), "utf8"), "mine")
      })
  )

  scenario(
    "the example sink of a dead-letter store sets the table aside when it refuses a value and nobody keeps that",
    (directory) =>
      Effect.gen(function*() {
        assert.strictEqual((yield* create(directory, "deadLetters", "trial")).code, 0)
        const folder = join(directory, "etl-stream-dead-letters-trial")
        const file = Fixture.write(
          folder,
          "etl-stream.yaml",
          "apiVersion: 1\npipelines:\n  users: {source: {plugin: ./example/numbers.ts}, sink: {plugin: ./example/picky.ts}}\n"
        )
        const running = yield* Fixture.start(["run", file, "--no-view"])
        const line = yield* running.stderrLine("is in quarantine")
        assert.include(line, "table=demo.users")
        assert.include(line, "give the pipeline a `deadLetters:`")
        running.child.kill("SIGTERM")
        const { stderr, stdout } = yield* running.ended
        assert.include(stdout, "put demo.users 1 User1@Example.com")
        assert.notInclude(stdout, "(a dead letter)")
        assert.notInclude(stdout + stderr, "User2")
      })
  )

  it.effect("refuses names that no package can have, and those of another kind", () =>
    Effect.gen(function*() {
      const refused = [
        ["My Files", "`my-files`"],
        ["../evil", "`evil`"],
        ["a/b", "`a-b`"],
        ["@/x", "`@example/x`"],
        ["", "`example`"],
        ["x".repeat(300), "shorter"],
        ["etl-stream-source-x", "`etl-stream plugin new source`"]
      ] as const
      for (const [name, hint] of refused) {
        const { code, exitCode, hint: said } = yield* Effect.flip(packageName("sink", name))
        assert.deepStrictEqual([code, exitCode], ["Usage", 2], name)
        assert.include(said, hint)
      }
    }))
})
