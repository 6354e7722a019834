/**
 * With its state in Redis a pipeline loses nothing and doubles nothing, whatever becomes of Redis: flushed, gone, back empty or with an old copy,
 * while it runs and between two runs.
 */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as RedisServer from "@etl-stream/testkit/RedisServer"
import * as Effect from "effect/Effect"
import * as path from "node:path"
import * as Landscape from "./Landscape.ts"

const tables = ["accounts", "postings"]

const prepare = (landscape: Landscape.Landscape) =>
  landscape.postgres.query(`
    CREATE TABLE accounts (id int PRIMARY KEY, balance numeric(12, 2), note text);
    CREATE TABLE postings (account int, amount numeric(12, 2), at timestamptz);
    ALTER TABLE postings REPLICA IDENTITY FULL;
    INSERT INTO accounts SELECT i, i / 4.0, 'account ' || i FROM generate_series(1, 3000) i;
    INSERT INTO postings SELECT i % 100, 1, '2024-01-01' FROM generate_series(1, 3000) i`)

/** Changes of every kind; `round` makes them differ. */
const change = (landscape: Landscape.Landscape, round: number) =>
  landscape.postgres.query(`
    UPDATE accounts SET balance = balance + ${round} WHERE id % 7 = ${round};
    DELETE FROM accounts WHERE id % 100 = ${round};
    UPDATE accounts SET id = id + ${round} * 100000 WHERE id % 50 = 1;
    INSERT INTO postings SELECT ${round}, 2, '2024-01-02' FROM generate_series(1, 300);
    DELETE FROM postings WHERE account = ${round} + 10;
    UPDATE postings SET amount = amount + 1 WHERE account = ${round} + 20`)

/** Waits until everything so far is in the warehouse, or the runner ends, which it mustn't. */
const settled = (landscape: Landscape.Landscape, runner: ChildProcess.ChildProcess) =>
  Effect.scoped(Effect.gen(function*() {
    const mirror = yield* landscape.mirror
    yield* Landscape.caughtUp(landscape, mirror, tables).pipe(
      Effect.raceFirst(Effect.flatMap(runner.ended(Infinity), () => Effect.die(new Error(runner.output()))))
    )
    yield* Landscape.assertSame(landscape, mirror, tables)
  }))

const configuration = (landscape: Landscape.Landscape, redis: RedisServer.RedisServer) => ({
  ...landscape.configuration(),
  state: { plugin: "@etl-stream/state-redis", options: { url: redis.url, timeout: "1 second" } }
})

describe("a pipeline with its state in Redis", () => {
  beforeAll(() => Effect.runPromise(RedisServer.installed), 600_000)

  it.live("goes on through everything that becomes of Redis while it runs", () =>
    Effect.gen(function*() {
      const redis = yield* RedisServer.start()
      const landscape = yield* Landscape.make()
      yield* prepare(landscape)
      const runner = yield* landscape.run(landscape.write(configuration(landscape, redis)))
      yield* settled(landscape, runner)
      const stored = Effect.map(
        redis.command("HGET", "{etl-stream}:state", `pipelines/${Landscape.pipeline}/checkpoint`),
        String
      )
      assert.include(yield* stored, "\"acknowledged\"")
      const copy = yield* redis.save

      yield* change(landscape, 1)
      yield* redis.command("FLUSHALL")
      yield* change(landscape, 2)
      yield* settled(landscape, runner)

      yield* change(landscape, 3)
      yield* redis.stop
      yield* change(landscape, 4)
      // Without Redis everything else goes on.
      yield* settled(landscape, runner)
      yield* redis.restart()
      yield* change(landscape, 5)
      yield* settled(landscape, runner)

      yield* redis.kill
      yield* redis.restart(copy)
      yield* change(landscape, 6)
      yield* settled(landscape, runner)

      yield* redis.freeze
      yield* change(landscape, 0)
      yield* settled(landscape, runner)
      yield* runner.waitFor(/The checkpoint could not be stored/)
      yield* redis.thaw
      assert.isTrue(runner.isRunning())
      const ended = yield* runner.kill("SIGTERM")
      assert.strictEqual(ended.code, 0, runner.output())
      assert.include(yield* stored, "\"acknowledged\"")
    }), 300_000)

  it.live("goes on after runners that were killed, with a Redis that is empty or behind", () =>
    Effect.gen(function*() {
      const redis = yield* RedisServer.start()
      const landscape = yield* Landscape.make()
      yield* prepare(landscape)
      const file = landscape.write(configuration(landscape, redis))
      const round = Effect.scoped(Effect.gen(function*() {
        const runner = yield* landscape.run(file)
        yield* settled(landscape, runner)
        yield* runner.kill("SIGKILL")
      }))
      yield* round
      const copy = yield* redis.save
      yield* change(landscape, 1)
      yield* round
      yield* redis.command("FLUSHALL")
      yield* change(landscape, 2)
      yield* round
      yield* redis.stop
      yield* redis.restart(copy)
      yield* change(landscape, 3)
      yield* round
    }), 300_000)

  it.live(
    "takes requests for new copies from wherever they are asked for, and says what is wrong when Redis can't be used",
    () =>
      Effect.gen(function*() {
        const redis = yield* RedisServer.start({ settings: ["requirepass right-word-of-the-tests"] })
        const landscape = yield* Landscape.make()
        yield* prepare(landscape)
        const file = landscape.write(configuration(landscape, redis))
        const runner = yield* landscape.run(file)
        yield* settled(landscape, runner)
        const asking = (configuration: string) =>
          ChildProcess.start({
            name: "etl-stream resync",
            command: process.execPath,
            args: [Landscape.command, "resync", configuration, "--wait", "complete", "public.accounts"],
            cwd: path.dirname(configuration)
          })
        const asked = yield* asking(file)
        assert.strictEqual((yield* asked.ended()).code, 0, asked.output())
        yield* settled(landscape, runner)

        const wrong = {
          plugin: "@etl-stream/state-redis",
          options: { host: redis.host, port: redis.port, password: "wrong-word-of-the-tests" }
        }
        const refused = yield* asking(landscape.write({ ...landscape.configuration(), state: wrong }))
        assert.strictEqual((yield* refused.ended()).code, 3)
        assert.include(refused.output(), "refuses the user or password")
        assert.notInclude(refused.output(), "wrong-word-of-the-tests")
      }),
    300_000
  )
})
