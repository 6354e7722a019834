/**
 * Copies that go on in a later run, beside the changes, through the sink as the engine uses it.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableWriter } from "@etl-stream/core/Sink"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as fc from "fast-check"
import * as Layout from "../src/TableLayout.ts"
import * as Batches from "./Batches.ts"
import * as ChunkedCopy from "./ChunkedCopyModel.ts"
import * as Local from "./Local.ts"
import * as Model from "./MirrorModel.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const named = (name: string): TableSchema =>
  Batches.table(name, { id: { _tag: "Int64" }, note: { _tag: "Text", maxLength: undefined } }, {
    _tag: "Key",
    columns: [0]
  })
const at = (commit: number, ordinal: number) => Sequence.make(BigInt(commit), BigInt(ordinal))
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index)
const read = (table: TableSchema, position: number, from: number, to: number) =>
  Batches.batch(
    table,
    range(from, to).map((id) => ({
      op: Operation.Read,
      sequence: at(position, 0),
      values: [BigInt(id), `at ${position}`]
    }))
  )
const insert = (table: TableSchema, commit: number, id: number) =>
  Batches.batch(table, [{ op: Operation.Insert, sequence: at(commit, 1), values: [BigInt(id), `at ${commit}`] }])
const update = (table: TableSchema, commit: number, id: number) =>
  Batches.batch(table, [{ op: Operation.Update, sequence: at(commit, 1), values: [BigInt(id), `at ${commit}`] }])

/** Each chunk is loaded as soon as it has ended. */
const eager = { copy: { every: "0 seconds" }, merge: { every: "50 millis" } }
/** Chunks wait for the copy's end. */
const late = { copy: { every: "1 hour" } }

const run = (local: Local.Local, table: TableSchema, more: object = eager) =>
  Effect.gen(function*() {
    const running = yield* Local.run(local, more, table.table.name)
    return { running, opened: yield* running.open(table) }
  })

const end = (writer: TableWriter, table: TableSchema, position: bigint, chunks: number, settled = position) =>
  writer.write({ _tag: "SnapshotEnd", table, position, chunks, settled })

/** Notes by id. */
const rows = (local: Local.Local, name: string) =>
  Effect.map(
    local.query(`SELECT "ID", "NOTE" FROM RAW.SHOP.${name.toUpperCase()} ORDER BY "ID", "NOTE"`),
    (found) => found.map((row) => [Number(row["ID"]), row["NOTE"]])
  )

