/**
 * Packages as they would be published: what is in them, what they say of themselves, and that they work where nothing else of ours is.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import { isBuiltin } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { beforeAll } from "vitest"
import * as Landscape from "./Landscape.ts"
import * as Tarballs from "./Tarballs.ts"

const Strings = Schema.Record(Schema.String, Schema.String)
const decodeManifest = Schema.decodeUnknownSync(Schema.fromJsonString(
  Schema.Struct({
    name: Schema.String,
    license: Schema.String,
    exports: Schema.Record(Schema.String, Schema.NullOr(Schema.String)),
    bin: Schema.optionalKey(Strings),
    dependencies: Schema.optionalKey(Strings),
    peerDependencies: Schema.optionalKey(Strings)
  })
))

interface Contents {
  readonly name: string
  /** Where it is unpacked. */
  readonly folder: string
  /** Relative paths. */
  readonly files: ReadonlyArray<string>
  readonly manifest: ReturnType<typeof decodeManifest>
}

/** Unpacks every package. */
const unpack = (tarballs: Tarballs.Tarballs, folder: string) =>
  Effect.forEach(tarballs, ([name, tarball], index) =>
    Effect.gen(function*() {
      const into = join(folder, String(index))
      Fs.mkdirSync(into)
      yield* Tarballs.succeed("tar", ["-xzf", tarball, "-C", into], folder)
      const root = join(into, "package")
      const files = Fs.readdirSync(root, { recursive: true, encoding: "utf8" })
        .filter((file) => Fs.statSync(join(root, file)).isFile())
      const manifest = decodeManifest(Fs.readFileSync(join(root, "package.json"), "utf8"))
      const contents: Contents = { name, folder: root, files, manifest }
      return contents
    }))

let tarballs: Tarballs.Tarballs = new Map()
/** Every package, unpacked. */
let packages: ReadonlyArray<Contents> = []
beforeAll(async () => {
  const folder = Fs.mkdtempSync(join(tmpdir(), "etl-stream-unpacked-"))
  tarballs = await Effect.runPromise(Tarballs.packed)
  packages = await Effect.runPromise(unpack(tarballs, folder))
  return () => Fs.rmSync(folder, { recursive: true, force: true })
}, 300_000)

const modulesOf = ({ files }: Contents, suffix: string): ReadonlyArray<string> =>
  files.filter((file) => file.startsWith("dist/") && file.endsWith(suffix))

/** Modules that do something as soon as they are loaded: programs, and what worker threads run. */
const runs = /^dist\/(main|.*Worker)\.js$/

/** How others name the modules that a package exports. */
const specifiersOf = (contents: Contents): ReadonlyArray<string> =>
  modulesOf(contents, ".js").filter((file) => !file.startsWith("dist/internal/") && !runs.test(file)).map((file) =>
    file === "dist/index.js" ? contents.name : `${contents.name}/${file.slice("dist/".length, -".js".length)}`
  )

