/**
 * The transform: writes the domain of an e-mail address to a column of its own.
 *
 * Row-wise transforms are made by `@etl-stream/core/RowTransform`, whose documentation is the contract. The one rule that everything rests on: what comes out of a row depends on
 * the row and on nothing else, since rows come again after a restart, and with each of their changes.
 */
import * as Column from "@etl-stream/core/Column"
import * as RowTransform from "@etl-stream/core/RowTransform"
import type { Transform } from "@etl-stream/core/Transform"
import type { Config } from "./Config.ts"

/** The name that configurations use. */
export const pluginName = "etl-stream-kind-example"

/** What stands behind the last `@`, in lower case; null when nothing does. */
export const domainOf = (address: string | null): string | null => {
  const at = address?.lastIndexOf("@") ?? -1
  const domain = address?.slice(at + 1).trim().toLowerCase() ?? ""
  return at <= 0 || domain === "" ? null : domain
}

export const make = ({ column, into }: Config): Transform =>
  RowTransform.make({
    plugin: pluginName,
    reads: { [column]: Column.text().nullable },
    writes: { [into]: Column.text().nullable },
    map: (row) => ({ [into]: domainOf(row[column] ?? null) })
  })
