/**
 * Slot to Arrow batches, which nobody wants.
 */
import * as Effect from "effect/Effect"
import * as Outcome from "./Outcome.ts"
import * as Slot from "./Slot.ts"

let rows = 0
const figures = await Effect.runPromise(Slot.read(
  Slot.options(Slot.Options),
  () => Effect.void,
  (element) =>
    Effect.sync(() => {
      if (element._tag === "Rows") rows += element.batch.rows
    })
))
Outcome.print(rows, figures)
process.exit(0)
