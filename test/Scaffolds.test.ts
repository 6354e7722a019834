/**
 * What `etl-stream plugin new` writes, all the way: projects of all kinds that are built, tried by their conformance suites, packed, installed from these packages elsewhere, and used
 * in one configuration. Nothing of this checkout is used but its packages' tarballs.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as HttpReceiver from "@etl-stream/testkit/HttpReceiver"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as Tarballs from "./Tarballs.ts"

const kinds = ["source", "transform", "sink", "state", "notifier", "deadLetters", "monitor"] as const

/** A scope's name shows that nothing takes a package's name for a folder's, or for the beginning of a name. */
const packageOf = (kind: typeof kinds[number]): string =>
  `${kind === "sink" ? "@acme/" : ""}etl-stream-${kind === "deadLetters" ? "dead-letters" : kind}-trial`

const decode = <A>(schema: Schema.ConstraintDecoder<A>) => Schema.decodeUnknownSync(Schema.fromJsonString(schema))
const decodeMade = decode(Schema.Struct({ ok: Schema.Literal(true), package: Schema.String, directory: Schema.String }))
const decodeList = decode(Schema.Struct({
  plugins: Schema.Array(Schema.Struct({
    name: Schema.String,
    kind: Schema.optionalKey(Schema.String),
    problem: Schema.optionalKey(Schema.String),
    warnings: Schema.optionalKey(Schema.Array(Schema.String))
  }))
}))
const decodeManifest = decode(Schema.Struct({ devDependencies: Schema.Record(Schema.String, Schema.String) }))

const npm = (folder: string, ...args: ReadonlyArray<string>) => Tarballs.succeed("npm", args, folder)

/** Writes the projects as members of one workspace, so that their dependencies are installed once. */
const scaffold = Effect.fnUntraced(function*(tarballs: Tarballs.Tarballs, folder: string) {
  yield* Tarballs.install(tarballs, folder, { devDependencies: { "@etl-stream/runner": "*" } })
  const projects = yield* Effect.forEach(kinds, (kind) =>
    Effect.gen(function*() {
      const name = kind === "sink" ? "@acme/trial" : "trial"
      const args = ["plugin", "new", kind, name, "--directory", `plugins/${kind}`, "--json"]
      const { code, stderr, stdout } = yield* Tarballs.binary("etl-stream", args, folder)
      assert.strictEqual(code, 0, `${stdout}${stderr}`)
      const made = decodeMade(stdout)
      assert.strictEqual(made.package, packageOf(kind))
      return { kind, folder: made.directory }
    }))
  const { devDependencies } = decodeManifest(Fs.readFileSync(join(folder, "plugins", "source", "package.json"), "utf8"))
  yield* Tarballs.install(tarballs, folder, { workspaces: ["plugins/*"], devDependencies })
  return projects
})

/** Builds, checks and tries a project as its README says, and packs it. */
const publish = Effect.fnUntraced(function*(folder: string, tarballs: string) {
  yield* npm(folder, "run", "check")
  yield* npm(folder, "test")
  // Builds it, too.
  yield* npm(folder, "pack", "--loglevel=error", "--pack-destination", tarballs)
  // The whole suite has been run from the sources: here it is about what was built.
  const tried = yield* Tarballs.binary("etl-stream", ["plugin", "test", "--only", "refuses"], folder)
  assert.strictEqual(tried.code, 0, `${tried.stdout}${tried.stderr}`)
})

const configuration = (alerts: string) => ({
  apiVersion: 1,
  state: { plugin: packageOf("state"), options: { file: "./state.db" } },
  notifiers: { receiver: { plugin: packageOf("notifier"), options: { url: alerts, token: "${env:ALERTS_TOKEN}" } } },
  alerts: [{ when: "pipeline-failed", to: ["receiver"] }],
  monitors: {
    folder: { plugin: packageOf("monitor"), options: { directory: "./watched", limit: "1KiB", every: "50 millis" } }
  },
  pipelines: {
    // The examples of the project of dead letters.
    users: {
      source: { plugin: "./example/numbers.ts" },
      deadLetters: { plugin: packageOf("deadLetters"), options: { file: "./letters.db" } },
      sink: { plugin: "./example/picky.ts" }
    },
    notes: {
      source: { plugin: packageOf("source"), options: { file: "./notes.ndjson", every: "50 millis" } },
      transforms: [{ plugin: packageOf("transform"), options: { column: "note", into: "domain" } }],
      sink: {
        plugin: packageOf("sink"),
        options: { file: "./warehouse.db" },
        batch: { every: "50 millis" }
      }
    }
  }
})

/** The rows of a table of a file of SQLite; none while there is no such table. */
const rowsIn = (file: string, table: string): ReadonlyArray<unknown> => {
  if (!Fs.existsSync(file)) return []
  const database = new DatabaseSync(file, { readOnly: true })
  try {
    const there = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = ?").get(table)
    return there === undefined
      ? []
      : database.prepare(`SELECT * FROM "${table}" ORDER BY 1`).all().map((row) => ({ ...row }))
  } finally {
    database.close()
  }
}

