/** What the contract leaves to Redis, on servers that are flushed, killed, frozen and replaced. */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import * as Lease from "@etl-stream/core/Lease"
import * as FaultProxy from "@etl-stream/testkit/FaultProxy"
import * as RedisServer from "@etl-stream/testkit/RedisServer"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { open, shared, someNamespace } from "./Stores.ts"

const server = shared(RedisServer.start())

const some = (answer: Option.Option<string>): string => Option.getOrThrow(answer)

/** Looks again until it holds. */
const eventually = (condition: Effect.Effect<boolean, unknown>, what: string) =>
  condition.pipe(
    Effect.flatMap((holds) => holds ? Effect.void : Effect.fail(new Error(`${what} didn't come`))),
    Effect.retry(Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: "30 seconds" })))
  )

/** A store behind a proxy, and one of the same documents beside it. */
const throughProxy = Effect.gen(function*() {
  const { host, port } = yield* server
  const proxy = yield* FaultProxy.start({ host, port })
  const namespace = someNamespace()
  const store = yield* open({ host: proxy.host, port: proxy.port, namespace })
  const beside = yield* open({ host, port, namespace })
  // From here on the server knows the scripts, so each is one command with one answer.
  yield* beside.compareAndSet("scripts", "", undefined)
  yield* beside.remove("scripts")
  return { proxy, store, beside }
})

