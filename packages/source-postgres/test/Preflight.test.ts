import { assert, describe, it, layer } from "@effect/vitest"
import * as Condition from "@etl-stream/core/Condition"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import { exitCode, isRetryable } from "@etl-stream/core/ConnectorError"
import * as Progress from "@etl-stream/core/Progress"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as fs from "node:fs/promises"
import * as net from "node:net"
import * as path from "node:path"
import * as Connections from "../src/Connections.ts"
import * as PostgresSource from "../src/PostgresSource.ts"
import * as Preflight from "../src/Preflight.ts"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** The error that a run without a sink's knowledge fails with at its beginning. No secret may be in any part of it. */
const failure = (options: SourceRun.Options, name: string, secrets: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const source = yield* PostgresSource.make(SourceRun.settings({ slot: { wait: "100 millis" }, ...options }, name))
    const beginning = Stream.runDrain(source.stream({
      positions: new Map(),
      unwanted: new Set(),
      quarantined: () => undefined,
      acknowledged: () => 0n,
      conditions: Condition.make(name, Progress.make(name))
    }))
    const error = yield* Effect.flip(Effect.andThen(source.tables, beginning))
    // A fresh look at everything that can be printed, stack and cause included.
    const text = `${JSON.stringify(error)} ${error.stack} ${String(error.cause)} ${error.message} ${error.hint}`
    for (const secret of secrets) assert.notInclude(text, secret)
    assert.notStrictEqual(error.hint, "")
    return error
  }).pipe(Effect.scoped, Effect.provideService(References.MinimumLogLevel, "None"))

const expectError = (error: ConnectorError, reason: ConnectorError["reason"], message: RegExp, hint: RegExp): void => {
  assert.strictEqual(error.reason, reason, error.message)
  assert.match(error.message, message)
  assert.match(error.hint, hint)
}

/** The findings of a run that may begin. */
const warnings = (options: SourceRun.Options, name: string) =>
  Effect.gen(function*() {
    const connections = yield* Connections.make(SourceRun.settings(options, name))
    const { findings } = yield* Preflight.check(connections)
    assert.isUndefined(Preflight.errorOf(findings))
    return findings.map((finding) => finding.message).join("\n")
  }).pipe(Effect.scoped)

const password = "s3cret-pässword"

