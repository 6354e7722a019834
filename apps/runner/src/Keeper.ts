/**
 * Keeps one pipeline as it is wanted: a fiber that compares what is wanted with what is, and starts, drains or leaves it.
 *
 * What is wanted is the configuration that came last and what was asked for last; whatever came in between is skipped. No keeper waits for another one, except
 * to start what claims something that a pipeline which ends still has.
 */
import * as Condition from "@etl-stream/core/Condition"
import type { Element } from "@etl-stream/core/Element"
import type { MemoryBudget } from "@etl-stream/core/MemoryBudget"
import * as PipelineControl from "@etl-stream/core/PipelineControl"
import * as Progress from "@etl-stream/core/Progress"
import type * as RetryPolicy from "@etl-stream/core/RetryPolicy"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { Changes } from "./Changes.ts"
import * as Claims from "./Claims.ts"
import { internal } from "./CommandError.ts"
import type { PipelineConfiguration } from "./Configuration.ts"
import * as PipelineRun from "./PipelineRun.ts"
import * as RequestedStatus from "./RequestedStatus.ts"
import type { SinkCircuit, SinkCircuits } from "./SinkCircuit.ts"

/**
 * What a pipeline is doing. `waiting`: to start, for what another pipeline still has; `retrying`: for its next run after a failure;
 * `draining`: it was asked to end and brings what it has read to its place.
 */
export type Activity =
  | "waiting"
  | "starting"
  | "snapshot"
  | "streaming"
  | "retrying"
  | "draining"
  | "paused"
  | "stopped"
  | "finished"
  | "failed"

/** A pipeline under supervision. */
export interface Supervised {
  readonly name: string
  readonly progress: Progress.Progress
  /** When it runs again after a failure, milliseconds since 1970-01-01 UTC; undefined while it runs. */
  readonly retryAt: () => number | undefined
  readonly activity: () => Activity
  /** What is wanted of it: by whoever asked last, or else by its configuration. */
  readonly desired: () => RequestedStatus.RequestedStatus
  /** Whether its configuration says `status: paused`. */
  readonly isPausedByConfiguration: () => boolean
  /** Pipelines that end and have something that it needs to start. */
  readonly waitsFor: () => ReadonlyArray<string>
  /** The circuit of its sink; undefined while it doesn't run. */
  readonly circuit: () => SinkCircuit | undefined
  /** Undefined when it is no longer in the configuration. */
  readonly configuration: () => PipelineConfiguration | undefined
  /** What can be asked of it while it runs, over all its runs. */
  readonly control: PipelineControl.PipelineControl
  /** Calls `see` for each element that its source emits, until the returned function is called. It must be quick and must not throw. */
  readonly observe: (see: (element: Element) => void) => () => void
}

/** What a configuration wants of a pipeline. */
export interface Intent {
  readonly pipeline: PipelineConfiguration
  readonly directory: string
  readonly claims: Claims.Claims
}

export interface Options {
  readonly state: StateStoreShape
  readonly circuits: SinkCircuits
  readonly changes: Changes
  /** Completes when everything is asked to stop. */
  readonly stop: Effect.Effect<void>
  readonly isStopping: () => boolean
  readonly drain: Duration.Duration
  readonly retry: RetryPolicy.Options | undefined
  /** Whether the process goes on whatever becomes of its pipelines: nobody waits to read about their environment. */
  readonly lasting: boolean
  /** All keepers, this one included. */
  readonly all: () => Iterable<Keeper>
  /** Whether any pipeline is left that runs or may run. */
  readonly anyActive: () => boolean
}

export interface Keeper extends Supervised {
  /** Sets what the configuration wants; `anew`: also when it runs or has ended. To be followed by `changes.touch()`. */
  readonly configure: (intent: Intent | undefined, anew: boolean) => void
  /** Sets what somebody asks for and tells whether that is something new. To be followed by `changes.touch()`. */
  readonly request: (status: RequestedStatus.RequestedStatus) => boolean
  /** Keeps what was asked for last. False when it won't survive a restart of the process. */
  readonly keep: Effect.Effect<boolean>
  /** What it has that a pipeline which takes over must wait for; undefined unless it is ending. */
  readonly ending: () => Claims.Claims | undefined
  /** Whether it is as it is wanted, and nothing is being done about it. */
  readonly isSettled: () => boolean
  /** Whether it has ended for good, unless somebody asks for something. */
  readonly hasEnded: () => boolean
  /** How it ended; undefined while it runs, is paused or stopped. */
  readonly outcome: () => PipelineRun.Outcome | undefined
  /** Does what is wanted until it is removed from the configuration and gone. */
  readonly run: Effect.Effect<void, never, MemoryBudget>
}

