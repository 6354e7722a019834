/**
 * Merges a table's journal into its target, when there is something to merge, in the way of the table's mode.
 *
 * Knows how far the table is merged and asks the channel how far it is committed; while the two are equal no statement is
 * issued, so an idle pipeline leaves the warehouse asleep. A merge looks at the window first, then does everything in one transaction that
 * ends with the new position in the state table, on the condition that the old one is still there.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import { isRetryable } from "@etl-stream/core/ConnectorError"
import type { SequenceText } from "@etl-stream/core/Sequence"
import * as Sequence from "@etl-stream/core/Sequence"
import { SpanLinks } from "@etl-stream/core/SpanLinks"
import * as Telemetry from "@etl-stream/core/Telemetry"
import { isTracing } from "@etl-stream/core/Tracing"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import type { AnySpan } from "effect/Tracer"
import type { Config } from "./Config.ts"
import { failure } from "./ErrorPolicy.ts"
import { JournalPruner } from "./JournalPruner.ts"
import * as JournalStatement from "./JournalStatement.ts"
import type { Contents, Window, WindowApplier } from "./JournalWindow.ts"
import * as KeyRange from "./KeyRange.ts"
import type { MergeTask } from "./MergeTask.ts"
import type { SqlClient } from "./SqlClient.ts"
import type { Finished, StateTable } from "./StateTable.ts"
import { mergedByCopy } from "./StateTable.ts"
import type { TableLayout } from "./TableLayout.ts"
import * as TableOptions from "./TableOptions.ts"

type Failed = ConnectorError.ConnectorError

const Inspected = Schema.Struct({
  rows: Schema.FiniteFromString,
  last: Schema.NullOr(Schema.String),
  upTo: Schema.NullOr(Schema.String),
  truncated: Schema.NullOr(Schema.String),
  partial: Schema.FiniteFromString,
  moved: Schema.FiniteFromString,
  removes: Schema.FiniteFromString,
  altered: Schema.NullOr(Schema.String),
  shown: Schema.optionalKey(Schema.FiniteFromString)
})

interface Inspection extends Contents {
  /** How many of the rows that were asked for show. */
  readonly shown: number
}

export type CopySpan = Pick<Finished, "position" | "copiedTo">

/** How long committed rows may take to be visible to SELECT: some ten seconds. */
const visibility = Schedule.max([Schedule.exponential("100 millis"), Schedule.recurs(7)])

export class Merger {
  private readonly sql: SqlClient
  private readonly state: StateTable
  private readonly config: Config
  private readonly apply: WindowApplier
  private readonly task: MergeTask | undefined
  /** Held for each merge; the table's lock is always taken before. */
  private readonly merges: Semaphore.Semaphore
  private readonly everyMillis: number
  private readonly pruner: JournalPruner
  private layout: TableLayout
  /** Excludes merges from copies and schema changes of the same table. */
  readonly lock = Semaphore.makeUnsafe(1)
  /** The last sequence merged; undefined until the table's copy is complete. */
  private merged: SequenceText | undefined
  /** Where the table's copy began, and the latest snapshot that it was read in. */
  private copied: CopySpan | undefined
  private waitingSince: number | undefined
  /** Changes that are written and not merged: never too few. At a start it isn't known how many the journal holds. */
  private waiting = Number.POSITIVE_INFINITY
  private writtenInAll = 0
  private lastWritten: SequenceText = ""
  /** The spans of the writes since the last merge began; undefined when there are none. */
  private writes: SpanLinks | undefined
  /** Whether a task of Snowflake merges. */
  private handed: boolean
  /** The task's stream has every row after this one; undefined: there is no stream yet. */
  private streamed: SequenceText | undefined
  /** Whether Snowflake refused a task: this run tries no more. */
  private kept = false
  private nextLookMillis = 0
  private looked = 0

  constructor(
    sql: SqlClient,
    state: StateTable,
    config: Config,
    layout: TableLayout,
    apply: WindowApplier,
    merged: SequenceText | undefined,
    copied?: CopySpan,
    task?: MergeTask,
    handed = false,
    merges = Semaphore.makeUnsafe(1)
  ) {
    this.merges = merges
    this.everyMillis = Duration.toMillis(TableOptions.of(config, layout.id).merge.every)
    this.pruner = new JournalPruner(sql, Duration.toMillis(config.journal.retention), this.everyMillis)
    this.task = task
    this.handed = handed
    this.sql = sql
    this.state = state
    this.config = config
    this.layout = layout
    this.apply = apply
    this.merged = merged
    this.copied = copied
  }

  /** The table's shape or position is another one from now on; undefined `merged`: it is being copied. */
  reset(layout: TableLayout, merged: SequenceText | undefined, copied?: CopySpan): void {
    this.layout = layout
    this.merged = merged
    this.copied = copied
    this.waitingSince = undefined
  }