layer(Server.layer, { excludeTestServices: true })("Preflight", (it) => {
  it.effect("a server that can't be reached", () =>
    Effect.gen(function*() {
      const listener = net.createServer()
      yield* Effect.promise(() => new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve)))
      const { port } = listener.address() as net.AddressInfo // a TCP listener's
      yield* Effect.promise(() => new Promise((resolve) => listener.close(resolve)))
      const error = yield* failure({ url: `postgresql://u:hidden@127.0.0.1:${port}/db` }, "unreachable", ["hidden"])
      expectError(error, "Unreachable", new RegExp(`connecting to 127.0.0.1:${port}.*ECONNREFUSED`), /host and port/)
      assert.isTrue(isRetryable(error))
      assert.strictEqual(exitCode(error), 3)
    }))

  it.effect("a database whose text has no encoding", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* pg.query("CREATE DATABASE no_encoding TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
      const url = new URL(pg.url)
      url.pathname = "/no_encoding"
      const error = yield* failure({ url: url.href }, "no_encoding", [])
      expectError(error, "Misconfigured", /encoding is SQL_ASCII/, /UTF8/)
    }))

  it.effect("a host name without an address, and a server that never answers", () =>
    Effect.gen(function*() {
      const unknown = yield* failure(
        { url: "postgresql://u:hidden@no-such-host.invalid/db", tls: { mode: "disable" } },
        "x",
        ["hidden"]
      )
      expectError(unknown, "Unreachable", /no-such-host\.invalid:5432.*(ENOTFOUND|EAI_AGAIN)/, /name/)
      const silent = yield* Effect.acquireRelease(
        Effect.callback<net.Server>((resume) => {
          const made = net.createServer(() => {})
          made.listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
        }),
        (made) => Effect.sync(() => made.close())
      )
      const { port } = silent.address() as net.AddressInfo // a TCP listener's
      const error = yield* failure(
        { url: `postgresql://u:hidden@127.0.0.1:${port}/db`, connectTimeout: "100 millis" },
        "x",
        ["hidden"]
      )
      expectError(error, "Unreachable", /timeout/, /host and port/)
    }))

  it.effect("TLS that the server doesn't speak", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const error = yield* failure({ url: pg.url, tls: { mode: "require" } }, "x", [pg.password])
      expectError(error, "Misconfigured", /does not support SSL/, /tls\.mode/)
    }))

  it.effect("a wrong password, and none", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const url = pg.urlOf({ user: pg.user, password: "wrong-password" })
      expectError(
        yield* failure({ url }, "x", ["wrong-password", pg.password]),
        "Unauthorized",
        /password authentication failed.*28P01/,
        /user and password/
      )
      const none = { host: pg.host, port: pg.port, user: pg.user, database: pg.database }
      expectError(yield* failure(none, "x", [pg.password]), "Unauthorized", /./, /user and password/)
    }))

  it.effect("a database that doesn't exist", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const url = pg.urlOf({ user: pg.user, password: pg.password, database: "nowhere" })
      const error = yield* failure({ url }, "x", [pg.password])
      expectError(error, "Missing", /database "nowhere" does not exist/, /database's name/)
      assert.strictEqual(exitCode(error), 3)
    }))

  it.effect("a role without REPLICATION, without SELECT, and without the right to publish: all told at once", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("rights", "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)")
      yield* pg.query(`CREATE ROLE reader LOGIN PASSWORD '${password}'; GRANT USAGE ON SCHEMA rights TO reader`)
      const url = pg.urlOf({ user: "reader", password })
      const secrets = [password, encodeURIComponent(password)]
      const options = { url, tables: ["rights.*"] }
      const first = yield* failure(options, "rights", secrets)
      expectError(
        first,
        "Forbidden",
        /role reader may not replicate; role reader may not read table rights\.t;/,
        /ALTER ROLE "reader" REPLICATION/
      )
      assert.include(first.hint, `GRANT SELECT ON "rights"."t" TO "reader"`)

      yield* pg.query("ALTER ROLE reader REPLICATION")
      const second = yield* failure(options, "rights", secrets)
      expectError(
        second,
        "Forbidden",
        /^role reader may not read table rights\.t; role reader may not read table rights\.u; role/,
        /GRANT/
      )

      yield* pg.query("GRANT SELECT ON ALL TABLES IN SCHEMA rights TO reader")
      const third = yield* failure(options, "rights", secrets)
      expectError(
        third,
        "Forbidden",
        /may not create publication rights for rights\.t, rights\.u/,
        /CREATE PUBLICATION "rights" FOR TABLE ONLY "rights"\."t"/
      )

      // The owner does what the hint says, and the role needs no more.
      yield* pg.query(/CREATE PUBLICATION [^;]*/.exec(third.hint)?.[0] ?? "SELECT 1/0")
      const mirror = new Mirror()
      yield* SourceRun.catchUp("rights", mirror, { url, publication: { manage: false } })
      assert.strictEqual(mirror.tables.size, 2)
    }))

  it.effect("rows hidden by row-level security, rather than a copy without them", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("hidden", "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t ENABLE ROW LEVEL SECURITY")
      yield* pg.query(
        `CREATE ROLE limited LOGIN REPLICATION PASSWORD '${password}'; GRANT USAGE ON SCHEMA hidden TO limited;
        GRANT SELECT ON ALL TABLES IN SCHEMA hidden TO limited; CREATE PUBLICATION hidden FOR TABLE hidden.t`
      )
      const error = yield* failure({ url: pg.urlOf({ user: "limited", password }), tables: ["hidden.*"] }, "hidden", [
        password
      ])
      expectError(error, "Forbidden", /row-level security hides rows of table hidden\.t/, /BYPASSRLS/)
    }))

  it.effect("patterns that match nothing, or only what can't be replicated", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema(
        "named",
        `CREATE TABLE "Orders" (id int PRIMARY KEY); CREATE VIEW v AS SELECT 1 AS x; CREATE UNLOGGED TABLE u (id int)`
      )
      const error = yield* failure({ url: pg.url, tables: ["named.orders", "named.v"] }, "named", [])
      expectError(
        error,
        "Missing",
        /no table matches named\.orders.*named\.v \(a view\).*no table matches named\.v/,
        /exactly as they are stored/
      )
      assert.include(
        yield* warnings({ url: pg.url, tables: ["named.*"] }, "named"),
        "left out, because it can't be replicated: named.u (an unlogged table), named.v (a view)"
      )
    }))

  it.effect("replica identities that would lose updates and deletes", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema(
        "identity",
        `CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
         CREATE TABLE keyless (id int); CREATE TABLE generated (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED);
         CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10); ALTER TABLE part_1 REPLICA IDENTITY NOTHING`
      )
      const error = yield* failure({ url: pg.url, tables: ["identity.*"] }, "identity", [])
      expectError(
        error,
        "Misconfigured",
        /table identity\.nothing has REPLICA IDENTITY NOTHING.*partition identity\.part_1 has another/,
        /REPLICA IDENTITY FULL/
      )
      const text = yield* warnings({ url: pg.url, tables: ["identity.keyless", "identity.generated"] }, "identity")
      assert.include(text, "table identity.keyless has no primary key")
      assert.include(text, "generated columns of table identity.generated are not replicated by the server: g")
    }))

  it.effect("a publication that is missing, incomplete, or hides partitions, when it isn't ours to change", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema(
        "published",
        `CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
         CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10)`
      )
      const options = { url: pg.url, tables: ["published.*"], publication: { name: "readonly", manage: false } }
      expectError(
        yield* failure(options, "published", []),
        "Missing",
        /there is no publication readonly/,
        /CREATE PUBLICATION "readonly"/
      )
      yield* pg.query("CREATE PUBLICATION readonly FOR TABLE published.a, published.part WITH (publish = 'insert')")
      const error = yield* failure(options, "published", [])
      expectError(
        error,
        "Misconfigured",
        /does not publish published\.b$/,
        /ADD TABLE ONLY "published"\."b"/
      )
      yield* pg.query(
        "ALTER PUBLICATION readonly ADD TABLE published.b; ALTER PUBLICATION readonly SET (publish_via_partition_root = true)"
      )
      const text = yield* warnings(options, "published")
      assert.include(text, "publication readonly leaves out updates, deletes, truncates")
      assert.match(text, /truncated, detached or dropped, nor the rows of one that is attached: published\.part/)
    }))

  it.effect("a server that is read-only for now is worth another attempt", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("demoted", "CREATE TABLE t (id int PRIMARY KEY)")
      yield* pg.query(
        `CREATE ROLE reading SUPERUSER LOGIN PASSWORD '${password}'; ALTER ROLE reading SET default_transaction_read_only = on`
      )
      const url = pg.urlOf({ user: "reading", password })
      const error = yield* Effect.flatMap(SourceRun.start("demoted", new Mirror(), { url }), (run) => run.failure)
      expectError(error, "Unreachable", /read-only transaction \(SQLSTATE 25006\)/, /primary server/)
      assert.isTrue(isRetryable(error))
    }))

  it.effect("a slot of another kind, and a slot that is in use", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("slots", "CREATE TABLE t (id int PRIMARY KEY)")
      const options = { url: pg.url, tables: ["slots.*"] }
      yield* pg.query("SELECT pg_create_logical_replication_slot('decoding', 'test_decoding')")
      expectError(
        yield* failure({ ...options, slot: { name: "decoding" } }, "slots", []),
        "Misconfigured",
        /slot decoding is for the plugin test_decoding/,
        /slot\.name/
      )
      yield* pg.query("SELECT pg_create_physical_replication_slot('physical')")
      expectError(
        yield* failure({ ...options, slot: { name: "physical" } }, "slots", []),
        "Misconfigured",
        /slot physical is physical/,
        /slot\.name/
      )
      yield* pg.query("SELECT pg_create_logical_replication_slot('early', 'pgoutput', false, true)")
      expectError(
        yield* failure({ ...options, slot: { name: "early" } }, "slots", []),
        "Misconfigured",
        /slot early was made with two_phase/,
        /slot\.name/
      )
      const running = yield* SourceRun.start("slots", new Mirror())
      yield* running.caughtUp
      const error = yield* failure(options, "slots", [])
      expectError(error, "Fenced", /slot slots is in use by server process \d+/, /Another runner/)
      assert.isTrue(isRetryable(error))
      yield* running.stop
      // Freed within the time to wait: no error.
      const source = yield* PostgresSource.make(SourceRun.settings(options, "slots"))
      assert.lengthOf(yield* source.tables.pipe(Effect.provideService(References.MinimumLogLevel, "None")), 1)
    }))
})

