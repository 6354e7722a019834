/**
 * Transforms as a configuration makes them, tried on rows.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as LogicalTypeText from "@etl-stream/core/LogicalTypeText"
import type { Plugin } from "@etl-stream/core/Plugin"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import type { Transform } from "@etl-stream/core/Transform"
import * as RowBatch from "@etl-stream/testkit/RowBatch"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"

export type { Row } from "@etl-stream/testkit/RowBatch"

const typeOf = (text: string): LogicalType => {
  const type = LogicalTypeText.parse(text)
  if (type === undefined) throw new TypeError(`${text} is no type`)
  return type
}

/** A table `public.t` with columns of the given types (`int64`, `text(20)`); `key` names its key's columns, or is `full` or `none`. */
export const table = (
  columns: Readonly<Record<string, string>>,
  key: ReadonlyArray<string> | "full" | "none" = ["id"],
  name = "t"
): TableSchema => {
  const names = Object.keys(columns)
  return {
    table: { schema: "public", name },
    version: 1,
    columns: Object.entries(columns).map(([column, type]) => ({
      name: column,
      type: typeOf(type),
      sourceType: type,
      nullable: key === "full" || key === "none" || !key.includes(column)
    })),
    identity: key === "full"
      ? { _tag: "Full" }
      : key === "none"
      ? { _tag: "None" }
      : { _tag: "Key", columns: key.map((column) => names.indexOf(column)) }
  }
}

/** Decodes options as the runner does. */
export const decode = <A>(plugin: Plugin<"transform", A>, options: unknown) =>
  Schema.decodeUnknownEffect(plugin.config)(options, { errors: "all", onExcessProperty: "error" })

export const make = <A>(
  plugin: Plugin<"transform", A>,
  options: unknown,
  directory = "/"
): Effect.Effect<Transform, unknown, Scope.Scope> =>
  Effect.flatMap(decode(plugin, options), (config) => plugin.make(config, { pipeline: "test", directory }))

export interface Made {
  readonly table: TableSchema
  /** The rows that are left, each with its operation and values; a value that isn't sent is missing. */
  readonly rows: ReadonlyArray<{ readonly op: string; readonly values: Readonly<Record<string, RowBatch.Value>> }>
}

/** What a transform makes of rows. */
export const through = Effect.fnUntraced(function*(
  transform: Transform,
  given: TableSchema,
  rows: ReadonlyArray<RowBatch.Row>
): Effect.fn.Return<Made, ConnectorError> {
  const target = yield* transform.schema(given)
  if (target === undefined) throw new TypeError("The table is left out")
  const batch = yield* transform.apply(RowBatch.make(given, rows))
  return {
    table: target,
    rows: batch === undefined ? [] : RowBatch.rows(batch).map(({ op, values }) => ({ op, values }))
  }
})

/** The same with a transform made for it. */
export const apply = <A>(
  plugin: Plugin<"transform", A>,
  options: unknown,
  given: TableSchema,
  rows: ReadonlyArray<RowBatch.Row>
): Effect.Effect<Made, unknown, Scope.Scope> =>
  Effect.flatMap(make(plugin, options), (transform) => through(transform, given, rows))

/** Values of one column, in order. */
export const column = (made: Made, name: string): ReadonlyArray<RowBatch.Value | undefined> =>
  made.rows.map(({ values }) => values[name])

export const key = "a key of thirty-two characters..."

/** The types of a table's columns, by name. */
export const types = ({ columns }: TableSchema): Readonly<Record<string, string>> =>
  Object.fromEntries(columns.map(({ name, type }) => [name, LogicalTypeText.format(type)]))
