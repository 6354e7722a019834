/**
 * Batches from seeds that are made once, and shared by all suites that try the same table with the same values: to make a batch takes far longer than to transform it.
 */
import * as BatchConcat from "@etl-stream/core/BatchConcat"
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import { Chance } from "./chance.ts"
import * as RandomBatch from "./randomBatch.ts"

/** What was made of a table. */
interface Pool {
  readonly bySeed: Map<number, ChangeBatch>
  many: ReadonlyArray<ChangeBatch>
}

const pools = new WeakMap<RandomBatch.Values, WeakMap<TableSchema, Pool>>()

const poolOf = (table: TableSchema, values: RandomBatch.Values): Pool => {
  const ofValues = pools.get(values) ?? new WeakMap<TableSchema, Pool>()
  const pool: Pool = ofValues.get(table) ?? { bySeed: new Map(), many: [] }
  pools.set(values, ofValues.set(table, pool))
  return pool
}

/** A copy, as it may be kept, and written into. */
export const copyOf = (batch: ChangeBatch): ChangeBatch => BatchConcat.copyRows(batch, 0, batch.rows)

/** A batch of some shape, as a copy. */
export const ofSeed = (table: TableSchema, values: RandomBatch.Values, seed: number): ChangeBatch => {
  const { bySeed } = poolOf(table, values)
  const chance = new Chance(seed)
  const batch = bySeed.get(seed) ?? RandomBatch.batch(table, chance, RandomBatch.shapeOf(chance), values)
  bySeed.set(seed, batch)
  return copyOf(batch)
}

/** About so large is each of many batches. */
const bytes = 180_000

/** So many batches of equal size, whose values are all others: the pool's own, not copies. */
export const many = (table: TableSchema, values: RandomBatch.Values, count: number): ReadonlyArray<ChangeBatch> => {
  const pool = poolOf(table, values)
  if (pool.many.length < count) {
    const batchOf = (seed: number, rows: number) =>
      RandomBatch.batch(table, new Chance(seed), { rows, nulls: 0.1, unsent: 0.1 }, values)
    const rows = Math.max(50, Math.min(5000, Math.ceil(bytes * 100 / batchOf(0, 100).bytes)))
    pool.many = Array.from({ length: count }, (_, seed) => batchOf(seed, rows))
  }
  return pool.many.slice(0, count)
}
