import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import { join } from "node:path"
import { envelope } from "./CommandFixture.ts"
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

const plan = (source: string, transforms = "[]", name = "shop"): string =>
  `apiVersion: 1
state: {plugin: "./plugins.ts:memory"}
pipelines:
  ${name}:
    source: {plugin: "./transforms.ts:tables", options: {${source}}}
    transforms: ${transforms}
    sink: {plugin: "./plugins.ts:lines", options: {file: ./out.jsonl}}
`

interface Told {
  readonly path: string
  readonly line: number
  readonly pipeline?: string
  readonly table?: string
  readonly code?: string
  readonly message: string
  readonly hint: string
}

const connect = Effect.fnUntraced(function*(directory: string, text: string) {
  const file = Fixture.write(directory, "etl.yaml", text)
  const ended = yield* Fixture.run(["validate", file, "--connect", "--json"])
  const data = envelope(ended)
  assert.strictEqual(data["ok"], ended.code === 0)
  assert.isFalse(Fs.existsSync(join(directory, "out.jsonl")))
  // As the command says.
  return { code: ended.code, ...data } as unknown as {
    readonly code: number
    readonly pipelines: ReadonlyArray<
      { readonly name: string; readonly tables: ReadonlyArray<Record<string, unknown>> }
    >
    readonly problems: ReadonlyArray<Told>
    readonly warnings: ReadonlyArray<Told>
  }
})

describe("validate --connect", () => {
  scenario(
    "shows what becomes of each table, with its columns, as text and as JSON",
    (directory) =>
      Effect.gen(function*() {
        const text = plan(
          "names: [public.orders, public.log, sales.items]",
          "[{plugin: \"./transforms.ts:moves\", options: {without: log}}, {plugin: \"./transforms.ts:moves\", tables: [sales.*], options: {schema: shop}}]"
        )
        const { code, pipelines, problems, warnings } = yield* connect(directory, text)
        assert.deepStrictEqual([code, problems, warnings], [0, [], []])
        const columns = [
          { name: "id", type: "Int64", sourceType: "bigint", nullable: false },
          { name: "price", type: "Decimal(12,2)", sourceType: "numeric(12,2)", nullable: true }
        ]
        assert.deepStrictEqual(pipelines[0]?.tables, [
          { source: "public.orders", target: "public.orders", columns },
          { source: "public.log", target: null, leftOutBy: 0, columns: [] },
          { source: "sales.items", target: "shop.items", columns }
        ])
        const ended = yield* Fixture.run(["validate", join(directory, "etl.yaml"), "--connect"])
        assert.strictEqual(ended.code, 0, ended.stderr)
        assert.include(ended.stdout, "shop: 3 tables of ./transforms.ts:tables\n")
        assert.include(ended.stdout, "  public.log -> left out by transforms[0]\n")
        assert.include(ended.stdout, "  sales.items -> shop.items\n    id Int64 not null\n    price Decimal(12,2)\n")
        const without = yield* Fixture.run(["validate", join(directory, "etl.yaml"), "--json"])
        assert.notInclude(without.stdout, "public.orders")
      })
  )

  scenario(
    "tells everything that transforms have against tables at once, with its place",
    (directory) =>
      Effect.gen(function*() {
        const moves = (options: string) => `{plugin: "./transforms.ts:moves", options: {${options}}}`
        const text = plan("names: [a.one, a.two, a.three]", `[${moves("refuses: one")}, ${moves("breaks: two")}]`)
        const { code, pipelines, problems } = yield* connect(directory, text)
        assert.strictEqual(code, 2)
        assert.deepStrictEqual(problems.map(({ code, path, table }) => [path, table, code]), [
          ["pipelines.shop.transforms[0]", "a.one", "Unsupported"],
          ["pipelines.shop.transforms[1]", "a.two", "Internal"]
        ])
        assert.deepInclude(problems[0], {
          line: 6,
          pipeline: "shop",
          message: "the column price can't be moved",
          hint: "Mend it."
        })
        assert.notInclude(JSON.stringify(problems), "4711")
        assert.deepStrictEqual(pipelines[0]?.tables.map(({ target }) => target), [null, null, "a.three"])
      })
  )

  scenario("two tables that would be written to one are a problem", (directory) =>
    Effect.gen(function*() {
      const text = plan(
        "names: [a.t, b.t, c.u]",
        "[{plugin: \"./transforms.ts:moves\", tables: [b.*], options: {schema: a}}]"
      )
      const { code, problems } = yield* connect(directory, text)
      assert.strictEqual(code, 2)
      assert.deepStrictEqual(problems.map(({ message, path }) => [path, message]), [
        ["pipelines.shop.transforms", "The tables a.t and b.t would both be written to a.t."]
      ])
    }))

  scenario(
    "patterns that match nothing are warnings, unless it isn't known what would have come",
    (directory) =>
      Effect.gen(function*() {
        const stage = (tables: string, options = "") =>
          `{plugin: "./transforms.ts:moves", tables: [${tables}], options: {${options}}}`
        const right = yield* connect(
          directory,
          plan("names: [a.t]", `[${stage("a.*, A.T", "schema: b")}, ${stage("a.t")}]`)
        )
        assert.strictEqual(right.code, 0)
        assert.deepStrictEqual(right.warnings.map(({ path }) => path), [
          "pipelines.shop.transforms[0].tables[1]",
          "pipelines.shop.transforms[1].tables[0]"
        ])
        assert.include(right.warnings[0]?.message, "matches A.T")
        const wrong = yield* connect(
          directory,
          plan("names: [a.t]", `[${stage("a.*", "refuses: t")}, ${stage("b.t")}]`)
        )
        assert.deepStrictEqual([wrong.code, wrong.warnings], [2, []])
      })
  )

  scenario(
    "a source or transform that can't be asked is told, without secrets, with the exit code of its trouble",
    (directory) =>
      Effect.gen(function*() {
        const away = yield* connect(directory, plan("names: [], password: s3cr3t-value, fails: Unreachable"))
        assert.strictEqual(away.code, 3)
        assert.deepInclude(away.problems[0], {
          path: "pipelines.shop.source",
          code: "Unreachable",
          message: "refused with <redacted>"
        })
        const unmade = (reason: string) =>
          plan("names: [a.t]", `[{plugin: "./transforms.ts:moves", options: {unmade: ${reason}}}]`)
        const outside = yield* connect(directory, unmade("Unauthorized"))
        assert.deepStrictEqual([outside.code, outside.problems.length], [3, 1])
        assert.strictEqual((yield* connect(directory, unmade("Rejected"))).code, 2)
      })
  )

  scenario(
    "a source that can't tell its tables is a warning, and nothing is asked offline",
    (directory) =>
      Effect.gen(function*() {
        const { code, warnings } = yield* connect(directory, Fixture.onePipeline(""))
        assert.strictEqual(code, 0)
        assert.include(warnings[0]?.message, "can't tell its tables")
        const both = yield* Fixture.run(["validate", join(directory, "etl.yaml"), "--connect", "--offline"])
        assert.strictEqual(both.code, 2)
        assert.include(both.stderr, "--offline")
      })
  )
})
