/**
 * Several sources in one process, each with its own slot, to Arrow batches.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Outcome from "./Outcome.ts"
import * as Slot from "./Slot.ts"

const { slots } = Slot.options(Schema.Struct({ slots: Schema.Array(Slot.Options) }))

let rows = 0
const ended = await Effect.runPromise(Effect.forEach(slots, (slot) =>
  Slot.read(
    slot,
    () => Effect.void,
    (element) =>
      Effect.sync(() => {
        if (element._tag === "Rows") rows += element.batch.rows
      })
  ), { concurrency: "unbounded" }))
// They begin together.
Outcome.print(rows, { streamSeconds: Math.max(...ended.map(({ streamSeconds }) => streamSeconds)) })
process.exit(0)
