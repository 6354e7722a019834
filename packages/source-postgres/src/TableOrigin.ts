/**
 * What tells whether a copy at the sink is still the beginning of what a table holds: `TableSchema.origin` of this source.
 *
 * PostgreSQL sends changes of rows and never the effect of DDL on rows that are there already. So a table is recognised by
 * its OID, its columns by their numbers, and a rewrite by the files of its heaps: whatever may have changed rows without a change in the
 * log, as renaming a value of an enum does, makes the copy void. A plain added column (existing rows have NULL), a dropped column, another name of the
 * same column and a wider type change nothing. So does a change of what is
 * published (row filter, partitions, an absence from the publication), which leaves no trace in the log either.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as ColumnHistory from "./ColumnHistory.ts"
import * as EnumLabels from "./EnumLabels.ts"
import { isWidening } from "./TypeWidening.ts"

const Column = Schema.Struct({
  /** `attnum`: never used again for another column of the table. */
  number: Schema.Number,
  name: Schema.String,
  typeOid: Schema.Number,
  typmod: Schema.Number,
  /** Rows from before the column was added read as its default (`atthasmissing`), until the table is rewritten. */
  hasMissing: Schema.Boolean,
  /** The transaction that altered the column last (`xmin` of its `pg_attribute` row). */
  altered: Schema.String,
  /** The enums in its type. */
  enums: Schema.Array(Schema.Tuple([Schema.Number, Schema.String]))
})
export type Column = typeof Column.Type

/** A physical table with the rows of a partitioned one. */
const Partition = Schema.Struct({
  oid: Schema.Number,
  name: Schema.String,
  /** The transactions that attached it, see `Partition.ts`: other ones mean that it was away. */
  link: Schema.String,
  /** It never held rows that the log doesn't have as the table's. Known of the present only. */
  born: Schema.Boolean,
  /** As `Origin.entries` and `Origin.filter`, where partitions are published under their own names. */
  entries: Schema.Array(Schema.Number),
  filter: Schema.UndefinedOr(Schema.String)
})
export type Partition = typeof Partition.Type

const Origin = Schema.Struct({
  oid: Schema.Number,
  columns: Schema.Array(Column),
  /** The highest column number given so far, dropped and unpublished columns included (`relnatts`). */
  lastNumber: Schema.Number,
  /** OID and file (`relfilenode`) of each physical table: another file means truncated or rewritten. */
  files: Schema.Array(Schema.Tuple([Schema.Number, Schema.Number])),
  /** Names of dropped columns, which a sink may still hold values of. */
  gone: Schema.Array(Schema.String),
  /** OIDs of what makes the publication publish the table: its entry for it, or its schema, or itself when it is for all tables. Empty: not known. */
  entries: Schema.Array(Schema.Number),
  /** The publication's condition for the table's rows. */
  filter: Schema.UndefinedOr(Schema.String),
  /** Numbers of the columns that identify a row; none for a table without a key, undefined when not known. */
  key: Schema.UndefinedOr(Schema.Array(Schema.Number)),
  /** Undefined for a table that isn't partitioned. */
  partitions: Schema.UndefinedOr(Schema.Array(Partition)),
  /** Partitions are published under their own names. */
  byPartition: Schema.Boolean,
  /** Names that columns had before, by column number; undefined: not noted. */
  former: Schema.UndefinedOr(Schema.Array(Schema.Tuple([Schema.Number, Schema.String]))),
  /** `lastNumber` at the copy. */
  base: Schema.UndefinedOr(Schema.Number),
  /** Numbers of columns that were altered since, and of those that are gone since. */
  touched: Schema.UndefinedOr(Schema.Array(Schema.Number)),
  left: Schema.UndefinedOr(Schema.Array(Schema.Number)),
  /** Rows are told apart by all of their columns. */
  whole: Schema.UndefinedOr(Schema.Boolean)
})
/** A table's history as the catalog tells it. */
export type Origin = typeof Origin.Type

/** Compact: it is kept in one cell of the sink's state, once per table. What is optional, earlier versions didn't note. */
const Compact = Schema.fromJsonString(Schema.Struct({
  oid: Schema.Number,
  columns: Schema.Array(
    Schema.Tuple([Schema.Number, Schema.String, Schema.Number, Schema.Number, Schema.Boolean, Schema.String])
  ),
  lastNumber: Schema.Number,
  files: Origin.fields.files,
  gone: Origin.fields.gone,
  entries: Schema.optionalKey(Origin.fields.entries),
  filter: Schema.optionalKey(Schema.String),
  key: Schema.optionalKey(Schema.Array(Schema.Number)),
  partitions: Schema.optionalKey(Schema.Array(
    Schema.Tuple([Schema.Number, Schema.String, Schema.Array(Schema.Number), Schema.NullOr(Schema.String)])
  )),
  byPartition: Schema.optionalKey(Schema.Boolean),
  former: Schema.optionalKey(Schema.Array(Schema.Tuple([Schema.Number, Schema.String]))),
  base: Schema.optionalKey(Schema.Number),
  touched: Schema.optionalKey(Schema.Array(Schema.Number)),
  left: Schema.optionalKey(Schema.Array(Schema.Number)),
  whole: Schema.optionalKey(Schema.Boolean),
  /** By column number, where there are any. */
  enums: Schema.optionalKey(Schema.Array(Schema.Tuple([Schema.Number, Column.fields.enums])))
}))

