/**
 * What the sink knows of a table: the row of `etl_stream.tables` that every transaction changes together with the table's rows.
 *
 * This is the whole of exactly once: rows and position are in one transaction, so after a crash both are there or neither is, and `Sink.open` tells the
 * engine the position that belongs to the rows. Nothing outside of the file is needed for that.
 */
import { Reason } from "@etl-stream/core/ConnectorError"
import type { Quarantine } from "@etl-stream/core/Quarantine"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TablePosition } from "@etl-stream/core/Sink"
import type { TableId, TableName } from "@etl-stream/core/TableSchema"
import * as Schema from "effect/Schema"
import type { Session } from "./Database.ts"
import * as Failure from "./Failure.ts"
import { changesOf, copyOf, home, literal, quote } from "./Names.ts"

/** A column that the sink writes: its name, the source's id of it, and its type in DuckDB. */
export const Column = Schema.Struct({
  name: Schema.String,
  id: Schema.optionalKey(Schema.String),
  sql: Schema.String
})
export type Column = typeof Column.Type

const Columns = Schema.fromJsonString(Schema.Array(Column))
const Quarantined = Schema.fromJsonString(Schema.Struct({
  reason: Reason,
  message: Schema.String,
  hint: Schema.String,
  since: Schema.Number
}))
const encodeColumns = Schema.encodeSync(Columns)
const encodeQuarantine = Schema.encodeSync(Quarantined)

const Text = Schema.NullOr(Schema.String)
const Position = Schema.NullOr(Schema.BigInt)
const Row = Schema.Struct({
  target_schema: Schema.String,
  target_name: Schema.String,
  columns: Columns,
  origin: Text,
  copied: Position,
  settled: Position,
  committed: Text,
  copying: Position,
  plan: Text,
  truncated: Position,
  quarantine: Schema.NullOr(Quarantined)
})
const names = Object.keys(Row.fields)
const decodeRow = Schema.decodeUnknownSync(Row)

export interface TableState {
  readonly target: TableName
  /** Columns of the target, in order, those that are kept after the source dropped them left out. Empty before the first copy. */
  readonly columns: ReadonlyArray<Column>
  /** `TableSchema.origin` of the copy, or of the last change of shape. */
  readonly origin: string | undefined
  /** Position of the complete copy, and its `settled`. */
  readonly copied: bigint | undefined
  readonly settled: bigint | undefined
  /** The last change that is in the target, or among the changes that wait for the copy. */
  readonly committed: Sequence.Sequence | undefined
  /** Position of the copy under way, its plan, and the last truncate that came meanwhile. */
  readonly copying: bigint | undefined
  readonly plan: string | undefined
  readonly truncated: bigint | undefined
  readonly quarantine: Quarantine | undefined
}

/** A table of which nothing counts. */
export const empty = (target: TableName): TableState => ({
  target,
  columns: [],
  origin: undefined,
  copied: undefined,
  settled: undefined,
  committed: undefined,
  copying: undefined,
  plan: undefined,
  truncated: undefined,
  quarantine: undefined
})

const tables = `${quote(home)}.tables`
const chunks = `${quote(home)}.chunks`

/** Which table: of which pipeline, by its name at the source. */
export interface Key {
  readonly pipeline: string
  readonly table: TableId
}

const where = ({ pipeline, table }: Key): string => `pipeline = ${literal(pipeline)} AND source = ${literal(table)}`

const orNull = (value: string | bigint | undefined): string =>
  value === undefined ? "NULL" : typeof value === "bigint" ? `${value}::UBIGINT` : literal(value)

/** The stored state; undefined when there is none. */
export const read = async (session: Session, key: Key): Promise<TableState | undefined> => {
  const [values] = await session.rows(`SELECT ${names.join(", ")} FROM ${tables} WHERE ${where(key)}`)
  if (values === undefined) return undefined
  const row = decodeRow(Object.fromEntries(names.map((name, index) => [name, values[index]])))
  return {
    target: { schema: row.target_schema, name: row.target_name },
    columns: row.columns,
    origin: row.origin ?? undefined,
    copied: row.copied ?? undefined,
    settled: row.settled ?? undefined,
    committed: row.committed === null ? undefined : Sequence.parse(row.committed),
    copying: row.copying ?? undefined,
    plan: row.plan ?? undefined,
    truncated: row.truncated ?? undefined,
    quarantine: row.quarantine ?? undefined
  }
}

const assignments = (state: TableState): ReadonlyArray<readonly [name: string, sql: string]> => [
  ["columns", literal(encodeColumns(state.columns))],
  ["origin", orNull(state.origin)],
  ["copied", orNull(state.copied)],
  ["settled", orNull(state.settled)],
  ["committed", orNull(state.committed === undefined ? undefined : Sequence.format(state.committed))],
  ["copying", orNull(state.copying)],
  ["plan", orNull(state.plan)],
  ["truncated", orNull(state.truncated)],
  ["quarantine", orNull(state.quarantine === undefined ? undefined : encodeQuarantine(state.quarantine))]
]

/** Writes the state, as `writer`: fails when another one has opened the table since, whose work this would undo. */
export const write = async (session: Session, key: Key, writer: string, state: TableState): Promise<void> => {
  const set = assignments(state).map(([name, sql]) => `${name} = ${sql}`).join(", ")
  const changed = await session.number(
    `UPDATE ${tables} SET ${set} WHERE ${where(key)} AND writer = ${literal(writer)}`
  )
  if (changed === 1) return
  throw Failure.make(
    "Fenced",
    `Another run of the pipeline ${key.pipeline} has taken over the table ${key.table}`,
    "Nothing is to be done: this run begins again from what the file holds."
  )
}

