/**
 * The plugin: its name, options and how to make the notifier of them.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import { Config } from "./Config.ts"
import * as Notifier from "./Notifier.ts"

export { Config }

export const plugin = Plugin.notifier({
  name: Notifier.pluginName,
  version: "0.1.0",
  summary: "Posts alerts as JSON to an address of yours",
  stability: "experimental",
  description:
    "Each notification is one POST request. Trouble that passes (no answer, 429, 5xx) is tried again for `retryFor`.",
  examples: [{
    title: "An address that wants a token",
    options: { url: "https://alerts.example.com/hook", token: "${env:ALERTS_TOKEN}" }
  }],
  config: Config,
  make: (config) => Effect.succeed(Notifier.make(config))
})
