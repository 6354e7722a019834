import { assert, describe } from "@effect/vitest"
import * as Progress from "@etl-stream/core/Progress"
import * as Telemetry from "@etl-stream/core/Telemetry"
import * as Monitors from "@etl-stream/runner/Monitors"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { errorOf, scenario as commandScenario } from "./CommandFixture.ts"
import { load, loaded, only, problems } from "./ConfigurationFixture.ts"
import * as Fixture from "./Fixture.ts"

const scenario: typeof commandScenario = (name, test) =>
  commandScenario(name, (directory) => Effect.provideService(test(directory), References.MinimumLogLevel, "None"))

/** A configuration with monitors, given as YAML in flow style. */
const withMonitors = (monitors: Readonly<Record<string, string>>): string =>
  `${Fixture.onePipeline("")}monitors:\n${
    Object.entries(monitors).map(([name, options]) =>
      `  ${name}: {plugin: "./plugins.ts:watcher", options: {${options}}}\n`
    ).join("")
  }`

const state = {
  get: () => Effect.succeed(Option.none()),
  list: () => Effect.succeed([]),
  compareAndSet: () => Effect.succeed(Option.some("1")),
  remove: () => Effect.void,
  now: Clock.currentTimeMillis
}

const retry = { initial: "10 millis", cap: "20 millis" } as const

const runs = (directory: string, name: string): number =>
  Fs.existsSync(join(directory, `${name}.runs`))
    ? Fs.readFileSync(join(directory, `${name}.runs`), "utf8").trim().split("\n").length
    : 0

const until = (condition: () => boolean) =>
  Effect.gen(function*() {
    while (!condition()) yield* Effect.sleep(5)
  }).pipe(Effect.timeout("20 seconds"), Effect.orDie)

const named = (monitors: Monitors.Monitors) =>
  monitors.monitors().map(({ conditions, name }) => [name, conditions.map(({ name }) => name)])

describe("monitors", () => {
  scenario(
    "run beside the pipelines, and are seen with their conditions and status",
    (directory) =>
      Effect.gen(function*() {
        const configuration = yield* loaded(load(directory, withMonitors({ a: "condition: trouble", b: "" })))
        const asked: Array<boolean> = []
        const progress = Progress.make("numbers")
        const control = {
          pauseCopies: (paused: boolean) => Effect.sync(() => void asked.push(paused)),
          copiesPaused: () => false,
          spool: () => Effect.void,
          isSpooling: () => false,
          quarantine: () => Effect.void,
          blocking: () => []
        }
        const supervised = [{ name: "numbers", progress, control }]
        const gauge = Metric.value(Telemetry.monitorConditionOf("a", "trouble", undefined, "all"))
        const scope = yield* Scope.make()
        const monitors = yield* Monitors.start(configuration, {
          state,
          pipelines: () => Monitors.pipelinesOf(supervised, () => 0)
        }).pipe(Scope.provide(scope))
        yield* until(() => asked.length === 2)
        assert.deepStrictEqual(named(monitors), [["a", ["trouble"]], ["b", []]])
        assert.deepStrictEqual(monitors.monitors().map(({ status }) => status), [{ nth: 1 }, { nth: 1 }])
        assert.deepInclude(monitors.monitors()[0]?.conditions[0], { subject: "all", severity: "warning" })
        assert.strictEqual((yield* gauge).value, 1)
        yield* Scope.close(scope, Exit.void)
      })
  )

  for (const at of ["make", "run", "defect"]) {
    scenario(
      `that fail (${at}) are a condition and run again, whatever the reason`,
      (directory) =>
        Effect.gen(function*() {
          const configuration = yield* loaded(
            load(directory, withMonitors({ a: `fails: {at: ${at}, times: 3, reason: Misconfigured}`, b: "" }))
          )
          const monitors = yield* Monitors.start(configuration, { state, pipelines: () => [], retry })
          yield* until(() => runs(directory, "a") === 4)
          assert.deepStrictEqual(named(monitors), [["a", ["monitor-failed"]], ["b", []]])
          const [failed] = monitors.monitors()[0]?.conditions ?? []
          assert.strictEqual(failed?.severity, "critical")
          assert.notInclude(failed?.message ?? "", "4711")
          assert.strictEqual(runs(directory, "b"), 1)
        })
    )
  }

  scenario(
    "go over to another configuration: only what changed starts anew, and what is gone takes its conditions with it",
    (directory) =>
      Effect.gen(function*() {
        const before = yield* loaded(
          load(directory, withMonitors({ a: "condition: trouble", b: "condition: more", c: "condition: gone" }))
        )
        const monitors = yield* Monitors.start(before, { state, pipelines: () => [] })
        yield* until(() => named(monitors).every(([, conditions]) => conditions?.length === 1))
        const after = yield* loaded(
          load(directory, withMonitors({ d: "condition: new", b: "condition: other", a: "condition: trouble" }))
        )
        yield* monitors.reload(after)
        yield* until(() => named(monitors).every(([, conditions]) => conditions?.length === 1))
        assert.deepStrictEqual(named(monitors), [["d", ["new"]], ["b", ["other"]], ["a", ["trouble"]]])
        assert.deepStrictEqual(["a", "b", "c", "d"].map((name) => runs(directory, name)), [1, 2, 1, 1])
        for (const [name, condition] of [["c", "gone"], ["b", "more"]] as const) {
          const gauge = yield* Metric.value(Telemetry.monitorConditionOf(name, condition, undefined, "all"))
          assert.strictEqual(gauge.value, 0)
        }
      })
  )
})

