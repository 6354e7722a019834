import { assert, describe, it } from "@effect/vitest"
import { slotOf as derivedSlot } from "@etl-stream/monitor-wal/Config"
import { objectName } from "@etl-stream/source-postgres/Config"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Standby from "@etl-stream/testkit/Standby"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { readFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Connection from "../src/Connection.ts"
import * as ConnectionOptions from "../src/ConnectionOptions.ts"
import { memory, Pipeline } from "./Scripted.ts"
import * as Watching from "./Watching.ts"

type Postgres = EmbeddedPostgres.EmbeddedPostgres

const scenario = (name: string, test: Effect.Effect<void, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.provideService(test, References.MinimumLogLevel, "None"), 150_000)

const makeSlot = (server: Postgres, name = "shop", plugin = "pgoutput") =>
  server.query("SELECT pg_create_logical_replication_slot($1, $2)", [name, plugin])

/** Writes about as many mebibytes into the log. */
const write = (server: Postgres, mebibytes: number) =>
  Effect.forEach(
    Array.from({ length: Math.ceil(mebibytes / 8) }),
    () => server.query("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 8 * 1024 * 1024))"),
    { discard: true }
  )

/** Reads the slot up to the log's end, so that the server keeps nothing more for it. */
const advance = (server: Postgres, name = "shop") =>
  server.query("CHECKPOINT").pipe(
    Effect.andThen(server.query("SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())", [name]))
  )

const quick = { sustained: "300 millis", warning: "50%", danger: "80%" }

// Each has a server of its own, and mostly waits: for looks, and for conditions to last.
describe("on a real server", { concurrent: true }, () => {
  scenario(
    "a slot that nobody reads comes to warning and danger, actions are taken in order, and all is undone once it has been read",
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      yield* makeSlot(server)
      const pipeline = new Pipeline()
      pipeline.blocking = ["public.slow"]
      const { raised, status } = yield* Watching.start({
        url: server.url,
        slots: ["shop"],
        budget: "160MiB",
        wait: "300 millis",
        thresholds: quick,
        actions: [{ at: "30%", do: "alert" }, { at: "50%", do: "pause-copies" }, { at: "60%", do: "spool" }, {
          at: "90%",
          do: "quarantine"
        }]
      }, { pipelines: [pipeline] })
      const state = () => ({ raised: raised(), status: status(), asked: pipeline.asked })
      const retained = () => status().slots?.[0]?.retainedBytes ?? 0
      yield* Watching.until(() => status().slots?.[0]?.present === true, state)
      assert.strictEqual(status().server?.version.split(".")[0], String(server.version))
      assert.isBelow(retained(), 16 << 20)
      assert.isNotNull(status().slots?.[0]?.inactiveSince)
      assert.isFalse(status().slots?.[0]?.active)
      assert.strictEqual(status().slots?.[0]?.decoded?.totalTransactions, 0)
      assert.isFalse(status().directory?.estimated)
      assert.isAtLeast(status().directory?.bytes ?? 0, 16 << 20)
      yield* write(server, 56)
      yield* Watching.until(() => raised().some((name) => name.startsWith("wal-action-alert")), state)
      assert.deepStrictEqual(pipeline.asked, [])
      yield* Watching.until(() => retained() >= 48 << 20, state)
      yield* write(server, 30)
      yield* Watching.until(() => raised().includes("slot-wal-warning shop"), state)
      yield* Watching.until(() => pipeline.asked.length > 0, state)
      assert.deepStrictEqual(pipeline.asked, ["pause"])
      assert.notInclude(raised(), "slot-wal-danger shop")
      yield* write(server, 48)
      yield* Watching.until(() => raised().includes("slot-wal-danger shop"), state)
      yield* Watching.until(() => pipeline.asked.length > 1, state)
      yield* write(server, 16)
      yield* Watching.until(() => pipeline.asked.length > 2, state)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool", "quarantine public.slow"])
      yield* Watching.until(
        () => raised().every((name) => !name.startsWith("slot-wal") && !name.startsWith("wal-action")),
        state,
        advance(server)
      )
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool", "quarantine public.slow", "unspool", "resume"])
      yield* Watching.until(() => retained() < 16 << 20, state)
    })
  )

  scenario(
    "a slot that max_slot_wal_keep_size has cost its log is lost, and what is safe before is what the server says",
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start({
        settings: { max_slot_wal_keep_size: "64MB", max_wal_size: "64MB", min_wal_size: "32MB" }
      })
      yield* makeSlot(server)
      const { raised, status } = yield* Watching.start({ url: server.url, slots: ["shop"], thresholds: quick })
      const state = () => ({ raised: raised(), status: status() })
      yield* Watching.until(() => status().slots?.[0]?.remainingBytes !== undefined, state)
      const remaining = status().slots?.[0]?.remainingBytes ?? 0
      const [row] = yield* server.query("SELECT safe_wal_size::float8 AS safe FROM pg_replication_slots")
      assert.closeTo(remaining, Number(row?.["safe"]), 4096)
      assert.isAtLeast(remaining, 48 << 20)
      yield* write(server, 56)
      yield* Watching.until(() => raised().includes("slot-wal-warning shop"), state)
      yield* Watching.until(
        () => raised().includes("slot-lost shop"),
        state,
        Effect.andThen(write(server, 32), server.query("CHECKPOINT"))
      )
      yield* Watching.until(() => !raised().includes("slot-wal-warning shop"), state)
      yield* Watching.until(() => status().slots?.[0]?.walStatus === "lost", state)
      yield* server.query("SELECT pg_drop_replication_slot('shop')")
      yield* Watching.until(() => raised().includes("slot-missing shop"), state)
    })
  )

  scenario(
    "a role without pg_monitor is told so and watches the slots all the same, without an error in the server's log",
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      yield* makeSlot(server)
      yield* server.query("CREATE ROLE watcher LOGIN PASSWORD 'w:@/?#%'")
      const url = server.urlOf({ user: "watcher", password: "w:@/?#%" })
      const { raised, status } = yield* Watching.start({ url, slots: ["shop"], budget: "64MiB", thresholds: quick })
      const state = () => ({ raised: raised(), status: status() })
      yield* Watching.until(() => raised().includes("wal-directory-unknown"), state)
      yield* Watching.until(() => status().directory !== undefined, state)
      assert.isTrue(status().directory?.estimated)
      yield* write(server, 40)
      yield* Watching.until(() => raised().includes("slot-wal-warning shop"), state)
      yield* Watching.until(() => (status().directory?.bytes ?? 0) >= 40 << 20, state)
      assert.notMatch(readFileSync(server.logFile, "utf8"), /ERROR/)
      yield* server.query("GRANT pg_monitor TO watcher")
      yield* Watching.until(() => !raised().includes("wal-directory-unknown"), state)
      yield* Watching.until(() => status().directory?.estimated === false, state)
    })
  )

  scenario(
    "a server that goes down is a condition until it is back, over one connection",
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      yield* makeSlot(server)
      const { conditions, raised, status } = yield* Watching.start({
        url: server.url,
        slots: ["shop"],
        budget: "1GiB",
        thresholds: quick
      })
      const state = () => ({ raised: raised(), status: status() })
      yield* Watching.until(() => status().slots !== undefined, state)
      yield* server.kill
      yield* Watching.until(() => raised().includes("server-unreachable"), state)
      assert.isNotNull(status().problem)
      assert.include(conditions()[0]?.message ?? "", `connecting to 127.0.0.1:${server.port}`)
      assert.notInclude(JSON.stringify(conditions()), server.password)
      yield* server.restart()
      yield* Watching.until(() => !raised().includes("server-unreachable") && status().problem === null, state)
      const [row] = yield* server.query(
        "SELECT count(*)::int AS sessions FROM pg_stat_activity WHERE application_name = 'etl-stream monitor pg'"
      )
      assert.deepStrictEqual(row, { sessions: 1 })
    })
  )

  scenario(
    "a wrong password is told at once, without the password",
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      const url = server.urlOf({ user: "postgres", password: "certainly wrong" })
      const { conditions, raised } = yield* Watching.start({ url, slots: ["shop"] })
      yield* Watching.until(() => raised().includes("server-unreachable"), raised)
      assert.notInclude(JSON.stringify(conditions()), "certainly")
      assert.include(conditions()[0]?.hint ?? "", "Check user and password")
    })
  )

  scenario(
    "what drifts is told: tables that leave the publication or lose their key, a slot that goes and comes back as another",
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      yield* server.query(`
        CREATE TABLE orders (id int PRIMARY KEY);
        CREATE TABLE "Odd.Name" (id int PRIMARY KEY);
        CREATE TABLE events (id int, day int, PRIMARY KEY (id, day)) PARTITION BY LIST (day);
        CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
        CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);
        CREATE PUBLICATION shop FOR TABLE orders, "Odd.Name", events;
      `)
      yield* makeSlot(server)
      yield* makeSlot(server, "abandoned")
      const pipeline = new Pipeline()
      pipeline.tables = ["public.orders", "public.\"Odd.Name\"", "public.events"]
      const { conditions, raised, status } = yield* Watching.start({
        url: server.url,
        slots: ["shop"],
        budget: "1GiB",
        idleSlots: "8MiB",
        inactive: "1 hour",
        thresholds: quick
      }, { pipelines: [pipeline] })
      const state = () => ({ raised: raised(), status: status() })
      yield* write(server, 9)
      yield* Watching.until(() => raised().includes("slot-idle abandoned"), state)
      assert.deepStrictEqual(raised(), ["slot-idle abandoned"])
      yield* server.query("SELECT pg_drop_replication_slot('abandoned')")
      yield* server.query(
        "ALTER PUBLICATION shop DROP TABLE \"Odd.Name\"; ALTER TABLE orders DROP CONSTRAINT orders_pkey"
      )
      yield* Watching.until(() => raised().includes("publication-table-missing shop public.\"Odd.Name\""), state)
      yield* Watching.until(() => raised().includes("replica-identity-lost shop public.orders"), state)
      yield* server.query("ALTER TABLE events_2 REPLICA IDENTITY NOTHING")
      yield* Watching.until(
        () => raised().some((name) => name.startsWith("replica-identity-lost shop public.events")),
        state
      )
      yield* server.query("ALTER TABLE events_2 REPLICA IDENTITY FULL; ALTER TABLE orders ADD PRIMARY KEY (id)")
      yield* server.query("ALTER PUBLICATION shop ADD TABLE \"Odd.Name\"")
      yield* Watching.until(() => raised().every((name) => name.startsWith("slot-idle")), state)
      yield* server.query("SELECT pg_drop_replication_slot('shop')")
      yield* Watching.until(() => raised().includes("slot-missing shop"), state)
      yield* makeSlot(server, "shop", "test_decoding")
      yield* Watching.until(() => raised().includes("slot-recreated shop"), state)
      assert.include(raised(), "slot-changed shop")
      assert.include(
        conditions().find(({ name }) => name === "slot-changed")?.message ?? "",
        "its plugin is test_decoding instead of pgoutput"
      )
      yield* server.query("DROP PUBLICATION shop")
      yield* Watching.until(() => raised().includes("publication-missing shop"), state)
    })
  )

  scenario(
    "the primary of several hosts is watched, the next one after a failover; a standby too, when that is asked for",
    Effect.gen(function*() {
      const primary = yield* EmbeddedPostgres.start()
      yield* makeSlot(primary)
      const standby = yield* Standby.start(primary)
      const hosts = `127.0.0.1:${standby.port},127.0.0.1:${primary.port}`
      const options = { slots: ["shop"], budget: "1GiB", idleSlots: "8MiB", thresholds: quick }
      const several = primary.url.replace(`127.0.0.1:${primary.port}`, hosts)
      const main = yield* Watching.start({ ...options, url: several })
      const other = yield* Watching.start(
        { ...options, url: `${standby.url}?target_session_attrs=standby` },
        { name: "other" }
      )
      const state = () => [main.raised(), main.status(), other.raised(), other.status()]
      yield* Watching.until(() => main.status().slots?.[0]?.present === true, state)
      yield* Watching.until(() => other.status().server?.standby === true, state)
      assert.isFalse(main.status().server?.standby)
      yield* standby.stop
      yield* write(primary, 16)
      // What a standby that is away keeps is told under its slot's name.
      yield* Watching.until(() => main.raised().includes(`slot-idle ${standby.slot}`), state)
      yield* Watching.until(() => other.raised().includes("server-unreachable"), state)
      yield* standby.restart()
      yield* Watching.until(() => !main.raised().includes(`slot-idle ${standby.slot}`), state)
      yield* Watching.until(() => !other.raised().includes("server-unreachable"), state)
      yield* primary.kill
      yield* standby.query("SELECT pg_promote()")
      yield* Watching.until(() => main.raised().includes("slot-missing shop"), state)
      assert.notInclude(main.raised(), "slot-recreated shop")
      yield* makeSlot(standby)
      yield* Watching.until(() => main.raised().includes("slot-recreated shop"), state)
      assert.notInclude(main.raised(), "slot-missing shop")
    })
  )

  scenario(
    "what was raised before a restart is there after it, as of when it began",
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      yield* makeSlot(server)
      yield* write(server, 40)
      const state = memory()
      const options = { url: server.url, slots: ["shop"], budget: "64MiB", thresholds: quick }
      const told = yield* Effect.scoped(Effect.gen(function*() {
        const { conditions, raised } = yield* Watching.start(options, { state })
        yield* Watching.until(() => raised().includes("slot-wal-warning shop"), raised)
        // Kept at the end of the look that raised it.
        yield* Watching.until(
          () => [...state.documents.values()].some((text) => text.includes(`"raised":true`)),
          raised
        )
        return conditions().find(({ name }) => name === "slot-wal-warning")?.since
      }))
      yield* server.stop
      const { conditions, raised } = yield* Watching.start(options, { state })
      yield* Watching.until(() => raised().includes("slot-wal-warning shop"), raised)
      assert.strictEqual(conditions().find(({ name }) => name === "slot-wal-warning")?.since, told)
    })
  )
})

