/**
 * Loads what a configuration has at a stage: finds its plugin, and decodes the options with the plugin's schema.
 *
 * Everything that is wrong, or worth a warning, is gathered, so that all of it is told at once. Nothing is connected to.
 */
import type { Kind } from "@etl-stream/core/Plugin"
import * as TablePattern from "@etl-stream/core/TablePattern"
import * as Effect from "effect/Effect"
import type { Config } from "./Config.ts"
import * as Decoding from "./Decoding.ts"
import * as Deprecation from "./Deprecation.ts"
import type * as Interpolation from "./Interpolation.ts"
import * as PluginLoader from "./PluginLoader.ts"
import type { Finding, Path } from "./Problem.ts"
import * as Redaction from "./Redaction.ts"

/** What is gathered while stages are decoded. */
export interface Gathering {
  readonly document: unknown
  readonly directory: string
  readonly references: ReadonlyArray<Interpolation.Reference>
  readonly findings: Array<Finding>
  readonly warnings: Array<Finding>
  readonly secrets: Set<string>
}

/** The stage at `path`; undefined, with findings, when something is wrong with it. */
export const load = Effect.fnUntraced(function*<K extends Kind>(
  gathering: Gathering,
  path: Path,
  stage: { readonly plugin: string; readonly options: unknown },
  kind: K
) {
  const pluginPath = [...path, "plugin"]
  const unresolved = gathering.references.some((reference) =>
    reference.resolved === undefined && reference.path.join("\0") === pluginPath.join("\0")
  )
  if (unresolved) return undefined
  const found = yield* PluginLoader.find(stage.plugin, gathering.directory).pipe(
    Effect.flatMap((loaded) => Effect.map(PluginLoader.expectKind(loaded, kind), (plugin) => ({ ...loaded, plugin }))),
    Effect.catch((error) =>
      Effect.sync((): undefined => {
        gathering.findings.push({ path: pluginPath, at: "value", message: error.message, remedy: error.hint })
      })
    )
  )
  if (found === undefined) return undefined
  const { place, plugin, warnings } = found
  gathering.warnings.push(
    ...warnings.map((warning) => ({ path: pluginPath, at: "value" as const, ...warning })),
    ...Deprecation.find(plugin.config, stage.options, [...path, "options"])
  )
  const decoded = yield* Decoding.decode(plugin.config, stage.options, [...path, "options"], gathering.references).pipe(
    Effect.catchDefect((defect) =>
      // Its message may quote what is in the options.
      Effect.succeed<Decoding.Decoded<unknown>>({
        _tag: "Invalid",
        findings: [{
          path: [...path, "options"],
          at: "key",
          message: `The plugin can't check these options: its schema throws${
            defect instanceof Error ? ` (${defect.name})` : ""
          }.`,
          remedy: "This is a bug of the plugin: report it to its author."
        }]
      })
    )
  )
  if (decoded._tag === "Invalid") {
    gathering.findings.push(...decoded.findings)
    return undefined
  }
  for (const secret of Redaction.secretsOf(decoded.value)) gathering.secrets.add(secret)
  return { name: stage.plugin, plugin, options: decoded.value, place }
})

/** The same of a transform, with the tables that it is for. */
export const loadTransform = Effect.fnUntraced(
  function*(gathering: Gathering, path: Path, transform: Config["pipelines"][string]["transforms"][number]) {
    const stage = yield* load(gathering, path, transform, "transform")
    // Decoding has seen to it that they are patterns.
    const tables = transform.tables?.flatMap((text) => TablePattern.parse(text) ?? [])
    return stage === undefined || tables === undefined ? stage : { ...stage, tables }
  }
)
