import { assert, describe, it } from "@effect/vitest"
import { Config, plugin } from "@etl-stream/state-redis"
import * as Endpoint from "@etl-stream/state-redis/Endpoint"
import * as RedisUrl from "@etl-stream/state-redis/RedisUrl"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import { inspect } from "node:util"
import { configuration } from "./Stores.ts"

const decode = Schema.decodeUnknownResult(Config)

/** What is wrong with options; undefined when nothing is. */
const problem = (options: unknown): string | undefined => {
  const result = decode(options, { errors: "all", onExcessProperty: "error" })
  return result._tag === "Failure" ? String(result.failure) : undefined
}

const endpoint = (options: object): Endpoint.Endpoint => Endpoint.make(configuration(options))

const revealed = (password: Redacted.Redacted<string> | undefined) =>
  password === undefined ? undefined : Redacted.value(password)

describe("Config of @etl-stream/state-redis", () => {
  it("reads a URL with everything in it", () => {
    const { credentials, database, label, place, tls } = endpoint({
      url: "rediss://us%40er:p%3Aa%2Fss@redis.internal:7000/5"
    })
    assert.deepStrictEqual(place, { _tag: "Server", address: { host: "redis.internal", port: 7000 } })
    assert.deepStrictEqual([credentials.username, revealed(credentials.password)], ["us@er", "p:a/ss"])
    assert.deepStrictEqual([database, tls], [5, {}])
    assert.strictEqual(label, "Redis at redis.internal:7000")
  })

  it("has defaults for what isn't said", () => {
    const { connectTimeout, credentials, database, place, timeout, tls } = endpoint({ url: "redis://localhost" })
    assert.deepStrictEqual(place, { _tag: "Server", address: { host: "localhost", port: 6379 } })
    assert.deepStrictEqual([credentials.username, credentials.password, database, tls], [
      undefined,
      undefined,
      0,
      undefined
    ])
    assert.deepStrictEqual([connectTimeout, timeout], [10_000, 5000])
    assert.strictEqual(configuration({ host: "localhost" }).namespace, "etl-stream")
  })

  it("takes a password beside the URL, and addresses of version 6", () => {
    const { credentials, label, place } = endpoint({ url: "redis://etl@[::1]:7000", password: "secret-word" })
    assert.deepStrictEqual(place, { _tag: "Server", address: { host: "::1", port: 7000 } })
    assert.strictEqual(revealed(credentials.password), "secret-word")
    assert.strictEqual(label, "Redis at [::1]:7000")
  })

  it("reads sentinels and clusters", () => {
    const watched = endpoint({
      sentinel: { name: "main", nodes: ["a", "b:1", "[::1]"], password: "secret-word" },
      database: 2
    })
    assert.strictEqual(watched.label, "the Redis primary main of the sentinels a:26379, b:1, [::1]:26379")
    assert.strictEqual(watched.database, 2)
    const cluster = endpoint({ cluster: { nodes: ["a", "b:1"] }, tls: {} })
    assert.deepStrictEqual(cluster.place, {
      _tag: "Cluster",
      nodes: [{ host: "a", port: 6379 }, { host: "b", port: 1 }]
    })
    assert.strictEqual(cluster.tls?.verify, true)
  })

  for (
    const [what, options, says] of [
      ["no place", {}, "exactly one of url, host, sentinel or cluster is needed, none is given"],
      ["two places", { url: "redis://a", host: "b" }, "url and host are given"],
      ["a port without a host", { url: "redis://a", port: 1 }, "goes with `host` only"],
      ["no port", { host: "a", port: 0 }, "port"],
      ["a URL of something else", { url: "http://a" }, "redis://"],
      ["no URL", { url: "a:6379" }, "redis://"],
      ["a URL without a host", { url: "redis://" }, "host"],
      ["a URL with parameters", { url: "redis://a?db=3" }, "parameters"],
      ["a URL with a path", { url: "redis://a/b" }, "database"],
      ["a URL with a stray %", { url: "redis://u:100%@a" }, "%25"],
      ["a password in two places", { url: "redis://:pass-word@a", password: "pass-word" }, "is in the URL, too"],
      ["a database in two places", { url: "redis://a/1", database: 1 }, "is in the URL, too"],
      ["a user without a password", { host: "a", username: "etl" }, "is needed with a user name"],
      ["TLS beside a plain URL", { url: "redis://a", tls: {} }, "rediss://"],
      ["half a client certificate", { host: "a", tls: { cert: "x" } }, "both `cert` and `key`"],
      ["a database of a cluster", { cluster: { nodes: ["a"] }, database: 1 }, "only database 0"],
      ["a cluster of nothing", { cluster: { nodes: [] } }, "nodes"],
      ["a node that is none", { cluster: { nodes: ["redis://a"] } }, "host:port"],
      ["sentinels without a name", { sentinel: { nodes: ["a"] } }, "name"],
      ["encrypted sentinels without TLS", { sentinel: { name: "x", nodes: ["a"], tls: true } }, "needs `tls`"],
      ["a namespace with braces", { host: "a", namespace: "a}b" }, "namespace"],
      ["no namespace", { host: "a", namespace: "" }, "namespace"],
      ["no time", { host: "a", timeout: "0 seconds" }, "longer than zero"],
      ["endless time", { host: "a", timeout: "Infinity" }, "and end"],
      ["a key that there isn't", { host: "a", pasword: "x" }, "pasword"]
    ] as const
  ) {
    it(`refuses ${what}`, () => assert.include(problem(options), says))
  }

  it("never repeats a secret when it refuses one", () => {
    for (
      const options of [
        { url: "redis://u:top-secret@a?x" },
        { url: "redis://u:top-secret@a", password: "top-secret" },
        { url: "http://u:top-secret@a" },
        { url: "redis://u:top-secret%@a" },
        { url: "top-secret" },
        { password: "top-secret" },
        { host: "a", tls: { key: "top-secret" } },
        { sentinel: { name: "x", nodes: ["a"], tls: true, password: "top-secret" } }
      ]
    ) {
      const said = problem(options)
      assert.isDefined(said)
      assert.notInclude(said, "top-secret")
    }
  })

  it("shows no secret when it is printed", () => {
    const config = configuration({ url: "rediss://u:top-secret@a", tls: { cert: "c", key: "top-secret" } })
    for (const value of [config, Endpoint.make(config)]) {
      assert.notInclude(inspect(value, { depth: 20 }), "top-secret")
      assert.notInclude(JSON.stringify(value), "top-secret")
    }
  })

  it("is the plugin's", () => {
    assert.strictEqual(plugin.kind, "state")
    assert.strictEqual(plugin.config, Config)
  })
})

