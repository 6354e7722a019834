/**
 * What is told of a plugin, by `etl-stream plugin list` and by the HTTP API alike, and which plugins there are.
 */
import { type AnyPlugin, type Kind, type Plugin, type Stability } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import type { Warnings } from "./PluginCompatibility.ts"
import * as PluginLoader from "./PluginLoader.ts"

/** A plugin that can be used. */
export interface Description {
  /** As configurations name it. */
  readonly name: string
  readonly kind: Kind
  readonly version: string
  readonly apiVersion: number
  readonly stability: Stability
  readonly summary: string
  /** Absolute path of its module; null, like what follows, for one that a program made itself. */
  readonly path: string | null
  readonly origin: PluginLoader.Origin | null
  /** The package that it comes in. */
  readonly package: string | null
}

export const describe = <K extends Kind>(
  name: string,
  { apiVersion, kind, stability = "stable", summary, version }: Pick<
    Plugin<K, unknown>,
    "apiVersion" | "kind" | "stability" | "summary" | "version"
  >,
  place: PluginLoader.Place | undefined
): Description => ({
  name,
  kind,
  version,
  apiVersion,
  stability,
  summary,
  path: place?.path ?? null,
  origin: place?.origin ?? null,
  package: place?.package?.name ?? null
})

/** A plugin that can be named, whether or not it can be used. */
export type Listed =
  | (Description & { readonly warnings: Warnings })
  | {
    readonly name: string
    readonly path: string | null
    readonly origin: PluginLoader.Origin | null
    readonly package: string | null
    /** Why it can't be used, and what to do. */
    readonly problem: string
  }

export const isUsable = (listed: Listed): listed is Description & { readonly warnings: Warnings } =>
  !("problem" in listed)

/** What is to be said of the plugin `name`, looked for from `directory`. `kind`: what it is needed as. */
export const look = Effect.fn("PluginInventory.look")(
  function*(name: string, directory: string, kind?: AnyPlugin["kind"]): Effect.fn.Return<Listed> {
    const found = yield* PluginLoader.find(name, directory).pipe(
      Effect.tap((loaded) => kind === undefined ? Effect.void : PluginLoader.expectKind(loaded, kind)),
      Effect.result
    )
    if (found._tag === "Success") {
      const { place, plugin, warnings } = found.success
      return { ...describe(name, plugin, place), warnings }
    }
    const { hint, message } = found.failure
    const place = yield* Effect.option(PluginLoader.place(name, directory))
    const { origin = null, package: owner, path = null } = place._tag === "Some" ? place.value : {}
    return { name, path, origin, package: owner?.name ?? null, problem: `${message} ${hint}` }
  }
)

/** Every plugin that a configuration in `directory` can name: the built-in ones, those of the projects around it, those beside the runner. */
export const all = Effect.fn("PluginInventory.all")(
  function*(directory: string): Effect.fn.Return<ReadonlyArray<Listed>> {
    const packages = new Set([
      ...PluginLoader.builtIn,
      ...PluginLoader.installed(directory),
      ...PluginLoader.besideRunner()
    ])
    const names = yield* Effect.forEach(packages, (name) =>
      // What is wrong with it is told by `look`.
      PluginLoader.namesIn(name, directory).pipe(Effect.catch(() => Effect.succeed([name]))))
    return yield* Effect.forEach(names.flat(), (name) => look(name, directory))
  }
)
