/**
 * The contract of a `Transform` as a conformance suite.
 *
 * The kit makes tables of every logical type and batches of every operation with NULLs, values that were not sent and buffers of every allowed layout, from
 * many seeds, besides those of the tables that the subject names, and judges what comes out by the contract alone. What the transform is
 * for, only its author knows: that is what `examples` are.
 */
import type { Plugin } from "@etl-stream/core/Plugin"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Duration from "effect/Duration"
import type { Suite } from "./Conformance.ts"
import type { Options, RefusedOptions } from "./PluginOptions.ts"
import type { Row } from "./RowBatch.ts"

/** What comes of given rows. */
export interface Example {
  /** What it shows, a few words. */
  readonly title: string
  readonly options: Options
  readonly table: TableSchema
  readonly given: ReadonlyArray<Row>
  /**
   * The rows that are left, in order, with all columns of the table that comes out; a column that is missing in a row must not be sent. `undefined`: the table
   * is left out.
   */
  readonly becomes: ReadonlyArray<Row> | undefined
  /** The table that comes out, as far as it is named. */
  readonly becomesTable?: Partial<TableSchema>
}

export interface Subject<A> {
  readonly plugin: Plugin<"transform", A>
  /** Options that the plugin is tried with, one after the other; at least one. */
  readonly options: ReadonlyArray<Options>
  /** Tables that the options are for: with the columns that they name, whatever others there are. The kit tries tables of its own, too. */
  readonly tables: ReadonlyArray<TableSchema>
  readonly examples?: ReadonlyArray<Example>
  readonly refused: ReadonlyArray<RefusedOptions>
  /** Why the same batch need not come out the same (it has the time of day in it, say); undefined: it must, as changes may be read again. */
  readonly varies?: string | undefined
  /** Why a row need not come out the same whatever other rows are in its batch (it takes out duplicates, say); undefined: it must. */
  readonly acrossRows?: string | undefined
  /** How many random batches each table gets. Default: 25. */
  readonly seeds?: number
  /** How long a case may take. Default: 1 minute. */
  readonly timeout?: Duration.Input
}

/** The suite for a transform. */
export const make = <A>(subject: Subject<A>): Suite => ({
  kind: "transform",
  plugin: subject.plugin.name,
  cases: [],
  timeout: Duration.fromInputUnsafe(subject.timeout ?? "1 minute")
})
