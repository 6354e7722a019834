/**
 * Opens a plugin with encoded options, as the runner does: decoded by its schema, then made.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Kind, Made, Plugin } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"

/** What a case has to know to open a plugin. */
export interface Where {
  readonly options: unknown
  readonly directory?: string
  readonly pipeline?: string
}

const keyOf = (part: PropertyKey | { readonly key: PropertyKey }): string =>
  String(typeof part === "object" ? part.key : part)

/** Paths that decoding complains about, their parts joined by dots, and all of what it says. */
export interface Refusal {
  readonly paths: ReadonlyArray<string>
  readonly message: string
}

const decode = <A>(plugin: Plugin<Kind, A>, options: unknown) =>
  Schema.decodeUnknownEffect(plugin.config)(options, { errors: "all", onExcessProperty: "error" })

/** What decoding refuses of the options; undefined: it takes them. */
export const refusalOf = <A>(plugin: Plugin<Kind, A>, options: unknown): Effect.Effect<Refusal | undefined> =>
  decode(plugin, options).pipe(
    Effect.match({
      onSuccess: () => undefined,
      onFailure: (error) => ({
        paths: SchemaIssue.makeFormatterStandardSchemaV1()(error.issue).issues.map(({ path }) =>
          (path ?? []).map(keyOf).join(".")
        ),
        message: error.message
      })
    })
  )

export const open = <K extends Kind, A>(
  plugin: Plugin<K, A>,
  { directory, options, pipeline }: Where
): Effect.Effect<Made[K], ConnectorError, Scope.Scope> =>
  decode(plugin as Plugin<Kind, A>, options).pipe( // decoding needs no more of it than its schema
    Effect.catch((error) => Effect.sync(() => assert.fail(`The subject's options are refused: ${error.message}`))),
    Effect.flatMap((config) =>
      plugin.make(config, { pipeline: pipeline ?? "conformance", directory: directory ?? process.cwd() })
    )
  )
