import { assert, layer } from "@effect/vitest"
import * as Tables from "@etl-stream/runner/database/Tables"
import * as EncryptedSecret from "@etl-stream/runner/EncryptedSecret"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { execFileSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import { envelope, errorOf } from "./CommandFixture.ts"
import * as Database from "./DatabaseFixture.ts"
import { pipeline, until } from "./DatabaseFixture.ts"
import * as Fixture from "./Fixture.ts"

const schema = "etl_stream_config"

const yaml = (options: string) =>
  `apiVersion: 1
state: {plugin: "./plugins.ts:memory"}
sinks:
  out: {plugin: "./plugins.ts:lines", options: {file: ./out.jsonl}, batch: {every: 5 millis}}
pipelines:
  numbers:
    source: {plugin: "./plugins.ts:counter", options: {ends: false, changes: 100000, ${options}}}
    sink: out
`

const changes = (directory: string) => Fixture.written(directory).filter(({ kind }) => kind === "change").length

layer(Database.Server.layer, { excludeTestServices: true })("the commands of the configuration database", (it) => {
  const scenario = (
    name: string,
    test: (
      directory: string,
      database: Database.Database
    ) => Effect.Effect<void, unknown, Scope.Scope | Database.Server>
  ) =>
    it.effect(name, () =>
      Effect.gen(function*() {
        yield* test(yield* Fixture.folder, yield* Database.empty)
      }), { timeout: 180_000 })

  scenario(
    "apply, run and export go between the two forms; secrets stay encrypted and hidden",
    (directory, database) =>
      Effect.gen(function*() {
        const key = randomBytes(32).toString("base64")
        const env = { ETL_STREAM_CONFIG_DB: database.url, ETL_STREAM_CONFIG_KEY: key }
        const file = Fixture.write(directory, "c.yaml", yaml("password: tell-nobody"))

        const refused = yield* Fixture.run(["apply", file, "--json"], { env })
        assert.strictEqual(refused.code, 2)
        const { problems } = errorOf(refused) as { problems: ReadonlyArray<Record<string, unknown>> } // as printed
        assert.deepInclude(problems[0], { path: "pipelines.numbers.source.options.password", line: 7 })
        assert.notInclude(refused.stdout, "tell-nobody")

        const dry = yield* Fixture.run(["apply", file, "--encrypt", "--dry-run"], { env })
        assert.deepStrictEqual([dry.code, dry.stderr], [0, ""])
        assert.include(dry.stdout, "Would change in the database:\n  + settings/state\n")

        const applied = yield* Fixture.run(["apply", file, "--encrypt", "--json"], { env })
        assert.strictEqual(applied.code, 0, applied.stdout)
        const again = yield* Fixture.run(["apply", file, "--encrypt", "--json"], { env })
        assert.deepInclude(envelope(again), { ok: true, changes: [], kept: [] })
        const [source] = yield* database.query(`SELECT options::text AS options FROM ${schema}.sources`)
        assert.match(String(source?.["options"]), /"password": "\$\{enc:v1:[0-9a-f]{8}:[\w-]+\}"/)

        const running = yield* Fixture.start(["run", "--json", "--config-poll", "1 hour"], { cwd: directory, env })
        yield* until(() => changes(directory) > 0)
        yield* database.query(
          `UPDATE ${schema}.sources SET options = options || '{"fails": {"at": "leak", "reason": "Lost"}}' WHERE name = 'numbers'`
        )
        yield* running.stderrHas("refused: <redacted>")
        yield* database.query(`UPDATE ${schema}.sources SET options = options - 'fails' WHERE name = 'numbers'`)
        const before = changes(directory)
        yield* until(() => changes(directory) > before)
        running.child.kill("SIGTERM")
        const ended = yield* running.ended
        assert.strictEqual(ended.code, 0, ended.stderr)
        const shown = ended.stdout + ended.stderr
        assert.notInclude(shown, "tell-nobody")
        assert.notInclude(shown, key)

        const exported = yield* Fixture.run(["export"], { env })
        assert.strictEqual(exported.code, 0, exported.stderr)
        assert.notInclude(exported.stdout, "tell-nobody")
        const back = Fixture.write(directory, "back.yaml", exported.stdout)
        const round = yield* Fixture.run(["apply", back, "--json", "--prune"], { env })
        assert.deepInclude(envelope(round), { ok: true, changes: [] })
        // The file runs as well as the database.
        assert.strictEqual((yield* Fixture.run(["validate", back], { env })).code, 0)
        // Moved to another pipeline the secret is none.
        const moved = Fixture.write(directory, "moved.yaml", exported.stdout.replace("  numbers:", "  letters:"))
        const misplaced = yield* Fixture.run(["validate", moved], { env })
        assert.strictEqual(misplaced.code, 2)
        assert.include(misplaced.stderr, "encrypted for another place than sources.letters.options.password")
      })
  )

  scenario(
    "run starts with nothing to run, waits for pipelines, and ends when it is told to",
    (directory, database) =>
      Effect.gen(function*() {
        const url = "${file:./url}"
        Fixture.write(directory, "url", `${database.url}\n`)
        const running = yield* Fixture.start(["run", "--config-db", url, "--json"], { cwd: directory })
        yield* running.stderrHas("etl-stream starts")
        yield* database.transaction(pipeline("numbers"))
        yield* until(() => Fixture.written(directory, "numbers.jsonl").some(({ kind }) => kind === "change"))
        yield* database.query(`DELETE FROM ${schema}.pipelines`)
        yield* until(() => Fixture.written(directory, "numbers.jsonl").some(({ kind }) => kind === "settled"))
        running.child.kill("SIGTERM")
        const ended = yield* running.ended
        assert.deepStrictEqual([ended.code, envelope(ended)["pipelines"]], [0, []], ended.stderr)
      })
  )

  scenario("encrypt prints what opens at its place", (directory, database) =>
    Effect.gen(function*() {
      const env = { ETL_STREAM_CONFIG_KEY: randomBytes(32).toString("base64") }
      // As it is spelled out, and as the database has it: the same place.
      for (const place of ["pipelines.shop.source.options.password", "sources.shop.options.password"]) {
        const printed = execFileSync(process.execPath, [Fixture.command, "encrypt", place], {
          env: { PATH: process.env["PATH"], ...env },
          input: "tell-nobody\n",
          encoding: "utf8"
        })
        const body = /^\$\{enc:([^{}]+)\}\n$/.exec(printed)?.[1] ?? ""
        const keys = Result.getOrThrow(EncryptedSecret.keysFrom(env))
        const opened = EncryptedSecret.decrypt(body, ["sources", "shop", "options", "password"], keys)
        assert.strictEqual(Redacted.value(Result.getOrThrow(opened)), "tell-nobody")
      }
      // The same key rotates: nothing is to be done.
      yield* database.provide(Tables.prepare)
      const rotated = yield* Fixture.run(["rotate-key", "--config-db", database.url, "--json"], { cwd: directory, env })
      assert.deepInclude(envelope(rotated), { ok: true, secrets: 0, rows: [] })
    }))

  scenario(
    "what can't be is refused with the remedy, and no password is shown",
    (directory, database) =>
      Effect.gen(function*() {
        const server = yield* Database.Server
        const file = Fixture.write(directory, "c.yaml", yaml(""))
        const wrong = server.urlOf({ user: "postgres", password: "wr0ng-password", database: database.name })
        for (
          const [args, code, message, env] of [
            [["run", file, "--config-db", database.url], 2, "from a file or from a database", {}],
            [["run", "--config-db", database.url, "--watch"], 2, "`--watch` is for files", {}],
            [["export"], 2, "It is not said where the configuration database is", {}],
            [["export", "--config-db", database.url], 3, "are not there", {}],
            [["export"], 3, "refuses the login", { ETL_STREAM_CONFIG_DB: wrong }],
            [["run"], 3, "can't be reached", {
              ETL_STREAM_CONFIG_DB: "postgresql://postgres:s3cret-word@127.0.0.1:1/x"
            }],
            [["apply", file, "--encrypt", "--config-db", database.url], 2, "ETL_STREAM_CONFIG_KEY is not set", {}],
            [["encrypt", "nowhere"], 2, "is not a place", {}]
          ] as const
        ) {
          const ended = yield* Fixture.run(args, { cwd: directory, env })
          assert.strictEqual(ended.code, code, `${args.join(" ")}: ${ended.stderr}`)
          assert.include(ended.stderr, message)
          assert.include(ended.stderr, "\n  -> ")
          assert.notMatch(ended.stderr + ended.stdout, /s3cret-word|wr0ng-password|\n\s+at /)
        }
      })
  )
})