const chunksOf = (writer: TableWriter) => [...writer.position.copying?.chunks ?? []].sort(([a], [b]) => a - b)

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("A resumed copy", (it) => {
  const crashes: ReadonlyArray<{
    readonly name: string
    readonly crash: (writer: TableWriter, table: TableSchema, local: Local.Local) => Effect.Effect<void, unknown>
    readonly more?: object
    readonly durable: ReadonlyArray<number>
  }> = [
    { name: "nothing_read", crash: () => Effect.void, durable: [] },
    {
      name: "staged",
      crash: (writer, table) =>
        writer.write({ _tag: "SnapshotRows", batch: read(table, 10, 0, 5), position: 10n, chunk: 0 }),
      durable: []
    },
    {
      name: "ended",
      crash: (writer, table) => Local.chunk(writer, table, 10n, 0, [read(table, 10, 0, 5)]),
      more: late,
      durable: []
    },
    {
      name: "not_committed",
      crash: (writer, table, local) =>
        Effect.gen(function*() {
          yield* Local.chunk(writer, table, 12n, 1, [read(table, 12, 5, 10)])
          const fault = { endpoint: "query", kind: "error", count: 1, match: "INSERT INTO .*CHUNKS" }
          yield* local.fault("driver", { ...fault, code: "000603", sqlState: "XX000", message: "internal error" })
          yield* Effect.flip(Local.chunk(writer, table, 10n, 0, [read(table, 10, 0, 5)]))
          yield* local.clearFaults
        }),
      durable: [1]
    },
    {
      name: "committed",
      crash: (writer, table) =>
        Effect.gen(function*() {
          yield* Local.chunk(writer, table, 10n, 0, [read(table, 10, 0, 3), read(table, 10, 3, 5)])
          yield* writer.write({ _tag: "SnapshotRows", batch: read(table, 10, 5, 7), position: 10n, chunk: 1 })
          yield* Local.chunk(writer, table, 10n, 2, [])
        }),
      durable: [0, 2]
    },
    {
      // Chunks of two snapshots take two COPY statements, in one transaction.
      name: "half_copied",
      crash: (writer, table, local) =>
        Effect.gen(function*() {
          yield* Local.chunk(writer, table, 10n, 0, [read(table, 10, 0, 5)])
          yield* Local.chunk(writer, table, 12n, 1, [read(table, 12, 5, 10)])
          yield* Local.chunk(writer, table, 12n, 2, [])
          const fault = {
            endpoint: "query",
            kind: "error",
            count: 1,
            match: `COPY INTO .*${Sequence.format(at(12, 0))}`
          }
          yield* local.fault("driver", { ...fault, code: "000603", sqlState: "XX000", message: "internal error" })
          yield* Effect.flip(end(writer, table, 10n, 3))
          yield* local.clearFaults
        }),
      more: late,
      durable: []
    },
    {
      name: "not_ended",
      crash: (writer, table, local) =>
        Effect.gen(function*() {
          yield* Local.chunk(writer, table, 10n, 0, [read(table, 10, 0, 5)])
          yield* Local.chunk(writer, table, 10n, 1, [read(table, 10, 5, 10)])
          yield* Local.chunk(writer, table, 10n, 2, [])
          const fault = { endpoint: "query", kind: "error", count: 1, match: "UPDATE .*TABLES.*COPIED_TO" }
          yield* local.fault("driver", { ...fault, code: "000603", sqlState: "XX000", message: "internal error" })
          yield* Effect.flip(end(writer, table, 10n, 3))
          yield* local.clearFaults
        }),
      durable: [0, 1, 2]
    }
  ]
  for (const { crash, durable, more, name } of crashes) {
    it.effect(`copies only what is missing when it was cut off (${name})`, () =>
      Effect.gen(function*() {
        const local = yield* Server
        const table = { ...named(name), origin: "one" }
        const plan = JSON.stringify({ plan: "ü'\\?".repeat(80_000) })
        yield* Effect.scoped(Effect.gen(function*() {
          const { writer } = (yield* run(local, table, more)).opened
          yield* Local.begin(writer, table, 10n, plan)
          yield* crash(writer, table, local)
        }))
        yield* Effect.scoped(Effect.gen(function*() {
          const { writer } = (yield* run(local, table)).opened
          const { copied, copying } = writer.position
          assert.strictEqual(copied, undefined)
          assert.deepStrictEqual(chunksOf(writer).map(([number]) => number), durable)
          assert.deepStrictEqual([copying?.position, copying?.plan === plan, copying?.origin], [10n, true, "one"])
          const held = [5, 5, 0]
          assert.strictEqual(copying?.rows, durable.reduce((sum, number) => sum + (held[number] ?? 0), 0))
          yield* Local.begin(writer, table, 10n, plan, true)
          for (const number of [2, 1, 0].filter((chunk) => !durable.includes(chunk))) {
            yield* Local.chunk(
              writer,
              table,
              20n,
              number,
              number === 2 ? [] : [read(table, 20, 5 * number, 5 * number + 5)]
            )
          }
          yield* end(writer, table, 10n, 3, 25n)
        }))
        const position = yield* Effect.scoped(Effect.map(run(local, table), ({ opened }) => opened.writer.position))
        assert.deepStrictEqual(position, {
          copied: 10n,
          committed: Sequence.make(9n, (1n << 64n) - 1n),
          settled: 25n,
          origin: "one"
        })
        assert.deepStrictEqual((yield* rows(local, name)).map(([id]) => id), range(0, 10))
        assert.deepStrictEqual(
          yield* local.query(`SELECT * FROM RAW.ETL_STREAM.CHUNKS WHERE "PIPELINE" = '${name}'`),
          []
        )
        assert.deepStrictEqual(
          yield* local.query(
            `LIST @RAW.ETL_STREAM.LOADS/${Layout.plainName(name)}/${Layout.plainName(`public.${name}`)}`
          ),
          []
        )
      }))
  }

  it.effect("takes changes meanwhile, merges none of them before its end, and none that a chunk holds already", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table = named("meanwhile")
      yield* Effect.scoped(Effect.gen(function*() {
        const { opened, running } = yield* run(local, table)
        yield* Local.begin(opened.writer, table, 10n, "plan")
        yield* opened.rows(insert(table, 11, 100))
        yield* Local.chunk(opened.writer, table, 10n, 0, [read(table, 10, 0, 2)])
        yield* opened.rows(update(table, 12, 0))
        yield* opened.rows(update(table, 12, 5))
        yield* opened.durable(at(12, 1))
        yield* running.sink.settle
        assert.deepStrictEqual(yield* rows(local, "meanwhile"), [[0, "at 10"], [1, "at 10"]])
      }))
      const { opened, running } = yield* run(local, table)
      assert.deepStrictEqual(opened.writer.position.committed, at(12, 1))
      yield* Local.begin(opened.writer, table, 10n, "plan", true)
      yield* opened.rows(update(table, 15, 1))
      yield* Local.chunk(opened.writer, table, 14n, 1, [read(table, 14, 5, 7)])
      yield* end(opened.writer, table, 10n, 2, 16n)
      yield* opened.durable(at(15, 1))
      yield* running.sink.settle
      assert.deepStrictEqual(yield* rows(local, "meanwhile"), [
        [0, "at 12"],
        [1, "at 15"],
        [5, "at 14"],
        [6, "at 14"],
        [100, "at 11"]
      ])
    }))

  it.effect("of a table without a key begins anew, and goes on with the changes after its one snapshot", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table: TableSchema = { ...named("bag"), identity: { _tag: "Full" } }
      const begun = (again: boolean) =>
        Effect.gen(function*() {
          const { opened, running } = yield* run(local, table)
          assert.deepStrictEqual(opened.writer.position, { copied: undefined, committed: undefined })
          yield* Local.begin(opened.writer, table, 10n)
          // It is in the copy already, and mustn't be added to it.
          yield* opened.rows(insert(table, 12, 100))
          yield* Local.chunk(opened.writer, table, 15n, 0, [read(table, 15, 0, 2), read(table, 15, 0, 2)])
          yield* opened.rows(insert(table, 20, 0))
          if (!again) return
          yield* Local.chunk(opened.writer, table, 15n, 1, [
            Batches.batch(table, [{ op: Operation.Read, sequence: at(15, 0), values: [100n, "at 12"] }])
          ])
          yield* end(opened.writer, table, 10n, 2, 15n)
          yield* opened.rows(
            Batches.batch(table, [{ op: Operation.Delete, sequence: at(21, 1), values: [100n, "at 12"] }])
          )
          yield* opened.durable(at(21, 1))
          yield* running.sink.settle
        })
      yield* Effect.scoped(begun(false))
      yield* Effect.scoped(begun(true))
      assert.deepStrictEqual(yield* rows(local, "bag"), [[0, "at 15"], [0, "at 15"], [0, "at 20"], [1, "at 15"], [
        1,
        "at 15"
      ]])
    }))

  it.effect("can't be worked on by the run that it was taken from, nor be taken over unawares", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table = named("stale")
      const fenced = (write: Effect.Effect<void, unknown>) =>
        Effect.map(Effect.flip(write), (error) => assert.strictEqual((error as ConnectorError).reason, "Fenced")) // the sink's only error type
      const first = (yield* run(local, table)).opened.writer
      yield* Local.begin(first, table, 10n, "plan")
      yield* Local.chunk(first, table, 10n, 0, [read(table, 10, 0, 5)])
      const second = (yield* run(local, table)).opened.writer
      assert.deepStrictEqual(chunksOf(second), [[0, 10n]])
      // The first one gets further after the second one has looked.
      yield* Local.chunk(first, table, 10n, 1, [read(table, 10, 5, 10)])
      yield* fenced(Local.begin(second, table, 10n, "plan", true))
      const third = (yield* run(local, table)).opened.writer
      assert.deepStrictEqual(chunksOf(third), [[0, 10n], [1, 10n]])
      yield* Local.begin(third, table, 10n, "plan", true)
      yield* fenced(Local.chunk(first, table, 10n, 2, [read(table, 10, 10, 15)]))
      yield* Local.chunk(third, table, 20n, 2, [read(table, 20, 10, 15)])
      yield* fenced(end(first, table, 10n, 2))
      yield* end(third, table, 10n, 3)
      assert.deepStrictEqual((yield* rows(local, "stale")).map(([id]) => id), range(0, 15))
    }))

  it.effect("is void when its table left the pipeline, its target is gone, or it was never ready to be resumed", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table = named("voided")
      const position = Effect.scoped(Effect.map(run(local, table), ({ opened }) => opened.writer.position))
      const begun = (plan?: string) =>
        Effect.scoped(Effect.gen(function*() {
          const { writer } = (yield* run(local, table)).opened
          yield* Local.begin(writer, table, 10n, plan)
          yield* Local.chunk(writer, table, 10n, 0, [read(table, 10, 0, 5)])
        }))
      const nothing = { copied: undefined, committed: undefined }
      yield* begun("plan")
      assert.strictEqual((yield* position).copying?.rows, 5)
      yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Local.run(local, eager, "voided")
        yield* running.sink.begin([named("other")], Local.conditions())
      }))
      assert.deepStrictEqual(yield* position, nothing)
      yield* begun("plan")
      yield* local.query("DROP TABLE RAW.SHOP.VOIDED")
      assert.deepStrictEqual(yield* position, nothing)
      yield* begun()
      assert.deepStrictEqual(yield* position, nothing)
      // The journal was emptied and its channel not yet set back.
      yield* Effect.scoped(Effect.gen(function*() {
        const { opened } = yield* run(local, table)
        yield* Local.copy(opened, table, 20n, [])
        yield* opened.rows(insert(table, 30, 1))
        yield* opened.durable(at(30, 1))
        const fault = { endpoint: "query", kind: "error", count: 1, match: "UPDATE .*COPY_PLAN. = \\?" }
        yield* local.fault("driver", { ...fault, code: "000603", sqlState: "XX000", message: "internal error" })
        yield* Effect.flip(Local.begin(opened.writer, table, 25n, "plan"))
        yield* local.clearFaults
      }))
      assert.deepStrictEqual(yield* position, nothing)
    }))

  it.effect("refuses rows skipped by Snowflake, chunks twice, and several snapshots of a table without a key", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table = named("refusing")
      const reason = (write: Effect.Effect<unknown, unknown>) =>
        Effect.map(Effect.flip(write), (error) => (error as ConnectorError).reason) // the sink's only error type
      yield* Effect.scoped(Effect.gen(function*() {
        const { opened, running } = yield* run(local, table)
        yield* Local.begin(opened.writer, table, 10n, "plan")
        yield* Local.chunk(opened.writer, table, 10n, 0, [read(table, 10, 0, 5)])
        assert.strictEqual(yield* reason(Local.chunk(opened.writer, table, 10n, 0, [])), "Protocol")
        assert.strictEqual(yield* reason(Local.chunk(opened.writer, table, 9n, 1, [])), "Protocol")
        assert.strictEqual(yield* reason(Local.begin(opened.writer, table, 10n, "another", true)), "Protocol")
        yield* local.fault("streaming", { kind: "rejectRowSilently", endpoint: "append" })
        yield* opened.rows(insert(table, 11, 7))
        assert.strictEqual(yield* reason(Deferred.await(running.failure)), "Rejected")
      }))
      assert.strictEqual(yield* reason(Effect.scoped(run(local, table))), "Rejected")
      const keyless: TableSchema = { ...named("refusing_bag"), identity: { _tag: "Full" } }
      const { writer } = (yield* run(local, keyless)).opened
      yield* Local.begin(writer, keyless, 10n)
      yield* Local.chunk(writer, keyless, 12n, 0, [read(keyless, 12, 0, 5)])
      assert.strictEqual(yield* reason(Local.chunk(writer, keyless, 13n, 1, [])), "Protocol")
    }))

  it.effect("keeps the table's later origin, and ends the run when columns change meanwhile", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table = { ...named("shaped"), origin: "one" }
      const later = { ...table, version: 2, origin: "two" }
      const position = Effect.scoped(Effect.map(run(local, table), ({ opened }) => opened.writer.position))
      yield* Effect.scoped(Effect.gen(function*() {
        const { writer } = (yield* run(local, table)).opened
        yield* Local.begin(writer, table, 10n, "plan")
        yield* writer.write({ _tag: "Schema", table: later, sequence: at(11, 0) })
      }))
      assert.strictEqual((yield* position).copying?.origin, "two")
      yield* Effect.scoped(Effect.gen(function*() {
        const { writer } = (yield* run(local, table)).opened
        yield* Local.begin(writer, table, 10n, "plan", true)
        const wider = Batches.table("shaped", { id: { _tag: "Int64" }, note: { _tag: "Json" } }, table.identity)
        const error = yield* Effect.flip(
          writer.write({ _tag: "Schema", table: { ...wider, version: 3 }, sequence: at(12, 0) })
        )
        assert.strictEqual(error.reason, "Fenced")
        yield* Local.chunk(writer, table, 10n, 0, [read(table, 10, 0, 1)])
        yield* end(writer, table, 10n, 1)
      }))
      assert.strictEqual((yield* position).origin, "two")
    }))

  it.effect("follows a table that is left and copied again in one run, and keeps what was merged", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table = named("left")
      const { opened, running } = yield* run(local, table)
      const { writer } = opened
      yield* Local.copy(opened, table, 10n, [read(table, 10, 0, 2)])
      yield* opened.rows(insert(table, 11, 7))
      yield* opened.durable(at(11, 1))
      yield* running.sink.settle
      yield* opened.rows(update(table, 12, 0))
      yield* writer.write({ _tag: "TableLeft", table })
      yield* running.sink.settle
      const position = Effect.scoped(
        Effect.map(run(local, named("left")), ({ opened: again }) => again.writer.position)
      )
      assert.deepStrictEqual((yield* rows(local, "left")).map(([id]) => id), [0, 1, 7])
      yield* Local.begin(writer, table, 20n, "plan")
      yield* Local.chunk(writer, table, 20n, 0, [read(table, 20, 0, 3)])
      yield* opened.rows(update(table, 21, 1))
      yield* writer.write({ _tag: "TableLeft", table })
      assert.deepStrictEqual(yield* position, { copied: undefined, committed: undefined })
      const { opened: again, running: anew } = yield* run(local, table)
      yield* Local.copy(again, table, 30n, [read(table, 30, 0, 2)])
      yield* again.rows(update(table, 31, 1))
      yield* again.durable(at(31, 1))
      yield* anew.sink.settle
      assert.deepStrictEqual(yield* rows(local, "left"), [[0, "at 30"], [1, "at 31"]])
    }))

  it.effect("goes on in a changelog, too", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table = named("logged")
      const more = { ...eager, mode: "changelog", schema: "LOGS" }
      yield* Effect.scoped(Effect.gen(function*() {
        const { opened } = yield* run(local, table, more)
        yield* Local.begin(opened.writer, table, 10n, "plan")
        yield* Local.chunk(opened.writer, table, 10n, 0, [read(table, 10, 0, 2)])
        yield* opened.rows(insert(table, 11, 7))
        yield* opened.durable(at(11, 1))
      }))
      const { opened } = yield* run(local, table, more)
      assert.deepStrictEqual(chunksOf(opened.writer), [[0, 10n]])
      assert.deepStrictEqual(opened.writer.position.committed, at(11, 1))
      yield* Local.begin(opened.writer, table, 10n, "plan", true)
      yield* Local.chunk(opened.writer, table, 12n, 1, [read(table, 12, 2, 4)])
      yield* end(opened.writer, table, 10n, 2)
      assert.deepStrictEqual(
        yield* local.query(`SELECT "_ETL_OP" AS "OP", "ID", "NOTE" FROM RAW.LOGS.LOGGED ORDER BY "ID"`),
        [[0, 10], [1, 10], [2, 12], [3, 12], [7, 11]].map(([id, position]) => ({
          OP: id === 7 ? "insert" : "read",
          ID: String(id),
          NOTE: `at ${position}`
        }))
      )
    }))

  let serial = 0
  it.effect("ends as the source's table, wherever runs are cut off", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const property = (seed: number, count: number) =>
        Effect.gen(function*() {
          const next = Model.random(seed)
          const steps = Model.keyedHistory(seed, 30)
          const all = ChunkedCopy.positions(steps)
          const baseIndex = next(Math.max(1, all.length >> 1))
          const base = all[baseIndex] ?? 0n
          const table = { ...Model.keyed, table: { schema: "public", name: `cut_${serial++}` } }
          const layout = yield* Layout.make(local.config(), table.table.name, table)
          const changes = steps.filter(({ sequence }) => sequence.commit >= base).flatMap((step) =>
            ChunkedCopy.sent(step, () => true)
          )
          const last = ChunkedCopy.sequenceOf(changes.at(-1))
          /** One run of the pipeline; true when it came to the end. */
          const pipeline = (budget: number) =>
            Effect.gen(function*() {
              const { opened, running } = yield* run(local, table, next(2) === 0 ? eager : late)
              const { writer } = opened
              const { committed, copied, copying } = writer.position
              let rest = changes.filter((change) =>
                committed === undefined || Sequence.compare(ChunkedCopy.sequenceOf(change), committed) > 0
              )
              let missing = range(0, copied === undefined ? count : 0).filter((chunk) =>
                copying?.chunks.has(chunk) !== true
              )
              let copies = copied === undefined
              if (copies) yield* Local.begin(writer, table, base, "plan", copying !== undefined)
              while (copies || rest.length > 0) {
                if (budget-- === 0) return false
                const kind = next(3)
                if (copies && (kind === 0 || rest.length === 0)) {
                  const [chunk, ...others] = missing
                  if (chunk === undefined) {
                    yield* end(writer, table, base, count, last.commit)
                    copies = false
                    continue
                  }
                  missing = others
                  const position = all[baseIndex + next(all.length - baseIndex)] ?? base
                  const batches = ChunkedCopy.rowsAt(steps, position).filter((values) =>
                    ChunkedCopy.chunkOf(values, count) === chunk
                  ).map((values) =>
                    Batches.batch(table, [{ op: Operation.Read, sequence: Sequence.make(position, 0n), values }])
                  )
                  // Cut off within the chunk.
                  if (budget === 0) {
                    for (const batch of batches) yield* writer.write({ _tag: "SnapshotRows", batch, position, chunk })
                    return false
                  }
                  yield* Local.chunk(writer, table, position, chunk, batches)
                } else {
                  const [change] = rest
                  if (change !== undefined && "truncate" in change) {
                    yield* writer.write({
                      _tag: "Truncate",
                      table,
                      sequence: change.truncate,
                      commitTime: Batches.commitTime
                    })
                    rest = rest.slice(1)
                    continue
                  }
                  const until = rest.findIndex((other) => "truncate" in other)
                  const taken = rest.slice(0, Math.min(until < 0 ? rest.length : until, 1 + next(8)))
                  yield* opened.rows(Batches.batch(table, taken.flatMap((other) => "truncate" in other ? [] : [other])))
                  rest = rest.slice(taken.length)
                }
              }
              yield* Effect.repeat(Effect.sleep("20 millis"), {
                until: () => {
                  const reported = opened.reported.at(-1) ?? committed
                  return changes.length === 0 || (reported !== undefined && Sequence.compare(reported, last) >= 0)
                }
              })
              yield* running.sink.settle
              return true
            })
          while (!(yield* Effect.scoped(pipeline(1 + next(14))))) {
            // The next run goes on.
          }
          assert.deepStrictEqual(yield* ChunkedCopy.targetRows(local, layout), steps.at(-1)?.rows)
        })
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.integer(),
            fc.integer({ min: 1, max: 5 }),
            (seed, count) => Effect.runPromise(property(seed, count))
          ),
          { numRuns: 6, endOnFailure: true }
        )
      )
    }), 240_000)
})
