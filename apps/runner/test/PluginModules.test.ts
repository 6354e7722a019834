import { assert, describe, it } from "@effect/vitest"
import * as PluginLoader from "@etl-stream/runner/PluginLoader"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import { join } from "node:path"
import { envelope } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"
import * as Project from "./PluginProject.ts"

const scenario = (name: string, test: (directory: string) => Effect.Effect<void, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.flatMap(Project.folder, test))

/** Names of plugins and what the command says of each, all in one run of it. */
const problems = Effect.fnUntraced(function*(directory: string, names: ReadonlyArray<string>) {
  const notifiers = names.map((name, index) => `  n${index}: {plugin: ${JSON.stringify(name)}}`)
  const file = Fixture.write(directory, "etl.yaml", `apiVersion: 1\nnotifiers:\n${notifiers.join("\n")}\n`)
  const ended = yield* Fixture.run(["plugin", "list", "--file", file, "--json"], { cwd: directory })
  assert.strictEqual(ended.code, 0, ended.stderr)
  const plugins = envelope(ended)["plugins"] as ReadonlyArray<Record<string, unknown>> // the envelope's list
  return new Map(plugins.map(({ name, problem }) => [String(name), String(problem)]))
})

describe("a module that can't be loaded", () => {
  scenario("is told with its place, what is wrong and what to do", (directory) =>
    Effect.gen(function*() {
      const files = {
        "syntax.mjs": "\nexport const = 1\n",
        "syntax.ts": "\nexport const a: = 1\n",
        "enum.ts": "\n\nexport enum Mode { On }\n",
        "throws.mjs": "\n\nthrow new Error(\"broken inside\")\n",
        "inner.mjs": "import \"./throws.mjs\"\n",
        "text.mjs": "throw \"just text\"\n",
        "package.mjs": "import \"@some/missing/module\"\n",
        "package.cjs": "require(\"missing-too\")\n",
        "extension.ts": "import { a } from \"./helper\"\nexport const b = a\n",
        "helper.ts": "export type T = string\nexport const a = 1\n",
        "type.ts": "import { T } from \"./helper.ts\"\nexport const b: T = \"\"\n",
        "named.mjs": "import { hidden } from \"./common.cjs\"\nexport const a = hidden\n",
        "common.cjs": "module.exports = Object.fromEntries([[\"hidden\", 1]])\n",
        "nothing.mjs": "import \"./not-there.mjs\"\n",
        "plugin.tsx": "export const a = 1\n",
        "waits.cjs": "require(\"./waits.mjs\")\n",
        "waits.mjs": "await Promise.resolve()\n"
      }
      Project.write(directory, files)
      Project.install(directory, "unbuilt", { exports: "./dist/index.js" }, {})
      Project.install(directory, "closed", { exports: { "./other": "./index.js" } }, { "index.js": "" })
      Project.install(directory, "typed", { exports: "./index.ts" }, { "index.ts": "export const a: number = 1" })
      Project.write(join(directory, "node_modules", "torn"), { "package.json": "{ \"name\": " })
      Project.write(directory, { "bare/index.ts": "", "named/package.json": { exports: "./index.js" } })
      const expected: ReadonlyArray<readonly [name: string, ...parts: ReadonlyArray<RegExp>]> = [
        ["./syntax.mjs", /syntax\.mjs:2: /, /correct it/],
        ["./syntax.ts", /syntax\.ts/, /syntax is wrong/],
        ["./enum.ts", /enum/, /erasableSyntaxOnly/],
        ["./throws.mjs", /throws\.mjs:3: broken inside\./, /throws while it is loaded/],
        ["./inner.mjs", /throws\.mjs:3: broken inside\./],
        ["./text.mjs", /just text/],
        [
          "./package.mjs",
          /needs the package @some\/missing, which is not installed/,
          /package\.mjs/,
          /npm install @some\/missing`/
        ],
        ["./package.cjs", /needs the package missing-too, which is not installed/, /package\.cjs/],
        ["./extension.ts", /no module .*helper \(imported by .*extension\.ts\)/, /Write the file's extension.*`\.ts`/],
        ["./type.ts", /helper\.ts has no export T/, /import type/],
        ["./named.mjs", /named\.mjs:1: the export hidden of a CommonJS module/, /default export/],
        ["./nothing.mjs", /no module .*not-there\.mjs/, /correct the import/],
        ["./plugin.tsx", /\.tsx/, /`\.ts`/],
        ["./waits.cjs", /`await`/, /ES module/],
        ["unbuilt", /names .*unbuilt\/dist\/index\.js, which is not there/, /Build the plugin/],
        ["closed", /can't be found/, /no export that can be imported/],
        ["typed", /TypeScript inside node_modules/, /Publish it as JavaScript/],
        ["torn", /package\.json is not valid JSON|can't be found/],
        ["./bare", /folder without a package\.json/, /Name a file/],
        ["./named", /`exports` but no `name`/]
      ]
      const found = yield* problems(directory, expected.map(([name]) => name))
      for (const [name, ...parts] of expected) {
        for (const part of parts) assert.match(found.get(name) ?? "", part, name)
      }
    }))

  scenario(
    "because it waits for ever is given up, and not waited for a second time",
    (directory) =>
      Effect.gen(function*() {
        Project.write(directory, { "waits.mjs": "await new Promise(() => {})" })
        const find = Effect.flip(PluginLoader.find("./waits.mjs", directory)).pipe(
          Effect.provideService(PluginLoader.LoadLimit, "100 millis")
        )
        assert.match((yield* find).message, /waits\.mjs is still loading.*`await`/)
        const again = yield* Effect.flip(PluginLoader.find("./waits.mjs", directory)).pipe(
          Effect.provideService(PluginLoader.LoadLimit, "1 hour")
        )
        assert.match(again.message, /still loading/)
      })
  )
})

describe("a module that ends the process while it is loaded", () => {
  scenario(
    "is told, with where it does it, and isn't taken for a command that did its work",
    (directory) =>
      Effect.gen(function*() {
        Project.write(directory, {
          "package.json": { type: "module" },
          "exits.mjs": "\nprocess.exit(0)\n",
          "later.mjs": "await new Promise(() => setTimeout(() => process.exit(0), 5))\n",
          "required.cjs": "require(\"./deep.cjs\")\n",
          "deep.cjs": "if (process.env.NOT_THERE === undefined) process.exit()\n",
          "fine.mjs": "export const a = 1\n"
        })
        for (
          const [name, where] of [["exits.mjs", "exits.mjs:2"], ["later.mjs", "later.mjs:1"], [
            "required.cjs",
            "deep.cjs:1"
          ]]
        ) {
          const file = Fixture.write(
            directory,
            "etl.yaml",
            `apiVersion: 1\nnotifiers:\n  a: {plugin: ./${name}}\npipelines: {}\n`
          )
          const text = yield* Fixture.run(["validate", file], { cwd: directory })
          assert.deepStrictEqual([text.code, text.stdout], [3, ""], text.stderr)
          assert.match(
            text.stderr,
            new RegExp(`The plugin \\./${name} ended the process while it was loaded, .* at .*${where}\\n +-> `)
          )
          const json = yield* Fixture.run(["plugin", "list", "--file", file, "--json"], { cwd: directory })
          assert.strictEqual(json.code, 3, json.stderr)
          assert.deepInclude(envelope(json), { ok: false, command: "plugin list" })
          assert.deepInclude(envelope(json)["error"], { code: "PluginUnloadable" })
        }
      })
  )
})

describe("a folder", () => {
  scenario("stands for the module that its package.json names", (directory) =>
    Effect.gen(function*() {
      Project.write(join(directory, "exporting"), {
        "package.json": {
          name: "exporting",
          type: "module",
          exports: { import: "./lib/main.js", require: "./no.cjs" }
        },
        "lib/main.js": Project.store("exporting")
      })
      Project.write(join(directory, "main"), {
        "package.json": { type: "module", main: "lib/store.js" },
        "lib/store.js": Project.store("main")
      })
      Project.write(join(directory, "own"), {
        "package.json": Project.manifest("own"),
        "index.js": Project.store("own")
      })
      const path = (name: string, from = directory) =>
        Effect.map(PluginLoader.find(name, from), ({ place }) => place.path)
      assert.strictEqual(yield* path("./exporting"), join(directory, "exporting", "lib", "main.js"))
      assert.strictEqual(yield* path("./main"), join(directory, "main", "lib", "store.js"))
      assert.strictEqual(yield* path("./own:plugin"), join(directory, "own", "index.js"))
      assert.strictEqual(yield* path(".", join(directory, "own")), join(directory, "own", "index.js"))
      assert.strictEqual(yield* path("..", join(directory, "own", "inner")), join(directory, "own", "index.js"))
    }))
})

describe("a plugin of the project", () => {
  scenario("is listed wherever in the project one asks, and in a workspace", (directory) =>
    Effect.gen(function*() {
      const files = { "index.js": Project.store("some-store") }
      Project.install(directory, "some-store", {}, files)
      Project.write(directory, { "package.json": { type: "module", devDependencies: { "some-store": "1" } } })
      const member = Project.write(join(directory, "packages", "shop"), {
        "package.json": { name: "shop", type: "module", dependencies: { "other-store": "workspace:*" } },
        "etl/package.json": { type: "module" }
      })
      const source = Project.write(join(directory, "packages", "other"), {
        "package.json": Project.manifest("other-store"),
        ...files
      })
      Fs.mkdirSync(join(member, "node_modules"))
      Fs.symlinkSync(source, join(member, "node_modules", "other-store"))
      assert.deepStrictEqual([...PluginLoader.installed(join(member, "etl"))].toSorted(), ["other-store", "some-store"])
      assert.deepStrictEqual(PluginLoader.installed(directory), ["some-store"])
    }))

  scenario(
    "is listed where it was installed beside the runner, in a project or globally",
    (directory) =>
      Effect.sync(() => {
        const global = Project.write(join(directory, "global"), {
          "node_modules/@etl-stream/runner/package.json": { name: "@etl-stream/runner" },
          "node_modules/@etl-stream/state-sqlite/package.json": Project.manifest("@etl-stream/state-sqlite"),
          "node_modules/@acme/sink/package.json": Project.manifest("@acme/sink"),
          "node_modules/.bin/etl-stream": "",
          "node_modules/other/package.json": { name: "other" },
          "node_modules/store/package.json": Project.manifest("store")
        })
        const runner = join(global, "node_modules", "@etl-stream", "runner", "dist", "main.js")
        assert.deepStrictEqual([...PluginLoader.beside(runner)].toSorted(), ["@acme/sink", "store"])
        Project.write(global, { "package.json": { dependencies: { store: "1", other: "1" } } })
        assert.deepStrictEqual(PluginLoader.beside(runner), ["store"])
        assert.deepStrictEqual(PluginLoader.beside(join(directory, "checkout", "src", "main.ts")), [])
      })
  )
})
