/**
 * The plugins in `examples/plugins` as a third party would have them: in a project that has our packages from tarballs, built, tried by the kit, packed, and installed
 * as packed, so that the pipelines of their configurations run while the runner is killed.
 */
import { DuckDBInstance } from "@duckdb/node-api"
import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as MirrorState from "@etl-stream/testkit/MirrorState"
import * as Warehouse from "@etl-stream/testkit/Warehouse"
import { Ajv } from "ajv"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { gzipSync } from "node:zlib"
import { afterAll, beforeAll } from "vitest"
import { parse } from "yaml"
import * as Tarballs from "./Tarballs.ts"

const examples = join(Tarballs.root, "examples", "plugins")
const plugins = ["sink-duckdb", "source-ndjson"]

interface Bench {
  /** A project with the plugins' sources as its members, as their authors have them, the runner and the local Snowflake. */
  readonly project: string
}

/** Puts the packed plugin into the project, in place of the link to its member: what installing the tarball would do, whose dependencies are there. */
const installPacked = Effect.fnUntraced(function*(project: string, plugin: string) {
  // Builds by itself, before.
  yield* Tarballs.succeed("npm", ["pack"], join(project, plugin))
  const name = `etl-stream-${plugin}`
  const installed = join(project, "node_modules", name)
  Fs.rmSync(installed)
  Fs.mkdirSync(installed)
  const tarball = join(project, plugin, `${name}-0.1.0.tgz`)
  yield* Tarballs.succeed("tar", ["-xzf", tarball, "-C", installed, "--strip-components=1"], project)
})

const make = Effect.gen(function*() {
  const tarballs = yield* Tarballs.packed
  const project = yield* Tarballs.temporaryFolder
  for (const plugin of plugins) {
    Fs.cpSync(join(examples, plugin), join(project, plugin), {
      recursive: true,
      filter: (path) => !/[\\/](node_modules|dist)([\\/]|$)/.test(path)
    })
  }
  const names = [
    "@etl-stream/runner",
    "@etl-stream/snowflake-local",
    ...plugins.map((plugin) => `etl-stream-${plugin}`)
  ]
  yield* Tarballs.install(tarballs, project, {
    workspaces: plugins,
    dependencies: Object.fromEntries(names.map((name) => [name, "*"]))
  })
  yield* Effect.forEach(plugins, (plugin) => installPacked(project, plugin), { concurrency: 2, discard: true })
  return { project }
})

let bench: Bench = { project: "" }
const scope = Scope.makeUnsafe()
beforeAll(async () => {
  bench = await Effect.runPromise(Scope.provide(make, scope))
}, 400_000)
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

/** A folder of the project with copies of files from the examples: what a user would have. */
const folderWith = (name: string, ...files: ReadonlyArray<string>): string => {
  const folder = join(bench.project, name)
  Fs.mkdirSync(folder)
  for (const file of files) Fs.cpSync(join(examples, file), join(folder, file), { recursive: true })
  return folder
}

/** Starts `etl-stream run` on a configuration, for as long as the scope lives. */
const run = (folder: string, file: string, env: Readonly<Record<string, string>> = {}) =>
  ChildProcess.start({
    name: "the runner",
    command: join(bench.project, "node_modules", ".bin", "etl-stream"),
    args: ["run", file],
    cwd: folder,
    env,
    logFile: join(folder, "runner.log")
  })

/** Asks for a graceful stop. */
const stop = (runner: ChildProcess.ChildProcess) =>
  Effect.map(
    runner.kill("SIGTERM"),
    (ended) => assert.deepStrictEqual(ended, { code: 0, signal: null }, runner.output())
  )

const until = <E, R>(what: string, condition: Effect.Effect<boolean, E, R>) =>
  Effect.repeat(condition, { schedule: Schedule.spaced("50 millis"), until: (holds) => holds }).pipe(
    Effect.timeoutOrElse({
      duration: "60 seconds",
      orElse: () => Effect.die(new Error(`It was waited in vain for ${what}`))
    })
  )

