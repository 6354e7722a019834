/** What people are told when Redis can't be used. */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { isRetryable } from "@etl-stream/core/ConnectorError"
import * as Certificate from "@etl-stream/testkit/Certificate"
import * as RedisServer from "@etl-stream/testkit/RedisServer"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { createServer } from "node:net"
import { inspect } from "node:util"
import { open, refusal, shared, someNamespace } from "./Stores.ts"

/** As docs/state.md has them. */
const commands = "+eval +evalsha +hget +hset +hdel +hkeys +time +select +info +ping"

const password = "s3cret-of-the-tests"

/** Everything that an error says, also to those who print all of it. */
const everything = (error: unknown): string => inspect(error, { depth: 20, showHidden: true, getters: true })

const assertDiscreet = (error: unknown, ...secrets: ReadonlyArray<string>): void => {
  for (const secret of [password, ...secrets]) assert.notInclude(everything(error), secret)
}

/** A port that somebody listens at who never says a word. */
const silence = Effect.acquireRelease(
  Effect.callback<{ readonly port: number; readonly close: () => void }>((resume) => {
    const server = createServer((socket) => socket.on("error", () => {}))
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      if (address === null || typeof address === "string") throw new Error("no port")
      resume(Effect.succeed({ port: address.port, close: () => server.close() }))
    })
  }),
  (server) => Effect.sync(server.close)
)

/** A server that answers everything with the same bytes. */
const answering = (answer: string) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly port: number; readonly close: () => void }>((resume) => {
      const server = createServer((socket) => {
        socket.on("error", () => {})
        socket.on("data", () => socket.write(answer))
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        if (address === null || typeof address === "string") throw new Error("no port")
        resume(Effect.succeed({ port: address.port, close: () => server.close() }))
      })
    }),
    (server) => Effect.sync(server.close)
  )

const quick = { connectTimeout: "1 second", timeout: "1 second" }

