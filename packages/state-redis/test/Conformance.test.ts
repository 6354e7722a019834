import { plugin } from "@etl-stream/state-redis"
import * as RedisServer from "@etl-stream/testkit/RedisServer"
import { suite } from "@etl-stream/testkit/StateStoreConformance"
import * as Effect from "effect/Effect"
import { configuration, shared, someNamespace } from "./Stores.ts"

/** What the plugin makes of options, whose namespace nobody else has. */
const opening = (options: Effect.Effect<object, RedisServer.RedisServerError>) =>
  Effect.map(Effect.orDie(options), (place) => {
    const config = configuration({ ...place, namespace: someNamespace() })
    return plugin.make(config, { pipeline: "shop", directory: "/" })
  })

suite(plugin.name, opening(Effect.map(shared(RedisServer.available), (url) => ({ url }))))

suite(
  `${plugin.name} on a cluster`,
  opening(Effect.map(shared(RedisServer.startCluster), (nodes) => ({
    cluster: { nodes: nodes.map(({ host, port }) => `${host}:${port}`) }
  })))
)
