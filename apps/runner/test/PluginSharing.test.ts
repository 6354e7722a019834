import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import { stripTypeScriptTypes } from "node:module"
import { join } from "node:path"
import { envelope } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"
import * as Project from "./PluginProject.ts"

const scenario = (name: string, test: (directory: string) => Effect.Effect<void, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.flatMap(Project.folder, test))

/** A module that uses Arrow, too. */
const arrow = "import * as Arrow from \"apache-arrow\"\nif (new Arrow.Table().numRows !== 0) throw new Error()\n"

type Listed = Record<string, unknown>

const listed = (ended: Fixture.Ended): ReadonlyArray<Listed> => {
  assert.strictEqual(ended.code, 0, ended.stderr + ended.stdout)
  return envelope(ended)["plugins"] as ReadonlyArray<Listed> // the envelope's list
}

/** What `plugin list` says of the plugins that a configuration with the state store `plugin` names. */
const storeIn = Effect.fnUntraced(function*(directory: string, plugin: string) {
  const file = Fixture.write(directory, "etl.yaml", `apiVersion: 1\nstate: {plugin: "${plugin}"}\npipelines: {}\n`)
  const [found] = listed(yield* Fixture.run(["plugin", "list", "--file", file, "--json"], { cwd: directory }))
  return found ?? {}
})

/** Asserts that the plugin loads, with the runner's copies, from a module at `path`. */
const loads = Effect.fnUntraced(function*(directory: string, plugin: string, path: string) {
  const found = yield* storeIn(directory, plugin)
  assert.isUndefined(found["problem"], String(found["problem"]))
  assert.include(found, { kind: "state", version: "1.2.3", path, summary: "Forgets" })
  return found
})

