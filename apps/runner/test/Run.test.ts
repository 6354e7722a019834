import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { createServer, type Server } from "node:http"
import { join } from "node:path"
import { envelope, errorOf, scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

describe("run", () => {
  const numbers = (directory: string, kind: string) =>
    Fixture.written(directory).filter((line) => line.kind === kind).map(({ n }) => Number(n))

  scenario("copies, streams and ends with 0 when the source ends", (directory) =>
    Effect.gen(function*() {
      const ended = yield* Fixture.run(["run", Fixture.write(directory, "c.yaml", Fixture.onePipeline(""))])
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.deepStrictEqual(numbers(directory, "read"), [0, 1, 2])
      assert.deepStrictEqual(numbers(directory, "change"), [1002, 1003, 1004, 1005, 1006])
      assert.strictEqual(ended.stdout, "")
      assert.match(ended.stderr, /^timestamp=\S+ level=INFO message="etl-stream starts"/)
    }))

  scenario("runs again after a retryable error, losing and doubling nothing", (directory) =>
    Effect.gen(function*() {
      const file = Fixture.write(
        directory,
        "c.yaml",
        Fixture.onePipeline("", "file: ./out.jsonl, trips: {file: tripped, reason: Unreachable}")
      )
      const ended = yield* Fixture.run(["run", file, "--json"])
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.include(ended.stderr, "\"level\":\"WARN\",\"message\":\"it does not work\"")
      assert.include(ended.stderr, "\"retryInMillis\"")
      assert.deepStrictEqual(numbers(directory, "read"), [0, 1, 2])
      assert.deepStrictEqual(numbers(directory, "change"), [1002, 1003, 1004, 1005, 1006])
    }))

  for (
    const [reason, code] of [
      ["Unreachable", 3],
      ["Unauthorized", 3],
      ["Misconfigured", 3],
      ["Rejected", 1]
    ] as const
  ) {
    scenario(`${reason} at the start ends with ${code} and one clear error`, (directory) =>
      Effect.gen(function*() {
        const file = Fixture.write(directory, "c.yaml", Fixture.onePipeline(`fails: {at: tables, reason: ${reason}}`))
        const text = yield* Fixture.run(["run", file])
        assert.strictEqual(text.code, code)
        assert.include(text.stderr, "etl-stream: Pipeline numbers: it does not work\n  -> Mend it.\n")
        assert.strictEqual(text.stderr.split("it does not work").length, 2, text.stderr)
        assert.notMatch(text.stderr, /\n\s+at /)
        const json = yield* Fixture.run(["run", file, "--json"])
        assert.strictEqual(json.code, code)
        assert.deepInclude(errorOf(json), { code: reason, hint: "Mend it.", pipeline: "numbers" })
      }))
  }

  scenario("a wrong plugin configuration ends with 2 before anything starts", (directory) =>
    Effect.gen(function*() {
      const ended = yield* Fixture.run(["run", Fixture.write(directory, "c.yaml", Fixture.onePipeline("nonsense: 1"))])
      assert.strictEqual(ended.code, 2)
      assert.deepStrictEqual(Fixture.written(directory), [])
    }))

  scenario(
    "an error that trying again can't mend ends a pipeline that ran well",
    (directory) =>
      Effect.gen(function*() {
        const file = Fixture.write(directory, "c.yaml", Fixture.onePipeline("fails: {at: stream, reason: Lost}"))
        const ended = yield* Fixture.run(["run", file])
        assert.strictEqual(ended.code, 1)
        assert.include(ended.stderr, "etl-stream: Pipeline numbers: it does not work")
      })
  )

  scenario(
    "a bug of a plugin ends its pipeline without quoting data; details are there on request",
    (directory) =>
      Effect.gen(function*() {
        const file = Fixture.write(directory, "c.yaml", Fixture.onePipeline("fails: {at: defect, reason: Lost}"))
        const ended = yield* Fixture.run(["run", file])
        assert.strictEqual(ended.code, 1)
        assert.include(ended.stderr, "an unexpected TypeError was thrown")
        assert.notInclude(ended.stderr, "4711")
        const detailed = yield* Fixture.run(["run", file, "--log-level", "debug"])
        assert.match(detailed.stderr, /TypeError: row value 4711\n\s+at /)
      })
  )

  scenario("secrets never show, neither in logs nor in errors", (directory) =>
    Effect.gen(function*() {
      const file = Fixture.write(
        directory,
        "c.yaml",
        Fixture.onePipeline("fails: {at: leak, reason: Lost}, password: \"${env:PASSWORD}\", secret: 'q\"uoted p@ss'")
      )
      for (const args of [[], ["--json"], ["--log-level", "debug"], ["--log-format", "pretty"]]) {
        const ended = yield* Fixture.run(["run", file, ...args], { env: { PASSWORD: "tell-nobody" } })
        assert.strictEqual(ended.code, 3)
        const output = ended.stdout + ended.stderr
        assert.include(output, "logging in with <redacted> <redacted>")
        assert.include(output, "refused: <redacted> <redacted>")
        assert.notInclude(output, "tell-nobody")
        assert.notInclude(output, "uoted p@ss")
      }
    }))

  scenario(
    "one pipeline's failure leaves the other running, and decides the exit code at the end",
    (directory) =>
      Effect.gen(function*() {
        const text = `apiVersion: 1
state: {plugin: "./plugins.ts:memory"}
pipelines:
  broken:
    source: {plugin: "./plugins.ts:counter", options: {fails: {at: make, reason: Unauthorized}}}
    sink: {plugin: "./plugins.ts:lines", options: {file: broken.jsonl}}
  sound:
    source: {plugin: "./plugins.ts:counter", options: {changes: 40, every: 5 millis}}
    sink: {plugin: "./plugins.ts:lines", options: {file: sound.jsonl}, batch: {every: 5 millis}}
`
        const ended = yield* Fixture.run(["run", Fixture.write(directory, "c.yaml", text), "--json"])
        assert.strictEqual(ended.code, 3)
        assert.strictEqual(Fixture.written(directory, "sound.jsonl").filter(({ kind }) => kind === "change").length, 40)
        assert.include(ended.stderr, "\"level\":\"ERROR\",\"message\":\"Pipeline broken: it does not work\"")
        assert.strictEqual(errorOf(ended)["pipeline"], "broken")
      })
  )

  scenario(
    "SIGTERM drains: what was read is in place, the sink is settled, the exit code is 0",
    (directory) =>
      Effect.gen(function*() {
        const file = Fixture.write(
          directory,
          "c.yaml",
          Fixture.onePipeline("ends: false, changes: 100000", "file: ./out.jsonl, slow: 20 millis")
        )
        const running = yield* Fixture.start(["run", file, "--json", "--progress-every", "50 millis"])
        // The log has counted a change, so at least one was read.
        yield* running.stderrHas("\"changes\":1")
        running.child.kill("SIGTERM")
        const ended = yield* running.ended
        assert.strictEqual(ended.code, 0, ended.stderr)
        assert.deepStrictEqual(envelope(ended), {
          ok: true,
          command: "run",
          pipelines: [{ name: "numbers", state: "stopped" }]
        })
        const changes = numbers(directory, "change")
        assert.isAbove(changes.length, 0)
        assert.deepStrictEqual(changes, changes.map((_, index) => 1002 + index))
        assert.strictEqual(Fixture.written(directory).at(-1)?.kind, "settled")
      })
  )

  scenario(
    "SIGINT drains too, also while a failed pipeline waits for its next run",
    (directory) =>
      Effect.gen(function*() {
        const file = Fixture.write(
          directory,
          "c.yaml",
          Fixture.onePipeline("ends: false, fails: {at: stream, reason: Unreachable}")
        )
        const running = yield* Fixture.start(["run", file])
        yield* running.stderrHas("failures=3")
        running.child.kill("SIGINT")
        assert.strictEqual((yield* running.ended).code, 0)
      })
  )

  scenario(
    "a drain that takes longer than its deadline ends with 1 and says so",
    (directory) =>
      Effect.gen(function*() {
        const file = Fixture.write(
          directory,
          "c.yaml",
          Fixture.onePipeline("ends: false", "file: ./out.jsonl, slow: 1 hour")
        )
        const running = yield* Fixture.start([
          "run",
          file,
          "--json",
          "--drain-timeout",
          "200 millis",
          "--progress-every",
          "50 millis"
        ])
        yield* running.stderrHas("\"phase\":\"streaming\"")
        running.child.kill("SIGTERM")
        const ended = yield* running.ended
        assert.strictEqual(ended.code, 1)
        assert.deepInclude(errorOf(ended), { code: "DrainTimeout" })
      })
  )

  scenario("a second signal ends the process at once", (directory) =>
    Effect.gen(function*() {
      const file = Fixture.write(
        directory,
        "c.yaml",
        Fixture.onePipeline("ends: false", "file: ./out.jsonl, slow: 1 hour")
      )
      const running = yield* Fixture.start(["run", file, "--progress-every", "50 millis"])
      yield* running.stderrHas("phase=streaming")
      running.child.kill("SIGTERM")
      yield* running.stderrHas("once more to quit at once")
      running.child.kill("SIGTERM")
      assert.strictEqual((yield* running.ended).code, 143)
    }))

  scenario(
    "a state file that is deleted, old or damaged between runs costs nothing but a message",
    (directory) =>
      Effect.gen(function*() {
        const state = join(directory, "state", "state.sqlite")
        const file = (changes: number) =>
          Fixture.write(
            directory,
            "c.yaml",
            Fixture.onePipeline(
              `changes: ${changes}`,
              undefined,
              "{plugin: \"@etl-stream/state-sqlite\", options: {file: ./state/state.sqlite}}"
            )
          )
        assert.strictEqual((yield* Fixture.run(["run", file(3)])).code, 0)
        assert.isTrue(Fs.existsSync(state))
        const old = Fs.readFileSync(state)
        Fs.rmSync(join(directory, "state"), { recursive: true })
        assert.strictEqual((yield* Fixture.run(["run", file(6)])).code, 0)
        Fs.writeFileSync(state, old)
        assert.strictEqual((yield* Fixture.run(["run", file(9)])).code, 0)
        assert.deepStrictEqual(numbers(directory, "read"), [0, 1, 2])
        assert.deepStrictEqual(numbers(directory, "change"), [1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010])
        Fs.writeFileSync(state, "damaged ".repeat(1000))
        const damaged = yield* Fixture.run(["run", file(9)])
        assert.strictEqual(damaged.code, 3)
        assert.include(damaged.stderr, "delete")
        assert.include(damaged.stderr, "no data is lost")
      })
  )

  scenario(
    "metrics and spans go to the collector that the configuration names; a dead one doesn't stop anything",
    (directory) =>
      Effect.gen(function*() {
        const requests = new Map<string, string>()
        const collector = yield* Effect.acquireRelease(
          Effect.callback<Server>((resume) => {
            const server = createServer((request, response) => {
              let body = ""
              request.setEncoding("utf8").on("data", (text: string) => body += text).on("end", () => {
                requests.set(request.url ?? "", (requests.get(request.url ?? "") ?? "") + body)
                response.end("{}")
              })
            })
            server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
          }),
          (server) => Effect.sync(() => server.close())
        )
        const address = collector.address()
        const port = typeof address === "object" ? address?.port : undefined
        const file = (endpoint: string) =>
          Fixture.write(
            directory,
            "c.yaml",
            `telemetry: {otlp: {endpoint: "${endpoint}"}}\n${Fixture.onePipeline("password: tell-nobody")}`
          )
        const ended = yield* Fixture.run(["run", file(`http://127.0.0.1:${port}/`)])
        assert.strictEqual(ended.code, 0, ended.stderr)
        assert.include(requests.get("/v1/metrics"), "etl_stream.component")
        assert.include(requests.get("/v1/traces"), "etl_stream.sink.write")
        assert.notInclude([...requests.values()].join(), "tell-nobody")
        Fs.rmSync(join(directory, "out.jsonl"))
        assert.strictEqual((yield* Fixture.run(["run", file("http://127.0.0.1:1")])).code, 0)
      })
  )
})
