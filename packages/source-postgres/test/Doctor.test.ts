import { assert, layer } from "@effect/vitest"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as net from "node:net"
import * as Connections from "../src/Connections.ts"
import * as Doctor from "../src/Doctor.ts"
import * as DoctorRun from "./DoctorRun.ts"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun
const password = "s3cret-pässword"

/** Everything that a check could have changed at the server. */
const footprint = (pg: EmbeddedPostgres.EmbeddedPostgres) =>
  pg.query(`SELECT (SELECT json_agg(s.slot_name ORDER BY s.slot_name) FROM pg_replication_slots s) AS slots,
    (SELECT json_agg(p ORDER BY p.oid) FROM pg_publication p) AS publications, (SELECT count(*) FROM pg_class) AS relations,
    pg_current_xact_id() IS NULL AS never`)

layer(Server.layer, { excludeTestServices: true })("doctor", (it) => {
  it.effect("finds nothing critical where a run may begin, names everything it looked at, and changes nothing", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("healthy", "CREATE TABLE t (id int PRIMARY KEY, v text)")
      const before = yield* footprint(pg)
      const findings = yield* DoctorRun.report({ name: "healthy", options: { url: pg.url, tables: ["healthy.*"] } })
      assert.deepStrictEqual(yield* footprint(pg), before)
      assert.deepStrictEqual(DoctorRun.named(findings, "critical"), [])
      assert.deepStrictEqual(DoctorRun.named(findings, "warning"), ["slot-wal-limit"])
      assert.deepStrictEqual(
        [...new Set(findings.map(({ check }) => check))].toSorted(),
        Doctor.described.map(({ name }) => name).toSorted()
      )
      assert.notInclude(JSON.stringify(findings), pg.password)
    }))

  it("has a stable name, a meaning and severities for each check", () => {
    const names = Doctor.described.map(({ name }) => name)
    assert.strictEqual(new Set(names).size, names.length)
    for (const { looksAt, name, severities } of Doctor.described) {
      assert.match(name, /^[a-z]+(-[a-z]+)*$/)
      assert.isNotEmpty(looksAt)
      assert.isNotEmpty(severities)
    }
  })

  it.effect("the SQL that it prints takes a role from nothing to a run", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* pg.query("CREATE DATABASE guarded")
      yield* pg.query(`CREATE ROLE "etl ""role""" NOLOGIN PASSWORD '${password}'`)
      const owner = pg.urlOf({ user: pg.user, password: pg.password, database: "guarded" })
      yield* DoctorRun.apply(owner, [
        "REVOKE CONNECT ON DATABASE guarded FROM PUBLIC",
        "CREATE SCHEMA \"Odd schema\"",
        "CREATE TABLE \"Odd schema\".\"T.1\" (id int PRIMARY KEY, v text)",
        "ALTER TABLE \"Odd schema\".\"T.1\" ENABLE ROW LEVEL SECURITY",
        "INSERT INTO \"Odd schema\".\"T.1\" VALUES (1, 'one')"
      ])
      const url = pg.urlOf({ user: "etl \"role\"", password, database: "guarded" })
      const asked = {
        name: "guarded",
        options: { url, tables: ["\"Odd schema\".*"], publication: { manage: false } }
      }
      const rounds: Array<ReadonlyArray<string>> = []
      for (;;) {
        const findings = yield* DoctorRun.report(asked)
        assert.notInclude(JSON.stringify(findings), password)
        const critical = findings.filter((finding) => finding.severity === "critical")
        if (critical.length === 0) break
        rounds.push(DoctorRun.named(findings, "critical"))
        assert.isAtMost(rounds.length, 4, JSON.stringify(critical))
        yield* DoctorRun.apply(owner, critical.flatMap(({ sql }) => sql))
      }
      assert.deepStrictEqual(rounds, [
        ["connection"],
        ["connection"],
        ["replication-session", "table-privileges", "row-level-security", "publication-tables"]
      ])
      const mirror = new Mirror()
      const run = yield* SourceRun.start("guarded", mirror, asked.options)
      yield* run.until(() => mirror.watermarks.length > 0)
      assert.strictEqual(mirror.tables.size, 1)
      yield* run.stop
      yield* SourceRun.released(pg, "guarded")
      yield* pg.query("SELECT pg_drop_replication_slot('guarded')")
    }))

  it.effect("a role that sees too little, whose password ends soon, and which may have too few connections", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("limits", "CREATE TABLE t (id int PRIMARY KEY)")
      yield* pg.query(
        `CREATE ROLE short LOGIN REPLICATION PASSWORD '${password}' VALID UNTIL '${
          new Date((yield* Clock.currentTimeMillis) + 3 * 86_400_000).toISOString()
        }' CONNECTION LIMIT 5; GRANT USAGE ON SCHEMA limits TO short; GRANT SELECT ON ALL TABLES IN SCHEMA limits TO short`
      )
      const asked = {
        name: "limits",
        options: { url: pg.urlOf({ user: "short", password }), tables: ["limits.*"], snapshot: { parallel: 3 } }
      }
      yield* DoctorRun.cures(pg, asked, "password-expiry", "warning", /role short expires in 2 days/)
      yield* DoctorRun.cures(pg, asked, "connection-limits", "critical", /role short may have 5 connections/)
      const blind = yield* DoctorRun.report(asked)
      assert.match(DoctorRun.of(blind, "disk")[0]?.message ?? "", /can't be seen/)
      yield* DoctorRun.cures(pg, asked, "monitoring", "warning", /role short is no member of pg_monitor/)
      const seeing = yield* DoctorRun.report(asked)
      assert.match(DoctorRun.of(seeing, "disk")[0]?.message ?? "", /the log takes \d.* how much is free can't be asked/)
      yield* DoctorRun.cures(
        pg,
        asked,
        "publication-tables",
        "critical",
        /role short may not create publication limits/
      )
    }))

  it.effect("a wrong password, a missing database and an unreachable server are told apart", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const asked = (url: string) => ({ name: "refused", options: { url, tables: ["x.*"] } })
      const wrong = yield* DoctorRun.report(asked(pg.urlOf({ user: pg.user, password: "wrong-password" })))
      assert.deepStrictEqual(wrong.map(({ check, severity }) => [check, severity]), [["connection", "critical"]])
      assert.notInclude(JSON.stringify(wrong), "wrong-password")
      const nowhere = yield* DoctorRun.report(
        asked(pg.urlOf({ user: pg.user, password: pg.password, database: "nowhere" }))
      )
      assert.match(nowhere[0]?.message ?? "", /database "nowhere" does not exist/)
      const listener = net.createServer()
      yield* Effect.promise(() => new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve)))
      const { port } = listener.address() as net.AddressInfo // a TCP listener's
      yield* Effect.promise(() => new Promise((resolve) => listener.close(resolve)))
      const error = yield* Effect.flip(DoctorRun.report(asked(`postgresql://u:hidden@127.0.0.1:${port}/db`)))
      assert.strictEqual(error.reason, "Unreachable")
    }))

  it.effect("a connection pooler that passes no replication on", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("pooled", "CREATE TABLE t (id int PRIMARY KEY)")
      const text = "unsupported startup parameter: replication"
      const fields = Buffer.from(`SFATAL\0VFATAL\0C08P01\0M${text}\0\0`)
      const refusal = Buffer.concat([Buffer.from([0x45, 0, 0, 0, fields.length + 4]), fields])
      const sockets = new Set<net.Socket>()
      const pooler = yield* Effect.acquireRelease(
        Effect.callback<net.Server>((resume) => {
          const made = net.createServer((client) => {
            sockets.add(client)
            client.on("error", () => {})
            client.once("data", (startup: Buffer) => {
              if (startup.includes("replication\0")) return client.end(refusal)
              const server = net.connect(pg.port, pg.host, () => {
                server.write(startup)
                client.pipe(server).pipe(client)
              })
              sockets.add(server)
              server.on("error", () => {})
            })
          })
          made.listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
        }),
        (made) =>
          Effect.sync(() => {
            for (const socket of sockets) socket.destroy()
            made.close()
          })
      )
      const { port } = pooler.address() as net.AddressInfo // a TCP listener's
      const findings = yield* DoctorRun.report({
        name: "pooled",
        options: { url: pg.url.replace(`:${pg.port}`, `:${port}`), tables: ["pooled.*"] }
      })
      const [finding] = DoctorRun.of(findings, "replication-session")
      assert.strictEqual(finding?.severity, "critical")
      assert.match(finding?.remedy ?? "", /connection poolers don't pass replication on/)
    }))

  it.effect("a clock that is wrong, beyond what the round trip explains", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("timed", "CREATE TABLE t (id int PRIMARY KEY)")
      const asked = { name: "timed", options: { url: pg.url, tables: ["timed.*"] } }
      const real = yield* Clock.Clock
      const shifted = (millis: number): Clock.Clock => ({
        currentTimeMillisUnsafe: () => real.currentTimeMillisUnsafe() + millis,
        currentTimeMillis: Effect.map(real.currentTimeMillis, (now) => now + millis),
        currentTimeNanosUnsafe: () => real.currentTimeNanosUnsafe(),
        currentTimeNanos: real.currentTimeNanos,
        monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe(),
        monotonicTimeNanos: real.monotonicTimeNanos,
        sleep: (duration) => real.sleep(duration)
      })
      const at = (millis: number) =>
        DoctorRun.report(asked).pipe(
          Effect.provideService(Clock.Clock, shifted(millis)),
          Effect.map((findings) => DoctorRun.of(findings, "clock")[0])
        )
      assert.strictEqual((yield* at(0))?.severity, "ok")
      assert.match((yield* at(-60_000))?.message ?? "", /is (5\d|60)\.\d seconds ahead of this machine's/)
      assert.match((yield* at(60_000))?.message ?? "", /is (5\d|60)\.\d seconds behind this machine's/)
    }))

  it.effect("plain text to another machine", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("plain", "CREATE TABLE t (id int PRIMARY KEY)")
      // The same server by an address that doesn't say that it is this machine's.
      const url = pg.url.replace("127.0.0.1", "[::ffff:127.0.0.1]")
      const options = { url, tables: ["plain.*"], tls: { mode: "disable" } }
      const [finding] = DoctorRun.of(yield* DoctorRun.report({ name: "plain", options }), "tls")
      assert.strictEqual(finding?.severity, "warning")
      assert.match(finding?.message ?? "", /is not encrypted/)
    }))

  it.effect("transactions that hold a slot's creation up", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const run = yield* SourceRun.schema("held", "CREATE TABLE t (id int PRIMARY KEY)")
      const asked = { name: "held", options: { url: pg.url, tables: ["held.*"] }, limits: { transactionSeconds: 0 } }
      yield* run("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s \\ mine'")
      yield* DoctorRun.cures(
        pg,
        asked,
        "prepared-transactions",
        "warning",
        /database postgres has been prepared for \d+ second/
      )
      const client = yield* Connections.connect(SourceRun.settings(asked.options, "held"), "copy")
      yield* Connections.run(client, "writing", "BEGIN")
      yield* Connections.run(client, "writing", "INSERT INTO held.t VALUES (2)")
      yield* DoctorRun.cures(pg, asked, "long-transactions", "warning", /of server process \d+ has been open for/)
      assert.strictEqual(
        DoctorRun.of(yield* DoctorRun.report({ ...asked, limits: {} }), "long-transactions")[0]?.severity,
        "ok"
      )
    }))

  it.effect("slots without a reader that hold log back, the pipeline's own and others", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("lagging", "CREATE TABLE t (id int PRIMARY KEY)")
      yield* pg.query(
        "SELECT pg_create_logical_replication_slot(name, 'pgoutput') FROM unnest(ARRAY['forgotten', 'lagging']) AS name"
      )
      yield* pg.query("SELECT pg_logical_emit_message(true, 'test', repeat('x', 2000000))")
      const asked = {
        name: "lagging",
        options: { url: pg.url, tables: ["lagging.*"] },
        limits: { retainedBytes: 1_000_000 }
      }
      yield* DoctorRun.cures(
        pg,
        asked,
        "slot-lag",
        "warning",
        /slot lagging holds back .* MiB of log, and nobody reads it/
      )
      yield* DoctorRun.cures(pg, asked, "other-slots", "warning", /slot forgotten holds back/)
    }))

  it.effect("a slot of another kind is named with the statement that drops it; one in use is as it should be", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("slotted", "CREATE TABLE t (id int PRIMARY KEY)")
      const asked = { name: "slotted", options: { url: pg.url, tables: ["slotted.*"] } }
      yield* pg.query("SELECT pg_create_logical_replication_slot('slotted', 'test_decoding')")
      yield* DoctorRun.cures(pg, asked, "slot", "critical", /slot slotted is for the plugin test_decoding/)
      const running = yield* SourceRun.start("slotted", new Mirror())
      yield* running.caughtUp
      const findings = yield* DoctorRun.report(asked)
      const [slot] = DoctorRun.of(findings, "slot")
      assert.strictEqual(slot?.severity, "info")
      assert.match(slot?.message ?? "", /slot slotted is in use by server process \d+$/)
      assert.deepStrictEqual(DoctorRun.named(findings, "critical"), [])
      yield* running.stop
    }))

  it.effect("replica identities that lose updates and deletes, or write too much", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema(
        "identities",
        `CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
         CREATE TABLE keyless (id int); CREATE TABLE heavy (id int PRIMARY KEY, v text); ALTER TABLE heavy REPLICA IDENTITY FULL;
         CREATE TABLE gone (id int PRIMARY KEY, other int NOT NULL); CREATE UNIQUE INDEX gone_other ON gone (other);
         ALTER TABLE gone REPLICA IDENTITY USING INDEX gone_other; DROP INDEX gone_other;
         CREATE TABLE later (id int PRIMARY KEY DEFERRABLE);
         CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10); ALTER TABLE part_1 REPLICA IDENTITY NOTHING`
      )
      const asked = (table: string) => ({
        name: "identities",
        options: { url: pg.url, tables: [`identities.${table}`] }
      })
      yield* DoctorRun.cures(pg, asked("nothing"), "replica-identity", "critical", /REPLICA IDENTITY NOTHING/)
      yield* DoctorRun.cures(pg, asked("gone"), "replica-identity", "critical", /an index that is gone/)
      yield* DoctorRun.cures(pg, asked("keyless"), "replica-identity", "warning", /has no primary key/)
      yield* DoctorRun.cures(pg, asked("later"), "replica-identity", "warning", /has no primary key/)
      yield* DoctorRun.cures(pg, asked("heavy"), "full-identity", "warning", /writes the whole old row/)
      yield* DoctorRun.cures(pg, asked("part"), "partition-identity", "critical", /part_1 has another replica identity/)
    }))

  it.effect("a partition that isn't logged, and a role that may not write heartbeats", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema(
        "logged",
        `CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE UNLOGGED TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10)`
      )
      const asked = { name: "logged", options: { url: pg.url, tables: ["logged.*"] } }
      yield* DoctorRun.cures(pg, asked, "partition-logging", "critical", /part_1 is an unlogged table/)
      // Function privileges are a database's own.
      yield* pg.query("CREATE DATABASE quiet")
      yield* pg.query(`CREATE ROLE quiet LOGIN REPLICATION PASSWORD '${password}'`)
      yield* DoctorRun.apply(pg.urlOf({ user: pg.user, password: pg.password, database: "quiet" }), [
        "CREATE TABLE public.t (id int PRIMARY KEY)",
        `REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text${
          EmbeddedPostgres.version >= 17 ? ", boolean" : ""
        }) FROM PUBLIC`
      ])
      const silent = {
        name: "quiet",
        options: { url: pg.urlOf({ user: "quiet", password, database: "quiet" }), tables: ["public.*"] }
      }
      yield* DoctorRun.cures(pg, silent, "heartbeat", "critical", /role quiet may not write heartbeats/, "quiet")
    }))

  it.effect("what of tables isn't replicated, or otherwise than one may think", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema(
        "details",
        `CREATE TABLE parent (id serial PRIMARY KEY, file oid, place point, places point[]);
         CREATE TABLE "The.child" () INHERITS (parent); CREATE VIEW v AS SELECT 1; CREATE UNLOGGED TABLE u (id int);
         CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id)`
      )
      yield* pg.query("SELECT lo_create(0)")
      const asked = (...tables: ReadonlyArray<string>) => ({ name: "details", options: { url: pg.url, tables } })
      const findings = yield* DoctorRun.report(asked("details.parent", "details.part", "details.u*", "details.p*"))
      const expected = [
        ["inheritance", "warning", /not among its own here: details\."The\.child"/],
        ["large-objects", "warning", /details\.parent may refer to large objects \(file\)/],
        ["text-types", "info", /details\.parent .*place \(point\), places \(point\[\]\)/],
        ["sequences", "info", /parent_id_seq/],
        ["partitions", "warning", /details\.part$/],
        ["excluded-tables", "warning", /details\.u \(an unlogged table\)/],
        ["table-patterns", "critical", /no table matches details\.u\*/],
        ["table-sizes", "info", /2 tables of .*B/]
      ] as const
      for (const [check, severity, message] of expected) {
        const [finding] = DoctorRun.of(findings, check)
        assert.strictEqual(finding?.severity, severity, check)
        assert.match(finding?.message ?? "", message)
      }
      const together = yield* DoctorRun.report(asked("details.parent", "details.\"The.child\""))
      assert.strictEqual(DoctorRun.of(together, "inheritance")[0]?.severity, "info")
    }))

  it.effect("a publication that lacks tables or operations, hides partitions, or has too many tables", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema(
        "publishing",
        `CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE other (id int);
         CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10)`
      )
      const asked = {
        name: "publishing",
        options: {
          url: pg.url,
          tables: ["publishing.a", "publishing.b", "publishing.part"],
          publication: { manage: false }
        }
      }
      yield* DoctorRun.cures(pg, asked, "publication-tables", "critical", /there is no publication publishing/)
      yield* pg.query(
        "ALTER PUBLICATION publishing SET TABLE publishing.a, publishing.other; " +
          "ALTER PUBLICATION publishing SET (publish = 'insert', publish_via_partition_root = false)"
      )
      yield* DoctorRun.cures(
        pg,
        asked,
        "publication-tables",
        "critical",
        /does not publish publishing\.b, publishing\.part$/
      )
      assert.deepStrictEqual(DoctorRun.named(yield* DoctorRun.report(asked), "critical"), [])
      const partition = { ...asked, options: { ...asked.options, tables: ["publishing.part_1"] } }
      yield* pg.query("ALTER PUBLICATION publishing SET (publish_via_partition_root = true)")
      yield* DoctorRun.cures(
        pg,
        partition,
        "publication-partitions",
        "critical",
        /changes of publishing\.part_1 as those of/
      )
      yield* DoctorRun.cures(pg, asked, "publication-operations", "warning", /leaves out updates, deletes, truncates/)
      yield* DoctorRun.cures(
        pg,
        asked,
        "publication-extra-tables",
        "warning",
        /outside of the pipeline.*: publishing\.other$/
      )
      assert.deepStrictEqual(DoctorRun.named(yield* DoctorRun.report(asked), "critical"), [])
      yield* pg.query("CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root = true)")
      const [all] = DoctorRun.of(
        yield* DoctorRun.report({ ...asked, options: { ...asked.options, publication: { name: "everything" } } }),
        "publication-extra-tables"
      )
      assert.strictEqual(all?.severity, "info")
      assert.match(all?.message ?? "", /publication everything has all tables/)
      yield* pg.query("DROP PUBLICATION everything")
    }))

  if (EmbeddedPostgres.version >= 15) {
    it.effect(
      "column lists and row filters by which the application's own updates fail",
      () =>
        Effect.gen(function*() {
          const pg = yield* Server
          const write = yield* SourceRun.schema(
            "narrowed",
            `CREATE TABLE listed ("the id" int PRIMARY KEY, v text, w text); CREATE TABLE filtered (id int PRIMARY KEY, v text);
           INSERT INTO listed VALUES (1, 'a', 'b'); INSERT INTO filtered VALUES (1, 'a');
           CREATE PUBLICATION narrowed FOR TABLE narrowed.listed (v) WHERE ("the id" > 0), narrowed.filtered WHERE (v <> 'z')`
          )
          const asked = {
            name: "narrowed",
            options: { url: pg.url, tables: ["narrowed.*"], publication: { manage: false } }
          }
          assert.strictEqual(DoctorRun.of(yield* DoctorRun.report(asked), "replica-identity")[0]?.severity, "ok")
          const update = (table: string) =>
            Effect.result(pg.query(`UPDATE narrowed.${table} SET v = 'c'`)).pipe(Effect.map(({ _tag }) => _tag))
          assert.deepStrictEqual([yield* update("listed"), yield* update("filtered")], ["Failure", "Failure"])
          yield* DoctorRun.cures(
            pg,
            asked,
            "publication-column-lists",
            "critical",
            /narrowed\.listed leaves out the id/
          )
          assert.deepStrictEqual([yield* update("listed"), yield* update("filtered")], ["Success", "Failure"])
          yield* DoctorRun.cures(
            pg,
            asked,
            "publication-row-filters",
            "critical",
            /row filter of table narrowed\.filtered uses v/
          )
          assert.deepStrictEqual([yield* update("listed"), yield* update("filtered")], ["Success", "Success"])
          const cured = yield* DoctorRun.report(asked)
          assert.deepStrictEqual(DoctorRun.named(cured, "critical"), [])
          // The filter needs what the log would hold too much of otherwise.
          assert.strictEqual(DoctorRun.of(cured, "full-identity")[0]?.severity, "ok")
          const [state] = yield* pg.query(
            "SELECT attnames::text AS columns, rowfilter FROM pg_publication_tables WHERE tablename = 'listed'"
          )
          assert.deepStrictEqual(state, { columns: "{\"the id\",v}", rowfilter: "(\"the id\" > 0)" })
          yield* write("DROP PUBLICATION narrowed")
        })
    )
  }

  if (EmbeddedPostgres.version >= 18) {
    it.effect(
      "generated columns: stored ones can be published, virtual ones can't",
      () =>
        Effect.gen(function*() {
          const pg = yield* Server
          yield* SourceRun.schema(
            "generated",
            `CREATE TABLE t (id int PRIMARY KEY, s int GENERATED ALWAYS AS (id * 2) STORED, v int GENERATED ALWAYS AS (id * 3) VIRTUAL);
         CREATE PUBLICATION generated FOR TABLE generated.t`
          )
          const asked = { name: "generated", options: { url: pg.url, tables: ["generated.*"] } }
          const [virtual] = DoctorRun.of(yield* DoctorRun.report(asked), "virtual-columns")
          assert.match(
            virtual?.message ?? "",
            /table generated\.t can't be published, whatever the publication's settings: v$/
          )
          yield* DoctorRun.cures(pg, asked, "generated-columns", "warning", /not replicated by the server: s$/)
        })
    )
  }
})
