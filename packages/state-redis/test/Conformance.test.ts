import { plugin } from "@etl-stream/state-redis"
import * as Conformance from "@etl-stream/testkit/Conformance"
import * as FaultProxy from "@etl-stream/testkit/FaultProxy"
import type { Options } from "@etl-stream/testkit/PluginOptions"
import * as RedisServer from "@etl-stream/testkit/RedisServer"
import * as StateStoreConformance from "@etl-stream/testkit/StateStoreConformance"
import * as Effect from "effect/Effect"
import { describe, it } from "vitest"
import { shared, someNamespace } from "./Stores.ts"

const server = shared(RedisServer.available)
const cluster = shared(RedisServer.startCluster)

const common = {
  plugin,
  valid: { url: "redis://127.0.0.1:6379/0" },
  refused: [
    { what: "a URL of something else", options: { url: "http://127.0.0.1:6379" }, path: "url" },
    { what: "a port of a URL", options: { url: "redis://127.0.0.1:6379", port: 6380 }, path: "port" },
    { what: "a negative time", options: { host: "127.0.0.1", timeout: "-1 second" }, path: "timeout" }
  ]
}

/** Nobody else's place behind a proxy that can be silent. */
const proxied = Effect.gen(function*() {
  const url = new URL(yield* server)
  const proxy = yield* FaultProxy.start({ host: url.hostname, port: Number(url.port) })
  url.hostname = proxy.host
  url.port = String(proxy.port)
  const options: Options = {
    url: url.href,
    namespace: someNamespace(),
    timeout: "1 second",
    connectTimeout: "1 second"
  }
  return { options, gone: proxy.stall, back: proxy.resume }
})

export const conformance = [
  StateStoreConformance.make({ ...common, prepare: proxied, patience: "10 seconds" }),
  StateStoreConformance.make({
    ...common,
    label: "on a cluster",
    prepare: Effect.map(cluster, (nodes) => ({
      options: {
        cluster: { nodes: nodes.map(({ host, port }) => `${host}:${port}`) },
        namespace: someNamespace()
      }
    })),
    always: "a cluster's nodes are shared by all cases"
  })
]

// A case that the subject says it can't do (`cannot`) is reported as skipped, with the reason in its name, instead of passing silently.
Conformance.register(conformance, { describe, it: (name, run) => it(`${name}`, run, 120_000), skip: it.skip })
