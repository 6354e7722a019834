import { assert, describe, it } from "@effect/vitest"
import { tableId } from "@etl-stream/core/TableSchema"
import { plugin } from "@etl-stream/monitor-wal"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Config from "../src/Config.ts"
import * as ConnectionOptions from "../src/ConnectionOptions.ts"

const codec = Schema.toCodecJson(plugin.config)
const decode = (options: unknown) =>
  Schema.decodeUnknownEffect(codec)(options, { errors: "all", onExcessProperty: "error" })
const refusal = (options: unknown) => Effect.map(Effect.flip(decode(options)), ({ message }) => message)
const load = (options: Record<string, unknown>, directory = tmpdir()) =>
  Effect.flatMap(
    Schema.decodeUnknownEffect(Schema.toCodecJson(Schema.Struct(ConnectionOptions.fields)))(options),
    (decoded) => ConnectionOptions.load(decoded, "pg", directory)
  )

describe("options", () => {
  it.effect("have defaults for all but where the server is", () =>
    Effect.gen(function*() {
      const config = yield* decode({ user: "watcher" })
      assert.strictEqual(Duration.toMillis(config.every), 10_000)
      assert.deepStrictEqual(Config.triggers(config.thresholds.warning), [{ _tag: "Share", share: 0.5 }, {
        _tag: "Left",
        millis: 4 * 3_600_000
      }])
      assert.deepStrictEqual(config.actions, [])
      assert.strictEqual(config.thresholds.hysteresis, 0.2)
      assert.strictEqual(config.idleSlots, 1024 ** 3)
      assert.include(yield* refusal({}), "expected url, or at least user")
      assert.include(yield* refusal({ url: "postgresql://host/db" }), "the URL names no user")
    }))

  it.effect("say what is wrong with them", () =>
    Effect.gen(function*() {
      const of = (options: Record<string, unknown>) => refusal({ user: "watcher", ...options })
      assert.include(yield* of({ evry: "1 second" }), "evry")
      assert.include(yield* of({ every: "0 seconds" }), "a duration above 0")
      assert.include(yield* of({ every: "Infinity" }), "duration")
      assert.include(yield* of({ slots: ["No-Slot"] }), "1 to 63 characters of a-z, 0-9 and _")
      assert.include(yield* of({ slots: [] }), "slots")
      assert.include(yield* of({ slots: [{ slot: "a", tables: ["orders"] }] }), "schema.table")
      assert.include(yield* of({ budget: "20GB i" }), "a size such as")
      assert.include(yield* of({ actions: [{ at: "50", do: "alert" }] }), "a share of the budget (50%)")
      assert.include(yield* of({ actions: [{ at: "50%", do: "panic" }] }), "pause-copies")
      assert.include(yield* of({ thresholds: { hysteresis: "0%" } }), "a share such as 20%")
      assert.include(yield* of({ thresholds: { warning: [] } }), "warning")
    }))

  it("watch slots named like the pipelines, or those that are named, with the pipelines that read them", () => {
    assert.deepStrictEqual(
      Config.watched({}, ["shop", "My-Shop"]).map(({ named, pipeline, slot }) => [slot, pipeline, named]),
      [["shop", "shop", false], [Config.slotOf("My-Shop"), "My-Shop", false]]
    )
    assert.deepStrictEqual(
      Config.watched({ slots: ["shop", { slot: "other", pipeline: "crm" }, "stray"] }, ["shop"]).map((
        { named, pipeline, slot }
      ) => [slot, pipeline, named]),
      [["shop", "shop", true], ["other", "crm", true], ["stray", undefined, true]]
    )
    assert.deepStrictEqual(
      Config.watched({ slots: [{ slot: "shop", tables: ["\"public\".\"orders\"", "public.\"Odd\""] }] }, [])[0]?.tables,
      ["public.orders", tableId({ schema: "public", name: "Odd" })]
    )
  })
})

