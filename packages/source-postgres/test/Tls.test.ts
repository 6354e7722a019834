import { assert, describe, it } from "@effect/vitest"
import { authority, type Certificate, selfSigned } from "@etl-stream/testkit/Certificate"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Connections from "../src/Connections.ts"
import * as PostgresSource from "../src/PostgresSource.ts"
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
        yield* run.copied
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
        const [error, message, hint] of [
          [yield* refused({ mode: "verify-full" }), /self-signed and not among the trusted/, /tls\.ca/],
          [
            yield* refused({ mode: "verify-full", ca: selfSigned("localhost").certificate }),
            /self-signed and not among the trusted/,
            /tls\.ca/
          ],
          [
            yield* refused({ mode: "verify-full", ca: certificate }, pg.url),
            /is for another host name/,
            /host name that the certificate holds/
          ],
          [yield* refused({ mode: "verify-full", ca: "no certificate" }), /TLS|SSL_CTX/, /tls/]
        ] as const
      ) {
        assert.strictEqual(error.reason, "Misconfigured", error.message)
        assert.match(error.message, message)
        assert.match(error.hint, hint)
      }
      const accepted = (options: SourceRun.Options) =>
        Effect.gen(function*() {
          const source = yield* PostgresSource.make(SourceRun.settings({ tables: ["secure.*"], ...options }, "secure"))
          assert.lengthOf(yield* source.tables, 1)
        }).pipe(Effect.scoped, Effect.provideService(References.MinimumLogLevel, "None"))
      yield* accepted({ url, tls: { mode: "require" } })
      // The name is left out, and the address stands for a name that is in the certificate.
      yield* accepted({ url: pg.url, tls: { mode: "verify-ca", ca: certificate } })
      yield* accepted({
        url: `${url}?hostaddr=127.0.0.1`,
        tls: { mode: "verify-full", ca: certificate }
      })
      if (pg.version >= 17) {
        yield* accepted({ url, tls: { mode: "verify-full", ca: certificate, negotiation: "direct" } })
      }
    }).pipe(Effect.scoped))

  it.live("an authority's certificates are checked: name, time and signature", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPostgres.start()
      const root = authority("test authority")
      const serve = Effect.fnUntraced(function*({ certificate, key }: Certificate) {
        yield* Effect.promise(async () => {
          const owner = await fs.stat(pg.dataDir)
          for (const [name, content] of [["server.crt", certificate], ["server.key", key]] as const) {
            const file = path.join(pg.dataDir, name)
            await fs.writeFile(file, content, { mode: 0o600 })
            await fs.chown(file, owner.uid, owner.gid)
          }
        })
        yield* pg.restart({ ssl: "on" })
      })
      const connect = (ca: string) =>
        Effect.scoped(Connections.connect(
          SourceRun.settings(
            { url: pg.url.replace("127.0.0.1", "localhost"), tls: { mode: "verify-full", ca } },
            "authority"
          ),
          "query"
        ))
      yield* serve(root.issue({ name: "server", host: "localhost" }))
      yield* connect(root.certificate)
      const foreign = yield* Effect.flip(connect(authority("another authority").certificate))
      assert.match(foreign.message, /from an authority that is not trusted/)
      assert.match(foreign.hint, /tls\.ca/)
      yield* serve(root.issue({ name: "server", host: "localhost", expired: true }))
      const expired = yield* Effect.flip(connect(root.certificate))
      assert.match(expired.message, /has expired/)
      assert.match(expired.hint, /Renew it/)
      yield* serve(root.issue({ name: "server", host: "db.example.com" }))
      const misnamed = yield* Effect.flip(connect(root.certificate))
      assert.match(misnamed.message, /is for another host name/)
      for (const { reason } of [foreign, expired, misnamed]) assert.strictEqual(reason, "Misconfigured")
      yield* pg.restart({ ssl: "off" })
      const off = yield* Effect.flip(connect(root.certificate))
      assert.strictEqual(off.reason, "Misconfigured")
      assert.match(off.hint, /Switch TLS on at the server/)
    }).pipe(Effect.scoped))
})
