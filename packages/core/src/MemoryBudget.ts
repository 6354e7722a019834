/**
 * How much memory the batches of a process may hold between being read and being accepted by a sink.
 *
 * One `MemoryBudget` is shared by all pipelines of a process. Each opens an account; intake reserves the size of a batch and
 * waits when the budget is used up, first come, first served; a sink's acceptance releases it. An account that holds nothing is
 * always admitted, whatever the size and whoever holds the rest: so a batch larger than the budget passes (alone in its
 * account), no pipeline can be starved by another one's stalled sink, and memory stays below the capacity plus one batch
 * per account. Closing an account returns what it still holds.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"

/** 64 MiB: some batches of 16 MiB that wait and one that is written; more made nothing faster (measured). */
export const defaultCapacity = 64 * 1024 * 1024

/** One pipeline's share in the budget. Sizes are bytes. */
export interface Account {
  /** Takes `bytes` at once when they are free and nobody waits for them; false when `reserve` would have to wait. */
  readonly tryReserve: (bytes: number) => boolean
  /** Takes `bytes`, waiting for its turn. Interrupting the wait takes nothing. */
  readonly reserve: (bytes: number) => Effect.Effect<void>
  /** Returns `bytes`. */
  readonly release: (bytes: number) => void
  /** Takes `bytes` without waiting, for growth of what is held already: may pass the capacity for a moment. */
  readonly grow: (bytes: number) => void
  readonly held: () => number
}

export interface MemoryBudgetShape {
  readonly capacity: number
  readonly used: () => number
  /** Number of reservations that wait. */
  readonly waiting: () => number
  /** Opens an account; what it holds is released when the scope closes. */
  readonly account: Effect.Effect<Account, never, Scope.Scope>
}

interface Holder {
  held: number
  closed: boolean
}

interface Waiter {
  readonly holder: Holder
  readonly bytes: number
  readonly resume: () => void
}

/** A budget of `capacity` bytes. */
export const make = (capacity: number = defaultCapacity): MemoryBudgetShape => {
  let used = 0
  const waiters: Array<Waiter> = []

  const take = (holder: Holder, bytes: number): void => {
    holder.held += bytes
    used += bytes
  }

  /** Admits the waiters that may go on: from the front while they fit, and any whose account holds nothing. */
  const admit = (): void => {
    let front = true
    // A resumed fiber runs at once and may come back here, so the list is settled first.
    const admitted: Array<Waiter> = []
    for (let i = 0; i < waiters.length;) {
      const waiter = waiters[i]
      if (waiter === undefined) break
      if (waiter.holder.held === 0 || (front && used + waiter.bytes <= capacity)) {
        waiters.splice(i, 1)
        take(waiter.holder, waiter.bytes)
        admitted.push(waiter)
      } else {
        front = false
        i++
      }
    }
    for (const waiter of admitted) waiter.resume()
  }

  const give = (holder: Holder, bytes: number): void => {
    // An account that is closed has given back everything: late releases of its fibers must not count twice.
    if (holder.closed) return
    const returned = Math.min(bytes, holder.held)
    holder.held -= returned
    used -= returned
    admit()
  }

  const open = (holder: Holder): Account => {
    const tryReserve = (bytes: number): boolean => {
      if (holder.held > 0 && (waiters.length > 0 || used + bytes > capacity)) return false
      take(holder, bytes)
      return true
    }
    return {
      tryReserve,
      reserve: (bytes) =>
        Effect.callback<void>((resume) => {
          if (tryReserve(bytes)) return resume(Effect.void)
          const waiter: Waiter = { holder, bytes, resume: () => resume(Effect.void) }
          waiters.push(waiter)
          return Effect.sync(() => {
            const at = waiters.indexOf(waiter)
            if (at >= 0) waiters.splice(at, 1)
            // Admitted, but the fiber was interrupted before it could go on.
            else give(holder, bytes)
            admit()
          })
        }),
      release: (bytes) => give(holder, bytes),
      grow: (bytes) => {
        if (!holder.closed) take(holder, bytes)
      },
      held: () => holder.held
    }
  }

  return {
    capacity,
    used: () => used,
    waiting: () => waiters.length,
    account: Effect.map(
      Effect.acquireRelease(
        Effect.sync((): Holder => ({ held: 0, closed: false })),
        (holder) =>
          Effect.sync(() => {
            give(holder, holder.held)
            holder.closed = true
          })
      ),
      open
    )
  }
}

export class MemoryBudget extends Context.Service<MemoryBudget, MemoryBudgetShape>()("@etl-stream/core/MemoryBudget") {
  /** A budget of `capacity` bytes, 64 MiB by default. */
  static readonly layer = (capacity: number = defaultCapacity): Layer.Layer<MemoryBudget> =>
    Layer.sync(MemoryBudget, () => make(capacity))
}
