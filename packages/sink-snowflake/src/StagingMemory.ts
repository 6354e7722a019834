/**
 * Bounds the memory that files on their way to the stage take, over all tables of a pipeline: half of it for files that grow, half for
 * files that are being uploaded.
 *
 * A file that grows while the files of all tables take their half is closed and uploaded as it is; a file that is to be uploaded waits
 * until there is room in the other half (one that is larger than all of it goes alone).
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"

const unit = 1024

export class StagingMemory {
  private readonly half: number
  private readonly uploads: Semaphore.Semaphore
  private growing = 0

  constructor(bytes: number) {
    this.half = Math.max(unit, Math.floor(bytes / 2))
    this.uploads = Semaphore.makeUnsafe(Math.floor(this.half / unit))
  }

  /** A file has grown by `bytes` (or, when negative, has ended). */
  grew(bytes: number): void {
    this.growing += bytes
  }

  /** Whether files that grow take more than their half. */
  get full(): boolean {
    return this.growing >= this.half
  }

  /** Starts `upload` of `bytes` in the scope, once there is room for it. */
  start<A, E>(scope: Scope.Scope, bytes: number, upload: Effect.Effect<A, E>) {
    const permits = Math.max(1, Math.min(Math.ceil(bytes / unit), Math.floor(this.half / unit)))
    return Effect.uninterruptibleMask((restore) =>
      Effect.andThen(
        restore(this.uploads.take(permits)),
        restore(upload).pipe(Effect.ensuring(this.uploads.release(permits)), Effect.forkIn(scope))
      )
    )
  }
}