// Most wait for something to be given up, and none changes a server that others use.
describe("RedisStateStore's refusals", { concurrent: true }, () => {
  beforeAll(() => Effect.runPromise(RedisServer.installed), 600_000)

  const server = shared(RedisServer.start())
  const guarded = shared(
    RedisServer.start({
      settings: [
        `requirepass ${password}`,
        `user etl on >${password} ~{etl-stream}:* ${commands}`,
        `user reader on >${password} ~* +eval +evalsha +hget +hkeys +time +select +info +ping`,
        `user elsewhere on >${password} ~other:* +@all`
      ]
    })
  )

  it.live("says where nobody listens", () =>
    Effect.gen(function*() {
      const own = yield* RedisServer.start()
      yield* own.stop
      const error = yield* refusal({ url: `redis://:${password}@${own.host}:${own.port}`, ...quick })
      assert.strictEqual(error.reason, "Unreachable")
      assert.include(error.message, `${own.host}:${own.port}`)
      assert.isTrue(isRetryable(error))
      assertDiscreet(error)
    }))

  it.live("says that a host isn't known", () =>
    Effect.gen(function*() {
      const error = yield* refusal({ host: "no-such-host.invalid", ...quick })
      assert.strictEqual(error.reason, "Unreachable")
      assert.include(error.message, "not known")
    }))

  it.live("gives up in time on a server that never says a word", () =>
    Effect.gen(function*() {
      const { port } = yield* silence
      const error = yield* Effect.timeout(refusal({ host: "127.0.0.1", port, password, ...quick }), "5 seconds")
      assert.strictEqual(error.reason, "Unreachable")
      assertDiscreet(error)
    }))

  for (
    const answer of [
      "HTTP/1.1 400 Bad Request\r\n\r\n",
      "\u0000".repeat(64),
      "*-7\r\n",
      "$99999999\r\n",
      ":1\r\n",
      "+OK\r\n"
    ]
  ) {
    it.live(`gives up in time on a server that answers ${JSON.stringify(answer.slice(0, 20))} to everything`, () =>
      Effect.gen(function*() {
        const { port } = yield* answering(answer)
        const error = yield* Effect.timeout(refusal({ host: "127.0.0.1", port, password, ...quick }), "10 seconds")
        assert.include(["Unreachable", "Protocol"], error.reason)
        assertDiscreet(error)
      }))
  }

  it.live("tells a wrong password, a wrong user and a missing password", () =>
    Effect.gen(function*() {
      const { host, port } = yield* guarded
      for (
        const options of [{ password: "wrong-one-of-the-tests" }, {
          username: "etl",
          password: "wrong-one-of-the-tests"
        }, {}]
      ) {
        const error = yield* refusal({ host, port, ...options })
        assert.strictEqual(error.reason, "Unauthorized")
        assert.include(error.hint, "password")
        assertDiscreet(error, "wrong-one-of-the-tests")
      }
    }))

  it.live("works with the rights that the documentation asks for, and no others", () =>
    Effect.gen(function*() {
      const { host, port } = yield* guarded
      const url = `redis://etl:${password}@${host}:${port}`
      const store = yield* open({ url, namespace: "etl-stream" })
      const version = Option.getOrThrow(yield* store.compareAndSet("a", "1", undefined))
      assert.isTrue(Option.isSome(yield* store.compareAndSet("a", "2", version)))
      assert.strictEqual((yield* store.list("a")).length, 1)
      yield* store.remove("a")
      assert.isTrue(Option.isNone(yield* store.get("a")))
      const other = yield* refusal({ url })
      assert.strictEqual(other.reason, "Forbidden")
      assertDiscreet(other)
    }))

  for (const username of ["reader", "elsewhere"]) {
    it.live(`tells the user ${username} which rights are missing, before a run begins`, () =>
      Effect.gen(function*() {
        const { host, port } = yield* guarded
        const error = yield* refusal({ host, port, username, password })
        assert.strictEqual(error.reason, "Forbidden")
        assert.include(error.hint, "ACL SETUSER")
        assertDiscreet(error)
      }))
  }

  it.live("tells that the server is a replica", () =>
    Effect.gen(function*() {
      const { host, port } = yield* server
      const replica = yield* RedisServer.start({ settings: [`replicaof ${host} ${port}`] })
      const error = yield* refusal({ url: replica.url, ...quick })
      assert.include(error.message, "replica")
      assert.include(error.hint, "primary")
    }))

  it.live("tells that the memory limit is reached, and keeps what was there", () =>
    Effect.gen(function*() {
      const own = yield* RedisServer.start({ settings: ["maxmemory-policy noeviction"] })
      const store = yield* open({ url: own.url })
      const version = Option.getOrThrow(yield* store.compareAndSet("a", "1", undefined))
      yield* own.command("CONFIG", "SET", "maxmemory", "1")
      const error = yield* Effect.flip(store.compareAndSet("a", "2", version))
      assert.strictEqual(error.reason, "Throttled")
      assert.include(error.hint, "maxmemory")
      assert.deepStrictEqual(yield* store.get("a"), Option.some({ value: "1", version }))
      yield* own.command("CONFIG", "SET", "maxmemory", "0")
      assert.isTrue(Option.isSome(yield* store.compareAndSet("a", "2", version)))
    }))

  it.live("tells that somebody's script keeps the server busy", () =>
    Effect.gen(function*() {
      const own = yield* RedisServer.start({ settings: ["busy-reply-threshold 50"] })
      const store = yield* open({ url: own.url, timeout: "1 second" })
      const script = yield* Effect.forkChild(Effect.exit(own.command("EVAL", "while true do end", 0)))
      let error = yield* Effect.flip(Effect.repeat(store.get("a"), { until: () => false }))
      // The first answers may be late instead, until the server calls itself busy.
      for (let n = 0; n < 5 && error.reason !== "Throttled"; n++) error = yield* Effect.flip(store.get("a"))
      assert.strictEqual(error.reason, "Throttled")
      assert.include(error.message, "script")
      yield* own.command("SCRIPT", "KILL")
      yield* Fiber.join(script)
      assert.isTrue(Option.isNone(yield* store.get("a")))
    }))

  it.live("tells that the key is something else's, and leaves it alone", () =>
    Effect.gen(function*() {
      const { command, url } = yield* server
      const namespace = someNamespace()
      yield* command("SET", `{${namespace}}:state`, "precious")
      const error = yield* refusal({ url, namespace })
      assert.strictEqual(error.reason, "Misconfigured")
      assert.include(error.message, namespace)
      assert.strictEqual(yield* command("GET", `{${namespace}}:state`), "precious")
    }))

  it.live("tells that there is no such database", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const error = yield* refusal({ url: `${url}/4711` })
      assert.strictEqual(error.reason, "Misconfigured")
      assert.include(error.message, "4711")
    }))

  it.live("never goes on in another database when its own is refused later", () =>
    Effect.gen(function*() {
      const own = yield* RedisServer.start()
      const store = yield* open({ url: `${own.url}/2`, namespace: "same", ...quick })
      yield* store.compareAndSet("a", "2", undefined)
      const zero = yield* open({ url: own.url, namespace: "same" })
      yield* zero.compareAndSet("a", "0", undefined)
      yield* own.command("ACL", "SETUSER", "default", "-select")
      yield* own.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
      for (let n = 0; n < 10; n++) {
        const error = yield* Effect.flip(store.get("a"))
        assert.include(["Forbidden", "Unreachable"], error.reason)
      }
      assert.strictEqual((yield* Effect.flip(store.get("a"))).reason, "Forbidden")
      yield* own.command("ACL", "SETUSER", "default", "+select")
      yield* Effect.retry(store.get("a"), Schedule.spaced("100 millis")).pipe(Effect.timeout("20 seconds"))
      assert.strictEqual(Option.getOrThrow(yield* store.get("a")).value, "2")
    }))

  it.live("works in a cluster with the rights that the documentation asks for", () =>
    Effect.gen(function*() {
      const nodes = yield* RedisServer.startCluster
      for (const { command } of nodes) {
        yield* command(
          "ACL",
          "SETUSER",
          "etl",
          "on",
          `>${password}`,
          "~{etl-stream}:*",
          ...`${commands} +cluster|slots +cluster|info +readonly`.split(" ")
        )
      }
      const store = yield* open({
        cluster: { nodes: nodes.map(({ host, port }) => `${host}:${port}`) },
        username: "etl",
        password,
        namespace: "etl-stream"
      })
      assert.isTrue(Option.isSome(yield* store.compareAndSet("a", "1", undefined)))
      assert.isTrue(Option.isSome(yield* store.get("a")))
    }))

  it.live("tells one server from a cluster", () =>
    Effect.gen(function*() {
      const { host, port } = yield* server
      const single = yield* refusal({ cluster: { nodes: [`${host}:${port}`] }, ...quick })
      assert.strictEqual(single.reason, "Misconfigured")
      assert.include(single.message, "no cluster")
      const nodes = yield* RedisServer.startCluster
      // At least two of the nodes have another part of the keys.
      const namespace = someNamespace()
      const errors = yield* Effect.forEach(nodes, ({ url }) =>
        Effect.flip(Effect.scoped(open({ url, namespace }))).pipe(Effect.option))
      const told = errors.filter(Option.isSome).map(({ value }) =>
        value
      )
      assert.strictEqual(told.length, 2)
      for (const error of told) {
        assert.strictEqual(error.reason, "Misconfigured")
        assert.include(error.hint, "cluster.nodes")
      }
    }))

  it.live("tells what is wrong with sentinels", () =>
    Effect.gen(function*() {
      const { host, port, sentinel } = yield* Effect.map(
        RedisServer.startWatched,
        ({ sentinel }) => ({ ...sentinel, sentinel })
      )
      const unknown = yield* refusal({ sentinel: { name: "another", nodes: [`${host}:${port}`] }, ...quick })
      assert.strictEqual(unknown.reason, "Missing")
      assert.include(unknown.message, "another")
      yield* sentinel.kill
      const gone = yield* refusal({ sentinel: { name: "primary", nodes: [`${host}:${port}`] }, ...quick })
      assert.strictEqual(gone.reason, "Unreachable")
    }))
})

