/**
 * Looks at all pipelines every second, and tells whoever listens what is different: activities, phases of tables, conditions, errors, and how each stands.
 *
 * What begins and ends between two looks isn't seen. Listeners never hold a pipeline up: nothing is told from within one.
 */
import type { Raised } from "@etl-stream/core/Condition"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { TablePhase, View } from "@etl-stream/core/Progress"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { type PipelineRates, PipelinesRates } from "../Rates.ts"
import type { Redaction } from "../Redaction.ts"
import type { Activity, Supervised } from "../Supervisor.ts"
import * as EventStream from "./EventStream.ts"
import * as Mailbox from "./Mailbox.ts"
import type * as Model from "./Model.ts"
import * as Status from "./Status.ts"

export interface Board {
  /** The latest rates of a pipeline; undefined before it was looked at. */
  readonly rates: (pipeline: string) => PipelineRates | undefined
  /** Everything from now on, beginning with how each stands; of one pipeline when it is named. */
  readonly listen: (pipeline: string | undefined) => {
    readonly mailbox: Mailbox.Mailbox<Model.Event>
    readonly leave: Effect.Effect<void>
  }
}

export interface Options {
  readonly pipelines: () => ReadonlyArray<Supervised>
  readonly redact: Redaction
  readonly every: Duration.Duration
}

/** What was seen of a pipeline last. */
interface Seen {
  readonly activity: Activity
  readonly tables: ReadonlyMap<string, TablePhase>
  readonly conditions: ReadonlyMap<string, Raised>
  readonly error: ConnectorError | undefined
  readonly rates: PipelineRates
}

const keyOf = ({ name, table }: Raised): string => JSON.stringify([name, table ?? null])

interface Listener {
  readonly pipeline: string | undefined
  readonly mailbox: Mailbox.Mailbox<Model.Event>
}

/** A board that looks until the scope closes; then all listeners come to an end. */
export const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<Board, never, Scope.Scope> {
  const { redact } = options
  const listeners = new Set<Listener>()
  const rates = new PipelinesRates()
  let seen: ReadonlyMap<string, Seen> = new Map()
  const tell = (event: Extract<Model.Event, { readonly pipeline: string }>, to: Iterable<Listener>): void => {
    for (const { mailbox, pipeline } of to) {
      if (pipeline === undefined || pipeline === event.pipeline) mailbox.offer(event)
    }
  }

  const differences = (pipeline: string, at: string, before: Seen | undefined, now: Seen, view: View): void => {
    if (before?.activity !== now.activity) {
      tell({ type: "activity", at, pipeline, from: before?.activity ?? null, to: now.activity }, listeners)
    }
    // A table that isn't read any more says so by its phase; what is absent isn't known yet in a new run.
    for (const [table, to] of now.tables) {
      const from = before?.tables.get(table) ?? null
      if (from !== to) tell({ type: "table", at, pipeline, table, from, to }, listeners)
    }
    for (const [key, raised] of now.conditions) {
      if (before?.conditions.get(key)?.since === raised.since) continue
      tell(
        { type: "condition", at, pipeline, status: "raised", condition: Status.condition(raised, redact) },
        listeners
      )
    }
    for (const [key, raised] of before?.conditions ?? []) {
      if (now.conditions.has(key)) continue
      tell(
        { type: "condition", at, pipeline, status: "cleared", condition: Status.condition(raised, redact) },
        listeners
      )
    }
    if (view.lastError !== undefined && view.lastError !== before?.error) {
      tell({ type: "error", at, pipeline, error: Status.failure(view.lastError, redact) }, listeners)
    }
  }

  const progress = (pipeline: Supervised, view: View, at: string, to: Iterable<Listener>): void =>
    tell({
      type: "progress",
      at,
      pipeline: pipeline.name,
      progress: Status.summary(pipeline, view, seen.get(pipeline.name)?.rates, redact)
    }, to)

  const look = Effect.map(Clock.currentTimeMillis, (now) => {
    const at = new Date(now).toISOString()
    const latest = new Map<string, Seen>()
    const pipelines = options.pipelines()
    for (const pipeline of pipelines) {
      const view = pipeline.progress.snapshot(now)
      latest.set(pipeline.name, {
        activity: pipeline.activity(),
        tables: new Map(view.tables.map(({ phase, table }) => [table, phase])),
        conditions: new Map(view.conditions.map((raised) => [keyOf(raised), raised])),
        error: view.lastError,
        rates: rates.of(pipeline.progress).record(view, now)
      })
    }
    const before = seen
    seen = latest
    if (listeners.size === 0) return
    for (const pipeline of pipelines) {
      const state = latest.get(pipeline.name)
      if (state === undefined) continue
      const view = pipeline.progress.snapshot(now)
      differences(pipeline.name, at, before.get(pipeline.name), state, view)
      progress(pipeline, view, at, listeners)
    }
    for (const [name, { activity }] of before) {
      if (!latest.has(name)) tell({ type: "activity", at, pipeline: name, from: activity, to: null }, listeners)
    }
  })

  const clock = yield* Clock.Clock
  yield* Effect.forkScoped(Effect.repeat(look, Schedule.spaced(options.every)))
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const { mailbox } of listeners) mailbox.close()
    })
  )
  return {
    rates: (pipeline) => seen.get(pipeline)?.rates,
    listen: (pipeline) => {
      const listener = { pipeline, mailbox: Mailbox.make<Model.Event>(EventStream.capacity) }
      const now = clock.currentTimeMillisUnsafe()
      for (const one of options.pipelines()) {
        progress(one, one.progress.snapshot(now), new Date(now).toISOString(), [listener])
      }
      listeners.add(listener)
      return {
        mailbox: listener.mailbox,
        leave: Effect.sync(() => {
          listeners.delete(listener)
        })
      }
    }
  }
})