describe("the section `monitors`", () => {
  scenario("is checked like all others", (directory) =>
    Effect.gen(function*() {
      const unknown = only(yield* problems(directory, withMonitors({ a: "conditon: trouble" })))
      assert.deepInclude(unknown, {
        path: "monitors.a.options.conditon",
        message: "Unknown key `conditon`.",
        remedy: "Did you mean `condition`?"
      })
      const kind = only(
        yield* problems(directory, withMonitors({ a: "" }).replace("./plugins.ts:watcher", "./plugins.ts:memory"))
      )
      assert.include(kind.message, "is a state store; a monitor is needed here")
      const name = only(yield* problems(directory, withMonitors({ "9a": "" })))
      assert.strictEqual(name.path, "monitors[\"9a\"]")
      const both = yield* problems(
        directory,
        withMonitors({ a: "conditon: x" }).replace("apiVersion: 1", "apiVersion: 2")
      )
      assert.deepStrictEqual(both.map(({ path }) => path), ["apiVersion", "monitors.a.options.conditon"])
    }))

  scenario("knows the built-in monitor", (directory) =>
    Effect.gen(function*() {
      const configuration = yield* loaded(load(
        directory,
        `${Fixture.onePipeline("")}monitors:
  pg-main:
    plugin: "@etl-stream/monitor-wal"
    options:
      url: postgresql://user:hunter2@db.example/app
      every: 10 seconds
      slots: [{slot: numbers, pipeline: numbers}]
      budget: 20GiB
      thresholds: {warning: [50%, 4 hours], danger: 15GiB, sustained: 1 minute}
      actions: [{at: 50%, do: alert}, {at: 60%, do: pause-copies}, {at: 70%, do: spool}, {at: 90%, do: quarantine}]
`
      ))
      assert.strictEqual(configuration.monitors[0]?.stage.plugin.kind, "monitor")
      assert.notInclude(configuration.redact("log in with hunter2"), "hunter2")
      const wrong = only(
        yield* problems(
          directory,
          `${
            Fixture.onePipeline("")
          }monitors:\n  pg: {plugin: "@etl-stream/monitor-wal", options: {user: u, actions: [{at: 50, do: alert}]}}\n`
        )
      )
      assert.strictEqual(wrong.path, "monitors.pg.options.actions[0].at")
    }))
})

