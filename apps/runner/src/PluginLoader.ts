/**
 * Finds plugins by name and loads them.
 *
 * A name is a package's (`@etl-stream/source-postgres`), or a path relative to the configuration file (`./transforms/mask.ts`, or a folder with a package.json), optionally with
 * `:exportName` for one of several plugins. Packages are looked for from the configuration's folder, then from the runner's own place, where the built-in ones
 * are. A package is judged by its package.json before anything of it is run (`PluginCompatibility`), and gets the runner's copies of what it shares with it
 * (`SharedModules`). Loading a plugin runs its module; nothing is connected to.
 */
import { type AnyPlugin, isPlugin, type Kind, type Plugin } from "@etl-stream/core/Plugin"
import { keyword } from "@etl-stream/core/PluginManifest"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { moduleResolve, resolve } from "import-meta-resolve"
import * as Fs from "node:fs"
import { createRequire } from "node:module"
import { basename, dirname, join, resolve as resolvePath } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import * as OwningPackage from "./OwningPackage.ts"
import * as PluginCompatibility from "./PluginCompatibility.ts"
import { PluginError, unloadable, unresolvable } from "./PluginError.ts"
import * as PluginExit from "./PluginExit.ts"
import * as PluginShape from "./PluginShape.ts"
import * as SharedModules from "./SharedModules.ts"
import { closest, enumerate } from "./Suggestion.ts"

export { PluginError } from "./PluginError.ts"

/** Who brought a plugin: the runner itself, the project around the configuration, whoever installed the runner (beside it), or a path in the configuration. */
export type Origin = "built-in" | "project" | "global" | "file"

/** Where a plugin was found. */
export interface Place {
  /** Absolute path of its module. */
  readonly path: string
  readonly origin: Origin
  /** The package that the module belongs to; undefined for a file without one. */
  readonly package: { readonly name: string; readonly version: string | undefined } | undefined
}

/** A plugin and where it was found. */
export interface Loaded {
  /** As a configuration names it. */
  readonly name: string
  readonly plugin: AnyPlugin
  readonly place: Place
  readonly warnings: PluginCompatibility.Warnings
}

/** Plugins that come with the runner. */
export const builtIn: ReadonlyArray<string> = [
  "@etl-stream/source-postgres",
  "@etl-stream/sink-snowflake",
  "@etl-stream/state-sqlite",
  "@etl-stream/state-redis",
  "@etl-stream/dead-letters-files",
  "@etl-stream/notifiers",
  "@etl-stream/transforms",
  "@etl-stream/monitor-wal"
]

/** How long a plugin's module may take to load. */
export const LoadLimit = Context.Reference<Duration.Input>("@etl-stream/runner/PluginLoader/LoadLimit", {
  defaultValue: () => "30 seconds"
})

const isPath = (specifier: string): boolean => /^(\.{1,2}([\\/]|$)|\/|[A-Za-z]:[\\/])/.test(specifier)

/** A name's module and, after a colon, its export. */
const split = (name: string): { readonly specifier: string; readonly exported: string | undefined } => {
  const match = name.startsWith("node:") ? null : /^(.+):([A-Za-z_$][\w$]*)$/.exec(name)
  return match === null || /^[A-Za-z]$/.test(match[1] ?? "")
    ? { specifier: name, exported: undefined }
    : { specifier: match[1] ?? name, exported: match[2] }
}

interface Located {
  readonly url: string
  readonly origin: Origin
}

