/**
 * What a process has open: sockets, timers, files, workers, and the memory that it holds. For tests that something was released.
 */
import * as Effect from "effect/Effect"
import { readdirSync } from "node:fs"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

/** How many there are of each kind, by Node's names (`TCPSocketWrap`, `Timeout`), and open files as `descriptors` where the system tells. */
export type Census = ReadonlyMap<string, number>

const descriptors = (): number => {
  try {
    return readdirSync("/proc/self/fd").length
  } catch {
    return 0
  }
}

/** Pass by themselves, whoever began them: calls under way, which end, and what the runtime does for its own sake. */
const passing = /Immediate|TickObject|Promise|ReqCallback|ReqWrap|WORKER|STREAMWRAP/

const now = (): Census => {
  const counts = new Map<string, number>([["descriptors", descriptors()]])
  for (const kind of process.getActiveResourcesInfo()) {
    if (!passing.test(kind)) counts.set(kind, (counts.get(kind) ?? 0) + 1)
  }
  return counts
}

/** Takes the census. */
export const take: Effect.Effect<Census> = Effect.callback((resume) => {
  // Whoever is woken by a timer still finds it among the timers.
  setImmediate(() => resume(Effect.sync(now)))
})

/** What there is more of than before, as `TCPSocketWrap: 3 instead of 1`. */
export const more = (before: Census, after: Census): ReadonlyArray<string> =>
  [...after].flatMap(([kind, count]) => {
    const known = before.get(kind) ?? 0
    return count > known ? [`${kind}: ${count} instead of ${known}`] : []
  })

/** Waits, no longer than so many milliseconds, until there is no more than before; gives what there is more of after that. */
export const released = (before: Census, millis: number): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function*() {
    const until = Date.now() + millis
    for (;;) {
      const left = more(before, yield* take)
      if (left.length === 0 || Date.now() >= until) return left
      yield* Effect.sleep(5)
    }
  })

let collect: (() => void) | undefined

/** Bytes of JavaScript's heap and of its buffers that are in use, after a collection. */
export const memory = (): number => {
  if (collect === undefined) {
    setFlagsFromString("--expose-gc")
    // The only way to have it in a process that was started without the flag.
    collect = runInNewContext("gc") as () => void
  }
  // Buffers that the first one found to be garbage are given back when the second one begins.
  collect()
  collect()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

/** Waits, no longer than so many milliseconds, until no more than `bound` bytes are in use: buffers of what was closed are given back late. Gives what is in use then. */
export const memoryBelow = (bound: number, millis: number): Effect.Effect<number> =>
  Effect.gen(function*() {
    const until = Date.now() + millis
    for (;;) {
      const used = memory()
      if (used <= bound || Date.now() >= until) return used
      yield* Effect.sleep(50)
    }
  })
