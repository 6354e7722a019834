/**
 * Several channels for one table: whatever happens, the journal has each change exactly once, and the mirror is right.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { randomBytes } from "node:crypto"
import { literal } from "../src/Identifier.ts"
import * as RowRouter from "../src/RowRouter.ts"
import * as Layout from "../src/TableLayout.ts"
import * as Batches from "./Batches.ts"
import { targetRows } from "./ChunkedCopyModel.ts"
import * as Local from "./Local.ts"
import type { Step } from "./MirrorModel.ts"
import * as Model from "./MirrorModel.ts"
import { configOf } from "./StreamingStub.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(
    Server,
    Local.start({ streaming: { commitDelayMillis: { min: 5, max: 120 }, requestsPerSecond: 10 } })
  )
}

const seeds = (from: number, count: number): ReadonlyArray<number> =>
  Array.from({ length: count }, (_, index) => from + index)

const withChannels = (table: TableSchema, channels: number, more: object = {}) => ({
  tables: { [tableId(table.table)]: { channels } },
  ...more
})

type Change = Step["changes"][number]

const sequenceOf = (change: Change): Sequence.Sequence => "truncate" in change ? change.truncate : change.sequence

const later = (a: Sequence.Sequence, b: Sequence.Sequence | undefined): Sequence.Sequence =>
  b === undefined ? a : Sequence.max(a, b)

/** Rows up to the next truncate as one batch, or the truncate. */
const elements = (
  table: TableSchema,
  changes: ReadonlyArray<Change>
): ReadonlyArray<ChangeBatch.ChangeBatch | Change> => {
  const found: Array<ChangeBatch.ChangeBatch | Change> = []
  let rows: Array<Batches.Row> = []
  const flush = (): void => {
    if (rows.length > 0) found.push(Batches.batch(table, rows))
    rows = []
  }
  for (const change of changes) {
    if ("truncate" in change) {
      flush()
      found.push(change)
    } else rows.push(change)
  }
  flush()
  return found
}

const writeAll = (opened: Local.Opened, table: TableSchema, changes: ReadonlyArray<Change>) =>
  Effect.forEach(
    elements(table, changes),
    (element) =>
      "truncate" in element
        ? opened.writer.write({ _tag: "Truncate", table, sequence: element.truncate, commitTime: Batches.commitTime })
        : "records" in element
        ? opened.rows(element)
        : Effect.void,
    { discard: true }
  )

/** How many changes the journal has up to `upTo`, and how many different ones. */
const inJournal = (local: Local.Local, layout: Layout.TableLayout, upTo: Sequence.Sequence) =>
  Effect.map(
    local.query(
      `SELECT COUNT(*) AS "n", COUNT(DISTINCT "_ETL_SEQ") AS "d" FROM ${
        Layout.sqlName(layout.journal)
      } WHERE "_ETL_SEQ" <= ${literal(Sequence.format(upTo))}`
    ),
    ([row]) => [Number(row?.["n"]), Number(row?.["d"])]
  )

const faults = [
  undefined,
  { kind: "dropAfterStore", endpoint: "append" },
  { kind: "dropBeforeStore", endpoint: "append" },
  { kind: "invalidateChannel", endpoint: "append" },
  { kind: "status", endpoint: "append", status: 500, body: "ERR_GENERAL_EXCEPTION_RETRY_REQUEST" },
  { kind: "status", endpoint: "append", status: 413 },
  { kind: "loseUncommitted", endpoint: "open" }
] as const

