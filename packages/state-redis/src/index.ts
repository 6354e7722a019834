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
  examples: [
    { title: "One server, over TLS", options: { url: "${env:REDIS_URL:-rediss://redis.example.com:6379/0}" } },
    {
      title: "A primary that sentinels watch",
      options: {
        sentinel: { name: "main", nodes: ["sentinel-1.example.com:26379", "sentinel-2.example.com:26379"] },
        password: "${file:/run/secrets/redis}",
        namespace: "warehouse"
      }
    }
  ],
  config: Config,
  make: (config) => RedisStateStore.make(config)
})
