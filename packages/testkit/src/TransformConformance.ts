/**
 * The contract of a `Transform` as a conformance suite.
 *
 * The kit makes tables of every logical type and batches of every operation with NULLs, values that were not sent and buffers of every allowed layout, from
 * many seeds, besides those of the tables that the subject names, and judges what comes out by the contract alone. What the transform is
 * for, only its author knows: that is what `examples` are.
 */
import * as BatchConcat from "@etl-stream/core/BatchConcat"
import type { Plugin } from "@etl-stream/core/Plugin"
import { tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { isDeepStrictEqual } from "node:util"
import type { Case, Suite } from "./Conformance.ts"
import * as BatchPool from "./internal/batchPool.ts"
import * as BufferLayout from "./internal/bufferLayout.ts"
import { Chance } from "./internal/chance.ts"
import * as Memory from "./internal/memory.ts"
import * as RandomBatch from "./internal/randomBatch.ts"
import * as Refused from "./internal/refusedOptions.ts"
import * as Trial from "./internal/transformTrial.ts"
import * as Unsent from "./internal/unsentTrial.ts"
import type { Options, RefusedOptions } from "./PluginOptions.ts"
import * as RowBatch from "./RowBatch.ts"

/** What comes of given rows. */
export interface Example {
  /** What it shows, a few words. */
  readonly title: string
  readonly options: Options
  readonly table: TableSchema
  readonly given: ReadonlyArray<RowBatch.Row>
  /**
   * The rows that are left, in order, with all columns of the table that comes out; a column that is missing in a row must not be sent. `undefined`: the table
   * is left out.
   */
  readonly becomes: ReadonlyArray<RowBatch.Row> | undefined
  /** The table that comes out, as far as it is named. */
  readonly becomesTable?: Partial<TableSchema>
}

export interface Subject<A> {
  readonly plugin: Plugin<"transform", A>
  /** Options that the plugin is tried with, one after the other; at least one. */
  readonly options: ReadonlyArray<Options>
  /** Tables that all these options are for: with the columns that they name, whatever others there are. The kit tries tables of its own, too. */
  readonly tables: ReadonlyArray<TableSchema>
  /** By column name: values for columns where not every value of the type will do, such as texts that are numbers. */
  readonly values?: Readonly<Record<string, ReadonlyArray<RowBatch.Value>>>
  readonly examples?: ReadonlyArray<Example>
  readonly refused: ReadonlyArray<RefusedOptions>
  /** Why the same batch need not come out the same (it has the time of day in it, say); undefined: it must, as changes may be read again. */
  readonly varies?: string | undefined
  /** Why a row need not come out the same whatever other rows come (it takes out duplicates, say); undefined: it must. */
  readonly acrossRows?: string | undefined
  /** How many random batches each table gets. Default: 25. */
  readonly seeds?: number
  /** How long a case may take. Default: 1 minute. */
  readonly timeout?: Duration.Input
}

/** How much more may be held after many batches than after some: less than half of what these are. */
const growth = 8 * 1024 * 1024
const batches = 120

/** One for all subjects that name none, so that they share what is made by them. */
const noValues: RandomBatch.Values = {}

type Scoped<A> = Effect.Effect<A, unknown, Scope.Scope>

/** Runs `body` for each of the subject's options. Fails when none of its tables could be tried. */
const forOptions = <A>(
  subject: Subject<A>,
  body: (options: Options) => Scoped<number>
): Scoped<void> =>
  Effect.gen(function*() {
    assert.ok(subject.options.length > 0, "the subject names no options to try the plugin with")
    for (const [index, options] of subject.options.entries()) {
      const tried = yield* Effect.scoped(body(options))
      assert.ok(
        tried > 0,
        `with options ${index} nothing could be tried: every table or batch was refused. Name \`tables\` that they are for, and \`values\` that they take`
      )
    }
  })

const examples = <A>(subject: Subject<A>): ReadonlyArray<Case> =>
  (subject.examples ?? []).map(({ becomes, becomesTable = {}, given, options, table, title }): Case => ({
    name: `example: ${title}`,
    skipped: undefined,
    run: Effect.gen(function*() {
      const transform = yield* Trial.made(subject, options)
      const declared = yield* Trial.declare(subject.plugin.name, transform, table, true)
      if (becomes === undefined) return assert.equal(declared, undefined, "the table isn't left out")
      if (declared === undefined) return assert.fail("the table is left out")
      for (const [key, value] of Object.entries(becomesTable)) {
        assert.deepEqual(declared[key as keyof TableSchema], value, `the table's ${key}`) // a key of a part of a TableSchema
      }
      const outcome = yield* Trial.apply(
        subject.plugin.name,
        transform,
        { table, declared },
        RowBatch.make(table, given),
        title
      )
      if (outcome === undefined) return assert.fail("the batch is refused")
      const named = outcome.rows.map((row, index) =>
        Object.fromEntries(
          Object.keys({ values: 0, ...becomes[index] }).map((key) => [key, row[key as keyof RowBatch.Row]])
        ) // a key of a Row
      )
      Trial.sameRows(named, becomes, "of what is left")
    })
  }))

/** The rows of a batch in pieces, none of which parts the two rows of a change of key. */
const cuts = (rows: ReadonlyArray<RowBatch.Row>, chance: Chance): ReadonlyArray<number> => [
  0,
  ...rows.flatMap(({ op }, row) => row > 0 && op !== "KeyChangeNew" && chance.often(0.3) ? [row] : []),
  rows.length
]

/** The suite for a transform. */
export const make = <A>(subject: Subject<A>): Suite => {
  const { acrossRows, plugin: { name: plugin }, seeds = 25, values = noValues, varies } = subject
  const batchOf = (table: TableSchema, seed: number) => BatchPool.ofSeed(table, values, seed)

  const deterministic = forOptions(
    subject,
    Effect.fnUntraced(function*(options) {
      const [one, other] = [yield* Trial.made(subject, options), yield* Trial.made(subject, options)]
      const found = yield* Trial.taken(subject, one)
      for (const { declared, table } of found) {
        const what = `\`schema\` of ${tableId(table.table)}`
        const same = (again: TableSchema | undefined, when: string) =>
          assert.deepEqual(again, declared, `${what} says something else ${when}`)
        same(yield* Trial.declare(plugin, one, table, true), "when it is asked again")
        same(yield* Trial.declare(plugin, other, table, true), "when another run asks")
        yield* Trial.apply(plugin, one, { table, declared }, batchOf(table, 1), 1)
        same(yield* Trial.declare(plugin, one, table, true), "after a batch")
        assert.equal(declared.version, table.version, `${what} changes the version, by which the engine knows schemas`)
        assert.equal(declared.origin, table.origin, `${what} changes the origin, by which the source knows its table`)
      }
      return found.length
    })
  )

  /** Many batches of each table, each judged by itself; `also` looks further. */
  const many = (
    also: (
      taken: Trial.Taken,
      seed: number,
      options: Options,
      transform: Parameters<typeof Trial.apply>[1]
    ) => Scoped<boolean>
  ) =>
    forOptions(
      subject,
      Effect.fnUntraced(function*(options) {
        const transform = yield* Trial.made(subject, options)
        let tried = 0
        for (const taken of yield* Trial.taken(subject, transform)) {
          for (let seed = 0; seed < seeds; seed++) {
            if (yield* Effect.scoped(also(taken, seed, options, transform))) tried++
          }
        }
        return tried
      })
    )

  const fitting = many(({ declared, table }, seed, _, transform) =>
    Effect.map(
      Trial.apply(plugin, transform, { declared, table }, batchOf(table, seed), seed),
      (outcome) => outcome !== undefined
    )
  )

  const pure = many(Effect.fnUntraced(function*({ declared, table }, seed, _, transform) {
    const batch = batchOf(table, seed)
    const before = BufferLayout.contents(batch)
    const schema = structuredClone(batch.table)
    const outcome = yield* Trial.apply(plugin, transform, { declared, table }, batch, seed)
    const what = `a batch of ${tableId(table.table)} (seed ${seed})`
    assert.ok(
      isDeepStrictEqual(BufferLayout.contents(batch), before),
      `\`apply\` has written into the buffers of ${what}`
    )
    assert.deepEqual(batch.table, schema, `\`apply\` has changed the schema of ${what}`)
    return outcome !== undefined
  }))

  /** The same rows from a transform that has seen nothing yet. */
  const anew = Effect.fnUntraced(
    function*(options: Options, taken: Trial.Taken, batch: ReturnType<typeof batchOf>, seed: number) {
      const transform = yield* Trial.made(subject, options)
      yield* Trial.declare(plugin, transform, taken.table, true)
      return yield* Trial.apply(plugin, transform, taken, batch, seed)
    }
  )

  const repeatable = many(Effect.fnUntraced(function*(taken, seed, options) {
    const batch = batchOf(taken.table, seed)
    const [first, second] = [yield* anew(options, taken, batch, seed), yield* anew(options, taken, batch, seed)]
    Trial.sameRows(second?.rows ?? [], first?.rows ?? [], `${tableId(taken.table.table)} (seed ${seed}), given again`)
    return first !== undefined
  }))

  const roomy = many(Effect.fnUntraced(function*(taken, seed, options) {
    const batch = batchOf(taken.table, seed)
    const [compact, inViews] = [
      yield* anew(options, taken, batch, seed),
      yield* anew(options, taken, BufferLayout.roomy(batch), seed)
    ]
    Trial.sameRows(
      inViews?.rows ?? [],
      compact?.rows ?? [],
      `${tableId(taken.table.table)} (seed ${seed}), in buffers that are views into larger ones`
    )
    return compact !== undefined
  }))

  const sliced = many(Effect.fnUntraced(function*(taken, seed, options) {
    const chance = new Chance(seed)
    const rows = RandomBatch.rows(taken.table, chance, RandomBatch.shapeOf(chance), values)
    const batch = RowBatch.make(taken.table, rows)
    const whole = yield* anew(options, taken, batch, seed)
    if (whole === undefined) return false
    const parts: Array<unknown> = []
    const ends = cuts(rows, chance)
    for (const [index, to] of ends.entries()) {
      const from = ends[index - 1]
      if (from === undefined || from === to) continue
      const part = yield* anew(options, taken, BatchConcat.copyRows(batch, from, to), seed)
      parts.push(...part?.rows ?? [])
    }
    Trial.sameRows(parts, whole.rows, `${tableId(taken.table.table)} (seed ${seed}), in several batches`)
    return true
  }))

  const together = forOptions(
    subject,
    Effect.fnUntraced(function*(options) {
      const transform = yield* Trial.made(subject, options)
      const found = yield* Trial.taken(subject, transform)
      const rowsOf = (one: typeof transform, taken: Trial.Taken) =>
        Effect.forEach(
          [0, 1, 2, 3, 4, 5],
          (seed) => Effect.andThen(Effect.yieldNow, Trial.apply(plugin, one, taken, batchOf(taken.table, seed), seed))
        )
      const atOnce = yield* Effect.forEach(found, (taken) => rowsOf(transform, taken), { concurrency: "unbounded" })
      let tried = 0
      for (const [index, taken] of found.entries()) {
        const alone = yield* Trial.made(subject, options)
        yield* Trial.declare(plugin, alone, taken.table, true)
        const expected = yield* rowsOf(alone, taken)
        tried += expected.filter((outcome) => outcome !== undefined).length
        const flat = (outcomes: ReadonlyArray<Trial.Outcome | undefined>) =>
          outcomes.flatMap((outcome) => outcome?.rows ?? [])
        Trial.sameRows(flat(atOnce[index] ?? []), flat(expected), `${tableId(taken.table.table)}, beside other tables`)
      }
      return tried
    })
  )

  const evolving = forOptions(
    subject,
    Effect.fnUntraced(function*(options) {
      const transform = yield* Trial.made(subject, options)
      let tried = 0
      for (const before of yield* Trial.taken(subject, transform)) {
        yield* Trial.apply(plugin, transform, before, batchOf(before.table, 1), 1)
        const table = RandomBatch.evolved(before.table)
        const declared = yield* Trial.declare(plugin, transform, table, false)
        if (declared === undefined) continue
        for (let seed = 0; seed < 5; seed++) {
          const outcome = yield* Trial.apply(plugin, transform, { table, declared }, batchOf(table, seed), seed)
          if (outcome !== undefined) tried++
        }
      }
      return tried
    })
  )

  const bounded = forOptions(
    subject,
    Effect.fnUntraced(function*(options) {
      const transform = yield* Trial.made(subject, options)
      const [first] = yield* Trial.taken(subject, transform)
      if (first === undefined) return 0
      let refused = 0
      let before = 0
      for (const [index, batch] of BatchPool.many(first.table, values, batches).entries()) {
        // A copy, so that one which is kept counts.
        const exit = yield* Effect.exit(transform.apply(BatchPool.copyOf(batch)))
        if (exit._tag === "Failure") refused++
        if (index === batches / 4) before = yield* Effect.promise(Memory.held)
      }
      const grown = (yield* Effect.promise(Memory.held)) - before
      assert.ok(
        grown < growth,
        `after ${batches * 3 / 4} more batches of ${tableId(first.table.table)} ${
          Math.round(grown / 1024 / 1024)
        } MiB more are held`
      )
      return batches - refused
    })
  )

  const skippable = (name: string, run: Scoped<void>, skipped: string | undefined = undefined): Case => ({
    name,
    run,
    skipped
  })
  return {
    kind: "transform",
    plugin,
    timeout: Duration.fromInputUnsafe(subject.timeout ?? "1 minute"),
    cases: [
      ...Refused.cases(subject.plugin, subject.refused, subject.options[0]),
      skippable(
        "says the same of a table each time, keeps its version and origin, and gives a schema that is one",
        deterministic
      ),
      skippable(
        "makes batches that are as `schema` says: rows in their order with their sequences, changes of keys whole",
        fitting
      ),
      skippable("writes into nothing that it is given", pure),
      skippable("reads buffers as they may be: views into larger ones, NULLs without a bitmap", roomy, varies),
      skippable("makes the same of the same batch, given again after a restart", repeatable, varies),
      skippable(
        "makes the same of rows, in whatever batches they come and whatever came before",
        sliced,
        varies ?? acrossRows
      ),
      skippable(
        "makes no value of one that was not sent, and keeps those that were",
        Unsent.trial(subject, forOptions),
        varies ?? acrossRows
      ),
      skippable("does several tables at once as it does each alone", together, varies),
      skippable("goes on when a table gets another column", evolving),
      skippable("holds no more after many batches than after some", bounded),
      ...examples(subject)
    ]
  }
}
