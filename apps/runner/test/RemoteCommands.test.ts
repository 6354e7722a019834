import { assert, describe, it } from "@effect/vitest"
import type * as Model from "@etl-stream/runner/api/Model"
import * as StatusText from "@etl-stream/runner/StatusText"
import * as Effect from "effect/Effect"
import { envelope, errorOf, scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

const token = "a-token-of-more-than-24-characters"

const configure = (directory: string, port: number) =>
  Fixture.write(
    directory,
    "c.yaml",
    `apiVersion: 1
state: {plugin: "@etl-stream/state-sqlite", options: {file: ./state.sqlite}}
http: {port: ${port}, token: "${token}"}
pipelines:
  numbers:
    source: {plugin: "./plugins.ts:counter", options: {ends: false, changes: 1000000, tables: [numbers, letters]}}
    sink: {plugin: "./plugins.ts:lines", options: {file: out.jsonl}, batch: {every: 5 millis}}
`
  )

/** Starts the command, and gives what asks it: with `--url` and the token in the environment. */
const serve = Effect.fnUntraced(function*(directory: string) {
  const file = configure(directory, 0)
  const running = yield* Fixture.start(["run", file, "--json", "--progress-every", "50 millis"])
  const line = yield* running.stderrLine("The HTTP API is served")
  yield* running.stderrHas("\"phase\":\"streaming\"")
  const { url } = JSON.parse(line) as { readonly url: string } // our own log line
  const options = { env: { ETL_STREAM_TOKEN: token } }
  return {
    file,
    running,
    url,
    ask: (...args: ReadonlyArray<string>) => Fixture.run([...args, "--url", url], options),
    begin: (...args: ReadonlyArray<string>) => Fixture.start([...args, "--url", url], options)
  }
})

const pipelinesOf = (ended: Fixture.Ended) => envelope(ended)["pipelines"] as ReadonlyArray<Record<string, unknown>> // the envelope's list

describe("commands that ask a running process", () => {
  scenario(
    "show, pause, resume and stop pipelines, and wait until that is done",
    (directory) =>
      Effect.gen(function*() {
        const { ask, running } = yield* serve(directory)
        const shown = yield* ask("status", "numbers")
        assert.strictEqual(shown.code, 0, shown.stderr)
        assert.match(shown.stdout, /^numbers  streaming  2\/2 tables in step/)
        assert.match(shown.stdout, /^  public\.letters  in step  0 changes/m)
        const paused = yield* ask("pause", "numbers", "--json")
        assert.deepStrictEqual([paused.code, pipelinesOf(paused)], [
          0,
          [{ name: "numbers", activity: "paused", changed: true, kept: true }]
        ])
        const settled = () => Fixture.written(directory).filter(({ kind }) => kind === "settled").length
        assert.strictEqual(settled(), 1)
        assert.strictEqual(pipelinesOf(yield* ask("status", "--json"))[0]?.["activity"], "paused")
        assert.strictEqual((yield* ask("pause", "numbers")).stdout, "numbers is paused.\n")
        assert.strictEqual((yield* ask("resume", "numbers")).stdout, "numbers runs.\n")
        assert.strictEqual((yield* ask("stop", "numbers")).stdout, "numbers is stopped.\n")
        assert.strictEqual(settled(), 2)
        const unknown = yield* ask("resume", "number", "--json")
        assert.deepStrictEqual([unknown.code, errorOf(unknown)["code"], errorOf(unknown)["hint"]], [
          2,
          "UnknownPipeline",
          "Did you mean `numbers`?"
        ])
        running.child.kill("SIGTERM")
        assert.strictEqual((yield* running.ended).code, 0)
      })
  )

  scenario("print samples and events until they are told to end", (directory) =>
    Effect.gen(function*() {
      const { ask, begin, file, url } = yield* serve(directory)
      const samples = yield* ask("tap", "numbers", "--table", "public.numbers", "--count", "3", "--json")
      const lines = samples.stdout.trim().split("\n").map((line) => JSON.parse(line) as Model.Sample) // the API's samples
      assert.deepStrictEqual(
        lines.map((sample) => sample.type === "lost" ? "" : sample.table),
        Array.from({ length: 3 }, () => "public.numbers")
      )
      assert.notInclude(samples.stdout, "values")
      const values = yield* ask("tap", "numbers", "--values", "--json")
      assert.deepStrictEqual([values.code, errorOf(values)["code"]], [3, "ValuesNotAllowed"])
      const watching = yield* begin("status", "--watch", "--json")
      yield* watching.stdoutHas("\"type\":\"progress\"")
      yield* ask("pause", "numbers")
      yield* watching.stdoutHas("\"to\":\"paused\"")
      const again = yield* Fixture.run(["resync", file, "public.letters", "--url", url])
      assert.include(again.stdout, "A new copy of public.letters is asked for.")
      assert.strictEqual(
        (yield* Fixture.run(["resync", file, "public.letters", "--url", url, "--wait", "begun"])).code,
        2
      )
    }))

  scenario(
    "say clearly that nobody answers, that the token is wrong, and that something else answers",
    (directory) =>
      Effect.gen(function*() {
        const { file, url } = yield* serve(directory)
        const nobody = yield* Fixture.run(["status", "--url", "http://127.0.0.1:1", "--json"])
        assert.deepStrictEqual([nobody.code, errorOf(nobody)["code"]], [3, "Unreachable"])
        const wrong = yield* Fixture.run(["status", "--url", url, "--json"], {
          env: { ETL_STREAM_TOKEN: "not the token" }
        })
        assert.deepStrictEqual([wrong.code, errorOf(wrong)["code"]], [3, "Unauthorized"])
        assert.notInclude(wrong.stdout + wrong.stderr, "not the token")
        const anyPort = yield* Fixture.run(["status", "--file", file, "--json"])
        assert.deepStrictEqual([anyPort.code, errorOf(anyPort)["code"]], [2, "Usage"])
        const noUrl = yield* Fixture.run(["pause", "numbers", "--url", "127.0.0.1:8086", "--json"])
        assert.deepStrictEqual([noUrl.code, errorOf(noUrl)["code"]], [2, "Usage"])
        const none = yield* Fixture.run(["stop"])
        assert.strictEqual(none.code, 2)
      })
  )
})

describe("StatusText", () => {
  const summary: Model.Summary = {
    name: "shop",
    activity: "retrying",
    desired: "running",
    pausedByConfiguration: false,
    waitsFor: [],
    run: 3,
    startedAt: null,
    retryAt: "1970-01-01T00:00:12.000Z",
    receivedPosition: "2048",
    acknowledgedPosition: "0",
    lagBytes: 2048,
    freshnessSeconds: 75,
    receivedAt: null,
    memoryBytes: 0,
    rates: { copy: 0, changes: 0 },
    circuit: { state: "half_open", nextProbeAt: null },
    conditions: [{
      name: "stalled",
      severity: "critical",
      table: null,
      message: "nothing moves\u001b[31m",
      hint: "Look.",
      since: "1970-01-01T00:00:00.000Z"
    }],
    lastError: { reason: "Unreachable", plugin: "p", table: null, message: "gone", hint: "Wait." },
    tablesByPhase: { streaming: 1, copying: 2 }
  }

  it("shows what is wrong with its remedy, and nothing that a terminal would obey", () => {
    assert.deepStrictEqual(StatusText.summary(summary, 0), [
      "shop  retrying in 12 s  1/3 tables in step  lag 1 m 15 s  2 KiB behind  circuit half open",
      "  gone",
      "    -> Wait.",
      "  critical: nothing moves?[31m",
      "    -> Look."
    ])
  })
})
