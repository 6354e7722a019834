/**
 * `etl-stream plugin test` as a command, on packages that tests write.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { basename, join } from "node:path"
import * as ConformanceModule from "../src/ConformanceModule.ts"
import * as PluginLoader from "../src/PluginLoader.ts"
import { envelope, errorOf, scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

/** A suite without the kit: what the command goes by is its form. */
const suites = `
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { appendFileSync } from "node:fs"

const note = (text: string) => Effect.sync(() => appendFileSync(new URL("./notes.txt", import.meta.url), text + "\\n"))
const suite = (plugin: string, cases: ReadonlyArray<{ name: string, run: Effect.Effect<void, unknown, any>, skipped?: string }>) =>
  ({ kind: "sink", plugin, timeout: Duration.seconds(2), cases: cases.map((one) => ({ skipped: undefined, ...one })) })
`

const good = `${suites}
export const conformance = [
  suite("good", [
    { name: "writes rows", run: Effect.void },
    { name: "resumes copies", run: Effect.die("never tried"), skipped: "it can't" }
  ]),
  suite("other", [{ name: "writes nothing", run: Effect.void }])
]`

const bad = `${suites}
export const conformance = suite("bad", [
  { name: "compares", run: Effect.sync(() => assert.deepEqual({ rows: 1 }, { rows: 2 })) },
  { name: "fails", run: Effect.fail({ _tag: "ConnectorError", reason: "Rejected", plugin: "bad", message: "It is refused", hint: "Mend it." }) },
  { name: "hangs", run: Effect.never.pipe(Effect.onInterrupt(() => note("hangs was ended"))) },
  { name: "goes on", run: Effect.void }
])`

/** Writes a package and gives its folder. */
const pack = (directory: string, name: string, conformance: string | undefined, module?: string): string => {
  const folder = join(directory, name)
  Fs.mkdirSync(folder, { recursive: true })
  if (module !== undefined) Fs.writeFileSync(join(folder, "conformance.ts"), module)
  const manifest = { apiVersion: 1, ...(conformance === undefined ? {} : { conformance }) }
  Fs.writeFileSync(
    join(folder, "package.json"),
    JSON.stringify({ name: basename(name), type: "module", "etl-stream": manifest })
  )
  return folder
}

interface Case {
  readonly name: string
  readonly status: string
  readonly reason?: string
  readonly failure?: { readonly message: string; readonly expected?: string; readonly actual?: string }
}

const casesOf = (data: Record<string, unknown>): ReadonlyArray<Case> =>
  (data["suites"] as ReadonlyArray<{ readonly cases: ReadonlyArray<Case> }>).flatMap(({ cases }) => cases) // the command's own envelope

