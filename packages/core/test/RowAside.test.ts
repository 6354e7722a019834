import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Rows, Truncate } from "../src/Element.ts"
import * as RowAside from "../src/RowAside.ts"
import * as Sequence from "../src/Sequence.ts"
import { batch, plain } from "./doubles/Tables.ts"

describe("RowAside", () => {
  it.effect("gives back in order what was put, from a file that a killed process doesn't leave behind", () =>
    Effect.gen(function*() {
      const directory = mkdtempSync(join(tmpdir(), "aside-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(directory, { recursive: true })))
      const table = plain("a")
      const rows = (commit: bigint): Rows => ({
        _tag: "Rows",
        batch: batch(table, [{ commit, ordinal: 1n, values: [Number(commit), "x"] }])
      })
      const truncate: Truncate = { _tag: "Truncate", table, sequence: Sequence.make(12n, 1n), commitTime: 0n }
      const aside = yield* RowAside.make("test", directory)
      const last = (element: Rows | Truncate): bigint =>
        element._tag === "Rows" ? element.batch.last.commit : element.sequence.commit
      for (let round = 0; round < 2; round++) {
        for (const element of [rows(11n), truncate, rows(13n)]) yield* aside.put(element)
        assert.deepStrictEqual(readdirSync(directory), [])
        const given: Array<bigint> = []
        yield* aside.replay((element) => Effect.sync(() => given.push(last(element))))
        assert.deepStrictEqual(given, [11n, 12n, 13n])
        yield* aside.replay(() => Effect.die("nothing is left"))
      }
      yield* aside.put(rows(14n))
      yield* aside.clear
      yield* aside.replay(() => Effect.die("it was forgotten"))
    }))
})
