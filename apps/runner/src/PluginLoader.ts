/**
 * Finds plugins by name and loads them.
 *
 * A name is a package's (`@etl-stream/source-postgres`), or a path relative to the configuration file (`./transforms/mask.ts`), optionally with `:exportName`
 * for one of several plugins. Packages are looked for from the configuration's folder, then from the runner's own place, where the built-in ones
 * are. Loading a plugin runs its module; nothing is connected to.
 */
import { type AnyPlugin, apiVersion, isPlugin, type Kind, type Plugin } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import { dirname, join, resolve as resolvePath } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { closest, enumerate } from "./Suggestion.ts"

/** Why a plugin can't be used, and what to do. */
export class PluginError extends Schema.TaggedError<PluginError>("@etl-stream/runner/PluginError")("PluginError", {
  message: Schema.String,
  hint: Schema.String,
  /** The package is not there at all. */
  missing: Schema.optionalKey(Schema.Literal(true)),
  cause: Schema.optionalKey(Schema.Defect())
}) {}

/** A plugin and where it was found. */
export interface Loaded {
  /** As a configuration names it. */
  readonly name: string
  readonly plugin: AnyPlugin
  /** Absolute path of its module. */
  readonly path: string
  readonly builtIn: boolean
}

/** Plugins that come with the runner. */
export const builtIn: ReadonlyArray<string> = [
  "@etl-stream/source-postgres",
  "@etl-stream/sink-snowflake",
  "@etl-stream/state-sqlite",
  "@etl-stream/state-redis",
  "@etl-stream/dead-letters-files",
  "@etl-stream/notifiers",
  "@etl-stream/monitor-wal"
]

const isPath = (specifier: string): boolean => /^(\.{1,2}[\\/]|\/|[A-Za-z]:[\\/])/.test(specifier)

/** A name's module and, after a colon, its export. */
const split = (name: string): { readonly specifier: string; readonly exported: string | undefined } => {
  const match = name.startsWith("node:") ? null : /^(.{2,}):([A-Za-z_$][\w$]*)$/.exec(name)
  return match === null ? { specifier: name, exported: undefined } : { specifier: match[1] ?? name, exported: match[2] }
}

const describeCause = (cause: unknown): string =>
  cause instanceof Error ? (cause.message.split("\n")[0] ?? cause.name) : String(cause)

const codeOf = (cause: unknown): unknown =>
  typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined

const article = (kind: Kind): string =>
  kind === "state" ? "a state store" : kind === "deadLetters" ? "a dead-letter store" : `a ${kind}`

const unresolvable = (specifier: string) => (cause: unknown): PluginError => {
  const meant = closest(specifier, builtIn)
  switch (codeOf(cause)) {
    case "ERR_MODULE_NOT_FOUND":
      return new PluginError({
        message: `The plugin package ${specifier} is not installed.`,
        hint: meant === undefined
          ? `Install it in the configuration's folder (\`npm install ${specifier}\`), or give a path beginning with \`./\`.`
          : `Did you mean \`${meant}\`?`,
        missing: true,
        cause
      })
    case "ERR_INVALID_MODULE_SPECIFIER":
      return new PluginError({
        message: `\`${specifier}\` is not a package name.`,
        hint: "Use a package name such as `@etl-stream/source-postgres`, or a path beginning with `./`.",
        cause
      })
    default:
      return new PluginError({
        message: `The plugin package ${specifier} can't be found: ${describeCause(cause)}.`,
        hint: "Its package.json has no export that can be imported: check its version, or report it to its author.",
        cause
      })
  }
}

/** URL of the module that `specifier` names. */
const locate = Effect.fnUntraced(function*(specifier: string, directory: string) {
  if (isPath(specifier)) {
    const path = resolvePath(directory, specifier)
    const stat = Fs.statSync(path, { throwIfNoEntry: false })
    if (stat?.isFile() === true) return pathToFileURL(path).href
    return yield* new PluginError({
      message: stat === undefined ? `There is no plugin file ${specifier}.` : `The plugin ${specifier} is a folder.`,
      hint: stat === undefined ? "The path is relative to the configuration file's folder." : "Name a file in it."
    })
  }
  const { resolve } = yield* Effect.promise(() => import("import-meta-resolve"))
  const from = (parent: string) => Effect.try({ try: () => resolve(specifier, parent), catch: unresolvable(specifier) })
  // A package that is there but broken is reported, not replaced by another copy.
  return yield* from(pathToFileURL(join(directory, "etl-stream.yaml")).href).pipe(
    Effect.catchIf(({ missing }) => missing === true, () => from(import.meta.url))
  )
})