/** Runs a history through runs that end at any moment, each with another number of channels. */
const replay = Effect.fnUntraced(
  function*(local: Local.Local, model: TableSchema, steps: ReadonlyArray<Step>, seed: number) {
    const pipeline = `channels${seed}`
    const table = { ...model, table: { schema: "public", name: `${model.table.name}_${seed}` } }
    const layout = yield* Layout.make(local.config(), pipeline, table)
    const next = Model.random(seed)
    const changes = steps.flatMap((step) => step.changes)
    const last = sequenceOf(changes.at(-1) ?? { truncate: Sequence.zero })
    /** What the source was told to be durable, so that it may never come again. */
    let confirmed = Sequence.make(9n, 0n)
    let from = 0
    for (let run = 0;; run++) {
      const ending = run >= 3
      const channels = [1, 2, 3, 5][next(4)] ?? 1
      const seen = `seed ${seed}, run ${run}, ${channels} channels`
      const done = yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Local.run(
          local,
          withChannels(table, channels, { merge: { every: next(2) === 0 ? "20 millis" : "1 hour" } }),
          pipeline
        )
        /** How many changes are given, or aren't given any more; undefined before the source says where it begins and while some are being written. */
        let given: number | undefined
        const opened = yield* running.open(table, () => {
          const last = changes[(given ?? 0) - 1]
          return last === undefined ? undefined : sequenceOf(last)
        })
        if (run === 0) yield* Local.copy(opened, table, 10n, [])
        const position = opened.writer.position.committed
        // Never more is claimed than the journal holds, and nothing that was confirmed is missing.
        const claimed = later(confirmed, position)
        const expected = changes.filter((change) => Sequence.compare(sequenceOf(change), claimed) <= 0).length
        assert.deepStrictEqual(yield* inJournal(local, layout, claimed), [expected, expected], seen)
        // The source begins anywhere up to what it was told; the engine leaves out what the sink holds.
        const begin = changes.findIndex((change) => Sequence.compare(sequenceOf(change), confirmed) > 0)
        from = Math.max(0, (begin < 0 ? changes.length : begin) - next(6))
        if (next(3) > 0 && run > 0) {
          yield* local.fault("streaming", {
            ...faults[next(faults.length)] ?? { kind: "delay", millis: 30 },
            skip: next(4)
          })
        }
        const crash = ending ? changes.length : from + next(40)
        const writing = Effect.gen(function*() {
          given = from
          for (let at = from; at < changes.length && at < crash;) {
            const to = Math.min(crash, changes.length, at + 1 + next(20))
            const part = changes.slice(at, to).filter((change) =>
              position === undefined || Sequence.compare(sequenceOf(change), position) > 0
            )
            given = undefined
            yield* writeAll(opened, table, part)
            given = to
            at = to
            if (next(3) === 0) yield* Effect.sleep(next(150))
          }
          if (!ending) return false
          yield* opened.durable(last)
          yield* running.sink.settle
          return true
        })
        const finished = yield* writing.pipe(
          // As `durable` rethrows what the sink's background work failed with.
          Effect.catchDefect((defect) => Effect.fail(defect)),
          Effect.catch((failed) => {
            const error = failed as ConnectorError // the sink's only error type
            // The run ends and begins anew; any other end is a defect. A mark has no halves, however small a request may be.
            assert.isTrue(
              error.reason === "Fenced" || /^A truncate .* too large/.test(error.message),
              `${seen}: ${String(failed)}`
            )
            return Effect.succeed(false)
          })
        )
        for (const [index, sequence] of opened.reported.entries()) {
          const before = opened.reported[index - 1] ?? position
          assert.isTrue(before === undefined || Sequence.compare(before, sequence) < 0, seen)
          // What a run knows at its beginning may be less than what was confirmed.
          confirmed = later(confirmed, sequence)
        }
        return finished
      }))
      if (run % 2 === 0) yield* local.clearFaults
      if (done) break
      assert.isBelow(run, 12, `${seen}: no end`)
    }
    yield* local.clearFaults
    assert.deepStrictEqual(yield* inJournal(local, layout, last), [changes.length, changes.length], `seed ${seed}`)
    assert.deepStrictEqual(yield* targetRows(local, layout), steps.at(-1)?.rows, `seed ${seed}`)
  }
)

const named = (name: string) =>
  Batches.table(name, { id: { _tag: "Int64" }, note: { _tag: "Text", maxLength: undefined } }, {
    _tag: "Key",
    columns: [0]
  })
const at = (ordinal: number) => Sequence.make(20n, BigInt(ordinal))
const inserts = (name: string, from: number, to: number, note: Batches.Value = "note") =>
  Batches.batch(
    named(name),
    Array.from({ length: to - from }, (_, index): Batches.Row => ({
      op: Operation.Insert,
      sequence: at(from + index),
      values: [BigInt(from + index), note]
    }))
  )
