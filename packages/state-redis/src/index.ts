/**
 * State store of etl-stream in Redis: the plugin `@etl-stream/state-redis`.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import { Config } from "./Config.ts"
import { pluginName } from "./RedisFailure.ts"
import * as RedisStateStore from "./RedisStateStore.ts"

export { Config, RedisStateStore }

export const plugin = Plugin.state({
  name: pluginName,
  version: "0.1.0",
  summary: "Keeps state in Redis, which several runners can share",
  config: Config,
  make: (config) => RedisStateStore.make(config)
})
