import { assert, describe, it } from "@effect/vitest"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as PostgresSource from "../src/PostgresSource.ts"
import { selfSigned } from "./Certificate.ts"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

describe("TLS", () => {
  it.live("the copy and the stream go over a verified connection; an unverified one is refused", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPostgres.start()
      const { certificate, key } = selfSigned("localhost")
      yield* Effect.promise(async () => {
        const owner = await fs.stat(pg.dataDir)
        for (const [name, content] of [["server.crt", certificate], ["server.key", key]] as const) {
          const file = path.join(pg.dataDir, name)
          await fs.writeFile(file, content, { mode: 0o600 })
          await fs.chown(file, owner.uid, owner.gid)
        }
      })
      yield* pg.restart({ ssl: "on" })
      yield* pg.query("CREATE SCHEMA secure; CREATE TABLE secure.t (id int PRIMARY KEY, v text)")
      yield* pg.query("INSERT INTO secure.t SELECT i, repeat('x', 1000) FROM generate_series(1, 5000) i")
      const url = pg.url.replace("127.0.0.1", "localhost")
      const options = { url, tls: { mode: "verify-full", ca: certificate } }

      const mirror = new Mirror()
      yield* Effect.gen(function*() {
        const run = yield* SourceRun.start("secure", mirror, options)
        yield* run.until(() => mirror.watermarks.length > 0)
        const sessions = yield* pg.query(
          "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'etl-stream secure'"
        )
        assert.isNotEmpty(sessions)
        assert.isTrue(sessions.every(({ ssl }) => ssl === true))
        yield* SourceRun.write(pg, "secure")("UPDATE t SET v = 'y' WHERE id % 2 = 0; DELETE FROM t WHERE id = 1")
        yield* run.caughtUp
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
        yield* run.stop
      }).pipe(Effect.provideService(SourceRun.Server, pg))

      const refused = (tls: unknown, address = url) =>
        Effect.gen(function*() {
          const source = yield* PostgresSource.make(
            SourceRun.settings({ url: address, tls, tables: ["secure.*"] }, "secure")
          )
          return yield* Effect.flip(source.tables)
        }).pipe(Effect.scoped, Effect.provideService(References.MinimumLogLevel, "None"))
      for (
        const error of [
          yield* refused({ mode: "verify-full" }),
          yield* refused({ mode: "verify-full", ca: selfSigned("localhost").certificate }),
          yield* refused({ mode: "verify-full", ca: certificate }, pg.url)
        ]
      ) {
        assert.strictEqual(error.reason, "Misconfigured", error.message)
        assert.match(error.message, /TLS: /)
        assert.match(error.hint, /tls\.ca/)
      }
      const unchecked = yield* PostgresSource.make(
        SourceRun.settings({ url, tls: { mode: "require" }, tables: ["secure.*"] }, "secure")
      )
      assert.lengthOf(yield* unchecked.tables.pipe(Effect.provideService(References.MinimumLogLevel, "None")), 1)
    }).pipe(Effect.scoped))
})