const open = Effect.fnUntraced(function*(local: Local.Local, name: string, channels: number, copied = false) {
  const running = yield* Local.run(local, withChannels(named(name), channels, { merge: { every: "1 hour" } }), name)
  const table = yield* running.open(named(name))
  if (!copied) yield* Local.copy(table, named(name), 10n, [])
  return { running, table }
})
const exactly = Effect.fnUntraced(function*(local: Local.Local, name: string, rows: number) {
  const layout = yield* Layout.make(local.config(), name, named(name))
  assert.deepStrictEqual(yield* inJournal(local, layout, at(1_000_000)), [rows, rows])
  assert.strictEqual((yield* targetRows(local, layout)).length, rows)
})
const assigned = (local: Local.Local, name: string) =>
  local.query(`SELECT "EPOCH", "CHANNELS", "HELD" FROM RAW.ETL_STREAM.CHANNELS WHERE "PIPELINE" = ${literal(name)}`)

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("Channels", (it) => {
  for (const seed of seeds(1, 3)) {
    it.effect(`hold a keyed table's history exactly once through runs with any number of them (seed ${seed})`, () =>
      Effect.gen(function*() {
        const local = yield* Server
        yield* replay(local, Model.keyed, Model.keyedHistory(seed, 100, 12), seed)
      }))
  }
  for (const seed of seeds(101, 1)) {
    it.effect(`hold a keyless table's history exactly once through runs with any number of them (seed ${seed})`, () =>
      Effect.gen(function*() {
        const local = yield* Server
        yield* replay(local, Model.keyless, Model.keylessHistory(seed, 100, []), seed)
      }))
  }

  it.effect("that are idle hold nothing back, and those that are slow hold everything after them", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const { running, table } = yield* open(local, "slow", 3)
      yield* table.rows(inserts("slow", 0, 60))
      yield* table.durable(at(59))
      const [set] = yield* assigned(local, "slow")
      const slow = `ETL_STREAM_${Layout.plainName("slow")}_${String(set?.["EPOCH"])}_1`
      const routes = RowRouter.route(
        yield* Layout.make(local.config(), "slow", named("slow")),
        inserts("slow", 60, 90),
        3
      )
      const first = 60 + routes.indexOf(1)
      yield* local.fault("streaming", { kind: "holdCommits", channel: slow })
      yield* table.rows(inserts("slow", 60, 90))
      // The others commit all of theirs, and only what is before the slow one's first row counts.
      const layout = yield* Layout.make(local.config(), "slow", named("slow"))
      const others = 60 + routes.filter((route) => route !== 1).length
      yield* Effect.repeat(inJournal(local, layout, at(1000)), { until: ([rows]) => rows === others })
      assert.isBelow(Number(table.reported.at(-1)?.ordinal), first)
      yield* running.sink.settle
      assert.isAtMost((yield* targetRows(local, layout)).length, first)
      // Rows of another channel alone don't wait for it longer than it takes.
      yield* local.clearFaults
      yield* table.durable(at(89))
      yield* running.sink.settle
      yield* exactly(local, "slow", 90)
    }))

  it.effect("are merged only once the last row of each of them shows", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const name = "unseen"
      const { running, table } = yield* open(local, name, 3)
      const layout = yield* Layout.make(local.config(), name, named(name))
      const [set] = yield* assigned(local, name)
      const batch = inserts(name, 0, 60)
      const routes = RowRouter.route(layout, batch, 3)
      // Not the channel of the last row: the window's end shows.
      const late = routes[59] === 0 ? 1 : 0
      yield* local.fault("streaming", {
        kind: "lateRows",
        channel: `ETL_STREAM_${Layout.plainName(name)}_${String(set?.["EPOCH"])}_${late}`
      })
      yield* table.rows(batch)
      yield* table.durable(at(59))
      yield* local.clearStatements
      const merging = yield* running.sink.settle.pipe(Effect.forkChild)
      const looks = Effect.map(local.statements, (statements) =>
        statements.filter(({ sql }) => sql.includes(`AS "shown"`)))
      // It looks again and again, and merges nothing meanwhile.
      const again = Effect.repeat(looks, {
        until: (found) =>
          found.length > 2
      })
      const waits = yield* Effect.raceFirst(Effect.as(again, true), Effect.as(Fiber.await(merging), false))
      assert.isTrue(waits, "it waits for the rows")
      assert.deepStrictEqual(yield* targetRows(local, layout), [])
      yield* local.clearFaults
      yield* Fiber.join(merging)
      yield* exactly(local, name, 60)
    }))

  it.effect("leave a table to the runner that took over, whatever its number of channels", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (const [before, after] of [[3, 3], [3, 2], [1, 3], [3, 1]] as const) {
        const name = `takeover${before}${after}`
        const stale = yield* open(local, name, before)
        yield* stale.table.rows(inserts(name, 0, 30))
        const next = yield* open(local, name, after, true)
        // All that the first one had accepted was waited for.
        const position = Number(next.table.writer.position.committed?.ordinal ?? -1)
        const error = (yield* Effect.flip(stale.table.rows(inserts(name, 30, 60)))) as ConnectorError // the sink's only error type
        assert.strictEqual(error.reason, "Fenced", name)
        yield* next.table.rows(inserts(name, position + 1, 60))
        yield* next.table.durable(at(59))
        yield* next.running.sink.settle
        yield* exactly(local, name, 60)
      }
    }))

  it.effect("aren't changed by a runner that lost the table while it opened them", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const name = "contended"
      yield* Effect.scoped(open(local, name, 1))
      // Another run claims the table between this one's reading of the table of channels and its opening.
      const running = yield* Local.run(local, withChannels(named(name), 1), name)
      yield* local.query(
        `INSERT INTO RAW.ETL_STREAM.CHANNELS ("PIPELINE", "SOURCE_TABLE", "EPOCH", "CHANNELS", "OWNER") VALUES ('${name}', 'public.${name}', 0, 1, 'other')`
      )
      const error = (yield* Effect.flip(running.open(named(name)))) as ConnectorError // the sink's only error type
      assert.strictEqual(error.reason, "Fenced")
      // And one that knows of it, but finds that it has another set by now.
      const third = yield* Local.run(local, withChannels(named(name), 2), name)
      yield* local.query(`UPDATE RAW.ETL_STREAM.CHANNELS SET "EPOCH" = 7 WHERE "PIPELINE" = '${name}'`)
      const late = (yield* Effect.flip(third.open(named(name)))) as ConnectorError // the sink's only error type
      assert.strictEqual(late.reason, "Fenced")
    }))

  it.effect("remember rows that Snowflake skipped, also when their number changes", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (const [before, after] of [[1, 3], [3, 1]] as const) {
        const name = `skipping${before}${after}`
        yield* Effect.scoped(Effect.gen(function*() {
          const { table } = yield* open(local, name, before)
          yield* local.fault("streaming", { kind: "rejectRowSilently", endpoint: "append" })
          yield* table.rows(inserts(name, 0, 1))
          const error = (yield* Effect.flip(
            table.durable(at(0)).pipe(Effect.catchDefect((defect) => Effect.fail(defect)))
          )) as ConnectorError // as `durable` rethrows what the sink's background work failed with
          assert.strictEqual(error.reason, "Rejected")
        }))
        yield* local.clearFaults
        for (let run = 0; run < 2; run++) {
          const running = yield* Local.run(local, withChannels(named(name), after), name)
          const error = (yield* Effect.flip(running.open(named(name)))) as ConnectorError // the sink's only error type
          assert.include(error.message, "skipped", name)
        }
        // A new copy mends it.
        yield* local.query(`DELETE FROM RAW.ETL_STREAM.TABLES WHERE "PIPELINE" = ${literal(name)}`)
        const running = yield* Local.run(local, withChannels(named(name), after), name)
        const mended = yield* running.open(named(name))
        yield* Local.copy(mended, named(name), 15n, [])
        yield* mended.rows(inserts(name, 0, 30))
        yield* mended.durable(at(29))
        yield* running.sink.settle
        yield* exactly(local, name, 30)
        assert.strictEqual((yield* assigned(local, name))[0]?.["CHANNELS"], String(after))
      }
    }))

  it.effect("go on where the journal is when Snowflake has forgotten some or all of them, also when their number changes", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (const [forgotten, after] of [[[0], 3], [[0, 1, 2], 3], [[0], 2], [[0, 1, 2], 2]] as const) {
        const name = `forgotten${forgotten.length}${after}`
        yield* Effect.scoped(Effect.gen(function*() {
          const { table } = yield* open(local, name, 3)
          yield* table.rows(inserts(name, 0, 40))
          yield* table.durable(at(39))
        }))
        const [set] = yield* assigned(local, name)
        yield* Effect.forEach(
          forgotten,
          (index) =>
            Local.dropChannel(
              local,
              `SHOP__${name.toUpperCase()}__JOURNAL`,
              name,
              `_${String(set?.["EPOCH"])}_${index}`
            )
        )
        const { running, table } = yield* open(local, name, after, true)
        // Everything comes again: the source was told nothing.
        const held = table.writer.position.committed
        yield* table.rows(inserts(name, held?.commit === 20n ? Number(held.ordinal) + 1 : 0, 60))
        yield* table.durable(at(59))
        yield* running.sink.settle
        yield* exactly(local, name, 60)
      }
    }))

  it.effect("carry rows too large for a request in their place, each in its channel", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const name = "largeinmany"
      const { running, table } = yield* open(local, name, 3)
      const large = randomBytes(4_125_000).toString("base64")
      const rows = Array.from({ length: 12 }, (_, index): Batches.Row => ({
        op: Operation.Insert,
        sequence: at(index),
        values: [BigInt(index), index === 4 || index === 5 ? large : "small"]
      }))
      yield* table.rows(Batches.batch(named(name), rows))
      yield* table.durable(at(11))
      yield* running.sink.settle
      yield* exactly(local, name, 12)
    }))

  it.effect("begin anew with each copy, and are as many as the options say from then on", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const name = "copied"
      const { running, table } = yield* open(local, name, 2)
      yield* table.rows(inserts(name, 0, 20))
      yield* table.durable(at(19))
      const first = yield* assigned(local, name)
      // A copy at a lower position than what was written, as after the source was made anew.
      yield* Local.copy(table, named(name), 15n, [])
      assert.isAbove(Number((yield* assigned(local, name))[0]?.["EPOCH"]), Number(first[0]?.["EPOCH"]))
      yield* table.rows(inserts(name, 0, 30))
      yield* table.durable(at(29))
      yield* running.sink.settle
      yield* exactly(local, name, 30)
    }))
})

