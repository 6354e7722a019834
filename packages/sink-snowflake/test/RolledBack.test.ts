/**
 * The engine and the sink against a server that rolls transactions back, for a while or for ever.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { Condition } from "@etl-stream/core/Condition"
import { isRetryable } from "@etl-stream/core/ConnectorError"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import * as ErrorPolicy from "../src/ErrorPolicy.ts"
import * as RolledBack from "../src/RolledBack.ts"
import type * as SqlClient from "../src/SqlClient.ts"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"
import { copy, expected, inserts, mark, marked, pipeline, rowsOf, table, until } from "./TablePipeline.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

/** A deadlock's victim. */
const rollback = { kind: "error", endpoint: "query", code: "000607", sqlState: "57014", message: "rolled back" }

const short: RolledBack.Limits = { told: 2, times: 4, within: "300 millis" }

const failureOf = (exit: Exit.Exit<unknown, unknown>): ConnectorError | undefined =>
  Exit.isFailure(exit)
    ? Option.getOrUndefined(Cause.findErrorOption(exit.cause)) as ConnectorError | undefined // what a pipeline fails with
    : undefined

describe("RolledBack", () => {
  const failed = ErrorPolicy.failure("Unreachable", "it failed", "a hint", {
    cause: ErrorPolicy.causeOf("000607", "40001")
  })

  it.effect("counts in a row, over runs, for each thing that is done; a table's merge is refused after ten times and ten minutes while others' are committed, what is about no table never", () =>
    Effect.gen(function*() {
      const raised = new Map<string, Condition>()
      const made = Effect.tap(
        RolledBack.make({ account: "a", database: "d" }, "counted"),
        (rolledBack) => rolledBack.raiseIn(Local.conditions(raised), () => true)
      )
      const [one, other] = [{ what: "Merging t", table: "t" }, { what: "Copying rows of t", table: "t" }]
      const fails = (doing: RolledBack.Doing) =>
        Effect.flatMap(made, (rolledBack) => Effect.flip(rolledBack.counted(doing, Effect.fail(failed)))).pipe(
          Effect.provideService(RolledBack.RunGoesOn, true)
        )
      const succeeds = (doing: RolledBack.Doing) =>
        Effect.flatMap(made, (rolledBack) => rolledBack.counted(doing, Effect.void))

      for (let n = 1; n <= 30; n++) {
        assert.strictEqual((yield* fails(one)).reason, "Unreachable", "it takes time, too")
        assert.strictEqual(raised.size, n < 3 ? 0 : 1)
      }
      yield* succeeds(other)
      assert.strictEqual(raised.size, 1)
      yield* succeeds(one)
      assert.strictEqual(raised.size, 0)

      /** A transaction is committed, by default a merge's. */
      const commits = (doing: RolledBack.Doing, merges = true) =>
        Effect.flatMap(made, (rolledBack) => rolledBack.committing(doing, Effect.void)).pipe(
          Effect.provideService(RolledBack.RunGoesOn, merges)
        )
      yield* commits({ what: "Merging u", table: "u" })
      for (let n = 1; n < 10; n++) {
        assert.strictEqual((yield* fails(one)).reason, "Unreachable", "it takes times, too")
        yield* TestClock.adjust("2 minutes")
      }
      // Nothing was committed meanwhile but this table's own and what is about none; what is only read says nothing.
      yield* commits({ what: "Copying rows of t", table: "t" })
      yield* commits({ what: "Claiming the tables" })
      yield* commits({ what: "Emptying u for a new copy", table: "u" }, false)
      yield* succeeds({ what: "Looking for changes of u", table: "u" })
      assert.strictEqual((yield* fails(one)).reason, "Unreachable", "it takes another table that goes on, too")
      assert.strictEqual(raised.size, 1)
      yield* commits({ what: "Merging u", table: "u" })
      yield* commits({ what: "Copying rows of t", table: "t" })
      const last = yield* fails(one)
      assert.strictEqual(last.reason, "Rejected")
      assert.strictEqual(last.table, "t")
      assert.match(last.message, /^Merging t was rolled back by Snowflake 11 times in a row, since 1970-01-01T00:00/)
      assert.strictEqual(raised.size, 0)

      for (let n = 1; n <= 40; n++) {
        assert.strictEqual((yield* fails({ what: "Reading the state table" })).reason, "Unreachable")
        yield* TestClock.adjust("2 minutes")
      }
      assert.deepStrictEqual([...raised.values()].map(({ name, table }) => [name, table]), [
        [RolledBack.rolledBackCondition, undefined]
      ])
      yield* succeeds({ what: "Reading the state table" })
      assert.strictEqual(raised.size, 0)
    }))

  it.effect("is a condition of a table as long as anything of it is rolled back again and again, and ends one of an earlier run", () =>
    Effect.gen(function*() {
      const raised = new Map<string, Condition>()
      const texts = () => [...raised.values()].map(({ message }) => message.replace(/, since .*/, ""))
      const [merging, copying] = [{ what: "Merging t", table: "t" }, { what: "Copying rows of t", table: "t" }]
      const made = RolledBack.make({ account: "a", database: "d" }, "several")
      const fails = (rolledBack: RolledBack.RolledBack, doing: RolledBack.Doing, times: number) =>
        Effect.replicateEffect(Effect.flip(rolledBack.counted(doing, Effect.fail(failed))), times)

      const first = yield* made
      yield* first.raiseIn(Local.conditions(raised), () => true)
      yield* fails(first, merging, 4)
      yield* fails(first, copying, 3)
      assert.deepStrictEqual(texts(), ["Merging t was rolled back by Snowflake 4 times in a row"])
      yield* first.counted(merging, Effect.void)
      assert.deepStrictEqual(texts(), ["Copying rows of t was rolled back by Snowflake 3 times in a row"])

      // The next run does it before it is told where conditions are raised.
      const second = yield* made
      yield* second.counted(copying, Effect.void)
      yield* second.raiseIn(Local.conditions(raised), () => true)
      assert.deepStrictEqual(texts(), [])

      // And what is rolled back before is told as soon as it can be.
      const third = yield* made
      yield* fails(third, { what: "Claiming the tables" }, 3)
      assert.deepStrictEqual(texts(), [])
      yield* third.raiseIn(Local.conditions(raised), () => true)
      assert.deepStrictEqual(texts(), ["Claiming the tables was rolled back by Snowflake 3 times in a row"])
      yield* third.counted({ what: "Claiming the tables" }, Effect.void)
      assert.deepStrictEqual(texts(), [])

      // Of a table that left the pipeline, or is set aside, nothing is done any more.
      yield* fails(third, merging, 3)
      assert.deepStrictEqual(texts(), ["Merging t was rolled back by Snowflake 3 times in a row"])
      const fourth = yield* made
      yield* fourth.raiseIn(Local.conditions(raised), (table) => table !== "t")
      assert.deepStrictEqual(texts(), [])
    }))

  it.effect("refuses what ends a run after ten times and ten minutes, whatever becomes of other tables", () =>
    Effect.gen(function*() {
      const copying = { what: "Copying rows of t", table: "t" }
      const rolledBack = yield* RolledBack.make({ account: "a", database: "d" }, "ends")
      const fails = Effect.flip(rolledBack.counted(copying, Effect.fail(failed)))
      for (let n = 1; n < 10; n++) {
        assert.strictEqual((yield* fails).reason, "Unreachable")
        yield* TestClock.adjust("2 minutes")
      }
      assert.strictEqual((yield* fails).reason, "Rejected")
    }))
})

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("Transactions that Snowflake rolls back", (it) => {
  it.effect("for a deadlock of two sessions are such, and can be tried again", () =>
    Effect.gen(function*() {
      const { sql } = yield* Server
      const tables = ["RAW.PUBLIC.DEAD", "RAW.PUBLIC.LOCK"]
      for (const name of tables) {
        yield* sql.execute({ what: "test", sql: `CREATE TABLE ${name} AS SELECT 0 AS "N"` })
      }
      const add = (session: SqlClient.Session, name: string) =>
        Effect.asVoid(session.execute({ what: "test", sql: `UPDATE ${name} SET "N" = "N" + 1`, table: "public.t" }))
      /** Changes one table, waits until both sessions have done so, and then changes the other's. */
      const begun = [yield* Deferred.make<void>(), yield* Deferred.make<void>()] as const
      const change = (own: 0 | 1) => {
        const [first, second] = own === 0 ? tables : tables.toReversed()
        return sql.use((session) =>
          session.transaction(
            { what: "test", table: "public.t" },
            Effect.gen(function*() {
              yield* add(session, first ?? "")
              yield* Deferred.succeed(begun[own], undefined)
              yield* Deferred.await(begun[own === 0 ? 1 : 0])
              yield* add(session, second ?? "")
            })
          )
        )
      }
      const exits = yield* Effect.all([Effect.exit(change(0)), Effect.exit(change(1))], { concurrency: "unbounded" })
      const errors = exits.flatMap((exit) => failureOf(exit) ?? [])
      assert.deepStrictEqual(errors.map(({ reason }) => reason), ["Unreachable"])
      assert.match(errors[0]?.message ?? "", /000607/)
      assert.isTrue(errors.every(ErrorPolicy.isRolledBack))
      yield* change(exits.findIndex(Exit.isFailure) === 0 ? 0 : 1)
      for (const name of tables) {
        const { rows } = yield* sql.execute({ what: "test", sql: `SELECT "N" FROM ${name}` })
        assert.deepStrictEqual(rows, [{ N: "2" }])
      }
    }))

  it.effect("a few times are tried again in the same run, and are a condition until one is committed", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const [slow, good] = [table("slips"), table("beside_slips")]
      const { start } = pipeline(local, "slips", [slow, good])
      const run = yield* start()
      yield* run.emit(...copy(slow, 10n, [1]), ...copy(good, 10n, [1]), mark(11))
      yield* run.acknowledged(11n)
      yield* local.fault("driver", { ...rollback, match: "MERGE INTO.*SHOP.*\"SLIPS\"", count: 5 })
      const condition = () =>
        [...run.progress.conditions.values()].find(({ name }) => name === RolledBack.rolledBackCondition)
      yield* run.emit(inserts(slow, 20n, [2, 3]), inserts(good, 20n, [2]), mark(21))
      yield* run.acknowledged(21n)
      yield* until(Effect.sync(() => condition() !== undefined), "it is a condition")
      assert.strictEqual(condition()?.table, "public.slips")
      assert.match(condition()?.message ?? "", /^Merging public\.slips was rolled back by Snowflake 3 times in a row/)
      yield* until(Effect.map(rowsOf(local, "slips"), (rows) => rows.length === 3), "the changes are merged")
      yield* until(Effect.sync(() => condition() === undefined), "the condition is over")
      assert.deepStrictEqual(yield* local.faults, [])
      assert.deepStrictEqual(yield* rowsOf(local, "slips"), expected([1, 2, 3]))
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.deepStrictEqual(yield* rowsOf(local, "beside_slips"), expected([1, 2]))
    }))

  it.effect("again and again set their table aside with what to look for; the others go on in the same run, and a new copy repairs it", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const [stuck, good] = [table("stuck"), table("beside_stuck")]
      const { resync, start } = pipeline(local, "stuck", [stuck, good])
      const run = yield* start()
      yield* run.emit(...copy(stuck, 10n, [1]), ...copy(good, 10n, [1]), mark(11))
      yield* run.acknowledged(11n)
      yield* local.fault("driver", { ...rollback, match: "MERGE INTO.*SHOP.*\"STUCK\"", count: "always" })
      yield* run.emit(inserts(stuck, 20n, [2]), mark(21))
      yield* until(Effect.sync(() => run.progress.conditions.size > 0), "it is a condition")
      yield* run.emit(inserts(good, 22n, [2]), mark(23))
      yield* run.phase(stuck, "quarantined")
      assert.deepStrictEqual(yield* marked(local, "stuck"), ["public.stuck - - - Rejected"])
      const conditions = [...run.progress.conditions.values()]
      assert.deepStrictEqual(conditions.map(({ name }) => name), ["table-quarantined"])
      assert.match(
        conditions[0]?.message ?? "",
        /Merging public\.stuck was rolled back by Snowflake \d+ times in a row, since .*Snowflake error 000607/
      )
      assert.match(conditions[0]?.hint ?? "", /query history.*resync/)
      yield* run.emit(inserts(stuck, 30n, [3]), inserts(good, 30n, [3]), mark(31))
      yield* run.acknowledged(31n)
      yield* until(Effect.map(rowsOf(local, "beside_stuck"), (rows) => rows.length === 3), "the other one is merged")
      yield* local.clearFaults
      yield* resync(stuck, copy(stuck, 40n, [1, 2, 3]))
      yield* run.emit(inserts(stuck, 50n, [4]), mark(51))
      yield* run.acknowledged(51n)
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.deepStrictEqual(yield* rowsOf(local, "stuck"), expected([1, 2, 3, 4]))
      assert.deepStrictEqual(yield* rowsOf(local, "beside_stuck"), expected([1, 2, 3]))
    }).pipe(Effect.provideService(RolledBack.Limits, short)))

  it.effect("before a merge's transaction are counted like those in it", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const [stuck, good] = [table("prepares"), table("beside_prepares")]
      const { start } = pipeline(local, "prepares", [stuck, good])
      const run = yield* start()
      yield* run.emit(...copy(stuck, 10n, [1]), ...copy(good, 10n, [1]), mark(11))
      yield* run.acknowledged(11n)
      yield* local.fault("driver", { ...rollback, match: "SELECT DISTINCT.*SHOP__PREPARES__JOURNAL", count: "always" })
      const update: Batches.Row = {
        op: Operation.Update,
        sequence: Sequence.make(20n, 1n),
        values: [1n, Batches.unsent]
      }
      yield* run.emit({ _tag: "Rows", batch: Batches.batch(stuck, [update]) }, mark(21))
      yield* until(Effect.sync(() => run.progress.conditions.size > 0), "it is a condition")
      yield* run.emit(inserts(good, 22n, [2]), mark(23))
      yield* run.phase(stuck, "quarantined")
      assert.match(
        [...run.progress.conditions.values()][0]?.message ?? "",
        /Preparing to merge public\.prepares was rolled back by Snowflake \d+ times in a row/
      )
      yield* local.clearFaults
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.deepStrictEqual(yield* rowsOf(local, "beside_prepares"), expected([1, 2]))
    }).pipe(Effect.provideService(RolledBack.Limits, short)))

  it.effect("for every table set none aside: all are tried until it is over, and a condition meanwhile", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const [one, two] = [table("all_one"), table("all_two")]
      const { start } = pipeline(local, "all", [one, two])
      const run = yield* start()
      yield* run.emit(...copy(one, 10n, [1]), ...copy(two, 10n, [1]), mark(11))
      yield* run.acknowledged(11n)
      yield* local.fault("driver", { ...rollback, match: "MERGE INTO.*SHOP.*\"ALL_", count: "always" })
      yield* run.emit(inserts(one, 20n, [2]), inserts(two, 20n, [2]), mark(21))
      yield* run.acknowledged(21n)
      const timesOf = (id: string) => {
        const condition = [...run.progress.conditions.values()].find((found) => found.table === id)
        return Number(/(\d+) times in a row/.exec(condition?.message ?? "")?.[1] ?? 0)
      }
      for (const id of ["public.all_one", "public.all_two"]) {
        yield* until(Effect.sync(() => timesOf(id) > 2 * short.times), `${id} is tried again and again`)
      }
      assert.deepStrictEqual(yield* marked(local, "all"), [])
      yield* local.clearFaults
      for (const name of ["all_one", "all_two"]) {
        yield* until(Effect.map(rowsOf(local, name), (rows) => rows.length === 2), `${name} is merged`)
      }
      yield* until(Effect.sync(() => run.progress.conditions.size === 0), "the conditions are over")
      assert.isTrue(Exit.isSuccess(yield* run.stop))
    }).pipe(Effect.provideService(RolledBack.Limits, short)))

  it.effect("in a copy end their runs, which are counted together until the table is set aside", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const [stuck, good] = [table("loads"), table("beside_loads")]
      const { resync, start } = pipeline(local, "loads", [stuck, good])
      const before = yield* start()
      yield* before.emit(...copy(good, 10n, [1]), mark(11))
      yield* before.acknowledged(11n)
      assert.isTrue(Exit.isSuccess(yield* before.stop))
      yield* local.fault("driver", { ...rollback, match: "COPY INTO.*SHOP.*\"LOADS\"", count: "always" })
      let runs = 0
      for (;;) {
        const run = yield* start({ copy: { every: "10 millis" } })
        runs++
        yield* run.emit(...copy(stuck, 120n, [1, 2]), mark(130))
        const aside = Effect.as(run.phase(stuck, "quarantined"), undefined)
        const ended = yield* Effect.raceFirst(run.ended, aside)
        if (ended === undefined) {
          yield* local.clearFaults
          yield* resync(stuck, copy(stuck, 140n, [1, 2, 3]))
          yield* run.emit(inserts(good, 150n, [2]), mark(151))
          yield* run.acknowledged(151n)
          assert.isTrue(Exit.isSuccess(yield* run.stop))
          break
        }
        const error = failureOf(ended)
        assert.isTrue(error !== undefined && isRetryable(error), `${error?.reason}: ${error?.message}`)
      }
      assert.isAtLeast(runs, short.times)
      assert.deepStrictEqual(yield* rowsOf(local, "loads"), expected([1, 2, 3]))
      assert.deepStrictEqual(yield* rowsOf(local, "beside_loads"), expected([1, 2]))
    }).pipe(Effect.provideService(RolledBack.Limits, short)))
})
