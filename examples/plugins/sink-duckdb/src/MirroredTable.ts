/**
 * The writer of one table: what each element does to the file, in one transaction with the table's state.
 *
 * `write` returns after the commit, so what is accepted is durable at once, and `durable` is called then. A sink that buffers would return earlier
 * and call `durable` later; the engine takes both.
 *
 * While a copy is under way its rows gather in a table beside the target, and so do the changes that come meanwhile. When the copy is complete, one transaction
 * replaces the target by it and applies the changes: readers of the file see the table as it was, then as it is, and nothing between.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type * as Element from "@etl-stream/core/Element"
import type * as Sequence from "@etl-stream/core/Sequence"
import * as Sink from "@etl-stream/core/Sink"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type { Config } from "./Config.ts"
import type { Database, Session } from "./Database.ts"
import * as Failure from "./Failure.ts"
import * as Merge from "./Merge.ts"
import { changesOf, copyOf, meta, qualified, quote } from "./Names.ts"
import * as SchemaChange from "./SchemaChange.ts"
import * as Staging from "./Staging.ts"
import * as TableState from "./TableState.ts"

export interface Options {
  readonly database: Database
  readonly config: Config
  readonly key: TableState.Key
  /** Tells this run from others: see `TableState.write`. */
  readonly writer: string
  readonly state: TableState.TableState
  readonly position: Sink.TablePosition
  readonly durable: (sequence: Sequence.Sequence) => Effect.Effect<void>
}

const definitions = (columns: ReadonlyArray<TableState.Column>): string =>
  columns.map(({ name, sql }) => `, ${quote(name)} ${sql}`).join("")

const listed = (columns: ReadonlyArray<TableState.Column>): string => columns.map(({ name }) => quote(name)).join(", ")

