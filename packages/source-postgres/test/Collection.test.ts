import { assert, layer } from "@effect/vitest"
import type { Element } from "@etl-stream/core/Element"
import * as Effect from "effect/Effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

/**
 * What was taken of the stream is given up by V8's small collections, which look at young objects only. Were it not, because what came before refers to what came
 * after, batches would gather until the whole heap is marked, again and again.
 */

setFlagsFromString("--expose-gc")
/** Collects what is young; what is there the second time is old, so it must not be done twice in a row. */
const collectYoung: (options: { readonly type: "minor" }) => void = runInNewContext("gc")

const rowBytes = 200_000
const rows = 100
/** Batches between two collections. */
const between = 5

/** The slope of a line through the values: the median of those between all pairs (Theil and Sen), to which what is collected once in a while makes no difference. */
const slope = (values: ReadonlyArray<number>): number => {
  const slopes = values.flatMap((value, index) =>
    values.slice(0, index).map((earlier, at) => (value - earlier) / (index - at))
  )
  return slopes.sort((a, b) => a - b)[slopes.length >> 1] ?? Number.NaN
}

layer(SourceRun.Server.layer, { excludeTestServices: true, timeout: 60_000 })("the stream of changes", (it) => {
  it.effect("lets go of the batches that were taken", () =>
    Effect.gen(function*() {
      const write = yield* SourceRun.schema("collection", "CREATE TABLE notes (id int PRIMARY KEY, note text)")
      const mirror = new Mirror()
      let seen = 0
      const held: Array<number> = []
      const each = (element: Element) =>
        Effect.sync(() => {
          if (element._tag !== "Rows" || ++seen % between > 0) return
          collectYoung({ type: "minor" })
          held.push(process.memoryUsage().arrayBuffers)
        })
      const run = yield* SourceRun.start("collection", mirror, { each })
      yield* run.copied
      for (let id = 1; id <= rows; id++) {
        yield* write(`INSERT INTO notes VALUES (${id}, repeat('x', ${rowBytes}))`)
        yield* run.caughtUp
      }
      yield* run.stop
      assert.strictEqual(mirror.tables.get("collection.notes")?.rows.size, rows)
      assert.strictEqual(held.length, rows / between)
      // Buffers are freed by another thread, some of them late.
      assert.isBelow(slope(held), between * rowBytes * 0.2, held.join(" "))
    }))
})