describe("connections", () => {
  it.effect("are as the URL says, unless the options say otherwise", () =>
    Effect.gen(function*() {
      const endpoint = yield* load({ url: "postgresql://us%65r:p%40%3A%2Fss@db.example:6432/app?sslmode=require" })
      assert.deepInclude(endpoint, {
        hosts: [{ host: "db.example", port: 6432 }],
        user: "user",
        database: "app",
        target: "any",
        applicationName: "etl-stream monitor pg"
      })
      assert.strictEqual(endpoint.tls.mode, "require")
      assert.strictEqual(endpoint.password === undefined ? "" : Redacted.value(endpoint.password), "p@:/ss")
      const other = yield* load({
        url: "postgresql://user:secret@db.example:6432/app",
        host: "a, b",
        port: 5433,
        database: "other",
        password: "better",
        tls: { mode: "disable" }
      })
      assert.deepStrictEqual(other.hosts, [{ host: "a", port: 5433 }, { host: "b", port: 5433 }])
      assert.deepStrictEqual([other.database, other.target, other.tls.mode], ["other", "primary", "disable"])
      assert.strictEqual(other.password === undefined ? "" : Redacted.value(other.password), "better")
    }))

  it.effect("are encrypted and verified unless the server is on this machine", () =>
    Effect.gen(function*() {
      const mode = (options: Record<string, unknown>) => Effect.map(load(options), ({ tls }) => tls.mode)
      assert.strictEqual(yield* mode({ user: "u", host: "db.example" }), "verify-full")
      assert.strictEqual(yield* mode({ url: "postgresql://u@10.0.0.1/app" }), "verify-full")
      for (const host of ["localhost", "127.0.0.1", "::1", "/run/postgresql"]) {
        assert.strictEqual(yield* mode({ user: "u", host }), "disable")
      }
      assert.strictEqual(yield* mode({ url: "postgresql://u@localhost,db.example/app" }), "verify-full")
      assert.strictEqual(yield* mode({ url: "postgresql://u@/app?host=/run/postgresql" }), "disable")
      assert.strictEqual(yield* mode({ url: "postgresql://u@[::1]:5432/app" }), "disable")
    }))

  it.effect("take certificates from the files that the URL names, and refuse half of them", () =>
    Effect.gen(function*() {
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "monitor-wal-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      writeFileSync(join(directory, "ca.pem"), "the authority")
      const url = "postgresql://u@db.example/app?sslmode=require&sslrootcert=ca.pem"
      const { tls } = yield* load({ url }, directory)
      assert.deepStrictEqual([tls.mode, tls.ca], ["verify-ca", "the authority"])
      const missing = yield* Effect.flip(load({ url: url.replace("ca.pem", "no.pem") }, directory))
      assert.include(missing.message, "the file that sslrootcert names can't be read")
      const alone = yield* Effect.flip(load({ user: "u", tls: { cert: "a certificate" } }))
      assert.include(String(alone), "not its key")
      const anybody = yield* Effect.flip(load({ user: "u", tls: { mode: "verify-ca" } }))
      assert.include(String(anybody), "anybody's certificate")
    }).pipe(Effect.scoped))

  it.effect("are refused where the URL asks for what isn't done, without a part of it in the message", () =>
    Effect.gen(function*() {
      for (
        const url of [
          "mysql://u:hunter2@h/d",
          "postgresql://u:hunter2/x@h/d",
          "postgresql://u:hunter2@h:99999/d",
          "postgresql://u:hunter2@h/d?sslmode=prefer",
          "postgresql://u:hunter2@h/d?channel_binding=require",
          "postgresql://u:hunter2@h/d?require_auth=scram-sha-256",
          "postgresql://u:hunter2@h/d?target_session_attrs=prefer-standby",
          "postgresql://u:hunter2%@h/d",
          "postgresql://u:hunter2@a,b/d?port=1,2,3",
          "host=h password=hunter2",
          "hunter2"
        ]
      ) {
        const message = yield* refusal({ url })
        assert.notInclude(message, "hunter2", url)
      }
    }))

  it("never throw, whatever the URL is", () => {
    fc.assert(fc.property(
      fc.oneof(
        fc.string({ unit: "binary" }),
        fc.string({ unit: "binary" }).map((text) => `postgresql://${text}`),
        fc.array(
          fc.constantFrom(
            "u",
            ":",
            "@",
            "/",
            "?",
            "&",
            "=",
            "%",
            "%41",
            "[",
            "]",
            ",",
            "5432",
            "host",
            "port",
            "sslmode"
          ),
          {
            maxLength: 24
          }
        ).map((parts) => `postgresql://${parts.join("")}`)
      ),
      (url) => {
        const parsed = ConnectionOptions.parseUrl(url)
        if (typeof parsed !== "string") assert.isAbove(parsed.hosts.length, 0)
      }
    ))
  })
})
