/**
 * A transform made of its options, tried on tables and batches: what it makes of them, judged at every step.
 */
import * as BatchConcat from "@etl-stream/core/BatchConcat"
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import { tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import type { Transform } from "@etl-stream/core/Transform"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { isDeepStrictEqual } from "node:util"
import { make as makePlugin, type Options } from "../PluginOptions.ts"
import * as RowBatch from "../RowBatch.ts"
import type { Subject } from "../TransformConformance.ts"
import * as BatchJudgement from "./batchJudgement.ts"
import { marker, tables } from "./randomBatch.ts"

/** A table that the transform takes, and what it makes of it. */
export interface Taken {
  readonly table: TableSchema
  readonly declared: TableSchema
}

const isConnectorError = (failure: unknown): failure is ConnectorError =>
  typeof failure === "object" && failure !== null && "_tag" in failure && failure._tag === "ConnectorError"

/** Fails unless `exit` is a success or an error as it ought to be, which is given back. */
const refusalOf = <A>(
  plugin: string,
  what: string,
  exit: Exit.Exit<A, unknown>
): ConnectorError | undefined => {
  if (Exit.isSuccess(exit)) return undefined
  const error = Cause.squash(exit.cause)
  if (!isConnectorError(error)) {
    const said = error instanceof Error ? error.stack ?? error.message : String(error)
    return assert.fail(`${what} broke, with something that is no ConnectorError: ${said}`)
  }
  assert.equal(error.plugin, plugin, `${what} failed with an error of another plugin`)
  assert.notEqual(error.message.trim(), "", `${what} failed without a message`)
  assert.notEqual(error.hint.trim(), "", `${what} failed without a hint what to do: ${error.message}`)
  const told = `${error.message}\n${error.hint}\n${String(error.cause ?? "")}`
  assert.ok(!told.includes(marker), `${what} failed with an error that has a value of a row in it: ${told}`)
  return error
}

export const made = <A>({ plugin }: Subject<A>, options: Options): Effect.Effect<Transform, unknown, Scope.Scope> =>
  makePlugin(plugin, options)

const frozen = <A>(value: A): A => {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value
  for (const inner of Object.values(value)) frozen(inner)
  return Object.freeze(value)
}

/** What the transform says of a table; undefined: it is left out. Judged. */
export const declare = Effect.fnUntraced(function*(
  plugin: string,
  transform: Transform,
  table: TableSchema,
  mustTake: boolean
) {
  const what = `\`schema\` of ${tableId(table.table)}`
  const exit = yield* Effect.exit(Effect.suspend(() => transform.schema(frozen(structuredClone(table)))))
  const refused = refusalOf(plugin, what, exit)
  if (refused !== undefined) {
    assert.ok(!mustTake, `${what}, which the subject says the options are for, failed: ${refused.message}`)
    return undefined
  }
  const declared = Exit.isSuccess(exit) ? exit.value : undefined
  if (declared === undefined) return undefined
  const problem = BatchJudgement.schemaProblem(declared)
  assert.equal(problem, undefined, `${what} gives a schema that is none: ${problem}`)
  return declared
})

/** The tables among the kit's and the subject's that are to be tried: those that are neither refused nor left out. */
export const taken = Effect.fnUntraced(function*<A>(
  { plugin, tables: own }: Subject<A>,
  transform: Transform
) {
  const found: Array<Taken> = []
  for (const table of [...own, ...tables]) {
    const declared = yield* declare(plugin.name, transform, table, own.includes(table))
    if (declared !== undefined) found.push({ table, declared })
  }
  return found
})

/** What the transform makes of a batch; undefined: it refuses it, by an error as it ought to be. */
export interface Outcome {
  readonly made: ChangeBatch | undefined
  readonly rows: ReadonlyArray<Required<RowBatch.Row>>
}

export const apply = Effect.fnUntraced(function*(
  plugin: string,
  transform: Transform,
  { declared, table }: Taken,
  batch: ChangeBatch,
  seed: number | string
): Effect.fn.Return<Outcome | undefined> {
  const what = `\`apply\` to ${tableId(table.table)} (seed ${seed})`
  const exit = yield* Effect.exit(Effect.suspend(() => transform.apply(batch)))
  if (refusalOf(plugin, what, exit) !== undefined || Exit.isFailure(exit)) return undefined
  const made = exit.value
  const problem = BatchJudgement.transformedProblem(batch, made, declared)
  assert.equal(problem, undefined, `${what}: ${problem}`)
  return { made, rows: made === undefined ? [] : RowBatch.rows(BatchConcat.compact(made)) }
})

const shown = (row: unknown): string =>
  JSON.stringify(row, (_, value: unknown) => typeof value === "bigint" ? `${value}n` : value)

/** Fails naming the first row that differs. */
export const sameRows = (
  actual: ReadonlyArray<unknown>,
  expected: ReadonlyArray<unknown>,
  what: string
): void => {
  const at = Math.max(actual.length, expected.length)
  for (let row = 0; row < at; row++) {
    if (!isDeepStrictEqual(actual[row], expected[row])) {
      throw new assert.AssertionError({
        message: `${what}: row ${row} is ${shown(actual[row])}, not ${shown(expected[row])}`,
        actual: actual[row],
        expected: expected[row]
      })
    }
  }
}
