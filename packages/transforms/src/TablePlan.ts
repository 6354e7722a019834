/**
 * How the built-in transforms are made: for each shape of a table a plan, and a transform from the function that makes plans.
 *
 * A plan is derived from the shape alone, so it can be made again at any time: batches of an older shape may come beside those of a newer one.
 * Plans and what they do may throw a `ConnectorError`, which fails the transform.
 */
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import { tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import type { Transform } from "@etl-stream/core/Transform"
import * as Effect from "effect/Effect"

/** What becomes of a table at one shape. */
export interface Plan {
  readonly target: TableSchema
  /** The transformed batch; undefined when none of its rows is left. */
  readonly apply: (batch: ChangeBatch) => ChangeBatch | undefined
}

const sync = <A>(run: () => A): Effect.Effect<A, ConnectorError> =>
  Effect.suspend(() => {
    try { // Row loops report by throwing: a result per row would cost an object each.
      return Effect.succeed(run())
    } catch (cause) {
      return cause instanceof ConnectorError ? Effect.fail(cause) : Effect.die(cause)
    }
  })

/** The transform that follows `plan`; undefined leaves the table as it is. */
export const transform = (plan: (table: TableSchema) => Plan | undefined): Transform => {
  const plans = new WeakMap<TableSchema, { readonly plan: Plan | undefined }>()
  const planOf = (table: TableSchema): Plan | undefined => {
    const known = plans.get(table)
    if (known !== undefined) return known.plan
    const made = plan(table)
    plans.set(table, { plan: made })
    return made
  }
  return {
    schema: (table) => sync(() => planOf(table)?.target ?? table),
    apply: (batch) =>
      sync(() => {
        const found = planOf(batch.table)
        return found === undefined ? batch : found.apply(batch)
      }).pipe(Effect.catchDefect((defect) => Effect.fail(broken(batch.table, defect))))
  }
}

/** A defect at some row of one table: the others have nothing to do with it. Whatever was thrown may hold values, so nothing is said of it but its kind. */
const broken = ({ table }: TableSchema, defect: unknown): ConnectorError =>
  new ConnectorError({
    reason: "Protocol",
    plugin: "@etl-stream/transforms",
    message: `A transform broke (${defect instanceof Error ? defect.name : typeof defect}) at a row of the table ${
      tableId(table)
    }`,
    hint: "This is a defect of the transform: please report it. Leave the transform out for this table until then.",
    table: tableId(table)
  })

/** Whether column `index` is part of the table's key. */
export const isKey = ({ identity }: TableSchema, index: number): boolean =>
  identity._tag === "Key" && identity.columns.includes(index)
