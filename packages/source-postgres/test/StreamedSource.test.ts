import { assert, layer } from "@effect/vitest"
import type { Element } from "@etl-stream/core/Element"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Client } from "pg"
import * as Lsn from "../src/Lsn.ts"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

/**
 * The source with transactions streamed while they are in progress: what was confirmed meanwhile, and what remains to be
 * sent after a failure, is compared row by row.
 */

const Server = Layer.effect(
  SourceRun.Server,
  Effect.orDie(EmbeddedPostgres.start({ settings: { logical_decoding_work_mem: "64kB" } }))
)

const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "etl-stream-spool-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

/** A session whose transaction stays open. */
const session = (pg: EmbeddedPostgres.EmbeddedPostgres, schema: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Client({ connectionString: pg.url })
      client.on("error", () => undefined)
      await client.connect()
      await client.query(`SET search_path = ${schema}`)
      return { run: (sql: string) => Effect.promise(() => client.query(sql)), end: () => client.end() }
    }),
    ({ end }) => Effect.promise(() => end().catch(() => undefined))
  )

const filesIn = (folder: string): ReadonlyArray<string> =>
  fs.existsSync(folder) ? fs.readdirSync(folder).map((name) => path.join(folder, name)) : []

const bytesIn = (folder: string): number => filesIn(folder).reduce((sum, file) => sum + fs.statSync(file).size, 0)

const waitUntil = (what: string, condition: Effect.Effect<boolean>): Effect.Effect<void> =>
  condition.pipe(
    Effect.flatMap((holds) => holds ? Effect.void : Effect.fail(what)),
    Effect.retry(Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: "20 seconds" }))),
    Effect.orDie
  )

const lsnOf = (pg: EmbeddedPostgres.EmbeddedPostgres, sql: string): Effect.Effect<bigint> =>
  pg.query(sql).pipe(Effect.orDie, Effect.map(([row]) => Lsn.parse(String(row?.["lsn"])) ?? 0n))

const confirmed = (pg: EmbeddedPostgres.EmbeddedPostgres, slot: string) =>
  lsnOf(pg, `SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots WHERE slot_name = '${slot}'`)

const current = (pg: EmbeddedPostgres.EmbeddedPostgres) => lsnOf(pg, "SELECT pg_current_wal_insert_lsn()::text AS lsn")

/** A schema with two tables, a run of it, and a large transaction in progress that has come in part. */
const landscape = Effect.fnUntraced(function*(name: string) {
  const pg = yield* SourceRun.Server
  const folder = yield* temporaryFolder
  const spool = path.join(folder, name)
  const write = yield* SourceRun.schema(
    name,
    `CREATE TABLE large (id int PRIMARY KEY, note text); CREATE TABLE small (id int PRIMARY KEY, note text);
     INSERT INTO large SELECT -i, 'copied' FROM generate_series(1, 100) i; INSERT INTO small VALUES (0, 'copied')`
  )
  const mirror = new Mirror()
  const options: SourceRun.StartOptions = { streaming: { directory: folder } }
  const start = (more: SourceRun.StartOptions = {}) => SourceRun.start(name, mirror, { ...options, ...more })
  const { run: within } = yield* session(pg, name)
  const more = (from: number, count: number) =>
    within(`INSERT INTO large SELECT i, 'row ' || i FROM generate_series(${from}, ${from + count - 1}) i`)
  const inProgress = Effect.gen(function*() {
    yield* within("BEGIN; UPDATE large SET note = 'changed' WHERE id < -50; SAVEPOINT a")
    yield* more(1, 3000)
    yield* within("ROLLBACK TO a")
    yield* more(1, 3000)
    const reached = yield* current(pg)
    yield* waitUntil("the transaction in progress is in the spool", Effect.sync(() => bytesIn(spool) > 100_000))
    return reached
  })
  /** Small transactions, until the slot's confirmed position has passed `position`. */
  let count = 1
  const passed = (position: bigint) =>
    waitUntil(
      "the slot has passed the changes in the spool",
      Effect.andThen(
        Effect.suspend(() => write(`INSERT INTO small VALUES (${count++}, 'meanwhile')`)),
        Effect.map(confirmed(pg, name), (lsn) => lsn > position)
      )
    )
  const same = Effect.gen(function*() {
    assert.deepStrictEqual(yield* mirror.differences(pg), [])
  })
  return { pg, spool, write, mirror, start, within, more, inProgress, passed, same }
})

const count = (mirror: Mirror, table: string): number => mirror.tables.get(table)?.rows.size ?? 0