describe("a plugin gets the runner's copies of what it shares with it", () => {
  scenario("as an ES module in the project's node_modules", (directory) =>
    Effect.gen(function*() {
      Project.installPoison(directory)
      const folder = Project.install(directory, "some-store", {}, { "index.js": Project.store("some-store", arrow) })
      const found = yield* loads(directory, "some-store", join(folder, "index.js"))
      assert.deepStrictEqual([found["origin"], found["warnings"], found["package"]], ["project", [], "some-store"])
    }))

  scenario("as a CommonJS module", (directory) =>
    Effect.gen(function*() {
      Project.installPoison(directory)
      const folder = Project.install(directory, "common-store", {
        type: "commonjs",
        exports: undefined,
        main: "./main.js"
      }, {
        "main.js": Project.commonStore("common-store", arrow)
      })
      yield* loads(directory, "common-store", join(folder, "main.js"))
    }))

  scenario("as a package of both kinds, of which the ES module is taken", (directory) =>
    Effect.gen(function*() {
      Project.installPoison(directory)
      const folder = Project.install(
        directory,
        "dual-store",
        { exports: { ".": { require: "./index.cjs", import: "./index.js" } } },
        { "index.js": Project.store("dual-store", arrow), "index.cjs": "throw new Error(\"required\")" }
      )
      yield* loads(directory, "dual-store", join(folder, "index.js"))
    }))

  scenario("in a layout where a package sees only what it asks for", (directory) =>
    Effect.gen(function*() {
      const virtual = join(directory, "node_modules", ".pnpm", "some-store@1.2.3")
      Project.installPoison(virtual)
      const folder = Project.install(virtual, "some-store", {}, { "index.js": Project.store("some-store", arrow) })
      Fs.symlinkSync(folder, join(directory, "node_modules", "some-store"))
      yield* loads(directory, "some-store", join(folder, "index.js"))
    }))

  scenario("linked from another folder, as sources in TypeScript", (directory) =>
    Effect.gen(function*() {
      const elsewhere = yield* Project.folder
      Project.installPoison(elsewhere)
      const source = Project.write(join(elsewhere, "packages", "linked"), {
        "package.json": Project.manifest("linked-store", { exports: "./src/index.ts" }),
        "src/index.ts": `${
          Project.store("linked-store", arrow + "import { type Name, name } from \"./name.ts\"")
        }\nexport const label: Name = name\n`,
        "src/name.ts": "export type Name = string\nexport const name: Name = \"linked\"\n"
      })
      Fs.mkdirSync(join(directory, "node_modules"))
      Fs.symlinkSync(source, join(directory, "node_modules", "linked-store"))
      yield* loads(directory, "linked-store", join(source, "src", "index.ts"))
      yield* loads(join(elsewhere, "packages"), "./linked", join(source, "src", "index.ts"))
    }))

  scenario(
    "from a file beside the configuration, with no node_modules anywhere",
    (directory) =>
      Effect.gen(function*() {
        Project.write(directory, {
          "store.ts": Project.store(
            "local",
            arrow + "import { forget } from \"./lib/forget.ts\"\nconst secret: string = forget(\"x\")"
          ),
          "lib/forget.ts":
            "import * as Redacted from \"effect/Redacted\"\nexport const forget = (text: string): string => Redacted.value(Redacted.make(text))\n",
          "store.mjs": Project.store("local", arrow),
          "store.cjs": Project.commonStore("local", arrow)
        })
        for (const name of ["store.ts", "store.mjs", "store.cjs"]) {
          const found = yield* loads(directory, `./${name}`, join(directory, name))
          assert.deepStrictEqual([found["origin"], found["package"]], ["file", null])
        }
      })
  )

  scenario("where the configuration lies in a folder of the project", (directory) =>
    Effect.gen(function*() {
      Project.installPoison(directory)
      const folder = Project.install(directory, "some-store", {}, { "index.js": Project.store("some-store", arrow) })
      const inner = Project.write(join(directory, "configurations", "shop"), { "package.json": { type: "module" } })
      yield* loads(inner, "some-store", join(folder, "index.js"))
    }))

  scenario(
    "and so does a library that it depends on, unless that was written for another Effect",
    (directory) =>
      Effect.gen(function*() {
        Project.installPoison(directory)
        const uses = (range: string) => ({ keywords: [], "etl-stream": undefined, peerDependencies: { effect: range } })
        Project.install(directory, "shares", uses("^4.0.5"), { "index.js": "export * from \"effect/Effect\"" })
        const old = Project.install(directory, "keeps", uses("^3.10.0"), {
          "index.js": "export { version } from \"effect/Version\""
        })
        Project.write(join(old, "node_modules", "effect"), {
          "package.json": { name: "effect", version: "3.19.0", type: "module", exports: { "./*": "./*.js" } },
          "Version.js": "export const version = 3"
        })
        Project.install(directory, "some-store", {}, {
          "index.js": Project.store(
            "some-store",
            "import { succeed } from \"shares\"\nimport { version } from \"keeps\"\nif (succeed !== Effect.succeed || version !== 3) throw new Error(\"wrong copies\")"
          )
        })
        yield* loads(directory, "some-store", join(directory, "node_modules", "some-store", "index.js"))
      })
  )

  scenario("and is told when they lack a module or an export that it wants", (directory) =>
    Effect.gen(function*() {
      Project.write(directory, {
        "module.mjs": "import \"effect/NotYetThere\"",
        "module.cjs": "require(\"effect/NotYetThere\")",
        "export.mjs": "import { notYetThere } from \"effect/Effect\"",
        "internal.mjs": "import \"@etl-stream/core/internal/anything\""
      })
      for (const name of ["module.mjs", "module.cjs", "export.mjs", "internal.mjs"]) {
        const { problem } = yield* storeIn(directory, `./${name}`)
        assert.match(String(problem), /NotYetThere|notYetThere|internal\/anything/, name)
        assert.match(String(problem), /effect 4\.1\.0|effect\/Effect|core 0\.1\.0/, name)
        assert.match(String(problem), /[Uu]pgrade etl-stream/, name)
      }
    }))

  scenario("so that a pipeline of installed plugins runs on one set of them", (directory) =>
    Effect.gen(function*() {
      Project.installPoison(directory)
      Project.install(directory, "fakes", {}, {
        "index.js": stripTypeScriptTypes(Fs.readFileSync(join(import.meta.dirname, "FakePlugins.ts"), "utf8"))
      })
      const text = Fixture.onePipeline("password: s3cret-pass").replaceAll("./plugins.ts", "fakes")
      const file = Fixture.write(directory, "etl.yaml", text)
      const ended = yield* Fixture.run(["run", file])
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.strictEqual(Fixture.written(directory).filter(({ kind }) => kind === "change").length, 5)
    }))
})
