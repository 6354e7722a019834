/**
 * Faults of the driver's endpoints, each seen through the unmodified driver.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Driver from "./driver/Driver.ts"
import { Local } from "./driver/Driver.ts"

const query = (fault: object) =>
  Effect.flatMap(Local, ({ server }) => Driver.fault(server.url, { endpoint: "query", ...fault }))

/** How often a statement was executed. */
const executions = (sql: string) =>
  Effect.gen(function*() {
    const { server } = yield* Local
    return (yield* Driver.statements(server.url)).filter((entry) => entry["sql"] === sql).length
  })

layer(Local.layer(), { timeout: "60 seconds", excludeTestServices: true })("a fault at a query", (it) => {
  it.effect("answers 408, 429, 500 or 503, before or after the effect; the driver asks again and it runs once", () =>
    Effect.gen(function*() {
      const { server } = yield* Local
      const refuse = Effect.fnUntraced(function*(status: number, kind: string) {
        const client = yield* Driver.connect(server.url)
        yield* client.run(`create or replace table t_${status}_${kind} (a int)`)
        const sql = `insert into t_${status}_${kind} values (1)`
        yield* query({ kind, status, match: sql.replaceAll(/[()]/g, "\\$&") })
        yield* client.run(sql)
        assert.strictEqual(yield* executions(sql), 1)
        assert.deepStrictEqual(yield* client.rows(`select count(*) n from t_${status}_${kind}`), [{ N: "1" }])
      })
      yield* Effect.forEach(
        [408, 429, 500, 503],
        (status) => Effect.all([refuse(status, "status"), refuse(status, "statusAfter")], { concurrency: 2 }),
        { concurrency: 4 }
      )
    }))

  it.effect("cuts the connection before or after the effect", () =>
    Effect.gen(function*() {
      const client = yield* Local
      yield* client.run("create or replace table t (a int)")
      for (const kind of ["dropBefore", "dropAfter"]) {
        yield* query({ kind, match: `insert.*${kind}` })
        yield* client.run(`insert into t values (1) -- ${kind}`)
      }
      assert.deepStrictEqual(yield* client.rows("select count(*) n from t"), [{ N: "2" }])
    }))

  it.effect("is slow before or after the effect", () =>
    Effect.gen(function*() {
      const client = yield* Local
      for (const kind of ["delay", "delayAfter"]) {
        yield* query({ kind, millis: 150 })
        const started = performance.now()
        yield* client.run("select 1")
        assert.isAtLeast(performance.now() - started, 140)
      }
    }))

  it.effect("strikes the nth statement that matches, with Snowflake's error of the test's choice", () =>
    Effect.gen(function*() {
      const client = yield* Local
      yield* query({ kind: "error", match: "select 7", skip: 1, count: 2, code: "000625", sqlState: "57014" })
      const seen: Array<string> = []
      for (const sql of ["select 7", "select 8", "select 7", "select 7", "select 7"]) {
        const ran = yield* Effect.exit(client.run(sql))
        seen.push(ran._tag === "Success" ? "ok" : "error")
      }
      assert.deepStrictEqual(seen, ["ok", "ok", "error", "error", "ok"])
      yield* query({ kind: "error", code: "000625", sqlState: "57014", message: "locked" })
      const error = yield* Effect.flip(client.run("select 1"))
      assert.deepStrictEqual([error.code, error.sqlState, error.message], ["000625", "57014", "locked"])
    }))

  it.effect("makes the session's token expire: the driver renews it, within its transaction", () =>
    Effect.gen(function*() {
      const client = yield* Local
      yield* client.script("create or replace table t (a int)", "begin", "insert into t values (1)")
      yield* query({ kind: "expireSession", match: "values \\(2\\)" })
      yield* client.script("insert into t values (2)", "commit")
      assert.deepStrictEqual(yield* client.rows("select count(*) n from t"), [{ N: "2" }])
    }))

  it.effect("ends the session and rolls its transaction back", () =>
    Effect.gen(function*() {
      const { server } = yield* Local
      const client = yield* Driver.connect(server.url)
      yield* client.script("create or replace table t (a int)", "begin", "insert into t values (1)")
      yield* query({ kind: "endSession", match: "values \\(2\\)" })
      const error = yield* Effect.flip(client.run("insert into t values (2)"))
      assert.include(["390111", "407002"], error.code)
      const other = yield* Driver.connect(server.url)
      assert.deepStrictEqual(yield* other.rows("select count(*) n from t"), [{ N: "0" }])
    }))

  it.effect("refuses what it doesn't know", () =>
    Effect.gen(function*() {
      const { server } = yield* Local
      for (
        const body of [
          { kind: "magic", endpoint: "query" },
          { kind: "status", endpoint: "nowhere" },
          { kind: "status", endpoint: "query", match: "(" },
          { kind: "status", endpoint: "query", count: 0 },
          { kind: "status", endpoint: "query", often: 1 }
        ]
      ) {
        const response = yield* Effect.promise(() =>
          fetch(`${server.url}/_local/faults`, { method: "POST", body: JSON.stringify(body) })
        )
        assert.strictEqual(response.status, 400)
      }
    }))
})

layer(Local.layer({ inProgressAfterMillis: 50 }), { timeout: "60 seconds", excludeTestServices: true })(
  "a fault elsewhere",
  (it) => {
    const at = (fault: object) => Effect.flatMap(Local, ({ server }) => Driver.fault(server.url, fault))

    it.effect("at a login, a renewal, a result's chunk, an upload and a query that is asked for again", () =>
      Effect.gen(function*() {
        const { server } = yield* Local
        yield* at({ endpoint: "login", kind: "status", status: 503 })
        const client = yield* Driver.connect(server.url, { sfRetryMaxLoginRetries: 3 })

        yield* at({ endpoint: "query", kind: "expireSession" })
        yield* at({ endpoint: "token", kind: "dropBefore" })
        assert.deepStrictEqual(yield* client.rows("select 1 n"), [{ N: "1" }])

        const large = "select seq4() as n, repeat('x', 90) as pad from table(generator(rowcount => 30000)) order by n"
        for (const kind of ["status", "dropBefore"]) {
          yield* at({ endpoint: "chunk", kind })
          const rows = yield* client.rows(large)
          assert.deepStrictEqual([rows.length, rows[29_999]?.["N"]], [30_000, "29999"])
        }

        yield* client.run("create or replace stage st")
        for (const kind of ["status", "statusAfter"]) {
          yield* at({ endpoint: "upload", kind })
          yield* client.run(`PUT file://${kind}.bin @st AUTO_COMPRESS=FALSE`, { fileStream: Buffer.from("content") })
        }
        assert.strictEqual((yield* client.rows("list @st")).length, 2)

        yield* at({ endpoint: "result", kind: "dropBefore" })
        const slow =
          "select count(*) n from table(generator(rowcount => 1000000)) where sha2(to_varchar(random())) = ''"
        assert.deepStrictEqual(yield* client.rows(slow), [{ N: "0" }])
      }))

    it.effect("at a renewal whose master token has expired: the caller must log in again", () =>
      Effect.gen(function*() {
        const { server } = yield* Local
        const client = yield* Driver.connect(server.url)
        yield* at({ endpoint: "query", kind: "expireSession" })
        yield* at({ endpoint: "token", kind: "expireSession" })
        const error = yield* Effect.flip(client.run("select 1"))
        assert.strictEqual(error.code, "407002")
      }))
  }
)