describe("RowRouter", () => {
  it.effect("sends rows of one key through one channel, in every version", () =>
    Effect.gen(function*() {
      const table = Batches.table("t", {
        on: { _tag: "Boolean" },
        id: { _tag: "Int64" },
        code: { _tag: "Text", maxLength: undefined }
      }, { _tag: "Key", columns: [0, 1, 2] })
      const layout = yield* Layout.make(configOf("http://localhost"), "p", table)
      const rows = Array.from({ length: 64 }, (_, index): Batches.Row => ({
        op: Operation.Insert,
        sequence: at(index),
        values: [index % 2 === 0, BigInt(index >> 1), `code ${index % 7}`]
      }))
      const routes = RowRouter.route(layout, Batches.batch(table, rows), 5)
      // Stored offsets depend on it.
      assert.strictEqual([...routes].join(""), "2411420310121130310003100004442332320001234340042333011314122011")
      // So it doesn't matter which types columns are given in Snowflake.
      const asText = { on: { type: "VARCHAR" }, id: { type: "VARCHAR" } }
      const other = configOf("http://localhost", { tables: { "public.t": { columns: asText } } })
      assert.deepStrictEqual(
        RowRouter.route(yield* Layout.make(other, "p", table), Batches.batch(table, rows), 5),
        routes
      )
      // Where a row stands in its batch makes no difference.
      for (const [index, row] of rows.entries()) {
        assert.deepStrictEqual([...RowRouter.route(layout, Batches.batch(table, [row]), 5)], [routes[index]])
      }
      // Values that run together are told apart, and all channels get their share.
      assert.strictEqual(new Set(routes).size, 5)
    }))
})