interface Current {
  readonly generation: number
  readonly claims: Claims.Claims
  readonly stop: Deferred.Deferred<void>
  readonly ended: Deferred.Deferred<void>
  circuit: SinkCircuit | undefined
}

/** `ended`: everything is asked to stop. */
type Wanted = RequestedStatus.RequestedStatus | "removed" | "ended"

const tell = (outcome: PipelineRun.Outcome, othersRun: boolean): Effect.Effect<void> => {
  switch (outcome._tag) {
    case "Finished":
      return Effect.logInfo("The source has ended and everything is in place")
    case "Stopped":
      return outcome.settled
        ? Effect.logInfo("Stopped")
        : Effect.logWarning("Stopped before everything read was in place; it is read again next time")
    case "Failed":
      // The last failure is the command's own result and told there.
      return othersRun
        ? Effect.logError(outcome.error.message).pipe(
          Effect.annotateLogs({ code: outcome.error.code, hint: outcome.error.hint })
        )
        : Effect.void
  }
}

export const make = (name: string, options: Options): Keeper => {
  const { changes, state } = options
  let progress = Progress.make(name)
  const observers = new Set<(element: Element) => void>()
  const see = (element: Element): void => {
    for (const observer of observers) observer(element)
  }
  const persisting = Semaphore.makeUnsafe(1)
  let intent: Intent | undefined
  /** Changes whenever it is to begin anew. */
  let generation = 0
  /** The generation that was begun last; undefined when it is to begin whatever came before. */
  let begun: number | undefined
  let requested: RequestedStatus.RequestedStatus = "running"
  /** Whether somebody asked in this process: then it doesn't matter what was asked in the one before. */
  let asked = false
  let current: Current | undefined
  let control: PipelineControl.OwnedControl | undefined
  const controlled = (): PipelineControl.OwnedControl =>
    control ??= PipelineControl.make({ pipeline: name, spool: intent?.pipeline.spool !== undefined })
  let outcome: PipelineRun.Outcome | undefined
  let reached = options.lasting
  let retryAt: number | undefined
  let waitsFor: ReadonlyArray<string> = []
  let ready = false
  /** As what it rests at present; undefined while something is done about it. */
  let rests: Wanted | undefined

  const wanted = (): Wanted => {
    if (intent === undefined) return "removed"
    if (options.isStopping()) return "ended"
    if (requested !== "running") return requested
    return intent.pipeline.status
  }
  const isEnding = (): boolean => current !== undefined && (wanted() !== "running" || current.generation !== generation)
  const endedByItself = (): boolean => current === undefined && begun === generation
  const hasEnded = (): boolean => {
    const now = wanted()
    return current === undefined && (now === "ended" ? outcome !== undefined : now === "running" && endedByItself())
  }

  const activity = (): Activity => {
    if (current !== undefined) {
      if (isEnding()) return "draining"
      if (retryAt !== undefined) return "retrying"
      const { phase } = progress
      return phase === "stopped" || phase === "failed" ? "starting" : phase
    }
    if (outcome !== undefined && endedByItself()) {
      return outcome._tag === "Failed" ? "failed" : outcome._tag === "Finished" ? "finished" : "stopped"
    }
    switch (wanted()) {
      case "paused":
        return "paused"
      case "stopped":
      case "removed":
      case "ended":
        return "stopped"
      case "running":
        return waitsFor.length > 0 ? "waiting" : "starting"
    }
  }

  const start = Effect.fnUntraced(function*({ claims, directory, pipeline }: Intent) {
    const stop = yield* Deferred.make<void>()
    const ended = yield* Deferred.make<void>()
    begun = generation
    outcome = undefined
    const now: Current = { generation, claims, stop, ended, circuit: undefined }
    current = now
    const running = Effect.gen(function*() {
      const circuit = yield* options.circuits.of(pipeline.sink, name)
      now.circuit = circuit
      return yield* PipelineRun.run({
        pipeline,
        directory,
        progress,
        state,
        control: controlled(),
        circuit,
        stop: Effect.raceFirst(options.stop, Deferred.await(stop)),
        drain: options.drain,
        retry: options.retry,
        waitsUntil: (at) => {
          retryAt = at
        },
        see,
        before: reached
      })
    }).pipe(
      Effect.scoped,
      Effect.catchDefect((defect) =>
        Effect.succeed<PipelineRun.Outcome>({ _tag: "Failed", error: internal(`Pipeline ${name}`, defect) })
      ),
      Effect.tap((how) =>
        Effect.suspend(() => {
          current = undefined
          outcome = how
          reached = options.lasting || how._tag === "Stopped"
          return tell(how, options.lasting || options.anyActive())
        })
      ),
      Effect.ensuring(Effect.suspend(() => {
        current = undefined
        changes.touch()
        return Deferred.succeed(ended, undefined)
      })),
      Effect.annotateLogs({ pipeline: name })
    )
    yield* Effect.forkChild(running)
    changes.touch()
  })

  /** Asks what runs to stop and waits until it has ended. */
  const end = Effect.fnUntraced(function*({ ended, stop }: Current) {
    begun = undefined
    yield* Deferred.succeed(stop, undefined)
    yield* Deferred.await(ended)
    // Whoever raised these is gone.
    yield* Condition.forget(name, progress)
  })

  const recall = Effect.map(RequestedStatus.recall(state, name), (recalled) => {
    if (!asked) requested = recalled
  })

  const blockers = (claims: Claims.Claims): ReadonlyArray<string> =>
    [...options.all()].filter((other) => {
      const theirs = other === keeper ? undefined : other.ending()
      return theirs !== undefined && Claims.overlap(claims, theirs)
    }).map((other) => other.name)

  /** Stays as it is until something else is wanted. */
  const rest = (as: Wanted): Effect.Effect<void> =>
    Effect.suspend(() => {
      rests = as
      changes.touch()
      return changes.until(() => wanted() !== as)
    }).pipe(Effect.ensuring(Effect.sync(() => rests = undefined)))

  const run = Effect.gen(function*() {
    yield* recall
    ready = true
    changes.touch()
    while (true) {
      if (current !== undefined) {
        if (isEnding()) yield* end(current)
        else yield* changes.until(() => current === undefined || isEnding())
        continue
      }
      switch (wanted()) {
        case "removed":
          yield* Condition.forget(name, progress)
          yield* RequestedStatus.forget(state, name)
          if (intent === undefined) return
          break
        case "ended":
          outcome ??= { _tag: "Stopped", settled: true }
          yield* rest("ended")
          break
        case "paused":
        case "stopped": {
          const status = wanted()
          // It doesn't count how it ended before.
          begun = undefined
          outcome = undefined
          if (status === "stopped") progress = Progress.make(name)
          progress.phase = "stopped"
          yield* rest(status)
          break
        }
        case "running": {
          if (intent === undefined) break
          if (endedByItself()) {
            yield* changes.until(() => wanted() !== "running" || !endedByItself())
            break
          }
          const wants = intent
          waitsFor = blockers(wants.claims)
          if (waitsFor.length > 0) {
            yield* Effect.logInfo("The pipeline waits until others are done with what it takes over").pipe(
              Effect.annotateLogs({ pipelines: waitsFor.join(", ") })
            )
            yield* changes.until(() =>
              wanted() !== "running" || intent !== wants || blockers(wants.claims).length === 0
            )
            waitsFor = []
            break
          }
          yield* start(wants)
        }
      }
    }
  }).pipe(Effect.annotateLogs({ pipeline: name }))

  const keeper: Keeper = {
    name,
    get progress() {
      return progress
    },
    get control() {
      return controlled()
    },
    retryAt: () => retryAt,
    activity,
    desired: () => requested !== "running" ? requested : intent?.pipeline.status ?? "stopped",
    isPausedByConfiguration: () => intent?.pipeline.status === "paused",
    waitsFor: () => waitsFor,
    circuit: () => current?.circuit,
    configuration: () => intent?.pipeline,
    observe: (see) => {
      observers.add(see)
      return () => observers.delete(see)
    },
    configure: (next, anew) => {
      intent = next
      if (anew) generation++
    },
    request: (status) => {
      asked = true
      const changed = requested !== status
      requested = status
      if (status !== "running" || !endedByItself()) return changed
      generation++
      return true
    },
    keep: persisting.withPermits(1)(Effect.suspend(() => RequestedStatus.keep(state, name, requested))),
    ending: () => current !== undefined && isEnding() ? current.claims : undefined,
    isSettled: () => {
      if (!ready) return false
      switch (wanted()) {
        case "running":
          return current === undefined ? endedByItself() : !isEnding()
        case "removed":
          return false
        default:
          return rests === wanted()
      }
    },
    hasEnded,
    outcome: () => outcome,
    run
  }
  return keeper
}
