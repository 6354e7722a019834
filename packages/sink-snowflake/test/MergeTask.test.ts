/**
 * Merging by a Snowflake task: the task's body against the model, how tables are handed over and taken back, and that nothing runs when nothing changes.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { single } from "../src/ChannelTable.ts"
import { isRolledBack } from "../src/ErrorPolicy.ts"
import * as HistoryCopy from "../src/HistoryCopy.ts"
import * as HistoryWindow from "../src/HistoryWindow.ts"
import { quote } from "../src/Identifier.ts"
import { Merger } from "../src/Merger.ts"
import { MergeTask } from "../src/MergeTask.ts"
import * as MergeTaskStatement from "../src/MergeTaskStatement.ts"
import * as MirrorWindow from "../src/MirrorWindow.ts"
import * as StateTable from "../src/StateTable.ts"
import * as TableDdl from "../src/TableDdl.ts"
import * as Layout from "../src/TableLayout.ts"
import * as Batches from "./Batches.ts"
import { journalRows, targetRows } from "./ChunkedCopyModel.ts"
import { handClock } from "./HandClock.ts"
import { HistoryModel, timeOf } from "./HistoryModel.ts"
import { historyRows } from "./HistoryRows.ts"
import { hurried } from "./HurriedClock.ts"
import * as Local from "./Local.ts"
import * as Model from "./MirrorModel.ts"

/** Of a task and of the runner that waits to hand a table to it; nothing else waits just as long. */
const every = "15 seconds"
/** Of the tasks' time: `every` takes a tenth of a second. */
const speedup = 150

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(
    Server,
    Effect.gen(function*() {
      const local = yield* Local.start({ taskSpeedup: speedup })
      yield* TableDdl.ensureHome(local.sql, "RAW", "ETL_STREAM")
      return local
    })
  )
}

const byTask = { merge: { every, by: "task", taskWarehouse: "wh" } }

const begin = Sequence.format(Sequence.make(1n, 0n))

const until = <A, E>(check: Effect.Effect<A, E>, holds: (found: A) => boolean) =>
  Effect.repeat(check, {
    schedule: Schedule.max([Schedule.spaced("50 millis"), Schedule.during("30 seconds")]),
    until: holds
  })

/** The state table's row. */
const stateOf = (local: Local.Local, pipeline: string) =>
  Effect.map(
    local.query(`SELECT "MERGED", "TASK" FROM RAW.ETL_STREAM.TABLES WHERE "PIPELINE" = '${pipeline}'`),
    ([row]) => ({ merged: row?.["MERGED"], task: row?.["TASK"] })
  )

/** What a run of the task executes. */
const bodyOf = (local: Local.Local, layout: Layout.TableLayout) =>
  Effect.map(
    local.query(`SHOW TASKS LIKE '${MergeTaskStatement.task(layout).name}' IN SCHEMA RAW.ETL_STREAM`),
    ([task]) => String(task?.["definition"])
  )

const micros = (commit: bigint): bigint => timeOf(commit) * 1_000_000n

