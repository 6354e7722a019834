/**
 * When a spool spools: as long as it is asked for, or the sink makes no progress. And what people are told of it.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ByteSize from "./ByteSize.ts"
import type { Conditions } from "./Condition.ts"

export interface Options {
  readonly conditions: Conditions
  readonly acknowledged: () => bigint
  readonly asked: () => boolean
  readonly spooling: (now: boolean) => void
  readonly directory: string
  readonly maxBytes: number
  readonly when: "asked" | "stalled"
  readonly after: Duration.Input
  /** Called when spooling has begun or ended. */
  readonly changed: () => void
}

/** How far the spool is. */
export interface Standing {
  readonly watermark: bigint
  /** What `kept` says. */
  readonly counted: bigint
  readonly allTaken: () => boolean
  /** Whether elements pass beside the spool, or one waits for room: it stays full. */
  readonly staysFull: () => boolean
  readonly bytes: () => number
}

export interface SpoolWatch {
  readonly isWanted: () => boolean
  /** An element was taken. */
  readonly took: () => void
  readonly setFull: (now: boolean) => Effect.Effect<void>
  /** Finds out whether the sink makes progress, and tells when spooling begins or ends. */
  readonly watch: (standing: Standing) => Effect.Effect<void>
}

export const spoolingCondition = "spooling"
export const fullCondition = "spool-full"

export const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<SpoolWatch> {
  const { acknowledged, asked, changed, conditions, directory, maxBytes, spooling, when } = options
  const after = Duration.toMillis(Duration.fromInputUnsafe(options.after))
  const clock = yield* Clock.Clock
  let full = false
  let stalled = false
  let movedAt = clock.currentTimeMillisUnsafe()
  let seen = acknowledged()
  let told = false
  /** How many elements were taken. */
  let taken = 0
  let takenBefore = 0

  const isWanted = () => asked() || stalled

  const setFull = (now: boolean) =>
    Effect.suspend(() => {
      if (full === now) return Effect.void
      full = now
      return now
        ? conditions.raise({
          name: fullCondition,
          severity: "critical",
          message: `The spool in ${directory} is full (${
            ByteSize.format(maxBytes)
          }, or the disk): the source is read only as fast as the sink takes changes`,
          hint: "Give the disk room and raise spool.maxBytes, or see to it that the sink takes changes again."
        })
        : conditions.clear(fullCondition)
    })

  const watch = Effect.fnUntraced(function*({ allTaken, bytes, counted, staysFull, watermark }: Standing) {
    const now = clock.currentTimeMillisUnsafe()
    const position = acknowledged()
    // Within a transaction nothing becomes durable, however large it is: then it counts that elements are taken.
    if (position !== seen || (position >= watermark && (allTaken() || taken !== takenBefore))) movedAt = now
    seen = position
    takenBefore = taken
    const late = now - movedAt >= after
    if (when === "stalled") {
      if (late) stalled = true
      else if (stalled && allTaken()) stalled = false
    }
    const wanted = isWanted()
    if (wanted !== told) {
      told = wanted
      spooling(wanted)
      changed()
      if (wanted) {
        yield* conditions.raise({
          name: spoolingCondition,
          severity: "warning",
          message: asked()
            ? `Changes are kept on disk in ${directory}, as was asked`
            : `Changes are kept on disk in ${directory}, because the sink makes no progress`,
          hint:
            "Keep that folder until the sink has caught up: the source may have been told that what is in it is safe."
        })
      }
    }
    if (!wanted && counted <= position) yield* conditions.clear(spoolingCondition)
    if (full && !staysFull() && (!wanted || bytes() < maxBytes * 0.9)) yield* setFull(false)
  })

  return { isWanted, took: () => void taken++, setFull, watch }
})
