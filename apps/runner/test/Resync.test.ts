import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { envelope, errorOf, scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

const state = "{plugin: \"@etl-stream/state-sqlite\", options: {file: ./state.sqlite}}"

const configuration = (directory: string, source = "tables: [numbers, letters], ends: false") =>
  Fixture.write(directory, "c.yaml", Fixture.onePipeline(source, undefined, state))

/** The tables whose copies began, in order. */
const begun = (directory: string) =>
  Fixture.written(directory).filter(({ kind }) => kind === "begin").map(({ table }) => table)

describe("resync", () => {
  scenario(
    "makes a running pipeline copy that table again and no other, and waits until it has",
    (directory) =>
      Effect.gen(function*() {
        const file = configuration(directory)
        const running = yield* Fixture.start(["run", file, "--progress-every", "50 millis"])
        yield* running.stderrHas("phase=streaming")
        const asked = yield* Fixture.run(["resync", file, "--wait", "complete", "public.\"letters\"", "--json"])
        assert.strictEqual(asked.code, 0, asked.stderr)
        const { pipeline, requests } = envelope(asked)
        assert.strictEqual(pipeline, "numbers")
        assert.deepInclude((requests as ReadonlyArray<unknown>)[0], { table: "public.letters", state: "done" })
        assert.deepStrictEqual(begun(directory), ["numbers", "letters", "letters"])
        running.child.kill("SIGTERM")
        assert.strictEqual((yield* running.ended).code, 0)
      })
  )

  scenario("asks while nothing runs; the next run copies the table", (directory) =>
    Effect.gen(function*() {
      const file = configuration(directory, "tables: [numbers, letters]")
      assert.strictEqual((yield* Fixture.run(["run", file])).code, 0)
      const asked = yield* Fixture.run(["resync", file, "public.numbers"])
      assert.deepStrictEqual([asked.code, asked.stderr], [0, ""])
      assert.include(asked.stdout, "A new copy of public.numbers is asked for.")
      assert.include(asked.stdout, "when it is started")
      const waiting = yield* Fixture.start(["resync", file, "--wait", "begun", "public.numbers"])
      yield* waiting.stderrHas("waiting for a run of the pipeline")
      const running = yield* Fixture.start(["run", configuration(directory)])
      const waited = yield* waiting.ended
      assert.strictEqual(waited.code, 0, waited.stderr)
      assert.include(waited.stdout, "The new copy of public.numbers has begun.")
      assert.deepStrictEqual(begun(directory), ["numbers", "letters", "numbers"], "asked twice, copied once")
      running.child.kill("SIGTERM")
      assert.strictEqual((yield* running.ended).code, 0)
    }))

  scenario("exits with 1 and the reason when the source refuses", (directory) =>
    Effect.gen(function*() {
      const file = configuration(directory)
      const running = yield* Fixture.start(["run", file])
      const asked = yield* Fixture.run(["resync", file, "--wait", "begun", "public.digits"])
      assert.strictEqual(asked.code, 1)
      assert.include(
        asked.stderr,
        "etl-stream: No new copy of public.digits: it does not work\n  -> Mend it.\n"
      )
      assert.strictEqual(
        errorOf(yield* Fixture.run(["resync", file, "--wait", "begun", "public.digits", "--json"]))["code"],
        "ResyncRefused"
      )
      assert.deepStrictEqual(begun(directory), ["numbers", "letters"])
      running.child.kill("SIGTERM")
      assert.strictEqual((yield* running.ended).code, 0)
    }))

  scenario(
    "exits with 2 before anything is asked for when the tables, the pipeline or the file are wrong",
    (directory) =>
      Effect.gen(function*() {
        const file = configuration(directory)
        const stage = "{plugin: \"./plugins.ts:counter\"}"
        const two = Fixture.write(
          directory,
          "two.yaml",
          `apiVersion: 1
pipelines:
  shop: {source: ${stage}, sink: {plugin: "./plugins.ts:lines", options: {file: a}}}
  stock: {source: ${stage}, sink: {plugin: "./plugins.ts:lines", options: {file: b}}}
`
        )
        const invalid = Fixture.write(directory, "bad.yaml", Fixture.onePipeline("rowz: 5"))
        for (
          const [args, message] of [
            [[file], "Missing required argument"],
            [[file, "numbers"], "numbers is not a table's name"],
            [[file, "--pipeline", "number", "public.numbers"], "Did you mean `numbers`?"],
            [[two, "public.numbers"], "`shop` or `stock`"],
            [[invalid, "public.numbers"], "Unknown key `rowz`"],
            [[file, "--wait", "sometime", "public.numbers"], "--wait"]
          ] as const
        ) {
          const ended = yield* Fixture.run(["resync", ...args])
          assert.strictEqual(ended.code, 2, args.join(" "))
          assert.include(ended.stderr, message)
        }
      })
  )

  scenario("says so when the state store keeps nothing between processes", (directory) =>
    Effect.gen(function*() {
      const file = Fixture.write(directory, "c.yaml", Fixture.onePipeline(""))
      const ended = yield* Fixture.run(["resync", file, "public.numbers"])
      assert.strictEqual(ended.code, 1)
      assert.include(ended.stderr, "keeps nothing between processes")
    }))
})
