/**
 * What a statement that is cancelled while DuckDB still works on it, or fails half done, leaves behind: nothing, whatever the session does next. A statement that
 * DuckDB commits already has succeeded, and that is what its client hears.
 *
 * DuckDB's part of each cancelled statement is held until the session has done it, so that no luck is needed to see the order that must not be.
 */
import { DuckDBConnection } from "@duckdb/node-api"
import { assert, describe, it, vi } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { subscribe, unsubscribe } from "node:diagnostics_channel"
import type { IncomingMessage } from "node:http"
import * as Session from "../src/Session.ts"
import * as Statement from "../src/statement/StatementContext.ts"
import * as Storage from "../src/Storage.ts"
import * as Driver from "./driver/Driver.ts"

const idleMillis = 60_000

const opened = Effect.gen(function*() {
  const storage = yield* Storage.Storage
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  const session: Session.Session = {
    id: "1",
    user: "ETL",
    scope,
    connection: yield* Scope.provide(storage.connect, scope),
    lock: yield* Semaphore.make(1),
    createdAt: 0,
    task: undefined,
    token: "",
    tokenExpiresAt: 0,
    masterToken: "",
    masterExpiresAt: 0,
    role: "LOADER",
    warehouse: undefined,
    database: undefined,
    schema: undefined,
    parameters: new Map(),
    variables: new Map(),
    temporary: new Map(),
    transaction: undefined,
    busy: false,
    committing: false,
    lastUsedAt: Date.now(),
    lastQueryId: undefined
  }
  const other = yield* storage.connect
  yield* Storage.run(other, "CREATE TABLE numbers (n INT)")
  const locks = Session.makeTableLocks(idleMillis)
  /** A write of the session's. */
  const write = (n: number) =>
    Session.writing(
      session,
      locks,
      undefined,
      Statement.changed({ session }, `INSERT INTO numbers VALUES (${n})`)
    )
  /** What the session has asked DuckDB for meanwhile has been done when this has; whom DuckDB is to stop doesn't matter. */
  const answered = Effect.ignore(Storage.run(session.connection, "SELECT 1"))
  /** A write that is cancelled when DuckDB has been asked for it, and has not begun with it. */
  const cancelledWrite = (n: number) =>
    Effect.gen(function*() {
      const asked = yield* Deferred.make<void>()
      const gate = Promise.withResolvers<void>()
      const writing = yield* Effect.forkChild(
        session.lock.withPermit(Session.writing(
          session,
          locks,
          undefined,
          Statement.duckdb({ session }, async (connection) => {
            Deferred.doneUnsafe(asked, Effect.void)
            await gate.promise
            await connection.run(`INSERT INTO numbers VALUES (${n})`)
          })
        ))
      )
      yield* Deferred.await(asked)
      yield* Effect.addFinalizer(() => Effect.sync(() => gate.resolve()))
      const cancelling = yield* Effect.forkChild(Fiber.interrupt(writing), { startImmediately: true })
      yield* answered
      return Effect.andThen(Effect.sync(() => gate.resolve()), Fiber.await(cancelling))
    })
  const numbers = Effect.map(Storage.rows(other, "SELECT n FROM numbers ORDER BY n"), (rows) => rows.flat())
  return { session, locks, answered, write, cancelledWrite, numbers }
})

const scenario = <A, E>(
  body: (given: Effect.Success<typeof opened>) => Effect.Effect<A, E, Scope.Scope>
) =>
  Effect.gen(function*() {
    const dataDir = yield* Driver.folder
    return yield* Effect.flatMap(opened, body).pipe(Effect.scoped, Effect.provide(Storage.Storage.layer(dataDir)))
  })

describe("a statement that is cancelled while DuckDB has it", () => {
  it.live("does not stay when it was a transaction of its own", () =>
    scenario(({ cancelledWrite, numbers, write }) =>
      Effect.gen(function*() {
        yield* yield* cancelledWrite(1)
        yield* write(2)
        assert.deepStrictEqual(yield* numbers, [2])
      })
    ))

  it.live("does not stay when the session rolls its transaction back", () =>
    scenario(({ answered, cancelledWrite, locks, numbers, session }) =>
      Effect.gen(function*() {
        yield* Session.begin(session, "1")
        const proceed = yield* cancelledWrite(1)
        const rollingBack = yield* Effect.forkChild(session.lock.withPermit(Session.rollback(session, locks)), {
          startImmediately: true
        })
        yield* answered
        yield* proceed
        yield* Fiber.join(rollingBack)
        assert.deepStrictEqual(yield* numbers, [])
      })
    ))

  it.live("is not committed with the statements that come after it", () =>
    scenario(({ cancelledWrite, locks, numbers, session, write }) =>
      Effect.gen(function*() {
        yield* Session.begin(session, "1")
        yield* yield* cancelledWrite(1)
        yield* write(2)
        yield* Session.commit(session, locks)
        assert.deepStrictEqual(yield* numbers, [2])
      })
    ))

  it.live("breaks a transaction that had written before, which then commits nothing", () =>
    scenario(({ cancelledWrite, locks, numbers, session, write }) =>
      Effect.gen(function*() {
        yield* Session.begin(session, "1")
        yield* write(1)
        yield* yield* cancelledWrite(2)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(write(3))))
        assert.isTrue(Exit.isFailure(yield* Effect.exit(Session.commit(session, locks))))
        assert.deepStrictEqual(yield* numbers, [])
        yield* write(4)
        assert.deepStrictEqual(yield* numbers, [4])
      })
    ))

  it.live("keeps its transaction from being rolled back as abandoned until DuckDB is done with it", () =>
    scenario(({ cancelledWrite, locks, numbers, session }) =>
      Effect.gen(function*() {
        yield* Session.begin(session, "1")
        const proceed = yield* cancelledWrite(1)
        session.lastUsedAt = 0
        yield* Session.abandon(session, locks, idleMillis)
        yield* proceed
        yield* Session.abandon(session, locks, idleMillis)
        yield* Session.rollback(session, locks)
        assert.deepStrictEqual(yield* numbers, [])
      })
    ))
})

