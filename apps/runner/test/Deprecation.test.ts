import { assert, describe, it } from "@effect/vitest"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Evaluation from "@etl-stream/runner/database/Evaluation"
import type { Row } from "@etl-stream/runner/database/Rows"
import * as Deprecation from "@etl-stream/runner/Deprecation"
import { formatPath } from "@etl-stream/runner/Problem"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import { join } from "node:path"
import { scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

const old = Schema.optionalKey(Schema.Int).pipe(ConfigOption.deprecated("Use `rows`"))

const Options = Schema.Struct({
  old,
  section: Schema.Struct({ old }).pipe(ConfigOption.withDefault({})),
  list: Schema.optionalKey(Schema.Array(Schema.Union([Schema.String, Schema.Struct({ old })]))),
  tables: Schema.optionalKey(Schema.Record(Schema.String, Schema.Struct({ old }))),
  free: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown))
})

/** The plugin of the page about options, one of whose options is deprecated, as `chat.ts`. */
const writeChat = (directory: string): void => {
  const page = Fs.readFileSync(join(import.meta.dirname, "../../../docs/plugins/options.md"), "utf8")
  Fixture.write(directory, "chat.ts", /^```ts\n([\s\S]*?)^```$/m.exec(page)?.[1] ?? "")
}

describe("deprecated options", () => {
  it("are found in sections, lists and under free names, wherever they are written", () => {
    const found = (value: unknown) => Deprecation.find(Options, value, ["options"]).map(({ path }) => formatPath(path))
    assert.deepStrictEqual(found({ section: {}, list: ["x"], tables: {}, free: { old: 1 } }), [])
    assert.deepStrictEqual(
      found({ old: 1, section: { old: "${env:OLD}" }, list: ["x", { old: 1 }], tables: { "public.a": { old: 1 } } }),
      ["options.old", "options.section.old", "options.list[1].old", "options.tables[\"public.a\"].old"]
    )
    // Whatever else is wrong with it.
    assert.deepStrictEqual(found({ old: "x", nonsense: 1 }), ["options.old"])
    assert.deepStrictEqual(found("text"), [])
  })

  scenario("of a configuration database are told by the row that has them", (directory) =>
    Effect.gen(function*() {
      writeChat(directory)
      const row = (table: Row["table"], name: string, value: unknown): Row => ({
        table,
        name,
        value,
        text: JSON.stringify(value),
        xmin: "1",
        problem: undefined,
        unreadable: undefined
      })
      const { evaluate } = Evaluation.make({ name: "a database", directory, environment: {} })
      const { configuration } = yield* evaluate({
        rows: [
          row("settings", "state", { plugin: "./plugins.ts:memory" }),
          row("notifiers", "chat", { plugin: "./chat.ts", options: { token: "x", maxAttempts: 2 } })
        ]
      }, false)
      assert.deepStrictEqual(configuration.warnings, [{
        path: "options.maxAttempts",
        row: "notifiers/chat",
        message: "`maxAttempts` is deprecated.",
        remedy: "Use `retry.attempts`."
      }])
    }))

  scenario(
    "that come with a reload are told then, and those that were told are not told again",
    (directory) =>
      Effect.gen(function*() {
        writeChat(directory)
        const notifier = (name: string) => `  ${name}: {plugin: ./chat.ts, options: {token: x, maxAttempts: 2}}\n`
        const base = `${Fixture.onePipeline("ends: false, changes: 100000")}notifiers:\n${notifier("first")}`
        const file = Fixture.write(directory, "etl.yaml", base)
        const running = yield* Fixture.start(["run", file, "--log-format", "logfmt", "--progress-every", "50 millis"])
        yield* running.stderrHas("phase=streaming")
        Fixture.write(directory, "etl.yaml", `${base}${notifier("second")}`)
        running.child.kill("SIGHUP")
        yield* running.stderrHas("The reload is complete")
        running.child.kill("SIGTERM")
        const { stderr } = yield* running.ended
        const told = stderr.split("\n").filter((line) => line.includes("`maxAttempts` is deprecated"))
        assert.deepStrictEqual(told.map((line) => /path=notifiers\.(\w+)/.exec(line)?.[1]), ["first", "second"], stderr)
      })
  )
})
