import * as Conformance from "@etl-stream/testkit/Conformance"
import * as MonitorConformance from "@etl-stream/testkit/MonitorConformance"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe, it } from "vitest"
import { type Defect, subject } from "./doubles/WatchedThing.ts"
import { failures } from "./Verdicts.ts"

/** The case that is meant to notice a defect, by a part of its name. */
const noticed: ReadonlyArray<readonly [defect: Defect, by: string]> = [
  ["says nothing", "raises a condition when something is wrong"],
  ["raises when all is well", "while all is well"],
  ["never says that it is over", "raises a condition when something is wrong"],
  ["tells it anew at each look", "leaves raised what lasts"],
  ["has no hint", "raises a condition when something is wrong"],
  ["has a name that alerts don't match", "raises a condition when something is wrong"],
  ["tells a secret", "raises a condition when something is wrong"],
  ["shows no status", "tells by its status"],
  ["shows what is no JSON", "tells by its status"],
  ["asks too early", "while all is well"],
  ["never takes back what it asked", "asks of the pipeline"],
  ["takes back what others asked", "leaves to others"],
  ["asks only once", "refuses what is asked"],
  ["ends when a pipeline refuses", "refuses what is asked"],
  ["ends without pipelines", "the pipeline isn't there"],
  ["ends without the state store", "the state store doesn't answer"],
  ["ends when it can't look", "says that it can't look"],
  ["doesn't say that it can't look", "says that it can't look"],
  ["takes for over what it can't see", "says that it can't look"],
  ["begins only when it can look", "begins when it can't look"],
  ["tells only what is new since it was kept", "after a restart of the process"],
  ["forgets what an earlier run raised", "clears what an earlier run raised"],
  ["hangs on interruption", "is over soon when it is interrupted"],
  ["leaks a timer", "is over soon when it is interrupted"],
  ["leaks a timer", "holds no more after many runs"]
]

// A case that the subject says it can't do (`cannot`) is reported as skipped, with the reason in its name, instead of passing silently.
Conformance.register(MonitorConformance.make(subject()), { describe, it, skip: it.skip })

describe("The suite of monitors", () => {
  for (const [defect, by] of noticed) {
    it(`notices a monitor that ${defect}: "${by}"`, async () => {
      const suite = MonitorConformance.make({ ...subject(defect), patience: "500 millis" })
      const found = await failures(suite, by)
      assert.equal(found.size, 1, `Cases that failed: ${[...found.keys()].join(", ")}`)
    }, 60_000)
  }

  it("asks for what the subject lacks, or for the reason", async () => {
    const { asks: _asks, ...idle } = subject()
    const visible = {
      ...subject(),
      prepare: Effect.map(subject().prepare, ({ back: _back, gone: _gone, ...place }) => place)
    }
    for (
      const [lacking, cannot, by] of [
        [idle, { act: "it only tells" }, "asks of the pipeline"],
        [visible, { gone: "it is in memory" }, "says that it can't look"]
      ] as const
    ) {
      assert.equal((await failures(MonitorConformance.make(lacking), by)).size, 1)
      const { cases } = MonitorConformance.make({ ...lacking, cannot })
      assert.deepEqual(cases.find(({ name }) => name.includes(by))?.skipped, Object.values(cannot)[0])
    }
  })
})
