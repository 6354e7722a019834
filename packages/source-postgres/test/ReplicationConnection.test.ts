import { assert, describe, layer } from "@effect/vitest"
import { it } from "@effect/vitest"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import * as Lsn from "@etl-stream/source-postgres/Lsn"
import * as PgOutputDecoder from "@etl-stream/source-postgres/PgOutputDecoder"
import * as PostgresType from "@etl-stream/source-postgres/PostgresType"
import * as ReplicationConnection from "@etl-stream/source-postgres/ReplicationConnection"
import { selfSigned } from "@etl-stream/testkit/Certificate"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as FaultProxy from "@etl-stream/testkit/FaultProxy"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import type pg from "pg"
import * as FakeWalSender from "./FakeWalSender.ts"

class Server extends Context.Service<Server, EmbeddedPostgres.EmbeddedPostgres>()("test/Server") {
  static readonly layer = Layer.effect(Server, EmbeddedPostgres.start({ settings: { wal_sender_timeout: "4s" } }))
}

const config = (server: EmbeddedPostgres.EmbeddedPostgres): pg.ClientConfig => ({
  host: server.host,
  port: server.port,
  user: server.user,
  password: server.password,
  database: server.database,
  ssl: false
})

/** Repeats until `check` holds; fails with its name when it doesn't within thirty seconds. */
const eventually = <E, R>(what: string, check: Effect.Effect<boolean, E, R>): Effect.Effect<void, E | Error, R> =>
  check.pipe(
    Effect.flatMap((holds) => holds ? Effect.void : Effect.fail(new Error(`never came true: ${what}`))),
    Effect.retry(Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: "30 seconds" })))
  )

/** A table of its own with a publication and a slot, all named `name`. */
const prepare = Effect.fnUntraced(function*(server: EmbeddedPostgres.EmbeddedPostgres, name: string) {
  yield* server.query(`CREATE TABLE ${name} (id bigint PRIMARY KEY, note text)`)
  yield* server.query(`CREATE PUBLICATION ${name} FOR TABLE ${name}`)
  yield* server.query(`SELECT pg_create_logical_replication_slot('${name}', 'pgoutput')`)
})

const positionOf = (server: EmbeddedPostgres.EmbeddedPostgres, sql: string) =>
  Effect.map(server.query(sql), ([row]) => Lsn.parse(String(row?.["lsn"])) ?? 0n)

const current = (server: EmbeddedPostgres.EmbeddedPostgres) =>
  positionOf(server, "SELECT pg_current_wal_lsn()::text AS lsn")
const confirmed = (server: EmbeddedPostgres.EmbeddedPostgres, slot: string) =>
  positionOf(server, `SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots WHERE slot_name = '${slot}'`)
const isActive = (server: EmbeddedPostgres.EmbeddedPostgres, slot: string) =>
  Effect.map(
    server.query(`SELECT active FROM pg_replication_slots WHERE slot_name = '${slot}'`),
    ([row]) => row?.["active"] === true
  )

const decoder = () =>
  PgOutputDecoder.make({
    tables: [],
    copied: new Map(),
    resolveRelation: (relation) => ({
      table: { schema: relation.schema, name: relation.name },
      version: 1,
      columns: relation.columns.map((column) => ({
        name: column.name,
        ...PostgresType.resolve(PostgresType.emptyCatalog, column.typeOid, column.typmod),
        nullable: true
      })),
      identity: { _tag: "Key", columns: [0] }
    })
  })

const rowsIn = (elements: ReadonlyArray<Element>): number =>
  elements.reduce((sum, element) => sum + (element._tag === "Rows" ? element.batch.rows : 0), 0)

/** Pulls until a watermark at or beyond `position`; counts rows. */
const drain = Effect.fnUntraced(function*(
  stream: ReplicationConnection.WalStream,
  target: PgOutputDecoder.PgOutputDecoder,
  position: bigint
) {
  let rows = 0
  for (;;) {
    const elements = yield* target.decode(yield* stream.pull)
    rows += rowsIn(elements)
    if (elements.some((element) => element._tag === "Watermark" && element.position >= position)) return rows
  }
})

