/**
 * Why a plugin can't be used, and what to do: what Node says of a module that can't be found or loaded, put in terms of plugins.
 */
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import { stripTypeScriptTypes } from "node:module"
import { fileURLToPath } from "node:url"
import * as SharedModules from "./SharedModules.ts"
import { closest } from "./Suggestion.ts"

export class PluginError extends Schema.TaggedError<PluginError>("@etl-stream/runner/PluginError")("PluginError", {
  message: Schema.String,
  hint: Schema.String,
  /** The package is not there at all. */
  missing: Schema.optionalKey(Schema.Literal(true)),
  cause: Schema.optionalKey(Schema.Defect())
}) {}

const codeOf = (cause: unknown): unknown =>
  typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined

const firstLine = (cause: unknown): string =>
  (cause instanceof Error ? cause.message.split("\n").find((line) => line.trim() !== "") ?? cause.name : String(cause))
    .trim().replace(/\.$/, "")

/** Why the package `specifier` can't be found, `known` being names that might have been meant. */
export const unresolvable = (specifier: string, known: ReadonlyArray<string>) => (cause: unknown): PluginError => {
  const meant = closest(specifier, known)
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
    case "ERR_INVALID_PACKAGE_CONFIG":
      return new PluginError({
        message: `The plugin package ${specifier} can't be found: its package.json is not valid JSON.`,
        hint: "Install it again, or report it to its author.",
        cause
      })
    default:
      return new PluginError({
        message: `The plugin package ${specifier} can't be found: ${firstLine(cause)}.`,
        hint: "Its package.json has no export that can be imported: check its version, or report it to its author.",
        cause
      })
  }
}