describe("RedisUrl", () => {
  it("reads back whatever user, password, host, port and database a URL is made of", () => {
    const text = fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 })
    fc.assert(fc.property(
      fc.record({
        tls: fc.boolean(),
        username: fc.option(text, { nil: undefined }),
        password: fc.option(text, { nil: undefined }),
        host: fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6()),
        port: fc.integer({ min: 1, max: 65535 }),
        database: fc.option(fc.nat({ max: 15 }), { nil: undefined })
      }),
      ({ database, host, password, port, tls, username }) => {
        const user = [username, password].some((part) => part !== undefined)
          ? `${encodeURIComponent(username ?? "")}:${encodeURIComponent(password ?? "")}@`
          : ""
        const at = RedisUrl.formatAddress({ host, port })
        const parsed = RedisUrl.parse(
          `redis${tls ? "s" : ""}://${user}${at}${database === undefined ? "" : `/${database}`}`
        )
        assert(typeof parsed === "object", String(parsed))
        assert.deepStrictEqual(
          [parsed.tls, parsed.username, revealed(parsed.password), parsed.port, parsed.database],
          [tls, username, password, port, database]
        )
        // Addresses of version 6 have several spellings.
        if (!host.includes(":")) assert.strictEqual(parsed.host, host.toLowerCase())
      }
    ))
  })

  it("says of any other text what is wrong, without repeating it", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "binary", maxLength: 60 }),
        fc.string({ minLength: 8, unit: "grapheme-ascii" }),
        (a, b) => {
          const parsed = RedisUrl.parse(`${a}${b}`)
          assert.isTrue(typeof parsed === "object" || !parsed.includes(b))
          const address = RedisUrl.parseAddress(a, 1)
          assert.isTrue(address === undefined || (address.host !== "" && address.port >= 1 && address.port <= 65535))
        }
      )
    )
  })
})