const load = Effect.fnUntraced(function*(name: string, url: string) {
  return yield* Effect.tryPromise({
    // A module namespace is an object of exports.
    try: () => import(url) as Promise<Readonly<Record<string, unknown>>>,
    catch: (cause) => {
      switch (codeOf(cause)) {
        case "ERR_MODULE_NOT_FOUND":
          return new PluginError({
            message: `The plugin ${name} can't be loaded: ${describeCause(cause)}.`,
            hint: "Something that it imports is missing: install the plugin's dependencies.",
            cause
          })
        case "ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING":
          return new PluginError({
            message: `The plugin ${name} is TypeScript inside node_modules, which Node doesn't run.`,
            hint: "Publish it as JavaScript, or move it out of node_modules.",
            cause
          })
        default:
          return new PluginError({
            message: `The plugin ${name} can't be loaded: ${describeCause(cause)}.`,
            hint: "Its module throws while it is loaded: correct it, or report it to its author.",
            cause
          })
      }
    }
  })
})

/** The plugins that a module exports, by the name of their export: `plugin`, those in `plugins`, and any other export that is one. */
const exportsOf = (module: Readonly<Record<string, unknown>>): ReadonlyMap<string, AnyPlugin> => {
  const found = new Map<string, AnyPlugin>()
  for (const [exported, value] of Object.entries(module)) {
    if (isPlugin(value)) found.set(exported, value)
    else if (exported === "plugins" && typeof value === "object" && value !== null) {
      for (const [key, inner] of Object.entries(value)) {
        if (isPlugin(inner)) {
          found.set(Array.isArray(value) ? inner.name.slice(inner.name.lastIndexOf(":") + 1) : key, inner)
        }
      }
    }
  }
  return found
}

const pick = (name: string, module: Readonly<Record<string, unknown>>): Effect.Effect<AnyPlugin, PluginError> => {
  const { exported, specifier } = split(name)
  const found = exportsOf(module)
  if (found.size === 0) {
    return Effect.fail(
      new PluginError({
        message: `The module ${specifier} is not an etl-stream plugin.`,
        hint:
          "A plugin module exports `plugin`, made with `Plugin.source`, `Plugin.sink`, `Plugin.transform`, `Plugin.state` or `Plugin.notifier` of @etl-stream/core."
      })
    )
  }
  const names = [...found.keys()].map((key) => `\`${specifier}:${key}\``)
  if (exported !== undefined) {
    const plugin = found.get(exported)
    if (plugin !== undefined) return Effect.succeed(plugin)
    const meant = closest(exported, found.keys())
    return Effect.fail(
      new PluginError({
        message: `The module ${specifier} has no plugin \`${exported}\`.`,
        hint: meant === undefined ? `It has ${enumerate(names, "and")}.` : `Did you mean \`${specifier}:${meant}\`?`
      })
    )
  }
  const only = found.size === 1 ? [...found.values()][0] : found.get("plugin")
  return only === undefined
    ? Effect.fail(
      new PluginError({
        message: `The module ${specifier} has several plugins.`,
        hint: `Name one: ${enumerate(names, "or")}.`
      })
    )
    : Effect.succeed(only)
}

const checkVersion = (name: string, plugin: AnyPlugin): Effect.Effect<AnyPlugin, PluginError> =>
  plugin.apiVersion === apiVersion
    ? Effect.succeed(plugin)
    : Effect.fail(
      new PluginError({
        message:
          `The plugin ${name} was written for plugin API version ${plugin.apiVersion}; this etl-stream has version ${apiVersion}.`,
        hint: plugin.apiVersion > apiVersion
          ? "Upgrade etl-stream, or install an older version of the plugin."
          : "Install a newer version of the plugin."
      })
    )

