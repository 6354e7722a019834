import * as Conformance from "@etl-stream/testkit/Conformance"
import * as SourceConformance from "@etl-stream/testkit/SourceConformance"
import assert from "node:assert/strict"
import { describe, it } from "vitest"
import { type Defect, subject } from "./doubles/MemorySource.ts"

/** The case that is meant to notice a defect, by a part of its name. */
const noticed: ReadonlyArray<readonly [defect: Defect, by: string]> = [
  ["acknowledges what it only received", "gives what wasn't durable again"],
  ["skips a row on resume", "goes on after a stop at any element, when all"],
  ["goes on behind the highest change of any table", "goes on after a stop at any element, when only a part"],
  ["marks the middle of a transaction", "in elements that keep to the contract"],
  ["numbers changes anew in each run", "gives what wasn't durable again"],
  ["hangs on interruption", "is over soon when it is interrupted"],
  ["leaks a timer", "is over soon when it is interrupted"],
  ["leaks a timer", "holds no more after many openings"],
  ["reads ahead without bound", "doesn't read on while nobody pulls"],
  ["loses changes beside a copy", "while a table is copied"],
  ["takes null for empty", "tells empty from null"],
  ["logs rows", "in elements that keep to the contract"],
  ["is silent longer than promised", "never silent"],
  ["says nothing when it begins", "tells where it is by a watermark"],
  ["changes shape without a word", "says that a table's shape changes"],
  ["gives up on a lost connection", "connections are cut"],
  ["gives no hint", "fails with Missing"],
  ["tells secrets", "fails with Missing"],
  ["loses what wasn't sent", "in elements that keep to the contract"],
  ["copies what is in quarantine", "in quarantine"],
  ["gives what is unwanted", "transforms leave out"],
  ["forgets rows of tables that are added", "takes a table that was added"],
  ["resumes a copy without its missing chunks", "wherever a copy was cut off"],
  ["says too much of resync", "copies a table again"],
  ["can't resync", "copies a table again"],
  ["promises no heartbeat", "never silent"],
  ["goes on with columns that were dropped", "of a column that is dropped"],
  ["takes a renamed column for another one", "a column that is renamed"]
]

// A case that the subject says it can't do (`cannot`) is reported as skipped, with the reason in its name, instead of passing silently.
Conformance.register(SourceConformance.make(subject()), { describe, it, skip: it.skip })

describe("The suite of sources", () => {
  for (const [defect, by] of noticed) {
    it(`notices a source that ${defect}: "${by}"`, async () => {
      const suite = SourceConformance.make({ ...subject(defect), patience: "1 second", restarts: 20 })
      const test = suite.cases.find(({ name }) => name.includes(by))
      assert.ok(test !== undefined, `There is no case with "${by}"`)
      await assert.rejects(Conformance.promise(suite, test))
    }, 60_000)
  }
})
