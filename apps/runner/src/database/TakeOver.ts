/**
 * Goes over to another configuration pipeline by pipeline: one that takes its time to drain holds up no other.
 *
 * Each pipeline has at most one change under way. What is wanted of it by the time that one is over comes next; what was wanted in between is skipped.
 */
import * as Cause from "effect/Cause"
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
  const underWay = new Set<string>()
  const failedOnes = new Set<string>()
  let wanted = initial

  const step = (name: string): ConfigurationChange.ConfigurationChange | undefined => {
    const [before, after] = [told.get(name), inputOf(wanted, name)]
    if (after === undefined) return before === undefined ? undefined : { ...nothing, removed: [name] }
    if (before === undefined) return { ...nothing, added: [name] }
    if (!Equal.equals(before, after)) return { ...nothing, changed: [name] }
    return failedOnes.has(name) ? { ...nothing, unchanged: [name] } : undefined
  }
  const work = (name: string): Effect.Effect<void> =>
    Effect.gen(function*() {
      while (true) {
        const change = step(name)
        failedOnes.delete(name)
        if (change === undefined) return
        const after = inputOf(wanted, name)
        if (after === undefined) told.delete(name)
        else told.set(name, after)
        yield* supervisor.reload(wanted, change)
      }
    }).pipe(
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.failCause(cause)
          : Effect.logError("The change of the pipeline broke", cause)
      ),
      // Nothing comes between the last look at what is wanted and this.
      Effect.ensuring(Effect.sync(() => underWay.delete(name)))
    )
  const begin = (name: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (underWay.has(name)) return Effect.void
      underWay.add(name)
      return Effect.asVoid(Effect.forkIn(work(name), scope))
    })

  return {
    to: (next) =>
      Effect.gen(function*() {
        const change = ConfigurationChange.between(wanted, next)
        wanted = next
        yield* Effect.forEach([...change.changed, ...change.added, ...change.removed], begin, { discard: true })
        return change
      }),
    retry: Effect.suspend(() => {
      const names = Object.keys(wanted.input.pipelines)
      for (const name of names) failedOnes.add(name)
      return Effect.forEach(names, begin, { discard: true })
    })
  }
})
