import { assert, describe, it } from "@effect/vitest"
import * as PluginUses from "../src/PluginUses.ts"
import { formatPath } from "../src/Problem.ts"

const uses = (document: unknown) =>
  PluginUses.find(document).map(({ kind, path, plugin }) => `${formatPath(path)}: ${kind} ${plugin}`)

describe("the plugins that a configuration names", () => {
  it("are found in every stage, in the order of the document", () => {
    assert.deepStrictEqual(
      uses({
        state: { plugin: "a" },
        sources: { shop: { plugin: "b" } },
        sinks: { lake: { plugin: "c" } },
        pipelines: {
          one: {
            source: "shop",
            transforms: [{ plugin: "d" }, { options: {} }],
            sink: { plugin: "e" },
            deadLetters: { plugin: "f" }
          }
        },
        notifiers: { chat: { plugin: "g" } },
        monitors: { wal: { plugin: "h" } }
      }),
      [
        "state: state a",
        "sources.shop: source b",
        "sinks.lake: sink c",
        "pipelines.one.transforms[0]: transform d",
        "pipelines.one.sink: sink e",
        "pipelines.one.deadLetters: deadLetters f",
        "notifiers.chat: notifier g",
        "monitors.wal: monitor h"
      ]
    )
  })

  it("are told by where they stand, whatever names the configuration gives to its parts", () => {
    assert.deepStrictEqual(
      uses({
        notifiers: { sink: { plugin: "a" }, options: { plugin: "b" } },
        pipelines: { sources: { source: { plugin: "c" }, sink: "lake" }, options: { sink: { plugin: "d" } } }
      }),
      [
        "notifiers.sink: notifier a",
        "notifiers.options: notifier b",
        "pipelines.sources.source: source c",
        "pipelines.options.sink: sink d"
      ]
    )
  })

  it("are not what options call a plugin, nor anything in a document of another form", () => {
    assert.deepStrictEqual(
      uses({ state: { plugin: "a", options: { plugin: "b", source: { plugin: "c" } } }, other: { plugin: "d" } }),
      ["state: state a"]
    )
    for (const document of [undefined, null, 1, "plugin", [], [{ plugin: "a" }], { pipelines: [{ plugin: "a" }] }]) {
      assert.deepStrictEqual(uses(document), [])
    }
  })
})
