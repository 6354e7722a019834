/**
 * Dead letters: every refused value is kept before its row is durable, once, and can be written later.
 */
import { assert, describe, it } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import type * as Condition from "@etl-stream/core/Condition"
import type { DeadLetter } from "@etl-stream/core/DeadLetter"
import type { DeadLetters, Replayed } from "@etl-stream/core/DeadLetterStore"
import * as LogicalType from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Telemetry from "@etl-stream/core/Telemetry"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Stream from "effect/Stream"
import * as fc from "fast-check"
import * as DeadLetterReplay from "../src/DeadLetterReplay.ts"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

const text: LogicalType.LogicalType = { _tag: "Text", maxLength: undefined }
const shape = {
  id: { _tag: "Int64" },
  amount: { _tag: "Decimal", precision: 10, scale: 2 },
  day: { _tag: "Date" },
  code: text,
  note: text
} as const satisfies Record<string, LogicalType.LogicalType>
const keyed = (name: string) => Batches.table(name, shape, { _tag: "Key", columns: [0] })

const places = [
  ["files", { directory: "letters" }],
  ["Parquet files", { directory: "letters", format: "parquet" }],
  ["a table", { table: true }]
] as const

const options = (deadLetters: object, id: string, code = "VARCHAR(5)") => ({
  deadLetters,
  tables: { [`public.${id}`]: { columns: { code: { type: code } } } }
})

const office = (local: Local.Local, more: object, pipeline = "shop") =>
  Effect.flatMap(
    DeadLetterReplay.make(local.config(more), { pipeline, directory: local.directory }),
    (letters) => letters === undefined ? Effect.die("no dead letters") : Effect.succeed(letters)
  )

const all = ({ store }: DeadLetters, table: string, pipeline = "shop") =>
  Effect.map(
    Stream.runCollect(store.list({ pipeline, table: `public.${table}` })),
    (letters) => [...letters].sort((a, b) => a.sequence < b.sequence ? -1 : a.sequence > b.sequence ? 1 : 0)
  )

const at = (commit: number, ordinal = 0): Sequence.Sequence => Sequence.make(BigInt(commit), BigInt(ordinal))

const row = (
  op: Operation,
  sequence: Sequence.Sequence,
  ...values: ReadonlyArray<Batches.Value>
): Batches.Row => ({ op, sequence, values })

const rowsOf = (local: Local.Local, table: string) =>
  local.query(
    `SELECT "ID"::VARCHAR AS "ID", "AMOUNT"::VARCHAR AS "AMOUNT", TO_VARCHAR("DAY", 'YYYY-MM-DD') AS "DAY", "CODE", "NOTE" FROM RAW.SHOP."${table.toUpperCase()}" ORDER BY 1`
  ).pipe(Effect.map((found) =>
    found.map((line) =>
      ["ID", "AMOUNT", "DAY", "CODE", "NOTE"].map((name) => line[name] === "NULL" ? null : line[name] ?? null)
    )
  ))

const replayAll = Effect.fnUntraced(function*(letters: DeadLetters, of: ReadonlyArray<DeadLetter>) {
  const outcomes: Array<Replayed["_tag"]> = []
  for (const letter of of) outcomes.push((yield* letters.replay(letter))._tag)
  return outcomes
})