  /** The shape changed; the position stays. */
  reshape(layout: TableLayout): void {
    this.layout = layout
  }

  /** Counts changes about to be written, so that it needs no query to know whether a merge is worth its while. */
  written(changes: number, last: SequenceText): void {
    this.waiting += changes
    this.writtenInAll += changes
    this.lastWritten = last
  }

  /** Links the next merge to the span of a write. */
  writtenIn(span: AnySpan): void {
    this.writes ??= new SpanLinks()
    this.writes.add(span)
  }

  /** A span of its own around a merge, linked to the writes since the one before. */
  private spanned(merge: Effect.Effect<void, Failed>): Effect.Effect<void, Failed> {
    return Effect.withFiber((fiber) => {
      const links = this.writes
      this.writes = undefined
      const options = Telemetry.tableSpan(this.state.pipeline, this.layout.id, { links, kind: "client" })
      return isTracing(fiber) ? Effect.withSpan(merge, "etl_stream.snowflake.merge", options) : merge
    })
  }

  /** `rows` changes were merged, all up to `upTo`. */
  private settle(rows: number, upTo: SequenceText): void {
    if (upTo >= this.lastWritten) this.waiting = 0
    else this.waiting = Number.isFinite(this.waiting) ? Math.max(0, this.waiting - rows) : this.writtenInAll
  }

  /** Whether everything that was written is committed, and some of it but no more than `most` changes is yet to be merged, by the runner. */
  holdsFew(committed: SequenceText | undefined, most: number): boolean {
    return !this.handed && this.merged !== undefined && committed !== undefined && committed > this.merged &&
      committed >= this.lastWritten && this.waiting <= most
  }

  /**
   * Merges what is committed up to `committed`, when no task does; tells whether anything was. `eager`: however little it is. `rows`: others that are committed, and
   * have to show before anything is merged.
   */
  merge(
    committed: SequenceText | undefined,
    eager: boolean,
    rows: ReadonlyArray<SequenceText> = []
  ): Effect.Effect<boolean, Failed> {
    return this.lock.withPermits(1)(Effect.gen({ self: this }, function*() {
      if (this.handed) yield* this.look
      const { merged } = this
      if (this.handed || merged === undefined) return false
      if (committed === undefined || committed <= merged) this.settle(0, merged)
      else if (eager || (yield* this.due)) yield* this.merges.withPermits(1)(this.window(merged, committed, rows))
      const moved = this.merged !== merged
      if (!eager) yield* this.handOver
      return moved
    }))
  }

