/**
 * From a line to the change that it is, or to what is wrong with it.
 */
import * as Column from "@etl-stream/core/Column"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as LogicalTypeText from "@etl-stream/core/LogicalTypeText"
import * as RowChange from "@etl-stream/core/RowChange"
import * as RowTable from "@etl-stream/core/RowTable"
import { parseTableId, type TableId } from "@etl-stream/core/TableSchema"
import type { TableConfig } from "./Config.ts"
import * as Values from "./Values.ts"

/** What is wrong with a line, without anything of what is in it. */
export class Bad {
  readonly problem: string

  constructor(problem: string) {
    this.problem = problem
  }
}

/** Gives the change of a line. */
export type Decode = (line: Uint8Array) => RowChange.RowChange | Bad

interface Declared {
  readonly name: string
  readonly type: LogicalType
  readonly nullable: boolean
  readonly inKey: boolean
}

const declared = ({ columns, key }: TableConfig): ReadonlyArray<Declared> =>
  Object.entries(columns).map(([name, text]) => ({
    name,
    // The options' schema has seen to that.
    type: LogicalTypeText.parse(text.replace(/\?$/, "")) ?? { _tag: "Text", maxLength: undefined },
    nullable: text.endsWith("?"),
    inKey: key.includes(name)
  }))

/** The table that the options declare. */
export const tableOf = (id: TableId, config: TableConfig): RowTable.RowTable => {
  const columns = Object.fromEntries(
    declared(config).map((
      { name, nullable, type }
    ) => [name, new Column.Column(type, LogicalTypeText.format(type), nullable)])
  )
  // Of columns that only the options know, the compiler can't tell which may be in a key: the options' schema has seen to that.
  return RowTable.make({ name: parseTableId(id) ?? id, columns, key: config.key as ReadonlyArray<never> })
}

const operations = ["insert", "update", "delete", "truncate"] as const
type Operation = typeof operations[number]

const isOperation = (value: unknown): value is Operation => operations.some((operation) => operation === value)

const utf8 = new TextDecoder("utf-8", { fatal: true })

/** The decoder for lines of a table. A line that is no JSON, or whose values don't fit, is bad: nothing is guessed. */
export const decoder = (table: RowTable.RowTable, config: TableConfig, otherFields: "fail" | "ignore"): Decode => {
  const columns = declared(config)
  const known = new Set([...columns.map(({ name }) => name), ...(config.op === undefined ? [] : [config.op])])

  const parse = (line: Uint8Array): Readonly<Record<string, unknown>> | Bad => {
    try {
      const value = Values.parse(utf8.decode(line))
      return typeof value === "object" && value !== null && !Array.isArray(value) && !Values.isNumber(value)
        ? value as Record<string, unknown> // an object of JSON
        : new Bad("is no JSON object")
    } catch (cause) {
      const column = Values.columnOf(cause)
      // The message of the cause quotes the line.
      return new Bad(`is no JSON${column === undefined ? "" : ` (at column ${column})`}`)
    }
  }

  /** The values of a row. A field that is missing is NULL in a new row; in a change it was not sent, so the target keeps what it has. */
  const rowOf = (
    fields: Readonly<Record<string, unknown>>,
    extent: "whole" | "partial" | "key"
  ): RowChange.Values | Bad => {
    const row: Record<string, Column.Value | null | Column.NotSent> = {}
    for (const { inKey, name, nullable, type } of columns) {
      if (extent === "key" && !inKey) continue
      const isThere = Object.hasOwn(fields, name)
      const field = fields[name]
      if (!isThere && extent === "partial" && !inKey) {
        row[name] = Column.notSent
      } else if (!isThere || field === null) {
        if (!nullable) return new Bad(`has no value in the column ${name}, which isn't nullable`)
        row[name] = null
      } else {
        const value = Values.convert(field, type)
        if (value === undefined) {
          return new Bad(`has something else in the column ${name} than ${Values.expected(type)}`)
        }
        row[name] = value
      }
    }
    return row
  }

  return (line) => {
    const fields = parse(line)
    if (fields instanceof Bad) return fields
    if (otherFields === "fail" && Object.keys(fields).some((name) => !known.has(name))) {
      return new Bad("has a field that isn't among the table's columns")
    }
    const operation = config.op === undefined ? "insert" : fields[config.op]
    if (!isOperation(operation)) {
      return new Bad(`has something else in the field ${config.op} than ${operations.join(", ")}`)
    }
    if (operation === "truncate") return RowChange.truncate(table)
    if (operation !== "insert" && table.key.length === 0) {
      return new Bad(`is an ${operation}, which a table without a key can't have`)
    }
    const row = rowOf(fields, operation === "insert" ? "whole" : operation === "update" ? "partial" : "key")
    if (row instanceof Bad) return row
    return operation === "insert"
      ? RowChange.insert(table, row as RowTable.RowOf<typeof table>) // whole, or it would be bad
      : operation === "update"
      ? RowChange.update(table, row as RowTable.UpdateOf<typeof table>) // the key has no column that wasn't sent
      : RowChange.remove(table, row as RowTable.KeyOf<typeof table>) // the same
  }
}
