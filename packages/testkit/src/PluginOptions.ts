/**
 * Options of a plugin as a configuration has them, decoded as the runner does it, and a plugin made of them.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Kind, Made, Plugin, PluginContext } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import type * as Scope from "effect/Scope"

/** Options as in a configuration file, its references (`${env:…}`) resolved: secrets are plain text. */
export type Options = Readonly<Record<string, unknown>>

/** Options that decoding must refuse. */
export interface RefusedOptions {
  /** What is wrong with them, a few words for the case's name. */
  readonly what: string
  readonly options: Options
  /** Path of the option that the error must name, its parts joined by dots (`columns.0.name`); empty: the options as a whole. */
  readonly path: string
}

/** Options were refused. */
export class OptionsRefused extends Schema.TaggedError<OptionsRefused>("@etl-stream/testkit/OptionsRefused")(
  "OptionsRefused",
  { message: Schema.String, paths: Schema.Array(Schema.String) }
) {}

/** Where a plugin runs, if nothing else is said. */
export const context: PluginContext = { pipeline: "conformance", directory: process.cwd() }

/** The plugin's own form of `options`: every problem is found, unknown keys are problems. */
export const decode = <K extends Kind, A>(plugin: Plugin<K, A>, options: Options): Effect.Effect<A, OptionsRefused> =>
  Schema.decodeUnknownEffect(Schema.toCodecJson(plugin.config))(options, {
    errors: "all",
    onExcessProperty: "error"
  }).pipe(
    Effect.mapError(({ issue, message }) =>
      new OptionsRefused({
        message,
        paths: SchemaIssue.makeFormatterStandardSchemaV1()(issue).issues.map(({ path }) =>
          (path ?? []).map((part) => String(typeof part === "object" ? part.key : part)).join(".")
        )
      })
    )
  )

/** What the plugin makes of `options`, closed with the scope. */
export const make = <K extends Kind, A>(
  plugin: Plugin<K, A>,
  options: Options,
  where: PluginContext = context
): Effect.Effect<Made[K], ConnectorError | OptionsRefused, Scope.Scope> =>
  Effect.flatMap(decode(plugin, options), (config) => plugin.make(config, where))
