/**
 * Hands the merging of a table over to a Snowflake task, and takes it back.
 *
 * The task is in charge while the state table's `TASK` holds its token. Taking it back there is what counts: a run of the task that is under way can't commit any more, and one that
 * did has moved `MERGED`. Suspending the task beside it saves its runs. A run that was taken over can neither hand over nor take back any more.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import { isRetryable } from "@etl-stream/core/ConnectorError"
import type { SequenceText } from "@etl-stream/core/Sequence"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type { ChannelSet } from "./ChannelTable.ts"
import { single } from "./ChannelTable.ts"
import type { Config } from "./Config.ts"
import * as Identifier from "./Identifier.ts"
import { literal, qualified } from "./Identifier.ts"
import * as MergeTaskStatement from "./MergeTaskStatement.ts"
import type { SqlClient } from "./SqlClient.ts"
import { changedElsewhere, type StateTable } from "./StateTable.ts"
import type { TableLayout } from "./TableLayout.ts"
import { sqlName } from "./TableLayout.ts"
import * as TableOptions from "./TableOptions.ts"

type Failed = ConnectorError.ConnectorError

/** How the task is. */
type Condition = "started" | "suspended" | "missing" | "another than it should be"

/** Who merges a table at a run's beginning, and how far it is when the runner does and the state table said otherwise before. */
export interface Begun {
  readonly handed: boolean
  readonly merged: SequenceText | undefined
}

export class MergeTask {
  private readonly sql: SqlClient
  private readonly state: StateTable
  private readonly config: Config
  private readonly pipeline: string
  private readonly sets: ReadonlyMap<TableId, ChannelSet>

  /** `sets`: the channels that tables have now, which may still be several while the options say one. */
  constructor(
    sql: SqlClient,
    state: StateTable,
    config: Config,
    pipeline: string,
    sets: ReadonlyMap<TableId, ChannelSet>
  ) {
    this.sets = sets
    this.sql = sql
    this.state = state
    this.config = config
    this.pipeline = pipeline
  }

  /** Whether the table is to be merged by a task. What a task sees of a journal is only without gaps when it comes by one channel. */
  serves(layout: TableLayout): boolean {
    return this.config.merge.by === "task" && MergeTaskStatement.serves(layout) &&
      TableOptions.of(this.config, layout.id).channels === 1 && (this.sets.get(layout.id) ?? single).channels === 1
  }

  private make(layout: TableLayout): MergeTaskStatement.Task {
    return MergeTaskStatement.make(layout, this.config, this.pipeline, this.state.rowOf(layout))
  }

  private execute(layout: Pick<TableLayout, "id">, what: string, sql: string): Effect.Effect<void, Failed> {
    return Effect.asVoid(this.sql.execute({ what: `${what} of ${layout.id}`, sql, table: layout.id }))
  }

  /** Keeps which task is in charge; returns how many rows of the state table that changed. */
  private keep(
    layout: Pick<TableLayout, "id">,
    token: string | undefined,
    only?: string
  ): Effect.Effect<number, Failed> {
    const { condition, table } = this.state.rowOf(layout)
    return Effect.map(
      this.sql.execute({
        what: `Keeping which task merges ${layout.id}`,
        sql: `UPDATE ${table} SET "TASK" = ${token === undefined ? "NULL" : literal(token)}, ` +
          `"UPDATED_AT" = CURRENT_TIMESTAMP() WHERE ${
            [condition, ...(only === undefined ? [] : [only])].join(" AND ")
          }`,
        table: layout.id,
        purpose: "state"
      }),
      ({ changed }) => changed
    )
  }

  /** How the task is, told without a warehouse. A run that was taken over may have put its own in the place of the one that is in charge. */
  condition(layout: TableLayout): Effect.Effect<Condition, Failed> {
    const { database, name, schema } = MergeTaskStatement.task(layout)
    return Effect.map(
      this.sql.execute({
        what: `Looking at the task of ${layout.id}`,
        sql: `SHOW TASKS LIKE ${literal(name)} IN SCHEMA ${qualified(database, schema)}`,
        table: layout.id
      }),
      ({ rows }) => {
        const found = rows.find((row) => row["name"] === name)
        if (found === undefined) return "missing"
        if (found["comment"] !== MergeTaskStatement.comment(this.make(layout).token)) return "another than it should be"
        return found["state"] === "started" ? "started" : "suspended"
      }
    )
  }

  /** Whether the task that `token` names is the one that the table should have. */
  fits(layout: TableLayout, token: string | undefined): boolean {
    return this.serves(layout) && token === this.make(layout).token
  }

