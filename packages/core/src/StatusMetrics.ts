/**
 * The states of pipelines and of their tables as metrics: one series per state, 1 for the one that it is in.
 *
 * Looked at every second, so that a state that only lasts a moment leaves no trace; what is gone counts in no state.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { MemoryBudget } from "./MemoryBudget.ts"
import type { Progress } from "./Progress.ts"
import * as Telemetry from "./Telemetry.ts"

const every = "1 second"

/** Moves ones between the series of a metric. */
class States {
  private readonly metric: Metric.Metric<number, unknown>
  private readonly shown = new Map<string, readonly [state: string, attributes: Readonly<Record<string, string>>]>()

  constructor(metric: Metric.Metric<number, unknown>) {
    this.metric = metric
  }

  private add(state: string, attributes: Readonly<Record<string, string>>, difference: number): Effect.Effect<void> {
    return Metric.update(
      Metric.withAttributes(this.metric, { ...attributes, [Telemetry.Attributes.state]: state }),
      difference
    )
  }

  /** What is in which state now; whatever isn't among them is in none. */
  show(
    now: ReadonlyMap<string, readonly [state: string, attributes: Readonly<Record<string, string>>]>
  ): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (const [key, [state, attributes]] of this.shown) {
        if (now.get(key)?.[0] === state) continue
        this.shown.delete(key)
        yield* this.add(state, attributes, -1)
      }
      for (const [key, [state, attributes]] of now) {
        if (this.shown.has(key)) continue
        this.shown.set(key, [state, attributes])
        yield* this.add(state, attributes, 1)
      }
    })
  }
}

/** Keeps the metrics in step with the pipelines until it is interrupted; then everything is in no state. */
export const run = Effect.fnUntraced(function*(
  pipelines: () => Iterable<{ readonly progress: Progress }>
): Effect.fn.Return<never, never, MemoryBudget | Scope.Scope> {
  const budget = yield* MemoryBudget
  const [ofPipelines, ofTables] = [new States(Telemetry.pipelineStatus), new States(Telemetry.tableStatus)]
  yield* Metric.update(Telemetry.memoryLimit, budget.capacity)
  const look = Effect.suspend(() => {
    const [states, tables] = [new Map<string, readonly [string, Readonly<Record<string, string>>]>(), new Map()]
    for (const { progress } of pipelines()) {
      const attributes = { [Telemetry.Attributes.pipeline]: progress.pipeline }
      states.set(progress.pipeline, [progress.phase, attributes])
      for (const [table, phase] of progress.tablePhases()) {
        tables.set(JSON.stringify([progress.pipeline, table]), [phase, {
          ...attributes,
          [Telemetry.Attributes.table]: table
        }])
      }
    }
    return Effect.andThen(ofPipelines.show(states), ofTables.show(tables))
  })
  yield* Effect.addFinalizer(() => Effect.andThen(ofPipelines.show(new Map()), ofTables.show(new Map())))
  yield* Effect.repeat(look, Schedule.spaced(every))
  return yield* Effect.never
}, Effect.scoped)
