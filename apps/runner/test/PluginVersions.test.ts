import { assert, describe, it } from "@effect/vitest"
import * as PluginLoader from "@etl-stream/runner/PluginLoader"
import * as VersionRange from "@etl-stream/runner/VersionRange"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { join } from "node:path"
import * as Project from "./PluginProject.ts"

const scenario = (name: string, test: (directory: string) => Effect.Effect<void, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.flatMap(Project.folder, test))

/** A module that must not be run. */
const unrun = { "index.js": "throw new Error(\"it was run\")" }

/** The error of a package with these fields; its module isn't run. */
const refusal = Effect.fnUntraced(function*(directory: string, fields: Readonly<Record<string, unknown>>) {
  Project.install(directory, "some-plugin", fields, unrun)
  const error = yield* Effect.flip(PluginLoader.find("some-plugin", directory))
  assert.notInclude(error.message, "it was run")
  return error
})

describe("a plugin package is judged before it is run", () => {
  for (
    const [what, fields, message, hint] of [
      [
        "of a later version of the contracts",
        { "etl-stream": { apiVersion: 2, somethingNew: true } },
        /API version 2; this etl-stream has version 1/,
        /^Upgrade etl-stream/
      ],
      [
        "of an earlier version of the contracts",
        { "etl-stream": { apiVersion: 0 } },
        /API version 0; this etl-stream has version 1/,
        /newer version of the plugin/
      ],
      [
        "with no version in its manifest",
        { "etl-stream": {} },
        /etl-stream\.apiVersion in .*package\.json/,
        /apiVersion/
      ],
      [
        "with a version that is no number",
        { "etl-stream": { apiVersion: "1" } },
        /Expected a number, got text/,
        /loading\.md/
      ],
      ["with a manifest that is none", { "etl-stream": true }, /malformed: etl-stream in/, /loading\.md/],
      [
        "that asks for a later core",
        { peerDependencies: { "@etl-stream/core": "^0.9.2", effect: "^4.1.0" } },
        /asks for @etl-stream\/core \^0\.9\.2 \(peerDependencies in .*\); this etl-stream has 0\.1\.0/,
        /^Upgrade etl-stream to 0\.9\.2 or later/
      ],
      [
        "that asks for an earlier core",
        { peerDependencies: { "@etl-stream/core": "~0.0.4", effect: "^4.1.0" } },
        /asks for @etl-stream\/core ~0\.0\.4/,
        /newer version of the plugin, one that takes @etl-stream\/core 0\.1\.0/
      ],
      [
        "that asks for a later Effect",
        { peerDependencies: { "@etl-stream/core": "^0.1.0", effect: ">=4.7.1 <5" } },
        /asks for effect >=4\.7\.1 <5/,
        /^Upgrade etl-stream to one with effect 4\.7\.1 or later/
      ],
      [
        "that brings an earlier Effect",
        { peerDependencies: { "@etl-stream/core": "^0.1.0" }, dependencies: { effect: "3.19.4" } },
        /asks for effect 3\.19\.4 \(dependencies in/,
        /newer version of the plugin/
      ]
    ] as const
  ) {
    scenario(`one ${what} is refused`, (directory) =>
      Effect.gen(function*() {
        const error = yield* refusal(directory, fields)
        assert.match(error.message, message)
        assert.match(error.hint, hint)
      }))
  }

  scenario("what works but shouldn't be left so is a warning", (directory) =>
    Effect.gen(function*() {
      const warnings = Effect.fnUntraced(function*(name: string, fields: Readonly<Record<string, unknown>>) {
        Project.install(directory, name, fields, { "index.js": Project.store(name) })
        return (yield* PluginLoader.find(name, directory)).warnings.join("\n")
      })
      assert.strictEqual(yield* warnings("right", {}), "")
      assert.match(
        yield* warnings("bare", { "etl-stream": undefined }),
        /has no manifest: add `"etl-stream": \{ "apiVersion": 1 \}`/
      )
      assert.match(yield* warnings("hidden", { keywords: undefined }), /lacks the keyword `etl-stream-plugin`/)
      assert.match(
        yield* warnings("unknown", { "etl-stream": { apiVersion: 1, conformence: "x" } }),
        /Unknown key `conformence`.*`conformance`/
      )
      assert.match(
        yield* warnings("silent", { peerDependencies: undefined }),
        /no range of @etl-stream\/core in peerDependencies/
      )
      assert.match(
        yield* warnings("any", { peerDependencies: { "@etl-stream/core": "*" } }),
        /any version of @etl-stream\/core/
      )
      const plain = { peerDependencies: undefined, dependencies: { "@etl-stream/core": "0.1.0", effect: "4.0.5" } }
      assert.match(yield* warnings("plain", plain), /effect in dependencies: .*Move it to peerDependencies/)
      const workspace = { peerDependencies: { "@etl-stream/core": "workspace:^", effect: "catalog:" } }
      assert.strictEqual(yield* warnings("workspace", workspace), "")
    }))

  scenario("a file needs no manifest; the package that it is in has its say", (directory) =>
    Effect.gen(function*() {
      Project.write(directory, { "store.mjs": Project.store("local") })
      assert.deepStrictEqual((yield* PluginLoader.find("./store.mjs", directory)).warnings, [])
      Project.write(directory, { "package.json": { dependencies: { effect: "^3.0.0" } } })
      assert.match(
        (yield* PluginLoader.find("./store.mjs", directory)).warnings.join(),
        /asks for effect \^3\.0\.0; .* own 4\.1\.0/
      )
      Project.write(directory, { "package.json": Project.manifest("local", { "etl-stream": { apiVersion: 7 } }) })
      assert.match((yield* Effect.flip(PluginLoader.find("./store.mjs", directory))).message, /API version 7/)
    }))

  scenario(
    "what a plugin says of itself counts when its manifest says otherwise",
    (directory) =>
      Effect.gen(function*() {
        Project.install(directory, "lies", {}, {
          "index.js": `${
            Project.store("lies").replace("export const plugin =", "const made =")
          }\nexport const plugin = { ...made, apiVersion: 2 }\n`
        })
        assert.match((yield* Effect.flip(PluginLoader.find("lies", directory))).message, /API version 2/)
      })
  )
})

describe("a version", () => {
  it("is older or newer than a range, within it, or of unknown standing", () => {
    for (
      const [range, version, standing] of [
        ["^4.1.0", "4.1.0", "within"],
        ["^4.1.0", "4.9.0", "within"],
        ["^4.1.0", "5.0.0-beta.1", "newer"],
        ["^4.1.0", "4.0.9", "older"],
        ["^4.1.0", "4.1.0-rc.1", "older"],
        ["^4.1.0", "4.2.0-rc.1", "within"],
        ["^0.1.0", "0.2.0", "newer"],
        [">=1 <2 || >=3", "2.5.0", "newer"],
        ["*", "0.1.0", "within"],
        ["workspace:*", "0.1.0", "unknown"],
        ["latest", "0.1.0", "unknown"],
        ["github:someone/something", "0.1.0", "unknown"]
      ] as const
    ) assert.strictEqual(VersionRange.judge(range, version), standing, `${range} ${version}`)
  })
})

describe("an export that is no plugin", () => {
  const made = (change: string) =>
    `${Project.store("made").replace("export const plugin =", "const made =")}\nexport const plugin = ${change}\n`

  for (
    const [what, change, message, hint] of [
      [
        "without the brand",
        "(({ [Plugin.PluginTypeId]: _, ...rest }) => rest)(made)",
        /`plugin` of \.\/made\.mjs looks like/,
        /Plugin\.sink/
      ],
      [
        "put together by hand",
        "{ kind: \"sink\", name: \"x\", config: made.config, make: made.make }",
        /`plugin` of \.\/made\.mjs looks like/,
        /Plugin\.sink/
      ],
      [
        "without a version of the contracts",
        "{ ...made, apiVersion: \"1\" }",
        /`apiVersion` is no integer/,
        /report it/
      ],
      ["of an unknown kind", "{ ...made, kind: \"codec\" }", /its `kind` is none of `source`, /, /report it/],
      ["without a name", "{ ...made, name: undefined }", /has no `name`/, /report it/],
      ["whose name is no text", "{ ...made, name: 5 }", /`name` is not text/, /report it/],
      ["whose config is no schema", "{ ...made, config: {} }", /`config` is not a Schema/, /report it/],
      ["without config", "{ ...made, config: undefined }", /has no `config`/, /report it/],
      ["that can't be made", "{ ...made, make: 5 }", /`make` is not a function/, /report it/],
      [
        "whose stability is unheard of",
        "{ ...made, stability: \"solid\" }",
        /`stability` is not `experimental`/,
        /report it/
      ]
    ] as const
  ) {
    scenario(`one ${what} is refused with what is wrong`, (directory) =>
      Effect.gen(function*() {
        Project.write(directory, { "made.mjs": made(change) })
        const error = yield* Effect.flip(PluginLoader.find("./made.mjs", directory))
        assert.match(error.message, message)
        assert.match(error.hint, hint)
      }))
  }

  scenario("among several is no harm to the others", (directory) =>
    Effect.gen(function*() {
      Project.write(directory, {
        "made.mjs": made("made").replace(
          "export const plugin",
          "export const plugins = [5, null, { ...made, name: 7 }, made]\nexport const other"
        )
      })
      assert.strictEqual((yield* PluginLoader.find("./made.mjs:made", directory)).plugin.name, "made")
      assert.match(
        (yield* Effect.flip(PluginLoader.find("./made.mjs:2", directory))).message,
        /no plugin file|no plugin `2`/
      )
      assert.isString(join(directory, "made.mjs"))
    }))
})
