/**
 * Every state store keeps the contract, as a configuration names it.
 */
import { plugin as redis } from "@etl-stream/state-redis"
import { plugin as sqlite } from "@etl-stream/state-sqlite"
import * as Conformance from "@etl-stream/testkit/Conformance"
import * as RedisServer from "@etl-stream/testkit/RedisServer"
import * as StateStoreConformance from "@etl-stream/testkit/StateStoreConformance"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { beforeAll, describe, it } from "vitest"
import * as Landscape from "./Landscape.ts"

// Redis may have to be installed.
beforeAll(() => Effect.runPromise(Effect.asVoid(Effect.scoped(RedisServer.available))), 600_000)

const always = "tried in the package's own tests"

Conformance.register(
  [
    StateStoreConformance.make({
      plugin: sqlite,
      prepare: Effect.map(
        Landscape.temporaryFolder,
        (directory) => ({ options: { file: "./state.sqlite" }, directory })
      ),
      valid: { file: "./state.sqlite" },
      refused: [],
      always
    }),
    StateStoreConformance.make({
      plugin: redis,
      prepare: Effect.map(
        RedisServer.available,
        (url) => ({ options: { url, namespace: `test-${randomUUID()}` } })
      ),
      valid: { url: "redis://127.0.0.1:6379/0" },
      refused: [],
      always
    })
  ],
  { describe, it: (name, run) => it(`${name}`, run, 120_000) }
)
