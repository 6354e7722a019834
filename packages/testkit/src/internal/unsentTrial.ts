/**
 * What a transform makes of values that were not sent, judged without knowing what it is for.
 *
 * The same change is given several times: with one value or another in a column, with NULL, and with nothing sent there. What comes out for "not sent" has to hold whatever the value is:
 * a column may have a value then only if it has the same one in all other trials. And columns that only pass another one on have to do so all the same.
 */
import { type ColumnSchema, tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { isDeepStrictEqual } from "node:util"
import type { Options } from "../PluginOptions.ts"
import * as RowBatch from "../RowBatch.ts"
import type { Subject } from "../TransformConformance.ts"
import { Chance } from "./chance.ts"
import * as RandomBatch from "./randomBatch.ts"
import * as Trial from "./transformTrial.ts"

/** As many columns of a table are tried. */
const mostColumns = 24

/** Columns from the whole width of a table. */
const someOf = (columns: ReadonlyArray<ColumnSchema>): ReadonlyArray<ColumnSchema> => {
  const step = Math.max(1, columns.length / mostColumns)
  return columns.filter((_, index) => Math.floor(index / step) !== Math.floor((index - 1) / step))
}

type Scoped<A> = Effect.Effect<A, unknown, Scope.Scope>
type Rows = ReadonlyMap<string, Required<RowBatch.Row>>

/** How many values a column gets, besides NULL and nothing. */
const variants = 4

const keyed = (rows: ReadonlyArray<Required<RowBatch.Row>>): Rows =>
  new Map(rows.map((row) => [`${row.commit}/${row.ordinal}`, row]))

const shown = (value: RowBatch.Value | undefined): string =>
  value === undefined ? "nothing" : typeof value === "bigint" ? String(value) : JSON.stringify(value)

/** Columns of what came out that have, in every row of every trial, what a column of the table other than `but` has: their names, each with that column's. */
const passedOn = (given: Rows, trials: ReadonlyArray<Rows>, but: string): ReadonlyMap<string, string> => {
  const sample = [...given.values()]
  const found = new Map<string, string>()
  const sources = Object.keys(sample[0]?.values ?? {}).filter((name) => name !== but)
  const outputs = Object.keys([...trials[0]?.values() ?? []][0]?.values ?? {})
  for (const output of outputs) {
    for (const source of sources) {
      const seen = new Set<unknown>()
      const follows = trials.every((rows) =>
        [...rows].every(([sequence, row]) => {
          const value = given.get(sequence)?.values[source]
          seen.add(value)
          return isDeepStrictEqual(row.values[output], value)
        })
      )
      // One value alone may be a constant's.
      if (follows && seen.size > 1) found.set(output, source)
    }
  }
  return found
}

/** The case. `forOptions` runs it for each of the subject's options and counts what was tried. */
export const trial = <A>(
  subject: Subject<A>,
  forOptions: (subject: Subject<A>, body: (options: Options) => Scoped<number>) => Scoped<void>
): Scoped<void> =>
  forOptions(
    subject,
    Effect.fnUntraced(function*(options) {
      const { plugin: { name: plugin }, values = {} } = subject
      const transform = yield* Trial.made(subject, options)
      let tried = 0
      for (const taken of yield* Trial.taken(subject, transform)) {
        const { table } = taken
        const { identity } = table
        if (identity._tag !== "Key") continue
        const changeable = table.columns.filter((_, index) => !identity.columns.includes(index))
        const outcomeOf = Effect.fnUntraced(function*(rows: ReadonlyArray<RowBatch.Row>, seed: number) {
          const fresh = yield* Trial.made(subject, options)
          yield* Trial.declare(plugin, fresh, table, true)
          const outcome = yield* Trial.apply(plugin, fresh, taken, RowBatch.make(table, rows), seed)
          return outcome === undefined ? undefined : keyed(outcome.rows)
        })
        for (const [seed, column] of someOf(changeable).entries()) {
          const chance = new Chance(seed)
          const { name } = column
          const base = RandomBatch.rows(table, chance, { rows: 12, nulls: 0.1, unsent: 0 }, values)
          const isUpdate = ({ op }: RowBatch.Row): boolean => op === "Update" || op === "KeyChangeNew"
          const withValue = (make: () => RowBatch.Value) =>
            base.map((row) => isUpdate(row) ? { ...row, values: { ...row.values, [name]: make() } } : row)
          const withNothing = base.map((row) => {
            const { [name]: _, ...sent } = row.values
            return isUpdate(row) ? { ...row, values: sent } : row
          })
          const full: Array<Rows> = []
          for (let variant = 0; variant <= variants; variant++) {
            const outcome = yield* outcomeOf(
              withValue(() => variant === variants ? null : RandomBatch.columnValue(column, chance, values)),
              seed
            )
            if (outcome !== undefined) full.push(outcome)
          }
          const masked = yield* outcomeOf(withNothing, seed)
          if (masked === undefined || full.length === 0) continue
          tried++
          const given = keyed(RowBatch.rows(RowBatch.make(table, base)))
          const passed = passedOn(given, full, name)
          for (const [sequence, row] of masked) {
            const where = `${tableId(table.table)}, ${
              given.get(sequence)?.op
            } ${sequence} without the column ${name} (seed ${seed})`
            for (const [output, value] of Object.entries(row.values)) {
              const other = full.find((rows) =>
                rows.has(sequence) && !isDeepStrictEqual(rows.get(sequence)?.values[output], value)
              )
              assert.ok(
                other === undefined,
                `${where}: the column ${output} comes out as ${
                  shown(value)
                }, as if that were known; had ${name} been sent it could be ${
                  shown(other?.get(sequence)?.values[output])
                }`
              )
            }
            for (const [output, source] of passed) {
              const value = given.get(sequence)?.values[source]
              assert.ok(
                isDeepStrictEqual(row.values[output], value),
                `${where}: the column ${output} comes out as ${
                  shown(row.values[output])
                }; ${source}, which it is made of, was sent`
              )
            }
          }
        }
      }
      return tried
    })
  )