  /** Leaves the task that an earlier run put in charge there if it fits and runs; otherwise takes the table back, and removes the task when none is wanted. */
  begin(layout: TableLayout, token: string | undefined): Effect.Effect<Begun, Failed> {
    return Effect.gen({ self: this }, function*() {
      if (token === undefined) return { handed: false, merged: undefined }
      if (this.fits(layout, token) && (yield* this.condition(layout)) === "started") {
        return { handed: true, merged: undefined }
      }
      const merged = yield* this.takeBack(layout)
      if (!this.serves(layout)) yield* this.drop(layout)
      return { handed: false, merged }
    })
  }

  /** From here on the stream has each row that comes to the journal; returns the last that it may lack. */
  prepare(layout: TableLayout): Effect.Effect<SequenceText, Failed> {
    return Effect.gen({ self: this }, function*() {
      yield* this.execute(layout, "Creating the stream", MergeTaskStatement.createStream(layout))
      const { rows } = yield* this.sql.execute({
        what: `Looking for the last change in the journal of ${layout.id}`,
        sql: MergeTaskStatement.last(layout),
        table: layout.id
      })
      const last = rows[0]?.["last"]
      return typeof last === "string" ? last : ""
    })
  }

  /** Puts the task in charge. Everything that its stream lacks is merged, up to `merged`. */
  handOver(layout: TableLayout, merged: SequenceText): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      // A run that was taken over must leave the other one's task alone.
      yield* this.state.expectClaim(layout.id)
      const { create, token } = this.make(layout)
      yield* this.execute(layout, "Creating the task", create)
      yield* this.execute(layout, "Starting the task", `ALTER TASK ${sqlName(MergeTaskStatement.task(layout))} RESUME`)
      const { owned } = this.state.rowOf(layout)
      const changed = yield* this.keep(
        layout,
        token,
        `"MERGED" = ${literal(merged)} AND "COPIED" IS NOT NULL AND ${owned}`
      )
      if (changed !== 1) return yield* changedElsewhere(layout)
      yield* Effect.logDebug("merges are a task's from here on").pipe(Effect.annotateLogs({ table: layout.id }))
    })
  }

  /** The task does nothing any more; returns how far the table is merged. */
  takeBack(layout: TableLayout): Effect.Effect<SequenceText | undefined, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { condition, owned, table } = this.state.rowOf(layout)
      if ((yield* this.keep(layout, "", owned)) !== 1) return yield* changedElsewhere(layout)
      yield* this.execute(
        layout,
        "Suspending the task",
        `ALTER TASK IF EXISTS ${sqlName(MergeTaskStatement.task(layout))} SUSPEND`
      )
      const { rows } = yield* this.sql.execute({
        what: `Looking how far ${layout.id} is merged`,
        sql: `SELECT "MERGED" FROM ${table} WHERE ${condition}`,
        table: layout.id,
        purpose: "state"
      })
      const merged = rows[0]?.["MERGED"]
      return typeof merged === "string" ? merged : undefined
    })
  }

  /**
   * Removes the task on `journal`, of a table whose layout isn't known any more: it left the pipeline, or went to another target, while no run was there to take it back. Left alone, it would run
   * for nothing again and again as long as its stream has data. One that can't be removed is told of.
   */
  dropFormer(table: TableId, journal: string): Effect.Effect<void, Failed> {
    return Effect.suspend(() => {
      const [database, schema, name] = Identifier.parts(journal)
      return database === undefined || schema === undefined || name === undefined
        ? Effect.asVoid(this.keep({ id: table }, undefined))
        : this.drop({ id: table, journal: { database, schema, name } })
    }).pipe(Effect.catch((error) =>
      isRetryable(error) || error.reason === "Fenced"
        ? Effect.fail(error)
        : Effect.logWarning(`the task that merged the table can't be dropped: ${error.message}`).pipe(
          Effect.annotateLogs({ table, hint: error.hint })
        )
    ))
  }

  /** Removes what there is of a task that isn't wanted any more. */
  drop(layout: Pick<TableLayout, "id" | "journal">): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      yield* this.execute(
        layout,
        "Dropping the task",
        `DROP TASK IF EXISTS ${sqlName(MergeTaskStatement.task(layout))}`
      )
      yield* this.execute(
        layout,
        "Dropping the stream",
        `DROP STREAM IF EXISTS ${sqlName(MergeTaskStatement.stream(layout))}`
      )
      yield* this.keep(layout, undefined)
    })
  }
}