describe("a statement that fails when it has done a part", () => {
  it.live("leaves nothing of it in its transaction, whether that is rolled back or committed", () =>
    Effect.gen(function*() {
      const { url } = yield* Driver.server()
      const [client, other] = yield* Effect.all([Driver.connect(url), Driver.connect(url)])
      yield* client.script("create table t (n int)", "insert into t values (1), (2)")
      const rows = Effect.map(other.rows("select n from t order by n"), (rows) => rows.map((row) => row["N"]))
      // What was there is deleted before it is seen that the new rows don't fit.
      const failing = Effect.flip(client.run("insert overwrite into t select 1, 2"))
      yield* client.run("begin")
      yield* failing
      assert.deepStrictEqual(yield* client.rows("select count(*) as c from t"), [{ C: "2" }])
      yield* client.run("rollback")
      assert.deepStrictEqual(yield* rows, ["1", "2"])

      yield* client.run("begin")
      yield* failing
      yield* client.script("insert into t values (3)", "commit")
      assert.deepStrictEqual(yield* rows, ["1", "2", "3"])

      yield* client.script("begin", "insert into t values (4)")
      yield* failing
      yield* Effect.flip(client.run("commit"))
      assert.deepStrictEqual(yield* rows, ["1", "2", "3"])
    }))

  it.live("does not commit the rows of a MERGE that a deadlock over its stream has ended", () =>
    Effect.gen(function*() {
      const { url } = yield* Driver.server()
      const [first, second, other] = yield* Effect.all([Driver.connect(url), Driver.connect(url), Driver.connect(url)])
      yield* other.script(
        "create table source (n int)",
        "create stream s1 on table source append_only = true",
        "create stream s2 on table source append_only = true",
        "create table sink (n int)",
        "create table t1 (n int)",
        "create table t2 (n int)"
      )
      // Each holds the stream that the other one's MERGE reads. The second that asks for it is told of the deadlock, whichever that is.
      yield* first.script("begin", "insert into sink select n from s1 where false")
      yield* second.script("begin", "insert into sink select n from s2 where false")
      const merging = (client: Driver.Client, table: string, stream: string) =>
        Effect.gen(function*() {
          const merged = yield* Effect.exit(client.run(
            `merge into ${table} t using (select count(*) as n from ${stream} where false) s on t.n = s.n ` +
              "when not matched then insert (n) values (s.n)"
          ))
          const committed = yield* Effect.exit(client.run("commit"))
          return { table, merged: Exit.isSuccess(merged), committed: Exit.isSuccess(committed) }
        })
      const ended = yield* Effect.all([merging(first, "t1", "s2"), merging(second, "t2", "s1")], { concurrency: 2 })
      assert.deepStrictEqual(ended.map(({ merged }) => merged).sort(), [false, true])
      for (const { committed, merged, table } of ended) {
        assert.strictEqual(committed, merged)
        assert.deepStrictEqual(yield* other.rows(`select n from ${table}`), merged ? [{ N: "0" }] : [])
      }
    }))

  it.live("keeps what came before a MERGE that was refused before it changed a row", () =>
    Effect.gen(function*() {
      const { url } = yield* Driver.server()
      const [client, other] = yield* Effect.all([Driver.connect(url), Driver.connect(url)])
      yield* client.script("create table t (n int)", "begin", "insert into t values (1)")
      const refused = yield* Effect.flip(client.run(
        "merge into t using (select 1 as n from values (1), (2)) s on t.n = s.n when matched then update set n = 3"
      ))
      assert.strictEqual(refused.code, "100090")
      yield* client.run("commit")
      assert.deepStrictEqual(yield* other.rows("select n from t"), [{ N: "1" }])
    }))
})

/** Holds back that DuckDB has done the session's next COMMIT. */
const heldCommit = Effect.gen(function*() {
  const done = yield* Deferred.make<void>()
  const gate = Promise.withResolvers<void>()
  const run = DuckDBConnection.prototype.run
  const spy = vi.spyOn(DuckDBConnection.prototype, "run").mockImplementation(
    async function(this: DuckDBConnection, ...given) {
      const result = await run.apply(this, given)
      if (given[0] === "COMMIT" && Deferred.doneUnsafe(done, Effect.void)) await gate.promise
      return result
    }
  )
  const release = Effect.sync(() => gate.resolve())
  yield* Effect.addFinalizer(() => Effect.andThen(release, Effect.sync(() => spy.mockRestore())))
  return { done: Deferred.await(done), release }
})

