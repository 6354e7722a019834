import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Database from "./DatabaseFixture.ts"
import { json, literal, pipeline, problemOf, stage, until } from "./DatabaseFixture.ts"

const schema = "etl_stream_config"

const flows = (run: Database.Run, name: string) =>
  Effect.suspend(() => {
    const before = run.lines(name, "change").length
    return until(() => run.lines(name, "change").length > before)
  })

const row = (name: string, source: string, columns = "", values = "") =>
  `INSERT INTO ${schema}.pipelines (name, source, sink${columns}) VALUES (${literal(name)}, ${
    literal(source)
  }, 'good'${values})`

/** Each is a source or pipeline that somebody might write, and what is said about it where. */
const hostile: ReadonlyArray<{
  readonly name: string
  readonly statements: (name: string) => ReadonlyArray<string>
  readonly table: "sources" | "pipelines"
  readonly problem: RegExp
}> = [
  {
    name: "options_list",
    statements: (name) => [stage("sources", name, "./plugins.ts:counter", []), row(name, name)],
    table: "sources",
    problem: /^options: Expected a mapping, got a list\./
  },
  {
    name: "options_null",
    statements: (name) => [stage("sources", name, "./plugins.ts:counter", null), row(name, name)],
    table: "sources",
    problem: /^options: Expected a mapping/
  },
  {
    name: "settings_text",
    statements: (name) => [stage("sources", name, "./plugins.ts:counter", {}, "x"), row(name, name)],
    table: "sources",
    problem: /^`settings` is not a mapping\./
  },
  {
    name: "settings_doubled",
    statements: (
      name
    ) => [stage("sources", name, "./plugins.ts:counter", {}, { plugin: "./other.ts" }), row(name, name)],
    table: "sources",
    problem: /^`settings` says `plugin`, which has a column of its own\./
  },
  {
    name: "plugin_absent",
    statements: (name) => [stage("sources", name, "./absent.ts", {}), row(name, name)],
    table: "sources",
    problem: /^plugin: /
  },
  {
    name: "plugin_empty",
    statements: (name) => [stage("sources", name, "", {}), row(name, name)],
    table: "sources",
    problem: /^plugin: /
  },
  {
    name: "plugin_of_another_kind",
    statements: (name) => [stage("sources", name, "./plugins.ts:lines", { file: "x" }), row(name, name)],
    table: "sources",
    problem: /^plugin: /
  },
  {
    name: "huge",
    statements: (name) => [
      `INSERT INTO ${schema}.sources (name, plugin, options) VALUES (${
        literal(name)
      }, './plugins.ts:counter', jsonb_build_object('tables', repeat('x', 20 * 1024 * 1024)))`,
      row(name, name)
    ],
    table: "sources",
    problem: /^`options` is larger than 1 MiB\./
  },
  {
    name: "deep",
    statements: (name) => [
      stage("sources", name, "./plugins.ts:counter", JSON.parse(`${"{\"a\":".repeat(1000)}1${"}".repeat(1000)}`)),
      row(name, name)
    ],
    table: "sources",
    problem: /^`options` has more than 100 levels\./
  },
  {
    name: "long_key",
    statements: (
      name
    ) => [stage("sources", name, "./plugins.ts:counter", { ["k".repeat(100_000)]: 1 }), row(name, name)],
    table: "sources",
    problem: /^options\.k+: Unknown key `k+/
  },
  {
    name: "proto",
    statements: (name) => [
      `INSERT INTO ${schema}.sources (name, plugin, options) VALUES (${
        literal(name)
      }, './plugins.ts:counter', '{"__proto__": {"rows": 5}, "constructor": 1}')`,
      row(name, name)
    ],
    table: "sources",
    problem: /Unknown key `constructor`/
  },
  {
    name: "transforms_mapping",
    statements: (name) => [row(name, "good", ", transforms", `, '{"plugin": "x"}'`)],
    table: "pipelines",
    problem: /^transforms: Expected a list, got a mapping\./
  },
  {
    name: "transforms_tables",
    statements: (name) => [row(name, "good", ", transforms", `, '[{"plugin": "x", "tables": ["users"]}]'`)],
    table: "pipelines",
    problem: /^transforms\[0\]\.tables\[0\]: Expected a table such as public\.orders, or a pattern/
  },
  {
    name: "transforms_numbers",
    statements: (name) => [row(name, "good", ", transforms", `, '[1, null]'`)],
    table: "pipelines",
    problem: /^transforms\[0\]: /
  },
  {
    name: "unknown_key",
    statements: (name) => [row(name, "good", ", settings", `, '{"onTabelError": "stop"}'`)],
    table: "pipelines",
    problem: /^onTabelError: Unknown key `onTabelError`\. Did you mean `onTableError`\?$/
  },
  {
    name: "status_in_settings",
    statements: (name) => [row(name, "good", ", settings", `, '{"status": "running"}'`)],
    table: "pipelines",
    problem: /^`settings` says `status`/
  },
  ...["two words", "__proto__", "1st", "a".repeat(64), "ä", "x\u0001y", "sources/good", "${env:HOME}"]
    .map((
      name
    ) => ({
      name,
      statements: (name: string) => [row(name, "good")],
      table: "pipelines" as const,
      problem: /is not allowed here/
    }))
]

layer(Database.Server.layer, { excludeTestServices: true })("rows of any kind", (it) => {
  it.effect("are told what is wrong with them, and harm no other", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([
        Database.memoryState,
        ...pipeline("good"),
        ...hostile.flatMap(({ name, statements }) => statements(name))
      ])
      const run = yield* Database.run(database)
      yield* flows(run, "good")
      for (const { name, problem, table } of hostile) {
        yield* until(() => Effect.map(problemOf(database, table, name), (found) => found !== undefined)).pipe(
          Effect.onError(() => Effect.sync(() => assert.fail(`nothing is said of ${name}`)))
        )
        const found = (yield* problemOf(database, table, name)) ?? ""
        assert.match(found, problem, name)
        assert.isAtMost(found.length, 4001)
        if (table === "sources") {
          yield* until(() =>
            Effect.map(
              problemOf(database, "pipelines", name),
              (found) => found?.includes(`Something is wrong with \`sources/${name}\``) === true
            )
          )
        }
      }
      assert.deepStrictEqual(run.supervisor.pipelines().map(({ name }) => name), ["good"])
      assert.isTrue(
        run.logs.every(({ annotations, message }) => message.length + JSON.stringify(annotations).length < 250_000)
      )
      // Names that objects have of their own are names.
      yield* database.query(row("constructor", "good"))
      yield* until(() => run.isRunning("constructor"))
      assert.strictEqual(run.runs("good"), 1)
    }))

  it.effect("of the whole process are refused at the start, and told later", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([
        Database.memoryState,
        ...pipeline("good"),
        `INSERT INTO ${schema}.settings (name, value) VALUES ('memory', '"lots"'), ('pipelines', '{}')`
      ])
      const error = yield* Effect.flip(Database.run(database))
      assert.strictEqual(error.code, "ConfigurationInvalid")
      assert.deepStrictEqual(
        [...error.problems ?? []].map(({ message, row }) => [row, message]).sort(),
        [
          ["settings/memory", error.problems?.find(({ row }) => row === "settings/memory")?.message ?? ""],
          ["settings/pipelines", "This section is none of `settings`."]
        ]
      )
      yield* database.query(`DELETE FROM ${schema}.settings WHERE name IN ('memory', 'pipelines')`)
      const run = yield* Database.run(database)
      yield* flows(run, "good")
      yield* database.query(`INSERT INTO ${schema}.settings (name, value) VALUES ('memory', ${json("lots")})`)
      yield* until(() => Effect.map(problemOf(database, "settings", "memory"), (found) => found !== undefined))
      // Other changes take effect all the same.
      yield* database.transaction(pipeline("added"))
      yield* flows(run, "added")
      yield* database.query(`UPDATE ${schema}.settings SET value = ${json("128MiB")} WHERE name = 'memory'`)
      yield* until(() =>
        Effect.map(problemOf(database, "settings", "memory"), (found) =>
          found === "`memory` can't be changed while pipelines run. It takes effect when etl-stream starts again.")
      )
      yield* database.query(`DELETE FROM ${schema}.settings WHERE name = 'memory'`)
      yield* database.query(`INSERT INTO ${schema}.settings (name, value) VALUES ('nonsense', '1')`)
      yield* until(() =>
        Effect.map(problemOf(database, "settings", "nonsense"), (found) =>
          found !== undefined)
      )
      assert.strictEqual(run.runs("good"), 1)
    }))

  it.effect("a monitor or notifier that is wrong keeps nothing from starting", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([
        Database.memoryState,
        ...pipeline("good"),
        stage("monitors", "absent", "./absent.ts", {}),
        stage("notifiers", "text", "./absent.ts", {}, "x")
      ])
      const run = yield* Database.run(database)
      yield* flows(run, "good")
      yield* until(() => Effect.map(problemOf(database, "monitors", "absent"), (found) => found !== undefined))
      yield* until(() => Effect.map(problemOf(database, "notifiers", "text"), (found) => found !== undefined))
      yield* database.query(`DELETE FROM ${schema}.monitors`)
      yield* database.transaction(pipeline("added"))
      yield* flows(run, "added")
      assert.strictEqual(run.runs("good"), 1)
    }))

  it.effect("can't be larger than a message of the protocol without being told so", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([Database.memoryState, ...pipeline("good")])
      const run = yield* Database.run(database)
      yield* flows(run, "good")
      yield* database.query(
        `UPDATE ${schema}.pipelines SET problem = repeat('p', 30 * 1024 * 1024) WHERE name = 'good'`
      )
      yield* database.transaction(pipeline("added"))
      yield* flows(run, "added")
      yield* until(() => Effect.map(problemOf(database, "pipelines", "good"), (found) => found === undefined))
      assert.strictEqual(run.runs("good"), 1)
    }))
})