/** The module that a folder with a package.json stands for: what importing it by its name would give, or its `main`. */
const locateFolder = Effect.fnUntraced(function*(specifier: string, folder: string) {
  const owner = OwningPackage.read(folder)
  if (owner === undefined) {
    return yield* new PluginError({
      message: `The plugin ${specifier} is a folder without a package.json.`,
      hint: "Name a file in it."
    })
  }
  const { file, name } = owner
  if (owner.field("exports") === undefined) {
    return yield* Effect.try({
      try: () => pathToFileURL(createRequire(file).resolve(folder)).href,
      catch: (cause) =>
        new PluginError({
          message: `The plugin ${specifier} is a folder whose package.json names no module that is there.`,
          hint: "Name a file in it, or give its package.json `exports`. Build it first if it has to be built.",
          cause
        })
    })
  }
  if (name === undefined) {
    return yield* new PluginError({
      message: `The plugin ${specifier} is a folder whose package.json has \`exports\` but no \`name\`.`,
      hint: "Give it a name, or name a file in the folder."
    })
  }
  return yield* Effect.try({
    try: () => moduleResolve(name, pathToFileURL(file)).href,
    catch: unresolvable(name, [])
  })
})

/** URLs of the built-in plugins that the runner has: its own packages stay where they are for as long as it runs. */
const ours = new Map<string, string>()

/** URL of the module that `specifier` names. */
const locate = Effect.fnUntraced(
  function*(specifier: string, directory: string): Effect.fn.Return<Located, PluginError> {
    if (isPath(specifier)) {
      const path = resolvePath(directory, specifier)
      const stat = Fs.statSync(path, { throwIfNoEntry: false })
      if (stat?.isFile() === true) return { url: pathToFileURL(path).href, origin: "file" }
      if (stat?.isDirectory() === true) return { url: yield* locateFolder(specifier, path), origin: "file" }
      return yield* new PluginError({
        message: `There is no plugin file ${specifier}.`,
        hint: "The path is relative to the configuration file's folder."
      })
    }
    const from = (parent: string) =>
      Effect.try({ try: () => resolve(specifier, parent), catch: unresolvable(specifier, builtIn) })
    const own = Effect.suspend(() => {
      const known = ours.get(specifier)
      return known !== undefined ?
        Effect.succeed(known) :
        Effect.tap(from(import.meta.url), (url) =>
          Effect.sync(() => {
            if (builtIn.includes(specifier)) ours.set(specifier, url)
          }))
    })
    // A package that is there but broken is reported, not replaced by another copy.
    const found = yield* from(pathToFileURL(join(directory, "etl-stream.yaml")).href).pipe(
      Effect.map((url): Located => ({ url, origin: "project" })),
      Effect.catchIf(
        ({ missing }) => missing === true,
        () => Effect.map(own, (url): Located => ({ url, origin: "global" }))
      )
    )
    if (!builtIn.includes(specifier)) return found
    const owned = yield* Effect.option(own)
    return owned._tag === "Some" && owned.value === found.url ? { ...found, origin: "built-in" } : found
  }
)

/** Modules that took longer than the limit, and are still loading. */
const stuck = new Set<string>()

const load = Effect.fnUntraced(function*(name: string, url: string) {
  const limit = yield* LoadLimit
  const tooLong = new PluginError({
    message:
      `The plugin ${name} is still loading: something that its module waits for at its top level (\`await\`) doesn't come.`,
    hint: "Make connections in the plugin's `make`, not while its module is loaded; report it to its author."
  })
  if (stuck.has(url)) return yield* tooLong
  const loading = Effect.tryPromise({
    // A module namespace is an object of exports.
    try: () => import(url).finally(() => stuck.delete(url)) as Promise<Readonly<Record<string, unknown>>>,
    catch: unloadable(name, fileURLToPath(url))
  })
  return yield* PluginExit.during(
    name,
    fileURLToPath(url),
    Effect.timeoutOrElse(loading, {
      duration: limit,
      orElse: () => Effect.andThen(Effect.sync(() => stuck.add(url)), Effect.fail(tooLong))
    })
  )
})

