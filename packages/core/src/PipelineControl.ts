/**
 * What can be asked of a pipeline from outside while it runs: by a monitor that acts before a disk fills.
 *
 * Requests outlive runs: a pipeline that restarts goes on as it was asked to. `make` gives one object per pipeline for all of its runs; each run
 * attaches itself for as long as it lasts.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import { ConnectorError } from "./ConnectorError.ts"
import type { Quarantine } from "./Quarantine.ts"
import type { TableId } from "./TableSchema.ts"

export interface PipelineControl {
  /** Holds copies of tables up after the chunks under way, or lets them go on. Changes stream either way. */
  readonly pauseCopies: (paused: boolean) => Effect.Effect<void>
  readonly copiesPaused: () => boolean
  /**
   * Keeps changes on disk from now on, so that the source can be told that they are safe while the sink takes none; false: only what was kept is still
   * brought to the sink, in order. Fails with `Misconfigured` where the pipeline has no spool.
   */
  readonly spool: (wanted: boolean) => Effect.Effect<void, ConnectorError>
  readonly isSpooling: () => boolean
  /** Sets a table aside with its reason. Completes when the sink has made that durable; fails with `Missing` when no such table runs. */
  readonly quarantine: (table: TableId, why: Omit<Quarantine, "since">) => Effect.Effect<void, ConnectorError>
  /** Tables that hold the acknowledged position back, the one that is furthest behind first. */
  readonly blocking: () => ReadonlyArray<TableId>
}

/** What a run does of what is asked of its pipeline. */
export interface ControlledRun {
  readonly quarantine: PipelineControl["quarantine"]
  readonly blocking: PipelineControl["blocking"]
  /** Whether changes are being kept on disk now, asked for or not. */
  readonly isSpooling: () => boolean
  /** Whether there is a spool. */
  readonly spools: boolean
}

/** The control of a pipeline, and the engine's side of it. */
export interface OwnedControl extends PipelineControl {
  /** Completes at once unless copies are to be held up, and then when they may go on. */
  readonly copiesGoOn: Effect.Effect<void>
  /** Holds copies up for a reason of the engine's own, beside what is asked. */
  readonly holdCopies: (held: boolean) => void
  /** Whether it is asked that changes are kept on disk. */
  readonly spoolWanted: () => boolean
  /** Has requests answered by a run until the scope closes. `changed` is called when `spoolWanted` is another. */
  readonly attach: (run: ControlledRun, changed: () => void) => Effect.Effect<void, never, Scope.Scope>
}

export interface Options {
  readonly pipeline: string
  /** Whether the pipeline has a spool, as long as no run has told. */
  readonly spool: boolean
}

const withoutSpool = (pipeline: string): ConnectorError =>
  new ConnectorError({
    reason: "Misconfigured",
    plugin: "@etl-stream/core",
    message: `The pipeline ${pipeline} has no spool, so changes can't be kept on disk`,
    hint: "Give the pipeline a section `spool` with a directory in its configuration."
  })

const notRunning = (pipeline: string, table: TableId): ConnectorError =>
  new ConnectorError({
    reason: "Missing",
    plugin: "@etl-stream/core",
    message: `The table ${table} can't be set aside: the pipeline ${pipeline} doesn't run now`,
    hint: "Ask again when the pipeline runs.",
    table
  })

export const make = ({ pipeline, spool }: Options): OwnedControl => {
  let spools = spool
  const copies = Latch.makeUnsafe(true)
  let paused = false
  let held = false
  let wanted = false
  let attached: { readonly run: ControlledRun; readonly changed: () => void } | undefined
  const settleCopies = () => {
    if (paused || held) copies.closeUnsafe()
    else copies.openUnsafe()
  }
  return {
    pauseCopies: (asked) =>
      Effect.suspend(() => {
        if (paused === asked) return Effect.void
        paused = asked
        settleCopies()
        return Effect.logInfo(asked ? "Copies are held up, as was asked" : "Copies may go on").pipe(
          Effect.annotateLogs({ pipeline })
        )
      }),
    copiesPaused: () => paused,
    spool: (asked) =>
      Effect.suspend(() => {
        if (!spools) return asked ? Effect.fail(withoutSpool(pipeline)) : Effect.void
        if (wanted === asked) return Effect.void
        wanted = asked
        attached?.changed()
        return Effect.logInfo(
          asked ? "Changes are kept on disk, as was asked" : "Changes need not be kept on disk any more"
        ).pipe(Effect.annotateLogs({ pipeline }))
      }),
    isSpooling: () => attached?.run.isSpooling() ?? wanted,
    quarantine: (table, why) =>
      Effect.suspend(() =>
        attached === undefined ? Effect.fail(notRunning(pipeline, table)) : attached.run.quarantine(table, why)
      ),
    blocking: () => attached?.run.blocking() ?? [],
    copiesGoOn: copies.await,
    holdCopies: (now) => {
      held = now
      settleCopies()
    },
    spoolWanted: () => wanted,
    attach: (run, changed) => {
      const mine = { run, changed }
      return Effect.acquireRelease(
        Effect.sync(() => {
          attached = mine
          spools = run.spools
          if (!spools) wanted = false
        }),
        () =>
          Effect.sync(() => {
            if (attached !== mine) return
            attached = undefined
            held = false
            settleCopies()
          })
      )
    }
  }
}
