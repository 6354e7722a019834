/**
 * Says when changes arrive as Arrow batches: a byte on standard error for each batch, at once, and at the end how old they were.
 *
 * The age of a change is the time from its commit, by the server's clock, to the moment at which the batch was handed on.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { writeSync } from "node:fs"
import { percentile } from "../Result.ts"
import * as Outcome from "./Outcome.ts"
import * as Slot from "./Slot.ts"

const options = Slot.options(Schema.Struct({
  ...Slot.Options.fields,
  /** Ends when so many rows have come. */
  rows: Schema.Finite,
  /** Whether a byte is written for each batch. */
  signals: Schema.Boolean
}))

const signal = Buffer.from(".")
const ages: Array<number> = []
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
        for (let row = 0; row < rows; row++) ages.push(now - Number(times[row]) / 1000)
        if (ages.length >= options.rows) done.resolve()
      })
  ),
  Effect.promise(() => done.promise)
))
Outcome.print(ages.length, {
  p50: percentile(ages, 0.5),
  p99: percentile(ages, 0.99),
  max: percentile(ages, 1)
})
process.exit(0)
