/**
 * What the pool and its workers tell each other.
 *
 * A session is the work on one batch that is streamed, or on one file; it stays with the worker that it was opened at, and has one call at a time. `Open` isn't answered: what is wrong with it, the first call
 * says.
 */
import type { Encoding } from "./BodyCoding.ts"
import type { OutOfRange } from "./Config.ts"
import type { Selection } from "./NdjsonEncoder.ts"
import type { Chunk } from "./NdjsonRows.ts"
import type { PackedBatch } from "./PackedBatch.ts"
import type { Appended, Options as ParquetOptions } from "./ParquetRows.ts"
import type { TableValues } from "./ValueLayout.ts"

/** The work of a session. */
export interface Ndjson {
  readonly _tag: "Ndjson"
  readonly layout: TableValues
  readonly outOfRange: OutOfRange
  /** Whether refused values are noted, or are errors. */
  readonly noting: boolean
  readonly selection: Selection | undefined
  readonly batch: PackedBatch
}
export interface Parquet {
  readonly _tag: "Parquet"
  readonly options: ParquetOptions
}
export type Work = Ndjson | Parquet

/** Calls, and what answers them. */
export interface Calls {
  readonly Chunk: {
    readonly given: { readonly from: number; readonly limit: number; readonly encoding: Encoding }
    readonly answer: Chunk | undefined
  }
  readonly Append: {
    readonly given: { readonly batch: PackedBatch; readonly firstCopy: number }
    readonly answer: Appended
  }
  readonly Finish: { readonly given: undefined; readonly answer: Uint8Array }
  /** Ends the session: the worker reads nothing of it any more. */
  readonly Close: { readonly given: undefined; readonly answer: undefined }
}
export type Call = {
  readonly [Name in keyof Calls]: { readonly _tag: Name; readonly given: Calls[Name]["given"] }
}[keyof Calls]

/** `Copies` says that a file will be asked for soon. */
export type Request =
  | { readonly _tag: "Copies" }
  | { readonly _tag: "Open"; readonly session: number; readonly work: Work }
  | { readonly _tag: "Call"; readonly session: number; readonly id: number; readonly call: Call }

/** What came of a call; `Ready` comes before all others. `Unwritable` is a value that can't be written (`ValueWriter.Unwritable`), `Failed` a mistake of ours. */
export type Answer =
  | { readonly _tag: "Ready" }
  | { readonly _tag: "Done"; readonly id: number; readonly answer: Calls[keyof Calls]["answer"] }
  | { readonly _tag: "Unwritable"; readonly id: number; readonly column: string; readonly message: string }
  | { readonly _tag: "Failed"; readonly id: number; readonly cause: unknown }
