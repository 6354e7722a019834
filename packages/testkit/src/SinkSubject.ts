/**
 * What `SinkConformance` needs to know of a sink: how to make an empty place for it, how to read back what is there, and what it can't do.
 *
 * The kit opens the sink by the plugin's own `config` and `make`, as the runner does, and plays source and engine: it gives elements as the contract allows them, crashes
 * at any of them, opens the sink again and gives what the engine would give then.
 */
import type { Reason } from "@etl-stream/core/ConnectorError"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import type { Plugin } from "@etl-stream/core/Plugin"
import type { SequenceText } from "@etl-stream/core/Sequence"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/**
 * The text of a cell, or null. The kit compares what values mean, so a database's usual text of each type will do: `1.50` is `1.5`, `t` is `true`, `2026-01-02 03:04:05+00` is
 * the same time as `2026-01-02T03:04:05Z`, and as its microseconds since 1970. Binary is in hexadecimal.
 */
export type Cell = string | null

/** A row that is at the place. */
export interface HeldRow {
  /** By the names that the columns have at the source; a cell that isn't there is null. Columns of the sink's own may be there. */
  readonly cells: Readonly<Record<string, Cell>>
  /** In a sink that appends: the change's sequence and operation (`ChangeBatch.Operation`), and the columns whose values were not sent. */
  readonly sequence?: SequenceText
  readonly operation?: number
  readonly unsent?: ReadonlyArray<string>
}

/** One case's place. What it holds is released with the scope of `Subject.prepare`. */
export interface Place {
  /** The plugin's options for this place, encoded, as in a configuration file. */
  readonly options: unknown
  /** Relative paths in options are relative to it; default: the working directory. */
  readonly directory?: string
  /** The pipeline's name. Default: `conformance`. */
  readonly pipeline?: string
  /** What is there of a table, in any order, not by way of the sink; called after `settle`, and when no sink is open. A table that doesn't exist has no rows. */
  readonly rows: (table: TableSchema) => Effect.Effect<ReadonlyArray<HeldRow>, unknown>
  /** Resets all connections between the sink and the place, once: now (0), or when so many more pieces have come from the place (`FaultProxy.cutAnswer`). Needed unless `Cut` is among what the subject can't do. */
  readonly cut?: (pieces: number) => Effect.Effect<void, unknown>
  /** Makes the place refuse all that comes for one table from now on, and for no other. Needed unless `Spoil` is among what the subject can't do. */
  readonly spoil?: (table: TableSchema) => Effect.Effect<void, unknown>
}

/**
 * What a sink may be unable to do.
 *
 * `Update`, `Delete`, `Rekey`, `Truncate`, `Unsent`: changes that it refuses (a sink that appends takes all of them). `AddColumn`, `Widen` (an int becomes a bigint),
 * `DropColumn` (what it held of it doesn't matter), `RenameColumn` (of a column with an id, by which it keeps its values): changes of shape.
 * `Keyless`: tables without a key. `Resume`: going on with a copy that was cut off. `Fence`: making an older writer fail. `Quarantine`: remembering one. `Cut`, `Spoil`: the place
 * can't. `Bounded`: it keeps what it has in memory, so memory can't be measured.
 */
export type Ability =
  | "Update"
  | "Delete"
  | "Rekey"
  | "Truncate"
  | "Unsent"
  | "AddColumn"
  | "Widen"
  | "DropColumn"
  | "RenameColumn"
  | "Keyless"
  | "Resume"
  | "Fence"
  | "Quarantine"
  | "Cut"
  | "Spoil"
  | "Bounded"

/** Options that decoding refuses. */
export interface RefusedOptions {
  /** What is wrong with them, a few words for the case's name. */
  readonly what: string
  readonly options: unknown
  /** Path of the option that the error must name, its parts joined by dots. */
  readonly path: string
}

/** Options that decode, and that the sink can't work with. */
export interface UselessOptions {
  /** What is wrong with them, a few words for the case's name. */
  readonly what: string
  readonly options: (place: Place) => unknown
  /** What `make`, `begin` or `open` must fail with. */
  readonly reason: Reason
}

export interface Subject<A> {
  readonly plugin: Plugin<"sink", A>
  /** Makes an empty place for one case. */
  readonly prepare: Effect.Effect<Place, unknown, Scope.Scope>
  /** `mirror`: the place has each table as it is at the source; `append`: every change stays, the rows of copies too, and `rows` tells their sequences. */
  readonly mode: "mirror" | "append"
  /** What it can't do, each with its reason: the cases that need it aren't tried, and say why; in the others such changes don't come. */
  readonly cannot?: Partial<Readonly<Record<Ability, string>>>
  /** Kinds of values that are tried; default: all of them. */
  readonly types?: ReadonlyArray<LogicalType["_tag"]>
  /**
   * What the place holds of a value (canonical text, see `CanonicalCell`) that it has another form for, or undefined when it refuses such a value: then it isn't given.
   * Default: the value.
   */
  readonly holds?: (type: LogicalType, cell: string) => string | undefined
  readonly refused: ReadonlyArray<RefusedOptions>
  readonly useless: ReadonlyArray<UselessOptions>
  /** Passwords, keys and such of the options: no error and no line of the log may hold one. */
  readonly secrets?: ReadonlyArray<string>
  /** How many random histories are played, and how many positions a fault strikes at. Default: 6. */
  readonly rounds?: number
  /** How much is written to see that memory stays bounded, in bytes. Default: 64 MiB; at no time may the sink hold more than half of it. */
  readonly volume?: number
  /** How soon what was accepted must be durable, an interrupted write be over. Default: 20 seconds. */
  readonly patience?: Duration.Input
  /** How long a case may take. Default: 2 minutes. */
  readonly timeout?: Duration.Input
}
