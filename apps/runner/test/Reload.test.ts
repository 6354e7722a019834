import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { join } from "node:path"
import { errorOf, scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

/** Source and sink options of a pipeline that writes to a file of its name, in YAML's flow style. */
interface Pipeline {
  readonly source?: string
  readonly sink?: string
}

const configure = (directory: string, pipelines: Readonly<Record<string, Pipeline>>, rest = "") => {
  const stages = Object.entries(pipelines).map(([name, { sink = "", source = "" }]) =>
    `  ${name}:
    source: {plugin: "./plugins.ts:counter", options: {ends: false, changes: 100000, ${source}}}
    sink: {plugin: "./plugins.ts:lines", options: {file: ${name}.jsonl, ${sink}}, batch: {every: 5 millis}}
`
  )
  const text = `apiVersion: 1\nstate: {plugin: "./plugins.ts:memory"}\n${rest}pipelines:\n${stages.join("")}`
  return Fixture.write(directory, "c.yaml", text)
}

const start = (file: string, ...args: ReadonlyArray<string>) =>
  Effect.tap(
    Fixture.start(["run", file, "--json", "--progress-every", "50 millis", ...args]),
    (running) => running.stderrHas("\"phase\":\"streaming\"")
  )

const until = (condition: () => boolean) =>
  Effect.gen(function*() {
    while (!condition()) yield* Effect.sleep(10)
  }).pipe(Effect.timeout("20 seconds"), Effect.orDie)

const lines = (directory: string, pipeline: string, kind: string) =>
  Fixture.written(directory, `${pipeline}.jsonl`).filter((line) => line.kind === kind)

const begun = (directory: string, pipeline: string) => lines(directory, pipeline, "begin").map(({ table }) => table)

/** Every change from the first on, none left out and none twice. */
const assertWhole = (directory: string, pipeline: string) => {
  const changes = lines(directory, pipeline, "change").map(({ n }) => Number(n))
  assert.isAbove(changes.length, 0)
  assert.deepStrictEqual(changes, changes.map((_, index) => 1002 + index))
}

const logged = (stderr: string): ReadonlyArray<Record<string, unknown>> =>
  stderr.trim().split("\n").map((line) => JSON.parse(line))

const sighup = (running: Fixture.Running) => Effect.sync(() => running.child.kill("SIGHUP"))

const stop = (running: Fixture.Running, code = 0) =>
  Effect.gen(function*() {
    running.child.kill("SIGTERM")
    const ended = yield* running.ended
    assert.strictEqual(ended.code, code, ended.stderr)
    return ended
  })

describe("SIGHUP", () => {
  scenario(
    "starts a changed pipeline anew with what is new, and doesn't touch the others",
    (directory) =>
      Effect.gen(function*() {
        const file = configure(directory, { changing: { source: "tables: [numbers]" }, steady: {} })
        const running = yield* start(file)
        yield* until(() => lines(directory, "steady", "change").length > 0)
        configure(directory, { changing: { source: "tables: [numbers, letters]" }, steady: {} })
        yield* sighup(running)
        yield* running.stderrHas("The reload is complete")
        yield* until(() => begun(directory, "changing").includes("letters"))
        assert.strictEqual(lines(directory, "changing", "settled").length, 1, "it drained")
        assert.strictEqual(lines(directory, "steady", "settled").length, 0)
        yield* running.stderrHas("\"run\":2")
        const before = lines(directory, "steady", "change").length
        yield* until(() => lines(directory, "steady", "change").length > before)
        const ended = yield* stop(running)
        assert.deepStrictEqual(begun(directory, "changing"), ["numbers", "letters"])
        assert.deepStrictEqual(begun(directory, "steady"), ["numbers"])
        assertWhole(directory, "changing")
        assertWhole(directory, "steady")
        const runs = (pipeline: string) =>
          new Set(
            logged(ended.stderr).filter((line) => line["pipeline"] === pipeline && "run" in line).map(({ run }) => run)
          )
        assert.deepStrictEqual([...runs("steady")], [1])
        assert.deepStrictEqual([...runs("changing")].sort(), [1, 2])
        assert.deepInclude(logged(ended.stderr).find(({ message }) => message === "The configuration is reloaded"), {
          changed: "changing",
          unchanged: "steady"
        })
      })
  )

  scenario(
    "stops a pipeline that is gone and starts one that is new; one that comes back goes on",
    (directory) =>
      Effect.gen(function*() {
        const file = configure(directory, { first: {}, second: {} })
        const running = yield* start(file)
        yield* until(() => lines(directory, "second", "change").length > 0)
        configure(directory, { first: {}, third: {} })
        yield* sighup(running)
        yield* running.stderrHas("The reload is complete")
        yield* running.stderrHas("pg_drop_replication_slot")
        yield* until(() => lines(directory, "third", "change").length > 0)
        assert.strictEqual(lines(directory, "second", "settled").length, 1)
        const left = lines(directory, "second", "change").length
        configure(directory, { first: {}, second: {}, third: {} })
        yield* sighup(running)
        yield* until(() => lines(directory, "second", "change").length > left)
        yield* stop(running)
        for (const name of ["first", "second", "third"]) assertWhole(directory, name)
        assert.strictEqual(lines(directory, "first", "settled").length, 1, "only at the end")
      })
  )

  scenario("changes nothing when the file has a problem, and says where", (directory) =>
    Effect.gen(function*() {
      const file = configure(directory, { first: {} })
      const running = yield* start(file)
      configure(directory, { first: { source: "rowz: 1" }, second: {} })
      yield* sighup(running)
      yield* running.stderrHas("\"path\":\"pipelines.first.source.options.rowz\"")
      Fs.rmSync(file)
      yield* sighup(running)
      yield* running.stderrHas("does not exist")
      assert.strictEqual(lines(directory, "first", "settled").length, 0)
      configure(directory, { first: { source: "rows: 1" } })
      yield* sighup(running)
      yield* running.stderrHas("The reload is complete")
      const ended = yield* stop(running)
      const errors = logged(ended.stderr).filter(({ level }) => level === "ERROR")
      assert.include(errors[0]?.["message"], "the pipelines go on with the configuration that they have")
      assert.deepInclude(errors[1], { message: "Unknown key `rowz`.", hint: "Did you mean `rows`?" })
      assert.isFalse(Fs.existsSync(join(directory, "second.jsonl")))
      assertWhole(directory, "first")
    }))

  scenario(
    "refuses changes of what all pipelines share, together with everything else in the file",
    (directory) =>
      Effect.gen(function*() {
        const file = configure(directory, { first: {} })
        const running = yield* start(file)
        configure(directory, { first: {}, second: {} }, "memory: 100MiB\n")
        yield* sighup(running)
        yield* running.stderrHas("`memory` can't be changed while pipelines run")
        assert.strictEqual(lines(directory, "first", "settled").length, 0)
        // The same written differently is no change.
        configure(directory, { second: {}, first: {} }, "memory: 33554432\n")
        yield* sighup(running)
        yield* until(() => lines(directory, "second", "change").length > 0)
        assert.strictEqual(lines(directory, "first", "settled").length, 0)
        yield* stop(running)
      })
  )

  scenario("resolves references anew, and hides the new secret as the old one", (directory) =>
    Effect.gen(function*() {
      const secret = (text: string) => Fixture.write(directory, "secret", text)
      secret("old-secret")
      const leaky = { source: "password: \"${file:./secret}\"" }
      const file = configure(directory, { leaky, steady: {} })
      const running = yield* start(file)
      secret("new-secret")
      yield* sighup(running)
      yield* running.stderrHas("\"changed\":\"leaky\"")
      yield* running.stderrHas("The reload is complete")
      secret("newest-secret")
      configure(directory, { leaky: { source: `${leaky.source}, fails: {at: leak, reason: Lost}` }, steady: {} })
      yield* sighup(running)
      yield* running.stderrHas("refused: <redacted> ")
      const ended = yield* stop(running, 3)
      assert.notMatch(ended.stderr + ended.stdout, /(old|new|newest)-secret/)
      assert.deepInclude(errorOf(ended), { code: "Unauthorized", pipeline: "leaky" })
    }))

  scenario(
    "starts a pipeline again that had failed, though the file is the same",
    (directory) =>
      Effect.gen(function*() {
        const file = configure(directory, {
          steady: {},
          tripping: { sink: "trips: {file: tripped, reason: Rejected}" }
        })
        const running = yield* start(file)
        yield* running.stderrHas("Pipeline tripping: it does not work")
        yield* sighup(running)
        yield* until(() => lines(directory, "tripping", "change").length > 0)
        yield* stop(running)
        assertWhole(directory, "tripping")
        assert.deepStrictEqual(begun(directory, "tripping"), ["numbers"])
        assert.strictEqual(lines(directory, "steady", "settled").length, 1)
      })
  )

  scenario("that is followed by SIGTERM starts nothing any more", (directory) =>
    Effect.gen(function*() {
      const file = configure(directory, { first: { sink: "slow: 1 hour" } })
      const running = yield* start(file, "--drain-timeout", "3 seconds")
      // Something to drain: the log has told of a change that isn't durable.
      yield* running.stderrHas("\"lagBytes\":1")
      configure(directory, { first: { source: "rows: 1" }, second: {} })
      yield* sighup(running)
      yield* running.stderrHas("\"changed\":\"first\"")
      const ended = yield* stop(running, 1)
      assert.deepInclude(errorOf(ended), { code: "DrainTimeout" })
      assert.deepStrictEqual(begun(directory, "first"), ["numbers"])
      assert.isFalse(Fs.existsSync(join(directory, "second.jsonl")))
    }))
})
