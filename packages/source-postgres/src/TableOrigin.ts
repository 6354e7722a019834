/**
 * What tells whether a copy at the sink is still the beginning of what a table holds: `TableSchema.origin` of this source.
 *
 * PostgreSQL sends changes of rows and never the effect of DDL on rows that are there already. So a table is recognised by
 * its OID, its columns by their numbers, and a rewrite by the files of its heaps: whatever may have changed rows without a change in the
 * log makes the copy void. A plain added column (existing rows have NULL) and a dropped column change nothing.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

const Column = Schema.Struct({
  /** `attnum`: never used again for another column of the table. */
  number: Schema.Number,
  name: Schema.String,
  typeOid: Schema.Number,
  typmod: Schema.Number,
  /** Rows from before the column was added read as its default (`atthasmissing`), until the table is rewritten. */
  hasMissing: Schema.Boolean,
  /** The transaction that altered the column last (`xmin` of its `pg_attribute` row). */
  altered: Schema.String
})
export type Column = typeof Column.Type

const Origin = Schema.Struct({
  oid: Schema.Number,
  columns: Schema.Array(Column),
  /** The highest column number given so far, dropped and unpublished columns included (`relnatts`). */
  lastNumber: Schema.Number,
  /** OID and file (`relfilenode`) of each physical table: another file means truncated or rewritten. */
  files: Schema.Array(Schema.Tuple([Schema.Number, Schema.Number])),
  /** Names of dropped columns, which a sink may still hold values of. */
  gone: Schema.Array(Schema.String)
})
/** A table's history as the catalog tells it. */
export type Origin = typeof Origin.Type

/** Compact: it is kept in one cell of the sink's state, once per table. */
const Compact = Schema.fromJsonString(Schema.Struct({
  oid: Schema.Number,
  columns: Schema.Array(
    Schema.Tuple([Schema.Number, Schema.String, Schema.Number, Schema.Number, Schema.Boolean, Schema.String])
  ),
  lastNumber: Schema.Number,
  files: Origin.fields.files,
  gone: Origin.fields.gone
}))

export const format = (origin: Origin): string =>
  Schema.encodeSync(Compact)({
    ...origin,
    columns: origin.columns.map(({ altered, hasMissing, name, number, typeOid, typmod }) =>
      [number, name, typeOid, typmod, hasMissing, altered] as const
    )
  })

/** The origin that `text` is, undefined when it is none. */
export const parse = (text: string): Origin | undefined =>
  Option.getOrUndefined(Option.map(Schema.decodeUnknownOption(Compact)(text), (compact) => ({
    ...compact,
    columns: compact.columns.map(([number, name, typeOid, typmod, hasMissing, altered]) => ({
      number,
      name,
      typeOid,
      typmod,
      hasMissing,
      altered
    }))
  })))

/** Whether a physical table that both know has another file now. */
const rewritten = (stored: Origin, current: Origin): boolean => {
  const files = new Map(current.files)
  return stored.files.some(([oid, file]) => files.has(oid) && files.get(oid) !== file)
}

/** Why a column that is new since `stored` may have values in rows that were there before it, undefined when it can't. */
const filled = (column: Column, stored: Origin, current: Origin): string | undefined => {
  if (column.number <= stored.lastNumber) return `column ${column.name} was not published`
  if (column.hasMissing) return `column ${column.name} was added with a default`
  if (rewritten(stored, current)) return `column ${column.name} was added and the table was rewritten`
  if (stored.gone.includes(column.name) || stored.columns.some(({ name }) => name === column.name)) {
    return `column ${column.name} was dropped and added again`
  }
  return undefined
}

/** What happened to a column that `stored` knows, if it may have changed rows without a change in the log. */
const altered = (before: Column, now: Column, stored: Origin, current: Origin): string | undefined => {
  if (before.name !== now.name) return `column ${before.name} was renamed to ${now.name}`
  if (before.typeOid !== now.typeOid || before.typmod !== now.typmod) return `the type of column ${now.name} changed`
  // VACUUM FULL alters the column's row, too, to say that nothing is missing any more.
  if (before.altered !== now.altered && !(before.hasMissing && !now.hasMissing) && rewritten(stored, current)) {
    return `column ${now.name} was altered and the table was rewritten`
  }
  return undefined
}

/**
 * Why a copy with the origin `stored` is no longer the beginning of what the table holds, for people; undefined when it is.
 * A copy without an origin is taken for good, one with a text that isn't ours is not.
 */
export const conflict = (stored: string | undefined, current: Origin): string | undefined => {
  if (stored === undefined) return undefined
  const before = parse(stored)
  if (before === undefined) return "the sink gave back an origin that this version doesn't know"
  if (before.oid !== current.oid) return "it was replaced by another table of its name"
  const known = new Map(before.columns.map((column) => [column.number, column]))
  for (const column of current.columns) {
    const same = known.get(column.number)
    const why = same === undefined ? filled(column, before, current) : altered(same, column, before, current)
    if (why !== undefined) return why
  }
  return undefined
}

/** The origin of a copy that goes on from `stored` to `current`: what was dropped in between is remembered. */
export const follow = (stored: string | undefined, current: Origin): Origin => {
  const before = stored === undefined ? undefined : parse(stored)
  if (before === undefined) return current
  const numbers = new Set(current.columns.map(({ number }) => number))
  const dropped = before.columns.filter(({ number }) => !numbers.has(number)).map(({ name }) => name)
  return { ...current, gone: [...new Set([...before.gone, ...dropped])] }
}