  /** Lets a task merge from here on, once everything that its stream doesn't have is merged. */
  private get handOver(): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { layout, merged, task } = this
      if (this.kept || task?.serves(layout) !== true || merged === undefined || this.amidCopy(merged) !== undefined) {
        return
      }
      this.streamed ??= yield* task.prepare(layout)
      if (this.streamed > merged) return
      yield* task.handOver(layout, merged)
      this.handed = true
    }).pipe(Effect.catch((error) => {
      if (isRetryable(error)) return Effect.fail(error)
      this.kept = true
      return Effect.logWarning(
        `the table can't be merged by a task, so the runner goes on merging it: ${error.message}`
      )
        .pipe(Effect.annotateLogs({
          table: this.layout.id,
          hint:
            "The role needs CREATE TASK and CREATE STREAM on the schema of the journals, and EXECUTE TASK (for serverless tasks also EXECUTE MANAGED TASK) on the account."
        }))
    }))
  }

  /** The runner merges again, from where the task has come to. */
  get takeBack(): Effect.Effect<void, Failed> {
    return this.lock.withPermits(1)(Effect.suspend(() => this.handed ? this.takenBack : Effect.void))
  }

  private get takenBack(): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      if (this.task === undefined) return
      this.merged = yield* this.task.takeBack(this.layout)
      this.handed = false
      this.streamed = undefined
      this.waiting = Number.POSITIVE_INFINITY
    })
  }

  /**
   * Looks now and then, while changes are written, whether the task runs: Snowflake suspends one that fails again and again. What fails is done again at the next merge, whether anything is
   * written until then or not.
   */
  private get look(): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const now = yield* Clock.currentTimeMillis
      const written = this.writtenInAll
      if (this.task === undefined || this.looked === written || now < this.nextLookMillis) return
      const condition = yield* this.task.condition(this.layout)
      if (condition !== "started") yield* this.takenBackFrom(condition)
      this.looked = written
      this.nextLookMillis = now + 5 * this.everyMillis
    })
  }

  private takenBackFrom(condition: string): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      yield* Effect.logWarning(
        `the task that merges the table is ${condition}: the runner merges until it is made again`
      )
        .pipe(Effect.annotateLogs({
          table: this.layout.id,
          hint:
            "Look for why it failed in Snowflake: SELECT * FROM TABLE(INFORMATION_SCHEMA.TASK_HISTORY(ERROR_ONLY => TRUE))."
        }))
      yield* this.takenBack
    })
  }

  private window(
    merged: SequenceText,
    committed: SequenceText,
    rows: ReadonlyArray<SequenceText>
  ): Effect.Effect<void, Failed> {
    return this.spanned(Effect.gen({ self: this }, function*() {
      const { layout } = this
      const table = layout.id
      const contents = yield* this.visible({ after: merged, upTo: committed, amidCopy: undefined }, rows)
      // The first half of a change of key alone: the other half comes.
      if (contents.upTo === undefined) return
      const window: Window = { after: merged, upTo: contents.upTo, amidCopy: this.amidCopy(merged) }
      yield* this.sql.use((session) =>
        Effect.gen({ self: this }, function*() {
          const apply = yield* session.counted(
            { what: `Preparing to merge ${table}`, table },
            this.apply(session, layout, window, contents)
          )
          yield* session.transaction(
            { what: `Merging ${table}`, table },
            Effect.andThen(apply, this.state.advance(session, layout, merged, window.upTo)),
            () => {
              this.merged = window.upTo
              this.waitingSince = undefined
              this.settle(contents.rows, window.upTo)
            }
          )
        })
      )
      yield* Effect.logDebug("merged").pipe(Effect.annotateLogs({ table, rows: contents.rows, position: window.upTo }))
      yield* this.pruner.after(layout, window.upTo, contents.rows)
    }))
  }

  private amidCopy(merged: SequenceText): Window["amidCopy"] {
    if (this.copied === undefined) return undefined
    const { copiedTo, position } = this.copied
    return merged < mergedByCopy(copiedTo)
      ? { after: mergedByCopy(position), upTo: Sequence.format(Sequence.make(copiedTo, 0n)) }
      : undefined
  }

  /** Whether enough has gathered, or it has waited long enough. */
  private get due(): Effect.Effect<boolean> {
    return Effect.map(Clock.currentTimeMillis, (now) => {
      this.waitingSince ??= now
      return this.waiting >= this.config.merge.minRows ||
        now - this.waitingSince >= 10 * this.everyMillis
    })
  }

  /**
   * What the window holds. Its end was committed, so it is the sequence of a row: while Snowflake doesn't show that row yet, it is
   * looked for again. It must not be passed over, nor must rows around it: a channel's rows show in their order, so those of several channels show when
   * each one's last does, wherever it lies after what is merged.
   */
  private visible(window: Window, committed: ReadonlyArray<SequenceText>): Effect.Effect<Contents, Failed> {
    const others = committed.filter((row) => row > window.after && row !== window.upTo)
    const isWhole = ({ last, shown }: Inspection): boolean => last === window.upTo && shown === others.length
    return this.inspect(window, others).pipe(
      Effect.repeat({ schedule: visibility, until: isWhole }),
      Effect.flatMap((contents) =>
        isWhole(contents) ? Effect.succeed(contents) : Effect.fail(failure(
          "Unreachable",
          `The journal of ${this.layout.id} doesn't show rows that Snowflake reported as committed`,
          "The pipeline looks again. If it happens again and again, rows were removed from the journal by something else: have the table copied again (etl-stream resync).",
          { table: this.layout.id }
        ))
      )
    )
  }

  private inspect(window: Window, others: ReadonlyArray<SequenceText>): Effect.Effect<Inspection, Failed> {
    return Effect.gen({ self: this }, function*() {
      const table = this.layout.id
      const { rows } = yield* this.sql.execute({
        what: `Looking for changes of ${table}`,
        sql: JournalStatement.inspect(this.layout, window, this.config.merge.keyRanges, others),
        table
      })
      const found = yield* this.decode(Inspected, rows[0])
      return {
        rows: found.rows,
        last: found.last ?? undefined,
        upTo: found.upTo ?? undefined,
        truncated: found.truncated ?? undefined,
        partial: found.partial > 0,
        moved: found.moved > 0,
        removes: found.removes,
        altered: found.altered ?? undefined,
        shown: found.shown ?? 0,
        keys: this.config.merge.keyRanges ? KeyRange.read(this.layout, rows[0] ?? {}) : []
      }
    })
  }

  private decode<A>(schema: Schema.ConstraintDecoder<A>, row: unknown): Effect.Effect<A, Failed> {
    return Effect.mapError(
      Schema.decodeUnknownEffect(schema)(row),
      () =>
        failure(
          "Protocol",
          `A query on the journal of ${this.layout.id} has another form than expected`,
          "Report it.",
          { table: this.layout.id }
        )
    )
  }
}
