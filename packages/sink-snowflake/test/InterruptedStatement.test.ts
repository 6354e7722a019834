/**
 * Statements that nobody waits for any more, on a real server.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Credentials from "../src/Credentials.ts"
import * as SqlClient from "../src/SqlClient.ts"
import * as Local from "./Local.ts"

/** How long the statement is on its way. */
const lateMillis = 700

describe("A statement that is interrupted", () => {
  it.live(
    "is not done on its own when it gets to Snowflake after its transaction was left",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const local = yield* Local.start()
        const config = local.config({ connections: 1 })
        const client = yield* SqlClient.make(config, yield* Credentials.make(config.auth, local.directory), "shop")
        yield* client.execute({ what: "test", sql: `CREATE TABLE RAW.PUBLIC.LATE ("N" NUMBER(38,0))` })
        yield* local.fault("driver", { kind: "delay", endpoint: "query", match: "^INSERT", millis: lateMillis })
        const leaving = yield* Effect.forkChild(client.use((session) =>
          session.transaction(
            { what: "test" },
            Effect.andThen(
              session.execute({ what: "test", sql: `INSERT INTO RAW.PUBLIC.LATE VALUES (1)` }),
              // A test that is slow itself is not to have it committed.
              Effect.never
            )
          )
        ))
        while ((yield* local.faults).length > 0) yield* Effect.sleep(5)
        yield* Fiber.interrupt(leaving)
        // The connection serves others meanwhile, outside of any transaction.
        const count = client.execute({ what: "test", sql: `SELECT COUNT(*) AS "n" FROM RAW.PUBLIC.LATE` })
        const began = Date.now()
        while (Date.now() - began < 2 * lateMillis) assert.strictEqual(String((yield* count).rows[0]?.["n"]), "0")
      })),
    30_000
  )
})
