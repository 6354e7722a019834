/**
 * An expression over the columns of a table, compiled once for each shape of the table and evaluated row by row.
 *
 * Values are read when the expression asks for them. One that is NULL, or that was not sent, ends the evaluation of what needs it; `&&` and `||` decide without it
 * where they can, as in SQL. So the outcome is a value, NULL, or that the row doesn't tell.
 */
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import type { Environment } from "@marcbachmann/cel-js"
import * as Cells from "../Cells.ts"
import * as CellValue from "../CellValue.ts"
import { DecimalNumber } from "../DecimalNumber.ts"
import * as Dialect from "./Dialect.ts"
import * as Library from "./Library.ts"
import { type Problem, problem } from "./Problem.ts"

/** What an expression came to that is no value: NULL, `unsent` when it needs a value that was not sent, `failed` when it has no value at all. */
export const Null: unique symbol = Symbol("null")
export const Unsent: unique symbol = Symbol("unsent")
export const Failed: unique symbol = Symbol("failed")

export type Outcome = unknown // a value of the expression's type, or one of the three symbols

/** The type of a column's values in expressions. */
const typeName = (type: LogicalType): string => {
  switch (type._tag) {
    case "Boolean":
      return "bool"
    case "Int16":
    case "Int32":
    case "Int64":
      return "int"
    case "Float32":
    case "Float64":
      return "double"
    case "Decimal":
      return "decimal"
    case "Binary":
      return "bytes"
    case "Date":
    case "Timestamp":
      return "timestamp"
    case "Time":
      return "google.protobuf.Duration"
    default:
      return "string"
  }
}

/** Thrown by a column that has nothing to read; made once, since making an error costs more than an evaluation. */
const nullRead = new Error("null")
const unsentRead = new Error("not sent")

/** Reads the columns of one row of a batch: what an expression is evaluated over. */
class RowView {
  row = 0
  /** Whether something was asked for that wasn't sent. */
  unsentRead = false
}

const valueReader = (type: LogicalType, batch: ChangeBatch, index: number): (row: number) => unknown => {
  const read = CellValue.reader(type, Cells.column(batch, index))
  if (type._tag === "Decimal") {
    return (row) => {
      const number = DecimalNumber.parse(String(read(row)))
      if (number === undefined) throw new Error("no decimal number")
      return number
    }
  }
  if (type._tag === "Time") return (row) => Library.durationOf(BigInt(Number(read(row))))
  return read
}

/** Evaluates rows of one batch. */
export type Evaluate = (row: number) => Outcome

export interface Expression {
  readonly text: string
  /** The type of its values: `bool`, `int`, `string`, … */
  readonly type: string
  /** Indexes of the columns that it reads, ascending. */
  readonly columns: ReadonlyArray<number>
  readonly over: (batch: ChangeBatch) => Evaluate
}

const environmentOf = (table: TableSchema, columns: ReadonlyArray<number>): Environment => {
  const environment = Library.base.clone()
  for (const index of columns) {
    const column = table.columns[index]
    if (column === undefined) continue
    environment.registerVariable(Dialect.valueName(index), typeName(column.type))
    environment.registerVariable(Dialect.nullName(index), "bool")
  }
  return environment
}

/** Compiles a parsed expression for a table at one shape. */
export const compile = (parsed: Dialect.Parsed, table: TableSchema): Expression | Problem => {
  const rewritten = Dialect.rewrite(parsed, table.columns.map(({ name }) => name))
  if (Dialect.isProblem(rewritten)) return rewritten
  const environment = environmentOf(table, rewritten.columns)
  const program = environment.parse(rewritten.text)
  const checked = program.check()
  if (!checked.valid || checked.type === undefined) return Dialect.problemOf(checked.error, rewritten.original)
  if (Dialect.hasReplaced(program.ast)) return problem("it can't be read", "Write it without comments.")
  const { columns } = rewritten
  return {
    text: parsed.text,
    type: checked.type,
    columns,
    over: (batch) => {
      const view = new RowView()
      const unsent = new Cells.Unsent(batch)
      const properties: PropertyDescriptorMap = {}
      for (const index of columns) {
        const column = table.columns[index]
        if (column === undefined) continue
        const data = Cells.column(batch, index)
        const read = valueReader(column.type, batch, index)
        const isNull = (): boolean => {
          if (unsent.has(view.row, index)) {
            view.unsentRead = true
            throw unsentRead
          }
          return Cells.isNull(data, view.row)
        }
        properties[Dialect.nullName(index)] = { get: isNull }
        properties[Dialect.valueName(index)] = {
          get: () => {
            if (isNull()) throw nullRead
            return read(view.row)
          }
        }
      }
      const context: Record<string, unknown> = Object.defineProperties({}, properties)
      return (row) => {
        view.row = row
        view.unsentRead = false
        try { // The library, and columns without a value, report by throwing.
          const value: unknown = program(context)
          return value === null ? Null : value
        } catch (error) {
          // Whatever ended it: had everything been sent, it might have come out otherwise.
          return view.unsentRead ? Unsent : error === nullRead ? Null : Failed
        }
      }
    }
  }
}

/** Fails unless the expression is a condition. */
export const condition = (parsed: Dialect.Parsed, table: TableSchema): Expression | Problem => {
  const compiled = compile(parsed, table)
  if (Dialect.isProblem(compiled) || compiled.type === "bool") return compiled
  return problem(
    `it comes to ${compiled.type}, not to true or false`,
    "Compare it with something, as in `amount > 100`."
  )
}
