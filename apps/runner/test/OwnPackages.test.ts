import { assert, describe, it } from "@effect/vitest"
import { isPlugin } from "@etl-stream/core/Plugin"
import * as PluginManifest from "@etl-stream/core/PluginManifest"
import { list } from "@etl-stream/runner/commands/PluginList"
import * as PluginLoader from "@etl-stream/runner/PluginLoader"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import { dirname, join } from "node:path"
import { pathToFileURL } from "node:url"
import * as Project from "./PluginProject.ts"

const root = dirname(dirname(dirname(import.meta.dirname)))

const Strings = Schema.Record(Schema.String, Schema.String)
const PackageJson = Schema.Struct({
  name: Schema.String,
  version: Schema.String,
  description: Schema.String,
  keywords: Schema.optionalKey(Schema.Array(Schema.String)),
  publishConfig: Schema.Struct({ exports: Schema.Record(Schema.String, Schema.NullOr(Schema.String)) }),
  dependencies: Schema.optionalKey(Strings),
  peerDependencies: Schema.optionalKey(Strings),
  [PluginManifest.key]: Schema.optionalKey(Schema.Unknown)
})
const decodePackageJson = Schema.decodeUnknownSync(Schema.fromJsonString(PackageJson))
const decodeManifest = Schema.decodeUnknownSync(PluginManifest.Manifest, { onExcessProperty: "error" })

/** Every package of ours, with what its main module exports. */
const packages = Fs.globSync("packages/*/package.json", { cwd: root }).toSorted().map((file) => {
  const folder = join(root, dirname(file))
  return {
    folder,
    module: pathToFileURL(join(folder, "src", "index.ts")).href,
    ...decodePackageJson(Fs.readFileSync(join(root, file), "utf8"))
  }
})

const pluginsOf = async (module: string) => {
  const exported: { readonly plugins?: object } = await import(module)
  return [exported, exported.plugins ?? {}].flatMap((group) => Object.values(group)).filter(isPlugin)
}

describe("plugin packages of our own", () => {
  it("are those that export plugins, and all of them say so", async () => {
    for (const { keywords = [], module, name, [PluginManifest.key]: manifest } of packages) {
      const found = (await pluginsOf(module)).length > 0
      assert.strictEqual(keywords.includes(PluginManifest.keyword), found, `the keyword of ${name}`)
      assert.strictEqual(manifest !== undefined, found, `the manifest of ${name}`)
      assert.strictEqual(PluginLoader.builtIn.includes(name), found, `${name} among the built-in plugins`)
    }
  })

  it("have manifests that fit what they export", async () => {
    for (const { folder, module, name, version, [PluginManifest.key]: manifest } of packages) {
      const plugins = await pluginsOf(module)
      if (plugins.length === 0) continue
      const { apiVersion, conformance } = decodeManifest(manifest)
      for (const plugin of plugins) {
        assert.strictEqual(plugin.apiVersion, apiVersion, plugin.name)
        assert.strictEqual(plugin.version, version, plugin.name)
        assert.strictEqual(plugin.name.split(":")[0], name)
      }
      const suites = conformance?.replace(/^\.\/dist\/(.*)\.js$/, "src/$1.ts")
      assert.isTrue(suites === undefined || Fs.existsSync(join(folder, suites)), `the suites of ${name}`)
    }
  })

  it.live("are listed without a warning where a project has copies of its own", () =>
    Effect.gen(function*() {
      const directory = yield* Project.folder
      const ours = packages.filter(({ name }) => PluginLoader.builtIn.includes(name))
      Project.write(directory, {
        "package.json": { type: "module", dependencies: Object.fromEntries(ours.map(({ name }) => [name, "*"])) }
      })
      for (const { folder, module, name, publishConfig } of ours) {
        const manifest: object = JSON.parse(Fs.readFileSync(join(folder, "package.json"), "utf8"))
        Project.write(join(directory, "node_modules", name), {
          "package.json": { ...manifest, exports: publishConfig.exports },
          "dist/index.js": `export * from ${JSON.stringify(module)}\n`
        })
      }
      const { data } = yield* list({ directory, file: undefined })
      const listed = Schema.decodeUnknownSync(Schema.Struct({
        plugins: Schema.Array(Schema.Struct({
          name: Schema.String,
          origin: Schema.Literal("project"),
          warnings: Schema.Array(Schema.String)
        }))
      }))(data).plugins
      assert.deepStrictEqual(listed.filter(({ warnings }) => warnings.length > 0), [])
      assert.deepStrictEqual(
        new Set(listed.map(({ name }) => name.split(":")[0])),
        new Set(PluginLoader.builtIn)
      )
    }))
})