export const make = (options: Options): Sink.TableWriter => {
  const { config, database, key, writer } = options
  const { table } = key
  let state = options.state
  const target = qualified(state.target)
  const copy = copyOf(state.target)
  const waiting = changesOf(state.target)

  /** Runs a transaction that ends with `next` as the table's state. */
  const change = (
    use: (session: Session) => Promise<TableState.TableState>
  ): Effect.Effect<void, ConnectorError> =>
    Effect.map(
      database.transaction(table, async (session) => {
        const next = await use(session)
        // Last, so that an older run's work is undone as a whole when somebody has taken over.
        await TableState.write(session, key, writer, next)
        return next
      }),
      (next) => {
        state = next
      }
    )

  const protocol = (what: string): ConnectorError =>
    Failure.make(
      "Protocol",
      `${what} of ${table} came, which doesn't fit what came before`,
      "This is a defect of the source plugin or of this one: please report it.",
      table
    )

  /** Columns of rows that are older or newer than what is known. Its own transaction: DuckDB doesn't write to a table that the same one has altered. */
  const reshaped = (schema: TableSchema, whole: boolean): Effect.Effect<void, ConnectorError> =>
    Effect.gen(function*() {
      const plan = yield* Effect.try({
        try: () => SchemaChange.plan(schema, state.columns, SchemaChange.columnsOf(config, schema), whole),
        catch: (cause) => Failure.writing(table, cause)
      })
      const origin = whole ? schema.origin : state.origin
      if (plan.steps.length === 0 && origin === state.origin) {
        state = { ...state, columns: plan.columns }
        return
      }
      yield* change(async (session) => {
        if (state.copied !== undefined) await SchemaChange.alter(session, target, plan.steps, config.dropColumn)
        if (state.copying !== undefined) {
          await SchemaChange.alter(session, copy, plan.steps, "drop")
          await SchemaChange.alterWaiting(session, waiting, plan.steps)
        }
        return { ...state, columns: plan.columns, origin }
      })
    })

  const dropCopy = (session: Session): Promise<void> =>
    session.run(`DROP TABLE IF EXISTS ${copy}; DROP TABLE IF EXISTS ${waiting}`)

  const snapshotBegin = ({ plan, position, resumed, table: schema }: Element.SnapshotBegin) =>
    change(async (session) => {
      if (resumed) {
        if (state.copying !== position) throw protocol("The rest of a copy")
        // Of a chunk that hadn't ended nothing counts: it comes again, maybe as of a later moment.
        await session.run(`DELETE FROM ${copy} WHERE ${TableState.inNoChunk(key, meta.chunk)}`)
        return state
      }
      const columns = SchemaChange.columnsOf(config, schema)
      await dropCopy(session)
      await TableState.forgetChunks(session, key)
      await session.run(
        `CREATE TABLE ${copy} (${meta.chunk} INTEGER, ${meta.commit} UBIGINT${definitions(columns)});
         CREATE TABLE ${waiting} (${meta.n} BIGINT, ${meta.op} UTINYINT, ${meta.commit} UBIGINT, ${meta.unsent} VARCHAR[]${
          definitions(columns)
        })`
      )
      return { ...TableState.empty(state.target), columns, origin: schema.origin, copying: position, plan }
    })

  const snapshotRows = ({ batch, chunk }: Element.SnapshotRows) =>
    change(async (session) => {
      if (state.copying === undefined) throw protocol("Rows of a copy")
      const { columns } = state
      await Staging.load(session, config, batch, columns)
      await session.run(
        `INSERT INTO ${copy} (${meta.chunk}, ${meta.commit}, ${listed(columns)})
         SELECT ${chunk}, ${meta.commit}, ${listed(columns)} FROM ${Staging.batch}`
      )
      return state
    })

  const snapshotChunk = ({ chunk, position, rows }: Element.SnapshotChunk) =>
    change(async (session) => {
      if (state.copying === undefined) throw protocol("A chunk")
      await TableState.addChunk(session, key, chunk, position, rows)
      return state
    })

  const snapshotEnd = ({ chunks, position, settled, table: schema }: Element.SnapshotEnd) =>
    change(async (session) => {
      if (state.copying !== position || await TableState.countChunks(session, key) !== chunks) {
        throw protocol("The end of a copy")
      }
      const { columns, truncated } = state
      const names = listed(columns)
      if (truncated !== undefined) {
        await session.run(`DELETE FROM ${copy} WHERE ${meta.commit} <= ${truncated}`)
      }
      // A row of the copy is newer than changes below the position that it was read at.
      const keys = Merge.keyOf(schema)
      await session.run(
        schema.identity._tag === "Key"
          ? `DELETE FROM ${waiting} AS w USING ${copy} AS c WHERE ${
            Merge.same(keys, "w", "c")
          } AND w.${meta.commit} < c.${meta.commit}`
          : `DELETE FROM ${waiting} WHERE ${meta.commit} < ${settled}`
      )
      await session.run(
        `CREATE SCHEMA IF NOT EXISTS ${quote(state.target.schema)};
         CREATE OR REPLACE TABLE ${target} (${definitions(columns).slice(2)});
         INSERT INTO ${target} (${names}) SELECT ${names} FROM ${copy}`
      )
      await Merge.apply(
        { session, table, target, changes: waiting, columns },
        schema.identity._tag,
        keys
      )
      await dropCopy(session)
      await TableState.forgetChunks(session, key)
      return { ...state, copied: position, settled, copying: undefined, plan: undefined, truncated: undefined }
    })

  const rows = Effect.fnUntraced(function*({ batch }: Element.Rows) {
    if (state.copied === undefined && state.copying === undefined) return yield* protocol("Changes")
    yield* reshaped(batch.table, false)
    yield* change(async (session) => {
      const { columns } = state
      const changes = state.copied === undefined
        ? await session.number(`SELECT coalesce(max(${meta.n}) + 1, 0) FROM ${waiting}`)
        : 0
      await Staging.load(session, config, batch, columns, changes)
      if (state.copied === undefined) {
        const names = `${Object.values(meta).slice(0, 4).join(", ")}, ${listed(columns)}`
        await session.run(`INSERT INTO ${waiting} (${names}) SELECT ${names} FROM ${Staging.batch}`)
      } else {
        await Merge.apply(
          { session, table, target, changes: Staging.batch, columns },
          batch.table.identity._tag,
          Merge.keyOf(batch.table)
        )
      }
      return { ...state, committed: batch.last }
    })
    yield* options.durable(batch.last)
  })

  const truncate = ({ sequence }: Element.Truncate) =>
    Effect.andThen(
      change(async (session) => {
        if (state.copied !== undefined) {
          await session.run(`DELETE FROM ${target}`)
          return { ...state, committed: sequence }
        }
        if (state.copying === undefined) throw protocol("A truncate")
        await session.run(`DELETE FROM ${waiting}`)
        return { ...state, committed: sequence, truncated: sequence.commit }
      }),
      options.durable(sequence)
    )

  const tableLeft = () =>
    change(async (session) => {
      await dropCopy(session)
      await TableState.forgetChunks(session, key)
      return { ...TableState.empty(state.target), columns: state.columns }
    })

  return {
    position: options.position,
    // Leaving out a kind of element would not compile.
    write: (element): Effect.Effect<void, ConnectorError> =>
      Sink.match(element, {
        Rows: rows,
        Truncate: truncate,
        Schema: ({ table }) => reshaped(table, true),
        SnapshotBegin: snapshotBegin,
        SnapshotRows: snapshotRows,
        SnapshotChunk: snapshotChunk,
        SnapshotEnd: snapshotEnd,
        TableLeft: tableLeft
      })
  }
}
