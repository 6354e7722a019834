/**
 * What a query is translated in: the tables that names mean, and what the translation finds out on its way.
 */
import type { Scope } from "./Scope.ts"
import type { SnowflakeType } from "./SnowflakeType.ts"

/** A table or view as a query reads it. */
export interface Relation {
  /** What stands for it in DuckDB's FROM. */
  readonly sql: string
  /** The alias it has when the query gives it none, as a DuckDB name. */
  readonly alias: string
  readonly columns: ReadonlyArray<{ readonly name: string; readonly type: SnowflakeType }>
  /** The id of the stream that it is. */
  readonly stream?: string | undefined
}

export interface Findings {
  /** The query reads rows, so it needs a warehouse. */
  readsRows: boolean
  readonly relations: Array<Relation>
  /** Types of select items that end in a cast, by output name. */
  readonly casts: Map<string, SnowflakeType>
}

export interface Environment {
  readonly source: string
  readonly relation: (path: ReadonlyArray<string>) => Relation
  /** ERROR_TABLE(table). */
  readonly errorTable: (path: ReadonlyArray<string>) => Relation
  /** A table function with a qualified name; `argument` gives one by name or place, as DuckDB SQL. */
  readonly tableFunction: (
    path: ReadonlyArray<string>,
    argument: (name: string, place: number) => string | undefined
  ) => Relation
  readonly bind: (name: string) => string
  readonly variable: (name: string) => string
  readonly context: (name: string) => string | undefined
  /** SYSTEM$STREAM_HAS_DATA of a stream's name. */
  readonly streamHasData: (path: ReadonlyArray<string>) => string
  readonly schemaName: (parts: ReadonlyArray<string>) => string
  /** FROM @stage, in COPY. */
  readonly stagedFiles?: Relation | undefined
  readonly staged?: Scope["staged"]
  readonly findings: Findings
}

export const noFindings = (): Findings => ({ readsRows: false, relations: [], casts: new Map() })
