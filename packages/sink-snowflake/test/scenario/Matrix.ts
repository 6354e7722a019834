/**
 * The scenario matrix of one mode as a test: orders of changes x a fault at each call.
 *
 * Each sequence is a random history of a table (inserts, updates, deletes, changes and swaps of keys, truncates, several changes of a key at once, an added column), read by several runs that
 * drain or break off anywhere, with copies in chunks beside the changes and copies again in the middle, and faults at two of the calls that the sink makes. In the end the
 * target has what the source has, and the journal each sequence exactly once.
 *
 * The seed is printed. `ETL_STREAM_SEED` repeats it, and `ETL_STREAM_SEQUENCES` says how many sequences there are over all modes (`npm run test:long`: 100,000). What fails
 * tells the command that plays it again (`ETL_STREAM_REPLAY`).
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Mode } from "./Modes.ts"
import { modes } from "./Modes.ts"
import * as Replay from "./Replay.ts"
import * as Sequences from "./Sequences.ts"

/** What `npm test` plays, over all modes. */
const usual = 200
/** From so many on every cell has to be struck. */
const covering = 1000

const total = Number(process.env["ETL_STREAM_SEQUENCES"] ?? usual)
const seed = Number(process.env["ETL_STREAM_SEED"] ?? (total > usual ? Date.now() % 1_000_000 : 511_556))
const replayed = process.env["ETL_STREAM_REPLAY"]
/** How often a sequence is played again. */
const times = 20

export const matrix = (mode: Mode): void => {
  describe(`Scenarios in the mode ${mode.name}`, () => {
    if (replayed !== undefined) {
      const replay = Replay.parse(replayed)
      // A sequence belongs to one mode: nothing is left out of what was asked for when the other modes' files have nothing to play.
      it.live.runIf(replay.mode === mode.name)("pass again", () => Sequences.replay(mode, replay, times), 1_200_000)
      return
    }
    it.live(
      "leave every table as its source has it, and every change where it belongs once, whatever goes wrong with whichever call",
      () =>
        Effect.gen(function*() {
          const sequences = Math.ceil(total / Object.keys(modes).length)
          console.log(`Scenarios in the mode ${mode.name}: ${sequences} sequences, ETL_STREAM_SEED=${seed}`)
          const began = process.cpuUsage()
          const { missing, seldom, ...summary } = yield* Sequences.run({ mode, sequences, seed, lanes: 4 })
          const { system, user } = process.cpuUsage(began)
          const seconds = Math.round((system + user) / 1e6)
          console.log(
            `Scenarios in the mode ${mode.name}: ${
              JSON.stringify({ ...summary, missing: missing.length, seldom, seconds })
            }`
          )
          if (total >= covering) assert.deepStrictEqual(missing, [], "cells that no fault has struck")
        }),
      Math.max(1_200_000, total * 2000)
    )
  })
}