/** The module that `name` is in, looked for from `directory` (absolute) first. */
const moduleOf = Effect.fnUntraced(function*(name: string, directory: string) {
  const { specifier } = split(name)
  const url = yield* locate(specifier, directory)
  if (!url.startsWith("file:")) {
    return yield* new PluginError({
      message: `\`${name}\` is a part of Node, not a plugin.`,
      hint: "Name a plugin package, or a path beginning with `./`."
    })
  }
  return { module: yield* load(name, url), path: fileURLToPath(url), builtIn: builtIn.includes(specifier) }
})

/** The plugin `name`, looked for from `directory` (absolute) first. */
export const find = Effect.fn("PluginLoader.find")(
  function*(name: string, directory: string): Effect.fn.Return<Loaded, PluginError> {
    const { builtIn, module, path } = yield* moduleOf(name, directory)
    const plugin = yield* Effect.flatMap(pick(name, module), (plugin) => checkVersion(name, plugin))
    return { name, plugin, path, builtIn }
  }
)

/** The names by which configurations name the plugins of the package `name`: one for each if it has several. */
export const namesIn = Effect.fn("PluginLoader.namesIn")(
  function*(name: string, directory: string): Effect.fn.Return<ReadonlyArray<string>, PluginError> {
    const found = exportsOf((yield* moduleOf(name, directory)).module)
    return found.size < 2 || found.has("plugin") ? [name] : [...found.keys()].map((exported) => `${name}:${exported}`)
  }
)

/** `loaded.plugin` if it is of `kind`. */
export const expectKind = <K extends Kind>(loaded: Loaded, kind: K): Effect.Effect<Plugin<K, unknown>, PluginError> =>
  loaded.plugin.kind === kind
    ? Effect.succeed(loaded.plugin as unknown as Plugin<K, unknown>) // the kind, just compared, is its discriminant
    : Effect.fail(
      new PluginError({
        message: `The plugin ${loaded.name} is ${article(loaded.plugin.kind)}; ${article(kind)} is needed here.`,
        hint: `Name ${article(kind)} plugin; \`etl-stream plugin list\` shows what is installed.`
      })
    )

const Manifest = Schema.Struct({
  name: Schema.optional(Schema.String),
  keywords: Schema.optional(Schema.Array(Schema.String)),
  dependencies: Schema.optional(Schema.Record(Schema.String, Schema.String)),
  devDependencies: Schema.optional(Schema.Record(Schema.String, Schema.String)),
  optionalDependencies: Schema.optional(Schema.Record(Schema.String, Schema.String))
})
const decodeManifest = Schema.decodeUnknownOption(Schema.fromJsonString(Manifest))

/** A package.json, or undefined when there is none that can be read. */
const manifestIn = (folder: string): typeof Manifest.Type | undefined => {
  const file = join(folder, "package.json")
  if (!Fs.existsSync(file)) return undefined
  const decoded = decodeManifest(Fs.readFileSync(file, "utf8"))
  return decoded._tag === "Some" ? decoded.value : undefined
}

const ancestors = (directory: string): ReadonlyArray<string> => {
  const parent = dirname(directory)
  return parent === directory ? [directory] : [directory, ...ancestors(parent)]
}

/** The keyword by which a package says that it is a plugin. */
export const keyword = "etl-stream-plugin"

/** Names of the plugins that the project around `directory` depends on: its dependencies with the keyword `etl-stream-plugin`. */
export const installed = (directory: string): ReadonlyArray<string> => {
  const folders = ancestors(directory)
  const project = folders.map(manifestIn).find((manifest) => manifest !== undefined)
  const names = Object.keys({ ...project?.dependencies, ...project?.devDependencies, ...project?.optionalDependencies })
  return names.filter((name) => {
    const manifest = folders.map((folder) => manifestIn(join(folder, "node_modules", name))).find((manifest) =>
      manifest !== undefined
    )
    return manifest?.keywords?.includes(keyword) === true && !builtIn.includes(name)
  })
}
