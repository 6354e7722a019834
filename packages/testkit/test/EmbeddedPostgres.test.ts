import { assert, describe, it } from "@effect/vitest"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { Client } from "pg"

describe("EmbeddedPostgres", () => {
  it.live("starts a server for logical replication with a password of its own", () =>
    Effect.gen(function*() {
      const [a, b] = yield* Effect.all([EmbeddedPostgres.start(), EmbeddedPostgres.start()], { concurrency: 2 })
      assert.notStrictEqual(a.password, b.password)
      assert.notStrictEqual(a.port, b.port)
      const rows = yield* a.query("SELECT current_setting('wal_level') AS level, $1::int + 1 AS two", [1])
      assert.deepStrictEqual(rows, [{ level: "logical", two: 2 }])
      const refused = yield* Effect.promise(async () => {
        const client = new Client({
          host: a.host,
          port: a.port,
          user: a.user,
          password: b.password,
          database: a.database
        })
        try {
          await client.connect()
          await client.end()
          return false
        } catch {
          return true
        }
      })
      assert.isTrue(refused)
    }))

  it.live("starts the version that was asked for, by default the one chosen for all tests", () =>
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      const [row] = yield* server.query("SELECT current_setting('server_version_num')::int / 10000 AS major")
      assert.deepStrictEqual(row, { major: EmbeddedPostgres.version })
      assert.strictEqual(server.version, EmbeddedPostgres.version)
      const error = yield* Effect.flip(EmbeddedPostgres.start({ version: 9 }))
      assert.match(error.message, /^PostgreSQL 9 is not installed/)
    }))

  it.live("keeps committed rows when it is killed and restarted, with other settings", () =>
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      yield* server.query("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
      yield* server.kill
      assert.isTrue(Exit.isFailure(yield* Effect.exit(server.query("SELECT 1"))))
      yield* server.restart({ wal_level: "replica", max_wal_senders: "0" })
      const rows = yield* server.query("SELECT count(*)::int AS rows, current_setting('wal_level') AS level FROM t")
      assert.deepStrictEqual(rows, [{ rows: 2, level: "replica" }])
    }))

  it.live("ends its process and removes its folder with the scope", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const server = yield* EmbeddedPostgres.start().pipe(Scope.provide(scope))
      const pid = Number(
        (yield* Effect.promise(() => fs.readFile(path.join(server.dataDir, "postmaster.pid"), "utf8"))).split("\n")[0]
      )
      yield* Scope.close(scope, Exit.void)
      assert.throws(() => process.kill(pid, 0))
      assert.isFalse(existsSync(server.dataDir))
    }))

  it.live("starts again from a persistent data folder", () =>
    Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const made = await fs.mkdtemp(path.join(os.tmpdir(), "etl-stream-test-"))
          await fs.chmod(made, 0o755)
          return made
        }),
        (made) => Effect.promise(() => fs.rm(made, { recursive: true, force: true }))
      )
      const options = { dataDir: path.join(folder, "data"), persistent: true }
      yield* Effect.scoped(
        Effect.flatMap(EmbeddedPostgres.start(options), (server) => server.query("CREATE TABLE kept (id int)"))
      )
      const rows = yield* Effect.scoped(
        Effect.flatMap(EmbeddedPostgres.start(options), (server) =>
          server.query("SELECT count(*)::int AS rows FROM kept"))
      )
      assert.deepStrictEqual(rows, [{ rows: 0 }])
    }))

  it.live("says why a server did not start", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(EmbeddedPostgres.start({ settings: { wal_level: "nonsense" } }))
      assert.match(String(error.cause), /wal_level/)
      assert.isFalse(String(error).includes("password"))
    }))
})