/** What a module exports, that may be plugins, by the name of their export: `plugin`, those in `plugins`, and all others. */
const exportsOf = (module: Readonly<Record<string, unknown>>): ReadonlyMap<string, unknown> => {
  const found = new Map<string, unknown>()
  for (const [exported, value] of Object.entries(module)) {
    if (exported !== "plugins" || typeof value !== "object" || value === null || isPlugin(value)) {
      found.set(exported, value)
      continue
    }
    for (const [key, inner] of Object.entries(value)) {
      const name: unknown = isPlugin(inner) ? inner.name : undefined
      found.set(Array.isArray(value) && typeof name === "string" ? name.slice(name.lastIndexOf(":") + 1) : key, inner)
    }
  }
  return found
}

const pluginsIn = (module: Readonly<Record<string, unknown>>): ReadonlyMap<string, AnyPlugin> =>
  new Map([...exportsOf(module)].flatMap(([exported, value]) => isPlugin(value) ? [[exported, value] as const] : []))

const constructors =
  "`Plugin.source`, `Plugin.sink`, `Plugin.transform`, `Plugin.state`, `Plugin.notifier`, `Plugin.monitor` or `Plugin.deadLetters` of @etl-stream/core"

const notAPlugin = (specifier: string, module: Readonly<Record<string, unknown>>): PluginError => {
  const [unbranded] = [...exportsOf(module)].find(([, value]) => PluginShape.isUnbranded(value)) ?? []
  if (unbranded !== undefined) {
    return new PluginError({
      message: `The export \`${unbranded}\` of ${specifier} looks like an etl-stream plugin, but wasn't made as one.`,
      hint: `Make it with ${constructors}: they say which version of the contracts it was written for.`
    })
  }
  return new PluginError({
    message: `The module ${specifier} is not an etl-stream plugin.`,
    hint: `A plugin module exports \`plugin\`, made with ${constructors}.`
  })
}

