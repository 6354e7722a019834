import { assert, layer } from "@effect/vitest"
import * as Rotation from "@etl-stream/runner/database/Rotation"
import * as EncryptedSecret from "@etl-stream/runner/EncryptedSecret"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { randomBytes } from "node:crypto"
import * as Database from "./DatabaseFixture.ts"
import { pipeline, problemOf, until } from "./DatabaseFixture.ts"

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
      assert.match((yield* problemOf(database, "pipelines", "bad")) ?? "", /^transforms\[0\]\.plugin: /)
      assert.strictEqual(run.runs("steady"), 1)
      assert.notInclude(JSON.stringify(run.logs), "hunter2222")
    }))

  it.effect("writes back why a pipeline failed, and starts it again when its row changes or everything is asked for", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([
        Database.memoryState,
        ...pipeline("steady"),
        ...pipeline("failing", { source: { fails: { at: "tables", reason: "Unauthorized" } } }),
        ...pipeline("tripping", { sink: { trips: { file: "tripped", reason: "Rejected" } } })
      ])
      const run = yield* Database.run(database, { poll: "100 millis" })
      yield* flows(run, "steady")
      const said = (name: string) =>
        until(() =>
          Effect.map(
            problemOf(database, "pipelines", name),
            (found) => found?.startsWith("The pipeline failed: it does not work Mend it.") === true
          )
        )
      yield* said("failing")
      yield* said("tripping")
      // What changes elsewhere is no reason.
      yield* database.transaction(pipeline("added"))
      yield* flows(run, "added")
      assert.deepStrictEqual([run.runs("failing"), run.runs("tripping")], [1, 1])
      yield* run.ask
      yield* flows(run, "tripping")
      yield* until(() => Effect.map(problemOf(database, "pipelines", "tripping"), (found) => found === undefined))
      assertWhole(run, "tripping")
      yield* database.query(`UPDATE ${schema}.sources SET options = options - 'fails' WHERE name = 'failing'`)
      yield* flows(run, "failing")
      assert.deepStrictEqual([run.runs("steady"), run.runs("added")], [1, 1])
    }))

  it.effect("hides secrets in what it writes back", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([
        Database.memoryState,
        ...pipeline("leaky", { source: { password: "${env:SECRET}", fails: { at: "leak", reason: "Lost" } } })
      ])
      const run = yield* Database.run(database, { environment: { SECRET: "tell-nobody" }, poll: "50 millis" })
      yield* until(() => Effect.map(problemOf(database, "pipelines", "leaky"), (found) => found !== undefined))
      assert.include(yield* problemOf(database, "pipelines", "leaky"), "The pipeline failed: refused: <redacted>")
      assert.strictEqual(run.runs("leaky"), 0)
    }))

  it.effect("tries a pipeline again whose source can't be reached at first: nobody is there to start it", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([
        Database.memoryState,
        ...pipeline("waiting", { source: { fails: { at: "tables", reason: "Unreachable" } } })
      ])
      const run = yield* Database.run(database)
      yield* until(() => run.runs("waiting") >= 2)
      assert.isUndefined(yield* problemOf(database, "pipelines", "waiting"))
    }))

  it.effect("resolves references when a row changes or everything is asked for, and only then", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      const environment: Record<string, string> = { SECRET: "first-secret" }
      yield* database.transaction([
        Database.memoryState,
        ...pipeline("one", { source: { password: "${env:SECRET}" } }),
        ...pipeline("two")
      ])
      const run = yield* Database.run(database, { environment, poll: "50 millis" })
      yield* flows(run, "one")
      environment["SECRET"] = "second-secret"
      yield* database.transaction(pipeline("three"))
      yield* flows(run, "three")
      assert.strictEqual(run.runs("one"), 1)
      yield* run.ask
      yield* until(() => run.runs("one") === 2)
      assert.deepStrictEqual([run.runs("two"), run.runs("three")], [1, 1])
      // It goes away: the pipeline is disabled at the next look at its row, and comes back with it.
      delete environment["SECRET"]
      yield* run.ask
      yield* until(() => Effect.map(problemOf(database, "sources", "one"), (found) => found !== undefined))
      yield* until(() => !run.supervisor.pipelines().some(({ name }) => name === "one"))
      environment["SECRET"] = "third-secret"
      yield* flows(run, "one")
      assert.notMatch(JSON.stringify(run.logs), /(first|second|third)-secret/)
    }))

  it.effect("opens secrets where they belong, also with the previous key, and goes on while they are rotated", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      const [old, current] = [randomBytes(32).toString("base64"), randomBytes(32).toString("base64")]
      const environment = { ETL_STREAM_CONFIG_KEY: current, ETL_STREAM_CONFIG_KEY_PREVIOUS: old }
      const keys = Result.getOrThrow(EncryptedSecret.keysFrom(environment))
      const oldKeys = Result.getOrThrow(EncryptedSecret.keysFrom({ ETL_STREAM_CONFIG_KEY: old }))
      const sealed = EncryptedSecret.encrypt(
        Redacted.make("tell-nobody"),
        ["sources", "right", "options", "password"],
        oldKeys
      )
      const leak = { fails: { at: "leak", reason: "Lost" } }
      yield* database.transaction([
        Database.memoryState,
        ...pipeline("right", { source: { password: sealed } }),
        ...pipeline("moved", { source: { password: sealed, ...leak } })
      ])
      const run = yield* Database.run(database, { environment })
      yield* flows(run, "right")
      yield* until(() => Effect.map(problemOf(database, "sources", "moved"), (found) => found !== undefined))
      assert.include(
        yield* problemOf(database, "sources", "moved"),
        "options.password: The secret does not open here: it was altered, or encrypted for another place than sources.moved.options.password."
      )
      assert.strictEqual(run.lines("moved", "begin").length, 0)

      // One that can't be opened stops the rotation before anything is written.
      const refused = yield* Effect.flip(database.provide(Rotation.run(keys)))
      assert.include(refused.message, "sources.moved.options.password")
      yield* database.query(`DELETE FROM ${schema}.pipelines WHERE name = 'moved'`)
      yield* database.query(`DELETE FROM ${schema}.sources WHERE name = 'moved'`)
      assert.deepStrictEqual(yield* database.provide(Rotation.run(keys)), { rows: ["sources/right"], secrets: 1 })
      assert.deepStrictEqual(yield* database.provide(Rotation.run(keys)), { rows: [], secrets: 0 })
      const [row] = yield* database.query(`SELECT options ->> 'password' AS password FROM ${schema}.sources`)
      assert.include(String(row?.["password"]), `\${enc:v1:${keys.current.id}:`)
      yield* database.transaction(pipeline("added"))
      yield* flows(run, "added")
      yield* flows(run, "right")
      assert.strictEqual(run.runs("right"), 1)
      assert.notMatch(JSON.stringify(run.logs), /tell-nobody/)
    }))

  it.effect("takes alerts about single pipelines, there or not", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      const alerts = (...names: ReadonlyArray<string>) =>
        Database.json([{ when: "pipeline-failed", pipelines: ["steady", "later"], to: names }])
      yield* database.transaction([
        Database.memoryState,
        ...pipeline("steady"),
        Database.stage("notifiers", "ops", "./plugins.ts:bell", { password: "ring" }),
        `INSERT INTO ${schema}.settings (name, value) VALUES ('alerts', ${alerts("ops", "nobody")})`
      ])
      const run = yield* Database.run(database)
      yield* flows(run, "steady")
      const problem = problemOf(database, "settings", "alerts")
      yield* until(() => Effect.map(problem, (found) => found !== undefined))
      const told = yield* problem
      assert.include(told, "There is no notifier of that name.")
      assert.notInclude(told, "pipeline")
      assert.deepStrictEqual(run.taken().alerts, [])

      yield* database.query(`UPDATE ${schema}.settings SET value = ${alerts("ops")} WHERE name = 'alerts'`)
      yield* until(() => Effect.map(problem, (found) => found === undefined))
      assert.deepStrictEqual(run.taken().alerts.map(({ pipelines }) => pipelines), [["steady", "later"]])
      yield* database.query(`DELETE FROM ${schema}.pipelines WHERE name = 'steady'`)
      yield* until(() => run.supervisor.pipelines().length === 0)
      assert.strictEqual(run.taken().alerts.length, 1)
      assert.strictEqual(yield* problem, undefined)
    }))

  it.effect("leaves alone what only the order of keys tells apart, and what is written back", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([Database.memoryState, ...pipeline("steady")])
      const run = yield* Database.run(database)
      yield* flows(run, "steady")
      const listener = yield* database.client
      const notifications = yield* Effect.orDie(listener.listen(schema))
      yield* database.query(`UPDATE ${schema}.pipelines SET problem = 'written by somebody', problem_at = now()`)
      yield* database.query(`UPDATE ${schema}.sinks SET plugin = plugin`)
      // The first told nobody, the second did.
      yield* Queue.take(notifications)
      yield* until(() => Effect.map(problemOf(database, "pipelines", "steady"), (found) => found === undefined))
      assert.strictEqual(yield* Queue.size(notifications), 0)
      assert.strictEqual(run.runs("steady"), 1)
      assert.strictEqual(run.logs.filter(({ message }) => message === "The configuration has changed").length, 0)
    }))
})
