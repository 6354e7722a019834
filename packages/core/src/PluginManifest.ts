/**
 * What a plugin package says about itself in its `package.json`, so that it can be judged before anything of it is run.
 *
 * ```json
 * {
 *   "name": "etl-stream-sink-example",
 *   "keywords": ["etl-stream-plugin"],
 *   "etl-stream": { "apiVersion": 1, "conformance": "./dist/conformance.js" },
 *   "peerDependencies": { "@etl-stream/core": "^0.1.0", "effect": "^4.1.0" }
 * }
 * ```
 *
 * The keyword is what `etl-stream plugin list` goes by. Core and Effect are peers: the runner gives a plugin its own copies, and compares the ranges with them.
 */
import * as Schema from "effect/Schema"

/** The keyword by which a package says that it is a plugin. */
export const keyword = "etl-stream-plugin"

/** The key of `package.json` under which the rest is. */
export const key = "etl-stream"

export const Manifest = Schema.Struct({
  /** The version of the contracts that the package's plugins were written for (`Plugin.apiVersion`). */
  apiVersion: Schema.Int,
  /** Module, relative to the package's folder, that exports `conformance`: what `etl-stream plugin test` runs (see `@etl-stream/testkit/Conformance`). */
  conformance: Schema.optionalKey(Schema.String)
})
export type Manifest = typeof Manifest.Type
