/**
 * The contract of a `StateStore` as a conformance suite.
 *
 * The store is opened several times within a case and must reach the same documents each time: that is how the suite sees what is
 * durable and what two processes would see.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Lease from "@etl-stream/core/Lease"
import type { Plugin } from "@etl-stream/core/Plugin"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { inspect } from "node:util"
import type { Case, Suite } from "./Conformance.ts"
import * as Refused from "./internal/refusedOptions.ts"
import * as PluginOptions from "./PluginOptions.ts"

/** A place for documents that nobody else uses. */
export interface Place {
  readonly options: PluginOptions.Options
  /** Relative paths in options are relative to it. Default: the current folder. */
  readonly directory?: string
  /** Makes the place unreachable (its server is frozen, its file locked …); undefined: it can't be. */
  readonly gone?: Effect.Effect<void, unknown>
  /** Makes it reachable again. */
  readonly back?: Effect.Effect<void, unknown>
}

export interface Subject<A> {
  readonly plugin: Plugin<"state", A>
  readonly prepare: Effect.Effect<Place, unknown, Scope.Scope>
  /** Why the place can't be `gone`; undefined: it can. */
  readonly always?: string
  /** The longest that an operation may take when the place is gone. Default: 30 seconds. */
  readonly patience?: Duration.Input
  /** Options that decode. */
  readonly valid: PluginOptions.Options
  readonly refused: ReadonlyArray<PluginOptions.RefusedOptions>
  /** What stands in the report behind the plugin's name: `on a cluster`. */
  readonly label?: string
  /** How long a case may take. Default: 1 minute. */
  readonly timeout?: Duration.Input
}

type Open = Effect.Effect<StateStoreShape, ConnectorError | PluginOptions.OptionsRefused, Scope.Scope>

/** Fails the case when the store answered none. */
const versionOf = (answer: Option.Option<string>): string => Option.getOrThrow(answer)

/** The same store, until it is cut off: then nothing reaches it any more. */
const severable = (store: StateStoreShape) => {
  let severed = false
  const lost = Effect.fail(
    new ConnectorError({
      reason: "Unreachable",
      plugin: "@etl-stream/testkit",
      message: "cut off",
      hint: "This is a test."
    })
  )
  const through = <A>(effect: Effect.Effect<A, ConnectorError>) => Effect.suspend(() => severed ? lost : effect)
  const severable: StateStoreShape = {
    get: (key) => through(store.get(key)),
    list: (prefix) => through(store.list(prefix)),
    compareAndSet: (key, value, expected) => through(store.compareAndSet(key, value, expected)),
    remove: (key) => through(store.remove(key)),
    now: through(store.now)
  }
  return {
    store: severable,
    sever: () => {
      severed = true
    }
  }
}

interface Scenario {
  readonly name: string
  readonly run: (open: Open) => Effect.Effect<void, unknown, Scope.Scope>
}

const scenario = (name: string, run: Scenario["run"]): Scenario => ({ name, run })

