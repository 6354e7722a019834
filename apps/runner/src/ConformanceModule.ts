/**
 * Finds and loads the conformance suites of a plugin package: the module that its manifest names, by its export `conformance`.
 *
 * What a suite is, is told by its form alone: the kit that makes it is a development dependency of the plugin, not of ours.
 */
import * as PluginManifest from "@etl-stream/core/PluginManifest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import { basename, dirname, join, resolve } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { CommandError } from "./CommandError.ts"
import { ExitCode } from "./ExitCode.ts"
import * as OwningPackage from "./OwningPackage.ts"
import * as PluginLoader from "./PluginLoader.ts"

/** `Case` of `@etl-stream/testkit/Conformance`. */
export interface Case {
  readonly name: string
  readonly run: Effect.Effect<void, unknown, Scope.Scope>
  readonly skipped: string | undefined
}

/** `Suite` of `@etl-stream/testkit/Conformance`. */
export interface Suite {
  readonly kind: string
  readonly plugin: string
  readonly cases: ReadonlyArray<Case>
  readonly timeout: Duration.Duration
}

/** Suites and where they are from. */
export interface Found {
  /** Name of the package, or of the module's file. */
  readonly name: string
  /** Absolute path of the module. */
  readonly module: string
  readonly suites: ReadonlyArray<Suite>
}

const field = (value: unknown, key: string): unknown =>
  typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined

const isCase = (value: unknown): value is Case =>
  typeof field(value, "name") === "string" && Effect.isEffect(field(value, "run")) &&
  ["string", "undefined"].includes(typeof field(value, "skipped"))

const isSuite = (value: unknown): value is Suite => {
  const cases = field(value, "cases")
  return typeof field(value, "kind") === "string" && typeof field(value, "plugin") === "string" &&
    Duration.isDuration(field(value, "timeout")) && Array.isArray(cases) && cases.every(isCase)
}

const none = (message: string, hint: string): CommandError =>
  new CommandError({ code: "NoConformance", message, hint, exitCode: ExitCode.validation })

const unloadable = (message: string, hint: string, cause?: unknown): CommandError =>
  new CommandError({
    code: "PluginUnloadable",
    message,
    hint,
    exitCode: ExitCode.environment,
    ...(cause === undefined ? {} : { cause })
  })

const Package = Schema.fromJsonString(
  Schema.Struct({
    name: Schema.optionalKey(Schema.String),
    [PluginManifest.key]: Schema.optionalKey(PluginManifest.Manifest)
  })
)
const decodePackage = Schema.decodeUnknownResult(Package)

const manifestIn = (folder: string): Effect.Effect<typeof Package.Type, CommandError> => {
  const file = join(folder, "package.json")
  const decoded = decodePackage(Fs.readFileSync(file, "utf8"))
  return decoded._tag === "Success"
    ? Effect.succeed(decoded.success)
    : Effect.fail(none(`${file} can't be read as the manifest of a plugin`, decoded.failure.message))
}

const hasManifest = (folder: string): boolean => Fs.existsSync(join(folder, "package.json"))

/** The folder of the package `name`, installed for `directory` or for this program. */
const installed = (name: string, directory: string): string | undefined =>
  [...OwningPackage.ancestors(directory), ...OwningPackage.ancestors(dirname(fileURLToPath(import.meta.url)))]
    .map((folder) => join(folder, "node_modules", ...name.split("/")))
    .find(hasManifest)

const isPath = (text: string): boolean => /^\.{0,2}[\\/]|^\.{1,2}$|^[A-Za-z]:[\\/]/.test(text)

const example = `"${PluginManifest.key}": { "apiVersion": 1, "conformance": "./dist/conformance.js" }`

/** The module that the package in `folder` names. */
const named = Effect.fnUntraced(function*(folder: string) {
  const { name = basename(folder), [PluginManifest.key]: manifest } = yield* manifestIn(folder)
  if (manifest?.conformance === undefined) {
    return yield* none(
      `The package ${name} names no conformance suites`,
      `Make them with @etl-stream/testkit, export them as \`conformance\` from a module, and name it in package.json: ${example}.`
    )
  }
  return { name, module: resolve(folder, manifest.conformance) }
})

/** Where the suites of `plugin` (a package's name, a folder, a module; undefined: the package around `directory`) are. */
const locate = Effect.fnUntraced(function*(plugin: string | undefined, directory: string) {
  if (plugin === undefined) {
    const folder = OwningPackage.ancestors(directory).find(hasManifest)
    return folder === undefined
      ? yield* none("There is no package.json here or above", "Go to the plugin's folder, or name the plugin.")
      : yield* named(folder)
  }
  const path = resolve(directory, plugin)
  const stat = isPath(plugin) ? Fs.statSync(path, { throwIfNoEntry: false }) : undefined
  if (stat?.isFile() === true) return { name: plugin, module: path }
  if (stat?.isDirectory() === true) {
    return hasManifest(path)
      ? yield* named(path)
      : yield* none(`There is no package.json in ${plugin}`, "Name the folder of a plugin's package.")
  }
  const folder = isPath(plugin) ? undefined : installed(plugin, directory)
  return folder === undefined
    ? yield* none(
      isPath(plugin) ? `There is no file or folder ${plugin}` : `The package ${plugin} is not installed`,
      "Name an installed package, or the folder of one, beginning with `./`."
    )
    : yield* named(folder)
})

/** The suites of `plugin`, looked for from `directory` (absolute). */
export const load = Effect.fn("ConformanceModule.load")(
  function*(plugin: string | undefined, directory: string): Effect.fn.Return<Found, CommandError> {
    const { module, name } = yield* locate(plugin, directory)
    if (!Fs.existsSync(module)) {
      return yield* unloadable(`The module of the suites of ${name} isn't there: ${module}`, "Build the package first.")
    }
    const { conformance } = yield* PluginLoader.loadModule(name, pathToFileURL(module).href).pipe(
      Effect.mapError(({ cause, hint, message }) => unloadable(message, hint, cause))
    )
    const suites: ReadonlyArray<unknown> = Array.isArray(conformance) ? conformance : [conformance]
    if (conformance === undefined || suites.length === 0) {
      return yield* none(
        `The module ${module} exports no \`conformance\``,
        "Export a suite that @etl-stream/testkit makes, or a list of them, by that name."
      )
    }
    if (!suites.every(isSuite)) {
      return yield* none(
        `What the module ${module} exports as \`conformance\` are no suites`,
        "Make them with the suites of @etl-stream/testkit, of a version that goes with this etl-stream."
      )
    }
    return { name, module, suites }
  }
)