export const format = (origin: Origin): string => {
  const enums = origin.columns.flatMap(({ enums, number }) => enums.length === 0 ? [] : [[number, enums] as const])
  return Schema.encodeSync(Compact)({
    oid: origin.oid,
    columns: origin.columns.map(({ altered, hasMissing, name, number, typeOid, typmod }) =>
      [number, name, typeOid, typmod, hasMissing, altered] as const
    ),
    lastNumber: origin.lastNumber,
    files: origin.files,
    gone: origin.gone,
    ...(origin.entries.length === 0 ? {} : { entries: origin.entries }),
    ...(origin.filter === undefined ? {} : { filter: origin.filter }),
    ...(origin.key === undefined ? {} : { key: origin.key }),
    ...(origin.partitions === undefined ? {} : {
      partitions: origin.partitions.map(({ entries, filter, link, oid }) =>
        [oid, link, entries, filter ?? null] as const
      )
    }),
    ...(origin.byPartition ? { byPartition: true } : {}),
    ...(origin.former === undefined ? {} : { former: origin.former }),
    ...(origin.base === undefined ? {} : { base: origin.base }),
    ...(origin.touched === undefined || origin.touched.length === 0 ? {} : { touched: origin.touched }),
    ...(origin.left === undefined || origin.left.length === 0 ? {} : { left: origin.left }),
    ...(origin.whole === true ? { whole: true } : {}),
    ...(enums.length === 0 ? {} : { enums })
  })
}

