/**
 * `etl-stream alert test` as a command, with real receivers.
 */
import { assert, describe } from "@effect/vitest"
import * as HttpReceiver from "@etl-stream/testkit/HttpReceiver"
import * as Effect from "effect/Effect"
import { envelope, errorOf, scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

/** A file with these notifiers, in YAML's flow style. */
const write = (directory: string, notifiers: Readonly<Record<string, string>>, rest = ""): string =>
  Fixture.write(
    directory,
    "etl.yaml",
    Fixture.onePipeline("").replace(
      "pipelines:",
      `notifiers:\n${
        Object.entries(notifiers).map(([name, stage]) => `  ${name}: ${stage}\n`).join("")
      }${rest}pipelines:`
    )
  )

const webhook = (url: string, more = "") => `{plugin: "@etl-stream/notifiers:webhook", options: {url: "${url}"${more}}}`

const bodies = ({ requests }: HttpReceiver.HttpReceiver): ReadonlyArray<Record<string, unknown>> =>
  requests.map(({ body }) => JSON.parse(body))

describe("etl-stream alert test", () => {
  scenario(
    "sends a test alert and its end through every notifier, or those that are named",
    (directory) =>
      Effect.gen(function*() {
        const [ops, others] = [yield* HttpReceiver.start, yield* HttpReceiver.start]
        const file = write(directory, { ops: webhook(ops.url), others: webhook(others.url) })
        const text = yield* Fixture.run(["alert", "test", file, "ops"])
        assert.deepStrictEqual([text.code, text.stderr], [0, ""])
        assert.strictEqual(
          text.stdout,
          "ok    ops (@etl-stream/notifiers:webhook): the test alert and its end were delivered\n"
        )
        assert.deepStrictEqual(bodies(ops).map(({ status, type }) => `${status} ${type}`), [
          "firing test",
          "resolved test"
        ])
        assert.strictEqual(new Set(bodies(ops).map(({ key }) => key)).size, 1)
        assert.strictEqual(others.requests.length, 0)
        const json = yield* Fixture.run(["alert", "test", file, "--json"])
        assert.strictEqual(json.code, 0, json.stdout)
        assert.deepStrictEqual(envelope(json), {
          ok: true,
          command: "alert test",
          file,
          exitCode: 0,
          notifiers: ["ops", "others"].map((name) => ({ name, plugin: "@etl-stream/notifiers:webhook", ok: true }))
        })
        assert.strictEqual(others.requests.length, 2)
      })
  )

  scenario(
    "exits with 3 when one has to be mended outside, with its remedy and no secret",
    (directory) =>
      Effect.gen(function*() {
        const ops = yield* HttpReceiver.start
        const { url } = yield* Effect.scoped(HttpReceiver.start)
        const gone = `${url}/hidden-path`
        const file = write(directory, { ops: webhook(ops.url), gone: webhook(gone, ", retryFor: 100 millis") })
        const text = yield* Fixture.run(["alert", "test", file])
        assert.strictEqual(text.code, 3)
        assert.match(text.stdout, /^ok {4}ops .*\nerror gone .*gave no answer \(ECONNREFUSED\)\n {6}-> Check `url`/)
        const json = yield* Fixture.run(["alert", "test", file, "--json"])
        assert.strictEqual(json.code, 3)
        assert.deepInclude(envelope(json), { ok: false, exitCode: 3 })
        for (const ended of [text, json]) assert.notMatch(ended.stdout + ended.stderr, /hidden-path|127\.0\.0\.1/)
      })
  )

  scenario("exits with 1 when a receiver doesn't take it or a plugin breaks", (directory) =>
    Effect.gen(function*() {
      const ops = yield* HttpReceiver.start
      ops.script({ status: 400 })
      const refused = yield* Fixture.run(["alert", "test", write(directory, { ops: webhook(ops.url) })])
      assert.strictEqual(refused.code, 1)
      assert.match(refused.stdout, /^error ops .*answered 400\n/)
      // What wasn't told has no end either.
      assert.strictEqual(ops.requests.length, 1)
      const file = write(directory, {
        broken: "{plugin: \"./plugins.ts:bell\", options: {password: hunter2hunter2, breaks: true}}"
      })
      const broken = yield* Fixture.run(["alert", "test", file, "--json"])
      assert.strictEqual(broken.code, 1)
      assert.notMatch(broken.stdout + broken.stderr, /hunter2/)
    }))

  scenario(
    "exits with 2 on an unknown notifier, on a file without any, and on a wrong file",
    (directory) =>
      Effect.gen(function*() {
        const file = write(directory, { slack: webhook("http://127.0.0.1/x") })
        const unknown = yield* Fixture.run(["alert", "test", file, "slak"])
        assert.strictEqual(unknown.code, 2)
        assert.match(unknown.stderr, /There is no notifier slak\n.*Did you mean slack\?/)
        const none = yield* Fixture.run([
          "alert",
          "test",
          Fixture.write(directory, "none.yaml", Fixture.onePipeline(""))
        ])
        assert.deepStrictEqual([none.code, none.stdout], [2, ""])
        assert.include(none.stderr, "The file has no notifiers")
        const wrong = write(directory, { slack: webhook("nothing to post to") })
        const json = yield* Fixture.run(["alert", "test", wrong, "--json"])
        assert.deepStrictEqual([json.code, errorOf(json)["code"], envelope(json)["command"]], [
          2,
          "ConfigurationInvalid",
          "alert test"
        ])
      })
  )
})