layer(Server, { excludeTestServices: true, timeout: 60_000 })("a source with streaming", (it) => {
  it.effect("confirms what committed beside a transaction in progress, which comes whole after its walsender was killed", () =>
    Effect.gen(function*() {
      const { inProgress, mirror, more, passed, same, spool, start, within, write } = yield* landscape("killed")
      const run = yield* start()
      yield* run.caughtUp
      const reached = yield* inProgress
      yield* passed(reached)
      yield* write("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'killed'")
      assert.strictEqual((yield* run.failure).reason, "Unreachable")
      yield* run.stop
      assert.strictEqual(count(mirror, "killed.large"), 100)
      assert.deepStrictEqual(filesIn(spool), [], "nothing is left of the run")

      const again = yield* start()
      yield* more(3001, 2000)
      yield* within("DELETE FROM large WHERE id % 10 = 0; COMMIT")
      yield* again.caughtUp
      yield* again.stop
      yield* same
      assert.isAbove(count(mirror, "killed.large"), 4000)
    }).pipe(Effect.scoped))

  it.effect("sends a transaction again of which the sink got a part before the pipeline was stopped", () =>
    Effect.gen(function*() {
      const { inProgress, mirror, passed, same, spool, start, within } = yield* landscape("part")
      const held = yield* Deferred.make<void>()
      const isLarge = (element: Element) => element._tag === "Rows" && element.batch.table.table.name === "large"
      let batches = 0
      const run = yield* start({
        each: (element) =>
          isLarge(element) && ++batches > 1
            ? Effect.andThen(Deferred.succeed(held, undefined), Effect.never)
            : Effect.void
      })
      yield* run.caughtUp
      const reached = yield* inProgress
      yield* passed(reached)
      // Wider than a piece of the replay, so that it comes in several.
      yield* within("INSERT INTO large SELECT i, repeat('w', 1000) FROM generate_series(10001, 14000) i; COMMIT")
      yield* Deferred.await(held)
      assert.isAbove(bytesIn(spool), 0)
      yield* run.stop
      assert.isAbove(count(mirror, "part.large"), 100, "the sink got a part")
      assert.isBelow(count(mirror, "part.large"), 7000, "the sink got a part only")
      assert.deepStrictEqual(filesIn(spool), [])

      const again = yield* start()
      yield* again.caughtUp
      yield* again.stop
      yield* same
      assert.strictEqual(count(mirror, "part.large"), 7100)
    }).pipe(Effect.scoped))

  it.effect("goes on after the server was killed with a transaction in progress, which is then gone", () =>
    Effect.gen(function*() {
      const { inProgress, mirror, pg, same, spool, start, write } = yield* landscape("crash")
      const run = yield* start()
      yield* run.caughtUp
      yield* inProgress
      yield* pg.kill
      assert.strictEqual((yield* run.failure).reason, "Unreachable")
      yield* run.stop
      yield* pg.restart()
      const again = yield* start()
      // Reads the log of the transaction that never ended once more.
      yield* write("INSERT INTO small VALUES (1000, 'after the crash')")
      const { run: anew } = yield* session(pg, "crash")
      yield* anew(`BEGIN; INSERT INTO large SELECT i, 'anew ' || i FROM generate_series(1, 3000) i; COMMIT`)
      yield* again.caughtUp
      yield* again.stop
      yield* same
      assert.strictEqual(count(mirror, "crash.large"), 3100)
      assert.deepStrictEqual(filesIn(spool), [])
    }).pipe(Effect.scoped))

  it.effect("ends at the disk limit with an error that says what to do, and loses nothing when it is raised", () =>
    Effect.gen(function*() {
      const { inProgress, mirror, passed, same, spool, start, within } = yield* landscape("limited")
      const first = yield* start({ streaming: { directory: path.dirname(spool), diskLimit: "200KiB" } })
      yield* first.caughtUp
      const reached = yield* Effect.forkChild(inProgress)
      const failure = yield* first.failure
      yield* first.stop
      assert.strictEqual(failure.reason, "Misconfigured")
      assert.match(failure.message, /need more than 200 KiB of disk \(streaming\.diskLimit\)/)
      assert.deepStrictEqual(filesIn(spool), [])

      const second = yield* start()
      yield* passed(yield* Fiber.join(reached))
      yield* within("COMMIT")
      yield* second.caughtUp
      yield* second.stop
      yield* same
      assert.strictEqual(count(mirror, "limited.large"), 3100)
    }).pipe(Effect.scoped))
})
