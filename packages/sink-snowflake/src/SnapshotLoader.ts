/**
 * Loads a table's copy: COPY INTO the target of the files that its chunks became (`ChunkFiles`), and the state when it is complete. What is loaded is
 * removed from the stage.
 *
 * A copy comes in chunks. Of a copy with a plan, files are loaded when their chunk has ended, in the transaction that records the chunk: a chunk is
 * in the target wholly or not at all, and a later run may go on with the missing ones. Without a plan files are loaded as they gather, and the
 * next run begins anew.
 *
 * Each copy has an identity of its own, and so has each run that works on it, recorded in the state table before its first row is loaded: what an
 * earlier copy left in the target is removed then, and a runner whose copy was taken over can't load into it any more. The end is only
 * recorded when the target holds exactly as many rows as the chunks have, and in each column as many values.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type { SnapshotBegin, SnapshotChunk, SnapshotEnd, SnapshotRows } from "@etl-stream/core/Element"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import * as ChunkFiles from "./ChunkFiles.ts"
import type { Chunks } from "./ChunkTable.ts"
import { sameChunks, summedFilled } from "./ChunkTable.ts"
import type { Config } from "./Config.ts"
import type { Identity, OpenChunk, StagedFile } from "./CopyProgress.ts"
import { copyFiles, CopyProgress } from "./CopyProgress.ts"
import type { DeadLetterWriter } from "./DeadLetterWriter.ts"
import type { EncodingPool } from "./EncodingPool.ts"
import { failure } from "./ErrorPolicy.ts"
import { literal, quote } from "./Identifier.ts"
import type { Session, SqlClient } from "./SqlClient.ts"
import type { Stage } from "./Stage.ts"
import type { StagingMemory } from "./StagingMemory.ts"
import type { Finished, StateTable } from "./StateTable.ts"
import type { TableLayout } from "./TableLayout.ts"
import { Metadata, sqlName } from "./TableLayout.ts"
import type { Unfinished } from "./TableState.ts"

type Failed = ConnectorError.ConnectorError

const newId = (): string => randomUUID().replaceAll("-", "")

export class SnapshotLoader {
  private readonly sql: SqlClient
  private readonly state: StateTable
  private readonly stage: Stage
  private readonly files: ChunkFiles.ChunkFiles
  private readonly everyMillis: number
  private layout: TableLayout
  private copy: CopyProgress | undefined
  /** What an earlier run left unfinished, until a copy begins. */
  private left: Unfinished | undefined

  constructor(
    sql: SqlClient,
    state: StateTable,
    stage: Stage,
    config: Config,
    memory: StagingMemory,
    scope: Scope.Scope,
    layout: TableLayout,
    left: Unfinished | undefined,
    letters: DeadLetterWriter | undefined,
    encoding: EncodingPool
  ) {
    this.sql = sql
    this.state = state
    this.stage = stage
    this.files = new ChunkFiles.ChunkFiles(stage, config, memory, scope, letters, encoding)
    this.everyMillis = Duration.toMillis(config.copy.every)
    this.layout = layout
    this.left = left
  }

  /** Whether a copy is under way in this run. */
  get copying(): boolean {
    return this.copy !== undefined
  }

  private newCopy(copy: Omit<Identity, "folder">, durable: Chunks): CopyProgress {
    return new CopyProgress({ ...copy, folder: this.stage.folder(this.layout, copy.run) }, durable)
  }

  /**
   * Begins a copy: what a mirror and its journal hold is void, and of a changelog what an earlier copy left there. It can't be resumed
   * before `keepPlan`.
   */
  begin(layout: TableLayout, element: SnapshotBegin): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      this.layout = layout
      const { plan, position } = element
      const id = newId()
      const what = `Emptying ${sqlName(layout.target)} for a new copy`
      yield* this.sql.use((session) =>
        session.transaction(
          { what, table: layout.id },
          Effect.gen({ self: this }, function*() {
            const voided = layout.mode === "mirror"
              ? [`DELETE FROM ${sqlName(layout.target)}`, `DELETE FROM ${sqlName(layout.journal)}`]
              : [`DELETE FROM ${sqlName(layout.target)} WHERE ${quote(Metadata.op)} = 'read'`]
            for (const sql of voided) yield* session.execute({ what, sql, table: layout.id })
            yield* this.state.beginCopy(session, layout, id, position)
          })
        )
      )
      yield* this.discard
      this.copy = this.newCopy({ id, run: id, position, plan }, new Map())
    })
  }

  /** Lets the copy that begins go on in a later run, when it has a plan. */
  get keepPlan(): Effect.Effect<void, Failed> {
    return Effect.suspend(() => {
      const { copy, layout } = this
      return copy?.identity.plan === undefined
        ? Effect.void
        : this.state.keepPlan(layout, copy.identity.run, copy.identity.plan)
    })
  }

  /** Goes on with the copy that an earlier run left. */
  resume(layout: TableLayout, { plan, position }: SnapshotBegin): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { left } = this
      const resumable = left?.resumable
      if (left === undefined || resumable?.position !== position || resumable.plan !== plan) {
        return yield* this.outOfPlace("beginning")
      }
      this.layout = layout
      const run = newId()
      yield* this.state.resumeCopy(layout, left.run, run)
      // The run that it was taken from may have recorded chunks since this one has looked; from here on it can't.
      const chunks = (yield* this.state.chunks.load(layout.id)).get(resumable.copy) ?? new Map()
      if (!sameChunks(chunks, resumable.chunks)) {
        return yield* failure(
          "Fenced",
          `The copy of ${layout.id} was worked on by somebody else`,
          "Run only one runner per pipeline. This one starts again from what Snowflake holds.",
          { table: layout.id }
        )
      }
      yield* this.discard
      this.copy = this.newCopy({ id: resumable.copy, run, position, plan }, chunks)
    })
  }

  /** Forgets the copies that were under way and removes what is staged of them. Left-overs cost storage, not correctness: each run has its own folder. */
  get discard(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const folders = [
        this.copy?.identity.folder,
        this.left === undefined ? undefined : this.stage.folder(this.layout, this.left.run)
      ]
      return Effect.andThen(
        this.abandon,
        Effect.suspend(() => {
          this.copy = undefined
          this.left = undefined
          return Effect.forEach(
            folders.filter((folder) => folder !== undefined),
            (folder) => Effect.ignore(this.stage.remove(this.layout, folder)),
            { discard: true }
          )
        })
      )
    })
  }

  /** Gives up files that grow and uploads that run: nothing more comes of them. */
  get abandon(): Effect.Effect<void> {
    return Effect.suspend(() => this.copy === undefined ? Effect.void : this.files.abandon(this.copy))
  }

  /** The chunk that rows or an end belong to. */
  private chunkOf(
    { chunk: number, position }: SnapshotRows | SnapshotChunk
  ): Effect.Effect<{ readonly copy: CopyProgress; readonly chunk: OpenChunk }, Failed> {
    const { copy, layout } = this
    // Rows without a key can't be told apart, so their changes begin where all of them were read.
    const single = layout.mode === "mirror" && layout.keys.length === 0
    const chunk = copy?.chunk(number, position, single)
    return copy === undefined || chunk === undefined
      ? this.outOfPlace(`chunk ${number}`)
      : Effect.succeed({ copy, chunk })
  }

  /** Stages rows of a chunk. */
  write(element: SnapshotRows): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { chunk, copy } = yield* this.chunkOf(element)
      for (const piece of ChunkFiles.pieces(element.batch)) {
        const ended = yield* this.files.append(this.layout, copy, chunk, piece)
        // Nothing waits for its end: files are loaded as they come.
        if (ended && copy.identity.plan === undefined) yield* this.release(copy, yield* this.files.uploaded(chunk))
      }
    })
  }

  /** A chunk has ended: it may be loaded and recorded. */
  endChunk(element: SnapshotChunk): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { chunk, copy } = yield* this.chunkOf(element)
      const { rows } = element
      if (chunk.rows !== rows) {
        return yield* failure(
          "Protocol",
          `Chunk ${element.chunk} of the copy of ${this.layout.id} should have ${rows} rows, but ${chunk.rows} came`,
          "Report it; the table is copied again.",
          { table: this.layout.id }
        )
      }
      yield* this.files.seal(this.layout, copy, chunk)
      const files = yield* this.files.uploaded(chunk)
      copy.end(chunk)
      yield* this.release(copy, files)
    })
  }

  /** Lets files be loaded, and loads them when enough have gathered or they have waited long enough. */
  private release(copy: CopyProgress, files: ReadonlyArray<StagedFile>): Effect.Effect<void, Failed> {
    return Effect.flatMap(
      Clock.currentTimeMillis,
      (now) => copy.release(files, now, this.everyMillis) ? this.loadAndRemove(copy) : Effect.void
    )
  }

  /** At the copy's end the whole folder is removed; until then what is loaded should not gather at the stage. */
  private loadAndRemove(copy: CopyProgress): Effect.Effect<void, Failed> {
    return Effect.suspend(() => {
      const names = copy.files.map(({ name }) => name)
      return Effect.andThen(
        this.load(copy),
        Effect.ignore(this.stage.removeFiles(this.layout, copy.identity.folder, names))
      )
    })
  }

  /** Loads what may be loaded and records chunks that have ended, all or nothing. */
  private load(copy: CopyProgress): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      if (copy.files.length === 0 && copy.ended.size === 0) return
      const { layout } = this
      const syncedAt = new Date(yield* Clock.currentTimeMillis).toISOString()
      const positions = Map.groupBy(copy.files, ({ position }) => position)
      yield* this.sql.use((session) =>
        session.transaction(
          { what: `Copying rows of ${layout.id}`, table: layout.id },
          Effect.gen({ self: this }, function*() {
            // Whoever took over has removed the files: nobody should look for them.
            yield* this.state.expectCopy(session, layout, copy.identity.run)
            for (const [position, files] of positions) {
              for (let from = 0; from < files.length; from += copyFiles) {
                yield* this.copyInto(session, copy, position, syncedAt, files.slice(from, from + copyFiles))
              }
            }
            yield* this.state.chunks.record(session, layout, copy.identity.id, copy.ended)
            yield* this.state.confirmCopy(session, layout, copy.identity.run)
          }),
          () => copy.loaded()
        )
      )
    })
  }

  private copyInto(
    session: Session,
    copy: CopyProgress,
    position: bigint,
    syncedAt: string,
    files: ReadonlyArray<StagedFile>
  ): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { layout } = this
      const mirror = layout.mode === "mirror"
      const constants = mirror
        ? [
          { name: Metadata.sequence, expression: literal(Sequence.format(Sequence.make(position, 0n))) },
          { name: layout.names.syncedAt, expression: `${literal(syncedAt)}::TIMESTAMP_TZ(6)` }
        ]
        : []
      const loaded = yield* this.stage.copy(
        session,
        layout,
        mirror ? "target" : "journal",
        copy.identity.folder,
        files.map(({ name }) => name),
        constants
      )
      const staged = files.reduce((sum, { rows }) => sum + rows, 0)
      if (loaded !== staged) return yield* this.incomplete(staged, loaded)
    })
  }

  /**
   * Loads what is staged, checks that nothing is missing, and records the copy as complete, in the transaction of `complete`: what else there is to
   * do with a complete copy.
   */
  end(
    { chunks, position, settled }: SnapshotEnd,
    complete: (session: Session) => Effect.Effect<void, Failed>
  ): Effect.Effect<Finished, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { copy, layout } = this
      if (copy === undefined || copy.identity.position !== position || copy.open.size > 0) {
        return yield* this.outOfPlace("end")
      }
      yield* this.load(copy)
      const what = `Completing the copy of ${layout.id}`
      const finished: Finished = { position, copiedTo: copy.copiedTo, settled }
      let wrong: Failed | undefined
      yield* this.sql.use((session) =>
        session.transaction(
          { what, table: layout.id },
          Effect.gen({ self: this }, function*() {
            wrong = yield* this.check(session, copy, chunks)
            if (wrong !== undefined) return yield* wrong
            yield* complete(session)
            yield* this.state.endCopy(session, layout, copy.identity.run, finished)
          })
        )
      ).pipe(
        // What is wrong with this copy would be so again if it were resumed.
        Effect.tapError(() =>
          wrong === undefined || copy.identity.plan === undefined
            ? Effect.void
            : this.state.dropPlan(layout, copy.identity.run)
        )
      )
      yield* this.discard
      return finished
    })
  }

  /** What is wrong with a copy that should be complete. */
  private check(session: Session, copy: CopyProgress, chunks: number): Effect.Effect<Failed | undefined, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { layout } = this
      const recorded = yield* this.state.chunks.summary(session, layout, copy.identity.id)
      // As many different numbers from 0 on as the highest one allows are all of them.
      if (recorded.chunks !== chunks || recorded.different !== chunks || recorded.highest !== chunks - 1) {
        return failure(
          "Fenced",
          `The copy of ${layout.id} has ${chunks} chunks at the source and ${recorded.chunks} in Snowflake`,
          "The table is copied again. If it happens again, look for a second runner of the same pipeline.",
          { table: layout.id }
        )
      }
      const filled = summedFilled(copy.durable, layout)
      const counts = filled?.map((_, index) =>
        `COUNT(${quote(layout.columns[index]?.name ?? "")}) AS "filled${index}"`
      ) ?? []
      const { rows: [counted] } = yield* session.execute({
        what: `Counting the rows of ${layout.id}`,
        sql: `SELECT ${[`COUNT(*) AS "rows"`, ...counts].join(", ")} FROM ${sqlName(layout.target)}` +
          (layout.mode === "mirror" ? "" : ` WHERE ${quote(Metadata.op)} = 'read'`),
        table: layout.id
      })
      const held = Number(counted?.["rows"])
      if (held !== recorded.rows) return this.incomplete(recorded.rows, held)
      const wrong = filled?.findIndex((values, index) => Number(counted?.[`filled${index}`]) !== values) ?? -1
      return wrong === -1 ? undefined : failure(
        "Fenced",
        `The column ${layout.columns[wrong]?.name} of the copy of ${layout.id} has ${
          filled?.[wrong]
        } values at the source and ` +
          `${counted?.[`filled${wrong}`]} in ${sqlName(layout.target)}`,
        "The table is copied again. If it happens again, report it: Snowflake read the files otherwise than they were written.",
        { table: layout.id }
      )
    })
  }

  private incomplete(expected: number, held: number): Failed {
    return failure(
      "Fenced",
      `The copy of ${this.layout.id} has ${expected} rows at the source and ${held} in ${sqlName(this.layout.target)}`,
      "The table is copied again. If it happens again, look for something else that writes to the target.",
      { table: this.layout.id }
    )
  }

  private outOfPlace(what: string): Effect.Effect<never, Failed> {
    return Effect.fail(
      failure(
        "Protocol",
        `Snapshot ${what} of ${this.layout.id} came outside of a copy`,
        "Report it; the source broke the order of elements.",
        {
          table: this.layout.id
        }
      )
    )
  }
}