const scenarios: ReadonlyArray<Scenario> = [
  scenario("has nothing under a key that was never written", (open) =>
    Effect.gen(function*() {
      const store = yield* open
      assert.ok(Option.isNone(yield* store.get("absent")))
      assert.deepStrictEqual(yield* store.list("absent"), [])
    })),

  scenario("gives back what was written, to whoever opens it next", (open) =>
    Effect.gen(function*() {
      const value = JSON.stringify({ text: "ä\u0000\"\\ 🌊", list: [1, null], long: "x".repeat(100_000) })
      const version = yield* Effect.scoped(
        Effect.flatMap(open, (store) => Effect.map(store.compareAndSet("document", value, undefined), versionOf))
      )
      const again = yield* open
      assert.deepStrictEqual(yield* again.get("document"), Option.some({ value, version }))
    })),

  scenario("creates a document only where there is none", (open) =>
    Effect.gen(function*() {
      const store = yield* open
      versionOf(yield* store.compareAndSet("key", "first", undefined))
      assert.ok(Option.isNone(yield* store.compareAndSet("key", "second", undefined)))
      assert.strictEqual(Option.getOrThrow(yield* store.get("key")).value, "first")
    })),

  scenario("changes a document only from the version that is stored", (open) =>
    Effect.gen(function*() {
      const store = yield* open
      const first = versionOf(yield* store.compareAndSet("key", "1", undefined))
      const second = versionOf(yield* store.compareAndSet("key", "2", first))
      assert.notStrictEqual(second, first)
      assert.ok(Option.isNone(yield* store.compareAndSet("key", "3", first)))
      assert.ok(Option.isNone(yield* store.compareAndSet("other", "3", second)))
      assert.strictEqual(Option.getOrThrow(yield* store.get("key")).value, "2")
      assert.ok(Option.isNone(yield* store.get("other")))
    })),

  scenario("gives a new version when the same value is written again", (open) =>
    Effect.gen(function*() {
      const store = yield* open
      const first = versionOf(yield* store.compareAndSet("key", "same", undefined))
      const second = versionOf(yield* store.compareAndSet("key", "same", first))
      assert.notStrictEqual(second, first)
    })),

  scenario("never gives a version again after a removal", (open) =>
    Effect.gen(function*() {
      const store = yield* open
      const before = versionOf(yield* store.compareAndSet("key", "1", undefined))
      yield* store.remove("key")
      assert.ok(Option.isNone(yield* store.get("key")))
      const after = versionOf(yield* store.compareAndSet("key", "1", undefined))
      assert.notStrictEqual(after, before)
      assert.ok(Option.isNone(yield* store.compareAndSet("key", "2", before)))
    })),

  scenario("removes what is there, and doesn't mind when nothing is", (open) =>
    Effect.gen(function*() {
      const store = yield* open
      yield* store.remove("absent")
      yield* store.compareAndSet("key", "1", undefined)
      yield* store.remove("key")
      assert.ok(Option.isNone(yield* store.get("key")))
    })),

  scenario(
    "lists the keys of a prefix in order, taking every character for itself",
    (open) =>
      Effect.gen(function*() {
        const store = yield* open
        const keys = ["a/2", "a/1", "a/10", "b/1", "A/1", "a%/1", "a_/1", "a\\/1", "a/é"]
        for (const key of keys) yield* store.compareAndSet(key, key, undefined)
        const under = (prefix: string) => Effect.map(store.list(prefix), (entries) => entries.map(([key]) => key))
        assert.deepStrictEqual(yield* under("a/"), ["a/1", "a/10", "a/2", "a/é"])
        assert.deepStrictEqual(yield* under("a%"), ["a%/1"])
        assert.deepStrictEqual(yield* under("a_"), ["a_/1"])
        assert.deepStrictEqual(yield* under("a\\"), ["a\\/1"])
        assert.strictEqual((yield* under("")).length, keys.length)
        const [first] = yield* store.list("b/")
        assert.strictEqual(first?.[1].value, "b/1")
      })
  ),

  scenario("lets exactly one of many writers win each round", (open) =>
    Effect.gen(function*() {
      const stores = yield* Effect.all([open, open], { concurrency: 1 })
      const key = randomUUID()
      yield* Effect.flatMap(open, (store) => store.compareAndSet(key, "0", undefined))
      const increment = (store: StateStoreShape): Effect.Effect<void, ConnectorError> =>
        Effect.gen(function*() {
          for (;;) {
            const entry = Option.getOrThrow(yield* store.get(key))
            const next = yield* store.compareAndSet(key, String(Number(entry.value) + 1), entry.version)
            if (Option.isSome(next)) return
          }
        })
      const writers = Array.from({ length: 20 }, (_unused, index) => increment(stores[index % 2 === 0 ? 0 : 1]))
      yield* Effect.all(writers, { concurrency: "unbounded" })
      const [store] = stores
      assert.strictEqual(Option.getOrThrow(yield* store.get(key)).value, "20")
    })),

  scenario("has a clock that goes on", (open) =>
    Effect.gen(function*() {
      const [one, two] = yield* Effect.all([open, open], { concurrency: 1 })
      const before = yield* one.now
      assert.ok(before >= Date.UTC(2020, 0))
      yield* Effect.sleep("20 millis")
      assert.ok((yield* two.now) > before)
    })),

  scenario("lets one at a time hold a lease, each with a greater token", (open) =>
    Effect.gen(function*() {
      const stores = yield* Effect.all([open, open], { concurrency: 1 })
      const tokens: Array<number> = []
      let holders = 0
      const turn = (index: number) =>
        Effect.gen(function*() {
          const lease = yield* Lease.acquire(stores[index % 2 === 0 ? 0 : 1], {
            name: "turns",
            owner: `holder ${index}`,
            ttl: "3 seconds"
          })
          assert.strictEqual(++holders, 1)
          tokens.push(lease.token)
          yield* Effect.sleep("5 millis")
          assert.ok(yield* lease.isHeld)
          holders--
        }).pipe(Effect.scoped)
      yield* Effect.forEach(Array.from({ length: 5 }, (_unused, index) => index), turn, { concurrency: "unbounded" })
      assert.strictEqual(tokens.length, 5)
      assert.ok(tokens.every((token, index) => index === 0 || token > (tokens[index - 1] ?? 0)), String(tokens))
    }).pipe(Effect.orDie)),

  scenario("keeps a lease for its holder far longer than it lives by itself", (open) =>
    Effect.gen(function*() {
      const [one, two] = yield* Effect.all([open, open], { concurrency: 1 })
      for (let ttl = 600;; ttl *= 3) {
        const name = `kept ${ttl}`
        let lookedAt = performance.now()
        const lease = yield* Lease.acquire(one, { name, owner: "one", ttl })
        let pause = 0
        let kept = true
        for (let look = 0; kept && look < 12; look++) {
          yield* Effect.sleep(ttl / 4)
          const other = yield* Effect.result(Lease.tryAcquire(two, { name, owner: "two", ttl }))
          if (other._tag === "Failure") assert.strictEqual(other.failure._tag, "LeaseHeld")
          kept = other._tag === "Failure"
          pause = Math.max(pause, performance.now() - lookedAt)
          lookedAt = performance.now()
        }
        if (kept && (yield* lease.isHeld)) return
        // A lease is rightly lost where everything stood still for most of its time: then it has to live longer.
        assert.ok(
          pause > ttl / 2 && ttl < 5000,
          `a lease of ${ttl} ms was lost, though looked at every ${pause} ms at most`
        )
      }
    }).pipe(Effect.orDie)),

  scenario("passes a lease on when its holder is cut off, who knows it by then", (open) =>
    Effect.gen(function*() {
      const [store, two] = yield* Effect.all([open, open], { concurrency: 1 })
      const one = severable(store)
      const lease = yield* Lease.acquire(one.store, { name: "passed", owner: "one", ttl: "900 millis" })
      one.sever()
      const next = yield* Lease.acquire(two, { name: "passed", owner: "two", ttl: "900 millis" })
      assert.strictEqual(yield* lease.isHeld, false)
      assert.deepStrictEqual(yield* lease.lost, { _tag: "Late" })
      assert.ok(next.token > lease.token)
    }).pipe(Effect.orDie))
]

