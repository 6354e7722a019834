import * as Conformance from "@etl-stream/testkit/Conformance"
import * as SinkConformance from "@etl-stream/testkit/SinkConformance"
import assert from "node:assert/strict"
import { describe, it } from "vitest"
import { type Defect, subject } from "./doubles/MemorySink.ts"

/** The case that is meant to notice a defect, by a part of its name. */
const noticed: ReadonlyArray<readonly [defect: Defect, by: string]> = [
  ["says durable what it only accepted", "dies after any element"],
  ["takes changes twice", "dies after any element"],
  ["loses what wasn't sent", "holds in the end what the source has"],
  ["leaks a timer", "is over soon when it is interrupted"],
  ["leaks a timer", "holds no more after many openings"],
  ["hangs on interruption", "is over soon when it is interrupted"],
  ["doesn't fence", "makes an older writer fail"],
  ["keeps rows of an earlier copy", "forgets what it held"],
  ["forgets that a copy is complete", "has a copy when SnapshotEnd returns"],
  ["says durable what it never got", "reported durable"],
  ["goes back", "holds in the end what the source has"],
  ["overlooks truncates", "holds in the end what the source has"],
  ["overlooks new columns", "holds in the end what the source has"],
  ["takes columns by their places", "when one is dropped"],
  ["takes a renamed column for another one", "that gets another name"],
  ["takes empty for null", "values of every type"],
  ["rounds numbers", "values of every type"],
  ["holds all that it gets", "takes much more than it may hold"],
  ["tells a row in its error", "goes on with all other tables"],
  ["fails all tables", "goes on with all other tables"],
  ["gives up on a lost connection", "connections are cut"],
  ["forgets a quarantine", "remembers a quarantine"],
  ["drops tables that leave", "keeps what it held of a table that leaves"],
  ["tells half a chunk", "goes on with a copy that was cut off"],
  ["never says durable", "reported durable"]
]

Conformance.register([SinkConformance.make(subject()), SinkConformance.make(subject(undefined, "append"))], {
  describe,
  it
})

describe("The suite of sinks", () => {
  for (const [defect, by] of noticed) {
    it(`notices a sink that ${defect}: "${by}"`, async () => {
      const suite = SinkConformance.make({ ...subject(defect), patience: "1 second" })
      const test = suite.cases.find(({ name }) => name.includes(by))
      assert.ok(test !== undefined, `There is no case with "${by}"`)
      await assert.rejects(Conformance.promise(suite, test))
    }, 60_000)
  }
})
