/**
 * The work of `RowTransform.make`: other columns pass as the buffers that they are, written ones are built row by row.
 */
import type * as Arrow from "apache-arrow"
import { makeData } from "apache-arrow/data"
import { RecordBatch } from "apache-arrow/recordbatch"
import { Binary, Struct } from "apache-arrow/type"
import * as ChangeBatch from "./ChangeBatch.ts"
import { Operation } from "./ChangeBatch.ts"
import { type Columns, notSent } from "./Column.ts"
import * as ColumnBuilder from "./ColumnBuilder.ts"
import * as RowReads from "./RowReads.ts"
import * as RowValue from "./RowValue.ts"
import type { RowView } from "./RowView.ts"
import { type ColumnSchema, tableId, type TableSchema } from "./TableSchema.ts"

export interface Computation {
  readonly plugin: string
  readonly reads: Columns
  readonly writes: Columns
  readonly drops?: ReadonlyArray<string>
  // Called with rows of `reads`; what they give is checked when it is written.
  readonly map: (row: never, view: RowView) => unknown
  readonly whenUnsent?: (row: never, view: RowView) => unknown
}

/** Where a column of the made table comes from: a column of the table, or the place in `writes`. */
type Origin = { readonly from: number } | { readonly written: number }

interface Plan {
  readonly table: TableSchema
  readonly target: TableSchema
  readonly origins: ReadonlyArray<Origin>
  readonly written: ReadonlyArray<ColumnSchema>
  /** Indexes of what is read. */
  readonly reads: ReadonlyArray<number>
  /** What is read and isn't of the key. */
  readonly besidesKey: ReadonlyArray<number>
  /** Whether rows that left have only their key. */
  readonly keyOnly: boolean
  readonly writesKey: boolean
}

const planOf = ({ drops = [], plugin, reads, writes }: Computation) => (table: TableSchema): Plan => {
  const id = tableId(table.table)
  const key = RowReads.keyOf(table)
  const indexes = RowReads.locate(plugin, table, reads)
  const names = Object.keys(writes)
  const keyNames = key.map((index) => table.columns[index]?.name)
  const dropped = keyNames.find((name) => name !== undefined && drops.includes(name))
  if (dropped !== undefined) {
    throw RowReads.tableError(
      plugin,
      table,
      `The transform leaves out the column ${dropped}, which the table ${id} finds its rows by`,
      "Keep the column, or write another value in its place."
    )
  }
  const writtenKeys = names.filter((name) => keyNames.includes(name))
  const besidesKey = indexes.filter((index) => !key.includes(index))
  const [first] = writtenKeys
  if (first !== undefined && besidesKey.length > 0) {
    throw RowReads.tableError(
      plugin,
      table,
      `The transform writes the key column ${first} of the table ${id} from columns that aren't of the key`,
      "Compute key columns from key columns alone: a delete carries nothing else."
    )
  }
  const nullable = writtenKeys.find((name) => writes[name]?.isNullable === true)
  if (nullable !== undefined) {
    throw RowReads.tableError(
      plugin,
      table,
      `The transform may write NULL to the key column ${nullable} of the table ${id}`,
      "Declare the column without nullable."
    )
  }
  const written = Object.entries(writes).map(([name, { isNullable, sourceType, type }]): ColumnSchema => {
    const replaced = table.columns.find((column) => column.name === name)
    return {
      name,
      type,
      sourceType,
      nullable: isNullable,
      ...(replaced?.id === undefined ? {} : { id: replaced.id })
    }
  })
  const columns: Array<ColumnSchema> = []
  const origins: Array<Origin> = []
  table.columns.forEach((column, from) => {
    const place = names.indexOf(column.name)
    const replacement = written[place]
    if (replacement === undefined && drops.includes(column.name)) return
    columns.push(replacement ?? column)
    origins.push(replacement === undefined ? { from } : { written: place })
  })
  written.forEach((column, place) => {
    if (table.columns.some(({ name }) => name === column.name)) return
    columns.push(column)
    origins.push({ written: place })
  })
  const moved = (index: number): number => {
    const name = table.columns[index]?.name
    return columns.findIndex((column) => column.name === name)
  }
  return {
    table,
    target: {
      ...table,
      columns,
      identity: table.identity._tag === "Key"
        ? { _tag: "Key", columns: table.identity.columns.map(moved) }
        : table.identity
    },
    origins,
    written,
    reads: indexes,
    besidesKey,
    keyOnly: table.identity._tag === "Key",
    writesKey: writtenKeys.length > 0
  }
}

/** One batch's work. */
class Writing {
  private readonly computation: Computation
  private readonly plan: Plan
  private readonly reads: RowReads.Reads
  private readonly columns: ReadonlyArray<ReturnType<typeof RowValue.column>>
  /** The written columns that were not sent, row by row; undefined as long as there is none. */
  private unsent: Array<ReadonlyArray<number> | undefined> | undefined

  constructor(computation: Computation, plan: Plan, batch: ChangeBatch.ChangeBatch) {
    this.computation = computation
    this.plan = plan
    this.reads = new RowReads.Reads(batch, computation.reads, plan.reads)
    this.columns = plan.written.map((column) => RowValue.column(column))
  }

  private nulls(): void {
    for (const { builder } of this.columns) builder.appendNull()
  }

  /** All written columns of the row were not sent. */
  private nothing(row: number): void {
    this.nulls()
    ;(this.unsent ??= [])[row] = this.columns.map((_, index) => index)
  }