/** A table whose merges are a task's, with its steps in portions in the journal. */
const handed = Effect.fnUntraced(function*(
  local: Local.Local,
  name: string,
  mode: "mirror" | "history",
  more: object = {}
) {
  const config = local.config({ ...byTask, mode, ...more })
  const layout = yield* Layout.make(config, name, { ...Model.keyed, table: { schema: "public", name } })
  const state = StateTable.make(local.sql, name, "RAW", "ETL_STREAM")
  yield* state.register(layout)
  yield* TableDdl.examine(local.sql, layout, undefined, config.schemaEvolution)
  yield* HistoryCopy.begin(local.sql, layout)
  yield* local.query(
    `UPDATE RAW.ETL_STREAM.TABLES SET "COPIED" = '1', "MERGED" = '${begin}' WHERE "PIPELINE" = '${name}'`
  )
  const task = new MergeTask(local.sql, state, config, name, new Map())
  assert.strictEqual(yield* task.prepare(layout), "")
  yield* task.handOver(layout, begin)
  const journal = (steps: ReadonlyArray<Model.Step>) =>
    Effect.asVoid(local.query(
      `INSERT INTO ${Layout.sqlName(layout.journal)} (${
        Layout.journalColumns(layout).map(({ name: column }) => quote(column)).join(", ")
      }) VALUES ${journalRows(layout, steps.flatMap(({ changes }) => changes), micros).join(", ")}`
    ))
  const merged = (step: Model.Step | undefined) =>
    Effect.gen(function*() {
      const wanted = Sequence.format(step?.sequence ?? Sequence.zero)
      const found = yield* until(stateOf(local, name), ({ merged }) => merged === wanted)
      const errors = yield* local.query(
        `SELECT ERROR_MESSAGE FROM TABLE(RAW.INFORMATION_SCHEMA.TASK_HISTORY(TASK_NAME => '${
          MergeTaskStatement.task(layout).name
        }')) WHERE STATE = 'FAILED'`
      )
      assert.deepStrictEqual([found.merged, errors], [wanted, []])
    })
  return { journal, layout, merged, state, task }
})

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("A task that merges", (it) => {
  it.effect("leaves a mirror as the source has it", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (let seed = 1; seed <= 3; seed++) {
        const { journal, layout, merged, task } = yield* handed(local, `task_mirror_${seed}`, "mirror")
        const steps = Model.keyedHistory(seed, 60)
        const next = Model.random(seed)
        for (let at = 0; at < steps.length;) {
          const to = Math.min(steps.length, at + 10 + next(20))
          yield* journal(steps.slice(at, to))
          at = to
          yield* merged(steps[at - 1])
          assert.deepStrictEqual(
            yield* targetRows(local, layout),
            steps[at - 1]?.rows,
            `seed ${seed}, after step ${at - 1}`
          )
        }
        yield* task.takeBack(layout)
      }
    }), 120_000)

  it.effect(
    "keeps deleted rows of a mirror with their last values where deletes are soft",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        for (let seed = 61; seed <= 62; seed++) {
          const { journal, layout, merged, task } = yield* handed(local, `task_soft_${seed}`, "mirror", {
            deletes: "soft"
          })
          const steps = Model.keyedHistory(seed, 60)
          const next = Model.random(seed)
          for (let at = 0; at < steps.length;) {
            const to = Math.min(steps.length, at + 10 + next(20))
            yield* journal(steps.slice(at, to))
            at = to
            const step = steps[at - 1]
            yield* merged(step)
            assert.deepStrictEqual(yield* targetRows(local, layout), step?.rows, `seed ${seed}, after step ${at - 1}`)
            assert.deepStrictEqual(
              yield* targetRows(local, layout, true),
              step?.gone,
              `deleted, seed ${seed}, after step ${at - 1}`
            )
          }
          yield* task.takeBack(layout)
        }
      }),
    120_000
  )

  it.effect("never prunes a journal that is kept for ever", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const { journal, layout, merged, task } = yield* handed(local, "task_kept", "mirror", {
        journal: { retention: "Infinity" }
      })
      const steps = Model.keyedHistory(71, 10)
      yield* journal(steps)
      yield* merged(steps.at(-1))
      assert.strictEqual(
        (yield* local.query(`SELECT * FROM ${Layout.sqlName(layout.journal)}`)).length,
        steps.flatMap(({ changes }) => changes).length
      )
      yield* task.takeBack(layout)
    }), 60_000)

  it.effect("prunes what is merged and past its retention", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const { journal, layout, merged, task } = yield* handed(local, "task_pruned", "mirror", {
        journal: { retention: "1 day" }
      })
      const steps = Model.keyedHistory(72, 10)
      yield* journal(steps)
      yield* merged(steps.at(-1))
      yield* until(local.query(`SELECT * FROM ${Layout.sqlName(layout.journal)}`), (rows) => rows.length === 0)
      assert.deepStrictEqual(yield* local.query(`SELECT * FROM ${Layout.sqlName(layout.journal)}`), [])
      yield* task.takeBack(layout)
    }), 60_000)

  it.effect("leaves a history with every version", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const { journal, layout, merged, task } = yield* handed(local, "task_history", "history")
      const steps = Model.keyedHistory(11, 60)
      const model = new HistoryModel()
      for (let at = 0; at < steps.length; at += 20) {
        yield* journal(steps.slice(at, at + 20))
        yield* merged(steps[at + 19])
      }
      model.transactions(steps)
      assert.deepStrictEqual(yield* historyRows(local, layout), model.versions)
      yield* task.takeBack(layout)
    }), 120_000)

  it.effect(
    "does nothing any more once it was taken back, and neither a run that is under way",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        const { journal, layout, merged, task } = yield* handed(local, "task_back", "mirror")
        const steps = Model.keyedHistory(21, 20)
        yield* journal(steps.slice(0, 10))
        yield* merged(steps[9])
        assert.strictEqual(yield* task.takeBack(layout), Sequence.format(steps[9]?.sequence ?? Sequence.zero))
        const rows = yield* targetRows(local, layout)
        yield* journal(steps.slice(10))
        // As a run does that was queued before the task was suspended.
        yield* local.query(yield* bodyOf(local, layout))
        assert.deepStrictEqual(yield* targetRows(local, layout), rows)
      }),
    60_000
  )

  it.effect("applies nothing twice when the runner takes over while runs are under way", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const { journal, layout, state, task } = yield* handed(local, "task_race", "history")
      const steps = Model.keyedHistory(41, 60)
      const last = (at: number) => Sequence.format(steps[at]?.sequence ?? Sequence.zero)
      const merger = new Merger(
        local.sql,
        state,
        local.config({ ...byTask, mode: "history" }),
        layout,
        HistoryWindow.apply,
        begin,
        undefined,
        task,
        true
      )
      for (let at = 0; at < steps.length; at += 15) {
        yield* journal(steps.slice(at, at + 15))
        // What a run of the task does, twice at a time; the stream lets one wait for the other, or refuses it.
        const run = Effect.ignore(local.sql.execute({ what: "a run", sql: yield* bodyOf(local, layout) }))
        yield* Effect.all([run, run, Effect.andThen(merger.takeBack, merger.merge(last(at + 14), true))], {
          concurrency: 3
        })
        // Everything is merged: it is handed over again.
        merger.written(15, last(at + 14))
        yield* merger.merge(last(at + 14), false)
        const { merged, task } = yield* stateOf(local, "task_race")
        assert.strictEqual(merged, last(at + 14))
        assert.notStrictEqual(task, "")
      }
      const model = new HistoryModel()
      model.transactions(steps)
      assert.deepStrictEqual(yield* historyRows(local, layout), model.versions)

      // Somebody suspends the task: the runner sees it when there is something to merge.
      yield* local.query(`ALTER TASK ${Layout.sqlName(MergeTaskStatement.task(layout))} SUSPEND`)
      const more = Model.keyedHistory(41, 70)
      yield* journal(more.slice(60))
      const end = Sequence.format(more.at(-1)?.sequence ?? Sequence.zero)
      merger.written(10, end)
      yield* merger.merge(end, false)
      assert.strictEqual((yield* stateOf(local, "task_race")).merged, end)
      yield* task.takeBack(layout)
    }), 60_000)

  it.effect(
    "is taken back at the next merge when Snowflake rolled that back, though nothing is written any more",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        const name = "task_look"
        const { journal, layout, state, task } = yield* handed(local, name, "mirror")
        const steps = Model.keyedHistory(61, 10)
        const end = Sequence.format(steps.at(-1)?.sequence ?? Sequence.zero)
        const merger = new Merger(
          local.sql,
          state,
          local.config(byTask),
          layout,
          MirrorWindow.apply,
          begin,
          undefined,
          task,
          true
        )
        yield* local.query(`ALTER TASK ${Layout.sqlName(MergeTaskStatement.task(layout))} SUSPEND`)
        yield* journal(steps)
        merger.written(10, end)
        yield* local.fault("driver", {
          kind: "error",
          endpoint: "query",
          match: "^UPDATE .*SET \"TASK\" = ''",
          code: "000607",
          sqlState: "57014",
          message: "rolled back",
          count: 1
        })
        const error = yield* Effect.flip(merger.merge(end, false))
        assert.isTrue(isRolledBack(error), error.message)
        assert.deepStrictEqual(yield* local.faults, [])
        assert.isTrue(yield* merger.merge(end, false))
        assert.deepStrictEqual(yield* targetRows(local, layout), steps.at(-1)?.rows)
        yield* task.takeBack(layout)
      }),
    60_000
  )

  it.effect(
    "is left alone by a run that was taken over, and made again where that one came in between",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        const name = "task_fenced"
        const older = yield* handed(local, name, "mirror")
        const { journal, layout } = older
        const steps = Model.keyedHistory(81, 20)
        const end = (at: number) => Sequence.format(steps[at]?.sequence ?? Sequence.zero)
        yield* journal(steps.slice(0, 10))
        yield* older.merged(steps[9])

        const config = local.config({ merge: { ...byTask.merge, every: "20 seconds" } })
        const state = StateTable.make(local.sql, name, "RAW", "ETL_STREAM")
        yield* state.claim
        const task = new MergeTask(local.sql, state, config, name, new Map())
        const merged = (yield* task.takeBack(layout)) ?? ""
        assert.strictEqual(merged, end(9))
        yield* task.prepare(layout)
        yield* task.handOver(layout, merged)
        const before = yield* stateOf(local, name)
        for (const attempt of [older.task.handOver(layout, merged), older.task.takeBack(layout)]) {
          assert.strictEqual((yield* Effect.flip(attempt)).reason, "Fenced")
        }
        yield* journal(steps.slice(10, 15))
        yield* until(stateOf(local, name), ({ merged }) => merged === end(14))
        assert.strictEqual(yield* task.condition(layout), "started")
        assert.strictEqual((yield* stateOf(local, name)).task, before.task)

        // The older run had looked who is in charge just before, and replaces the task now: neither does that one anything.
        const own = MergeTaskStatement.make(layout, local.config(byTask), name, older.state.rowOf(layout))
        yield* local.query(own.create)
        yield* local.query(`ALTER TASK ${Layout.sqlName(MergeTaskStatement.task(layout))} RESUME`)
        yield* journal(steps.slice(15))
        yield* local.query(yield* bodyOf(local, layout))
        const stale = new Merger(local.sql, older.state, config, layout, MirrorWindow.apply, end(14))
        const error = yield* Effect.flip(stale.merge(end(19), true))
        assert.strictEqual(error.reason, "Fenced")
        assert.deepStrictEqual(yield* targetRows(local, layout), steps[14]?.rows)
        assert.deepStrictEqual(yield* stateOf(local, name), { merged: end(14), task: before.task })

        // The run that is in charge sees it, merges, and puts its own task back.
        assert.strictEqual(yield* task.condition(layout), "another than it should be")
        const merger = new Merger(local.sql, state, config, layout, MirrorWindow.apply, end(14), undefined, task, true)
        merger.written(5, end(19))
        for (let tick = 0; tick < 2; tick++) yield* merger.merge(end(19), false)
        assert.deepStrictEqual(yield* targetRows(local, layout), steps[19]?.rows)
        assert.deepStrictEqual(yield* stateOf(local, name), { merged: end(19), task: before.task })
        assert.strictEqual(yield* task.condition(layout), "started")
        yield* task.takeBack(layout)
      }),
    60_000
  )

  it.effect(
    "goes with a table that left the pipeline, or went to another target, while no run was there",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        const tables = ["stays", "leaves", "moves"].map((name) =>
          Batches.table(name, { id: { _tag: "Int64" } }, { _tag: "Key", columns: [0] })
        )
        const [stays, leaves, moves] = tables
        if (stays === undefined || leaves === undefined || moves === undefined) return assert.fail()
        const shown = (what: "TASKS" | "STREAMS") =>
          Effect.map(
            local.query(`SHOW ${what} IN SCHEMA RAW.ETL_STREAM`),
            (rows) =>
              rows.map((row) => String(row["name"])).filter((name) => /(STAYS|LEAVES|MOVES)__/.test(name)).toSorted()
          )
        const tokens = Effect.map(
          local.query(`SELECT "TASK" FROM RAW.ETL_STREAM.TABLES WHERE "PIPELINE" = 'left' ORDER BY "SOURCE_TABLE"`),
          (rows) => rows.map((row) => row["TASK"])
        )
        yield* hurried(
          every,
          Effect.scoped(Effect.gen(function*() {
            const running = yield* Local.run(local, byTask, "left")
            for (const table of tables) yield* Local.copy(yield* running.open(table), table, 10n, [])
            yield* until(tokens, (found) => found.every((token) => typeof token === "string" && token !== ""))
          }))
        )
        assert.strictEqual((yield* shown("TASKS")).length, 3)
        yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, { ...byTask, schema: "ELSEWHERE" }, "left")
          yield* running.sink.begin([stays, moves], Local.conditions())
          assert.deepStrictEqual(yield* shown("TASKS"), ["SHOP__MOVES__JOURNAL_MERGE", "SHOP__STAYS__JOURNAL_MERGE"])
          assert.deepStrictEqual(yield* shown("STREAMS"), [
            "SHOP__MOVES__JOURNAL_STREAM",
            "SHOP__STAYS__JOURNAL_STREAM"
          ])
          yield* running.open(moves)
          assert.deepStrictEqual(yield* shown("TASKS"), ["SHOP__STAYS__JOURNAL_MERGE"])
          const [left, , kept] = yield* tokens
          assert.isNull(left)
          assert.isString(kept)
        }))
      }),
    60_000
  )

  it.effect("leaves the merging to the runner while a table's changes still come by several channels", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const config = local.config(byTask)
      const layout = yield* Layout.make(config, "task_channels", Model.keyed)
      const state = StateTable.make(local.sql, "task_channels", "RAW", "ETL_STREAM")
      const sets = new Map([[layout.id, { ...single, epoch: 1, channels: 3 }]])
      const task = new MergeTask(local.sql, state, config, "task_channels", sets)
      assert.isFalse(task.serves(layout))
      sets.set(layout.id, { ...single, epoch: 2 })
      assert.isTrue(task.serves(layout))
    }))

  it.effect("leaves the merging to the runner when Snowflake refuses a task", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const { journal, layout, state, task } = yield* handed(local, "task_refused", "mirror")
      yield* task.takeBack(layout)
      const steps = Model.keyedHistory(51, 10)
      const end = Sequence.format(steps.at(-1)?.sequence ?? Sequence.zero)
      const config = local.config({ merge: { ...byTask.merge, taskWarehouse: "NOBODYS" } })
      const refused = new MergeTask(local.sql, state, config, "task_refused", new Map())
      const merger = new Merger(local.sql, state, config, layout, MirrorWindow.apply, begin, undefined, refused)
      yield* journal(steps)
      for (let tick = 0; tick < 2; tick++) yield* merger.merge(end, false)
      assert.deepStrictEqual(yield* targetRows(local, layout), steps.at(-1)?.rows)
      assert.deepStrictEqual(yield* stateOf(local, "task_refused"), { merged: end, task: "" })
    }), 60_000)

  it.effect(
    "is made by the sink, merges without it, makes way for new columns, and goes when it isn't wanted",
    () =>
      Effect.gen(function*() {
        const local = yield* Local.start({ taskSpeedup: 864_000 })
        const { clock, pass } = yield* handClock
        const daily = { merge: { ...byTask.merge, every: "1 day" } }
        const table = (columns: Parameters<typeof Batches.table>[1], version = 1) =>
          Batches.table("orders", columns, { _tag: "Key", columns: [0] }, "public", version)
        const narrow = table({ id: { _tag: "Int64" } })
        const wide = table({ id: { _tag: "Int64" }, city: { _tag: "Text", maxLength: undefined } }, 2)
        const insert = (id: bigint, commit: bigint, ...more: Batches.Row["values"]): Batches.Row => ({
          op: Operation.Insert,
          sequence: Sequence.make(commit, 1n),
          values: [id, ...more]
        })
        const rows = (columns: string) => local.query(`SELECT ${columns} FROM RAW.SHOP.ORDERS ORDER BY ID`)
        const inCharge = until(Effect.andThen(pass(1), stateOf(local, "shop")), ({ task }) =>
          typeof task === "string" && task !== "")
        const own = Effect.map(
          local.statements,
          (found) =>
            found.filter(({ needsWarehouse, task }) => needsWarehouse && task === null)
        )
        yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Effect.provideService(Local.run(local, daily, "shop"), Clock.Clock, clock)
          const opened = yield* running.open(narrow)
          yield* Local.copy(opened, narrow, 10n, [])
          yield* inCharge
          yield* local.clearStatements
          yield* opened.rows(Batches.batch(narrow, [insert(1n, 20n)]))
          yield* opened.durable(Sequence.make(20n, 1n))
          yield* until(stateOf(local, "shop"), ({ merged }) => merged === Sequence.format(Sequence.make(20n, 1n)))
          assert.deepStrictEqual(
            (yield* own).filter(({ sql }) => !sql.startsWith("SELECT \"MERGED\"")),
            [],
            "the runner's warehouse sleeps"
          )
          assert.deepStrictEqual(yield* rows("ID"), [{ ID: "1" }])

          yield* opened.writer.write({ _tag: "Schema", table: wide, sequence: Sequence.make(30n, 0n) })
          assert.strictEqual((yield* stateOf(local, "shop")).task, "", "taken back")
          yield* opened.rows(Batches.batch(wide, [insert(2n, 30n, "Oslo")]))
          yield* opened.durable(Sequence.make(30n, 1n))
          yield* inCharge
          yield* opened.rows(Batches.batch(wide, [insert(3n, 40n, "Rome")]))
          yield* opened.durable(Sequence.make(40n, 1n))
          yield* until(stateOf(local, "shop"), ({ merged }) => merged === Sequence.format(Sequence.make(40n, 1n)))
          assert.deepStrictEqual(yield* rows("ID, CITY"), [
            { ID: "1", CITY: null },
            { ID: "2", CITY: "Oslo" },
            { ID: "3", CITY: "Rome" }
          ])
        }))
        // A run that finds its task in charge leaves it there.
        const before = yield* stateOf(local, "shop")
        yield* local.clearStatements
        yield* Effect.scoped(Effect.flatMap(Local.run(local, daily, "shop"), (running) => running.open(wide)))
        assert.deepStrictEqual(yield* stateOf(local, "shop"), before)
        assert.deepStrictEqual(
          (yield* local.statements).filter(({ sql }) => /^(CREATE|ALTER|DROP) .*(TASK|STREAM) "/.test(sql)),
          []
        )
        // And one that wants none merges itself.
        yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, {}, "shop")
          const opened = yield* running.open(wide)
          assert.isNull((yield* stateOf(local, "shop")).task)
          assert.deepStrictEqual(yield* local.query("SHOW TASKS LIKE 'SHOP__ORDERS%' IN SCHEMA RAW.ETL_STREAM"), [])
          yield* opened.rows(Batches.batch(wide, [insert(4n, 50n, "Bonn")]))
          yield* opened.durable(Sequence.make(50n, 1n))
          yield* running.sink.settle
          assert.strictEqual((yield* rows("ID")).length, 4)
        }))
      }),
    120_000
  )

  it.effect("is idle without using a warehouse while nothing changes", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const { journal, layout, merged, task } = yield* handed(local, "task_idle", "mirror")
      const steps = Model.keyedHistory(31, 5)
      yield* journal(steps)
      yield* merged(steps.at(-1))
      const { name } = MergeTaskStatement.task(layout)
      const skips = local.query(
        `SELECT STATE FROM TABLE(RAW.INFORMATION_SCHEMA.TASK_HISTORY(TASK_NAME => '${name}', RESULT_LIMIT => 3)) ORDER BY SCHEDULED_TIME DESC`
      )
      yield* local.clearStatements
      yield* until(skips, (found) => found.length === 3 && found.every(({ STATE }) => STATE === "SKIPPED"))
      const used = (yield* local.statements).filter(({ needsWarehouse, task }) => needsWarehouse && task === name)
      assert.deepStrictEqual(used, [])
      yield* task.takeBack(layout)
    }), 60_000)

  it.effect("can't be asked for more often than Snowflake runs one", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const decoded = yield* Effect.exit(Effect.try(() => local.config({ merge: { by: "task", every: "5 seconds" } })))
      assert.isTrue(Exit.isFailure(decoded))
      assert.strictEqual(
        Duration.toSeconds(local.config({ merge: { by: "task", every: "10 seconds" } }).merge.every),
        10
      )
      const own = (every: string) =>
        Effect.exit(
          Effect.sync(() => local.config({ merge: { by: "task" }, tables: { "public.orders": { merge: { every } } } }))
        )
      assert.include(String(yield* own("5 seconds")), "10 seconds or more")
      const config = yield* own("20 seconds")
      if (Exit.isFailure(config)) return assert.fail("20 seconds were refused")
      const layout = yield* Layout.make(
        config.value,
        "own",
        Batches.table("orders", { id: { _tag: "Int32" } }, { _tag: "Key", columns: [0] })
      )
      const row = StateTable.make(local.sql, "own", "RAW", "ETL_STREAM").rowOf(layout)
      assert.include(
        MergeTaskStatement.make(layout, config.value, "own", row).create,
        "SCHEDULE = '20 SECONDS'"
      )
    }))
})
