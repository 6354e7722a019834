/**
 * `etl-stream dlq` where there is nothing to work on: what people are told, and with which exit code.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { errorOf, scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

describe("dlq", () => {
  scenario(
    "says that a sink keeps no dead letters, and what pipelines and tables there could be",
    (directory) =>
      Effect.gen(function*() {
        const file = Fixture.write(directory, "c.yaml", Fixture.onePipeline("tables: [numbers]"))
        for (const command of ["ls", "show", "replay", "drop --all"]) {
          const ended = yield* Fixture.run(["dlq", ...command.split(" "), file, "--json"])
          assert.strictEqual(ended.code, 2, ended.stderr)
          assert.strictEqual(errorOf(ended)["code"], "NoDeadLetters")
        }
        const unnamed = yield* Fixture.run(["dlq", "drop", file])
        assert.strictEqual(unnamed.code, 2)
        assert.include(unnamed.stderr, "No letters are named")
        const unknown = yield* Fixture.run(["dlq", "ls", file, "--pipeline", "nmbers"])
        assert.strictEqual(unknown.code, 2)
        assert.include(unknown.stderr, "There is no pipeline nmbers")
      })
  )
})
