/**
 * Every state store keeps the contract.
 */
import { plugin as redis } from "@etl-stream/state-redis"
import { plugin as sqlite } from "@etl-stream/state-sqlite"
import * as RedisServer from "@etl-stream/testkit/RedisServer"
import { suite } from "@etl-stream/testkit/StateStoreConformance"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { randomUUID } from "node:crypto"
import { beforeAll } from "vitest"
import * as Landscape from "./Landscape.ts"

// Redis may have to be installed.
beforeAll(() => Effect.runPromise(Effect.asVoid(Effect.scoped(RedisServer.available))), 600_000)

suite(
  sqlite.name,
  Effect.map(
    Landscape.temporaryFolder,
    (directory) => sqlite.make({ file: "./state.sqlite" }, { pipeline: Landscape.pipeline, directory })
  )
)

suite(
  redis.name,
  Effect.map(Effect.orDie(RedisServer.available), (url) => {
    const config = Schema.decodeUnknownSync(redis.config)({ url, namespace: `test-${randomUUID()}` })
    return redis.make(config, { pipeline: Landscape.pipeline, directory: "/" })
  })
)
