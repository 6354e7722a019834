/**
 * What `SourceConformance` needs to know of a source: how to make a place that it reads, how to change that place, and what it can't do.
 *
 * A place has tables of two columns that the kit knows, `id` (a whole number, the key where the source has keys) and `note` (text that may be null); further ones
 * are the subject's business. The kit opens the source by the plugin's own `config` and `make`, as the runner does, and opens it again after each crash that it plays.
 */
import type { Reason } from "@etl-stream/core/ConnectorError"
import type { Plugin } from "@etl-stream/core/Plugin"
import type { TableName } from "@etl-stream/core/TableSchema"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** A row as the kit knows it. */
export interface Row {
  readonly id: number
  readonly note: string | null
}

/**
 * A change of a table that the kit asks for. `Touch` writes rows again without another `note` (what a source doesn't send then must not get lost); `Rekey` gives a
 * row another `id` and leaves the rest of it as it is; `AddColumn` adds a column of text that is null in all rows, `SetColumn` gives it values, `RenameColumn` and `DropColumn`
 * are about columns that were added so, too.
 */
export type Change =
  | { readonly _tag: "Insert"; readonly rows: ReadonlyArray<Row> }
  | { readonly _tag: "Update"; readonly rows: ReadonlyArray<Row> }
  | { readonly _tag: "Touch"; readonly ids: ReadonlyArray<number> }
  | { readonly _tag: "Rekey"; readonly from: number; readonly to: number }
  | { readonly _tag: "Delete"; readonly ids: ReadonlyArray<number> }
  | { readonly _tag: "Truncate" }
  | { readonly _tag: "AddColumn"; readonly name: string }
  | {
    readonly _tag: "SetColumn"
    readonly name: string
    readonly rows: ReadonlyArray<{ readonly id: number; readonly value: string }>
  }
  | { readonly _tag: "RenameColumn"; readonly from: string; readonly to: string }
  | { readonly _tag: "DropColumn"; readonly name: string }

/** One case's place. What it holds is released with the scope of `Subject.prepare`. */
export interface World {
  /** The plugin's options for this place, encoded, as in a configuration file. */
  readonly options: unknown
  /** Relative paths in options are relative to it; default: the working directory. */
  readonly directory?: string
  /** The pipeline's name. Default: `conformance`. Must be another one for each place when the other side knows pipelines by their names. */
  readonly pipeline?: string
  /** Tables that exist and are empty: two at least, or one where `SecondTable` is among what the subject can't do. */
  readonly tables: ReadonlyArray<TableName>
  /**
   * Makes changes of a table in this order, as one transaction where the place has transactions; returns when they are committed. The kit never inserts an `id` that is there, and
   * changes no row that isn't. Ids lie between 1 and 2^31 - 1.
   */
  readonly change: (table: TableName, changes: ReadonlyArray<Change>) => Effect.Effect<void, unknown>
  /** What the table holds now, in any order: not by way of the source. */
  readonly rows: (table: TableName) => Effect.Effect<ReadonlyArray<Row>, unknown>
  /** Creates another empty table that the source's options take in. Needed unless `AddTable` is among what the subject can't do. */
  readonly addTable?: (name: string) => Effect.Effect<TableName, unknown>
  /**
   * Resets all connections between the source and the place, once: now (0), or when so many more pieces have come from the place (`FaultProxy.cut`, `FaultProxy.cutAnswer`).
   * New connections are served. Needed unless `Cut` is among what the subject can't do.
   */
  readonly cut?: (pieces: number) => Effect.Effect<void, unknown>
}

/**
 * What a source or its place may be unable to do: changes of the place; `SecondTable`, to have more than one; `AddTable`, to get one later; `Cut`, to lose its connections. `Heartbeat`: the
 * source may be silent for ever. `Resync`: it can't copy a table again while it runs.
 */
export type Ability = Exclude<Change["_tag"], "Insert"> | "SecondTable" | "AddTable" | "Cut" | "Heartbeat" | "Resync"

/** Options that decoding refuses. */
export interface RefusedOptions {
  /** What is wrong with them, a few words for the case's name. */
  readonly what: string
  readonly options: unknown
  /** Path of the option that the error must name, its parts joined by dots: `tables.0`, `url`. */
  readonly path: string
}

/** Options that decode, and that the source can't work with. */
export interface UselessOptions {
  /** What is wrong with them, a few words for the case's name. */
  readonly what: string
  readonly options: (world: World) => unknown
  /** What `make` or `tables` must fail with. */
  readonly reason: Reason
}

export interface Subject<A> {
  readonly plugin: Plugin<"source", A>
  /** Makes a place for one case. */
  readonly prepare: Effect.Effect<World, unknown, Scope.Scope>
  /** What it can't do, each with its reason: the cases that need it aren't tried, and say why. */
  readonly cannot?: Partial<Readonly<Record<Ability, string>>>
  readonly refused: ReadonlyArray<RefusedOptions>
  readonly useless: ReadonlyArray<UselessOptions>
  /** Passwords, keys and such of the options: no error and no line of the log may hold one. */
  readonly secrets?: ReadonlyArray<string>
  /** How often a case that restarts the source at one element after another does so. Default: 30. */
  readonly restarts?: number
  /** How much a long backlog is, in bytes of notes. Default: 64 MiB. The source may hold a quarter of it in JavaScript's heap and buffers, whether somebody pulls or not. */
  readonly backlog?: number
  /** How soon a change must have come, an interrupted stream must be over, a cut connection be noticed. Default: 20 seconds. */
  readonly patience?: Duration.Input
  /** How long a case may take. Default: 2 minutes. */
  readonly timeout?: Duration.Input
}