/** Keys and a value that must not be told. */
const secret = "a value that nobody is told"

/** The suite for a state store. */
export const make = <A>(subject: Subject<A>): Suite => {
  const { patience = "30 seconds", plugin } = subject
  const prepared = Effect.map(subject.prepare, (place) => {
    const { directory = PluginOptions.context.directory, options } = place
    const open: Open = PluginOptions.make(plugin, options, { ...PluginOptions.context, directory })
    return { place, open }
  })

  /** Fails unless the operation ends in time; gives its error, if it has one, as it has to be. */
  const bounded = Effect.fnUntraced(function*<B>(what: string, operation: Effect.Effect<B, unknown>) {
    const result = yield* operation.pipe(
      Effect.result,
      Effect.timeoutOrElse({
        duration: patience,
        orElse: () =>
          Effect.die(new assert.AssertionError({ message: `${what} has neither answered nor failed in time` }))
      })
    )
    if (result._tag === "Success") return undefined
    const error = result.failure
    assert.ok(
      typeof error === "object" && error !== null && "_tag" in error && error._tag === "ConnectorError",
      `${what} failed with something that is no ConnectorError: ${String(error)}`
    )
    assert.ok(!inspect(error, { depth: 10 }).includes(secret), `${what} failed with an error that has a document in it`)
    return error
  })

  const gone = Effect.flatMap(prepared, ({ open, place }) =>
    Effect.gen(function*() {
      if (place.gone === undefined) return assert.fail("the place has no `gone`; say by `always` why it can't be")
      const store = yield* open
      const version = versionOf(yield* store.compareAndSet("key", secret, undefined))
      yield* place.gone
      const errors = yield* Effect.all([
        bounded("`get`", store.get("key")),
        bounded("`list`", store.list("k")),
        bounded("`compareAndSet`", store.compareAndSet("key", `${secret} too`, version)),
        bounded("`remove`", store.remove("other")),
        bounded("`now`", store.now)
      ], { concurrency: "unbounded" })
      assert.notEqual(errors[2], undefined, "`compareAndSet` completed, though the place is gone")
      yield* bounded("opening the store", Effect.scoped(open))
      if (place.back === undefined) return
      yield* place.back
      // What was on its way may come late: then its value is there, and no other.
      const value = yield* store.get("key").pipe(
        Effect.retry(Schedule.spaced("100 millis").pipe(Schedule.upTo({ duration: patience })))
      )
      assert.ok([secret, `${secret} too`].includes(Option.getOrThrow(value).value))
      versionOf(yield* (yield* open).compareAndSet("after", "1", undefined))
    }))

  return {
    kind: "state",
    plugin: subject.label === undefined ? plugin.name : `${plugin.name} ${subject.label}`,
    cases: [
      ...Refused.cases(plugin, subject.refused, subject.valid),
      ...scenarios.map(({ name, run }): Case => ({
        name,
        skipped: undefined,
        run: Effect.flatMap(prepared, ({ open }) => run(open))
      })),
      {
        name: "answers or fails in time when its place is gone, and goes on when it is back",
        skipped: subject.always,
        run: gone
      }
    ],
    timeout: Duration.fromInputUnsafe(subject.timeout ?? "1 minute")
  }
}
