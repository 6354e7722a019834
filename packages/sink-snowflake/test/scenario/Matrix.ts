/**
 * The scenario matrix as a test: orders of changes x modes x a fault at each call.
 *
 * Each sequence is a random history of a table (inserts, updates, deletes, changes and swaps of keys, truncates, several changes of a key at once, an added column), read by several runs that
 * drain or break off anywhere, with copies in chunks beside the changes and copies again in the middle, and faults at two of the calls that the sink makes. In the end the
 * target has what the source has, and the journal each sequence exactly once.
 *
 * The seed is printed. `ETL_STREAM_SEED` repeats it, and `ETL_STREAM_SEQUENCES` says how many sequences there are over all modes (`npm run test:long`: 100,000).
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Mode } from "./Modes.ts"
import * as Sequences from "./Sequences.ts"

/** What `npm test` plays: a sequence takes a second of a processor. */
const usual = 200
/** From so many on every call is reached with every fault. */
const enough = 10_000
/** The matrix is split over this many files, which run beside each other. */
const files = 2

const total = Number(process.env["ETL_STREAM_SEQUENCES"] ?? usual)
const seed = Number(process.env["ETL_STREAM_SEED"] ?? (total > usual ? Date.now() % 1_000_000 : 511_556))

export const matrix = (modes: ReadonlyArray<Mode>): void => {
  const names = modes.map(({ name }) => name).join(" and ")
  describe(`Scenarios in the modes ${names}`, () => {
    it.live(
      "leave every table as its source has it, and every change where it belongs once, whatever goes wrong with whichever call",
      () =>
        Effect.gen(function*() {
          const sequences = Math.ceil(total / files)
          console.log(`Scenarios in the modes ${names}: ${sequences} sequences, ETL_STREAM_SEED=${seed}`)
          const { missing, ...summary } = yield* Sequences.run({ modes, sequences, seed, lanes: 6, strikes: 1 })
          console.log(`Scenarios in the modes ${names}: ${JSON.stringify(summary)}`)
          if (total >= enough) assert.deepStrictEqual(missing, [], "calls with faults that never struck")
        }),
      Math.max(1_200_000, total * 2000)
    )
  })
}