const open = Effect.fnUntraced(function*(
  options: pg.ClientConfig,
  name: string,
  more: Partial<ReplicationConnection.StartOptions> = {}
) {
  const connection = yield* ReplicationConnection.connect(options)
  return yield* connection.start({ slot: name, publications: [name], acknowledged: () => 0n, ...more })
})

const failure = (effect: Effect.Effect<unknown, ConnectorError>): Effect.Effect<ConnectorError, unknown> =>
  Effect.flip(effect)

layer(Server.layer, { excludeTestServices: true, timeout: 60_000 })("ReplicationConnection", (it) => {
  it.effect("takes commands before the stream, then streams what was committed", () =>
    Effect.gen(function*() {
      const server = yield* Server
      yield* prepare(server, "plain")
      yield* server.query("INSERT INTO plain SELECT g, 'note ' || g FROM generate_series(1, 5000) g")
      const end = yield* current(server)
      for (const binary of [false, true]) {
        yield* Effect.scoped(Effect.gen(function*() {
          const connection = yield* ReplicationConnection.connect(config(server))
          const { rows } = yield* Effect.promise(() => connection.client.query<{ systemid: string }>("IDENTIFY_SYSTEM"))
          assert.match(rows[0]?.systemid ?? "", /^\d+$/)
          const stream = yield* connection.start({
            slot: "plain",
            publications: ["plain"],
            binary,
            messages: true,
            acknowledged: () => 0n
          })
          assert.strictEqual(yield* drain(stream, decoder(), end), 5000)
          assert.isAtLeast(Number(stream.received()), Number(end))
        }))
      }
    }).pipe(Effect.scoped))

  it.effect("confirms what was acknowledged, never more, and the last of it when it ends", () =>
    Effect.gen(function*() {
      const server = yield* Server
      yield* prepare(server, "acked")
      let acknowledged = 0n
      const before = yield* confirmed(server, "acked")
      const scope = yield* Scope.make()
      const stream = yield* open(config(server), "acked", { acknowledged: () => acknowledged }).pipe(
        Scope.provide(scope)
      )
      const target = decoder()
      const ends: Array<bigint> = []
      for (let round = 0; round < 5; round++) {
        yield* server.query("INSERT INTO acked VALUES ((SELECT count(*) FROM acked), 'x')")
        ends.push(yield* current(server))
        yield* drain(stream, target, ends[round] ?? 0n)
        // Everything has been received; only what lies an insert back is acknowledged.
        acknowledged = round === 0 ? 0n : ends[round - 1] ?? 0n
        yield* stream.sendStatus
        yield* eventually(
          "the position is confirmed",
          Effect.map(confirmed(server, "acked"), (position) => position >= acknowledged)
        )
        const position = yield* confirmed(server, "acked")
        assert.isTrue(
          position <= (acknowledged === 0n ? before : acknowledged),
          "the slot never passes what was acknowledged"
        )
      }
      acknowledged = ends[4] ?? 0n
      yield* Scope.close(scope, yield* Effect.exit(Effect.void))
      yield* eventually("the slot is free", Effect.map(isActive(server, "acked"), (active) => !active))
      assert.strictEqual(yield* confirmed(server, "acked"), acknowledged)
    }).pipe(Effect.scoped))

  it.effect("passes on a new acknowledgement by itself while nothing is pulled", () =>
    Effect.gen(function*() {
      const server = yield* Server
      yield* prepare(server, "idle")
      let acknowledged = 0n
      yield* open(config(server), "idle", { acknowledged: () => acknowledged })
      yield* server.query("INSERT INTO idle VALUES (1, 'x')")
      acknowledged = yield* current(server)
      yield* eventually(
        "the position is confirmed",
        Effect.map(confirmed(server, "idle"), (position) => position === acknowledged)
      )
    }).pipe(Effect.scoped))

  it.effect("keeps the connection and bounded memory while nobody pulls for longer than wal_sender_timeout", () =>
    Effect.gen(function*() {
      const server = yield* Server
      yield* prepare(server, "stalled")
      const stream = yield* open(config(server), "stalled")
      const target = decoder()
      yield* server.query("INSERT INTO stalled VALUES (0, 'first')")
      yield* drain(stream, target, yield* current(server))
      const memory = process.memoryUsage().arrayBuffers
      yield* server.query("INSERT INTO stalled SELECT g, repeat('x', 1000) FROM generate_series(1, 100000) g")
      const end = yield* current(server)
      yield* eventually(
        "two timeouts have passed with the walsender alive",
        Effect.map(
          server.query(
            "SELECT now() - backend_start > interval '9 seconds' AS late FROM pg_stat_replication r " +
              "JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.slot_name = 'stalled'"
          ),
          ([row]) => row?.["late"] === true
        )
      )
      assert.isBelow(
        process.memoryUsage().arrayBuffers - memory,
        16 * 1024 * 1024,
        "100 MB wait at the server, not here"
      )
      assert.strictEqual(yield* drain(stream, target, end), 100_000)
    }).pipe(Effect.scoped))

  it.effect("reads a busy stream in large pieces", () =>
    Effect.gen(function*() {
      const server = yield* Server
      yield* prepare(server, "busy")
      const stream = yield* open(config(server), "busy")
      const target = decoder()
      yield* server.query("INSERT INTO busy SELECT g, repeat('x', 100) FROM generate_series(1, 200000) g")
      const end = yield* current(server)
      let pulls = 0
      let rows = 0
      for (let done = false; !done;) {
        const elements = yield* target.decode(yield* stream.pull)
        pulls++
        rows += rowsIn(elements)
        done = elements.some((element) => element._tag === "Watermark" && element.position >= end)
      }
      assert.strictEqual(rows, 200_000)
      // A few hundred when the server is the faster one; a slow server sends in smaller pieces.
      assert.isBelow(pulls, 4000, "not one per change, nor one per packet")
    }).pipe(Effect.scoped))

  it.effect("reads a message far larger than its buffers", () =>
    Effect.gen(function*() {
      const server = yield* Server
      yield* prepare(server, "wide")
      const stream = yield* open(config(server), "wide")
      const target = decoder()
      yield* server.query("INSERT INTO wide VALUES (1, repeat('x', 20000000)), (2, 'small')")
      assert.strictEqual(yield* drain(stream, target, yield* current(server)), 2)
      yield* server.query("INSERT INTO wide VALUES (3, 'after')")
      assert.strictEqual(yield* drain(stream, target, yield* current(server)), 1)
    }).pipe(Effect.scoped))

  it.effect("can be interrupted while it waits, and goes on with the next pull", () =>
    Effect.gen(function*() {
      const server = yield* Server
      yield* prepare(server, "patient")
      const stream = yield* open(config(server), "patient")
      const target = decoder()
      yield* drain(stream, target, 0n)
      for (let round = 0; round < 3; round++) {
        const waiting = yield* Effect.forkChild(Effect.forever(Effect.flatMap(stream.pull, target.decode)), {
          startImmediately: true
        })
        yield* Fiber.interrupt(waiting)
        yield* server.query(`INSERT INTO patient VALUES (${round}, 'x')`)
        assert.strictEqual(yield* drain(stream, target, yield* current(server)), 1)
      }
    }).pipe(Effect.scoped))

  it.effect("ends with Unreachable when the server ends the session or the network cuts it", () =>
    Effect.gen(function*() {
      const server = yield* Server
      yield* prepare(server, "cutoff")
      yield* Effect.scoped(Effect.gen(function*() {
        const stream = yield* open(config(server), "cutoff")
        const pulling = yield* Effect.forkChild(failure(Effect.forever(stream.pull)), { startImmediately: true })
        yield* server.query(
          "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'cutoff'"
        )
        const error = yield* Fiber.join(pulling)
        assert.strictEqual(error.reason, "Unreachable")
        assert.include(error.message, "57P01")
        // The same answer, at once, for whoever pulls again.
        assert.strictEqual((yield* failure(stream.pull)).reason, "Unreachable")
      }))
      yield* eventually("the slot is free", Effect.map(isActive(server, "cutoff"), (active) => !active))
      const proxy = yield* FaultProxy.start({ host: server.host, port: server.port })
      const stream = yield* open({ ...config(server), host: proxy.host, port: proxy.port }, "cutoff")
      const pulling = yield* Effect.forkChild(failure(Effect.forever(stream.pull)), { startImmediately: true })
      yield* proxy.cut
      assert.strictEqual((yield* Fiber.join(pulling)).reason, "Unreachable")
    }).pipe(Effect.scoped))

  it.effect("says who holds a slot, and starts on the same session once it is free", () =>
    Effect.gen(function*() {
      const server = yield* Server
      yield* prepare(server, "contested")
      const holder = yield* Scope.make()
      yield* open({ ...config(server), application_name: "the other runner" }, "contested").pipe(Scope.provide(holder))
      const connection = yield* ReplicationConnection.connect(config(server))
      const begin = connection.start({ slot: "contested", publications: ["contested"], acknowledged: () => 0n })
      const error = yield* failure(Effect.scoped(begin))
      assert.strictEqual(error.reason, "Fenced")
      assert.include(error.message, "the other runner")
      yield* Scope.close(holder, yield* Effect.exit(Effect.void))
      const stream = yield* begin.pipe(
        Effect.retry(Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: "5 seconds" })))
      )
      yield* server.query("INSERT INTO contested VALUES (1, 'x')")
      assert.strictEqual(yield* drain(stream, decoder(), yield* current(server)), 1)
    }).pipe(Effect.scoped))

  it.effect("tells a missing slot from wrong credentials", () =>
    Effect.gen(function*() {
      const server = yield* Server
      yield* prepare(server, "present")
      assert.strictEqual((yield* failure(Effect.scoped(open(config(server), "absent")))).reason, "Lost")
      const wrong = yield* failure(Effect.scoped(open({ ...config(server), password: "hunter2-wrong" }, "present")))
      assert.strictEqual(wrong.reason, "Unauthorized")
      assert.notInclude(JSON.stringify(wrong), "hunter2-wrong")
    }).pipe(Effect.scoped))

  it.effect("streams over TLS, under back pressure too", () =>
    Effect.gen(function*() {
      const server = yield* Server
      const owner = yield* Effect.promise(() => fs.stat(server.dataDir))
      const { certificate, key } = selfSigned("localhost")
      yield* Effect.promise(async () => {
        for (const [name, content] of [["server.key", key], ["server.crt", certificate]] as const) {
          const file = path.join(server.dataDir, name)
          await fs.writeFile(file, content, { mode: 0o600 })
          await fs.chown(file, owner.uid, owner.gid)
        }
      })
      yield* server.query("ALTER SYSTEM SET ssl = on")
      yield* server.query("SELECT pg_reload_conf()")
      yield* eventually("TLS is on", Effect.map(server.query("SHOW ssl"), ([row]) => row?.["ssl"] === "on"))
      yield* prepare(server, "secret")
      const stream = yield* open({ ...config(server), ssl: { rejectUnauthorized: false } }, "secret")
      assert.deepStrictEqual(
        yield* server.query(
          "SELECT ssl FROM pg_stat_ssl JOIN pg_replication_slots ON active_pid = pid WHERE slot_name = 'secret'"
        ),
        [{ ssl: true }]
      )
      const target = decoder()
      const memory = process.memoryUsage().arrayBuffers
      yield* server.query("INSERT INTO secret SELECT g, repeat('x', 1000) FROM generate_series(1, 40000) g")
      const end = yield* current(server)
      yield* eventually(
        "two timeouts have passed with the walsender alive",
        Effect.map(
          server.query(
            "SELECT now() - backend_start > interval '4 seconds' AS late FROM pg_stat_replication r " +
              "JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.slot_name = 'secret'"
          ),
          ([row]) => row?.["late"] === true
        )
      )
      assert.isBelow(process.memoryUsage().arrayBuffers - memory, 16 * 1024 * 1024)
      assert.strictEqual(yield* drain(stream, target, end), 40_000)
      const refused = yield* failure(Effect.scoped(open({ ...config(server), ssl: true }, "secret")))
      assert.strictEqual(refused.reason, "Misconfigured")
    }).pipe(Effect.scoped))
})

