/**
 * The suite of dead-letter stores passes what keeps the contract, and catches what doesn't by the case that is meant for it.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { DeadLetter } from "@etl-stream/core/DeadLetter"
import type { DeadLetterStore } from "@etl-stream/core/DeadLetterStore"
import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "vitest"
import * as DeadLetterStoreConformance from "../src/DeadLetterStoreConformance.ts"
import { plugins } from "./FragileLetters.ts"
import * as Verdicts from "./Verdicts.ts"

const Config = Schema.Struct({ place: Schema.NonEmptyString, limit: Schema.optionalKey(Schema.Int) })
type Config = typeof Config.Type

interface Place {
  readonly letters: Map<string, DeadLetter>
  gone: boolean
}

/** Places by their names: what outlives a store. */
const places = new Map<string, Place>()
const placeOf = (name: string): Place => {
  const place = places.get(name) ?? { letters: new Map(), gone: false }
  places.set(name, place)
  return place
}

const failure = (message: string, table?: string) =>
  new ConnectorError({
    reason: table === undefined ? "Unreachable" : "Rejected",
    plugin: "tried",
    message,
    hint: "Look at the place.",
    ...(table === undefined ? {} : { table })
  })

/** A store that keeps the contract, in memory. */
const well = ({ limit = Infinity, place: name }: Config): DeadLetterStore => {
  const place = placeOf(name)
  const { letters } = place
  const guarded = <A>(body: () => A): Effect.Effect<A, ConnectorError> =>
    Effect.suspend(() => place.gone ? Effect.fail(failure("The place is gone")) : Effect.sync(body))
  const keyOf = ({ id, pipeline }: Pick<DeadLetter, "id" | "pipeline">): string => JSON.stringify([pipeline, id])
  return {
    put: Effect.fnUntraced(function*(given) {
      let added = 0
      for (const letter of given) {
        if (yield* guarded(() => letters.has(keyOf(letter)))) continue
        const others = [...letters.values()].filter(({ pipeline, table }) =>
          pipeline === letter.pipeline && table === letter.table
        )
        if (others.length >= limit) return yield* failure("There are too many letters", letter.table)
        letters.set(keyOf(letter), letter)
        added++
      }
      return yield* guarded(() => added)
    }),
    list: ({ column, pipeline, table }) =>
      Stream.unwrap(guarded(() =>
        Stream.fromIterable(
          [...letters.values()].filter((letter) =>
            letter.pipeline === pipeline && (table === undefined || letter.table === table) &&
            (column === undefined || letter.column.name === column)
          )
        )
      )),
    get: (pipeline, id) => guarded(() => letters.get(keyOf({ pipeline, id }))),
    remove: (given) =>
      guarded(() => {
        for (const letter of given) letters.delete(keyOf(letter))
      })
  }
}

let made = 0

const suiteOf = (make: (config: Config) => DeadLetterStore) =>
  DeadLetterStoreConformance.make({
    plugin: Plugin.deadLetters({
      name: "tried",
      version: "1.0.0",
      summary: "Is tried",
      config: Config,
      make: (config) => Effect.sync(() => make(config))
    }),
    prepare: Effect.sync(() => {
      const place = `place ${made++}`
      return {
        options: { place },
        limited: (limit: number) => ({ place, limit }),
        gone: Effect.sync(() => {
          placeOf(place).gone = true
        })
      }
    }),
    volume: 6 * 1024 * 1024,
    patience: "1 second",
    valid: { place: "a" },
    refused: [{ what: "a place without a name", options: { place: "" }, path: "place" }]
  })

const mapped = (letters: ReadonlyArray<DeadLetter>, change: (letter: DeadLetter) => DeadLetter) => letters.map(change)

