import { assert, describe, it } from "@effect/vitest"
import * as TablePattern from "@etl-stream/core/TablePattern"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Config from "../src/Config.ts"
import * as Lsn from "../src/Lsn.ts"
import * as Sql from "../src/Sql.ts"

const decode = (options: unknown) =>
  Schema.decodeUnknownResult(Config.Config)(options, { errors: "all", onExcessProperty: "error" })

const resolve = (options: unknown, pipeline = "shop"): Config.Settings =>
  Effect.runSync(Config.resolve(Result.getOrThrow(decode(options)), { pipeline, directory: "." }))

const problem = (options: unknown): string => {
  const result = decode(options)
  return Result.isFailure(result) ? String(result.failure.message) : assert.fail("the options were taken")
}

const url = "postgresql://loader:s3cret%40x@db.example.com:6543/shop"

describe("Config", () => {
  it("has a default for everything but the server", () => {
    const settings = resolve({ url })
    assert.deepStrictEqual(settings.endpoint, {
      hosts: [{ name: "db.example.com", address: undefined, port: 6543 }],
      user: "loader",
      database: "shop"
    })
    assert.strictEqual(Duration.toMillis(settings.connectTimeout), 10_000)
    assert.strictEqual(settings.applicationName, "etl-stream shop")
    assert.deepStrictEqual(settings.publication, { name: "shop", manage: true, check: Duration.minutes(1) })
    assert.strictEqual(settings.slot.name, "shop")
    assert.strictEqual(Duration.toMillis(settings.slot.wait), 15_000)
    assert.deepStrictEqual(settings.tables.map(({ text }) => text), ["public.*"])
    assert.deepStrictEqual(settings.snapshot, { parallel: 2, chunkBytes: 67_108_864, fetchRows: 16_384 })
  })

  it("derives names that slots allow and that no other pipeline has", () => {
    assert.strictEqual(Config.objectName("shop_2"), "shop_2")
    const names = ["my-shop", "My-Shop", "my shop", "my_shop", "ä", "x".repeat(63), "x".repeat(64), "x".repeat(65)].map(
      Config.objectName
    )
    assert.strictEqual(new Set(names).size, names.length)
    for (const name of names) assert.match(name, /^[a-z0-9_]{1,63}$/)
  })

  it("keeps transactions in progress at the server unless it is told otherwise, and then in a folder of the pipeline", () => {
    const of = (streaming: unknown) =>
      Effect.runSync(
        Config.resolve(Result.getOrThrow(decode({ url, streaming })), { pipeline: "My Shop", directory: "/etc/etl" })
      )
        .streaming
    const gib = 1024 ** 3
    assert.isUndefined(resolve({ url }).streaming)
    assert.isUndefined(of("off"))
    assert.isUndefined(of({ mode: "off", diskLimit: "1GiB" }))
    const name = Config.objectName("My Shop")
    assert.deepStrictEqual(of("on"), { directory: `/etc/etl/spool/${name}`, diskLimit: 10 * gib })
    assert.deepStrictEqual(of({ directory: "../var", diskLimit: "1.5GiB" }), {
      directory: `/etc/var/${name}`,
      diskLimit: 1.5 * gib
    })
    assert.deepStrictEqual(of({ mode: "on", directory: "/var/spool/etl", diskLimit: 1e9 }), {
      directory: `/var/spool/etl/${name}`,
      diskLimit: 1e9
    })
    assert.match(problem({ url, streaming: "parallel" }), /at \["streaming"\]/)
    assert.match(problem({ url, streaming: { diskLimit: "much" } }), /a size such as 16MiB/)
  })

  it("names the option and what is wrong with it, and never a secret", () => {
    const cases: ReadonlyArray<readonly [options: unknown, text: RegExp]> = [
      [{}, /expected url, or at least user/],
      [{ url: "mysql://u:s3cret@h/d" }, /expected a URL of the form postgresql:[^]*"url"/],
      [{ url: "postgres://u:s3cret%zz@h/d" }, /write % itself as %25/],
      [{ url: "postgres://u:s3cret@h:99999/d" }, /port is not a number/],
      [{ url: "postgres://:s3cret@h/d" }, /names no user/],
      [{ url: `${url}?sslmode=maybe` }, /sslmode is none of/],
      [{ url: `${url}?sslmode=prefer` }, /fall back to plain text/],
      [{ url: `${url}?requirepeer=x` }, /requirepeer is not supported/],
      [{ url: `${url}?s3cret=x` }, /a parameter is not one of libpq's/],
      [{ url, password: { command: [] } }, /"password"/],
      [{ url: 7 }, /"url"/],
      [{ user: "u", password: ["s3cret"] }, /"password"/],
      [{ url, slot: { name: "My-Slot" } }, /1 to 63 characters of a-z, 0-9 and _[^]*"slot"[^]*"name"/],
      [{ url, tables: ["orders"] }, /expected schema\.table[^]*"tables"[^]*0/],
      [{ url, tables: [] }, /"tables"/],
      [{ url, snapshot: { parallel: 0 } }, /"snapshot"[^]*"parallel"/],
      [{ url, snapshots: {} }, /"snapshots"/],
      [{ url, tls: { mode: "prefer" } }, /"disable"[^]*"tls"[^]*"mode"/]
    ]
    for (const [options, text] of cases) {
      const found = problem(options)
      assert.match(found, text)
      assert.notInclude(found, "s3cret")
    }
    assert.notInclude(JSON.stringify(resolve({ url })), "s3cret")
  })

  it("describes every option", () => {
    const document = JSON.stringify(Schema.toJsonSchemaDocument(Config.Config))
    for (const name of ["url", "tables", "publication", "slot", "snapshot", "tls", "connectTimeout", "targetSession"]) {
      assert.include(document, `"${name}"`)
    }
    assert.include(document, "certificate and host name")
  })
})

describe("TablePattern", () => {
  const matches = (pattern: string, schema: string, name: string): boolean | undefined =>
    TablePattern.parse(pattern)?.matches({ schema, name })

  it("matches names exactly as they are stored", () => {
    assert.isTrue(matches("public.orders", "public", "orders"))
    assert.isFalse(matches("public.orders", "public", "Orders"))
    assert.isFalse(matches("public.orders", "public", "orders_2"))
    assert.isTrue(matches("public.*", "public", "any thing.at\nall"))
    assert.isFalse(matches("public.*", "publicity", "x"))
    assert.isTrue(matches("sales_*.order_*", "sales_eu", "order_"))
    assert.isTrue(matches("public.a+b(c)", "public", "a+b(c)"))
    assert.isFalse(matches("public.a+b", "public", "aab"))
  })

  it("takes quoted names literally", () => {
    assert.isTrue(matches(`"a.b"."c""d"`, "a.b", "c\"d"))
    assert.isTrue(matches(`public."*"`, "public", "*"))
    assert.isFalse(matches(`public."*"`, "public", "x"))
    for (const text of ["orders", "a.b.c", "public.", ".x", `"a".`, `"a"b.c`, `public."x`, `public.""`, "", `a."b"c`]) {
      assert.isUndefined(TablePattern.parse(text), text)
    }
  })
})

describe("Lsn and Sql", () => {
  it("positions go to text and back", () => {
    for (const lsn of [0n, 1n, 0x16_b374d848n, 0xffffffff_ffffffffn]) {
      assert.strictEqual(Lsn.parse(Lsn.format(lsn)), lsn)
    }
    assert.strictEqual(Lsn.format(0x16_b374d848n), "16/B374D848")
    for (const text of ["", "16", "16/", "/1", "1/123456789", "x/1", "1/1 "]) assert.isUndefined(Lsn.parse(text))
  })

  it("names and literals can't end early", () => {
    assert.strictEqual(Sql.table({ schema: "a\"b", name: "c.d" }), `"a""b"."c.d"`)
    assert.strictEqual(Sql.literal("it's"), "'it''s'")
    assert.strictEqual(Sql.literal("\\'"), "E'\\\\'''")
  })
})
