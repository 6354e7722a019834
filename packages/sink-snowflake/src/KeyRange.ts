/**
 * Between which values the keys of a window lie, so that Snowflake reads only those micro-partitions of a target that may hold them.
 *
 * A range is a pair of literals that no key of the window lies outside of, in the order by which the column's type is compared. A join on equal keys finds the same
 * rows with it as without. Bounds may be wider than needed: long texts are cut (a prefix sorts before its text), times are widened to seconds. Types
 * whose order or literals leave a doubt (FLOAT, BINARY, TIME, BOOLEAN) have no range.
 */
import { literal, quote } from "./Identifier.ts"
import type { ColumnLayout, TableLayout } from "./TableLayout.ts"

export interface KeyRange {
  readonly column: string
  /** SQL of the bounds; undefined where there is none. */
  readonly low: string | undefined
  readonly high: string | undefined
}

interface Kind {
  /** The smallest and the greatest key as texts. */
  readonly low: (column: string) => string
  readonly high: (column: string) => string
  /** Undefined when the text is no bound. */
  readonly lowest: (text: string) => string | undefined
  readonly highest: (text: string) => string | undefined
}

/** Longer texts are cut to this. */
const textLength = 64

const number = (text: string): string | undefined => /^-?\d{1,38}(\.\d{1,37})?$/.test(text) ? text : undefined

const numbers: Kind = {
  low: (column) => `MIN(${column})::VARCHAR`,
  high: (column) => `MAX(${column})::VARCHAR`,
  lowest: number,
  highest: number
}

const texts: Kind = {
  low: (column) => `LEFT(MIN(${column}), ${textLength})`,
  high: (column) => `LEFT(MAX(${column}), ${textLength + 1})`,
  lowest: literal,
  // What was cut may have been greater.
  highest: (text) => [...text].length > textLength ? undefined : literal(text)
}

/** Seconds of the years 1 to 9999, in which times are written. */
const earliest = -62_135_596_800n
const latest = 253_402_300_799n

const times = (type: string): Kind => {
  const bound = (by: bigint) => (text: string): string | undefined => {
    if (!/^-?\d{1,12}$/.test(text)) return undefined
    const seconds = BigInt(text) + by
    return seconds < earliest || seconds > latest ? undefined : `TO_TIMESTAMP_NTZ(${seconds})::${type}`
  }
  return {
    low: (column) => `DATE_PART(EPOCH_SECOND, MIN(${column}))::VARCHAR`,
    high: (column) => `DATE_PART(EPOCH_SECOND, MAX(${column}))::VARCHAR`,
    lowest: bound(-1n),
    highest: bound(1n)
  }
}

const kindOf = ({ target }: ColumnLayout): Kind | undefined => {
  if (target.startsWith("NUMBER")) return numbers
  if (target.startsWith("VARCHAR")) return texts
  return target === "DATE" || target.startsWith("TIMESTAMP") ? times(target) : undefined
}

/** Key columns that have ranges, with their places in the key. */
const ranged = ({ keys }: TableLayout) =>
  keys.flatMap((column, index) => {
    const kind = kindOf(column)
    return kind === undefined ? [] : [{ column, index, kind }]
  })

/** What a query on the journal has to select; `read` takes it from the query's one row. */
export const selected = (layout: TableLayout): ReadonlyArray<string> =>
  ranged(layout).flatMap(({ column, index, kind }) => [
    `${kind.low(quote(column.name))} AS "low${index}"`,
    `${kind.high(quote(column.name))} AS "high${index}"`
  ])

export const read = (layout: TableLayout, row: Readonly<Record<string, unknown>>): ReadonlyArray<KeyRange> =>
  ranged(layout).map(({ column, index, kind }) => {
    const low = row[`low${index}`]
    const high = row[`high${index}`]
    return {
      column: column.name,
      low: typeof low === "string" ? kind.lowest(low) : undefined,
      high: typeof high === "string" ? kind.highest(high) : undefined
    }
  })

/** Conditions on the key columns of `alias`. */
export const within = (alias: string, ranges: ReadonlyArray<KeyRange>): ReadonlyArray<string> =>
  ranges.flatMap(({ column, high, low }) => [
    ...(low === undefined ? [] : [`${alias}.${quote(column)} >= ${low}`]),
    ...(high === undefined ? [] : [`${alias}.${quote(column)} <= ${high}`])
  ])