/** Defects, each with a part of the name of the case that must find it. */
const defects: Readonly<Record<string, readonly [make: (config: Config) => DeadLetterStore, found: string]>> = {
  "letters that aren't there afterwards": [
    (config) => well({ ...config, place: `${config.place} ${made++}` }),
    "whoever opens it next"
  ],
  "values that aren't what they were": [
    (config) => {
      const store = well(config)
      return {
        ...store,
        put: (given) =>
          store.put(
            mapped(
              given,
              (letter) => ({
                ...letter,
                values: Object.fromEntries(
                  Object.entries(letter.values).map(([name, value]) => [name, value?.replaceAll("\u0000", "") ?? null])
                )
              })
            )
          )
      }
    },
    "whoever opens it next"
  ],
  "NULLs that are texts": [
    (config) => {
      const store = well(config)
      return {
        ...store,
        put: (given) =>
          store.put(
            mapped(
              given,
              (letter) => ({
                ...letter,
                values: Object.fromEntries(Object.entries(letter.values).map(([name, value]) => [name, value ?? ""]))
              })
            )
          )
      }
    },
    "whoever opens it next"
  ],
  "a count of all that is put": [(config) => {
    const store = well(config)
    return { ...store, put: (given) => Effect.map(store.put(given), () => given.length) }
  }, "keeps a letter once"],
  "what it thinks it still has": [(config) => {
    const store = well(config)
    const known = new Set<string>()
    return {
      ...store,
      put: (given) => Effect.tap(store.put(given), () => Effect.sync(() => given.forEach(({ id }) => known.add(id)))),
      get: (pipeline, id) =>
        known.has(id)
          ? Effect.succeed(placeOf(config.place).letters.get(JSON.stringify([pipeline, id])) ?? ({ id } as DeadLetter))
          : store.get(pipeline, id) // a defect, on purpose
    }
  }, "forgets what is removed"],
  "a removal of the whole table": [(config) => {
    const store = well(config)
    return {
      ...store,
      remove: (given) =>
        Effect.andThen(
          store.remove(given),
          Effect.sync(() => {
            const { letters } = placeOf(config.place)
            for (const [key, { table }] of letters) if (given.some((one) => one.table === table)) letters.delete(key)
          })
        )
    }
  }, "forgets what is removed"],
  "names without regard to case": [(config) => {
    const store = well(config)
    return {
      ...store,
      list: (selection) =>
        Stream.filter(
          store.list({ pipeline: selection.pipeline }),
          ({ column, table }) =>
            (selection.table === undefined || selection.table.toLowerCase() === table.toLowerCase()) &&
            (selection.column === undefined || selection.column === column.name)
        )
    }
  }, "tells pipelines, tables and columns apart"],
  "columns that it doesn't select by": [(config) => {
    const store = well(config)
    return { ...store, list: ({ pipeline, table }) => store.list({ pipeline, table }) }
  }, "tells pipelines, tables and columns apart"],
  "letters of all pipelines": [(config) => {
    const store = well(config)
    return {
      ...store,
      get: (_, id) => Effect.sync(() => [...placeOf(config.place).letters.values()].find((letter) => letter.id === id))
    }
  }, "tells pipelines, tables and columns apart"],
  "no limit": [({ place }) => well({ place }), "so many letters"],
  "a limit of the whole store": [
    (config) => {
      const store = well({ place: config.place })
      return {
        ...store,
        put: (given) =>
          placeOf(config.place).letters.size >= (config.limit ?? Infinity)
            ? Effect.fail(failure("It is full", "public.a"))
            : store.put(given)
      }
    },
    "so many letters"
  ],
  "letters that get in each other's way": [(config) => {
    const { letters } = placeOf(config.place)
    const store = well(config)
    return {
      ...store,
      // Reads all, and writes all.
      put: Effect.fnUntraced(function*(given) {
        const before = new Map(letters)
        yield* Effect.yieldNow
        const added = yield* store.put(given)
        const now = given.map((letter) => [JSON.stringify([letter.pipeline, letter.id]), letter] as const)
        letters.clear()
        for (const [key, letter] of [...before, ...now]) letters.set(key, letter)
        return added
      })
    }
  }, "serves several at once"],
  "a list that is made before it is asked for": [(config) => {
    const store = well(config)
    return {
      ...store,
      list: (selection) =>
        Stream.unwrap(
          Effect.map(
            Stream.runCollect(store.list(selection)),
            (letters) => {
              const copies = [...letters].map((letter) => Buffer.from(JSON.stringify(letter)))
              return Stream.map(
                Stream.fromIterable(copies.keys()),
                (at) => JSON.parse(copies[at]?.toString() ?? "") as DeadLetter // just made of one
              )
            }
          )
        )
    }
  }, "without holding it all"],
  "an operation that never ends": [(config) => {
    const store = well(config)
    return { ...store, get: (pipeline, id) => placeOf(config.place).gone ? Effect.never : store.get(pipeline, id) }
  }, "its place is gone"],
  "a list that ends as if there were nothing": [(config) => {
    const store = well(config)
    return { ...store, list: (selection) => placeOf(config.place).gone ? Stream.empty : store.list(selection) }
  }, "its place is gone"]
}

describe("the suite of dead-letter stores", () => {
  it("passes one that keeps the contract", async () => {
    assert.deepStrictEqual([...await Verdicts.failures(suiteOf(well))], [])
  }, 120_000)

  for (const [defect, [make, found]] of Object.entries(defects)) {
    it(`catches ${defect}`, async () => {
      const failures = await Verdicts.failures(suiteOf(make), found)
      assert.strictEqual(failures.size, 1, `no case about "${found}" failed`)
    }, 60_000)
  }

  for (
    const [name, defect, found] of [
      ["torn", "a file that half a line spoils", "killed"],
      ["hasty", "letters that aren't kept when it says so", "killed"],
      ["rewritten", "letters of two processes that undo each other", "two processes"]
    ] as const
  ) {
    it(`catches ${defect}`, async () => {
      const folder = Fs.mkdtempSync(join(tmpdir(), "testkit-letters-"))
      try {
        const suite = DeadLetterStoreConformance.make({
          plugin: plugins[name],
          prepare: Effect.succeed({ options: { file: join(folder, "letters") } }),
          module: new URL("./FragileLetters.ts", import.meta.url).href,
          valid: { file: "letters" },
          refused: []
        })
        assert.strictEqual((await Verdicts.failures(suite, found)).size, 1, `no case about "${found}" failed`)
      } finally {
        Fs.rmSync(folder, { recursive: true, force: true })
      }
    }, 60_000)
  }
})
