/**
 * Doctor on servers whose settings are wrong. Settings on a test server's command line hold over ALTER SYSTEM, so for those the value that
 * the remedy's statement sets is given to the next start.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Finding } from "@etl-stream/core/Finding"
import { selfSigned } from "@etl-stream/testkit/Certificate"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import type { Inspection } from "../src/preflight/Inspection.ts"
import * as LogChecks from "../src/preflight/LogChecks.ts"
import * as SessionChecks from "../src/preflight/SessionChecks.ts"
import * as DoctorRun from "./DoctorRun.ts"

const { version } = EmbeddedPostgres

const asked = (pg: EmbeddedPostgres.EmbeddedPostgres) => ({
  name: "settings",
  options: { url: pg.url, tables: ["public.t"] }
})

const starting = (settings: Record<string, string>) =>
  Effect.tap(EmbeddedPostgres.start({ settings }), (pg) => pg.query("CREATE TABLE t (id int PRIMARY KEY)"))

/** The settings that a remedy's statements make. */
const settingsOf = (findings: ReadonlyArray<Finding>): Record<string, string> =>
  Object.fromEntries(
    findings.flatMap(({ sql }) => sql).flatMap((statement) => {
      const match = /^ALTER SYSTEM SET (\w+) = '?([^';]+)'?;$/.exec(statement)
      return match?.[1] === undefined || match[2] === undefined ? [] : [[match[1], match[2]]]
    })
  )

describe("server-version", () => {
  it("warns of a major version that the tests don't know yet", () => {
    const check = SessionChecks.checks.find(({ name }) => name === "server-version")
    const found = (version: number, versionText: string) =>
      // The check looks at nothing else.
      [...check?.find({ server: { version, versionText } } as unknown as Inspection) ?? []].map(({ message }) =>
        message
      )
    assert.deepStrictEqual(found(180004, "18.4"), [])
    assert.match(found(190000, "19beta1").join(), /^the server runs PostgreSQL 19beta1, newer than 18/)
  })
})

describe("slot-wal-reserve", () => {
  it("says how long a limit lasts at the log's average rate, and which would last for a stop of six hours", () => {
    const reserve = LogChecks.checks.find(({ name }) => name === "slot-wal-reserve")
    const found = (keep: string, logRate: number | undefined) => {
      const configured = new Map([["max_slot_wal_keep_size", { value: keep, text: "" }], ["max_wal_size", {
        value: "1024",
        text: ""
      }]])
      // The check looks at nothing else.
      return [...reserve?.find({ configured, logRate } as unknown as Inspection) ?? []]
    }
    const megabyte = 1024 ** 2
    const [short] = found("7200", megabyte)
    assert.match(short?.message ?? "", /\(7 GiB\) holds the log of 2 hours at its average rate/)
    assert.deepStrictEqual(short?.sql, [
      "ALTER SYSTEM SET max_slot_wal_keep_size = '21600MB';",
      "SELECT pg_reload_conf();"
    ])
    assert.deepStrictEqual(found("21600", megabyte), [])
    assert.deepStrictEqual(found("7200", undefined), [])
    assert.deepStrictEqual(found("7200", 0), [])
  })
})

