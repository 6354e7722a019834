/**
 * The plugin: its name, options and how to make the transform of them.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import { Config } from "./Config.ts"
import * as Transform from "./Transform.ts"

export { Config }

export const plugin = Plugin.transform({
  name: Transform.pluginName,
  version: "0.1.0",
  summary: "Writes the domain of an e-mail address to a column of its own",
  stability: "experimental",
  description: "`Ada@Example.com` gives `example.com`; what isn't an address gives NULL.",
  examples: [{ title: "The domain of users' addresses", options: { column: "email", into: "email_domain" } }],
  config: Config,
  make: (config) => Effect.succeed(Transform.make(config))
})
