/**
 * Goes over to another configuration pipeline by pipeline: one that takes its time to drain holds up no other.
 *
 * Each pipeline has at most one change under way. What is wanted of it by the time that one is over comes next; what was wanted in between is skipped. One that is
 * added together with the removal of others may have been given what they hold (it may be one of them under another name): it starts once they have stopped.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import type * as Scope from "effect/Scope"
import type { Configuration } from "../Configuration.ts"
import * as ConfigurationChange from "../ConfigurationChange.ts"
import type { Supervisor } from "../Supervisor.ts"

export interface TakeOver {
  /** Begins to go over to `next`, and tells what is different. */
  readonly to: (next: Configuration) => Effect.Effect<ConfigurationChange.ConfigurationChange>
  /** Begins to start pipelines again that have failed. */
  readonly retry: Effect.Effect<void>
}

type Input = Configuration["input"]["pipelines"][string]

const nothing: ConfigurationChange.ConfigurationChange = { unchanged: [], changed: [], added: [], removed: [] }

const inputOf = ({ input: { pipelines } }: Configuration, name: string): Input | undefined =>
  Object.hasOwn(pipelines, name) ? pipelines[name] : undefined

/** `initial` is what `supervisor` was started with. */
export const make = Effect.fnUntraced(function*(
  supervisor: Pick<Supervisor, "reload">,
  initial: Configuration
): Effect.fn.Return<TakeOver, never, Scope.Scope> {
  const scope = yield* Effect.scope
  /** What each pipeline was last told. */
  const told = new Map(Object.entries(initial.input.pipelines))
  const underWay = new Map<string, Deferred.Deferred<void>>()
  const failedOnes = new Set<string>()
  let wanted = initial

  const step = (name: string): ConfigurationChange.ConfigurationChange | undefined => {
    const [before, after] = [told.get(name), inputOf(wanted, name)]
    if (after === undefined) return before === undefined ? undefined : { ...nothing, removed: [name] }
    if (before === undefined) return { ...nothing, added: [name] }
    if (!Equal.equals(before, after)) return { ...nothing, changed: [name] }
    return failedOnes.has(name) ? { ...nothing, unchanged: [name] } : undefined
  }
  const work = (name: string, over: Deferred.Deferred<void>): Effect.Effect<void> => {
    const end = (): void => {
      underWay.delete(name)
      Deferred.doneUnsafe(over, Effect.void)
    }
    return Effect.gen(function*() {
      while (true) {
        const change = step(name)
        failedOnes.delete(name)
        // In the same breath: what is wanted later finds that nothing is under way.
        if (change === undefined) return end()
        const after = inputOf(wanted, name)
        if (after === undefined) told.delete(name)
        else told.set(name, after)
        yield* supervisor.reload(wanted, change)
      }
    }).pipe(
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.failCause(cause)
          : Effect.andThen(Effect.sync(end), Effect.logError("The change of the pipeline broke", cause))
      )
    )
  }
  const begin = (name: string, before: Effect.Effect<unknown> = Effect.void): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (underWay.has(name)) return Effect.void
      const over = Deferred.makeUnsafe<void>()
      underWay.set(name, over)
      return Effect.asVoid(Effect.forkIn(Effect.andThen(before, work(name, over)), scope))
    })

  return {
    to: (next) =>
      Effect.gen(function*() {
        const change = ConfigurationChange.between(wanted, next)
        wanted = next
        yield* Effect.forEach([...change.changed, ...change.removed], (name) => begin(name), { discard: true })
        const removals = change.removed.map((name) => underWay.get(name)).filter((over) => over !== undefined)
        const removed = Effect.forEach(removals, (over) => Deferred.await(over), { discard: true })
        yield* Effect.forEach(change.added, (name) => begin(name, removed), { discard: true })
        return change
      }),
    retry: Effect.suspend(() => {
      const names = Object.keys(wanted.input.pipelines)
      for (const name of names) failedOnes.add(name)
      return Effect.forEach(names, (name) => begin(name), { discard: true })
    })
  }
})
