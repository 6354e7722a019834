import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Database from "./DatabaseFixture.ts"
import { literal, pipeline, problemOf, until } from "./DatabaseFixture.ts"

const schema = "etl_stream_config"

/** Every change from the first on, none left out and none twice. */
const assertWhole = (run: Database.Run, name: string) => {
  const changes = run.lines(name, "change").map(({ n }) => Number(n))
  assert.isAbove(changes.length, 0)
  assert.deepStrictEqual(changes, changes.map((_, index) => 1002 + index))
}

const flows = (run: Database.Run, name: string) =>
  Effect.suspend(() => {
    const before = run.lines(name, "change").length
    return until(() => run.lines(name, "change").length > before)
  })

layer(Database.Server.layer, { excludeTestServices: true })("a run from the configuration database", (it) => {
  it.effect("takes over pipelines that are added, changed, paused, resumed and removed, and touches no other", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([Database.memoryState, ...pipeline("steady")])
      const run = yield* Database.run(database)
      yield* flows(run, "steady")

      yield* database.transaction(pipeline("other"))
      yield* flows(run, "other")
      yield* database.query(
        `UPDATE ${schema}.sources SET options = options || '{"tables": ["numbers", "letters"]}' WHERE name = 'other'`
      )
      yield* until(() => run.runs("other") === 2 && run.lines("other", "copied").length === 2)
      yield* flows(run, "other")
      assert.strictEqual(run.lines("other", "settled").length, 1)

      yield* database.query(`UPDATE ${schema}.pipelines SET status = 'PAUSE' WHERE name = 'other'`)
      yield* until(() => run.lines("other", "settled").length === 2)
      const left = run.lines("other", "change").length
      yield* flows(run, "steady")
      assert.strictEqual(run.lines("other", "change").length, left)
      yield* database.query(`UPDATE ${schema}.pipelines SET status = 'START' WHERE name = 'other'`)
      yield* flows(run, "other")
      assertWhole(run, "other")

      yield* database.query(`DELETE FROM ${schema}.pipelines WHERE name = 'other'`)
      yield* until(() => run.lines("other", "settled").length === 3 && run.supervisor.pipelines().length === 1)
      assert.strictEqual(run.runs("steady"), 1)
      assert.strictEqual(run.lines("steady", "settled").length, 0)
      yield* run.stop
      assert.deepStrictEqual([...yield* run.supervisor.outcomes], [["steady", { _tag: "Stopped", settled: true }]])
      assertWhole(run, "steady")
      assertWhole(run, "other")
    }))

  it.effect("restarts exactly the pipelines that use a changed source", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([
        Database.memoryState,
        ...pipeline("one"),
        ...pipeline("two"),
        ...pipeline("three"),
        `UPDATE ${schema}.pipelines SET source = 'one' WHERE name = 'two'`
      ])
      const run = yield* Database.run(database)
      yield* Effect.forEach(["one", "two", "three"], (name) => flows(run, name))
      yield* database.query(
        `UPDATE ${schema}.sources SET options = options || '{"tables": ["numbers", "letters"]}' WHERE name = 'one'`
      )
      yield* until(() => run.runs("one") === 2 && run.runs("two") === 2)
      yield* Effect.forEach(["one", "two", "three"], (name) => flows(run, name))
      assert.strictEqual(run.runs("three"), 1)
      // What is used can't be taken away.
      assert.isTrue(
        (yield* Effect.exit(database.query(`DELETE FROM ${schema}.sources WHERE name = 'one'`)))._tag === "Failure"
      )
    }))

  it.effect("disables a pipeline with an invalid row alone, says why in the row, and goes on once it is mended", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([
        Database.memoryState,
        ...pipeline("steady"),
        ...pipeline("bad", { source: { rows: "many", password: "hunter2222" } }),
        ...pipeline("worse", { source: { password: "${env:NOT_THERE}" } })
      ])
      const run = yield* Database.run(database)
      yield* flows(run, "steady")
      yield* until(() => Effect.map(problemOf(database, "pipelines", "worse"), (problem) => problem !== undefined))
      assert.strictEqual(
        yield* problemOf(database, "sources", "bad"),
        "options.rows: Expected a number, got text. Correct `rows`. Rows of the copy."
      )
      assert.strictEqual(
        yield* problemOf(database, "pipelines", "bad"),
        "Something is wrong with `sources/bad`. Mend it there."
      )
      assert.include(yield* problemOf(database, "sources", "worse"), "The environment variable NOT_THERE is not set.")
      assert.isFalse(run.isRunning("bad"))
      assert.deepInclude(run.logs.find(({ message }) => message === "Expected a number, got text.")?.annotations, {
        row: "sources/bad",
        path: "options.rows"
      })

      yield* database.query(`UPDATE ${schema}.sources SET options = options || '{"rows": 2}' WHERE name = 'bad'`)
      yield* flows(run, "bad")
      yield* until(() => Effect.map(problemOf(database, "pipelines", "bad"), (problem) => problem === undefined))
      assert.strictEqual(yield* problemOf(database, "sources", "bad"), undefined)

      yield* database.query(`UPDATE ${schema}.pipelines SET transforms = '[{"plugin": 5}]' WHERE name = 'bad'`)
      yield* until(() => run.lines("bad", "settled").length === 1)
      yield* until(() => Effect.map(problemOf(database, "pipelines", "bad"), (problem) => problem !== undefined))
      assert.match(yield* problemOf(database, "pipelines", "bad") ?? "", /^transforms\[0\]\.plugin: /)
      assert.strictEqual(run.runs("steady"), 1)
      assert.notInclude(JSON.stringify(run.logs), "hunter2222")
    }))
})
