/**
 * Writers at the same time: nothing is lost or doubled while one session appends, another merges in transactions, and the server's own writer appends too.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Storage from "../src/Storage.ts"
import * as Driver from "./driver/Driver.ts"

/** Each statement is worked on by several, too. */
const threads = 3

describe("concurrent sessions", () => {
  it.live("are served by as many threads as the server was told to use", () =>
    Effect.gen(function*() {
      const { connect } = yield* Storage.Storage
      assert.deepStrictEqual(
        yield* Storage.rows(yield* connect, "SELECT current_setting('threads')"),
        [[BigInt(threads)]]
      )
    }).pipe(
      (test) =>
        Effect.flatMap(Driver.folder, (dataDir) => Effect.provide(test, Storage.Storage.layer(dataDir, threads))),
      Effect.scoped
    ))

  it.live(
    "append to a journal while it is merged, moved and pruned in transactions, and while its table is altered",
    () =>
      Effect.gen(function*() {
        const { url } = yield* Driver.server({ threads })
        const [appender, second, merger, admin] = yield* Effect.all([
          Driver.connect(url),
          Driver.connect(url),
          Driver.connect(url),
          Driver.connect(url)
        ])
        yield* admin.script(
          "create table journal (seq int, k int, v int)",
          "create table target (k int, v int, n int)",
          "create table moved (seq int)",
          "create table state (name varchar, seq int)",
          "insert into state values ('s', 0)"
        )
        const batches = 30
        const appending = { done: false }
        const append = (client: Driver.Client, offset: number) =>
          Effect.forEach(Array.from({ length: batches }, (_, index) => index), (batch) =>
            client.run(
              `insert into journal (seq, k, v) select ${
                batch * 20 + offset
              } + column1 * 2, mod(column1, 5), 1 from values (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)`
            ), { discard: true })
        const round = Effect.gen(function*() {
          yield* merger.run("begin")
          const [row] = yield* merger.rows("select count(*) as n from journal")
          yield* merger.script(
            "insert into moved select seq from journal",
            "merge into target t using (select k, count(*) c from (select k from journal where seq in (select seq from moved)) group by k) s on t.k = s.k " +
              "when matched then update set n = t.n + s.c when not matched then insert (k, v, n) values (s.k, 0, s.c)",
            "update state set seq = seq + 1 where name = 's'",
            "delete from journal where seq in (select seq from moved)",
            "commit"
          )
          return Number(row?.["N"])
        })
        const merging = Effect.gen(function*() {
          while (!appending.done) yield* round
          yield* round
        })
        const altering = Effect.forEach(
          [1, 2, 3],
          (n) =>
            Effect.andThen(Effect.sleep("60 millis"), admin.run(`alter table journal add column extra${n} varchar`)),
          { discard: true }
        )
        yield* Effect.all([
          Effect.all([append(appender, 0), append(second, 1), altering], { concurrency: 3 }).pipe(
            Effect.ensuring(Effect.sync(() => {
              appending.done = true
            }))
          ),
          merging
        ], { concurrency: 2 })
        const [counted] = yield* admin.rows(
          "select (select count(*) from moved) m, (select count(distinct seq) from moved) d, (select sum(n) from target) t, (select count(*) from journal) j"
        )
        assert.deepStrictEqual(counted, { M: "600", D: "600", T: "600", J: "0" })
      }),
    60_000
  )

  it.live(
    "a definition that is cancelled at any moment is either there or not, for the records and for DuckDB",
    () =>
      Effect.gen(function*() {
        const { url } = yield* Driver.server({ threads })
        const client = yield* Driver.connect(url)
        for (let round = 0; round < 40; round++) {
          yield* Effect.callback<void>((resume) => {
            const running = client.connection.execute({
              sqlText: `create table cancelled_${round} (id int)`,
              complete: () => resume(Effect.void)
            })
            // The moment moves over the statement's few milliseconds from round to round.
            setTimeout(() => running.cancel(() => undefined), round / 4)
          })
          yield* client.run(`create table if not exists cancelled_${round} (id int)`)
          yield* client.run(`insert into cancelled_${round} values (1)`)
          yield* client.run(`drop table cancelled_${round}`)
        }
      }),
    60_000
  )

  it.live(
    "a query that is cancelled at any moment, or whose session ends, leaves the server as it was",
    () =>
      Effect.gen(function*() {
        const { url } = yield* Driver.server({ threads })
        const other = yield* Driver.connect(url)
        yield* other.script(
          "create table numbers (n int)",
          "insert into numbers select seq4() from table(generator(rowcount => 6000))"
        )
        for (let round = 0; round < 40; round++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const client = yield* Driver.connect(url)
            yield* Effect.callback<void>((resume) => {
              const running = client.connection.execute({
                sqlText: "select count(*) as n from numbers a, numbers b where a.n * 7919 + b.n < 5",
                complete: () => resume(Effect.void)
              })
              // An even round's session ends with the query under way.
              if (round % 2 === 0) setTimeout(() => resume(Effect.void), round / 2)
              else setTimeout(() => running.cancel(() => undefined), round / 2)
            })
          }))
        }
        assert.deepStrictEqual(yield* other.rows("select count(*) as n from numbers"), [{ N: "6000" }])
      }),
    60_000
  )

  it.live(
    "a write of a transaction that is cancelled at any moment, or whose session ends, is not there after the transaction",
    () =>
      Effect.gen(function*() {
        const { url } = yield* Driver.server({ threads })
        const other = yield* Driver.connect(url)
        yield* other.run("create table numbers (n int)")
        for (let round = 0; round < 40; round++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const client = yield* Driver.connect(url)
            yield* client.run("begin")
            yield* Effect.callback<void>((resume) => {
              const running = client.connection.execute({
                sqlText: `insert into numbers values (${round})`,
                complete: () => resume(Effect.void)
              })
              // Every third round's session ends with the write under way.
              if (round % 3 === 0) setTimeout(() => resume(Effect.void), round / 4)
              else setTimeout(() => running.cancel(() => undefined), round / 4)
            })
            if (round % 3 === 0) return
            yield* client.run("select count(*) from numbers")
            yield* client.run("rollback")
          }))
        }
        assert.deepStrictEqual(yield* other.rows("select * from numbers"), [])
      }),
    60_000
  )
})
