/**
 * The engine and the sink against a server where single tables can't go on.
 */
import { assert, layer } from "@effect/vitest"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import { type TableSchema } from "@etl-stream/core/TableSchema"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import type { Config } from "../src/Config.ts"
import * as SnowflakeSink from "../src/SnowflakeSink.ts"
import * as Batches from "./Batches.ts"
import { hurried } from "./HurriedClock.ts"
import * as Local from "./Local.ts"
import { begin, chunk, copy, expected, inserts, mark, marked, pipeline, rowsOf, table, until } from "./TablePipeline.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

/** Of a task and of the runner that waits to hand a table to it: a tenth of a second by their clocks here. Nothing else waits just as long. */
const every = "15 seconds"

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("A table in quarantine", (it) => {
  it.effect("has a row that Snowflake skipped; stays so over restarts without a statement, and is copied anew with every row", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const [bad, good] = [table("skips"), table("beside_skips")]
      const { resync, start } = pipeline(local, "skips", [bad, good])
      const first = yield* start()
      yield* first.emit(...copy(bad, 10n, [1, 2]), ...copy(good, 10n, [1, 2]), mark(11))
      yield* first.acknowledged(11n)
      yield* local.fault("streaming", { kind: "rejectRowSilently", endpoint: "append" })
      yield* first.emit(inserts(bad, 20n, [3, 4, 5]))
      yield* first.phase(bad, "quarantined")
      yield* first.emit(inserts(good, 30n, [3]), inserts(bad, 30n, [6]), mark(31))
      yield* first.acknowledged(31n)
      assert.deepStrictEqual(yield* marked(local, "skips"), ["public.skips - - - Rejected"])
      assert.isTrue(Exit.isSuccess(yield* first.stop))
      assert.deepStrictEqual(yield* rowsOf(local, "beside_skips"), expected([1, 2, 3]))
      yield* local.clearStatements
      const second = yield* start()
      yield* second.phase(good, "streaming")
      yield* second.emit(inserts(bad, 40n, [7]), inserts(good, 40n, [4]), mark(41))
      yield* second.acknowledged(41n)
      assert.strictEqual(second.view(bad)?.phase, "quarantined")
      assert.match(second.view(bad)?.quarantine?.message ?? "", /skipped 1 rows? of public.skips/)
      const touching = (yield* local.statements).filter(({ sql }) => /SHOP(\.|__)SKIPS/.test(sql))
      assert.deepStrictEqual(touching, [])
      yield* resync(bad, copy(bad, 50n, [1, 2, 3, 4, 5, 6, 7]))
      yield* second.emit(inserts(bad, 60n, [8]), inserts(good, 60n, [5]), mark(61))
      yield* second.acknowledged(61n)
      assert.isTrue(Exit.isSuccess(yield* second.stop))
      assert.deepStrictEqual(yield* marked(local, "skips"), [])
      assert.deepStrictEqual(yield* rowsOf(local, "skips"), expected([1, 2, 3, 4, 5, 6, 7, 8]))
      assert.deepStrictEqual(yield* rowsOf(local, "beside_skips"), expected([1, 2, 3, 4, 5]))
    }))

  it.effect("can't be merged, since somebody dropped a column of its target; the others are merged, and it is as new after a resync", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const [bad, good] = [table("altered"), table("beside_altered")]
      const { resync, start } = pipeline(local, "altered", [bad, good])
      const run = yield* start()
      yield* run.emit(...copy(bad, 10n, [1]), ...copy(good, 10n, [1]), mark(11))
      yield* run.acknowledged(11n)
      yield* local.query(`ALTER TABLE RAW.SHOP.ALTERED DROP COLUMN "NOTE"`)
      yield* run.emit(inserts(bad, 20n, [2]), inserts(good, 20n, [2]), mark(21))
      yield* run.phase(bad, "quarantined")
      yield* run.emit(inserts(good, 30n, [3]), mark(31))
      yield* run.acknowledged(31n)
      yield* until(
        Effect.map(rowsOf(local, "beside_altered"), (rows) => rows.length === 3),
        "the other table is merged"
      )
      assert.deepStrictEqual(yield* marked(local, "altered"), ["public.altered - - - Rejected"])
      yield* resync(bad, copy(bad, 40n, [1, 2]))
      yield* run.emit(inserts(bad, 50n, [3]), mark(51))
      yield* run.acknowledged(51n)
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.deepStrictEqual(yield* rowsOf(local, "altered"), expected([1, 2, 3]))
    }))

  it.effect("fails while its merge runs: the merge ends first, and ends nothing else", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const [bad, good] = [table("merging"), table("beside_merging")]
      const { resync, start } = pipeline(local, "merging", [bad, good])
      const run = yield* start()
      yield* run.emit(...copy(bad, 10n, [1]), ...copy(good, 10n, [1]), mark(11))
      yield* run.acknowledged(11n)
      yield* local.fault("driver", {
        kind: "delay",
        endpoint: "query",
        match: "MERGE INTO.*SHOP.*\"?MERGING",
        millis: 1500
      })
      yield* local.clearStatements
      yield* run.emit(inserts(bad, 20n, [2]), mark(21))
      yield* run.acknowledged(21n)
      const inspected = Effect.map(local.statements, (all) => all.some(({ sql }) => /SHOP__MERGING__JOURNAL/.test(sql)))
      yield* until(inspected, "a merge has begun")
      yield* local.fault("streaming", { kind: "rejectRowSilently", endpoint: "append" })
      yield* run.emit(inserts(bad, 22n, [3, 4]))
      yield* run.phase(bad, "quarantined")
      yield* run.emit(inserts(good, 23n, [2]), mark(24))
      yield* run.acknowledged(24n)
      assert.deepStrictEqual(yield* marked(local, "merging"), ["public.merging - - - Rejected"])
      yield* local.clearFaults
      yield* resync(bad, copy(bad, 40n, [1, 2, 3, 4]))
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.deepStrictEqual(yield* rowsOf(local, "merging"), expected([1, 2, 3, 4]))
      assert.deepStrictEqual(yield* rowsOf(local, "beside_merging"), expected([1, 2]))
    }))

  it.effect("that a task merges is the task's no more, and is merged again after a resync", () =>
    hurried(
      every,
      Effect.gen(function*() {
        const local = yield* Local.start({ taskSpeedup: 150 })
        const bad = table("tasked")
        const { resync, start } = pipeline(local, "tasked", [bad])
        const inCharge = Effect.map(
          local.query(`SELECT "TASK" FROM RAW.ETL_STREAM.TABLES WHERE "PIPELINE" = 'tasked'`),
          ([row]) => row?.["TASK"]
        )
        const isInCharge = Effect.map(inCharge, (token) => typeof token === "string" && token !== "")
        const run = yield* start({ merge: { by: "task", every, taskWarehouse: "wh" } })
        yield* run.emit(...copy(bad, 10n, [1]), inserts(bad, 12n, [2]), mark(13))
        yield* run.acknowledged(13n)
        yield* until(isInCharge, "a task merges the table")
        yield* local.fault("streaming", { kind: "rejectRowSilently", endpoint: "append" })
        yield* run.emit(inserts(bad, 20n, [3, 4]))
        yield* run.phase(bad, "quarantined")
        assert.strictEqual(yield* inCharge, "")
        const [task] = yield* local.query("SHOW TASKS LIKE '%TASKED%' IN SCHEMA RAW.ETL_STREAM")
        assert.strictEqual(task?.["state"], "suspended")
        yield* resync(bad, copy(bad, 30n, [1, 2, 3, 4]))
        yield* run.emit(inserts(bad, 40n, [5]), mark(41))
        yield* run.acknowledged(41n)
        yield* until(Effect.map(rowsOf(local, "tasked"), (rows) => rows.length === 5), "the change is merged")
        yield* until(isInCharge, "a task merges the table again")
        assert.isTrue(Exit.isSuccess(yield* run.stop))
        assert.deepStrictEqual(yield* rowsOf(local, "tasked"), expected([1, 2, 3, 4, 5]))
      })
    ))

  it.effect("fails in mid-copy while another one fails at a change of shape; a third one goes on, and both are repaired", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const [copied, shaped, good] = [table("copied"), table("shaped"), table("beside_both")]
      const { resync, start } = pipeline(local, "both", [copied, shaped, good])
      // Another key, and with it another way to tell rows apart.
      const next: TableSchema = { ...table("shaped", {}, 2), identity: { _tag: "Key", columns: [0, 1] } }
      const run = yield* start({ copy: { every: "10 millis" } })
      yield* run.emit(...copy(shaped, 10n, [1]), ...copy(good, 10n, [1]), begin(copied, 10n), mark(11))
      yield* run.acknowledged(11n)
      yield* local.fault("driver", {
        kind: "error",
        endpoint: "query",
        match: "COPY INTO.*SHOP.*COPIED",
        code: "100038",
        sqlState: "22018",
        message: "Numeric value '' is not recognized"
      })
      yield* run.emit(
        ...chunk(copied, 10n, 0, [1, 2]),
        { _tag: "Schema", table: next, sequence: Sequence.make(20n, 0n) },
        inserts(next, 20n, [2]),
        inserts(copied, 20n, [3]),
        inserts(good, 20n, [2]),
        { _tag: "SnapshotEnd", table: copied, position: 10n, chunks: 1, settled: 10n },
        mark(21)
      )
      yield* run.phase(copied, "quarantined")
      yield* run.phase(shaped, "quarantined")
      yield* run.acknowledged(21n)
      assert.deepStrictEqual(yield* marked(local, "both"), [
        "public.copied - - - Rejected",
        "public.shaped - - - Unsupported"
      ])
      yield* local.clearFaults
      yield* resync(copied, copy(copied, 30n, [1, 2, 3]))
      yield* resync(shaped, copy(next, 30n, [1, 2]))
      yield* run.emit(inserts(copied, 40n, [4]), inserts(next, 40n, [3]), inserts(good, 40n, [3]), mark(41))
      yield* run.acknowledged(41n)
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.deepStrictEqual(yield* rowsOf(local, "copied"), expected([1, 2, 3, 4]))
      assert.deepStrictEqual(yield* rowsOf(local, "shaped"), expected([1, 2, 3]))
      assert.deepStrictEqual(yield* rowsOf(local, "beside_both"), expected([1, 2, 3]))
    }))

  it.effect("would be written to another one's target: it alone is set aside, and it is copied once the other one has left", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const [owner, clashing, good] = [table("twins"), table("TWINS"), table("beside_twins")]
      const all = pipeline(local, "twins", [owner, clashing, good])
      // A task of the target would be the other one's.
      yield* local.clearStatements
      const run = yield* all.start({ merge: { by: "task", every: "10 seconds", taskWarehouse: "wh" } })
      yield* run.phase(clashing, "quarantined")
      assert.match(
        run.view(clashing)?.quarantine?.message ?? "",
        /^public\.TWINS and public\.twins of the pipeline twins would both be written to "RAW"\."SHOP"\."TWINS"$/
      )
      yield* run.emit(...copy(owner, 10n, [1]), ...copy(good, 10n, [1]), inserts(owner, 12n, [2]), mark(13))
      yield* run.acknowledged(13n)
      // Whose target it is isn't touched by a request, either.
      yield* all.resync(clashing, copy(clashing, 15n, [9]), "refused")
      yield* run.emit(inserts(owner, 20n, [3]), inserts(clashing, 20n, [9]), mark(21))
      yield* run.acknowledged(21n)
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.deepStrictEqual((yield* local.statements).filter(({ sql }) => /TASK.*SUSPEND/.test(sql)), [])
      assert.deepStrictEqual(yield* rowsOf(local, "twins"), expected([1, 2, 3]))
      assert.deepStrictEqual(yield* marked(local, "twins"), ["public.TWINS - - - Unsupported"])
      // The same again.
      const second = yield* all.start()
      yield* second.phase(good, "streaming")
      yield* second.phase(owner, "streaming")
      assert.strictEqual(second.view(clashing)?.phase, "quarantined")
      assert.isTrue(Exit.isSuccess(yield* second.stop))
      const alone = pipeline(local, "twins", [clashing, good])
      const third = yield* alone.start()
      yield* third.phase(good, "streaming")
      yield* alone.resync(clashing, copy(clashing, 30n, [7, 8]))
      yield* third.emit(inserts(clashing, 40n, [9]), mark(41))
      yield* third.acknowledged(41n)
      assert.isTrue(Exit.isSuccess(yield* third.stop))
      assert.deepStrictEqual(yield* marked(local, "twins"), [])
      assert.deepStrictEqual(yield* rowsOf(local, "twins"), expected([7, 8, 9]))
    }))

  it.effect("is one of two that would move to the same target, each from another one; the other moves alone", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const identity = { _tag: "Key", columns: [0] } as const
      const tables = ["left", "right"].map((schema) =>
        Batches.table("crowd", { id: { _tag: "Int64" } }, identity, schema)
      )
      const { schema, ...apart } = local.config()
      const opened = (config: Config) =>
        Effect.gen(function*() {
          const sink = yield* SnowflakeSink.make(config, { pipeline: "crowd", directory: local.directory })
          yield* sink.begin(tables, Local.conditions())
          return yield* Effect.forEach(
            tables,
            (of) => Effect.result(sink.open(of, () => Effect.void, () => Effect.void, () => undefined)),
            { concurrency: "unbounded" }
          )
        })
      const before = yield* Effect.scoped(opened(apart))
      assert.deepStrictEqual(before.map(Result.isSuccess), [true, true])
      const after = yield* Effect.scoped(opened({ ...apart, schema: schema ?? "SHOP" }))
      const errors = after.flatMap((one) => Result.isFailure(one) ? [one.failure] : [])
      assert.deepStrictEqual(errors.map(({ reason, table }) => [reason, table]), [["Unsupported", "right.crowd"]])
      const targets = yield* local.query(
        `SELECT "SOURCE_TABLE", "TARGET" FROM RAW.ETL_STREAM.TABLES WHERE "PIPELINE" = 'crowd' ORDER BY 1`
      )
      assert.deepStrictEqual(targets.map((row) => Object.values(row)), [
        ["left.crowd", `"RAW"."SHOP"."CROWD"`],
        ["right.crowd", `"RAW"."RIGHT"."CROWD"`]
      ])
    }))

  it.effect("is known with the columns that it had then: one that was renamed before, and again meanwhile, is renamed by the new copy of the same run", () =>
    Effect.gen(function*() {
      const local = yield* Server
      /** The name of the column that the source knows as its second. */
      const named = (column: string, version: number): TableSchema => {
        const of = Batches.table(
          "reshaped",
          { id: { _tag: "Int64" }, [column]: { _tag: "Text", maxLength: undefined } },
          { _tag: "Key", columns: [0] },
          "public",
          version
        )
        return { ...of, columns: of.columns.map((found, index) => ({ ...found, id: `16400.${index + 1}` })) }
      }
      const running = yield* Local.run(local, {}, "reshaped")
      const [first, second, third] = [named("note", 1), named("memo", 2), named("remark", 3)]
      yield* running.sink.begin([first], Local.conditions())
      yield* Effect.scoped(Effect.gen(function*() {
        const opened = yield* running.open(first)
        yield* Local.copy(opened, first, 10n, [])
        yield* opened.writer.write({ _tag: "Schema", table: second, sequence: Sequence.make(20n, 0n) })
      }))
      const why = { reason: "Rejected", message: "it can't go on", hint: "None.", since: 0 } as const
      yield* running.sink.quarantine?.(second, why) ?? Effect.die("none")
      yield* Local.copy(yield* running.open(third), third, 30n, [])
      const columns = yield* local.query("DESCRIBE TABLE RAW.SHOP.RESHAPED")
      assert.deepStrictEqual(
        columns.map(({ name }) => String(name)).filter((name) => !name.startsWith("_")),
        ["ID", "REMARK"]
      )
    }))

  it.effect("isn't in quarantine before that is written: the run ends without having passed it, and the next one finds it", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const [bad, good] = [table("unwritten"), table("beside_unwritten")]
      const { start } = pipeline(local, "unwritten", [bad, good])
      const run = yield* start()
      yield* run.emit(...copy(bad, 10n, [1]), ...copy(good, 10n, [1]), mark(11))
      yield* run.acknowledged(11n)
      const denied = {
        kind: "error",
        endpoint: "query",
        code: "000606",
        message: "No active warehouse",
        sqlState: "57P03"
      }
      yield* local.fault("driver", { ...denied, match: "QUARANTINED_AT\" = \\?", count: "always" })
      yield* local.fault("streaming", { kind: "rejectRowSilently", endpoint: "append" })
      yield* run.emit(inserts(bad, 20n, [2]), mark(21))
      assert.isTrue(Exit.isFailure(yield* run.ended))
      assert.strictEqual(run.progress.lastError?.reason, "Missing")
      assert.isUndefined(run.progress.lastError?.table)
      assert.strictEqual(run.progress.acknowledgedPosition, 11n)
      assert.deepStrictEqual(yield* marked(local, "unwritten"), [])
      yield* local.clearFaults
      const again = yield* start()
      yield* again.emit(inserts(bad, 20n, [2]), mark(21), inserts(bad, 22n, [3]), inserts(good, 22n, [2]), mark(23))
      yield* again.phase(bad, "quarantined")
      yield* again.acknowledged(23n)
      // Killed right after: it is known.
      yield* again.kill
      assert.deepStrictEqual((yield* marked(local, "unwritten")).length, 1)
      const last = yield* start()
      yield* last.phase(good, "streaming")
      assert.strictEqual(last.view(bad)?.phase, "quarantined")
      assert.isTrue(Exit.isSuccess(yield* last.stop))
    }))

  it.effect("is not put there by a runner that was taken over, and one that can't be opened is without a row of its own", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const owned = table("owned")
      const old = yield* Local.run(local, {}, "owners")
      yield* old.sink.begin([owned], Local.conditions())
      yield* Local.copy(yield* old.open(owned), owned, 10n, [])
      const current = yield* Local.run(local, {}, "owners")
      const why = { reason: "Rejected", message: "it isn't mine", hint: "None.", since: 1_700_000_000_000 } as const
      const quarantine = (running: Local.Running, of: TableSchema) =>
        running.sink.quarantine?.(of, why) ?? Effect.die("none")
      for (const  of of[owned, table("not_registered")]) {
        const refused = (yield* Effect.flip(quarantine(old, of))) as ConnectorError // the sink's only error type
        assert.strictEqual(refused.reason, "Fenced")
      }
      assert.strictEqual((yield* current.open(owned)).writer.position.copied, 10n)
      // Never registered.
      const unknown = table("never_seen")
      yield* quarantine(current, unknown)
      const { position } = (yield* current.open(unknown)).writer
      assert.deepStrictEqual(position.quarantined, why)
      const next = yield* Local.run(local, {}, "owners")
      yield* next.sink.begin([owned, unknown], Local.conditions())
      const found = yield* next.open(unknown)
      assert.deepStrictEqual(found.writer.position.quarantined, why)
      yield* Local.copy(found, unknown, 20n, [])
      const [row] = yield* local.query(
        `SELECT "TARGET", "COPIED", "QUARANTINED_AT" FROM RAW.ETL_STREAM.TABLES WHERE "SOURCE_TABLE" = 'public.never_seen'`
      )
      assert.deepStrictEqual(Object.values(row ?? {}), [`"RAW"."SHOP"."NEVER_SEEN"`, "20", null])
      // Leaving the pipeline ends it as well.
      yield* quarantine(next, unknown)
      const later = yield* Local.run(local, {}, "owners")
      yield* later.sink.begin([owned], Local.conditions())
      assert.deepStrictEqual(yield* marked(local, "owners"), [])
    }))
})
