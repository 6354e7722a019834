/**
 * When tables are merged: each once per its `every` while it changes, and a table at rest as soon as a few changes of it are committed.
 *
 * A table is at rest when its `every` has passed with nothing to merge. A merge that is made at once counts like any other, so that none
 * follows before `every` has passed: in the long run no table is merged more often. A start counts as a merge too: runs that fail one after the other
 * don't keep the warehouse awake. Each table has a fiber, which sleeps or waits for a commit; it issues nothing by itself.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type { Committed } from "./ChannelOffsets.ts"
import type { Config } from "./Config.ts"
import * as ErrorPolicy from "./ErrorPolicy.ts"
import type { Merger } from "./Merger.ts"
import * as RolledBack from "./RolledBack.ts"
import * as TableOptions from "./TableOptions.ts"

type Failed = ConnectorError.ConnectorError

interface Entry {
  readonly id: TableId
  readonly merger: Merger
  /** Up to where the table's changes are committed. */
  readonly committed: () => Committed | undefined
  /** Takes an error of a merge, which is the table's own affair. */
  readonly failed: (error: Failed) => Effect.Effect<void>
  /** Open when something was committed since the last merge began. */
  readonly news: Latch.Latch
  /** Open once the table is not merged any more. */
  readonly left: Latch.Latch
}

export class MergeSchedule {
  private readonly config: Config
  private readonly entries = new Set<Entry>()
  /** Open when tables came since the fibers were last started. */
  private readonly came = Latch.makeUnsafe(false)

  constructor(config: Config) {
    this.config = config
  }

  /**
   * Merges the table as long as the scope is open. `news` is to be opened whenever more of it is committed. When the scope closes, a merge that runs comes
   * to its end first; then `forget` sees to it that a last one that is still to come finds nothing to merge.
   */
  add(table: Omit<Entry, "left">, forget: () => void): Effect.Effect<void, never, Scope.Scope> {
    const entry: Entry = { ...table, left: Latch.makeUnsafe(false) }
    return Effect.acquireRelease(
      Effect.sync(() => {
        this.entries.add(entry)
        this.came.openUnsafe()
      }),
      () =>
        entry.merger.lock.withPermits(1)(Effect.sync(() => {
          this.entries.delete(entry)
          entry.left.openUnsafe()
          forget()
        }))
    )
  }

  /** Each table merges at its own pace: a slow merge delays no other table while `parallel` isn't reached. */
  get run(): Effect.Effect<never> {
    return Effect.scoped(Effect.gen({ self: this }, function*() {
      const running = yield* FiberMap.make<Entry, void, never>()
      const start = Effect.gen({ self: this }, function*() {
        this.came.closeUnsafe()
        for (const entry of this.entries) {
          yield* FiberMap.run(running, entry, this.follow(entry), { onlyIfMissing: true })
        }
        yield* this.came.await
      })
      return yield* Effect.raceFirst(
        Effect.forever(start),
        Effect.andThen(FiberMap.join(running), Effect.never)
      )
    }))
  }

  /** Merges everything that is committed, however little. */
  get settle(): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.forEach([...this.entries], (entry) => this.merge(entry, true), {
        concurrency: this.config.merge.parallel ?? this.config.connections,
        discard: true
      })
    )
  }

  /** Tells whether anything was merged, or was to be and failed: that isn't tried again before `every` has passed. */
  private merge({ committed, failed, id, merger }: Entry, eager: boolean): Effect.Effect<boolean> {
    return Effect.suspend(() => {
      const found = committed()
      return merger.merge(found?.upTo, eager, found?.rows)
    }).pipe(
      Effect.provideService(RolledBack.RunGoesOn, !eager),
      // Nothing of it was done, and its rows are safe in the journal: that neither ends the run nor holds another table up.
      Effect.catchIf(
        (error) => !eager && ErrorPolicy.isRolledBack(error),
        (error) =>
          Effect.as(
            Effect.logWarning(`${error.message}: it is tried again with the table's next merge`).pipe(
              Effect.annotateLogs({ table: id, hint: error.hint })
            ),
            true
          )
      ),
      Effect.catch((error) => Effect.as(failed(error), true))
    )
  }

  private follow(entry: Entry): Effect.Effect<void> {
    const { id, left, news } = entry
    const pause = Effect.sleep(TableOptions.of(this.config, id).merge.every)
    return Effect.gen({ self: this }, function*() {
      let rest = pause
      for (;;) {
        yield* Effect.raceFirst(rest, left.await)
        if (!this.entries.has(entry)) return
        // Before it is asked what is committed: what comes later is news.
        news.closeUnsafe()
        const merged = yield* this.merge(entry, false)
        rest = merged ? pause : Effect.raceFirst(pause, this.few(entry))
      }
    })
  }

  /** Waits for changes that may be merged at once. */
  private few({ committed, merger, news }: Entry): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (;;) {
        yield* news.await
        news.closeUnsafe()
        if (merger.holdsFew(committed()?.upTo, this.config.merge.immediateRows)) return
      }
    })
  }
}
