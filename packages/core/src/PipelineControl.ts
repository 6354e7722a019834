/**
 * What can be asked of a pipeline from outside while it runs: by a monitor that acts before a disk fills, and by people through the API.
 *
 * Requests outlive runs: a pipeline that restarts goes on as it was asked to.
 */
import type * as Effect from "effect/Effect"
import type { ConnectorError } from "./ConnectorError.ts"
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