// Most wait for something to be given up, and none changes a server that others use.
describe("RedisStateStore", { concurrent: true }, () => {
  beforeAll(() => Effect.runPromise(RedisServer.installed), 600_000)

  it.live("doesn't take a version from before a flush, or from after an old copy, for the one that is there", () =>
    Effect.gen(function*() {
      const own = yield* RedisServer.start()
      const store = yield* open({ url: own.url })
      const first = some(yield* store.compareAndSet("a", "1", undefined))
      const copy = yield* own.save
      const second = some(yield* store.compareAndSet("a", "2", first))
      yield* own.command("FLUSHALL")
      assert.isTrue(Option.isNone(yield* store.get("a")))
      assert.isTrue(Option.isNone(yield* store.compareAndSet("a", "3", second)))
      const third = some(yield* store.compareAndSet("a", "1", undefined))
      assert.notInclude([first, second], third)
      yield* own.stop
      yield* own.restart(copy)
      assert.deepStrictEqual(yield* store.get("a"), Option.some({ value: "1", version: first }))
      assert.isTrue(Option.isNone(yield* store.compareAndSet("a", "4", third)))
      assert.isTrue(Option.isSome(yield* store.compareAndSet("a", "4", first)))
      yield* own.kill
      yield* own.restart()
      assert.isTrue(Option.isNone(yield* store.get("a")))
      assert.isTrue(Option.isNone(yield* store.compareAndSet("a", "5", first)))
    }))

  it.live("goes on when the server forgets its scripts", () =>
    Effect.gen(function*() {
      const { command, url } = yield* RedisServer.start()
      const store = yield* open({ url })
      const first = some(yield* store.compareAndSet("a", "1", undefined))
      yield* command("SCRIPT", "FLUSH")
      assert.isTrue(Option.isSome(yield* store.compareAndSet("a", "2", first)))
      assert.strictEqual((yield* store.list("")).length, 1)
    }))

  it.live("keeps a namespace in one key, and leaves everything else alone", () =>
    Effect.gen(function*() {
      const own = yield* RedisServer.start()
      yield* own.command("SET", "foreign", "x")
      const [one, two] = [
        yield* open({ url: own.url, namespace: "one" }),
        yield* open({ url: own.url, namespace: "two" })
      ]
      for (let n = 0; n < 5; n++) yield* one.compareAndSet(`key ${n}`, "1", undefined)
      assert.deepStrictEqual(yield* two.list(""), [])
      assert.isTrue(Option.isNone(yield* two.get("key 1")))
      yield* two.compareAndSet("key 1", "2", undefined)
      const keys = yield* own.command("KEYS", "*")
      assert.sameMembers(Array.isArray(keys) ? keys : [], ["foreign", "{one}:state", "{two}:state"])
    }))

  it.live("keeps a database of its own when one is named", () =>
    Effect.gen(function*() {
      const own = yield* RedisServer.start()
      const zero = yield* open({ url: own.url, namespace: "same" })
      const three = yield* open({ url: `${own.url}/3`, namespace: "same" })
      const also = yield* open({ host: own.host, port: own.port, database: 3, namespace: "same" })
      yield* three.compareAndSet("a", "3", undefined)
      assert.isTrue(Option.isNone(yield* zero.get("a")))
      assert.isTrue(Option.isSome(yield* also.get("a")))
      // A connection that is made anew is in the same one.
      yield* own.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
      assert.isTrue(Option.isSome(yield* three.get("a")))
      assert.isTrue(Option.isNone(yield* zero.get("a")))
    }))

  it.live("reports a change whose answer was lost as made, and makes it once", () =>
    Effect.gen(function*() {
      const { beside, proxy, store } = yield* throughProxy
      const first = some(yield* store.compareAndSet("a", "1", undefined))
      yield* proxy.loseAnswer()
      const writing = yield* Effect.forkChild(store.compareAndSet("a", "2", first))
      const isThere = Effect.map(beside.get("a"), (entry) => Option.getOrThrow(entry).value === "2")
      yield* eventually(isThere, "the write")
      yield* proxy.resume
      const second = some(yield* Fiber.join(writing))
      assert.deepStrictEqual(yield* beside.get("a"), Option.some({ value: "2", version: second }))
    }))

  it.live("reports a creation whose answer was lost as made", () =>
    Effect.gen(function*() {
      const { beside, proxy, store } = yield* throughProxy
      yield* proxy.loseAnswer()
      const writing = yield* Effect.forkChild(store.compareAndSet("a", "1", undefined))
      yield* eventually(Effect.map(beside.get("a"), Option.isSome), "the write")
      yield* proxy.resume
      const version = some(yield* Fiber.join(writing))
      assert.deepStrictEqual(yield* beside.get("a"), Option.some({ value: "1", version }))
    }))

  it.live("doesn't call a change that was made, and changed since, somebody else's, when its answer was lost", () =>
    Effect.gen(function*() {
      const { beside, proxy, store } = yield* throughProxy
      const first = some(yield* store.compareAndSet("a", "1", undefined))
      yield* proxy.loseAnswer()
      const writing = yield* Effect.forkChild(Effect.flip(store.compareAndSet("a", "2", first)))
      const change = Effect.flatMap(beside.get("a"), (entry) => {
        const { value, version } = Option.getOrThrow(entry)
        return value === "2"
          ? Effect.map(beside.compareAndSet("a", "3", version), Option.isSome)
          : Effect.succeed(false)
      })
      yield* eventually(change, "the write")
      yield* proxy.resume
      const error = yield* Fiber.join(writing)
      assert.strictEqual(error.reason, "Unreachable")
      assert.include(error.message, "isn't known")
      assert.strictEqual(Option.getOrThrow(yield* beside.get("a")).value, "3")
    }))

  it.live("doesn't bring back what was created, and removed since, when its answer was lost", () =>
    Effect.gen(function*() {
      const { beside, proxy, store } = yield* throughProxy
      yield* proxy.loseAnswer()
      const writing = yield* Effect.forkChild(Effect.flip(store.compareAndSet("a", "1", undefined)))
      yield* eventually(Effect.map(beside.get("a"), Option.isSome), "the write")
      yield* beside.remove("a")
      yield* proxy.resume
      assert.include((yield* Fiber.join(writing)).message, "isn't known")
      assert.isTrue(Option.isNone(yield* store.get("a")))
    }))

  it.live("removes what there was and not what came after, when the answer was lost", () =>
    Effect.gen(function*() {
      const { beside, proxy, store } = yield* throughProxy
      yield* store.compareAndSet("a", "1", undefined)
      // The first answer is that of the read before it.
      yield* proxy.loseAnswer(2)
      const removing = yield* Effect.forkChild(Effect.exit(store.remove("a")))
      yield* eventually(Effect.map(beside.get("a"), Option.isNone), "the removal")
      yield* beside.compareAndSet("a", "2", undefined)
      yield* proxy.resume
      yield* Fiber.join(removing)
      assert.strictEqual(Option.getOrThrow(yield* beside.get("a")).value, "2")
    }))

  it.live("goes on after connections that are cut again and again, without a write lost or doubled", () =>
    Effect.gen(function*() {
      const { beside, proxy, store } = yield* throughProxy
      let failed = 0
      for (let n = 0; n < 60; n++) {
        const entry = Option.getOrUndefined(yield* beside.get("n"))
        const count = Number(entry?.value ?? 0)
        const cut = yield* Effect.forkChild(Effect.delay(proxy.cut, n % 4))
        const outcome = yield* Effect.result(store.compareAndSet("n", String(count + 1), entry?.version))
        yield* Fiber.join(cut)
        const now = Number(Option.getOrUndefined(yield* beside.get("n"))?.value ?? 0)
        if (outcome._tag === "Success") {
          // Nobody else writes.
          assert.isTrue(Option.isSome(outcome.success))
          assert.strictEqual(now, count + 1)
        } else {
          failed++
          assert.include([count, count + 1], now)
        }
      }
      // Of a creation alone it may stay unknown whether it was made.
      assert.isAtMost(failed, 3)
    }))

  it.live("fails in time when the server is frozen, and goes on when it isn't any more", () =>
    Effect.gen(function*() {
      const own = yield* RedisServer.start()
      const store = yield* open({ url: own.url, timeout: "800 millis" })
      const first = some(yield* store.compareAndSet("a", "1", undefined))
      yield* own.freeze
      const operations = [
        Effect.asVoid(store.get("a")),
        Effect.asVoid(store.list("")),
        Effect.asVoid(store.compareAndSet("a", "2", first)),
        store.remove("b"),
        Effect.asVoid(store.now)
      ]
      for (const operation of operations) {
        const [time, error] = yield* Effect.timed(Effect.flip(operation))
        assert.strictEqual(error.reason, "Unreachable")
        assert.isBelow(Duration.toMillis(time), 4500)
      }
      yield* own.thaw
      yield* eventually(Effect.map(store.get("a"), Option.isSome), "an answer")
      // The write that was given up may have come through late, as itself.
      const { value, version } = Option.getOrThrow(yield* store.get("a"))
      assert.include(["1", "2"], value)
      if (value === "1") assert.strictEqual(version, first)
      assert.isTrue(Option.isSome(yield* store.compareAndSet("a", "3", version)))
    }))

  it.live("waits for a server that is started again, within its time", () =>
    Effect.gen(function*() {
      const own = yield* RedisServer.start()
      const store = yield* open({ url: own.url, timeout: "20 seconds" })
      yield* store.compareAndSet("a", "1", undefined)
      yield* own.kill
      const reading = yield* Effect.forkChild(store.get("a"))
      yield* own.restart()
      assert.isTrue(Option.isNone(yield* Fiber.join(reading)))
    }))

  it.live("gives leases whose tokens grow over a flush, an empty restart and an old copy", () =>
    Effect.gen(function*() {
      const own = yield* RedisServer.start()
      const store = yield* open({ url: own.url })
      const token = Effect.scoped(
        Effect.map(Lease.acquire(store, { name: "x", owner: "test", ttl: "10 seconds" }), (lease) => lease.token)
      )
      const tokens = [yield* token]
      const copy = yield* own.save
      tokens.push(yield* token, yield* token)
      yield* own.command("FLUSHALL")
      tokens.push(yield* token)
      yield* own.kill
      yield* own.restart()
      tokens.push(yield* token)
      yield* own.stop
      yield* own.restart(copy)
      tokens.push(yield* token)
      assert.deepStrictEqual(tokens, tokens.toSorted((a, b) => a - b))
      assert.strictEqual(new Set(tokens).size, tokens.length)
    }))

  it.live("takes the time from the server", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const store = yield* open({ url })
      const before = Date.now()
      const now = yield* store.now
      assert.isAtLeast(now, before - 1)
      assert.isAtMost(now, Date.now() + 1)
    }))

  it.live("replaces documents that something else wrote", () =>
    Effect.gen(function*() {
      const { command, url } = yield* server
      const namespace = someNamespace()
      const store = yield* open({ url, namespace })
      for (const junk of ["", " ", "x", "\u0000", " x", "a b c", "a\tb c", "a\nb", "🦀"]) {
        yield* command("HSET", `{${namespace}}:state`, "junk", junk)
        const entry = Option.getOrThrow(yield* store.get("junk"))
        const expected = entry.version === "" ? undefined : entry.version
        assert.isTrue(Option.isSome(yield* store.compareAndSet("junk", "mine", expected)), JSON.stringify(junk))
        assert.strictEqual(Option.getOrThrow(yield* store.get("junk")).value, "mine")
      }
    }))

  it.live("follows sentinels to the new primary when the old one dies", () =>
    Effect.gen(function*() {
      const { name, primary, replica, sentinel } = yield* RedisServer.startWatched
      const store = yield* open({
        sentinel: { name, nodes: [`${sentinel.host}:${sentinel.port}`] },
        timeout: "2 seconds"
      })
      const version = some(yield* store.compareAndSet("a", "1", undefined))
      yield* eventually(Effect.map(replica.command("DBSIZE"), (size) => size === 1), "replication")
      yield* primary.kill
      yield* eventually(
        Effect.map(Effect.result(store.compareAndSet("b", "2", undefined)), ({ _tag }) => _tag === "Success"),
        "the failover"
      )
      assert.deepStrictEqual(yield* store.get("a"), Option.some({ value: "1", version }))
    }), 120_000)

  it.live(
    "fails in time when its node of a cluster is dead, and goes on when it is back",
    () =>
      Effect.gen(function*() {
        const nodes = yield* RedisServer.startCluster
        const namespace = someNamespace()
        const store = yield* open({
          cluster: { nodes: nodes.map(({ host, port }) => `${host}:${port}`) },
          namespace,
          timeout: "1 second"
        })
        yield* store.compareAndSet("a", "1", undefined)
        const sizes = yield* Effect.forEach(nodes, (node) => node.command("DBSIZE"))
        const node = nodes[sizes.indexOf(1)]
        assert(node !== undefined)
        yield* node.kill
        const [time, error] = yield* Effect.timed(Effect.flip(store.get("a")))
        assert.strictEqual(error.reason, "Unreachable")
        assert.isBelow(Duration.toMillis(time), 4500)
        yield* node.restart()
        yield* eventually(
          Effect.map(Effect.result(store.compareAndSet("a", "2", undefined)), ({ _tag }) => _tag === "Success"),
          "the node"
        )
        assert.strictEqual(Option.getOrThrow(yield* store.get("a")).value, "2")
      }),
    120_000
  )
})
