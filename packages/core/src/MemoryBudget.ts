/**
 * How much memory the batches of a process may hold between being read and being accepted by a sink.
 *
 * One `MemoryBudget` is shared by all pipelines of a process. Each opens an account; intake reserves the size of a batch and
 * waits when there is no room; a sink's acceptance releases it. A quarter of the capacity is divided among the accounts as shares that nobody else can
 * take; the rest is there for whoever needs it. Within an account reservations are served in order; one that waits doesn't hold other accounts up, so a
 * pipeline whose sink stalls never slows the others down to its pace. An account that holds nothing is always admitted, whatever the size and whoever holds
 * the rest: so a batch larger than the budget passes (alone in its account), and memory stays below the capacity plus one batch per account. Closing an
 * account returns what it still holds.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"

/** 32 MiB: some batches of 8 MiB that wait and one that is written; twice as much of both made nothing faster, and took 54 MB more at the peak (measured). */
export const defaultCapacity = 32 * 1024 * 1024

/** The part of the capacity that is divided among accounts as guaranteed shares: 1 / this. */
const guaranteedPart = 4

/** One pipeline's account in the budget. Sizes are bytes. */
export interface Account {
  /** Takes `bytes` at once when there is room and nothing of this account waits; false when `reserve` would have to wait. */
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
  /** Number of its reservations that wait. */
  waiting: number
}

interface Waiter {
  readonly holder: Holder
  readonly bytes: number
  readonly resume: () => void
}

/** A budget of `capacity` bytes. */
export const make = (capacity: number = defaultCapacity): MemoryBudgetShape => {
  let used = 0
  const holders = new Set<Holder>()
  const waiters: Array<Waiter> = []

  const take = (holder: Holder, bytes: number): void => {
    holder.held += bytes
    used += bytes
  }

  /** Whether an account may take `bytes`: as its first, out of its own share, or out of what no account has as its share. */
  const fits = (holder: Holder, bytes: number): boolean => {
    if (holder.held === 0) return true
    const share = capacity / guaranteedPart / Math.max(1, holders.size)
    const beyond = (held: number): number => Math.max(0, held - share)
    if (beyond(holder.held + bytes) === 0) return true
    let shared = beyond(holder.held + bytes) - beyond(holder.held)
    for (const { held } of holders) shared += beyond(held)
    return shared <= capacity - share * holders.size
  }

  /** Admits the waiters that may go on, in order; of an account none overtakes another. */
  const admit = (): void => {
    // A resumed fiber runs at once and may come back here, so the list is settled first.
    const admitted: Array<Waiter> = []
    const blocked = new Set<Holder>()
    for (let i = 0; i < waiters.length;) {
      const waiter = waiters[i]
      if (waiter === undefined) break
      const { bytes, holder } = waiter
      if (!blocked.has(holder) && fits(holder, bytes)) {
        waiters.splice(i, 1)
        holder.waiting--
        take(holder, bytes)
        admitted.push(waiter)
      } else {
        blocked.add(holder)
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
      if (holder.waiting > 0 || !fits(holder, bytes)) return false
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
          holder.waiting++
          return Effect.sync(() => {
            const at = waiters.indexOf(waiter)
            // Admitted, but the fiber was interrupted before it could go on.
            if (at < 0) return give(holder, bytes)
            waiters.splice(at, 1)
            holder.waiting--
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
        Effect.sync((): Holder => {
          const holder = { held: 0, closed: false, waiting: 0 }
          holders.add(holder)
          return holder
        }),
        (holder) =>
          Effect.sync(() => {
            holders.delete(holder)
            give(holder, holder.held)
            holder.closed = true
          })
      ),
      open
    )
  }
}

export class MemoryBudget extends Context.Service<MemoryBudget, MemoryBudgetShape>()("@etl-stream/core/MemoryBudget") {
  /** A budget of `capacity` bytes, 32 MiB by default. */
  static readonly layer = (capacity: number = defaultCapacity): Layer.Layer<MemoryBudget> =>
    Layer.sync(MemoryBudget, () => make(capacity))
}