describe("run with monitors", () => {
  commandScenario(
    "tells their conditions in the log, without secrets, and ends when the pipelines have ended",
    (directory) =>
      Effect.gen(function*() {
        const text = withMonitors({ a: "condition: trouble, password: hunter2" }).replace(
          "options: {}",
          "options: {ends: false, changes: 100000}"
        )
        const file = Fixture.write(directory, "c.yaml", text)
        const running = yield* Fixture.start(["run", file, "--json", "--progress-every", "50 millis"])
        yield* running.stderrHas("\"conditions\":[\"trouble all\"]")
        Fixture.write(directory, "c.yaml", text.replace("condition: trouble", "condition: other"))
        running.child.kill("SIGHUP")
        yield* running.stderrHas("\"conditions\":[\"other all\"]")
        running.child.kill("SIGTERM")
        const ended = yield* running.ended
        assert.strictEqual(ended.code, 0, ended.stderr)
        assert.notInclude(ended.stderr, "hunter2")
        assert.include(ended.stderr, "\"monitor\":\"a\"")
        const ending = yield* Fixture.run(["run", Fixture.write(directory, "d.yaml", withMonitors({ a: "" }))])
        assert.strictEqual(ending.code, 0, ending.stderr)
      })
  )

  commandScenario("ends with 2 when one of them is misconfigured", (directory) =>
    Effect.gen(function*() {
      const ended = yield* Fixture.run([
        "run",
        Fixture.write(directory, "c.yaml", withMonitors({ a: "x: 1" })),
        "--json"
      ])
      assert.strictEqual(ended.code, 2)
      assert.strictEqual(errorOf(ended)["code"], "ConfigurationInvalid")
    }))
})

describe("the built-in monitor", () => {
  commandScenario(
    "watches a real server beside a pipeline; a restart of the process tells nothing anew",
    (directory) =>
      Effect.gen(function*() {
        const server = yield* EmbeddedPostgres.start()
        yield* server.query("SELECT pg_create_logical_replication_slot('numbers', 'pgoutput')")
        yield* server.query("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 24 * 1024 * 1024))")
        const file = Fixture.write(
          directory,
          "c.yaml",
          `${
            Fixture.onePipeline(
              "ends: false",
              undefined,
              "{plugin: \"@etl-stream/state-sqlite\", options: {file: ./s.sqlite}}"
            )
          }monitors:
  pg-main:
    plugin: "@etl-stream/monitor-wal"
    options:
      url: \${env:DATABASE_URL}
      every: 100 millis
      slots: [numbers]
      budget: 40MiB
      thresholds: {warning: 50%, danger: 99%, sustained: 200 millis}
      actions: [{at: 50%, do: alert}]
`
        )
        const remembered = () => {
          const database = new DatabaseSync(join(directory, "s.sqlite"), { readOnly: true, timeout: 10_000 })
          try {
            const row = database.prepare("SELECT value FROM state WHERE key = 'monitors/pg-main/wal'").get()
            if (row === undefined) return []
            const { alarms } = JSON.parse(String(row?.["value"]))
            return alarms.filter(({ raised }: { raised: boolean }) => raised).map((
              { name, since, subject }: Record<string, unknown>
            ) => [name, subject, since])
          } finally {
            database.close()
          }
        }
        const run = Effect.gen(function*() {
          const env = { DATABASE_URL: server.url }
          const running = yield* Fixture.start(["run", file, "--json", "--progress-every", "50 millis"], { env })
          yield* running.stderrHas("slot-wal-warning numbers")
          yield* running.stderrHas("wal-action-alert numbers at 50 % of the budget")
          // What is raised is kept at the end of the look.
          yield* until(() => remembered().length === 2)
          running.child.kill("SIGTERM")
          const ended = yield* running.ended
          assert.strictEqual(ended.code, 0, ended.stderr)
          assert.notInclude(ended.stderr, server.password)
        })
        yield* run
        const before = remembered()
        assert.lengthOf(before, 2)
        yield* run
        assert.deepStrictEqual(remembered(), before)
      })
  )
})
