/**
 * Projects with plugin packages in their `node_modules`, as package managers would lay them out.
 *
 * Copies of the packages that plugins share with the runner are put in as well, and throw when one of their modules is run: what loads in such a project can only
 * have got the runner's own.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"

/** An empty folder, removed with the scope. */
export const folder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => Fs.realpathSync(Fs.mkdtempSync(join(tmpdir(), "etl-stream-project-")))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true, maxRetries: 3 }))
)

/** Writes files into `directory`; what is no text is written as JSON. Gives the folder. */
export const write = (directory: string, files: Readonly<Record<string, unknown>>): string => {
  for (const [name, content] of Object.entries(files)) {
    const path = join(directory, name)
    Fs.mkdirSync(dirname(path), { recursive: true })
    Fs.writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content))
  }
  return directory
}

/** A package.json of a plugin that is as it should be, but for `fields`. */
export const manifest = (name: string, fields: Readonly<Record<string, unknown>> = {}) => ({
  name,
  version: "1.2.3",
  type: "module",
  exports: "./index.js",
  keywords: ["etl-stream-plugin"],
  "etl-stream": { apiVersion: 1 },
  peerDependencies: { "@etl-stream/core": "^0.1.0", effect: "^4.1.0" },
  ...fields
})

/** Installs the package `name` into `directory`'s `node_modules`. Gives its folder. */
export const install = (
  directory: string,
  name: string,
  fields: Readonly<Record<string, unknown>>,
  files: Readonly<Record<string, unknown>>
): string => write(join(directory, "node_modules", name), { "package.json": manifest(name, fields), ...files })

/** Copies of the shared packages that break when they are run. */
export const installPoison = (directory: string): void => {
  for (
    const [name, version] of [["effect", "4.1.0"], ["@etl-stream/core", "0.1.0"], ["apache-arrow", "21.2.0"]] as const
  ) {
    write(join(directory, "node_modules", name), {
      "package.json": { name, version, exports: { ".": "./poison.cjs", "./*": "./poison.cjs" } },
      "poison.cjs": `throw new Error("a second copy of ${name} was run")`
    })
  }
}

/** A state store that does nothing, as an ES module; `more` stands at its top. */
export const store = (name: string, more = ""): string =>
  `import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
${more}
export const plugin = Plugin.state({
  name: ${JSON.stringify(name)},
  version: "1.2.3",
  summary: "Forgets",
  config: Schema.Struct({ password: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)) }),
  make: () => Effect.succeed({
    get: () => Effect.succeed(Option.none()),
    list: () => Effect.succeed([]),
    compareAndSet: () => Effect.succeed(Option.some("1")),
    remove: () => Effect.void,
    now: Effect.succeed(0)
  })
})
`

/** The same as a CommonJS module. */
export const commonStore = (name: string, more = ""): string =>
  store(name, more).replace(/^import \* as (\w+) from ("[^"]+")$/gm, "const $1 = require($2)")
    .replace("export const plugin =", "exports.plugin =")