  private write(row: number, given: unknown, mayLack: boolean, what: string): void {
    const { plan } = this
    const values: Readonly<Record<string, unknown>> = typeof given === "object" && given !== null
      ? given as Readonly<Record<string, unknown>> // an object's properties
      : {}
    let lacking: Array<number> | undefined
    plan.written.forEach(({ name }, index) => {
      const column = this.columns[index]
      if (column === undefined) return
      const value = Object.hasOwn(values, name) ? values[name] : undefined
      if (value === notSent && mayLack) {
        column.builder.appendNull()
        ;(lacking ??= []).push(index)
        return
      }
      const problem = column.write(value)
      if (problem !== undefined) throw this.refused(name, problem, what)
    })
    for (const name of Object.keys(values)) {
      if (!(name in this.computation.writes)) throw this.refused(name, "isn't among the columns that it writes", what)
    }
    if (lacking !== undefined) (this.unsent ??= [])[row] = lacking
  }

  private refused(column: string, problem: string, what: string) {
    const { plan: { table }, computation: { plugin } } = this
    return RowReads.tableError(
      plugin,
      table,
      `What ${what} of the transform gives for the column ${column} of the table ${tableId(table.table)} ${problem}`,
      "Mend the transform. Nothing of the row was written.",
      "Rejected"
    )
  }

  private mapped(row: number): void {
    const { computation, plan, reads } = this
    const given = RowReads.guarded(
      computation.plugin,
      plan.table,
      "map",
      () => computation.map(reads.values as never, reads.view) // all were sent, so this is a row of `reads`
    )
    this.write(row, given, false, "map")
  }

  row(row: number): void {
    const { computation, plan, reads } = this
    reads.view.index = row
    const { operation } = reads.view
    if (plan.keyOnly && (operation === Operation.Delete || operation === Operation.KeyChangeOld)) {
      if (plan.writesKey) this.mapped(row)
      else this.nulls()
      return
    }
    if (reads.complete()) return this.mapped(row)
    const unsent = reads.unsent()
    // An update leaves the key as it is; so what it doesn't carry has not changed, nor what follows from it.
    const unchanged = operation === Operation.Update
      ? plan.besidesKey.every((index) => unsent.includes(index))
      : unsent.length === plan.reads.length
    if (unchanged) return this.nothing(row)
    const { whenUnsent } = computation
    if (whenUnsent === undefined) {
      const id = tableId(plan.table.table)
      throw RowReads.tableError(
        computation.plugin,
        plan.table,
        `An update of the table ${id} lacks values that the transform reads: ${reads.names(unsent)}`,
        "Have the source send them (in PostgreSQL: ALTER TABLE … REPLICA IDENTITY FULL), or let the transform read one of such columns alone, or " +
          "give it whenUnsent."
      )
    }
    const given = RowReads.guarded(
      computation.plugin,
      plan.table,
      "whenUnsent",
      () => whenUnsent(reads.values as never, reads.view) // a partial row of `reads`
    )
    this.write(row, given, true, "whenUnsent")
  }

  /** The masks of the made table's rows. */
  private masks(batch: ChangeBatch.ChangeBatch): Arrow.Data {
    const { plan, unsent } = this
    const before = ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.unsent)
    if (before.nullCount === batch.rows && unsent === undefined) return before
    const { view } = this.reads
    const masks = new ColumnBuilder.BytesColumn(new Binary())
    const mask = new Uint8Array((plan.origins.length + 7) >> 3)
    for (let row = 0; row < batch.rows; row++) {
      view.index = row
      const lacking = unsent?.[row]
      let any = false
      if (lacking !== undefined || RowValue.isValid(before, row)) {
        mask.fill(0)
        plan.origins.forEach((origin, index) => {
          const sent = "from" in origin ? view.sentAt(origin.from) : lacking?.includes(origin.written) !== true
          if (sent) return
          any = true
          mask[index >> 3] = (mask[index >> 3] as number) | (1 << (index & 7)) // in range
        })
      }
      if (any) masks.append(mask, 0, mask.length)
      else masks.appendNull()
    }
    return masks.finish()
  }

  finish(batch: ChangeBatch.ChangeBatch): ChangeBatch.ChangeBatch {
    const { plan } = this
    const { MetadataColumns, child, metadataColumns } = ChangeBatch
    const written = this.columns.map(({ builder }) => builder.finish())
    const children = [
      child(batch.records, MetadataColumns.op),
      child(batch.records, MetadataColumns.commit),
      child(batch.records, MetadataColumns.ordinal),
      child(batch.records, MetadataColumns.commitTime),
      this.masks(batch),
      ...plan.origins.map((origin) =>
        "from" in origin
          ? child(batch.records, metadataColumns + origin.from)
          : written[origin.written] as Arrow.Data // in range
      )
    ]
    const schema = ChangeBatch.arrowSchema(plan.target)
    const data = makeData({
      type: new Struct(schema.fields),
      length: batch.rows,
      nullCount: 0,
      children
    })
    return ChangeBatch.make(plan.target, new RecordBatch(schema, data))
  }
}

/** What `RowTransform.make` does; throws `ConnectorError`s. */
export const computing = (computation: Computation) => {
  const contradiction = Object.keys(computation.writes).find((name) => computation.drops?.includes(name) === true)
  if (contradiction !== undefined) throw new TypeError(`The column ${contradiction} is both written and left out`)
  const plan = RowReads.perTable(planOf(computation))
  return {
    schema: (table: TableSchema): TableSchema => plan(table).target,
    apply: (batch: ChangeBatch.ChangeBatch): ChangeBatch.ChangeBatch => {
      const writing = new Writing(computation, plan(batch.table), batch)
      for (let row = 0; row < batch.rows; row++) writing.row(row)
      return writing.finish(batch)
    }
  }
}
