/**
 * The sink as a whole: a copy and changes of every kind, over two runs, in each mode.
 */
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { Config } from "../../src/Config.ts"
import * as SnowflakeSink from "../../src/SnowflakeSink.ts"
import * as Batches from "../Batches.ts"
import type { Check, Context, Failure } from "./Check.ts"
import { Differs, execute, same, table } from "./Check.ts"

const shape = (name: string) =>
  Batches.table(name, { id: { _tag: "Int64" }, note: { _tag: "Text", maxLength: undefined }, doc: { _tag: "Json" } }, {
    _tag: "Key",
    columns: [0]
  })

const position = 10n
const row = (op: Operation, commit: number, ordinal: number, ...values: ReadonlyArray<Batches.Value>): Batches.Row => ({
  op,
  sequence: Sequence.make(BigInt(commit), BigInt(ordinal)),
  values
})

const copied = [row(Operation.Read, 10, 0, 1n, "one", `{"a":1}`), row(Operation.Read, 10, 0, 2n, "two", null)]
/** Unsent values, a delete, an insert, and a change of key. */
const changes = [
  row(Operation.Update, 20, 0, 1n, "changed", Batches.unsent),
  row(Operation.Delete, 20, 1, 2n, null, null),
  row(Operation.Insert, 20, 2, 3n, "three", "[null]"),
  row(Operation.KeyChangeOld, 30, 0, 3n, null, null),
  row(Operation.KeyChangeNew, 30, 1, 4n, "moved", Batches.unsent)
]

/** A run of the sink that writes a copy first, unless there is one, and then changes; ends when they are durable and merged. */
const run = (context: Context, name: string, more: Partial<Config>, rows: ReadonlyArray<Batches.Row>) =>
  Effect.scoped(Effect.gen(function*() {
    const { directory, schema } = context
    const config: Config = { ...context.config, schema, journalSchema: schema, ...more }
    const sink = yield* SnowflakeSink.make(config, { pipeline: "verify", directory })
    const failure = yield* Deferred.make<never, Failure>()
    yield* Effect.forkScoped(sink.run.pipe(Effect.catch((error) => Deferred.fail(failure, error))))
    const durable = yield* Deferred.make<void>()
    const last = rows.at(-1)?.sequence ?? Sequence.zero
    const of = shape(name)
    const writer = yield* sink.open(
      of,
      (sequence) => Sequence.compare(sequence, last) >= 0 ? Deferred.succeed(durable, undefined) : Effect.void,
      (error) => Deferred.fail(failure, error),
      () => undefined
    )
    if (writer.position.copied === undefined) {
      const begin = {
        table: of,
        position,
        plan: "plan",
        resumed: false,
        estimatedRows: undefined,
        estimatedBytes: undefined
      }
      yield* writer.write({ _tag: "SnapshotBegin", ...begin })
      yield* writer.write({ _tag: "SnapshotRows", batch: Batches.batch(of, copied), position, chunk: 0 })
      yield* writer.write({ _tag: "SnapshotChunk", table: of, position, chunk: 0, rows: copied.length })
      yield* writer.write({ _tag: "SnapshotEnd", table: of, position, chunks: 1, settled: position })
    }
    const fresh = rows.filter(({ sequence }) =>
      writer.position.committed === undefined || Sequence.compare(sequence, writer.position.committed) > 0
    )
    const now = BigInt(Date.now()) * 1000n
    for (const [commit, together] of Map.groupBy(fresh, ({ sequence }) => sequence.commit)) {
      yield* writer.write({ _tag: "Rows", batch: Batches.batch(of, together, now + commit * 1_000_000n) })
    }
    yield* Effect.raceFirst(Deferred.await(durable), Deferred.await(failure)).pipe(
      Effect.timeoutOrElse({
        duration: "3 minutes",
        orElse: () => Effect.fail(new Differs({ message: "changes aren't committed after three minutes" }))
      })
    )
    yield* sink.settle
  }))

const scenario = (
  mode: Config["mode"],
  ids: ReadonlyArray<string>,
  read: string,
  expected: ReadonlyArray<ReadonlyArray<string | null>>
): Check => ({
  ids,
  title: `a copy and changes over two runs end as they should in mode ${mode}`,
  run: Effect.fnUntraced(function*(context) {
    const name = `scenario_${mode}`
    yield* run(context, name, { mode }, changes.slice(0, 3))
    // What was written already comes again.
    yield* run(context, name, { mode }, changes)
    const { rows } = yield* execute(context, read.replace("%", table(context, name.toUpperCase())))
    yield* same(rows.map((found) => Object.values(found)), expected, "the rows")
  })
})

export const checks: ReadonlyArray<Check> = [
  scenario("mirror", ["A27"], `SELECT "ID", "NOTE", TO_JSON("DOC") FROM % ORDER BY "ID"`, [
    ["1", "changed", `{"a":1}`],
    ["4", "moved", "[null]"]
  ]),
  scenario("changelog", ["A38"], `SELECT "_ETL_OP", "ID", "NOTE" FROM % ORDER BY "_ETL_SEQ", "ID"`, [
    ["read", "1", "one"],
    ["read", "2", "two"],
    ["update", "1", "changed"],
    ["delete", "2", null],
    ["insert", "3", "three"],
    ["key_old", "3", null],
    ["key_new", "4", "moved"]
  ]),
  scenario(
    "history",
    ["A55"],
    `SELECT "ID", "NOTE", IFF("_ETL_VALID_TO" IS NULL, 'now', 'past') FROM % ORDER BY "ID", "_ETL_SEQ"`,
    [
      ["1", "one", "past"],
      ["1", "changed", "now"],
      ["2", "two", "past"],
      ["3", "three", "past"],
      ["4", "moved", "now"]
    ]
  )
]
