/**
 * Alerts in `etl-stream run`, with a real receiver.
 */
import { assert, describe } from "@effect/vitest"
import * as HttpReceiver from "@etl-stream/testkit/HttpReceiver"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

const alerting = (directory: string, url: string, source: string, rules: ReadonlyArray<string>): string =>
  Fixture.write(
    directory,
    "etl.yaml",
    Fixture.onePipeline(source, undefined, "{plugin: \"@etl-stream/state-sqlite\", options: {file: ./state.sqlite}}")
      .replace(
        "pipelines:",
        `notifiers:
  ops: {plugin: "@etl-stream/notifiers:webhook", options: {url: "${url}", retryFor: 1 second}}
alerts:
${rules.map((rule) => `  - ${rule}\n`).join("")}pipelines:`
      )
  )

const told = ({ requests }: HttpReceiver.HttpReceiver): ReadonlyArray<string> =>
  requests.map(({ body }) => {
    const { status, title, type } = JSON.parse(body)
    return `${status} ${type}: ${title}`
  })

const failing = "fails: {at: stream, reason: Rejected}, password: hunter2hunter2"

describe("alerts of etl-stream run", () => {
  scenario(
    "a failed pipeline is told before the process ends, and not again after a restart",
    (directory) =>
      Effect.gen(function*() {
        const ops = yield* HttpReceiver.start
        const file = alerting(directory, ops.url, failing, ["{when: pipeline-failed, for: 1 minute, to: [ops]}"])
        const first = yield* Fixture.run(["run", file, "--json"])
        assert.strictEqual(first.code, 1, first.stdout)
        assert.deepStrictEqual(told(ops), ["firing pipeline-failed: numbers failed: it does not work"])
        assert.include(first.stderr, "An alert fires: numbers failed")
        assert.strictEqual((yield* Fixture.run(["run", file, "--json"])).code, 1)
        assert.strictEqual(ops.requests.length, 1)
      })
  )

  scenario(
    "a receiver that hangs doesn't hold up the end of the process, and is told after the next start",
    (directory) =>
      Effect.gen(function*() {
        const ops = yield* HttpReceiver.start
        ops.script("hang")
        const file = alerting(directory, ops.url, failing, ["{when: pipeline-failed, to: [ops]}"])
        assert.strictEqual((yield* Fixture.run(["run", file, "--json"])).code, 1)
        assert.strictEqual(ops.requests.length, 1)
        assert.strictEqual((yield* Fixture.run(["run", file, "--json"])).code, 1)
        assert.strictEqual(ops.requests.length, 2)
        // The receiver can see that it is the same.
        const ids = ops.requests.map(({ headers }) => headers["webhook-id"])
        assert.strictEqual(new Set(ids).size, 1)
      })
  )

  scenario("SIGHUP takes other rules and notifiers over while pipelines run on", (directory) =>
    Effect.gen(function*() {
      const ops = yield* HttpReceiver.start
      const file = alerting(directory, "http://127.0.0.1:9/nobody", "ends: false", [])
      Fs.writeFileSync(file, Fs.readFileSync(file, "utf8").replace("alerts:\n", "alerts: []\n"))
      const running = yield* Fixture.start(["run", file, "--json", "--progress-every", "50 millis"])
      yield* running.stderrHas("\"phase\":\"streaming\"")
      alerting(directory, ops.url, "ends: false", ["{when: silence > 1 second, to: [ops]}"])
      running.child.kill("SIGHUP")
      yield* ops.has(1)
      assert.match(told(ops)[0] ?? "", /^firing silence: numbers/)
      running.child.kill("SIGTERM")
      const { code, stderr } = yield* running.ended
      assert.strictEqual(code, 0)
      assert.include(stderr, "The configuration is reloaded")
      assert.notInclude(stderr, "can't be changed while pipelines run")
    }))
})
