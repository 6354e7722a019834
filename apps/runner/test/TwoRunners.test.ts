import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

describe("two runners that share a state store", () => {
  scenario(
    "don't run a pipeline at a time: the second waits, says so, and goes on when the first is gone",
    (directory) =>
      Effect.gen(function*() {
        const configuration = Fixture.onePipeline(
          "ends: false, changes: 100000",
          undefined,
          "{plugin: \"@etl-stream/state-sqlite\", options: {file: ./state.sqlite}}"
        )
        const file = Fixture.write(directory, "c.yaml", configuration)
        const args = ["run", file, "--json", "--progress-every", "50 millis"]
        const first = yield* Fixture.start(args)
        yield* first.stderrHas("\"phase\":\"streaming\"")

        // Waiting is no work: it ends at once.
        const second = yield* Fixture.start(args)
        yield* second.stderrHas("Another runner runs this pipeline")
        yield* second.stderrHas(`process ${first.child.pid}`)
        second.child.kill("SIGTERM")
        assert.strictEqual((yield* second.ended).code, 0)

        const third = yield* Fixture.start(args)
        yield* third.stderrHas("Another runner runs this pipeline")
        first.child.kill("SIGKILL")
        yield* third.stderrHas("the pipeline goes on here")
        yield* third.stderrHas("\"phase\":\"streaming\"")
        third.child.kill("SIGTERM")
        const ended = yield* third.ended
        assert.strictEqual(ended.code, 0, ended.stderr)
        const changes = Fixture.written(directory, "out.jsonl").filter(({ kind }) => kind === "change").map(({ n }) =>
          Number(n)
        )
        assert.isAbove(changes.length, 0)
        assert.strictEqual(new Set(changes).size, changes.length)
      })
  )
})