const pathOf = (place: string): string =>
  place.startsWith("file:") ? fileURLToPath(place.replace(/[?#].*$/, "")) : place

const file = String.raw`((?:file:\/\/|\/|[A-Za-z]:\\)[^()\n]+?)`

/** The place that Node shows above a syntax error. */
const shownPlace = (cause: unknown): string | undefined => {
  const stack = cause instanceof Error ? cause.stack ?? "" : ""
  const [, path, line] = new RegExp(`^${file}:(\\d+)$`, "m").exec(stack.split(/^\s+at /m)[0] ?? "") ?? []
  return path === undefined ? undefined : `${pathOf(path)}:${line}`
}

/** The first call outside of Node that led to an error. */
const callPlace = (cause: unknown): string | undefined => {
  const stack = cause instanceof Error ? cause.stack ?? "" : ""
  const [, path, line] = new RegExp(`^\\s+at .*?\\(?${file}:(\\d+):\\d+\\)?$`, "m").exec(stack) ?? []
  return path === undefined ? undefined : `${pathOf(path)}:${line}`
}

/** More modules than this are a library's, which is rarely what has a syntax error. */
const mostSearched = 100

/** Node keeps the place of an ES module's syntax error to itself: the first of `modules` that can't be parsed has it. */
const searchedPlace = (modules: ReadonlyArray<string>): string | undefined => {
  for (const path of modules.slice(0, mostSearched)) {
    if (!/\.m?[jt]s$/.test(path)) continue
    try {
      stripTypeScriptTypes(Fs.readFileSync(path, "utf8"), { sourceUrl: path })
    } catch (cause) {
      return shownPlace(cause)
    }
  }
  return undefined
}

/** What Node couldn't find, and who imports it. */
const absent = /Cannot find (?:package|module) '([^']+)'(?: imported from (?:'([^']+)'|(\S+)))?/

const isRelative = (specifier: string): boolean => /^(\.|\/|file:|[A-Za-z]:\\)/.test(specifier)

/** The name of the package that `specifier` is of. */
const packageName = (specifier: string): string =>
  specifier.split("/").slice(0, specifier.startsWith("@") ? 2 : 1).join("/")

const notFound = (name: string, path: string, cause: unknown): PluginError => {
  const [, specifier = "", quoted, bare] = absent.exec(firstLine(cause)) ??
    absent.exec(cause instanceof Error ? cause.message : "") ?? []
  const stack = /Require stack:\n- (.+)/.exec(cause instanceof Error ? cause.message : "")
  const importer = quoted ?? bare ?? stack?.[1]
  if (isRelative(specifier) && pathOf(specifier) === path) {
    return new PluginError({
      message: `The plugin ${name} can't be loaded: its package.json names ${path}, which is not there.`,
      hint: "Build the plugin, or install it again.",
      cause
    })
  }
  const by = importer === undefined ? "" : ` (imported by ${pathOf(importer)})`
  if (specifier === "" || isRelative(specifier)) {
    const file = pathOf(specifier)
    const extension = [".ts", ".js", ".mjs", ".cjs"].find((extension) => Fs.existsSync(`${file}${extension}`))
    return new PluginError({
      message: `The plugin ${name} can't be loaded: there is no module ${file}${by}.`,
      hint: extension === undefined
        ? "Something that it imports is missing: correct the import, or install the plugin again."
        : `Write the file's extension in the import: \`${extension}\`.`,
      cause
    })
  }
  return new PluginError({
    message: `The plugin ${name} can't be loaded: it needs the package ${
      packageName(specifier)
    }, which is not installed${by}.`,
    hint: `Something that it imports is missing: install the plugin's dependencies (\`npm install ${
      packageName(specifier)
    }\` for a plugin of your own).`,
    cause
  })
}

/** Why the module of the plugin `name`, at `path`, can't be loaded. */
export const unloadable = (name: string, path: string) => (cause: unknown): PluginError => {
  const place = shownPlace(cause) ??
    (cause instanceof SyntaxError ? searchedPlace(SharedModules.modulesOf(path)) : callPlace(cause))
  const failed = (message: string, hint: string): PluginError =>
    new PluginError({
      message: `The plugin ${name} can't be loaded: ${place === undefined ? "" : `${place}: `}${message}.`,
      hint,
      cause
    })
  if (cause instanceof SharedModules.SharedModuleMissing) {
    return new PluginError({
      message: `The plugin ${name} can't be loaded: ${cause.message}.`,
      hint:
        `Upgrade etl-stream to one with a newer ${cause.shared}, or install a version of the plugin that was made for ${cause.shared} ${cause.version}.`,
      cause
    })
  }
  switch (codeOf(cause)) {
    case "ERR_MODULE_NOT_FOUND":
    case "MODULE_NOT_FOUND":
      return notFound(name, path, cause)
    case "ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING":
      return new PluginError({
        message: `The plugin ${name} is TypeScript inside node_modules, which Node doesn't run.`,
        hint: "Publish it as JavaScript, or move it out of node_modules.",
        cause
      })
    case "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX":
      return failed(
        firstLine(cause),
        "Node only takes types away: write it without `enum`, `namespace` and parameter properties (`erasableSyntaxOnly` in tsconfig.json finds them), or build it to JavaScript."
      )
    case "ERR_INVALID_TYPESCRIPT_SYNTAX":
      return failed(firstLine(cause), "The syntax is wrong: correct it, or report it to the plugin's author.")
    case "ERR_UNKNOWN_FILE_EXTENSION":
      return failed(firstLine(cause), "A plugin is a `.ts`, `.mts`, `.js`, `.mjs` or `.cjs` file.")
    case "ERR_PACKAGE_PATH_NOT_EXPORTED":
      return failed(
        firstLine(cause),
        "It imports what another package doesn't export: install the version of that package that the plugin was made for."
      )
    case "ERR_REQUIRE_ASYNC_MODULE":
      return failed(
        "a module that waits at its top level (`await`) can't be required",
        "Import it with `import()`, or make the plugin an ES module (`\"type\": \"module\"`)."
      )
  }
  if (cause instanceof SyntaxError) {
    const [, module, exported] =
      /requested module '([^']+)' (?:does not provide|is a CommonJS module).* named '([^']+)'|Named export '([^']+)'/
        .exec(cause.message.replaceAll("\n", " ")) ?? []
    const isShared = module !== undefined && /^(effect|@etl-stream\/core|apache-arrow)(\/|$)/.test(module)
    if (module !== undefined && exported !== undefined) {
      return failed(
        `the module ${module} has no export ${exported}`,
        isShared
          ? `The plugin was made for another version of ${
            packageName(module)
          }: upgrade etl-stream or the plugin, whichever is older.`
          : "Correct the import; a type is imported by `import type`."
      )
    }
    return failed(firstLine(cause), "The syntax is wrong: correct it, or report it to the plugin's author.")
  }
  return failed(firstLine(cause), "Its module throws while it is loaded: correct it, or report it to its author.")
}
