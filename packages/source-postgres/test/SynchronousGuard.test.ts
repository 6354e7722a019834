import { assert, describe, it } from "@effect/vitest"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Standby from "@etl-stream/testkit/Standby"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

describe("SynchronousGuard", () => {
  it.live("holds changes back that synchronous standbys don't have yet, and gives them on when they do", () =>
    Effect.gen(function*() {
      const primary = yield* EmbeddedPostgres.start()
      const standby = yield* Standby.start(primary)
      yield* Effect.gen(function*() {
        const write = yield* SourceRun.schema("held", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        const rows = (mirror: Mirror) => mirror.tables.get("held.t")?.rows.size
        const guarded = new Mirror()
        const unguarded = new Mirror()
        const run = yield* SourceRun.start("held", guarded, { synchronousGuard: true })
        const other = yield* SourceRun.start("held", unguarded, { slot: { name: "held_other" } })
        // Without synchronous standbys nothing is waited for.
        yield* write("INSERT INTO t VALUES (2)")
        yield* run.caughtUp
        assert.strictEqual(rows(guarded), 2)
        yield* primary.query(`ALTER SYSTEM SET synchronous_standby_names = '${standby.name}'`)
        yield* primary.query("SELECT pg_reload_conf()")
        yield* write("INSERT INTO t VALUES (3)")
        yield* run.caughtUp
        assert.strictEqual(rows(guarded), 3)

        yield* standby.stop
        const writing = yield* Effect.forkChild(write("INSERT INTO t SELECT generate_series(10, 19)"))
        // The change is in the stream though its own client isn't told yet.
        yield* other.until(() => rows(unguarded) === 13)
        const messages = yield* primary.query(
          "SELECT wait_event AS event FROM pg_stat_activity WHERE application_name = 'etl-stream held' AND wait_event = 'SyncRep'"
        ).pipe(
          Effect.repeat({ until: (found) => found.length > 0 })
        )
        assert.isNotEmpty(messages)
        assert.strictEqual(rows(guarded), 3)

        // Cancelling the wait doesn't make it true.
        yield* primary.query(
          "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'etl-stream held' AND wait_event = 'SyncRep'"
        )
        assert.strictEqual((yield* run.failure).reason, "Throttled")
        yield* run.stop
        assert.strictEqual(rows(guarded), 3)
        const again = yield* SourceRun.start("held", guarded, { synchronousGuard: true })
        yield* standby.restart()
        yield* Fiber.join(writing)
        yield* again.caughtUp
        assert.deepStrictEqual(yield* guarded.differences(primary), [])
      }).pipe(Effect.provideService(Server, primary))
    }).pipe(Effect.scoped))
})