/** The origin that `text` is, undefined when it is none. */
export const parse = (text: string): Origin | undefined =>
  Option.getOrUndefined(Option.map(Schema.decodeUnknownOption(Compact)(text), (compact) => ({
    oid: compact.oid,
    columns: compact.columns.map(([number, name, typeOid, typmod, hasMissing, altered]) => ({
      number,
      name,
      typeOid,
      typmod,
      hasMissing,
      altered,
      enums: compact.enums?.find(([column]) => column === number)?.[1] ?? []
    })),
    lastNumber: compact.lastNumber,
    files: compact.files,
    gone: compact.gone,
    entries: compact.entries ?? [],
    filter: compact.filter,
    key: compact.key,
    partitions: compact.partitions?.map(([oid, link, entries, filter]) => ({
      oid,
      name: "",
      link,
      born: false,
      entries,
      filter: filter ?? undefined
    })),
    byPartition: compact.byPartition ?? false,
    former: compact.former,
    base: compact.base,
    touched: compact.touched,
    left: compact.left,
    whole: compact.whole
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
  const earlier = [...stored.gone, ...stored.columns.map(({ name }) => name)]
  if (earlier.includes(column.name) || ColumnHistory.formerNames(stored).some(([, name]) => name === column.name)) {
    return `column ${column.name} was dropped and added again`
  }
  return undefined
}

/** What happened to a column that `stored` knows, if it may have changed rows without a change in the log. */
const altered = (before: Column, now: Column, stored: Origin, current: Origin): string | undefined => {
  const unlike = before.name === now.name ? undefined : ColumnHistory.unlike(before, now, stored, current)
  if (unlike !== undefined) return unlike
  const retyped = before.typeOid !== now.typeOid || before.typmod !== now.typmod
  if (retyped && (!isWidening(before, now) || rewritten(stored, current))) {
    return `the type of column ${now.name} changed`
  }
  if (EnumLabels.renamed(before.enums, now.enums)) return `a value of the enum of column ${now.name} was renamed`
  // VACUUM FULL alters the column's row, too, to say that nothing is missing any more.
  if (before.altered !== now.altered && !(before.hasMissing && !now.hasMissing) && rewritten(stored, current)) {
    return `column ${now.name} was altered and the table was rewritten`
  }
  return undefined
}

/** Whether something that published the table then does so still: otherwise it may have been away in between. */
const stayed = (before: ReadonlyArray<number>, now: ReadonlyArray<number>): boolean =>
  before.length === 0 || now.length === 0 || before.some((entry) => now.includes(entry))

/** What changed about which rows and which partitions come as the table's. */
const published = (before: Origin, now: Origin): string | undefined => {
  if (before.byPartition !== now.byPartition) {
    return `the publication began to publish ${
      now.byPartition ? "partitions under their own names" : "partitions as their table"
    }`
  }
  if (before.filter !== now.filter) return "the publication's row filter changed"
  if (!stayed(before.entries, now.entries)) return "it was taken out of the publication and added again"
  return undefined
}

/** Partitions that `now` has and `before` hadn't. */
export const newPartitions = (before: Origin, now: Origin): ReadonlyArray<Partition> => {
  const known = new Set(before.partitions?.map(({ oid }) => oid))
  return before.partitions === undefined ? [] : (now.partitions ?? []).filter(({ oid }) => !known.has(oid))
}

/** Why a partition that is there now holds rows that didn't all come as the table's. */
const joined = (before: Origin, now: Origin): string | undefined => {
  if (before.partitions === undefined || now.partitions === undefined) return undefined
  const known = new Map(before.partitions.map((partition) => [partition.oid, partition]))
  const all = new Set([...before.entries, ...before.partitions.flatMap(({ entries }) => entries)])
  for (const partition of now.partitions) {
    const { entries, filter, link, name, oid } = partition
    const same = known.get(oid)
    if (same === undefined) {
      if (!partition.born) return `partition ${name} was attached`
      if (!stayed([...all], entries)) return `partition ${name} was added to the publication after it was made`
      if (filter !== undefined) return `partition ${name} got a row filter`
      continue
    }
    if (same.link !== link) return `partition ${name} was detached and attached again`
    if (same.filter !== filter) return `the publication's row filter of partition ${name} changed`
    if (!stayed(same.entries, entries)) return `partition ${name} was taken out of the publication and added again`
  }
  return undefined
}

/** Why rows that a partition held may be gone without deletes in the log; undefined when none can be. */
export const lostRows = (before: Origin, now: Origin): string | undefined => {
  if (before.partitions === undefined || now.partitions === undefined) return undefined
  const present = new Map(now.partitions.map(({ name, oid }) => [oid, name]))
  const gone = before.partitions.filter(({ oid }) => !present.has(oid)).length
  if (gone > 0) {
    return gone === 1
      ? "a partition was detached or dropped"
      : `${gone} partitions were detached or dropped`
  }
  const files = new Map(now.files)
  for (const [oid, file] of before.files) {
    if (files.has(oid) && files.get(oid) !== file) {
      return `partition ${present.get(oid) ?? ""} was truncated or rewritten`
    }
  }
  return undefined
}

/**
 * Why a copy with the origin `stored` is no longer the beginning of what the table holds, for people; undefined when it is.
 * A copy without an origin is taken for good, one with a text that isn't ours is not. `keepRows`: rows of partitions that are gone or emptied may
 * stay at the sink.
 */
export const conflict = (stored: string | undefined, current: Origin, keepRows = false): string | undefined => {
  if (stored === undefined) return undefined
  const before = parse(stored)
  if (before === undefined) return "the sink gave back an origin that this version doesn't know"
  if (before.oid !== current.oid) return "it was replaced by another table of its name"
  // What one key told apart, another may not: with REPLICA IDENTITY FULL the log doesn't even say which one is meant.
  if (before.key !== undefined && before.key.join() !== current.key?.join()) return "its key changed"
  const known = new Map(before.columns.map((column) => [column.number, column]))
  for (const column of current.columns) {
    const same = known.get(column.number)
    const why = same === undefined ? filled(column, before, current) : altered(same, column, before, current)
    if (why !== undefined) return why
  }
  if (
    current.whole === true && before.columns.some(({ number }) => current.columns.every((now) => now.number !== number))
  ) {
    return "a column was dropped, and the table has no key"
  }
  return published(before, current) ?? joined(before, current) ?? (keepRows ? undefined : lostRows(before, current))
}

/**
 * Why a copy is void by what has happened since the table was `seen`, which `conflict` with the copy's own origin can't tell: to a partition or a value of an enum that is
 * newer than the copy.
 */
export const overtaken = (seen: Origin, now: Origin, keepRows = false): string | undefined => {
  const before = new Map(seen.columns.map((column) => [column.number, column]))
  const renamed = now.columns.find(({ enums, number }) => EnumLabels.renamed(before.get(number)?.enums ?? [], enums))
  if (renamed !== undefined) return `a value of the enum of column ${renamed.name} was renamed`
  return keepRows ? undefined : lostRows(seen, now)
}

/** Whether a table has exactly the columns, and no other history, that it had when `stored` was written. */
export const isSame = (stored: string | undefined, current: Origin): boolean => {
  const before = stored === undefined ? undefined : parse(stored)
  const shape = (columns: Origin["columns"]) =>
    JSON.stringify(columns.map(({ name, number, typeOid, typmod }) => [number, name, typeOid, typmod]))
  return before !== undefined && before.lastNumber === current.lastNumber &&
    shape(before.columns) === shape(current.columns) && conflict(stored, current) === undefined
}

/** The origin of a copy that goes on from `stored` to `current`: what was dropped in between is remembered. */
export const follow = (stored: string | undefined, current: Origin): Origin => {
  const before = stored === undefined ? undefined : parse(stored)
  if (before === undefined) return current
  const numbers = new Set(current.columns.map(({ number }) => number))
  const dropped = [
    ...before.columns.filter(({ number }) => !numbers.has(number)).map(({ name }) => name),
    ...ColumnHistory.formerNames(before).filter(([number]) => !numbers.has(number)).map(([, name]) => name)
  ]
  return {
    ...current,
    gone: [...new Set([...before.gone, ...dropped])],
    former: ColumnHistory.follow(before, current),
    base: before.base ?? before.lastNumber,
    touched: ColumnHistory.touched(before, current),
    left: ColumnHistory.left(before, current)
  }
}
