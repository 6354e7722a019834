/**
 * `etl-stream doctor` as a command, with a real PostgreSQL.
 */
import { assert, layer } from "@effect/vitest"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { join } from "node:path"
import { envelope, errorOf } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

class Server extends Context.Service<Server, EmbeddedPostgres.EmbeddedPostgres>()("runner/test/Server") {
  static readonly layer = Layer.effect(Server, Effect.orDie(EmbeddedPostgres.start()))
}

/** Pipelines from PostgreSQL to the fake sink, which has no checks. */
const pipelines = (of: Readonly<Record<string, { readonly url: string; readonly tables: string }>>): string =>
  `apiVersion: 1
state: {plugin: "./plugins.ts:memory"}
pipelines:
${
    Object.entries(of).map(([name, { tables, url }]) =>
      `  ${name}:
    source: {plugin: "@etl-stream/source-postgres", options: {url: "${url}", tables: ["${tables}"]}}
    sink: {plugin: "./plugins.ts:lines", options: {file: ./${name}.jsonl}}
`
    ).join("")
  }`

interface Finding {
  readonly check: string
  readonly severity: string
  readonly message: string
  readonly remedy: string
  readonly sql: ReadonlyArray<string>
}

interface Envelope {
  readonly ok: boolean
  readonly command: string
  readonly exitCode: number
  readonly critical: number
  readonly unreachable: number
  readonly pipelines: ReadonlyArray<{
    readonly name: string
    readonly source: { readonly findings: ReadonlyArray<Finding>; readonly error?: { readonly code: string } }
    readonly sink: { readonly findings: ReadonlyArray<Finding> }
  }>
}

// The command's own envelope.
const report = (ended: Fixture.Ended): Envelope => envelope(ended) as unknown as Envelope

