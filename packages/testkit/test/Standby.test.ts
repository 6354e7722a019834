import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as EmbeddedPostgres from "../src/EmbeddedPostgres.ts"
import * as Standby from "../src/Standby.ts"

describe("Standby", () => {
  it.live("follows its primary, and takes its place when it is promoted", () =>
    Effect.gen(function*() {
      const primary = yield* EmbeddedPostgres.start()
      yield* primary.query("CREATE TABLE t AS SELECT 1 AS id")
      const standby = yield* Standby.start(primary)
      yield* primary.query("INSERT INTO t VALUES (2)")
      yield* standby.query("SELECT count(*)::int AS n FROM t").pipe(
        Effect.repeat({ until: ([row]) => row?.["n"] === 2 })
      )
      assert.isTrue((yield* standby.query("SELECT pg_is_in_recovery() AS r"))[0]?.["r"])
      yield* primary.kill
      yield* standby.query("SELECT pg_promote()")
      yield* standby.query("INSERT INTO t VALUES (3)")
      assert.deepStrictEqual(yield* standby.query("SELECT id FROM t ORDER BY id"), [{ id: 1 }, { id: 2 }, { id: 3 }])
    }).pipe(Effect.scoped))
})