describe("plugin test", () => {
  scenario(
    "runs the suites that a package's manifest names, tells each case, and exits with 0",
    (directory) =>
      Effect.gen(function*() {
        const folder = pack(directory, "good", "./conformance.ts", good)
        const text = yield* Fixture.run(["plugin", "test", folder])
        assert.strictEqual(text.code, 0, text.stderr)
        assert.match(
          text.stdout,
          /good, conformance of its sink\n {2}✓ writes rows \(.*\)\n {2}- resumes copies: not tried, it can't\n/
        )
        assert.include(text.stdout, "2 passed, 1 not tried.")
        const json = envelope(yield* Fixture.run(["plugin", "test", folder, "--json"]))
        assert.deepInclude(json, { ok: true, command: "plugin test", plugin: "good", passed: 2, failed: 0, skipped: 1 })
        assert.deepStrictEqual(casesOf(json).map(({ name, status }) => [name, status]), [
          ["writes rows", "passed"],
          ["resumes copies", "skipped"],
          ["writes nothing", "passed"]
        ])
        const only = envelope(yield* Fixture.run(["plugin", "test", folder, "--only", "NOTHING", "--json"]))
        assert.deepStrictEqual(casesOf(only).map(({ name }) => name), ["writes nothing"])
        assert.strictEqual((yield* Fixture.run(["plugin", "test", folder, "--only", "absent"])).code, 2)
      })
  )

  scenario(
    "exits with 1 when a case fails, with what was expected, and goes on after one that hangs",
    (directory) =>
      Effect.gen(function*() {
        const folder = pack(directory, "bad", "./conformance.ts", bad)
        const text = yield* Fixture.run(["plugin", "test", folder])
        assert.strictEqual(text.code, 1)
        for (
          const part of [
            "✗ compares",
            "expected: { rows: 2 }",
            "actual:   { rows: 1 }",
            "Rejected: It is refused",
            "-> Mend it.",
            "It was not over after 2s",
            "✓ goes on",
            "1 passed, 3 failed."
          ]
        ) assert.include(text.stdout, part)
        assert.include(Fs.readFileSync(join(folder, "notes.txt"), "utf8"), "hangs was ended")
        const json = envelope(yield* Fixture.run(["plugin", "test", folder, "--only", "compares", "--json"]))
        assert.deepInclude(json, { ok: false, exitCode: 1, failed: 1 })
        assert.deepInclude(casesOf(json)[0]?.failure, { expected: "{ rows: 2 }", actual: "{ rows: 1 }" })
      })
  )

  scenario(
    "exits with 2 without suites and 3 when they can't be loaded, and says what to do",
    (directory) =>
      Effect.gen(function*() {
        for (
          const [plugin, code, kind, message] of [
            [pack(directory, "unnamed", undefined), 2, "NoConformance", "names no conformance suites"],
            [join(directory, "absent"), 2, "NoConformance", "no file or folder"],
            ["etl-stream-absent", 2, "NoConformance", "is not installed"],
            [
              pack(directory, "empty", "./conformance.ts", "export const other = 1"),
              2,
              "NoConformance",
              "exports no `conformance`"
            ],
            [
              pack(directory, "odd", "./conformance.ts", "export const conformance = [{ cases: [] }]"),
              2,
              "NoConformance",
              "are no suites"
            ],
            [pack(directory, "unbuilt", "./dist/conformance.js"), 3, "PluginUnloadable", "isn't there"],
            [
              pack(directory, "broken", "./conformance.ts", "throw new Error(\"it is broken\")"),
              3,
              "PluginUnloadable",
              "conformance.ts:1: it is broken"
            ],
            [
              pack(directory, "needy", "./conformance.ts", "import \"absent-kit\""),
              3,
              "PluginUnloadable",
              "needs the package absent-kit"
            ]
          ] as const
        ) {
          const ended = yield* Fixture.run(["plugin", "test", plugin, "--json"])
          const error = errorOf(ended)
          assert.deepStrictEqual([ended.code, error["code"]], [code, kind], plugin)
          assert.include(String(error["message"]), message)
          assert.notStrictEqual(error["hint"], "")
        }
      })
  )

  scenario("gives a module that waits for ever up", (directory) =>
    Effect.gen(function*() {
      const folder = pack(directory, "waits", "./conformance.ts", "await new Promise(() => {})")
      const error = yield* Effect.flip(ConformanceModule.load(folder, directory)).pipe(
        Effect.provideService(PluginLoader.LoadLimit, "100 millis")
      )
      assert.deepInclude(error, { code: "PluginUnloadable", exitCode: 3 })
      assert.match(error.message, /waits is still loading/)
    }))

  scenario(
    "finds installed packages by name, and the package around the current folder",
    (directory) =>
      Effect.gen(function*() {
        // Suites of an installed package are JavaScript.
        const installed = pack(directory, "node_modules/etl-stream-good", "./conformance.js")
        Fs.writeFileSync(
          join(installed, "conformance.js"),
          "import * as Duration from \"effect/Duration\"; import * as Effect from \"effect/Effect\"; export const conformance = { kind: \"sink\", plugin: \"installed\", timeout: Duration.seconds(1), cases: [{ name: \"is\", run: Effect.void, skipped: undefined }] }"
        )
        const here = pack(directory, "here", "./conformance.ts", good)
        Fs.mkdirSync(join(here, "src"))
        for (
          const [args, cwd, name] of [[["etl-stream-good"], here, "etl-stream-good"], [
            [],
            join(here, "src"),
            "here"
          ]] as const
        ) {
          const ended = yield* Fixture.run(["plugin", "test", ...args, "--json"], { cwd })
          assert.strictEqual(ended.code, 0, ended.stdout)
          assert.strictEqual(envelope(ended)["plugin"], name)
        }
      })
  )

  scenario("ends the case that runs when it is interrupted, and says so", (directory) =>
    Effect.gen(function*() {
      const slow = bad.replace("Duration.seconds(2)", "Duration.minutes(5)")
      const folder = pack(directory, "slow", "./conformance.ts", slow)
      const running = yield* Fixture.start(["plugin", "test", folder])
      yield* running.stdoutHas("✗ fails")
      yield* Effect.sync(() => running.child.kill("SIGINT"))
      const ended = yield* running.ended
      assert.strictEqual(ended.code, 1)
      assert.include(ended.stdout, "0 passed, 2 failed, interrupted.")
      assert.include(Fs.readFileSync(join(folder, "notes.txt"), "utf8"), "hangs was ended")
      assert.notInclude(ended.stdout, "goes on")
    }))
})