describe("many monitors", () => {
  /**
   * Twenty monitors while the catalog of publications is locked: how many queries ran at once at most, as seen for some time since there were `enough`,
   * and how many sessions there were.
   */
  const crowd = (server: Postgres, permits: number | undefined, enough: number) =>
    Effect.scoped(Effect.gen(function*() {
      const monitors = Array.from({ length: 20 }, (_, index) => `many${permits ?? ""}_${index}`)
      const start = Effect.forEach(
        monitors,
        (name) => Watching.start({ url: server.url, slots: ["shop"], budget: "1GiB", every: "1 second" }, { name })
      )
      const scope = yield* Effect.scope
      let most = 0
      let sessions = 0
      const started = yield* Effect.scoped(
        Effect.gen(function*() {
          yield* locking(server)
          const inTheirScope = Effect.provideService(start, Scope.Scope, scope)
          const running = yield* permits === undefined
            ? inTheirScope
            : Effect.provideService(inTheirScope, Connection.QueryPermits, Semaphore.makeUnsafe(permits))
          let samples = 0
          yield* Watching.until(
            () => samples >= 60,
            () => ({ most, sessions }),
            Effect.map(
              server.query(`SELECT count(*) FILTER (WHERE state = 'active')::int AS active, count(*)::int AS sessions
              FROM pg_stat_activity WHERE application_name LIKE 'etl-stream monitor many%'`),
              ([row]) => {
                most = Math.max(most, Number(row?.["active"]))
                sessions = Math.max(sessions, Number(row?.["sessions"]))
                if (most >= enough) samples++
              }
            )
          )
          return running
        }).pipe(Effect.provideService(References.MinimumLogLevel, "None"))
      )
      yield* Watching.until(
        () => started.every(({ status }) => status().slots !== undefined),
        () => started.map(({ status }) => status().problem)
      )
      return { most, sessions }
    }))

  /** Holds a lock on what monitors read, until the scope ends. */
  const locking = (server: Postgres) =>
    Effect.acquireRelease(
      Effect.promise(async () => {
        const { Client } = await import("pg")
        const client = new Client({ connectionString: server.url })
        await client.connect()
        await client.query("BEGIN; LOCK TABLE pg_publication IN ACCESS EXCLUSIVE MODE")
        return client
      }),
      (client) => Effect.promise(() => client.end())
    )

  scenario(
    "of one process run four queries at a time, over one connection each at most",
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      yield* makeSlot(server)
      const { most, sessions } = yield* crowd(server, undefined, Connection.concurrentQueries)
      assert.strictEqual(most, Connection.concurrentQueries)
      assert.isAtMost(sessions, 20)
      // Without the permits there would be more: the measure can tell.
      const more = Connection.concurrentQueries + 1
      assert.isAtLeast((yield* crowd(server, 20, more)).most, more)
    })
  )
})