/** The server of this process has been asked to cancel something. */
const cancelAsked = Effect.gen(function*() {
  const asked = yield* Deferred.make<void>()
  const listen = (message: unknown) => {
    // What this channel of Node's tells: the request that has come.
    const { request } = message as { readonly request: IncomingMessage }
    if (request.url?.includes("/abort-request") === true) Deferred.doneUnsafe(asked, Effect.void)
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => subscribe("http.server.request.start", listen)),
    () => Effect.sync(() => unsubscribe("http.server.request.start", listen))
  )
  return Deferred.await(asked)
})

/** Starts a statement; what its client hears in the end, and how it cancels it. */
const started = (client: Driver.Client, sqlText: string, more: object = {}) =>
  Effect.gen(function*() {
    const heard = yield* Deferred.make<"success" | "failure">()
    const running = client.connection.execute({
      sqlText,
      ...more,
      complete: (error) =>
        Deferred.doneUnsafe(heard, Effect.succeed(error === undefined || error === null ? "success" : "failure"))
    })
    return { heard: Deferred.await(heard), cancel: () => running.cancel(() => undefined) }
  })

const withTable = Effect.gen(function*() {
  const { url } = yield* Driver.server()
  const [client, other] = yield* Effect.all([Driver.connect(url), Driver.connect(url)])
  yield* client.run("create table t (n int)")
  return { client, other, rows: Effect.map(other.rows("select n from t"), (rows) => rows.map((row) => row["N"])) }
})

describe("a statement that DuckDB has committed when it is to stop", () => {
  for (
    const [what, before, sqlText] of [
      ["a statement without a transaction", [], "insert into t values (1)"],
      ["COMMIT", ["begin", "insert into t values (1)"], "commit"]
    ] as const
  ) {
    it.live(`has succeeded for the client that cancels it: ${what}`, () =>
      Effect.gen(function*() {
        const { client, other, rows } = yield* withTable
        yield* client.script(...before)
        const commit = yield* heldCommit
        const asked = yield* cancelAsked
        const statement = yield* started(client, sqlText)
        yield* commit.done
        statement.cancel()
        yield* asked
        // The server has read the request that came before this one.
        yield* other.run("select 1")
        yield* commit.release
        assert.strictEqual(yield* statement.heard, "success")
        assert.deepStrictEqual(yield* rows, ["1"])
      }))
  }

  it.live("is not broken off by what ends everything at once", () =>
    scenario(({ numbers, write }) =>
      Effect.gen(function*() {
        const commit = yield* heldCommit
        const interrupt = vi.spyOn(DuckDBConnection.prototype, "interrupt")
        yield* Effect.addFinalizer(() => Effect.sync(() => interrupt.mockRestore()))
        const writing = yield* Effect.forkChild(write(1))
        yield* commit.done
        const ending = yield* Effect.forkChild(Fiber.interrupt(writing), { startImmediately: true })
        yield* commit.release
        yield* Fiber.join(ending)
        assert.strictEqual(interrupt.mock.calls.length, 0)
        assert.deepStrictEqual(yield* numbers, [1])
      })
    ))

  it.live("has succeeded when its time is over", () =>
    Effect.gen(function*() {
      const { client, rows } = yield* withTable
      yield* client.run("alter session set statement_timeout_in_seconds = 1")
      const commit = yield* heldCommit
      const statement = yield* started(client, "insert into t values (1)")
      yield* commit.done
      yield* Effect.sleep("1200 millis")
      yield* commit.release
      assert.strictEqual(yield* statement.heard, "success")
      assert.deepStrictEqual(yield* rows, ["1"])
    }))

  for (
    const [what, more, sqlText] of [
      ["block", {}, (first: string, second: string) => `execute immediate $$ begin ${first}; ${second}; end $$`],
      [
        "request",
        { parameters: { MULTI_STATEMENT_COUNT: 2 } },
        (first: string, second: string) => `${first}; ${second}`
      ]
    ] as const
  ) {
    it.live(`does not keep the ${what} it is in from being cancelled after it`, () =>
      Effect.gen(function*() {
        const { client, other, rows } = yield* withTable
        yield* other.script(
          "create table numbers (n int)",
          "insert into numbers select seq4() from table(generator(rowcount => 100000))"
        )
        const asked = yield* cancelAsked
        const commit = yield* heldCommit
        const statement = yield* started(
          client,
          sqlText(
            "insert into t values (1)",
            "insert into t select count(*) from numbers a, numbers b, numbers c where a.n * 7919 + b.n * c.n < 5"
          ),
          more
        )
        yield* commit.done
        statement.cancel()
        yield* asked
        yield* commit.release
        assert.strictEqual(yield* statement.heard, "failure")
        assert.deepStrictEqual(yield* rows, ["1"])
      }))
  }
})
