/**
 * The suite of state stores passes what keeps the contract, and catches what doesn't by the case that is meant for it.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Plugin from "@etl-stream/core/Plugin"
import type { Entry, StateStoreShape } from "@etl-stream/core/StateStore"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { assert, describe, it } from "vitest"
import * as StateStoreConformance from "../src/StateStoreConformance.ts"
import * as Verdicts from "./Verdicts.ts"

const Config = Schema.Struct({ place: Schema.NonEmptyString })

interface Place {
  readonly entries: Map<string, Entry>
  gone: boolean
  version: number
}

/** Places by their names: what outlives a store. */
const places = new Map<string, Place>()
const placeOf = (name: string): Place => {
  const place = places.get(name) ?? { entries: new Map(), gone: false, version: 0 }
  places.set(name, place)
  return place
}

/** A store that keeps the contract, in memory. */
const well = (name: string): StateStoreShape => {
  const place = placeOf(name)
  const { entries } = place
  const guarded = <A>(body: () => A): Effect.Effect<A, ConnectorError> =>
    Effect.suspend(() =>
      place.gone
        ? Effect.fail(
          new ConnectorError({ reason: "Unreachable", plugin: "tried", message: "It is gone", hint: "Wait." })
        )
        : Effect.sync(body)
    )
  return {
    get: (key) => guarded(() => Option.fromUndefinedOr(entries.get(key))),
    list: (prefix) =>
      guarded(() => [...entries].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => a < b ? -1 : 1)),
    compareAndSet: (key, value, expected) =>
      guarded(() => {
        if (entries.get(key)?.version !== expected) return Option.none()
        const version = `v${++place.version}`
        entries.set(key, { value, version })
        return Option.some(version)
      }),
    remove: (key) =>
      guarded(() => {
        entries.delete(key)
      }),
    now: guarded(() => Date.now())
  }
}

let made = 0

const suiteOf = (make: (place: string) => StateStoreShape) =>
  StateStoreConformance.make({
    plugin: Plugin.state({
      name: "tried",
      version: "1.0.0",
      summary: "Is tried",
      config: Config,
      make: ({ place }) => Effect.sync(() => make(place))
    }),
    prepare: Effect.sync(() => {
      const place = `place ${made++}`
      const set = (gone: boolean) =>
        Effect.sync(() => {
          placeOf(place).gone = gone
        })
      return { options: { place }, gone: set(true), back: set(false) }
    }),
    patience: "1 second",
    valid: { place: "a" },
    refused: [{ what: "a place without a name", options: { place: "" }, path: "place" }]
  })

/** Defects, each with a part of the name of the case that must find it. */
const defects: Readonly<Record<string, readonly [make: (place: string) => StateStoreShape, found: string]>> = {
  "documents that aren't there afterwards": [(place) => well(`${place} ${made++}`), "whoever opens it next"],
  "a document that is written over": [(place) => {
    const store = well(place)
    return {
      ...store,
      compareAndSet: (key, value, expected) =>
        expected === undefined
          ? Effect.andThen(store.remove(key), store.compareAndSet(key, value, undefined))
          : store.compareAndSet(key, value, expected)
    }
  }, "creates a document only"],
  "a version that comes again": [(place) => {
    const store = well(place)
    return {
      ...store,
      remove: (key) =>
        Effect.tap(store.remove(key), () =>
          Effect.sync(() => {
            placeOf(place).version = 0
          }))
    }
  }, "never gives a version again"],
  "prefixes with wildcards": [(place) => {
    const store = well(place)
    return {
      ...store,
      list: (prefix) => {
        const pattern = new RegExp(`^${prefix.replaceAll("\\", "\\\\").replaceAll("%", ".*").replaceAll("_", ".")}`)
        return Effect.map(store.list(""), (entries) => entries.filter(([key]) => pattern.test(key)))
      }
    }
  }, "taking every character for itself"],
  "a look before a write": [(place) => {
    const store = well(place)
    return {
      ...store,
      compareAndSet: Effect.fnUntraced(function*(key, value, expected) {
        const entry = yield* store.get(key)
        yield* Effect.yieldNow
        if (Option.getOrUndefined(entry)?.version !== expected) return Option.none()
        const now = yield* store.get(key)
        return yield* store.compareAndSet(key, value, Option.getOrUndefined(now)?.version)
      })
    }
  }, "exactly one of many writers"],
  "a clock that stands still": [
    (place) => ({ ...well(place), now: Effect.succeed(Date.UTC(2026, 0)) }),
    "a clock that goes on"
  ],
  "an operation that never ends": [(place) => {
    const store = well(place)
    return { ...store, list: (prefix) => placeOf(place).gone ? Effect.never : store.list(prefix) }
  }, "its place is gone"],
  "a write that nobody keeps": [(place) => {
    const store = well(place)
    return {
      ...store,
      compareAndSet: (key, value, expected) =>
        placeOf(place).gone ? Effect.succeed(Option.some("v0")) : store.compareAndSet(key, value, expected)
    }
  }, "its place is gone"]
}

describe("the suite of state stores", () => {
  it("passes one that keeps the contract", async () => {
    assert.deepStrictEqual([...await Verdicts.failures(suiteOf(well))], [])
  }, 60_000)

  for (const [defect, [make, found]] of Object.entries(defects)) {
    it(`catches ${defect}`, async () => {
      const failures = await Verdicts.failures(suiteOf(make), found)
      assert.strictEqual(failures.size, 1, `no case about "${found}" failed`)
    }, 60_000)
  }
})