layer(Server.layer, { excludeTestServices: true })("etl-stream doctor", (it) => {
  it.effect("exits with 2 on a critical finding, shows the SQL, and with 0 once it was run", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const directory = yield* Fixture.folder
      yield* pg.query("CREATE SCHEMA shop; CREATE TABLE shop.t (id int PRIMARY KEY)")
      yield* pg.query("ALTER TABLE shop.t REPLICA IDENTITY NOTHING")
      const file = Fixture.write(
        directory,
        "shop.yaml",
        pipelines({ shop: { url: pg.url, tables: "shop.*" }, other: { url: pg.url, tables: "shop.*" } })
      )
      const text = yield* Fixture.run(["doctor", file, "shop"])
      assert.deepStrictEqual([text.code, text.stderr], [2, ""])
      const statement = "ALTER TABLE \"shop\".\"t\" REPLICA IDENTITY FULL;"
      assert.include(text.stdout, "shop: source @etl-stream/source-postgres\n")
      assert.include(text.stdout, "critical replica-identity: table shop.t has REPLICA IDENTITY NOTHING")
      assert.include(text.stdout, `${statement}\n`)
      assert.include(text.stdout, "ok       wal-level: wal_level is logical")
      assert.include(text.stdout, "shop: sink ./plugins.ts:lines\n")
      assert.include(text.stdout, "1 critical, 1 warning.")
      assert.notInclude(text.stdout, "other:")
      assert.notInclude(text.stdout, "\x1b")
      assert.notInclude(text.stdout, pg.password)

      const json = report(yield* Fixture.run(["doctor", file, "--json"]))
      assert.deepInclude(json, { ok: false, command: "doctor", exitCode: 2, critical: 2, unreachable: 0 })
      assert.deepStrictEqual(json.pipelines.map(({ name }) => name), ["shop", "other"])
      const [finding] = json.pipelines[0]?.source.findings.filter(({ severity }) => severity === "critical") ?? []
      assert.deepInclude(finding, { check: "replica-identity", sql: [statement] })

      yield* pg.query(statement)
      const cured = yield* Fixture.run(["doctor", file, "--json"])
      assert.strictEqual(cured.code, 0, cured.stdout)
      assert.deepInclude(report(cured), { ok: true, exitCode: 0, critical: 0 })
      assert.deepStrictEqual(yield* pg.query("SELECT slot_name FROM pg_replication_slots"), [])
      assert.deepStrictEqual(yield* pg.query("SELECT pubname FROM pg_publication"), [])
      assert.isFalse(Fs.existsSync(join(directory, "shop.jsonl")))
    }))

  it.effect("exits with 3 when a server can't be reached, with 2 when another pipeline has a critical finding", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const directory = yield* Fixture.folder
      yield* pg.query("CREATE SCHEMA far; CREATE TABLE far.t (id int PRIMARY KEY)")
      // Nothing listens at port 1.
      const unreachable = { url: "postgresql://u:hidden-secret@127.0.0.1:1/db", tables: "far.*" }
      const alone = Fixture.write(
        directory,
        "far.yaml",
        pipelines({ near: { url: pg.url, tables: "far.*" }, far: unreachable })
      )
      const text = yield* Fixture.run(["doctor", alone])
      assert.strictEqual(text.code, 3, text.stdout)
      assert.match(text.stdout, /far: source .*\n {2}error {4}connecting to 127\.0\.0\.1:1.*ECONNREFUSED/)
      assert.include(text.stdout, "1 could not be asked")
      assert.notInclude(text.stdout + text.stderr, "hidden-secret")
      const json = report(yield* Fixture.run(["doctor", alone, "--json"]))
      assert.deepInclude(json, { ok: false, exitCode: 3, unreachable: 1 })
      assert.strictEqual(json.pipelines[1]?.source.error?.code, "Unreachable")

      const both = Fixture.write(
        directory,
        "both.yaml",
        pipelines({ near: { url: pg.url, tables: "far.nothing" }, far: unreachable })
      )
      assert.strictEqual((yield* Fixture.run(["doctor", both])).code, 2)
    }))

  it.effect("shows neither a plugin's secrets nor what it throws, and logs to standard error alone", () =>
    Effect.gen(function*() {
      const directory = yield* Fixture.folder
      const checked = (name: string, options: string) =>
        Effect.gen(function*() {
          const file = Fixture.write(
            directory,
            name,
            Fixture.onePipeline("").replace("counter", "examined").replace(/options: \{\}/, `options: {${options}}`)
          )
          return yield* Fixture.run(["doctor", file, "--json"])
        })
      const warned = yield* checked("warned.yaml", "password: hunter2hunter2, severity: warning")
      assert.strictEqual(warned.code, 0, warned.stderr)
      assert.deepInclude(report(warned).pipelines[0]?.source.findings[0], {
        check: "the-check",
        message: "numbers found <redacted>",
        remedy: "forget <redacted>",
        sql: ["SELECT '<redacted>';"]
      })
      assert.include(warned.stderr, "looking with <redacted>")
      const broken = yield* checked("broken.yaml", "password: hunter2hunter2, severity: ok, breaks: true")
      assert.strictEqual(broken.code, 1)
      assert.strictEqual(report(broken).pipelines[0]?.source.error?.code, "Internal")
      for (const ended of [warned, broken]) {
        assert.notMatch(ended.stdout + ended.stderr, /hunter2|4711/)
      }
    }))

  it.effect("gives up a check that doesn't end, says so and what to do, and goes on with the others", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const directory = yield* Fixture.folder
      yield* pg.query("CREATE SCHEMA hung; CREATE TABLE hung.t (id int PRIMARY KEY)")
      // It accepts, and never answers.
      const port = yield* Effect.acquireRelease(
        Effect.callback<{ readonly server: Net.Server; readonly held: Set<Net.Socket> }>((resume) => {
          const held = new Set<Net.Socket>()
          const server = Net.createServer((socket) => held.add(socket.on("error", () => {})))
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, held })))
        }),
        ({ held, server }) =>
          Effect.sync(() => {
            for (const socket of held) socket.destroy()
            server.close()
          })
      ).pipe(Effect.map(({ server }) => {
        const address = server.address()
        return typeof address === "object" && address !== null ? address.port : 0
      }))
      const file = Fixture.write(
        directory,
        "hung.yaml",
        pipelines({
          silent: { url: `postgresql://u:hidden-secret@127.0.0.1:${port}/db`, tables: "hung.*" },
          near: { url: pg.url, tables: "hung.*" }
        }) + ["quick", "stuck"].map((name) =>
          `  ${name}:
    source: {plugin: "./plugins.ts:examined", options: {password: hunter2, severity: ok, hangs: ${name === "stuck"}}}
    sink: {plugin: "./plugins.ts:lines", options: {file: ./${name}.jsonl}}
`
        ).join("")
      )
      // A server's whole list of checks gets the time that it has by default.
      const near = yield* Fixture.run(["doctor", file, "near"])
      assert.include(near.stdout, "ok       wal-level: wal_level is logical", near.stderr)
      assert.notInclude(near.stdout, "could not be asked")
      const hanging = ["doctor", file, "silent", "quick", "stuck", "--check-timeout", "1 second"]
      const text = yield* Fixture.run(hanging)
      assert.strictEqual(text.code, 3, text.stdout + text.stderr)
      for (
        const [pipeline, plugin] of [["silent", "@etl-stream/source-postgres"], ["stuck", "./plugins.ts:examined"]]
      ) {
        const at = text.stdout.indexOf(`${pipeline}: source ${plugin}\n`)
        assert.isAtLeast(at, 0, text.stdout)
        assert.match(
          text.stdout.slice(at),
          /^.*\n {2}error {4}The checks .* not ended within 1s\n +-> .*--check-timeout/
        )
      }
      assert.include(text.stdout, "2 could not be asked")
      assert.notInclude(text.stdout + text.stderr, "hidden-secret")
      const json = report(yield* Fixture.run([...hanging, "--json"]))
      assert.deepInclude(json, { ok: false, exitCode: 3, unreachable: 2 })
      assert.deepStrictEqual(json.pipelines.map(({ name, source }) => [name, source.error?.code]), [
        ["silent", "Unreachable"],
        ["quick", undefined],
        ["stuck", "Unreachable"]
      ])
      assert.isNotEmpty(json.pipelines.find(({ name }) => name === "quick")?.source.findings)
      assert.strictEqual((yield* Fixture.run(["doctor", file, "--check-timeout", "0 seconds"])).code, 2)
    }))

  it.effect("exits with 2 on a wrong configuration and on a pipeline that isn't there", () =>
    Effect.gen(function*() {
      const directory = yield* Fixture.folder
      const good = Fixture.write(directory, "good.yaml", Fixture.onePipeline(""))
      assert.strictEqual((yield* Fixture.run(["doctor", good])).code, 0)
      const unknown = yield* Fixture.run(["doctor", good, "nubmers"])
      assert.strictEqual(unknown.code, 2)
      assert.match(unknown.stderr, /There is no pipeline nubmers\n.*Did you mean numbers\?/)
      const bad = Fixture.write(directory, "bad.yaml", Fixture.onePipeline("rowz: 5"))
      const json = yield* Fixture.run(["doctor", bad, "--json"])
      assert.deepStrictEqual([json.code, errorOf(json)["code"]], [2, "ConfigurationInvalid"])
      assert.include((yield* Fixture.run(["--help"])).stdout, "doctor")
    }))
})
