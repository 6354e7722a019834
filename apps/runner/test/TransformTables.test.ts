import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import { join } from "node:path"
import * as Command from "./CommandFixture.ts"
import { load, loaded, only, problems } from "./ConfigurationFixture.ts"
import * as Fixture from "./Fixture.ts"

const scenario = (name: string, test: (directory: string) => Effect.Effect<void, unknown, Scope.Scope>) =>
  Command.scenario(name, (directory) =>
    Effect.suspend(() => {
      Fs.copyFileSync(join(import.meta.dirname, "TransformPlugins.ts"), join(directory, "transforms.ts"))
      return test(directory)
    }))

const withTransforms = (transforms: string): string =>
  `${Fixture.onePipeline("tables: [numbers, letters]")}    transforms: ${transforms}\n`

describe("`tables` of a transform", () => {
  scenario(
    "are patterns for tables by the names that they have when they come to it",
    (directory) =>
      Effect.gen(function*() {
        const file = Fixture.write(
          directory,
          "etl.yaml",
          withTransforms(
            "[{plugin: \"./transforms.ts:moves\", tables: [public.num*], options: {name: figures}}, " +
              "{plugin: \"./transforms.ts:moves\", tables: [public.numbers], options: {without: numbers}}, " +
              "{plugin: \"./transforms.ts:moves\", tables: [public.figures, x.y], options: {name: counted}}]"
          )
        )
        const ended = yield* Fixture.run(["run", file])
        assert.strictEqual(ended.code, 0, ended.stderr)
        const written = Fixture.written(directory)
        assert.deepStrictEqual(
          [...new Set(written.flatMap(({ table }) => table ?? []))].toSorted(),
          ["counted", "letters"]
        )
        assert.strictEqual(written.filter(({ kind, table }) => kind === "change" && table === "counted").length, 5)
      })
  )

  scenario(
    "that are no patterns are problems with their places, in a list that has at least one",
    (directory) =>
      Effect.gen(function*() {
        const found = yield* problems(
          directory,
          withTransforms("[{plugin: \"./transforms.ts:moves\", tables: [public.users, users, 'a.b.c', 5]}]")
        )
        assert.deepStrictEqual(
          found.map(({ path }) => path),
          [1, 2, 3].map((index) => `pipelines.numbers.transforms[0].tables[${index}]`)
        )
        assert.include(found[0]?.message, "a pattern such as public.* or sales.order_*")
        assert.strictEqual(
          only(yield* problems(directory, withTransforms("[{plugin: \"./transforms.ts:moves\", tables: []}]"))).path,
          "pipelines.numbers.transforms[0].tables"
        )
        const misspelt = only(
          yield* problems(directory, withTransforms("[{plugin: \"./transforms.ts:moves\", table: [a.b]}]"))
        )
        assert.strictEqual(misspelt.remedy, "Did you mean `tables`?")
        const { pipelines } = yield* loaded(load(directory, withTransforms("[{plugin: \"./transforms.ts:moves\"}]")))
        assert.isUndefined(pipelines[0]?.transforms[0]?.tables)
      })
  )
})
