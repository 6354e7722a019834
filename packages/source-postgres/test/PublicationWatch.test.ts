/**
 * When the catalog is looked at while changes are read.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as Connections from "../src/Connections.ts"
import * as PublicationWatch from "../src/PublicationWatch.ts"
import * as SourceRun from "./SourceRun.ts"

/** Watches with `publication.check` as given: counts looks, and announces relations again. Nothing connects. */
const watching = (check: string) =>
  Effect.gen(function*() {
    const connections = yield* Connections.make(
      SourceRun.settings({ url: "postgres://somebody:secret@localhost/db", publication: { check } }, "watched")
    )
    const seen = { looks: 0, repeated: 0 }
    const look = Effect.sync(() => {
      seen.looks++
    })
    yield* Effect.forkScoped(PublicationWatch.watch(connections, look, () => seen.repeated), { startImmediately: true })
    return seen
  })

describe("PublicationWatch", () => {
  for (const [check, looks] of [["100 millis", 20], ["500 millis", 4], ["1 second", 2]] as const) {
    it.effect(`looks every ${check} when that is wanted`, () =>
      Effect.gen(function*() {
        const seen = yield* watching(check)
        const before = seen.looks
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(seen.looks - before, looks)
      }))
  }

  it.effect("looks within half a second after a relation was announced again", () =>
    Effect.gen(function*() {
      const seen = yield* watching("1 minute")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(seen.looks, 0)
      seen.repeated++
      yield* TestClock.adjust("500 millis")
      assert.strictEqual(seen.looks, 1)
      yield* TestClock.adjust("50 seconds")
      assert.strictEqual(seen.looks, 1)
    }))
})