/** Rows of a DuckDB file that no process writes to any more, as text. */
const duckdbRows = (file: string, sql: string) =>
  Effect.promise(async () => {
    const instance = await DuckDBInstance.create(file, { access_mode: "READ_ONLY" })
    const connection = await instance.connect()
    try {
      await connection.run("SET TimeZone = 'UTC'")
      const rows = (await connection.runAndReadAll(sql)).getRowsJS()
      return rows.map((row) => row.map((value) => value === null ? null : String(value)))
    } finally {
      connection.closeSync()
      instance.closeSync()
    }
  })

/** Changes something again and again while `effect` runs. */
const changing = Effect.fnUntraced(
  function*<A, E, R>(change: Effect.Effect<unknown, unknown>, effect: Effect.Effect<A, E, R>) {
    const writer = yield* Effect.forkChild(Effect.forever(Effect.andThen(change, Effect.sleep(20))))
    const result = yield* effect
    yield* Fiber.interrupt(writer)
    return result
  }
)

describe("the example plugins", () => {
  it.live("are validated with the configurations that show them, and by the doctor", () =>
    Effect.gen(function*() {
      const env = {
        DATABASE_URL: "postgresql://postgres@127.0.0.1:5432/postgres",
        SNOWFLAKE_ACCOUNT: "A-B",
        SNOWFLAKE_USER: "U",
        SNOWFLAKE_KEY_FILE: "./key.p8",
        SNOWFLAKE_ROLE: "R",
        SNOWFLAKE_WAREHOUSE: "W",
        SNOWFLAKE_DATABASE: "D"
      }
      const files = Fs.readdirSync(examples).filter((file) => file.endsWith(".yaml"))
      assert.lengthOf(files, 3)
      const folder = folderWith("validated", "shop", ...files)
      for (const file of files) {
        const { code, stderr, stdout } = yield* Tarballs.binary("etl-stream", ["validate", file], folder, env)
        assert.strictEqual(code, 0, `${file}: ${stdout}${stderr}`)
      }
      const printed = yield* Tarballs.binary("etl-stream", ["schema"], folder)
      assert.strictEqual(printed.code, 0, printed.stderr)
      const judge = new Ajv({ strict: false, validateFormats: false }).compile(JSON.parse(printed.stdout))
      for (const file of files) {
        assert.isTrue(judge(parse(Fs.readFileSync(join(folder, file), "utf8"))), JSON.stringify(judge.errors))
      }
      // The plugins' options are in it, because they are installed.
      assert.isFalse(judge(parse(
        Fs.readFileSync(join(folder, "ndjson-to-duckdb.yaml"), "utf8").replace("file: ./warehouse", "fiel: ./warehouse")
      )))
      const doctor = yield* Tarballs.binary("etl-stream", ["doctor", "ndjson-to-duckdb.yaml"], folder)
      assert.strictEqual(doctor.code, 0, doctor.stdout + doctor.stderr)
      const list = yield* Tarballs.binary("etl-stream", ["plugin", "list"], bench.project)
      for (const plugin of plugins) assert.include(list.stdout, `etl-stream-${plugin}`)
    }), 60_000)

  it.live(
    "pass their own tests, the kit's suites among them, and those where they are installed",
    () =>
      Effect.forEach(plugins, (plugin) =>
        Effect.gen(function*() {
          const folder = join(bench.project, plugin)
          const checked = yield* Tarballs.binary("tsc", [], folder)
          assert.strictEqual(checked.code, 0, checked.stdout)
          // The same suite twice would take as long again: one plugin's is run by the test runner, the other's by the command.
          const byCommand = plugin === "source-ndjson"
          const tested = yield* Tarballs.binary(
            "vitest",
            ["run", "--testTimeout=60000", ...byCommand ? ["--exclude", "test/conformance.test.ts"] : []],
            folder
          )
          assert.strictEqual(tested.code, 0, tested.stdout + tested.stderr)
          if (!byCommand) return
          const { code, stderr, stdout } = yield* Tarballs.binary(
            "etl-stream",
            ["plugin", "test", `etl-stream-${plugin}`],
            bench.project
          )
          assert.strictEqual(code, 0, stdout + stderr)
        }), { concurrency: 2, discard: true }),
    300_000
  )

  it.live("mirror files of a folder into a DuckDB file", () =>
    Effect.gen(function*() {
      const folder = folderWith("laptop", "ndjson-to-duckdb.yaml", "shop")
      const runner = yield* run(folder, "ndjson-to-duckdb.yaml")
      // What the runner keeps for people and tools says what is durable.
      const durable = Effect.sync(() => {
        const database = new DatabaseSync(join(folder, ".etl-stream", "state.sqlite"), { readOnly: true })
        try {
          const row = database.prepare("SELECT value FROM state WHERE key = ?").get("pipelines/laptop/checkpoint")
          return String(row?.["value"])
        } finally {
          database.close()
        }
      }).pipe(Effect.catchDefect(() => Effect.succeed("")))
      const size = (file: string) => Fs.statSync(join(folder, "shop", file)).size.toString(16).padStart(8, "0")
      yield* until(
        "the end of the last file",
        Effect.map(durable, (text) => text.includes(`${size("orders-000003.ndjson")}/`))
      )
      yield* stop(runner)
      const file = join(folder, "warehouse.duckdb")
      assert.deepStrictEqual(
        yield* duckdbRows(file, "SELECT id, name, since FROM shop.customers ORDER BY id"),
        [
          ["1", "Ada Lovelace", "2025-12-10"],
          ["2", "Blaise Pascal (Paris)", "2026-01-19"]
        ].map(([id = "", name = "", since = ""]) => [id, name, String(new Date(since))])
      )
      assert.deepStrictEqual(
        yield* duckdbRows(
          file,
          "SELECT id, customer, total::VARCHAR, placed::VARCHAR, note, items::VARCHAR FROM shop.orders ORDER BY id"
        ),
        [
          ["2", "2", "24.50", "2026-03-01 12:30:00.25+00", null, "[{\"sku\":\"ribbon\",\"price\":4.60,\"count\":1}]"],
          ["3", "2", "0.01", "2026-03-02 08:00:00+00", null, "[]"],
          [
            "9007199254740993",
            "1",
            "1234567890.10",
            "2026-03-01 12:00:00+00",
            null,
            "[{\"sku\":\"engine\",\"price\":617283945.05,\"count\":2}]"
          ]
        ]
      )
    }), 90_000)

  it.live("mirror PostgreSQL into a DuckDB file, every row, while the runner is killed", () =>
    Effect.gen(function*() {
      const folder = folderWith("mirror", "postgres-to-duckdb.yaml")
      const postgres = yield* EmbeddedPostgres.start()
      yield* postgres.query(
        `CREATE TABLE orders (id int PRIMARY KEY, total numeric(12,2), note text, large text, at timestamptz, day date, doc jsonb);
         ALTER TABLE orders ALTER COLUMN large SET STORAGE EXTERNAL;
         INSERT INTO orders SELECT n, n / 7.0, 'note ' || n, CASE WHEN n % 3 = 0 THEN repeat(md5(n::text), 100) END,
           timestamptz '2026-01-01' + n * interval '1 minute', date '2026-01-01' + n, jsonb_build_object('n', n) FROM generate_series(1, 4000) n;
         CREATE TABLE bag (a int, b text); ALTER TABLE bag REPLICA IDENTITY FULL;
         INSERT INTO bag SELECT n % 10, 'b' FROM generate_series(1, 100) n;
         CREATE TABLE small (id int PRIMARY KEY, v text)`
      )
      let n = 0
      // Not while copies begin: a table that is truncated just then begins again.
      let truncates = false
      const change = Effect.suspend(() => {
        n++
        return postgres.query(
          `UPDATE orders SET total = total + 1 WHERE id % 97 = ${n % 97};
           UPDATE orders SET id = id + 100000 WHERE id % 500 = ${n % 500} AND id < 100000;
           UPDATE orders SET large = NULL WHERE id % 101 = ${n % 101};
           DELETE FROM orders WHERE id % 1009 = ${n % 1009};
           INSERT INTO orders (id, total, large) VALUES (${10_000 + n}, 0.5, repeat('z', 3000));
           UPDATE bag SET b = b || 'x' WHERE ctid IN (SELECT ctid FROM bag WHERE a = ${n % 10} LIMIT 1);
           DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag LIMIT 1); INSERT INTO bag VALUES (${n % 10}, 'b'), (${
            n % 10
          }, 'b');
           ${truncates ? "TRUNCATE small;" : ""} INSERT INTO small VALUES (${n}, NULL)`
        )
      })
      const start = run(folder, "postgres-to-duckdb.yaml", { DATABASE_URL: postgres.url })
      const position = Effect.map(postgres.query("SELECT pg_current_wal_lsn()::text AS lsn"), ([row]) =>
        String(row?.["lsn"]))
      /** Waits until everything that was committed before is durable in the file. */
      const caughtUp = Effect.gen(function*() {
        yield* postgres.query("SELECT pg_logical_emit_message(true, 'test', 'end')")
        const end = yield* position
        yield* until(
          `the slot at ${end}`,
          Effect.map(
            postgres.query("SELECT confirmed_flush_lsn >= $1::pg_lsn AS reached FROM pg_replication_slots", [end]),
            ([row]) =>
              row?.["reached"] === true
          )
        )
      })

      const first = yield* start
      yield* changing(change, first.waitFor(/copying tables/))
      yield* first.kill()
      const second = yield* start
      yield* changing(change, caughtUp)
      truncates = true
      yield* changing(change, Effect.sleep(300))
      truncates = false
      yield* second.kill()
      yield* postgres.query(
        "ALTER TABLE orders ADD COLUMN extra text; ALTER TABLE orders RENAME COLUMN note TO remark; ALTER TABLE orders DROP COLUMN day"
      )
      yield* postgres.query("UPDATE orders SET extra = 'e' || id WHERE id % 5 = 0")
      const third = yield* start
      yield* changing(change, caughtUp)
      yield* third.kill()
      const last = yield* start
      yield* change
      yield* caughtUp
      yield* stop(last)

      const tables: Readonly<Record<string, ReadonlyArray<string>>> = {
        orders: ["id", "total", "remark", "large", "at", "doc", "extra"],
        bag: ["a", "b"],
        small: ["id", "v"]
      }
      for (const [table, columns] of Object.entries(tables)) {
        const source = yield* postgres.query(
          `SELECT ${columns.map((name) => `"${name}"::text`).join(", ")} FROM ${table}`
        )
        const mirrored = yield* duckdbRows(
          join(folder, "warehouse.duckdb"),
          `SELECT ${columns.map((name) => `CAST("${name}" AS VARCHAR)`).join(", ")} FROM shop.${table}`
        )
        const lines = (rows: ReadonlyArray<ReadonlyArray<unknown>>) => rows.map((row) => JSON.stringify(row)).toSorted()
        assert.isAbove(mirrored.length, 0)
        assert.deepStrictEqual(lines(mirrored), lines(source.map((row) => columns.map((name) => row[name]))), table)
      }
      assert.deepStrictEqual(
        yield* duckdbRows(join(folder, "warehouse.duckdb"), "SELECT count(*) FROM etl_stream.chunks"),
        [["0"]]
      )
    }), 180_000)

  it.live("bring files into Snowflake, each line once, while the runner is killed", () =>
    Effect.gen(function*() {
      const folder = folderWith("files", "ndjson-to-snowflake.yaml")
      const warehouse = yield* Warehouse.start({
        main: join(bench.project, "node_modules", "@etl-stream", "snowflake-local", "dist", "main.js"),
        folder
      })
      const log = join(folder, "log")
      Fs.mkdirSync(log)
      const orders = new Map<number, readonly [total: string, note: string | null]>()
      const events: Array<string> = []
      let file = 0
      let written = 0
      let id = 0
      /** Appends a few lines to the last file, at times in two pieces; goes on in a new file, and compresses one that was left. */
      const append = Effect.sync(() => {
        if (file === 0 || written > 4000) {
          const left = join(log, `orders-${file}.ndjson`)
          if (file % 4 === 1 && Fs.existsSync(left)) {
            Fs.writeFileSync(join(folder, "packed"), gzipSync(Fs.readFileSync(left)))
            Fs.renameSync(join(folder, "packed"), `${left}.gz`)
          }
          file++
          written = 0
        }
        const isOrders = file % 2 === 1
        const lines = Array.from({ length: 5 }, () => {
          id++
          if (!isOrders) {
            events.push(String(id))
            return { id, at: "2026-03-01T12:00:00.5Z", data: { id } }
          }
          const known = orders.get(id - 7)
          if (id % 11 === 0 && known !== undefined) {
            orders.delete(id - 7)
            return { op: "delete", id: id - 7 }
          }
          if (id % 3 === 0 && known !== undefined) {
            orders.set(id - 7, [known[0], "changed"])
            return { op: "update", id: id - 7, note: "changed" }
          }
          orders.set(id, [`${id}.50`, null])
          return { op: "insert", id, total: `${id}.50` }
        })
        const text = lines.map((line) => `${JSON.stringify(line)}\n`).join("")
        const path = join(log, `${isOrders ? "orders" : "events"}-${file}.ndjson`)
        const cut = id % 20 === 0 ? text.length - 9 : text.length
        Fs.appendFileSync(path, text.slice(0, cut))
        if (cut < text.length) Fs.appendFileSync(path, text.slice(cut))
        written += text.length
      })
      const start = run(folder, "ndjson-to-snowflake.yaml", {
        LOG_FOLDER: "./log",
        SNOWFLAKE_ACCOUNT: warehouse.account,
        SNOWFLAKE_URL: warehouse.url,
        SNOWFLAKE_USER: warehouse.user,
        SNOWFLAKE_KEY_FILE: warehouse.privateKeyFile,
        SNOWFLAKE_ROLE: warehouse.role,
        SNOWFLAKE_WAREHOUSE: warehouse.warehouse,
        SNOWFLAKE_DATABASE: warehouse.database
      })
      const session = yield* warehouse.session
      const mirror: MirrorState.Mirror = { session, pipeline: "files", database: warehouse.database, schema: "SHOP" }
      const landed = (count: number) =>
        until(
          `${count} events in Snowflake`,
          MirrorState.journalState(mirror, "events").pipe(
            Effect.map(({ changes }) => changes >= count),
            // The sink makes the journal when it begins.
            Effect.orElseSucceed(() => false)
          )
        )
      for (let i = 0; i < 60; i++) yield* append
      const first = yield* start
      yield* changing(append, landed(1))
      yield* first.kill()
      const second = yield* start
      yield* changing(append, landed(events.length))
      yield* second.kill()
      const last = yield* start
      yield* changing(append, landed(events.length))
      const rows = (table: string, columns: string) =>
        session.query(`SELECT ${columns} FROM "${warehouse.database}"."SHOP"."${table}"`)
      const expected = [...orders].map(([id, [total, note]]) => JSON.stringify([String(id), total, note])).toSorted()
      const held = Effect.map(rows("ORDERS", "ID, TOTAL, NOTE"), (found) =>
        found.map(([id, total, note]) =>
          JSON.stringify([String(id), Number(total).toFixed(2), note ?? null])
        ).toSorted())
      yield* until(
        "all orders",
        Effect.map(held, (found) =>
          found.join() === expected.join())
      )
      yield* stop(last)
      assert.deepStrictEqual(yield* held, expected)
      const ids = (yield* rows("EVENTS", "ID")).map(([value]) => String(value))
      assert.deepStrictEqual(ids.toSorted(), events.toSorted())
      for (const table of ["orders", "events"]) {
        assert.strictEqual((yield* MirrorState.journalState(mirror, table)).duplicates, 0, table)
      }
      assert.isFalse(Fs.existsSync(join(folder, "bad-lines")))
    }), 180_000)
})
