/**
 * The table of channels: over how many channels a source table's changes are spread, since when, and which run may change that.
 *
 * A set of channels has an epoch as its name, and never comes back once another took its place. `HELD` is the sequence up to which everything was in the journal when
 * the set was begun. Tables that always had one channel have no row: epoch 0. A run that may change the set, or uses one of several channels, claims it before it
 * opens the channels, and looks again after: whoever opened them later has claimed them, or sees that somebody else did.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type * as Sequence from "@etl-stream/core/Sequence"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Collation from "./Collation.ts"
import { failure } from "./ErrorPolicy.ts"
import { literal, qualified } from "./Identifier.ts"
import type { SqlClient } from "./SqlClient.ts"
import type { TableLayout } from "./TableLayout.ts"
import { sequenceType } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

/** The set of channels of a table. */
export interface ChannelSet {
  readonly epoch: number
  readonly channels: number
  readonly held: Sequence.SequenceText | undefined
  /** The run that claimed it. */
  readonly owner: string | undefined
}

/** What tables without a row have. */
export const single: ChannelSet = { epoch: 0, channels: 1, held: undefined, owner: undefined }

const Row = Schema.Struct({
  SOURCE_TABLE: Schema.String,
  EPOCH: Schema.FiniteFromString,
  CHANNELS: Schema.FiniteFromString,
  HELD: Schema.NullOr(Schema.String),
  OWNER: Schema.NullOr(Schema.String)
})

export interface ChannelTable {
  /** The sets of the pipeline's tables, by source table. */
  readonly load: Effect.Effect<ReadonlyMap<TableId, ChannelSet>, Failed>
  /** Makes `run` the owner of `set`, which must still be the table's. */
  readonly claim: (layout: TableLayout, set: ChannelSet, run: string) => Effect.Effect<ChannelSet, Failed>
  /** Fails unless `set` is the table's, with the same owner. */
  readonly expect: (layout: TableLayout, set: ChannelSet) => Effect.Effect<void, Failed>
  /** Puts `next` in the place of `set`, which must still be the table's, with the same owner. */
  readonly replace: (layout: TableLayout, set: ChannelSet, next: ChannelSet) => Effect.Effect<void, Failed>
}

/** The SQL that creates the table in `schema`. */
export const create = (database: string, schema: string): string =>
  `CREATE TABLE IF NOT EXISTS ${
    qualified(database, schema, "CHANNELS")
  } ("PIPELINE" VARCHAR, "SOURCE_TABLE" VARCHAR, ` +
  `"EPOCH" NUMBER(38,0), "CHANNELS" NUMBER(38,0), "HELD" ${sequenceType}, "OWNER" VARCHAR) ${Collation.none}`

const text = (value: string | undefined): string => value === undefined ? "NULL" : literal(value)

const changedElsewhere = ({ id }: TableLayout): Failed =>
  failure(
    "Fenced",
    `The channels of ${id} were taken over by another run`,
    "Run only one runner per pipeline. This one starts again from what Snowflake holds.",
    { table: id }
  )

export const make = (sql: SqlClient, pipeline: string, database: string, schema: string): ChannelTable => {
  const table = qualified(database, schema, "CHANNELS")
  const rowOf = (id: TableId): string => `"PIPELINE" = ${literal(pipeline)} AND "SOURCE_TABLE" = ${literal(id)}`
  const read = Effect.fnUntraced(function*(condition: string, id: TableId | undefined) {
    const { rows } = yield* sql.execute({
      what: "Reading the table of channels",
      sql: `SELECT "SOURCE_TABLE", "EPOCH", "CHANNELS", "HELD", "OWNER" FROM ${table} WHERE ${condition}`,
      ...(id === undefined ? {} : { table: id })
    })
    const sets = yield* Effect.forEach(
      rows,
      (row) =>
        Schema.decodeUnknownEffect(Row)(row).pipe(Effect.mapError(() =>
          failure(
            "Protocol",
            "The table CHANNELS in Snowflake has another form than expected",
            "Check whether something else created or changed it."
          )
        ))
    )
    return new Map(
      sets.map(({ CHANNELS, EPOCH, HELD, OWNER, SOURCE_TABLE }): readonly [TableId, ChannelSet] => [
        SOURCE_TABLE,
        { epoch: EPOCH, channels: CHANNELS, held: HELD ?? undefined, owner: OWNER ?? undefined }
      ])
    )
  })
  const update = Effect.fnUntraced(function*(layout: TableLayout, set: string, condition: string) {
    const { changed } = yield* sql.execute({
      what: `Recording the channels of ${layout.id}`,
      sql: `UPDATE ${table} SET ${set} WHERE ${rowOf(layout.id)} AND ${condition}`,
      table: layout.id
    })
    if (changed !== 1) return yield* changedElsewhere(layout)
  })
  return {
    load: Effect.suspend(() => read(`"PIPELINE" = ${literal(pipeline)}`, undefined)),
    claim: Effect.fnUntraced(function*(layout, set, run) {
      yield* sql.execute({
        what: `Recording the channels of ${layout.id}`,
        sql: `MERGE INTO ${table} AS t USING (SELECT ${literal(pipeline)} AS "P", ${literal(layout.id)} AS "S") AS s ` +
          `ON t."PIPELINE" = s."P" AND t."SOURCE_TABLE" = s."S" ` +
          `WHEN NOT MATCHED THEN INSERT ("PIPELINE", "SOURCE_TABLE", "EPOCH", "CHANNELS") ` +
          `VALUES (s."P", s."S", ${single.epoch}, ${single.channels})`,
        table: layout.id
      })
      yield* update(layout, `"OWNER" = ${literal(run)}`, `"EPOCH" = ${set.epoch}`)
      return { ...set, owner: run }
    }),
    expect: Effect.fnUntraced(function*(layout, set) {
      const found = (yield* read(rowOf(layout.id), layout.id)).get(layout.id) ?? single
      if (found.epoch !== set.epoch || found.owner !== set.owner) return yield* changedElsewhere(layout)
    }),
    replace: (layout, set, next) =>
      update(
        layout,
        `"EPOCH" = ${next.epoch}, "CHANNELS" = ${next.channels}, "HELD" = ${text(next.held)}`,
        `"EPOCH" = ${set.epoch} AND "OWNER" = ${text(set.owner)}`
      )
  }
}