describe("Connection", { concurrent: true }, () => {
  const endpoint = (server: Postgres, more: Record<string, unknown> = {}) =>
    ConnectionOptions.load(
      Schema.decodeUnknownSync(Schema.toCodecJson(Schema.Struct(ConnectionOptions.fields)))({
        url: server.url,
        ...more
      }),
      "test",
      tmpdir()
    )
  const One = Schema.Struct({ one: Schema.Int })
  const sessions = (server: Postgres) =>
    Effect.map(
      server.query(
        "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'etl-stream monitor test'"
      ),
      ([row]) => Number(row?.["n"])
    )

  scenario(
    "is made at the first query, closed when it is idle, and made again",
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      const connection = yield* Connection.make(yield* endpoint(server), { idle: Duration.seconds(1) })
      assert.strictEqual(yield* sessions(server), 0)
      const query = Effect.map(connection.query("asking", One, "SELECT pg_backend_pid() AS one"), ([row]) => row?.one)
      const [first, ...others] = yield* Effect.all([query, query, query], { concurrency: "unbounded" })
      assert.isNumber(first)
      assert.deepStrictEqual(others, [first, first])
      let open = yield* sessions(server)
      assert.isAtMost(open, 1)
      yield* Watching.until(() => open === 0, () => open, Effect.map(sessions(server), (n) => open = n))
      assert.notStrictEqual(yield* query, first)
    })
  )

  scenario(
    "survives sessions that were ended, changes nothing, and ends what takes too long",
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      const connection = yield* Connection.make(yield* endpoint(server))
      const query = connection.query("asking", One, "SELECT 1 AS one")
      yield* query
      yield* server.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'etl-stream monitor test'"
      )
      let gone = false
      yield* Watching.until(() => gone, () => gone, Effect.map(sessions(server), (n) => gone = n === 0))
      yield* Effect.retry(query, { times: 1 })
      const refused = yield* Effect.flip(connection.query("writing", One, "CREATE TABLE t AS SELECT 1 AS one"))
      assert.include(refused.message, "SQLSTATE 25006")
      const hasty = yield* Connection.make(yield* endpoint(server, { statementTimeout: "200 millis" }))
      const late = yield* Effect.flip(hasty.query("waiting", One, "SELECT 1 AS one FROM pg_sleep(30)"))
      assert.strictEqual(late.reason, "Throttled")
      // On a slow machine this, too, may take too long.
      yield* Effect.retry(hasty.query("asking", One, "SELECT 1 AS one"), { times: 20 })
      const odd = yield* Effect.flip(connection.query("asking", One, "SELECT 'x' AS two"))
      assert.strictEqual(odd.reason, "Protocol")
      yield* query
    })
  )

  scenario(
    "takes the first of several hosts that is no standby, and tells which kind was asked for",
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.start()
      const dead = yield* Effect.scoped(Effect.map(EmbeddedPostgres.start(), ({ port }) => port))
      const address = `127.0.0.1:${server.port}`
      const several = server.url.replace(address, `127.0.0.1:${dead},${address}`)
      const connection = yield* Connection.make(yield* endpoint(server, { url: several }))
      assert.deepStrictEqual(yield* connection.query("asking", One, "SELECT 1 AS one"), [{ one: 1 }])
      const standby = yield* Connection.make(
        yield* endpoint(server, { url: `${server.url}?target_session_attrs=standby` })
      )
      const error = yield* Effect.flip(standby.query("asking", One, "SELECT 1 AS one"))
      assert.include(error.message, "it is a primary server, and a standby is asked for")
      assert.notInclude(error.message, Redacted.value(Redacted.make(server.password)))
    })
  )
})

describe("names", () => {
  it("of slots derive from pipelines' as the source derives them", () => {
    for (const name of ["shop", "Shop", "a-b", "x".repeat(63), `${"x".repeat(62)}-`, "A_b-C"]) {
      assert.strictEqual(derivedSlot(name), objectName(name))
    }
  })
})
