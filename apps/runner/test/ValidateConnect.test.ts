import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import { join } from "node:path"
import * as Configuration from "../src/Configuration.ts"
import * as TablePlan from "../src/TablePlan.ts"
import * as Command from "./CommandFixture.ts"
import { Server } from "./DatabaseFixture.ts"
import * as Fixture from "./Fixture.ts"

const withTransforms = (directory: string): void =>
  Fs.copyFileSync(join(import.meta.dirname, "TransformPlugins.ts"), join(directory, "transforms.ts"))

const scenario = (name: string, test: (directory: string) => Effect.Effect<void, unknown, Scope.Scope>) =>
  Command.scenario(name, (directory) =>
    Effect.suspend(() => {
      withTransforms(directory)
      return test(directory)
    }))

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
  readonly remedy: string
}

const connect = Effect.fnUntraced(function*(directory: string, text: string) {
  const file = Fixture.write(directory, "etl.yaml", text)
  const ended = yield* Fixture.run(["validate", file, "--connect", "--json"])
  const data = Command.envelope(ended)
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
          { name: "id", type: "int64", sourceType: "bigint", nullable: false },
          { name: "price", type: "decimal(12,2)", sourceType: "numeric(12,2)", nullable: true }
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
        assert.include(ended.stdout, "etl.yaml is valid, and fits its tables: 1 pipeline\n")
        assert.include(ended.stdout, "  sales.items -> shop.items\n    id int64 not null\n    price decimal(12,2)\n")
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
          remedy: "Mend it."
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
    "plugins that throw instead of giving an effect are told like those that fail, each with its place",
    (directory) =>
      Effect.gen(function*() {
        const moves = (options: string) => `[{plugin: "./transforms.ts:moves", options: {${options}}}]`
        const source = yield* connect(directory, plan("names: [], throws: true"))
        assert.deepStrictEqual([source.code, source.problems.length], [1, 1])
        assert.deepInclude(source.problems[0], { path: "pipelines.shop.source", code: "Internal" })
        assert.notInclude(JSON.stringify(source), "4711")
        // As the remedy says.
        const file = join(directory, "etl.yaml")
        const debugged = yield* Fixture.run(["validate", file, "--connect", "--log-level", "debug"])
        assert.match(debugged.stderr, /transforms\.ts:tables threw TypeError/)
        const table = yield* connect(directory, plan("names: [a.one, a.two]", moves("throws: one")))
        assert.deepStrictEqual(
          [table.code, table.problems.map(({ code, path, table }) => [path, table, code])],
          [1, [["pipelines.shop.transforms[0]", "a.one", "Internal"]]]
        )
        assert.deepStrictEqual(table.pipelines[0]?.tables.map(({ target }) => target), [null, "a.two"])
        const made = yield* connect(directory, plan("names: [a.one]", moves("throws: make")))
        assert.deepStrictEqual([made.code, made.problems[0]?.path], [1, "pipelines.shop.transforms[0]"])
      })
  )

  scenario("a source that never answers is told after a while", (directory) =>
    Effect.gen(function*() {
      const file = Fixture.write(directory, "etl.yaml", plan("names: [], hangs: true"))
      const configuration = yield* Configuration.load(file, { environment: {}, offline: false })
      const [pipeline] = configuration?.pipelines ?? []
      const planned = pipeline === undefined ? undefined : yield* TablePlan.make(pipeline, directory).pipe(
        Effect.provideService(TablePlan.AnswerLimit, "50 millis")
      )
      assert.deepInclude(planned?.problems[0], {
        path: ["pipelines", "shop", "source"],
        code: "Unreachable",
        exitCode: 3
      })
    }))

  scenario(
    "a source that can't tell its tables is a warning, and nothing is asked offline",
    (directory) =>
      Effect.gen(function*() {
        const { code, warnings } = yield* connect(directory, Fixture.onePipeline(""))
        assert.strictEqual(code, 0)
        assert.include(warnings[0]?.message, "can't tell its tables")
        const text = yield* Fixture.run(["validate", join(directory, "etl.yaml"), "--connect"])
        assert.match(text.stdout, /etl\.yaml is valid: 1 pipeline\n$/)
        const both = yield* Fixture.run(["validate", join(directory, "etl.yaml"), "--connect", "--offline"])
        assert.strictEqual(both.code, 2)
        assert.include(both.stderr, "--offline")
      })
  )
})

layer(Server.layer, { excludeTestServices: true })("validate --connect", (it) => {
  it.effect("asks PostgreSQL's catalog, by a role that may do no more, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const directory = yield* Fixture.folder
      withTransforms(directory)
      yield* Effect.forEach([
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (id bigint PRIMARY KEY, price numeric(12,2))",
        "CREATE TABLE shop.old_orders (id bigint PRIMARY KEY)",
        "CREATE ROLE onlooker LOGIN PASSWORD 'onlooker'"
      ], (statement) => pg.query(statement))
      const traces = pg.query(
        "SELECT (SELECT count(*) FROM pg_replication_slots) AS slots, (SELECT count(*) FROM pg_publication) AS publications"
      )
      const before = yield* traces
      const text = plan("", "[{plugin: \"./transforms.ts:moves\", tables: [shop.*, sale.*], options: {name: orders}}]")
        .replace(
          /source: .*/,
          `source: {plugin: "@etl-stream/source-postgres", options: {url: "${
            pg.urlOf({ user: "onlooker", password: "onlooker" })
          }", tables: [shop.*]}}`
        )
      const { code, pipelines, problems, warnings } = yield* connect(directory, text)
      assert.deepStrictEqual(yield* traces, before)
      assert.strictEqual(code, 2)
      assert.deepStrictEqual(pipelines[0]?.tables.map(({ source, target }) => [source, target]).toSorted(), [
        ["shop.old_orders", "shop.orders"],
        ["shop.orders", "shop.orders"]
      ])
      assert.deepStrictEqual(problems.map(({ path }) => path), ["pipelines.shop.transforms"])
      assert.deepStrictEqual(warnings.map(({ path }) => path), ["pipelines.shop.transforms[0].tables[1]"])
      const away = yield* connect(directory, text.replace(/127\.0\.0\.1:\d+|localhost:\d+/, "127.0.0.1:1"))
      assert.deepStrictEqual([away.code, away.problems[0]?.code], [3, "Unreachable"])
    }))
})
