/**
 * What docs/transforms.md shows, and the examples of the plugins, are run.
 */
import { assert, describe, it } from "@effect/vitest"
import type { AnyPlugin, Plugin } from "@etl-stream/core/Plugin"
import type { RowOperation, Value } from "@etl-stream/testkit/RowBatch"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import { plugins } from "../src/index.ts"
import * as Fixture from "./Fixture.ts"

const page = readFileSync(new URL("../../../docs/transforms.md", import.meta.url), "utf8")

const named: ReadonlyMap<string, AnyPlugin> = new Map(
  Object.entries(plugins).map(([name, plugin]) => [name, plugin as unknown as AnyPlugin]) // of whatever options
)

const operations: Readonly<Record<string, RowOperation>> = { insert: "Insert", update: "Update", delete: "Delete" }

/** `insert {"id": 1}` as a row, whose int64s are bigints. */
const rowOf = (text: string, types: Readonly<Record<string, string>>) => {
  const [, op = "", json = "{}"] = /^(\w+) (\{.*\})$/.exec(text) ?? []
  const values = JSON.parse(json) as Readonly<Record<string, Value>> // written in the page
  return {
    op: operations[op] ?? "Insert",
    values: Object.fromEntries(
      Object.entries(values).map((
        [name, value]
      ) => [name, types[name] === "int64" && value !== null ? BigInt(Number(value)) : value])
    )
  }
}

describe("docs/transforms.md", () => {
  const sections = page.split("\n### ").slice(1).map((section) => section.split("\n## ")[0] ?? "")

  it("has every transform", () => {
    assert.deepStrictEqual(sections.map((section) => /^`(\w+)`/.exec(section)?.[1]).sort(), [...named.keys()].sort())
  })

  for (const section of sections) {
    const name = /^`(\w+)`/.exec(section)?.[1] ?? ""
    it.effect(`${name} does what it says`, () =>
      Effect.gen(function*() {
        const plugin = named.get(name) as unknown as Plugin<"transform", unknown> // a transform
        const options: unknown = JSON.parse(/options: (\{.*\})/.exec(section)?.[1] ?? "")
        const transform = yield* Fixture.make(plugin, options)
        const [, header, rows = ""] = /\| (.* key.*) \| becomes \|\n\| --- \| --- \|\n((?:\|.*\n)*)/.exec(section) ?? []
        if (header === undefined) return
        const types = Object.fromEntries(
          [...header.matchAll(/(\w+) (\w+(?:\([\d,]+\))?)/g)].map(([, column = "", type = ""]) => [column, type])
        )
        const lines = rows.trim().split("\n").map((line) => line.slice(2, -1).split(" |").map((cell) => cell.trim()))
        const made = yield* Fixture.through(
          transform,
          Fixture.table(types),
          lines.map(([before = ""]) => rowOf(before, types))
        )
        const expected = lines.flatMap(([, after]) => after === undefined || after === "" ? [] : [rowOf(after, types)])
        const shown = name === "hash"
          ? made.rows.map(({ op, values }) => ({
            op,
            values: { ...values, email: String(values["email"]).slice(0, 16) }
          }))
          : made.rows
        assert.deepStrictEqual(shown, expected)
      }))
  }
})

describe("examples of the plugins", () => {
  for (const plugin of named.values()) {
    it.effect(`${plugin.name}: their options are ones`, () =>
      Effect.gen(function*() {
        assert.isNotEmpty(plugin.examples)
        for (const { options } of plugin.examples ?? []) {
          const resolved: unknown = JSON.parse(JSON.stringify(options).replaceAll(/\$\{env:\w+\}/g, Fixture.key))
          yield* Fixture.decode(plugin as unknown as Plugin<"transform", unknown>, resolved) // a transform
        }
      }))
  }
})