describe("doctor on servers with other settings", () => {
  it.live("settings that lose slots, hide dead readers or keep weak passwords are mended by the SQL that it prints", () =>
    Effect.gen(function*() {
      const pg = yield* starting({})
      const set = (name: string, value: string) =>
        DoctorRun.apply(pg.url, [`ALTER SYSTEM SET ${name} = '${value}'`, "SELECT pg_reload_conf()"])
      const cures = (check: string, severity: Finding["severity"], message: RegExp) =>
        DoctorRun.cures(pg, asked(pg), check, severity, message)
      yield* cures("slot-wal-limit", "warning", /server keeps log without limit/)
      yield* set("max_slot_wal_keep_size", "16MB")
      yield* cures("slot-wal-reserve", "warning", /\(16 MiB\) is smaller than max_wal_size \(4 GiB\)/)
      yield* set("wal_sender_timeout", "0")
      yield* cures("wal-sender-timeout", "warning", /never notices that a reader is gone/)
      yield* set("wal_sender_timeout", "5s")
      yield* cures("wal-sender-timeout", "warning", /wal_sender_timeout is 5s/)
      yield* set("password_encryption", "md5")
      yield* cures("password-encryption", "warning", /MD5/)
      yield* set("logical_decoding_work_mem", "1MB")
      yield* cures("decoding-memory", "info", /logical_decoding_work_mem is 1MB/)
      if (version >= 18) {
        yield* set("idle_replication_slot_timeout", "2h")
        yield* cures("idle-slot-timeout", "warning", /idle_replication_slot_timeout is 2h/)
      }
      yield* pg.query("SELECT pg_create_logical_replication_slot('settings', 'pgoutput')")
      yield* set("synchronous_standby_names", "ANY 1 (other)")
      // Nothing that is committed from now on would end: the checks only read.
      const findings = yield* DoctorRun.report(asked(pg)).pipe(
        Effect.repeat({ until: (all) => DoctorRun.of(all, "synchronous-standbys")[0]?.severity === "info" })
      )
      assert.match(DoctorRun.of(findings, "synchronous-standbys")[0]?.message ?? "", /without waiting for them/)
      const guarded = { ...asked(pg), options: { ...asked(pg).options, synchronousGuard: true } }
      assert.strictEqual(DoctorRun.of(yield* DoctorRun.report(guarded), "synchronous-standbys")[0]?.severity, "ok")
      assert.match(DoctorRun.of(findings, "failover")[0]?.message ?? "", /after a failover every table is copied again/)
      if (version >= 17) {
        yield* pg.query("SELECT pg_drop_replication_slot('settings')")
        yield* pg.query("SELECT pg_create_logical_replication_slot('settings', 'pgoutput', false, false, true)")
        assert.strictEqual(DoctorRun.of(yield* DoctorRun.report(asked(pg)), "failover")[0]?.severity, "ok")
      }
    }).pipe(Effect.scoped))

  it.live("a standby that doesn't tell its primary what it needs", () =>
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
      yield* DoctorRun.cures(pg, asked(pg), "hot-standby-feedback", "warning", /without hot_standby_feedback/)
      assert.deepStrictEqual(DoctorRun.named(yield* DoctorRun.report(asked(pg)), "critical"), ["primary"])
      yield* pg.query("SELECT pg_promote()")
      yield* Fiber.join(restarting)
      assert.deepStrictEqual(DoctorRun.named(yield* DoctorRun.report(asked(pg)), "critical"), [])
    }).pipe(Effect.scoped))

  it.live("a role that pg_hba.conf turns away", () =>
    Effect.gen(function*() {
      const pg = yield* starting({})
      const file = path.join(pg.dataDir, "pg_hba.conf")
      const lines = yield* Effect.promise(() => fs.readFile(file, "utf8"))
      const rewrite = (text: string) => Effect.promise(() => fs.writeFile(file, text))
      yield* pg.query("CREATE ROLE fenced LOGIN SUPERUSER PASSWORD 'secret of fenced'")
      yield* rewrite(`host all fenced 127.0.0.1/32 reject\n${lines}`)
      yield* pg.query("SELECT pg_reload_conf()")
      const fenced = {
        name: "settings",
        options: { url: pg.urlOf({ user: "fenced", password: "secret of fenced" }), tables: ["public.t"] }
      }
      const [finding] = yield* DoctorRun.report(fenced).pipe(
        Effect.map((findings) => DoctorRun.of(findings, "connection")),
        Effect.repeat({
          schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: "10 seconds" })),
          until: ([first]) => first?.severity !== "ok"
        })
      )
      assert.match(finding?.message ?? "", /pg_hba\.conf rejects connection/)
      assert.match(finding?.remedy ?? "", /pg_hba\.conf has a line for it/)
      yield* rewrite(lines)
      yield* DoctorRun.cures(pg, fenced, "connection", "critical", /SQLSTATE 28000/)
    }).pipe(Effect.scoped))

  it.live("no room for connections, WAL senders and slots, and a wal_level that is too low, until the server has what it prints", () =>
    Effect.gen(function*() {
      const pg = yield* starting({
        wal_level: "replica",
        max_connections: "8",
        superuser_reserved_connections: "3",
        max_wal_senders: "1",
        max_replication_slots: "1"
      })
      yield* pg.query("SELECT pg_create_physical_replication_slot('taken')")
      const checks = ["wal-level", "free-connections", "free-wal-senders", "free-slots"]
      const options = { url: pg.url, tables: ["public.t"], snapshot: { parallel: 4 } }
      const ask = DoctorRun.report({ name: "settings", options })
      const found = (yield* ask).filter(({ check }) => checks.includes(check))
      assert.deepStrictEqual(
        found.map(({ check, severity }) => [check, severity]),
        [["free-connections", "warning"], ["free-wal-senders", "warning"], ["wal-level", "critical"], [
          "free-slots",
          "critical"
        ]]
      )
      yield* DoctorRun.apply(pg.url, found.flatMap(({ sql }) => sql))
      yield* pg.restart(settingsOf(found))
      const after = (yield* ask).filter(({ check }) => checks.includes(check))
      assert.deepStrictEqual(after.map(({ severity }) => severity), ["ok", "ok", "ok", "ok"])
    }).pipe(Effect.scoped))

  it.live("slots whose log was removed, the pipeline's own and another, are named with the statement that drops them", () =>
    Effect.gen(function*() {
      const pg = yield* starting({ max_slot_wal_keep_size: "1MB", max_wal_size: "32MB", min_wal_size: "32MB" })
      yield* pg.query(
        "SELECT pg_create_logical_replication_slot(name, 'pgoutput') FROM unnest(ARRAY['settings', 'forgotten']) AS name"
      )
      yield* Effect.andThen(
        pg.query("SELECT pg_logical_emit_message(false, 'test', 'x'); SELECT pg_switch_wal(); CHECKPOINT"),
        pg.query("SELECT FROM pg_replication_slots WHERE wal_status <> 'lost'")
      ).pipe(Effect.repeat({ schedule: Schedule.recurs(50), until: (kept) => kept.length === 0 }))
      yield* DoctorRun.cures(pg, asked(pg), "slot-kept", "critical", /slot settings was invalidated by the server/)
      yield* DoctorRun.cures(pg, asked(pg), "other-slots", "warning", /slot forgotten is lost/)
    }).pipe(Effect.scoped))

  it.live("a server whose identity isn't checked", () =>
    Effect.gen(function*() {
      const pg = yield* starting({})
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
      // The same server by an address that doesn't say that it is this machine's.
      const url = pg.url.replace("127.0.0.1", "[::ffff:127.0.0.1]")
      const findings = yield* DoctorRun.report({
        name: "settings",
        options: { url, tables: ["public.t"], tls: { mode: "require" } }
      })
      const [finding] = DoctorRun.of(findings, "tls")
      assert.strictEqual(finding?.severity, "warning")
      assert.match(finding?.message ?? "", /identity of .* is not checked/)
    }).pipe(Effect.scoped))
})