/** Waits until the table has these rows. */
const comesToHave = (file: string, table: string, rows: ReadonlyArray<object>) =>
  Effect.try({
    try: () => assert.deepStrictEqual(rowsIn(file, table), rows),
    catch: (cause) => cause
  }).pipe(Effect.retry({ schedule: Schedule.spaced("100 millis"), times: 300 }))

/** Waits until a program has written the text. */
const comesToSay = (program: ChildProcess.ChildProcess, text: string) =>
  Effect.try({
    try: () => assert.include(program.output(), text),
    catch: (cause) => cause
  }).pipe(Effect.retry({ schedule: Schedule.spaced("100 millis"), times: 300 }))

describe("plugins made by `etl-stream plugin new`", () => {
  it.live(
    "are built, pass their suites, and work together where they are installed as packages",
    () =>
      Effect.gen(function*() {
        const tarballs = yield* Tarballs.packed
        const home = yield* Tarballs.temporaryFolder
        const projects = yield* scaffold(tarballs, join(home, "workspace"))
        const packed = join(home, "packed")
        Fs.mkdirSync(packed)
        yield* Effect.forEach(projects, ({ folder }) => publish(folder, packed), { concurrency: 2 })

        const project = join(home, "project")
        const fileOf = (kind: typeof kinds[number]) =>
          join(packed, `${packageOf(kind).replace("@", "").replace("/", "-")}-0.1.0.tgz`)
        yield* Tarballs.install(tarballs, project, {
          dependencies: {
            "@etl-stream/runner": "*",
            ...Object.fromEntries(kinds.map((kind) => [packageOf(kind), `file:${fileOf(kind)}`]))
          }
        })
        const etlStream = (...args: ReadonlyArray<string>) =>
          Effect.tap(
            Tarballs.binary("etl-stream", args, project, { ALERTS_TOKEN: "secret" }),
            ({ code, stderr, stdout }) => Effect.sync(() => assert.strictEqual(code, 0, `${stdout}${stderr}`))
          )

        const { plugins } = decodeList((yield* etlStream("plugin", "list", "--json")).stdout)
        for (const kind of kinds) {
          const listed = plugins.find(({ name }) => name === packageOf(kind))
          assert.strictEqual(listed?.kind, kind, JSON.stringify(plugins))
          assert.isUndefined(listed?.problem)
          assert.deepStrictEqual(listed?.warnings ?? [], [])
        }

        for (const { folder, kind } of projects) {
          if (kind === "deadLetters") Fs.cpSync(join(folder, "example"), join(project, "example"), { recursive: true })
        }
        const watched = join(project, "watched")
        Fs.mkdirSync(watched)
        const receiver = yield* HttpReceiver.start
        const file = join(project, "etl-stream.yaml")
        Fs.writeFileSync(file, JSON.stringify(configuration(receiver.url)))
        yield* etlStream("validate", file)
        yield* etlStream("alert", "test", file)
        assert.strictEqual(receiver.requests.length, 2)
        assert.strictEqual(receiver.requests[0]?.headers.authorization, "Bearer secret")

        const notes = join(project, "notes.ndjson")
        const warehouse = join(project, "warehouse.db")
        Fs.writeFileSync(
          notes,
          `{"insert": {"id": 1, "note": "Ada@Example.com"}}\n{"insert": {"id": 2, "note": null}}\n`
        )
        const run = () =>
          ChildProcess.start({
            name: "the runner",
            command: join(project, "node_modules", ".bin", "etl-stream"),
            args: ["run", file],
            cwd: project,
            env: { ALERTS_TOKEN: "secret" }
          })
        const first = yield* run()
        yield* comesToHave(warehouse, "files.notes", [
          { id: 1, note: "Ada@Example.com", domain: "example.com" },
          { id: 2, note: null, domain: null }
        ])
        Fs.appendFileSync(notes, `{"remove": {"id": 2}}\n{"insert": {"id": 3, "note": "grace@navy.example"}}\n`)
        const later = [
          { id: 1, note: "Ada@Example.com", domain: "example.com" },
          { id: 3, note: "grace@navy.example", domain: "navy.example" }
        ]
        yield* comesToHave(warehouse, "files.notes", later)
        Fs.writeFileSync(join(watched, "large"), "x".repeat(2000))
        yield* comesToSay(first, "folder-large")
        yield* comesToSay(first, "(a dead letter)")
        assert.deepStrictEqual(yield* first.kill("SIGTERM"), { code: 0, signal: null }, first.output())
        const letters = (yield* etlStream("dlq", "show", file, "--pipeline", "users", "--json")).stdout
        assert.include(letters, "User2@Example.com")
        assert.isNotEmpty(rowsIn(join(project, "state.db"), "state"))

        // It goes on where it was: what changed meanwhile comes, and nothing is read from the beginning.
        Fs.appendFileSync(notes, `{"update": {"id": 3, "note": "grace@example.com"}}\n`)
        const second = yield* run()
        yield* comesToHave(warehouse, "files.notes", [
          { id: 1, note: "Ada@Example.com", domain: "example.com" },
          { id: 3, note: "grace@example.com", domain: "example.com" }
        ])
        assert.deepStrictEqual(yield* second.kill("SIGTERM"), { code: 0, signal: null }, second.output())
      }).pipe(Effect.scoped),
    600_000
  )
})
