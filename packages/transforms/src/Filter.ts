/**
 * The transform `filter`: only the rows for which a condition holds.
 *
 * What the target holds is what a query with that condition would give at the source. So an update by which a row no longer matches becomes a delete, and one by which it may begin
 * to match must carry the whole row. Where that can't be told, or a value that isn't sent would be missing, the table is set aside: never a row silently incomplete.
 */
import { type ChangeBatch, MetadataColumns, metadataColumns, Operation } from "@etl-stream/core/ChangeBatch"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Plugin from "@etl-stream/core/Plugin"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Dialect from "./cel/Dialect.ts"
import * as Expression from "./cel/Expression.ts"
import * as ExpressionText from "./cel/ExpressionText.ts"
import * as Cells from "./Cells.ts"
import { failure } from "./Failure.ts"
import * as TablePlan from "./TablePlan.ts"

export const pluginName = "@etl-stream/transforms:filter"

export const Config = Schema.Struct({
  where: ExpressionText.ExpressionText.annotateKey({
    description:
      "The condition, a CEL expression over the columns. A row for which it comes to NULL doesn't match, as in SQL"
  }),
  constant: Schema.Boolean.pipe(ConfigOption.withDefault(false)).annotateKey({
    description:
      "Says that the columns which the condition reads never change in a row, so that none ever begins or ceases to match. Then updates pass that don't send all columns (unchanged large values). If it isn't so, rows are incomplete or missing"
  })
})
export type Config = typeof Config.Type

const remedy =
  "Give the table REPLICA IDENTITY FULL at the source, so that updates send every column; or set constant if the columns in the condition never change. Then have the table copied again."

/** What becomes of a batch's rows. */
const decide = (
  table: TableSchema,
  expression: Expression.Expression,
  config: Config
): (batch: ChangeBatch) => Uint8Array => {
  const { identity } = table
  const isKeyed = identity._tag === "Key"
  const isOfKey = isKeyed && expression.columns.every((index) => identity.columns.includes(index))
  // Old rows say whether they matched: those of tables without a key are whole, others have their key.
  const knowsOld = isOfKey || identity._tag === "Full"

  return (batch) => {
    const operations = Cells.operations(batch)
    const unsent = new Cells.Unsent(batch)
    const evaluate = expression.over(batch)
    const becomes = operations.slice(0, batch.rows)

    const matches = (row: number): boolean => {
      const outcome = evaluate(row)
      if (outcome === true || outcome === false) return outcome
      if (outcome === Expression.Null) return false
      throw outcome === Expression.Unsent
        ? failure(pluginName, table.table, "A change doesn't send a column that the condition needs", remedy)
        : failure(
          pluginName,
          table.table,
          "The condition has no value for a row (a division by zero, a number out of range, text that is no number, or the like)",
          "Guard it, as in `divisor != 0 && amount / divisor > 2`. Then have the table copied again."
        )
    }
    /** The row passes, although the target may not have it: then all of it must be there. */
    const whole = (row: number): void => {
      if (!unsent.inRow(row)) return
      throw failure(
        pluginName,
        table.table,
        "A change by which a row may begin to match doesn't send all of its columns, so the row would be incomplete",
        remedy
      )
    }
    const update = (row: number): void => {
      const now = matches(row)
      if (isOfKey || config.constant) {
        if (!now) becomes[row] = Cells.dropped
      } else if (now) whole(row)
      else becomes[row] = Operation.Delete
    }
    const keyChange = (old: number, row: number): void => {
      const now = matches(row)
      const before = knowsOld ? matches(old) : config.constant ? now : undefined
      if (now) {
        if (before === true) return
        whole(row)
        if (before === undefined) return
        becomes[old] = Cells.dropped
        becomes[row] = Operation.Insert
      } else {
        becomes[old] = before === false ? Cells.dropped : Operation.Delete
        becomes[row] = Cells.dropped
      }
    }
    /** The second half of a change of key whose first half came in an earlier batch, or is at the sink already: it matched, or may have. */
    const secondHalf = (row: number): void => {
      if (matches(row)) {
        if (!knowsOld && !config.constant) whole(row)
      } else becomes[row] = isKeyed ? Operation.Delete : Cells.dropped
    }

    for (let row = 0; row < batch.rows; row++) {
      switch (operations[row]) {
        case Operation.Update:
          update(row)
          break
        case Operation.Delete:
          if (knowsOld && !matches(row)) becomes[row] = Cells.dropped
          break
        case Operation.KeyChangeOld:
          if (row + 1 < batch.rows && operations[row + 1] === Operation.KeyChangeNew) keyChange(row, ++row)
          else if (knowsOld && !matches(row)) becomes[row] = Cells.dropped
          break
        case Operation.KeyChangeNew:
          secondHalf(row)
          break
        default:
          if (!matches(row)) becomes[row] = Cells.dropped
      }
    }
    return becomes
  }
}

/** Rows that have become deletes say no more than their key: what doesn't match is not to be seen. */
const blanked = (batch: ChangeBatch, becomes: Uint8Array): ChangeBatch => {
  const { identity } = batch.table
  if (identity._tag !== "Key") return batch
  const operations = Cells.operations(batch)
  const rows: Array<number> = []
  for (let row = 0; row < batch.rows; row++) {
    if (becomes[row] === Operation.Delete && operations[row] !== Operation.Delete) rows.push(row)
  }
  if (rows.length === 0) return batch
  const hidden = [
    MetadataColumns.unsent,
    ...batch.table.columns.flatMap((_, index) => identity.columns.includes(index) ? [] : [metadataColumns + index])
  ]
  return Cells.withNulls(batch, hidden, rows)
}

export const make = (config: Config) => {
  const parsed = ExpressionText.parse(config.where)
  return TablePlan.transform((table) => {
    const expression = Expression.condition(parsed, table)
    if (Dialect.isProblem(expression)) throw ExpressionText.misfit(pluginName, table, config.where, expression)
    const deciding = decide(table, expression, config)
    return {
      target: table,
      apply: (batch) => {
        const becomes = deciding(batch)
        return Cells.pickRows(blanked(batch, becomes), becomes)
      }
    }
  })
}

export const filter = Plugin.transform({
  name: pluginName,
  version: "0.1.0",
  summary: "Lets only rows pass for which a condition holds",
  stability: "beta",
  description:
    "The target holds what a query with the condition would give at the source: an update by which a row no longer matches becomes a delete. " +
    "Deletes of rows that never matched pass, too, unless the condition reads nothing but the key: a mirror has nothing to delete then, a changelog shows them. Truncates pass.",
  examples: [
    { title: "Orders of some countries", options: { where: "country in [\"DE\", \"AT\"] && total >= 100" } },
    { title: "Everything but tests", options: { where: "!email.endsWith(\"@example.com\")" } }
  ],
  config: Config,
  make: (config) => Effect.sync(() => make(config))
})
