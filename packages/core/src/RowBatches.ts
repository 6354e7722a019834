/**
 * Makes batches of row changes: one builder per table, cut by rows and bytes.
 */
import type { ChangeBatch } from "./ChangeBatch.ts"
import { Operation } from "./ChangeBatch.ts"
import { ChangeBatchBuilder } from "./ChangeBatchBuilder.ts"
import { notSent } from "./Column.ts"
import { ConnectorError } from "./ConnectorError.ts"
import type { Values } from "./RowChange.ts"
import * as RowValue from "./RowValue.ts"
import { type ColumnSchema, tableId, type TableSchema } from "./TableSchema.ts"

/** Where a row stands. */
export interface At {
  readonly position: bigint
  readonly ordinal: number
  /** Microseconds since 1970-01-01 UTC. */
  readonly commitTime: bigint
}

const low = (value: bigint): number => Number(BigInt.asUintN(32, value))
const high = (value: bigint): number => Number(BigInt.asIntN(32, value >> 32n))

/** Which values a row must have: all of them, all but those that are not sent, or those of the key. */
type Extent = "whole" | "partial" | "key"

interface Cell {
  readonly schema: ColumnSchema
  readonly isKey: boolean
  readonly write: RowValue.Writer
}

/** One table's rows that aren't in a batch yet. */
export class RowBatches {
  readonly table: TableSchema
  private readonly plugin: string
  private readonly builder: ChangeBatchBuilder
  private readonly cells: ReadonlyArray<Cell>
  private readonly names: ReadonlySet<string>

  constructor(table: TableSchema, plugin: string) {
    this.table = table
    this.plugin = plugin
    this.builder = new ChangeBatchBuilder(table)
    const { identity } = table
    const key = identity._tag === "Key" ? identity.columns : []
    this.cells = table.columns.map((schema, index) => ({
      schema,
      isKey: key.includes(index),
      // A builder has one for each column.
      write: RowValue.writer(this.builder.columns[index] as ChangeBatchBuilder["columns"][number], schema)
    }))
    this.names = new Set(table.columns.map(({ name }) => name))
  }

  get rows(): number {
    return this.builder.rows
  }

  get bytes(): number {
    return this.builder.bytes
  }

  private refused(column: string, problem: string): ConnectorError {
    const id = tableId(this.table.table)
    return new ConnectorError({
      reason: "Rejected",
      plugin: this.plugin,
      message: `The value that came for the column ${column} of the table ${id} ${problem}`,
      hint: "Mend the row where it comes from, or the column's type in the source plugin.",
      table: id
    })
  }

  private append(operation: Operation, values: Values, at: At, extent: Extent): ConnectorError | undefined {
    const { builder, cells } = this
    const { commitTime, ordinal, position } = at
    builder.begin(operation, high(position), low(position), ordinal, high(commitTime), low(commitTime))
    for (let index = 0; index < cells.length; index++) {
      const { isKey, schema, write } = cells[index] as Cell // in range
      if (extent === "key" && !isKey) {
        builder.columns[index]?.appendNull()
        continue
      }
      const value = Object.hasOwn(values, schema.name) ? values[schema.name] : undefined
      if (value === notSent && extent === "partial" && !isKey) {
        builder.notSent(index)
        continue
      }
      const problem = value === notSent ? "was not sent, but has to be" : write(value)
      if (problem !== undefined) return this.refused(schema.name, problem)
    }
    for (const name in values) {
      if (!this.names.has(name)) return this.refused(name, "is of no column that the table has")
    }
    return undefined
  }

  /** Appends a whole row; what is wrong with it, after which nothing here may be used any more. */
  insert(row: Values, at: At): ConnectorError | undefined {
    return this.append(Operation.Insert, row, at, "whole")
  }

  /** The same for a row of a copy. */
  read(row: Values, at: At): ConnectorError | undefined {
    return this.append(Operation.Read, row, at, "whole")
  }

  update(row: Values, at: At): ConnectorError | undefined {
    return this.keyless("An update") ?? this.append(Operation.Update, row, at, "partial")
  }

  remove(key: Values, at: At): ConnectorError | undefined {
    return this.keyless("A delete") ?? this.append(Operation.Delete, key, at, "key")
  }

  /** Takes two ordinals. */
  rekey(key: Values, row: Values, at: At): ConnectorError | undefined {
    return this.keyless("A change of key") ??
      this.append(Operation.KeyChangeOld, key, at, "key") ??
      this.append(Operation.KeyChangeNew, row, { ...at, ordinal: at.ordinal + 1 }, "partial")
  }

  private keyless(what: string): ConnectorError | undefined {
    if (this.table.identity._tag === "Key") return undefined
    const id = tableId(this.table.table)
    return new ConnectorError({
      reason: "Unsupported",
      plugin: this.plugin,
      message: `${what} came for the table ${id}, whose rows can't be found again: it has no key`,
      hint: "Declare the table's key in the source plugin.",
      table: id
    })
  }

  /** The rows so far, of which there must be one. */
  finish(): ChangeBatch {
    return this.builder.finish()
  }
}
