/** Cases of what a sink does with what it is given: copies, changes, shapes and values. */
import { Operation } from "@etl-stream/core/ChangeBatch"
import {
  dateInfinity,
  dateNegativeInfinity,
  type LogicalType,
  timestampInfinity,
  timestampNegativeInfinity
} from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import * as BatchOf from "../BatchOf.ts"
import * as CanonicalCell from "../CanonicalCell.ts"
import type { Case } from "../Conformance.ts"
import type { Subject } from "../SinkSubject.ts"
import * as Histories from "./history.ts"
import { differences, type Kit, lineOf, scenario } from "./sinkKit.ts"
import { giveAll, type OpenTable } from "./sinkRun.ts"
import { mark } from "./workload.ts"

const text: LogicalType = { _tag: "Text", maxLength: undefined }

/** Values that get lost easily, by their types. */
const awkward: ReadonlyArray<readonly [type: LogicalType, values: ReadonlyArray<BatchOf.Value>]> = [
  [{ _tag: "Boolean" }, [true, false]],
  [{ _tag: "Int16" }, [-32768, 32767, 0]],
  [{ _tag: "Int32" }, [-2147483648, 2147483647]],
  [{ _tag: "Int64" }, [-9223372036854775808n, 9223372036854775807n, 9007199254740993n]],
  [{ _tag: "Float32" }, [
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Math.fround(1.1),
    Math.fround(3.4e38)
  ]],
  [{ _tag: "Float64" }, [
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    0.1 + 0.2,
    5e-324,
    1.7976931348623157e308
  ]],
  [{ _tag: "Decimal", precision: undefined, scale: undefined }, [
    "1234567890123456789012345678901234567890.0123456789",
    "-0.00000000000000000000000000000000000001",
    "NaN",
    "0"
  ]],
  [{ _tag: "Decimal", precision: 12, scale: 2 }, ["-9999999999.99", "0.10"]],
  [text, [
    "",
    " ",
    "null",
    "NULL",
    "\\N",
    "'\"`",
    "a\tb\nc\r\nd",
    "\\n",
    "🌊👩‍👩‍👧",
    "e\u0301",
    "é",
    "\u0001\u2028\ufeff",
    "$$ % _ ? ${x}",
    ", ; |"
  ]],
  [{ _tag: "Text", maxLength: 5 }, ["fünf!", "🌊🌊🌊🌊🌊", ""]],
  [{ _tag: "Binary" }, [new Uint8Array(0), new Uint8Array([0, 255, 10, 92, 39])]],
  [{ _tag: "Uuid" }, ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-4fff-bfff-ffffffffffff"]],
  // 0001-01-01, 9999-12-31, and what PostgreSQL has besides.
  [{ _tag: "Date" }, [-719_162, 2_932_896, 0, -1, dateInfinity, dateNegativeInfinity]],
  [{ _tag: "Time" }, [0n, 86_399_999_999n]],
  [{ _tag: "Timestamp", utc: false }, [-62_135_596_800_000_000n, 253_402_300_799_999_999n, -1n]],
  [{ _tag: "Timestamp", utc: true }, [0n, 253_402_300_799_999_999n, timestampInfinity, timestampNegativeInfinity]],
  [{ _tag: "Json" }, ["{\"b\": [1, null, \"ü\"], \"a\": 1.50}", "null", "\"\"", "12345678901234567890.123"]],
  [{ _tag: "Array", element: { _tag: "Int32" } }, ["{1,2,NULL}", "{}"]],
  [{ _tag: "Interval" }, ["1 year 2 mons -3 days 04:05:06.7"]],
  [{ _tag: "Other" }, ["(1,\"a b\")"]]
]

/** One row for the `nth` value of each type; null where there are fewer. */
const awkwardRows = (types: typeof awkward): ReadonlyArray<ReadonlyArray<BatchOf.Value>> => {
  const most = Math.max(...types.map(([, values]) => values.length))
  return Array.from({ length: most + 1 }, (_, nth) => types.map(([, values]) => values[nth] ?? null))
}

/** A table, and rows without their ids that are to be in it. */
interface Load {
  readonly table: TableSchema
  readonly rows: ReadonlyArray<ReadonlyArray<BatchOf.Value>>
}

type Holds = (type: LogicalType, cell: string) => string | undefined

/** Copies a table's rows into it, and gives them again as changes. */
const load = (opened: OpenTable, copied: ReadonlyArray<BatchOf.Row>, inserts: ReadonlyArray<BatchOf.Row>) =>
  Effect.gen(function*() {
    const { schema: table } = opened
    const position = 100n
    const begin = { plan: undefined, resumed: false, estimatedRows: undefined, estimatedBytes: undefined }
    yield* opened.give({ _tag: "SnapshotBegin", table, position, ...begin })
    yield* opened.give({ _tag: "SnapshotRows", batch: BatchOf.make(table, copied), position, chunk: 0 })
    yield* opened.give({ _tag: "SnapshotChunk", table, position, chunk: 0, rows: copied.length })
    yield* opened.give({ _tag: "SnapshotEnd", table, position, chunks: 1, settled: position })
    yield* opened.give({ _tag: "Rows", batch: BatchOf.make(table, inserts) })
    yield* opened.allDurable
  })

/** Rows as they come with a copy, and the same as changes, with other ids. */
const givenOf = ({ rows }: Load) => ({
  copied: rows.map((values, index) => ({
    operation: Operation.Read,
    sequence: Sequence.make(100n, 0n),
    values: [BigInt(index), ...values]
  })),
  inserts: rows.map((values, index) => ({
    operation: Operation.Insert,
    sequence: Sequence.make(200n, BigInt(index + 1)),
    values: [BigInt(10_000 + index), ...values]
  }))
})

/** Gives each table its rows, by a copy and as changes, and looks at what is there. */
const roundTrip = (kit: Kit, loads: ReadonlyArray<Load>, holds: Holds = (_type, cell) => cell) =>
  Effect.gen(function*() {
    const run = yield* kit.start(loads.map(({ table }) => table))
    for (const given of loads) {
      const { copied, inserts } = givenOf(given)
      yield* load(yield* run.open(given.table), copied, inserts)
    }
    yield* run.finish
    for (const given of loads) {
      const { table } = given
      const { copied, inserts } = givenOf(given)
      const expected = [...copied, ...inserts].map(({ operation, sequence, values }) => {
        const cells = table.columns.map(({ type }, index) => {
          const cell = Histories.cellOf(type, values[index] ?? null)
          return cell === null ? null : CanonicalCell.ofText(type, holds(type, cell) ?? null)
        })
        return JSON.stringify(kit.mode === "mirror" ? cells : [Sequence.format(sequence), operation, ...cells])
      })
      const held = yield* kit.place.rows(table)
      assert.deepEqual(differences(table, expected, held.map((row) => lineOf(kit.mode, table, row))), [])
    }
  })

/** Gives tables whose shape changes in this way: one in a run, and one whose columns have changed when the next run begins. */
const reshapes = (kit: Kit, shape: "DropColumn" | "RenameColumn") =>
  Effect.gen(function*() {
    const looking = kit.play("looking", 7, { shape, transactions: 20 })
    const away = kit.play("away", 8, { shape, transactions: 20 })
    for (const { history: { table, transactions } } of [looking, away]) {
      const { columns } = Histories.shapeAfter({ table, transactions }, transactions.length)
      assert.notDeepEqual(columns.map(({ name }) => name), table.columns.map(({ name }) => name))
      assert.ok(columns.length > 3, "No column that could be dropped is left")
    }
    yield* Effect.scoped(Effect.gen(function*() {
      const run = yield* kit.start([kit.shape(away)])
      const opened = yield* run.open(kit.shape(away))
      yield* giveAll(opened, kit.items(away, opened, 0, Histories.plain))
      yield* opened.allDurable
      yield* run.finish
    }))
    // Its catalog has the last shape by now, in which it gives all that is missing.
    away.memory.read = away.history.transactions.length
    yield* kit.complete([looking, away], 0)
    yield* kit.judge([looking, away])
  })

const tableOf = (name: string, columns: ReadonlyArray<readonly [name: string, type: LogicalType]>): TableSchema => ({
  table: { schema: Histories.namespace, name },
  version: 1,
  columns: [
    Histories.column("id", { _tag: "Int64" }),
    ...columns.map(([column, type]) => Histories.column(column, type))
  ],
  identity: { _tag: "Key", columns: [0] }
})

export const cases = <A>(subject: Subject<A>): ReadonlyArray<Case> => {
  const holds: Holds = subject.holds ?? ((_type, cell) => cell)
  const types = awkward.filter(([{ _tag }]) => subject.types === undefined || subject.types.includes(_tag)).map(
    ([type, values]) => {
      const held = values.filter((value) => holds(type, Histories.cellOf(type, value) ?? "") !== undefined)
      return [type, held] as const
    }
  )
  return [
    scenario(subject, "holds nothing of a table that it never saw, and takes it", (kit) =>
      Effect.gen(function*() {
        const play = kit.play("fresh", 1)
        const run = yield* kit.start([play.history.table])
        const { position } = yield* run.open(play.history.table)
        assert.equal(position.copied, undefined)
        assert.equal(position.committed, undefined)
        assert.equal(position.copying, undefined)
        assert.equal(position.quarantined, undefined)
        yield* run.finish
        yield* kit.complete([play], 0)
        yield* kit.judge([play])
      })),

    scenario(
      subject,
      "holds in the end what the source has, of several tables at once",
      (kit) =>
        Effect.gen(function*() {
          const plays = Array.from(
            { length: Math.max(2, kit.rounds) },
            (_, index) => kit.play(`history_${index}`, 10 + index, { transactions: 24 })
          )
          yield* kit.complete(plays, 0)
          yield* kit.judge(plays)
        })
    ),

    scenario(
      subject,
      "holds equal rows of a table without a key as often as the source has them",
      (kit) =>
        Effect.gen(function*() {
          const plays = [3, 4].map((seed) => kit.play(`keyless_${seed}`, seed, { keyless: true }))
          yield* kit.complete(plays, 0)
          yield* kit.judge(plays)
        }),
      "Keyless"
    ),

    scenario(
      subject,
      "keeps the values of all other columns when one is dropped, while it looks and while nobody does",
      (kit) => reshapes(kit, "DropColumn"),
      "DropColumn"
    ),

    scenario(
      subject,
      "keeps the values of a column that gets another name, while it looks and while nobody does",
      (kit) => reshapes(kit, "RenameColumn"),
      "RenameColumn"
    ),

    scenario(subject, "forgets what it held when a new copy begins", (kit) =>
      Effect.gen(function*() {
        const play = kit.play("again", 5, { transactions: 20 })
        const { history, memory } = play
        yield* Effect.scoped(Effect.gen(function*() {
          const run = yield* kit.start([kit.shape(play)])
          const opened = yield* run.open(kit.shape(play))
          yield* giveAll(opened, kit.items(play, opened, 0, 8))
          yield* opened.allDurable
          yield* run.finish
        }))
        // The source lost its place, and copies the table as it is now: what was changed in between never comes.
        memory.read = history.transactions.length
        const run = yield* kit.start([kit.shape(play)])
        const opened = yield* run.open(kit.shape(play))
        assert.notEqual(opened.position.copied, undefined)
        yield* giveAll(opened, kit.items(play, { position: { copied: undefined, committed: undefined } }, 2))
        yield* opened.allDurable
        yield* run.finish
        yield* kit.judge([play])
      })),

    scenario(subject, "takes tables and columns with odd names, each for itself", (kit) =>
      Effect.suspend(() => {
        const names = ["Odd Näme", "odd.näme", "select", "odd 'quoted' name", "odd \"double\" name"]
        const columns = names.map((name) => [name, text] as const)
        return roundTrip(
          kit,
          names.map((name) => ({
            table: tableOf(name, columns),
            rows: [names.map((column) => `${mark} ${name} ${column}`)]
          }))
        )
      })),

    scenario(subject, "keeps values of every type as they are, and null apart from them", (kit) =>
      roundTrip(
        kit,
        [{
          table: tableOf("all_values", types.map(([type], index) => [`${type._tag.toLowerCase()}_${index}`, type])),
          rows: awkwardRows(types)
        }],
        holds
      )),

    scenario(subject, "takes rows of a megabyte, and thousands of rows at once", (kit) =>
      Effect.suspend(() => {
        const large = `${mark} ${"0123456789abcdef".repeat(1 << 16)}`
        return roundTrip(kit, [
          { table: tableOf("large", [["note", text]]), rows: [[large], ["small"], [large]] },
          {
            table: tableOf("many", [["note", text]]),
            rows: Array.from({ length: 2000 }, (_, index) => [`${mark} ${index}`])
          }
        ])
      })),

    scenario(
      subject,
      "may be told to settle when there is nothing to settle, and again",
      (kit) =>
        Effect.gen(function*() {
          const play = kit.play("settled", 6)
          yield* kit.complete([play], 0)
          const run = yield* kit.start([kit.shape(play)])
          yield* run.open(kit.shape(play))
          yield* run.sink.settle
          yield* run.finish
          yield* kit.judge([play])
        })
    )
  ]
}
