/**
 * A disk on which a sync fails, though what was written can be read.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { open } from "node:fs/promises"

/** One of the next syncs of files and folders fails (0: none). Tells how many went well since. */
export const failing = (which: number): Effect.Effect<() => number, never, Scope.Scope> =>
  Effect.gen(function*() {
    const probe = yield* Effect.promise(() => open(import.meta.filename, "r"))
    const handles = Object.getPrototypeOf(probe) as { sync: () => Promise<void> } // what all handles of files have
    yield* Effect.promise(() => probe.close())
    const { sync } = handles
    let asked = 0
    let synced = 0
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        handles.sync = async function() {
          if (++asked === which) throw Object.assign(new Error("the disk"), { code: "EIO" })
          await Reflect.apply(sync, this, [])
          synced++
        }
      }),
      () =>
        Effect.sync(() => {
          handles.sync = sync
        })
    )
    return () => synced
  })