/** Makes `writer` the one whose transactions count from now on, and returns the stored state. */
export const take = async (
  session: Session,
  key: Key,
  writer: string,
  target: TableName
): Promise<TableState> => {
  const known = await read(session, key)
  if (known !== undefined && (known.target.schema !== target.schema || known.target.name !== target.name)) {
    // The option `schema` was changed: what was copied is elsewhere.
    await session.run(
      `DELETE FROM ${tables} WHERE ${where(key)}; DELETE FROM ${chunks} WHERE ${where(key)};
       DROP TABLE IF EXISTS ${copyOf(known.target)}; DROP TABLE IF EXISTS ${changesOf(known.target)}`
    )
    return take(session, key, writer, target)
  }
  await claim(session, key, target, known !== undefined)
  if (known === undefined) await insert(session, key, target)
  await session.run(`UPDATE ${tables} SET writer = ${literal(writer)} WHERE ${where(key)}`)
  return known ?? empty(target)
}

/** Makes a table known, of which nothing counts yet. */
export const insert = async (session: Session, key: Key, target: TableName): Promise<void> => {
  const values = assignments(empty(target))
  await session.run(
    `INSERT INTO ${tables} (pipeline, source, target_schema, target_name, ${
      values.map(([name]) => name).join(", ")
    }) VALUES (${[key.pipeline, key.table, target.schema, target.name].map(literal).join(", ")}, ${
      values.map(([, sql]) => sql).join(", ")
    })`
  )
}

/** Makes sure that the target is this table's alone: neither another one's of ours nor one that somebody else made. */
const claim = async (session: Session, key: Key, target: TableName, known: boolean): Promise<void> => {
  const same = (schema: string, name: string): string =>
    `lower(${schema}) = lower(${literal(target.schema)}) AND lower(${name}) = lower(${literal(target.name)})`
  const taken = await session.number(
    `SELECT count(*) FROM ${tables} WHERE ${same("target_schema", "target_name")} AND NOT (${where(key)})`
  )
  if (taken > 0) {
    throw Failure.make(
      "Rejected",
      `The table ${target.schema}.${target.name} of the file belongs to another table of a pipeline`,
      "DuckDB doesn't tell names apart by their case. Rename one of the tables by a transform, give the pipelines different schemas (option schema), " +
        "or, when the other one is a thing of the past, delete its row from etl_stream.tables.",
      key.table
    )
  }
  if (known) return
  const foreign = await session.number(
    `SELECT count(*) FROM information_schema.tables WHERE ${same("table_schema", "table_name")}`
  )
  if (foreign > 0) {
    throw Failure.make(
      "Rejected",
      `There is a table ${target.schema}.${target.name} in the file that no pipeline made`,
      "It would be replaced: rename or drop it, or have the pipeline write to another schema (option schema).",
      key.table
    )
  }
}

/** The pipeline's tables that have a state. */
export const list = async (session: Session, pipeline: string): Promise<ReadonlyArray<TableId>> =>
  (await session.rows(`SELECT source FROM ${tables} WHERE pipeline = ${literal(pipeline)}`)).map(([table]) =>
    String(table)
  )

/** Makes what is held of a table count no longer, whoever writes it. The target stays. */
export const forget = async (session: Session, key: Key, quarantine?: Quarantine): Promise<void> => {
  const known = await read(session, key)
  if (known === undefined) return
  const set = assignments({ ...empty(known.target), columns: known.columns, quarantine })
    .map(([name, sql]) => `${name} = ${sql}`).join(", ")
  await session.run(`UPDATE ${tables} SET ${set} WHERE ${where(key)}; DELETE FROM ${chunks} WHERE ${where(key)}`)
}

/** A chunk of the copy under way is complete. Coming again (after a crash between its end and the next element) it is the same. */
export const addChunk = (session: Session, key: Key, chunk: number, position: bigint, rows: number): Promise<void> =>
  session.run(
    `DELETE FROM ${chunks} WHERE ${where(key)} AND chunk = ${chunk};
     INSERT INTO ${chunks} VALUES (${literal(key.pipeline)}, ${literal(key.table)}, ${chunk}, ${position}, ${rows})`
  )

export const forgetChunks = (session: Session, key: Key): Promise<void> =>
  session.run(`DELETE FROM ${chunks} WHERE ${where(key)}`)

export const countChunks = (session: Session, key: Key): Promise<number> =>
  session.number(`SELECT count(*) FROM ${chunks} WHERE ${where(key)}`)

/** A condition for rows of the copy whose chunk isn't complete. */
export const inNoChunk = (key: Key, chunk: string): string =>
  `${chunk} NOT IN (SELECT chunk FROM ${chunks} WHERE ${where(key)})`

/** What `Sink.open` tells the engine. */
export const positionOf = async (session: Session, key: Key, state: TableState): Promise<TablePosition> => {
  const { committed, copied, copying, origin, plan, quarantine, settled } = state
  const position: TablePosition = { copied, settled, committed, origin, quarantined: quarantine }
  if (copying === undefined || plan === undefined) return position
  const complete = await session.rows(`SELECT chunk, position, row_count FROM ${chunks} WHERE ${where(key)}`)
  return {
    ...position,
    origin: undefined,
    copying: {
      position: copying,
      plan,
      origin,
      chunks: new Map(complete.map(([chunk, position]) => [Number(chunk), BigInt(String(position))])),
      rows: complete.reduce((sum, [, , rows]) => sum + Number(rows), 0)
    }
  }
}
