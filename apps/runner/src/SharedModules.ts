/**
 * Gives plugins the runner's own copies of the packages that they share with it, whatever copies lie beside them.
 *
 * What two copies of these packages can't do for each other, and why the answer is a hook of module resolution, is in docs/decisions/0009-plugin-loading.md. The hook is about modules
 * of plugins alone: those that `adopt` named, and all that is imported from there. Everything else in the process resolves as ever. A package among a plugin's
 * dependencies that asks for a version which the runner's isn't (a library written for an older Effect) keeps its own.
 */
import { moduleResolve } from "import-meta-resolve"
import * as Fs from "node:fs"
import * as Module from "node:module"
import { fileURLToPath, pathToFileURL } from "node:url"
import * as OwningPackage from "./OwningPackage.ts"
import * as VersionRange from "./VersionRange.ts"

/** Packages that every plugin shares with the runner. Arrow's classes are compared by `instanceof` wherever a batch is written or sliced. */
export const names = ["@etl-stream/core", "effect", "apache-arrow"] as const
export type Name = typeof names[number]

/** The shared package that `specifier` is of. */
const nameOf = (specifier: string): Name | undefined =>
  names.find((name) => specifier === name || specifier.startsWith(`${name}/`))

/** Also for modules that are required: all shared packages are loaded as ES modules, so that there is one instance of each. */
const conditions = new Set(["node", "import", "module-sync"])

/** Where `specifier` leads from the module at `parent`, a URL. Throws as Node's own resolution does. */
const resolveFrom = (specifier: string, parent: string): string => {
  const { href } = moduleResolve(specifier, new URL(parent), conditions)
  if (Fs.existsSync(fileURLToPath(href))) return href
  throw Object.assign(new Error(`Cannot find module '${specifier}'`), { code: "ERR_MODULE_NOT_FOUND" })
}

/** Core depends on Arrow, the runner doesn't: the module of ours from which a shared package is looked for. */
const homeOf = (name: Name): string =>
  name === "apache-arrow" ? resolveFrom("@etl-stream/core/Plugin", import.meta.url) : import.meta.url

const versions = new Map<Name, string>()

/** The version of a shared package that the runner has. */
export const versionOf = (name: Name): string => {
  const known = versions.get(name)
  if (known !== undefined) return known
  // Any module of it will do; none of these packages exports its package.json for certain.
  const module = name === "@etl-stream/core" ? "@etl-stream/core/Plugin" : name === "effect" ? "effect/Effect" : name
  const version = OwningPackage.of(fileURLToPath(resolveFrom(module, homeOf(name))))?.version ?? "0.0.0"
  versions.set(name, version)
  return version
}

/** A plugin asks for a module of a shared package that the runner's version doesn't have. */
export class SharedModuleMissing extends Error {
  readonly shared: Name
  readonly version: string
  constructor(specifier: string, shared: Name, cause: unknown) {
    const version = versionOf(shared)
    super(`${shared} ${version}, which this etl-stream gives to plugins, has no module \`${specifier}\``, { cause })
    this.name = "SharedModuleMissing"
    this.shared = shared
    this.version = version
  }
}

const resolved = new Map<string, string>()

const shared = (specifier: string, name: Name): string => {
  const known = resolved.get(specifier)
  if (known !== undefined) return known
  try {
    const url = resolveFrom(specifier, homeOf(name))
    resolved.set(specifier, url)
    return url
  } catch (cause) {
    throw new SharedModuleMissing(specifier, name, cause)
  }
}

/** A module whatever its query says. */
const keyOf = (url: string): string => url.replace(/[?#].*$/s, "")

/** Modules of plugins and of what they depend on, each with the plugin's module that led to it first. */
const members = new Map<string, string>()
/** Folders of the plugins' own packages: their ranges were judged when they were loaded, and what is wrong with them was told. */
const plugins = new Set<string>()
const packages = new Map<string, OwningPackage.OwningPackage | undefined>()

const packageOf = (url: string): OwningPackage.OwningPackage | undefined => {
  if (!url.startsWith("file:")) return undefined
  const key = keyOf(url)
  if (!packages.has(key)) packages.set(key, OwningPackage.of(fileURLToPath(key)))
  return packages.get(key)
}

/** Whether the module at `parent` gets the runner's copy of `name`. */
const shares = (parent: string, name: Name): boolean => {
  const owner = packageOf(parent)
  if (owner === undefined || plugins.has(owner.folder)) return true
  const asked = owner.asks(name)
  const standing = asked === undefined ? "unknown" : VersionRange.judge(asked.range, versionOf(name))
  return standing === "within" || standing === "unknown"
}

const resolve: Module.ResolveHookSync = (specifier, context, nextResolve) => {
  const parent = context.parentURL
  const plugin = parent === undefined ? undefined : members.get(keyOf(parent))
  if (parent === undefined || plugin === undefined) return nextResolve(specifier, context)
  const name = nameOf(specifier)
  if (name !== undefined && shares(parent, name)) return { url: shared(specifier, name), shortCircuit: true }
  const next = nextResolve(specifier, context)
  const found = keyOf(next.url)
  if (found.startsWith("file:") && !members.has(found)) members.set(found, plugin)
  return next
}

/** Paths of the modules that the plugin's module at `path` has led to so far, itself first. */
export const modulesOf = (path: string): ReadonlyArray<string> => {
  const plugin = pathToFileURL(path).href
  return [...members].flatMap(([url, from]) => from === plugin ? [fileURLToPath(url)] : [])
}

let installed = false

/** Says that the module at `url` is a plugin's, before it is imported. */
export const adopt = (url: string): void => {
  if (!installed) {
    installed = true
    Module.registerHooks({ resolve })
  }
  const path = fileURLToPath(url)
  const real = Fs.realpathSync(path)
  for (const member of [path, real]) members.set(pathToFileURL(member).href, pathToFileURL(path).href)
  const owner = OwningPackage.of(real)
  if (owner !== undefined) plugins.add(owner.folder)
}