const imports = /(?:^|[\s;}])(?:import|export)\s(?:[^"';]*?\sfrom\s*)?"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)/g

/** Packages that the package's code or its types import, without Node's own and itself. */
const importedBy = (contents: Contents): ReadonlySet<string> => {
  const found = new Set<string>()
  for (const file of [...modulesOf(contents, ".js"), ...modulesOf(contents, ".d.ts")]) {
    // Examples in comments import what they show.
    const text = Fs.readFileSync(join(contents.folder, file), "utf8").replace(/\/\*[^]*?\*\//g, "")
    for (const [, from, dynamic] of text.matchAll(imports)) {
      const specifier = from ?? dynamic ?? ""
      if (specifier.startsWith(".") || isBuiltin(specifier)) continue
      const name = specifier.split("/").slice(0, specifier.startsWith("@") ? 2 : 1).join("/")
      if (name !== contents.name) found.add(name)
    }
  }
  return found
}

describe("packages as they are published", () => {
  it("hold what was built, its sources and the licence, and neither tests nor the compiler's notes", () => {
    for (const { files, name } of packages) {
      for (const file of ["dist/index.js", "dist/index.d.ts", "src/index.ts", "LICENSE", "package.json"]) {
        assert.include(files, file, name)
      }
      // A plugin's template has a test of its own, for the project that is made of it.
      const strange = files.filter((file) =>
        !file.startsWith("templates/") && (/\.(test|tsbuildinfo)|(^|\/)(test|node_modules)\//.test(file))
      )
      assert.deepStrictEqual(strange, [], name)
      assert.deepStrictEqual(files.filter((file) => /^(dist|src|bin|templates)\/|^[^/]+$/.test(file)), files, name)
    }
  })

  it("name only files that they hold, and nothing of the workspace that they come from", () => {
    for (const contents of packages) {
      const { files, folder, manifest, name } = contents
      const { bin = {}, dependencies = {}, exports, peerDependencies = {} } = manifest
      assert.deepStrictEqual(exports, { ".": "./dist/index.js", "./internal/*": null, "./*": "./dist/*.js" }, name)
      for (const [command, file] of Object.entries(bin)) {
        const path = file.replace(/^\.\//, "")
        assert.include(files, path, `the command ${command} of ${name}`)
        assert.match(Fs.readFileSync(join(folder, path), "utf8"), /^#!\/usr\/bin\/env node\n/, `the command ${command}`)
      }
      for (const [dependency, range] of Object.entries({ ...dependencies, ...peerDependencies })) {
        assert.notMatch(range, /^(workspace|file|link|catalog):/, `${dependency} of ${name}`)
      }
      for (const file of modulesOf(contents, ".js")) {
        const text = Fs.readFileSync(join(folder, file), "utf8")
        for (const [, from, dynamic] of text.replace(/\/\*[^]*?\*\//g, "").matchAll(imports)) {
          const specifier = from ?? dynamic ?? ""
          if (specifier.startsWith(".")) assert.match(specifier, /\.js$/, `${name}/${file}`)
        }
      }
    }
  })

  it("declare every package that their code or types import", () => {
    for (const contents of packages) {
      const { dependencies = {}, peerDependencies = {} } = contents.manifest
      const declared = new Set([...Object.keys(dependencies), ...Object.keys(peerDependencies)])
      assert.deepStrictEqual([...importedBy(contents)].filter((name) => !declared.has(name)), [], contents.name)
    }
  })

  it.live(
    "work where they are installed: each module under plain Node, their types, and a pipeline",
    () =>
      Effect.gen(function*() {
        const project = yield* Tarballs.temporaryFolder
        yield* Tarballs.install(tarballs, project, {
          dependencies: Object.fromEntries([...tarballs.keys()].map((name) => [name, "*"])),
          devDependencies: Tarballs.tools("@types/node", "typescript")
        })

        const specifiers = packages.flatMap(specifiersOf)
        assert.isAbove(specifiers.length, 200)
        Fs.writeFileSync(
          join(project, "load.js"),
          `const failed = []
         for (const specifier of ${JSON.stringify(specifiers)}) {
           await import(specifier).catch((error) => failed.push(specifier + ": " + error.message))
         }
         if (failed.length > 0) throw new Error(failed.join("\\n"))
         process.exit(0)\n`
        )
        yield* Tarballs.succeed(process.execPath, ["load.js"], project)

        Fs.writeFileSync(
          join(project, "types.ts"),
          specifiers.map((specifier, index) => `import * as module${index} from "${specifier}"\nvoid module${index}\n`)
            .join("")
        )
        Fs.writeFileSync(
          join(project, "tsconfig.json"),
          JSON.stringify({
            compilerOptions: {
              module: "NodeNext",
              target: "ES2024",
              lib: ["ES2024", "ESNext.Disposable", "DOM"],
              types: ["node"],
              strict: true,
              exactOptionalPropertyTypes: true,
              noEmit: true,
              skipLibCheck: true
            },
            files: ["types.ts"]
          })
        )
        const types = yield* Tarballs.binary("tsc", [], project)
        assert.strictEqual(types.code, 0, types.stdout)

        const version = yield* Tarballs.succeed("npx", ["--no-install", "etl-stream", "--version"], project)
        assert.match(version.stdout, /^\d+\.\d+\.\d+\n$/)

        // To a runner that is elsewhere they are the project's plugins, and judged as such.
        const listed = yield* Tarballs.succeed(
          process.execPath,
          [join(Tarballs.root, "apps", "runner", "bin", "etl-stream.js"), "plugin", "list"],
          project
        )
        assert.include(listed.stdout, join(project, "node_modules", "@etl-stream", "sink-snowflake"))
        assert.notMatch(listed.stdout, /warning:|problem:/)

        const landscape = yield* Landscape.make({
          runner: join(project, "node_modules", ".bin", "etl-stream"),
          server: join(project, "node_modules", "@etl-stream", "snowflake-local", "dist", "main.js")
        })
        yield* landscape.postgres.query("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        yield* landscape.postgres.query("INSERT INTO orders SELECT n, 'copied ' || n FROM generate_series(1, 1000) n")
        const file = landscape.write(landscape.configuration())
        const validated = yield* Tarballs.binary("etl-stream", ["validate", file], project)
        assert.strictEqual(validated.code, 0, validated.stderr)

        const runner = yield* landscape.run(file)
        const mirror = yield* landscape.mirror
        yield* Landscape.caughtUp(landscape, mirror, ["orders"])
        yield* landscape.postgres.query("UPDATE orders SET note = 'changed' WHERE id % 2 = 0")
        yield* landscape.postgres.query("DELETE FROM orders WHERE id % 5 = 0")
        yield* Landscape.caughtUp(landscape, mirror, ["orders"])
        yield* Landscape.assertSame(landscape, mirror, ["orders"])
        assert.deepStrictEqual(yield* runner.kill("SIGTERM"), { code: 0, signal: null })
        assert.isTrue(Fs.existsSync(landscape.stateFile))
      }),
    400_000
  )
})