describe("RedisStateStore's TLS", { concurrent: true }, () => {
  beforeAll(() => Effect.runPromise(RedisServer.installed), 600_000)

  const authority = Certificate.authority("the authority of the tests")
  const certificate = authority.issue({ name: "localhost", host: "localhost" })
  const tls = { certificate: certificate.certificate, key: certificate.key, ca: authority.certificate }
  const encrypted = shared(RedisServer.start({ tls }))
  const mutual = shared(RedisServer.start({ tls: { ...tls, clients: true } }))

  it.live("checks the server's certificate by the authority that is named", () =>
    Effect.gen(function*() {
      const { port } = yield* encrypted
      const store = yield* open({ url: `rediss://localhost:${port}`, tls: { ca: authority.certificate } })
      assert.isTrue(Option.isSome(yield* store.compareAndSet("a", "1", undefined)))
      const also = yield* open({ host: "localhost", port, tls: { ca: authority.certificate } })
      assert.isTrue(Option.isNone(yield* also.get("a")))
    }))

  it.live("refuses a certificate of an authority that nobody named, and one for another name", () =>
    Effect.gen(function*() {
      const { port } = yield* encrypted
      const untrusted = yield* refusal({ url: `rediss://:${password}@localhost:${port}` })
      assert.strictEqual(untrusted.reason, "Misconfigured")
      assert.include(untrusted.hint, "tls.ca")
      assertDiscreet(untrusted)
      const misnamed = yield* refusal({ host: "127.0.0.1", port, tls: { ca: authority.certificate } })
      assert.strictEqual(misnamed.reason, "Misconfigured")
      assert.include(misnamed.hint, "tls.serverName")
      const named = yield* open({
        host: "127.0.0.1",
        port,
        tls: { ca: authority.certificate, serverName: "localhost" }
      })
      assert.isTrue(Option.isNone(yield* named.get("a")))
    }))

  it.live("takes any certificate only when it is told not to verify", () =>
    Effect.gen(function*() {
      const { port } = yield* encrypted
      const store = yield* open({ host: "127.0.0.1", port, tls: { verify: false } })
      assert.isTrue(Option.isNone(yield* store.get("a")))
    }))

  it.live("shows a client certificate where one is asked for", () =>
    Effect.gen(function*() {
      const { port } = yield* mutual
      const client = authority.issue({ name: "etl-stream" })
      const url = `rediss://localhost:${port}`
      const key = Certificate.encrypted(client.key, password)
      const store = yield* open({
        url,
        tls: { ca: authority.certificate, cert: client.certificate, key, keyPassword: password }
      })
      assert.isTrue(Option.isNone(yield* store.get("a")))
      const error = yield* refusal({ url, tls: { ca: authority.certificate }, ...quick })
      assert.include(["Misconfigured", "Unreachable"], error.reason)
      assertDiscreet(error)
    }))

  it.live("says that a server speaks no TLS, or only TLS", () =>
    Effect.gen(function*() {
      const plain = yield* RedisServer.start()
      const one = yield* refusal({ url: `rediss://localhost:${plain.port}`, ...quick })
      assert.include(["Misconfigured", "Unreachable"], one.reason)
      const { port } = yield* encrypted
      const other = yield* refusal({ url: `redis://localhost:${port}`, ...quick })
      assert.include(["Misconfigured", "Unreachable"], other.reason)
    }))
})
