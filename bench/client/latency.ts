/**
 * Says when changes arrive as Arrow batches: a byte on standard error for each batch, at once, and at the end how old they were.
 *
 * The age of a change is the time from its commit, by the server's clock, to the moment at which the batch was handed on.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { writeSync } from "node:fs"
import * as Outcome from "./Outcome.ts"
import { percentile } from "./percentile.ts"
import * as Slot from "./Slot.ts"

const options = Slot.options(Schema.Struct({
  ...Slot.Options.fields,
  /** Ends when so many rows have come. */
  rows: Schema.Finite,
  /** So many come first, and aren't looked at. */
  warmUp: Schema.Finite,
  /** Whether a byte is written for each batch. */
  signals: Schema.Boolean
}))

const signal = Buffer.from(".")
const ages: Array<number> = []
let rowsSeen = 0
/** Of those that are looked at: when the first one was committed, and when the last ones came. */
let [firstCommitted, lastAt] = [0, 0]
const done = Promise.withResolvers<void>()

await Effect.runPromise(Effect.raceFirst(
  Slot.read(
    options,
    () => Effect.sync(() => void writeSync(2, "ready\n")),
    (element) =>
      Effect.sync(() => {
        if (element._tag !== "Rows") return
        if (options.signals) writeSync(2, signal)
        const now = performance.timeOrigin + performance.now()
        const { records, rows } = element.batch
        const times = ChangeBatch.child(records, ChangeBatch.MetadataColumns.commitTime).values as BigInt64Array // by the batch's layout
        lastAt = now
        for (let row = Math.max(0, options.warmUp - rowsSeen); row < rows; row++) {
          ages.push(now - Number(times[row]) / 1000)
        }
        if (firstCommitted === 0 && ages.length > 0) firstCommitted = now - (ages[0] ?? 0)
        rowsSeen += rows
        if (rowsSeen >= options.rows) done.resolve()
      })
  ),
  Effect.promise(() => done.promise)
))
Outcome.print(rowsSeen, {
  p50: percentile(ages, 0.5),
  p99: percentile(ages, 0.99),
  max: percentile(ages, 1),
  perSecond: (ages.length * 1000) / (lastAt - firstCommitted)
})
process.exit(0)