describe("Preflight of servers with other settings", () => {
  const starting = (settings: Record<string, string>) =>
    Effect.tap(EmbeddedPostgres.start({ settings }), (pg) => pg.query("CREATE TABLE t (id int PRIMARY KEY)"))

  it.live("wal_level is replica", () =>
    Effect.gen(function*() {
      const pg = yield* starting({ wal_level: "replica" })
      const error = yield* failure({ url: pg.url }, "x", [pg.password])
      expectError(error, "Misconfigured", /wal_level is replica/, /ALTER SYSTEM SET wal_level = logical/)
      assert.strictEqual(exitCode(error), 3)
    }).pipe(Effect.scoped))

  it.live("a standby, until it is promoted", () =>
    Effect.gen(function*() {
      const pg = yield* starting({})
      yield* pg.stop
      const signal = path.join(pg.dataDir, "standby.signal")
      yield* Effect.promise(() => fs.writeFile(signal, ""))
      yield* Effect.promise(() => fs.chmod(signal, 0o666))
      // It counts as started when it accepts writes.
      const restarting = yield* Effect.forkChild(pg.restart())
      yield* pg.query("SELECT").pipe(
        Effect.retry(Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: "10 seconds" })))
      )
      const error = yield* failure({ url: pg.url }, "x", [pg.password])
      expectError(error, "Unreachable", /the server is a standby/, /primary server/)
      assert.isTrue(isRetryable(error))
      assert.strictEqual(exitCode(error), 3)
      const late = yield* Effect.gen(function*() {
        const connections = yield* Connections.make(SourceRun.settings({ url: pg.url }, "x"))
        return yield* Effect.flip(Preflight.checkLog(connections, 1n))
      }).pipe(Effect.scoped)
      expectError(late, "Unreachable", /recovery is in progress/, /standby/)

      yield* pg.query("SELECT pg_promote()")
      yield* Fiber.join(restarting)
      assert.include(yield* warnings({ url: pg.url }, "x"), "max_slot_wal_keep_size")
    }).pipe(Effect.scoped))

  it.live("no room for a slot or a walsender, and a slot whose log was removed", () =>
    Effect.gen(function*() {
      const pg = yield* starting({
        max_replication_slots: "1",
        max_wal_senders: "0",
        max_slot_wal_keep_size: "1MB",
        max_wal_size: "32MB",
        min_wal_size: "32MB"
      })
      yield* pg.query("SELECT pg_create_logical_replication_slot('taken', 'pgoutput')")
      const error = yield* failure({ url: pg.url }, "x", [pg.password])
      assert.match(error.message, /max_wal_senders/)
      assert.match(error.message, /all 1 slots of the server exist already/)

      yield* pg.query("CREATE TABLE big (t text)")
      yield* pg.query("INSERT INTO big SELECT repeat('x', 1000) FROM generate_series(1, 40000)")
      yield* Effect.andThen(
        pg.query("SELECT pg_switch_wal(); CHECKPOINT"),
        pg.query("SELECT wal_status FROM pg_replication_slots")
      ).pipe(Effect.repeat({
        schedule: Schedule.recurs(50),
        until: ([slot]) => slot?.["wal_status"] === "lost"
      }))
      yield* pg.restart({ max_wal_senders: "5" })
      const lost = yield* failure({ url: pg.url, slot: { name: "taken" } }, "x", [pg.password])
      expectError(lost, "Lost", /slot taken was invalidated by the server/, /slot\.onLost/)
      assert.isFalse(isRetryable(lost))
    }).pipe(Effect.scoped))
})