describe("Dead letters", () => {
  for (const [place, deadLetters] of places) {
    it.live(`in ${place} hold what a row could not take, from the copy and the stream, and go where they belong later`, () =>
      Effect.gen(function*() {
        const local = yield* Local.start()
        const table = keyed("mixed")
        const raised = new Map<string, Condition.Condition>()
        const config = options(deadLetters, "mixed")
        const counted = Effect.map(
          Metric.value(
            Metric.withAttributes(Telemetry.deadLetters, {
              [Telemetry.Attributes.pipeline]: "shop",
              [Telemetry.Attributes.table]: "public.mixed"
            })
          ),
          ({ count }) => count
        )
        const already = yield* counted
        const before = yield* office(local, config)
        assert.deepStrictEqual(yield* all(before, "mixed"), [])
        assert.isUndefined(yield* before.store.get("shop", "none"))
        yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, config)
          yield* running.sink.begin([table], Local.conditions(raised))
          const opened = yield* running.open(table)
          assert.strictEqual(raised.size, 0)
          yield* Local.copy(opened, table, 10n, [
            Batches.batch(table, [
              row(Operation.Read, at(10), 1n, "NaN", 0, "ok", "a"),
              row(Operation.Read, at(10), 2n, "1.50", LogicalType.dateInfinity, "too long", "b")
            ])
          ])
          yield* opened.rows(Batches.batch(table, [
            row(Operation.Insert, at(20, 0), 3n, "-Infinity", LogicalType.dateNegativeInfinity, "ok", "c"),
            row(Operation.Insert, at(20, 1), 4n, "2.50", -719_163, "longer\u2028", "d"),
            // A later value of the column makes the letter one of the past; one of another column doesn't tell.
            row(Operation.Insert, at(20, 2), 5n, "NaN", 1, "first too long", "e"),
            row(Operation.Update, at(20, 3), 5n, "5.00", 1, "later", "e"),
            row(Operation.Insert, at(20, 4), 6n, "6.00", 1, "toasted", "f"),
            row(Operation.Update, at(20, 5), 6n, "6.01", 1, Batches.unsent, "f"),
            row(Operation.Insert, at(20, 6), 7n, "7.00", 1, "deleted", "g"),
            row(Operation.Delete, at(20, 7), 7n, "NaN", null, "too long as well", null),
            // The row takes its NULL to another key, and another row comes for the old one.
            row(Operation.Insert, at(20, 8), 8n, "8.00", 1, "moved on", "h"),
            row(Operation.KeyChangeOld, at(20, 9), 8n, null, null, null, null),
            row(Operation.KeyChangeNew, at(20, 10), 9n, "8.00", 1, Batches.unsent, "h"),
            row(Operation.Insert, at(20, 11), 8n, "9.00", 1, "new", "i")
          ]))
          yield* opened.durable(at(20, 11))
          yield* running.sink.settle
        }))
        assert.strictEqual(yield* counted, already + 12)
        const condition = raised.get("dead-letters public.mixed")
        assert.strictEqual(condition?.severity, "warning")
        assert.notInclude(JSON.stringify(condition), "too long")
        assert.deepStrictEqual(yield* rowsOf(local, "mixed"), [
          ["1", null, "1970-01-01", "ok", "a"],
          ["2", "1.50", null, null, "b"],
          ["3", null, null, "ok", "c"],
          ["4", "2.50", null, null, "d"],
          ["5", "5.00", "1970-01-02", "later", "e"],
          ["6", "6.01", "1970-01-02", null, "f"],
          ["8", "9.00", "1970-01-02", "new", "i"],
          ["9", "8.00", "1970-01-02", null, "h"]
        ])
        yield* Effect.scoped(Effect.gen(function*() {
          const letters = yield* office(local, config)
          const kept = yield* all(letters, "mixed")
          assert.deepStrictEqual(
            kept.map(({ column, key, row, values }) => [row, key[0]?.name, column.name, values[column.name]]).sort(),
            [
              ["[\"1\"]", "id", "amount", "NaN"],
              ["[\"2\"]", "id", "code", "too long"],
              ["[\"2\"]", "id", "day", "infinity"],
              ["[\"3\"]", "id", "amount", "-Infinity"],
              ["[\"3\"]", "id", "day", "-infinity"],
              ["[\"4\"]", "id", "code", "longer\u2028"],
              ["[\"4\"]", "id", "day", "0001-12-31 BC"],
              ["[\"5\"]", "id", "amount", "NaN"],
              ["[\"5\"]", "id", "code", "first too long"],
              ["[\"6\"]", "id", "code", "toasted"],
              ["[\"7\"]", "id", "code", "deleted"],
              ["[\"8\"]", "id", "code", "moved on"]
            ]
          )
          const second = kept.find(({ column, row }) => row === "[\"2\"]" && column.name === "code")
          assert.deepInclude(second, {
            operation: "read",
            sequence: Sequence.format(at(10)),
            values: { id: "2", amount: "1.50", day: "infinity", code: "too long", note: "b" },
            unsent: []
          })
          for (const { reason } of kept) {
            for (const value of ["too long", "toasted", "deleted", "0001"]) assert.notInclude(reason, value)
          }
          // As things are, they fit no better.
          const outcomes = yield* replayAll(letters, kept)
          assert.deepStrictEqual([...new Set(outcomes)].sort(), ["Refused"])
        }))
        // The column gets a longer type, and dates become the nearest.
        const mended = { ...options(deadLetters, "mixed", "VARCHAR(100)"), outOfRange: "clamp" }
        // Until the pipeline has altered the column it holds no more than before.
        yield* Effect.scoped(Effect.gen(function*() {
          const letters = yield* office(local, mended)
          const codes = (yield* all(letters, "mixed")).filter(({ column }) => column.name === "code")
          assert.deepStrictEqual([...new Set(yield* replayAll(letters, codes))], ["Refused"])
        }))
        yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, mended)
          yield* running.open(table)
          const letters = yield* office(local, mended)
          const kept = yield* all(letters, "mixed")
          const outcomes = new Map<string, Replayed["_tag"]>()
          for (const letter of kept) {
            const { _tag } = yield* letters.replay(letter)
            outcomes.set(`${letter.row} ${letter.column.name}`, _tag)
            if (_tag === "Written" || _tag === "Superseded") yield* letters.store.remove([letter])
          }
          assert.deepStrictEqual(
            Object.fromEntries([...outcomes].map(([which, tag]) => [which.replace(/\W+/g, " ").trim(), tag])),
            {
              "1 amount": "Written",
              "2 code": "Written",
              "2 day": "Written",
              "3 amount": "Written",
              "3 day": "Written",
              "4 code": "Written",
              "4 day": "Written",
              "5 amount": "Superseded",
              "5 code": "Superseded",
              "6 code": "Unclear",
              "7 code": "Unclear",
              "8 code": "Unclear"
            }
          )
          assert.deepStrictEqual((yield* all(letters, "mixed")).map(({ row }) => row), [
            "[\"6\"]",
            "[\"7\"]",
            "[\"8\"]"
          ])
          const [left] = yield* all(letters, "mixed")
          assert.deepStrictEqual(yield* letters.store.get("shop", left?.id ?? ""), left)
          assert.isUndefined(yield* letters.store.get("shop", "none"))
        }))
        const other = yield* office(local, mended)
        yield* local.query("ALTER TABLE RAW.SHOP.MIXED RENAME COLUMN CODE TO MOVED")
        const gone = yield* all(other, "mixed")
        assert.deepStrictEqual(yield* replayAll(other, gone), gone.map(() => "Unclear"))
        yield* local.query("ALTER TABLE RAW.SHOP.MIXED RENAME COLUMN MOVED TO CODE")
        assert.deepStrictEqual(yield* rowsOf(local, "mixed"), [
          ["1", null, "1970-01-01", "ok", "a"],
          ["2", "1.50", "9999-12-31", "too long", "b"],
          ["3", null, "0001-01-01", "ok", "c"],
          ["4", "2.50", "0001-01-01", "longer\u2028", "d"],
          ["5", "5.00", "1970-01-02", "later", "e"],
          ["6", "6.01", "1970-01-02", null, "f"],
          ["8", "9.00", "1970-01-02", "new", "i"],
          ["9", "8.00", "1970-01-02", null, "h"]
        ])
      }).pipe(Effect.scoped))
  }

  it.live("are kept once, however often a change is delivered, and before the change is durable", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      for (const [name, deadLetters] of [["once", { directory: "once" }], ["once_more", { table: true }]] as const) {
        const table = keyed(name)
        const config = options(deadLetters, name)
        const batch = Batches.batch(table, [
          row(Operation.Insert, at(20, 0), 1n, "1.00", 1, "too long", "a"),
          row(Operation.Insert, at(20, 1), 2n, "2.00", 1, "ok", "b")
        ])
        const letters = yield* office(local, config)
        yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, config)
          const opened = yield* running.open(table)
          yield* Local.copy(opened, table, 10n, [])
          // The append never gets through: the run ends between the letter and the rows.
          yield* local.fault("streaming", { endpoint: "append", kind: "invalidateChannel" })
          assert.isDefined(yield* Effect.flip(opened.rows(batch)))
          assert.deepStrictEqual(opened.reported, [])
        }))
        yield* local.clearFaults
        assert.strictEqual((yield* all(letters, name)).length, 1)
        yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, config)
          const opened = yield* running.open(table)
          yield* opened.rows(batch)
          yield* opened.durable(at(20, 1))
          yield* running.sink.settle
        }))
        const kept = yield* all(letters, name)
        assert.deepStrictEqual(kept.map(({ values }) => values["code"]), ["too long"])
        // Put by hand: the same letter changes nothing, until it is forgotten.
        assert.strictEqual(yield* letters.store.put([...kept, ...kept]), 0)
        yield* letters.store.remove(kept)
        assert.deepStrictEqual(yield* all(letters, name), [])
        assert.strictEqual(yield* letters.store.put([...kept, ...kept]), 1)
        assert.deepStrictEqual(yield* all(letters, name), kept)
        assert.deepStrictEqual((yield* rowsOf(local, name)).map((line) => line[3]), [null, "ok"])
      }
    }).pipe(Effect.scoped))

  it.live("stop the table where they can't help: in keys, and when there are too many", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const dated = Batches.table("dated", { day: { _tag: "Date" }, note: text }, { _tag: "Key", columns: [0] })
      const running = yield* Local.run(local, { deadLetters: { directory: "few", limit: 2 } })
      const opened = yield* running.open(dated)
      const key = yield* Effect.flip(
        opened.rows(Batches.batch(dated, [row(Operation.Insert, at(20), LogicalType.dateInfinity, "a")]))
      )
      assert.include(String(key), "DAY")
      const many = keyed("many")
      for (
        const [name, deadLetters] of [["files", { directory: "few", limit: 2 }], ["table", { table: true, limit: 2 }]]
      ) {
        const other = yield* Local.run(local, { deadLetters, schema: `M_${name}` }, String(name))
        const table = yield* other.open(many)
        const insert = (commit: number) =>
          table.rows(Batches.batch(many, [row(Operation.Insert, at(commit), BigInt(commit), "NaN", 1, "x", "a")]))
        yield* insert(20)
        yield* insert(21)
        const error = yield* Effect.flip(insert(22))
        assert.include(JSON.stringify(error), "Rejected")
        assert.include(JSON.stringify(error), "public.many")
        assert.include(String(error), "more than 2 values")
      }
    }).pipe(Effect.scoped))

  it.live("find their rows in changelogs and in tables without a key", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const cases: ReadonlyArray<readonly [string, string, TableSchema["identity"], ReadonlyArray<Replayed["_tag"]>]> =
        [
          ["log", "changelog", { _tag: "Key", columns: [0] }, ["Written", "Written", "Written"]],
          ["log_bare", "changelog", { _tag: "None" }, ["Unclear", "Written", "Written"]],
          ["versions", "history", { _tag: "Key", columns: [0] }, ["Written", "Written", "Written", "Unclear"]],
          ["bag", "mirror", { _tag: "Full" }, ["Written", "Written"]],
          ["added", "mirror", { _tag: "None" }, ["Unclear", "Written", "Written"]]
        ]
      for (const [name, mode, identity, expected] of cases) {
        const table = Batches.table(name, shape, identity)
        const config = (code: string) => {
          const { deadLetters, tables } = options({ directory: name }, name, code)
          return { deadLetters, mode, tables }
        }
        yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, config("VARCHAR(5)"))
          const opened = yield* running.open(table)
          yield* Local.copy(opened, table, 10n, [
            Batches.batch(table, [row(Operation.Read, at(10), 1n, "1.00", 1, "copied", "a")])
          ])
          yield* opened.rows(Batches.batch(table, [
            row(Operation.Insert, at(20, 0), 2n, "2.00", 1, "streamed", "b"),
            row(Operation.Insert, at(20, 1), 3n, "3.00", 1, "streamed too", "c"),
            // A later version takes what it isn't sent from the one before.
            ...(mode === "history"
              ? [
                row(Operation.Insert, at(20, 2), 4n, "4.00", 1, "inherited", "d"),
                row(Operation.Update, at(20, 3), 4n, "4.01", 1, Batches.unsent, "d")
              ]
              : []),
            ...(identity._tag === "Full" ? [row(Operation.Delete, at(20, 2), 1n, "1.00", 1, "copied", "a")] : [])
          ]))
          yield* opened.durable(at(20, mode === "history" ? 3 : identity._tag === "Full" ? 2 : 1))
          yield* running.sink.settle
        }))
        yield* Effect.scoped(Effect.gen(function*() {
          const mended = config("VARCHAR(50)")
          yield* (yield* Local.run(local, mended)).open(table)
          const letters = yield* office(local, mended)
          const kept = yield* all(letters, name)
          const outcomes = yield* replayAll(letters, kept)
          // Of the bag the copied row is gone.
          assert.deepStrictEqual(identity._tag === "Full" ? outcomes.slice(1) : outcomes, [...expected], name)
          const codes = (yield* rowsOf(local, name)).map((line) => line[3])
          assert.includeMembers(codes, ["streamed", "streamed too"])
          assert.strictEqual(codes.includes("copied"), expected[0] === "Written" && identity._tag !== "Full", name)
        }))
      }
    }).pipe(Effect.scoped))

  it.live("from before a table was copied again are written nowhere that its new rows are", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const cases: ReadonlyArray<
        readonly [
          name: string,
          mode: string,
          identity: TableSchema["identity"],
          outcomes: ReadonlyArray<Replayed["_tag"]>,
          codes: ReadonlyArray<string | null>
        ]
      > = [
        // Of the three letters from before only a log has rows still; of those of the new copy a history can't tell whose the NULL is.
        ["again", "mirror", { _tag: "Key", columns: [0] }, ["Superseded", "Superseded", "Superseded", "Written"], [
          "new value"
        ]],
        ["again_bag", "mirror", { _tag: "Full" }, ["Superseded", "Superseded", "Superseded", "Written"], ["new value"]],
        ["again_log", "changelog", { _tag: "Key", columns: [0] }, ["Superseded", "Written", "Written", "Written"], [
          "new value",
          "second value",
          "third value"
        ]],
        ["again_versions", "history", { _tag: "Key", columns: [0] }, ["Unclear", "Unclear", "Unclear", "Unclear"], [
          null,
          null,
          null
        ]]
      ]
      for (const [name, mode, identity, expected, codes] of cases) {
        const table = Batches.table(name, shape, identity)
        const config = (code: string) => {
          const { deadLetters, tables } = options({ directory: name }, name, code)
          return { deadLetters, mode, tables }
        }
        yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, config("VARCHAR(5)"))
          const opened = yield* running.open(table)
          const copied = (commit: number, code: string) =>
            Local.copy(opened, table, BigInt(commit), [
              Batches.batch(table, [row(Operation.Read, at(commit), 1n, "1.00", 1, code, "a")])
            ])
          yield* copied(10, "first value")
          yield* opened.rows(Batches.batch(table, [
            ...(identity._tag === "Full" ? [row(Operation.Delete, at(20, 1), 1n, "1.00", 1, "first value", "a")] : []),
            row(
              identity._tag === "Full" ? Operation.Insert : Operation.Update,
              at(20, 2),
              1n,
              "1.00",
              1,
              "second value",
              "a"
            ),
            ...(identity._tag === "Full" ? [row(Operation.Delete, at(30, 1), 1n, "1.00", 1, "second value", "a")] : []),
            row(
              identity._tag === "Full" ? Operation.Insert : Operation.Update,
              at(30, 2),
              1n,
              "1.00",
              1,
              "third value",
              "a"
            )
          ]))
          yield* opened.durable(at(30, 2))
          yield* running.sink.settle
          // Changes of before are missed from here on: all that is known of the row is what the new copy reads, a NULL like the one before.
          yield* copied(100, "new value")
          yield* running.sink.settle
        }))
        yield* Effect.scoped(Effect.gen(function*() {
          const mended = config("VARCHAR(50)")
          yield* (yield* Local.run(local, mended)).open(table)
          const letters = yield* office(local, mended)
          const kept = (yield* all(letters, name)).filter(({ operation }) => operation !== "delete")
          assert.deepStrictEqual(kept.map(({ values }) => values["code"]), [
            "first value",
            "second value",
            "third value",
            "new value"
          ])
          // In the other order nothing else comes of it.
          const backwards = yield* replayAll(letters, kept.toReversed())
          assert.deepStrictEqual(backwards.toReversed(), [...expected], name)
          assert.deepStrictEqual((yield* rowsOf(local, name)).map((line) => line[3] ?? null).sort(), [...codes], name)
          if (expected.includes("Superseded")) {
            const old = kept.filter((_, index) => expected[index] === "Superseded")
            assert.deepStrictEqual(yield* replayAll(letters, old), old.map(() => "Superseded"), name)
          }
        }))
      }
    }).pipe(Effect.scoped))

  it.live("account for every value: each is in its row exactly, or NULL there with a letter", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const running = yield* Local.run(local, { deadLetters: { directory: "every" } })
      const letters = yield* office(local, { deadLetters: { directory: "every" } })
      let run = 0
      const amount = fc.constantFrom("NaN", "Infinity", "1.25", "-9.00", null)
      const day = fc.constantFrom<Batches.Value>(LogicalType.dateInfinity, 2_932_897, 0, 19_000, null)
      const change = fc.record({
        id: fc.integer({ min: 1, max: 4 }),
        amount,
        day,
        unsent: fc.boolean(),
        gone: fc.boolean()
      })
      const scenario = fc.array(change, { minLength: 1, maxLength: 12 })
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(scenario, fc.array(fc.tuple(amount, day), { maxLength: 3 }), (changes, copied) =>
            Effect.runPromise(Effect.scoped(Effect.gen(function*() {
              const name = `every_${run++}`
              const table = Batches.table(name, { id: shape.id, amount: shape.amount, day: shape.day }, {
                _tag: "Key",
                columns: [0]
              })
              const opened = yield* running.open(table)
              /** The last sent values per key, with where they were sent. */
              const model = new Map<
                number,
                { readonly amount: readonly [Batches.Value, string]; readonly day: readonly [Batches.Value, string] }
              >()
              const first = Sequence.format(at(10))
              copied.forEach(([amount, day], index) =>
                model.set(index + 1, { amount: [amount, first], day: [day, first] })
              )
              yield* Local.copy(
                opened,
                table,
                10n,
                copied.length === 0
                  ? []
                  : [Batches.batch(
                    table,
                    copied.map((values, index) =>
                      row(Operation.Read, at(10), BigInt(index + 1), ...values)
                    )
                  )]
              )
              const rows = changes.map(({ amount, day, gone, id, unsent }, index): Batches.Row => {
                const sequence = at(20, index)
                const where = Sequence.format(sequence)
                const known = model.get(id)
                if (known !== undefined && gone) {
                  model.delete(id)
                  return row(Operation.Delete, sequence, BigInt(id), amount, day)
                }
                if (known !== undefined && unsent) {
                  model.set(id, { amount: known.amount, day: [day, where] })
                  return row(Operation.Update, sequence, BigInt(id), Batches.unsent, day)
                }
                model.set(id, { amount: [amount, where], day: [day, where] })
                return row(known === undefined ? Operation.Insert : Operation.Update, sequence, BigInt(id), amount, day)
              })
              yield* opened.rows(Batches.batch(table, rows))
              yield* opened.durable(at(20, rows.length - 1))
              yield* running.sink.settle
              const kept = new Set(
                (yield* all(letters, name)).map(({ column, row, sequence }) => `${row} ${column.name} ${sequence}`)
              )
              const found = yield* local.query(
                `SELECT "ID"::VARCHAR AS "ID", "AMOUNT"::VARCHAR AS "AMOUNT", DATEDIFF('DAY', '1970-01-01'::DATE, "DAY")::VARCHAR AS "DAY" FROM RAW.SHOP."${name.toUpperCase()}"`
              )
              assert.deepStrictEqual(
                found.map((line) => line["ID"]).sort(),
                [...model.keys()].map(String).sort()
              )
              for (const line of found) {
                const id = Number(line["ID"])
                for (const column of ["amount", "day"] as const) {
                  const [value, where] = model.get(id)?.[column] ?? [null, ""]
                  const held = line[column.toUpperCase()] ?? null
                  if (held !== null && held !== "NULL") assert.strictEqual(held, String(value))
                  else if (value !== null) {
                    assert.isTrue(kept.has(`["${id}"] ${column} ${where}`), `${id} ${column} is lost`)
                  }
                }
              }
            })))),
          { numRuns: 12 }
        )
      )
    }).pipe(Effect.scoped))
})
