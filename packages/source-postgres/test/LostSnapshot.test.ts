import { assert, layer } from "@effect/vitest"
import { isRetryable } from "@etl-stream/core/ConnectorError"
import * as HeldStatements from "@etl-stream/testkit/HeldStatements"
import * as Effect from "effect/Effect"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

layer(Server.layer, { excludeTestServices: true })("LostSnapshot", (it) => {
  it.effect("the session that exported a snapshot may be lost before that is imported: the next run takes another one", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "exported",
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'old' FROM generate_series(1, 200) i"
      )
      let ended = 0
      const port = yield* HeldStatements.start(pg, (sent) => {
        if (ended > 0 || !sent.includes("SET TRANSACTION SNAPSHOT")) return undefined
        const end = pg.query(
          "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'walsender' AND application_name = 'etl-stream exported'"
        )
        return Effect.runPromise(end).then((rows) => ended += rows.length)
      })
      const url = new URL(pg.url)
      url.port = String(port)
      const mirror = new Mirror()
      const error = yield* SourceRun.refused("exported", mirror, { url: url.href })
      assert.isAbove(ended, 0)
      assert.isTrue(isRetryable(error), `${error.reason}: ${error.message}`)
      yield* write("TRUNCATE t; INSERT INTO t VALUES (1, 'new')")
      const run = yield* SourceRun.start("exported", mirror, { url: url.href })
      yield* run.copied
      yield* run.caughtUp
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* run.stop
    }).pipe(Effect.scoped))
})