describe("ReplicationConnection", () => {
  it.live("streams over a Unix socket", () =>
    Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const made = await fs.mkdtemp(path.join(os.tmpdir(), "etl-stream-socket-"))
          await fs.chmod(made, 0o777)
          return made
        }),
        (made) => Effect.promise(() => fs.rm(made, { recursive: true, force: true }))
      )
      const server = yield* EmbeddedPostgres.start({ settings: { unix_socket_directories: folder } })
      yield* prepare(server, "near")
      const stream = yield* open({ ...config(server), host: folder }, "near")
      yield* server.query("INSERT INTO near SELECT g, repeat('x', 200) FROM generate_series(1, 20000) g")
      assert.strictEqual(yield* drain(stream, decoder(), yield* current(server)), 20_000)
    }).pipe(Effect.scoped), 30_000)

  const fakeConfig = (port: number): pg.ClientConfig => ({
    host: "127.0.0.1",
    port,
    user: "u",
    password: "p",
    database: "d",
    ssl: false
  })

  it.live("answers a keepalive that asks for it at once, with what is acknowledged", () =>
    Effect.gen(function*() {
      const fake = yield* FakeWalSender.start()
      const stream = yield* open(fakeConfig(fake.port), "s", { acknowledged: () => 70n })
      yield* eventually("the first status came", Effect.sync(() => fake.statuses.length === 1))
      yield* Effect.forkChild(Effect.forever(stream.pull), { startImmediately: true })
      const sent = performance.now()
      fake.send(FakeWalSender.keepalive(100n, true))
      yield* eventually("it was answered", Effect.sync(() => fake.statuses.length === 2))
      const status = fake.statuses[1]
      assert.isBelow((status?.at ?? Infinity) - sent, 5000, "long before the timer, which takes ten seconds")
      assert.strictEqual(status?.written, 100n)
      assert.strictEqual(status?.flushed, 70n)
      fake.send(FakeWalSender.keepalive(110n, false))
      yield* eventually("it was read", Effect.sync(() => stream.received() === 110n))
      assert.strictEqual(fake.statuses.length, 2)
    }).pipe(Effect.scoped))

  it.live("reads a quiet stream at once", () =>
    Effect.gen(function*() {
      const fake = yield* FakeWalSender.start()
      const stream = yield* open(fakeConfig(fake.port), "s")
      const delays: Array<number> = []
      for (let round = 1; round <= 21; round++) {
        const pulled = yield* Effect.forkChild(stream.pull, { startImmediately: true })
        const sent = performance.now()
        fake.send(FakeWalSender.keepalive(BigInt(round), false))
        yield* Fiber.join(pulled)
        delays.push(performance.now() - sent)
      }
      assert.isBelow(delays.sort((a, b) => a - b)[10] ?? Infinity, 15, "the median is below the pause of a busy stream")
    }).pipe(Effect.scoped))

  it.live("never confirms a position below the one that it was started from", () =>
    Effect.gen(function*() {
      const fake = yield* FakeWalSender.start()
      let acknowledged = 40n
      const stream = yield* open(fakeConfig(fake.port), "s", { acknowledged: () => acknowledged, from: 50n })
      yield* stream.sendStatus
      acknowledged = 60n
      yield* stream.sendStatus
      acknowledged = 55n
      yield* stream.sendStatus
      yield* eventually("the statuses came", Effect.sync(() => fake.statuses.length >= 4))
      assert.deepStrictEqual([...new Set(fake.statuses.map((status) => status.flushed))], [0n, 60n])
    }).pipe(Effect.scoped))

  it.live("ends in order: status, CopyDone, Terminate", () =>
    Effect.gen(function*() {
      const fake = yield* FakeWalSender.start()
      yield* Effect.scoped(open(fakeConfig(fake.port), "s", { acknowledged: () => 70n }))
      yield* eventually("the client is gone", Effect.sync(fake.closed))
      assert.deepStrictEqual(fake.received.slice(-3), ["d", "c", "X"])
      assert.strictEqual(fake.statuses.at(-1)?.flushed, 70n)
    }).pipe(Effect.scoped))

  it.live("asks a silent server for an answer, and gives it up when there is none", () =>
    Effect.gen(function*() {
      const fake = yield* FakeWalSender.start()
      const stream = yield* open(fakeConfig(fake.port), "s", { statusMillis: 50, silenceMillis: 400 })
      const error = yield* failure(Effect.forever(stream.pull))
      assert.strictEqual(error.reason, "Unreachable")
      assert.include(error.message, "silent")
      assert.isTrue(fake.statuses.some((status) => status.reply))
    }).pipe(Effect.scoped))

  it.live("asks a silent server, too, that gets a status more often than it would by itself", () =>
    Effect.gen(function*() {
      const fake = yield* FakeWalSender.start()
      const stream = yield* open(fakeConfig(fake.port), "s", { statusMillis: 100, silenceMillis: 400 })
      yield* Effect.forkScoped(Effect.repeat(stream.sendStatus, Schedule.spaced("20 millis")))
      const error = yield* failure(Effect.forever(stream.pull))
      assert.strictEqual(error.reason, "Unreachable")
      assert.isTrue(fake.statuses.some((status) => status.reply))
    }).pipe(Effect.scoped))

  it.live("isn't silent because this process stood still: what came meanwhile is read", () =>
    Effect.gen(function*() {
      const fake = yield* FakeWalSender.start()
      const stream = yield* open(fakeConfig(fake.port), "s", { statusMillis: 50, silenceMillis: 400 })
      const pulling = yield* Effect.forkChild(Effect.forever(stream.pull), { startImmediately: true })
      fake.send(FakeWalSender.keepalive(100n, false))
      yield* eventually("it was read", Effect.sync(() => stream.received() === 100n))
      // After this phase of the event loop timers come, and only then what was received.
      yield* Effect.callback<void>((resume) => {
        setImmediate(() => {
          fake.send(FakeWalSender.keepalive(110n, false))
          const until = performance.now() + 600
          while (performance.now() < until);
          resume(Effect.void)
        })
      })
      yield* eventually(
        "what came meanwhile was read",
        Effect.sync(() => pulling.pollUnsafe() !== undefined || stream.received() === 110n)
      )
      assert.strictEqual(stream.received(), 110n)
    }).pipe(Effect.scoped))

  it.live("gives what came before the end, and says what the end was", () =>
    Effect.gen(function*() {
      const endings: ReadonlyArray<readonly [Uint8Array, string]> = [
        [FakeWalSender.copyDone, "Unreachable"],
        [FakeWalSender.error("57P01", "terminating connection due to administrator command"), "Unreachable"],
        [FakeWalSender.error("42704", "publication \"p\" does not exist"), "Missing"],
        [FakeWalSender.error("58P01", "requested WAL segment has already been removed"), "Lost"],
        [Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"), "Protocol"],
        [Uint8Array.of(0x64, 0xff, 0xff, 0xff, 0xff), "Protocol"]
      ]
      for (const [ending, reason] of endings) {
        const fake = yield* FakeWalSender.start(Buffer.concat([FakeWalSender.keepalive(5n, false), ending]))
        const stream = yield* open(fakeConfig(fake.port), "s")
        const frames = yield* stream.pull
        assert.strictEqual(frames.end - frames.start, 23)
        assert.strictEqual((yield* failure(stream.pull)).reason, reason)
      }
    }).pipe(Effect.scoped))
})