const pick = (name: string, module: Readonly<Record<string, unknown>>): Effect.Effect<AnyPlugin, PluginError> => {
  const { exported, specifier } = split(name)
  const found = pluginsIn(module)
  if (found.size === 0) return Effect.fail(notAPlugin(specifier, module))
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

/** Fails for a plugin of another version, or one that isn't what plugins are. */
const check = Effect.fnUntraced(function*(name: string, plugin: AnyPlugin) {
  const version = PluginShape.apiVersionOf(plugin)
  if (version !== undefined) yield* PluginCompatibility.checkApiVersion(name, version)
  const defect = PluginShape.defect(plugin)
  if (defect === undefined) return plugin
  return yield* new PluginError({
    message: `The plugin ${name} is malformed: ${defect}.`,
    hint: `Make it with ${constructors}, or report it to its author.`
  })
})

/** Where the module is that `name` names, looked for from `directory` (absolute) first. Nothing is loaded. */
const placed = Effect.fnUntraced(function*(name: string, directory: string) {
  const { origin, url } = yield* locate(split(name).specifier, directory)
  if (!url.startsWith("file:")) {
    return yield* new PluginError({
      message: `\`${name}\` is a part of Node, not a plugin.`,
      hint: "Name a plugin package, or a path beginning with `./`."
    })
  }
  const path = fileURLToPath(url)
  const owner = OwningPackage.of(path)
  const place: Place = {
    path,
    origin,
    package: owner?.name === undefined ? undefined : { name: owner.name, version: owner.version }
  }
  return { url, owner, place }
})

/** Where the plugin `name` is, whatever is wrong with it. */
export const place = Effect.fn("PluginLoader.place")(
  function*(name: string, directory: string): Effect.fn.Return<Place, PluginError> {
    return (yield* placed(name, directory)).place
  }
)

/** Imports the module at `url`, a file of the plugin `name`, which gets what it shares with the runner. */
export const loadModule = Effect.fn("PluginLoader.loadModule")(
  function*(name: string, url: string): Effect.fn.Return<Readonly<Record<string, unknown>>, PluginError> {
    if (Fs.existsSync(fileURLToPath(url))) SharedModules.adopt(url)
    return yield* load(name, url)
  }
)

/** The module that `name` is in. Its package is judged first, and the module gets what it shares with the runner. */
const moduleOf = Effect.fnUntraced(function*(name: string, directory: string) {
  const { specifier } = split(name)
  const { owner, place, url } = yield* placed(name, directory)
  const { origin } = place
  const warnings = owner === undefined || origin === "built-in"
    ? []
    : origin === "file"
    ? yield* PluginCompatibility.judgeFile(specifier, owner)
    : yield* PluginCompatibility.judge(specifier, owner)
  const module = yield* origin === "built-in" ? load(specifier, url) : loadModule(specifier, url)
  return { module, place, warnings }
})

/** The plugin `name`, looked for from `directory` (absolute) first. */
export const find = Effect.fn("PluginLoader.find")(
  function*(name: string, directory: string): Effect.fn.Return<Loaded, PluginError> {
    const { module, place, warnings } = yield* moduleOf(name, directory)
    const plugin = yield* Effect.flatMap(pick(name, module), (plugin) => check(name, plugin))
    return { name, plugin, place, warnings }
  }
)

/** The names by which configurations name the plugins of the package `name`: one for each if it has several. */
export const namesIn = Effect.fn("PluginLoader.namesIn")(
  function*(name: string, directory: string): Effect.fn.Return<ReadonlyArray<string>, PluginError> {
    const found = pluginsIn((yield* moduleOf(name, directory)).module)
    return found.size < 2 || found.has("plugin") ? [name] : [...found.keys()].map((exported) => `${name}:${exported}`)
  }
)

/** `loaded.plugin` if it is of `kind`. */
export const expectKind = <K extends Kind>(loaded: Loaded, kind: K): Effect.Effect<Plugin<K, unknown>, PluginError> =>
  loaded.plugin.kind === kind
    ? Effect.succeed(loaded.plugin as unknown as Plugin<K, unknown>) // the kind, just compared, is its discriminant
    : Effect.fail(
      new PluginError({
        message: `The plugin ${loaded.name} is a ${PluginShape.kinds[loaded.plugin.kind]}; a ${
          PluginShape.kinds[kind]
        } is needed here.`,
        hint: `Name a ${PluginShape.kinds[kind]} plugin; \`etl-stream plugin list\` shows what is installed.`
      })
    )

const isListed = (folder: string): boolean => OwningPackage.read(folder)?.keywords.includes(keyword) === true

/** Names of the plugins that the projects around `directory` depend on: their dependencies with the keyword. */
export const installed = (directory: string): ReadonlyArray<string> => {
  const folders = OwningPackage.ancestors(directory)
  const projects = folders.flatMap((folder) => OwningPackage.read(folder) ?? [])
  const names = new Set(projects.flatMap((project) => project.dependencies))
  return [...names].filter((name) => {
    const nearest = folders.map((folder) => join(folder, "node_modules", name)).find((folder) => Fs.existsSync(folder))
    return nearest !== undefined && isListed(nearest) && !builtIn.includes(name)
  })
}

/** Names of the plugins that were installed beside the package of the module at `path`: in the same project, or in the folder of global packages. */
export const beside = (path: string): ReadonlyArray<string> => {
  const owner = OwningPackage.of(path)
  const modules = owner === undefined ?
    "" :
    [dirname(owner.folder), dirname(dirname(owner.folder))].find((folder) => basename(folder) === "node_modules") ?? ""
  if (modules === "") return []
  if (Fs.existsSync(join(dirname(modules), "package.json"))) return installed(dirname(modules))
  const names = Fs.readdirSync(modules).flatMap((name) =>
    name.startsWith("@") ? Fs.readdirSync(join(modules, name)).map((inner) => `${name}/${inner}`) : [name]
  )
  return names.filter((name) => !builtIn.includes(name) && isListed(join(modules, name)))
}

/** The same beside this runner. */
export const besideRunner = (): ReadonlyArray<string> => beside(fileURLToPath(import.meta.url))
