/**
 * What is told of a plugin, by `etl-stream plugin list` and by the HTTP API alike, and which plugins there are.
 */
import { type AnyPlugin, type Kind, type Plugin, type Stability } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
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

/** One with what is to be said of it nevertheless. */
type Usable = Description & { readonly warnings: ReadonlyArray<string> }

/** A plugin that can be named, whether or not it can be used. */
export type Listed =
  | Usable
  | {
    readonly name: string
    readonly path: string | null
    readonly origin: PluginLoader.Origin | null
    readonly package: string | null
    /** Why it can't be used, and what to do. */
    readonly problem: string
  }

export const isUsable = (listed: Listed): listed is Usable => !("problem" in listed)

/** What is to be said of the plugin `name`, looked for from `directory`. `kind`: what it is needed as. */
export const look = Effect.fn("PluginInventory.look")(
  function*(name: string, directory: string, kind?: AnyPlugin["kind"]): Effect.fn.Return<Listed> {
    const found = yield* PluginLoader.find(name, directory).pipe(
      Effect.tap((loaded) => kind === undefined ? Effect.void : PluginLoader.expectKind(loaded, kind)),
      Effect.result
    )
    if (found._tag === "Success") {
      const { place, plugin, warnings } = found.success
      return {
        ...describe(name, plugin, place),
        warnings: warnings.map(({ message, remedy }) => `${message} ${remedy}`)
      }
    }
    const { hint, message } = found.failure
    const place = yield* Effect.option(PluginLoader.place(name, directory))
    const { origin = null, package: owner, path = null } = place._tag === "Some" ? place.value : {}
    return { name, path, origin, package: owner?.name ?? null, problem: `${message} ${hint}` }
  }
)

/** Names of every plugin that a configuration in `directory` can name: the built-in ones, those of the projects around it, those beside the runner. */
export const names = Effect.fn("PluginInventory.names")(
  function*(directory: string): Effect.fn.Return<ReadonlyArray<string>> {
    const packages = new Set([
      ...PluginLoader.builtIn,
      ...PluginLoader.installed(directory),
      ...PluginLoader.besideRunner()
    ])
    const found = yield* Effect.forEach(packages, (name) =>
      // What is wrong with it is told by whoever looks for it.
      PluginLoader.namesIn(name, directory).pipe(Effect.catch(() => Effect.succeed([name]))))
    return found.flat()
  }
)

/** All of them, looked at. */
export const all = (directory: string): Effect.Effect<ReadonlyArray<Listed>> =>
  Effect.flatMap(names(directory), (names) => Effect.forEach(names, (name) => look(name, directory)))
