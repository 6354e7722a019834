import { assert, describe } from "@effect/vitest"
import * as NamedStages from "@etl-stream/runner/NamedStages"
import * as Effect from "effect/Effect"
import { load, loaded, only, problems, scenario } from "./ConfigurationFixture.ts"

const text = (options: string, pipelines: string) =>
  `apiVersion: 1
state: {plugin: "./plugins.ts:memory"}
sources:
  numbers: {plugin: "./plugins.ts:counter", options: {${options}}}
sinks:
  out: {plugin: "./plugins.ts:lines", options: {file: ./out.jsonl}, batch: {rows: 5}}
pipelines:
${pipelines}`

const two = `  one: {source: numbers, sink: out}
  two:
    source: numbers
    sink: {plugin: "./plugins.ts:lines", options: {file: ./two.jsonl}}
`

describe("sources and sinks by name", () => {
  scenario("are those of the pipelines that name them", (directory) =>
    Effect.gen(function*() {
      const { input, pipelines } = yield* loaded(load(directory, text("rows: 7", two)))
      assert.deepStrictEqual(pipelines.map(({ batch, name, source }) => [name, source.options, batch.rows]), [
        ["one", pipelines[0]?.source.options, 5],
        ["two", pipelines[0]?.source.options, 50_000]
      ])
      assert.deepInclude(pipelines[1]?.source.options, { rows: 7 })
      assert.strictEqual(input.pipelines["two"]?.source.plugin, "./plugins.ts:counter")
    }))

  scenario("are told their problems once, where they are written", (directory) =>
    Effect.gen(function*() {
      const found = only(yield* problems(directory, text("rows: many", two)))
      assert.deepInclude(found, {
        path: "sources.numbers.options.rows",
        line: 4,
        message: "Expected a number, got text."
      })
      const secret = only(yield* problems(directory, text("password: \"${env:ABSENT}\"", two)))
      assert.deepInclude(secret, { path: "sources.numbers.options.password", line: 4 })
    }))

  scenario("that no pipeline uses have to be right too", (directory) =>
    Effect.gen(function*() {
      const pipelines = `  one: {source: {plugin: "./plugins.ts:counter"}, sink: out}\n`
      const found = only(yield* problems(directory, text("rows: many", pipelines)))
      assert.strictEqual(found.path, "sources.numbers.options.rows")
    }))

  scenario("that don't exist are told with what was probably meant", (directory) =>
    Effect.gen(function*() {
      const found = yield* problems(directory, text("", "  one: {source: number, sink: constructor}\n"))
      assert.deepStrictEqual(found.map(({ message, path, remedy }) => [path, message, remedy]), [
        [
          "pipelines.one.source",
          "There is no source of this name in `sources`.",
          "Did you mean `numbers`?"
        ],
        [
          "pipelines.one.sink",
          "There is no sink of this name in `sinks`.",
          "Use `out`, or add it to `sinks`."
        ]
      ])
    }))

  scenario("leave documents of any other form to decoding", () =>
    Effect.sync(() => {
      for (
        const value of [null, 5, "x", [], {}, { pipelines: [] }, { pipelines: { a: 5, b: [], c: { source: 5 } } }, {
          sources: [],
          pipelines: { a: { source: { plugin: "p" } } }
        }]
      ) {
        const { findings, origin, value: expanded } = NamedStages.expand(value)
        assert.deepStrictEqual([expanded, findings], [value, []])
        assert.deepStrictEqual(origin(["pipelines", "a", "source", "plugin"]), ["pipelines", "a", "source", "plugin"])
      }
    }))
})
