/**
 * Serves requests for new copies of tables while a pipeline runs.
 *
 * The state store is looked at every second. A request is handed to the source; it is `begun` once the sink accepted the beginning of
 * the copy, not before: a crash in between serves the request again, so none is lost, and a table may be copied twice. While a copy of
 * the table is under way, the request stays where it is: that copy shows the table as it was before somebody asked. A store that
 * fails is a warning, and what has happened is written when it works again.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { type ConnectorError, isRetryable } from "./ConnectorError.ts"
import type { TablePhase } from "./Progress.ts"
import type { Quarantine } from "./Quarantine.ts"
import type { ResyncRequest } from "./ResyncRequest.ts"
import * as Requests from "./ResyncRequest.ts"
import type { Source } from "./Source.ts"
import type { StateStoreShape } from "./StateStore.ts"
import type { TableId } from "./TableSchema.ts"

export interface Options {
  readonly pipeline: string
  readonly state: StateStoreShape
  readonly source: Source
  /** Where a table is; `unwanted`: transforms leave it out; undefined: the run doesn't know it. */
  readonly phase: (table: TableId) => TablePhase | "unwanted" | undefined
  /** Why a table can't go on; undefined when it can. */
  readonly quarantine: (table: TableId) => Quarantine | undefined
}

export interface Resync {
  /** To be called when the sink has accepted the beginning of a table's new copy. */
  readonly begun: (table: TableId) => void
  /** To be called when a table was put in quarantine. */
  readonly quarantined: () => void
  /** Whether the source was asked for a new copy of the table that hasn't begun yet. */
  readonly isWanted: (table: TableId) => boolean
  /** Writes how far requests are. Serves none. Never fails. */
  readonly report: Effect.Effect<void>
  /** Serves requests until interrupted. Never fails. */
  readonly run: Effect.Effect<never, never, Scope.Scope>
}

/** How often the store is looked at. */
const every = Duration.seconds(1)

/** What became of a request in this run, as long as it isn't written. */
type Outcome = { readonly state: "begun" } | {
  readonly state: "refused"
  readonly message: string
  readonly hint: string
}

const refused = (message: string, hint: string): Outcome => ({ state: "refused", message, hint })

const left = refused(
  "The table is no longer read, so its copy can't be completed",
  "Add it to the pipeline's tables again: then it is copied from the beginning."
)

export const make = (options: Options): Resync => {
  const { phase, pipeline, quarantine, source, state } = options
  const key = Requests.key(pipeline)
  /** How often a copy began, per table. */
  const begins = new Map<TableId, number>()
  const changed = Latch.makeUnsafe(false)
  /** Requests that the source has been given in this run, by id. */
  const given = new Set<string>()
  const outcomes = new Map<string, Outcome>()
  /** Requests that wait for the end of a copy, by id. */
  const waiting = new Set<string>()
  /** How many requests of a table the source has, or is being given. */
  const wanted = new Map<TableId, number>()
  let failing = false
  let unreadable: string | undefined

  /** `before`: how often copies of the table had begun when it was seen that none is under way. */
  const hand = Effect.fnUntraced(function*(table: TableId, before: number) {
    if (phase(table) === "unwanted") {
      return refused(
        `The table ${table} is left out by a transform`,
        "Change the pipeline's transforms if it is wanted."
      )
    }
    if (source.resync === undefined) {
      return refused("The source can't copy a single table again", "Use a source plugin that can.")
    }
    const why = quarantine(table)
    wanted.set(table, (wanted.get(table) ?? 0) + 1)
    yield* source.resync(table)
    while ((begins.get(table) ?? 0) === before) {
      const now = quarantine(table)
      if (now !== undefined && now !== why) return refused(now.message, now.hint)
      changed.closeUnsafe()
      yield* changed.await
    }
    return { state: "begun" } satisfies Outcome
  }, (effect, table) =>
    Effect.ensuring(
      effect,
      Effect.sync(() => {
        const others = (wanted.get(table) ?? 0) - 1
        if (others > 0) wanted.set(table, others)
        else wanted.delete(table)
      })
    ))

  /** Brings a request to its outcome; after trouble that passes it is served again with the next look. */
  const serve = ({ id, table }: ResyncRequest, before: number): Effect.Effect<void> =>
    Effect.logInfo("A new copy of a table is asked for").pipe(
      Effect.andThen(hand(table, before)),
      Effect.catchCause((cause): Effect.Effect<Outcome | undefined> => {
        if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
        const error = cause.reasons.find(Cause.isFailReason)?.error
        if (error === undefined) {
          return Effect.as(
            Effect.logDebug("The source broke when it was asked for a new copy", cause),
            refused("The source broke when it was asked for a new copy", "This is a bug: please report it.")
          )
        }
        if (!isRetryable(error)) return Effect.succeed(refused(error.message, error.hint))
        return Effect.as(
          Effect.logWarning(error.message).pipe(Effect.annotateLogs({ reason: error.reason, hint: error.hint })),
          undefined
        )
      }),
      Effect.tap((outcome) =>
        outcome?.state === "refused"
          ? Effect.logWarning(`No new copy is made: ${outcome.message}`).pipe(
            Effect.annotateLogs({ hint: outcome.hint })
          )
          : Effect.void
      ),
      Effect.map((outcome) => {
        if (outcome === undefined) given.delete(id)
        else outcomes.set(id, outcome)
      }),
      Effect.annotateLogs({ table, request: id })
    )

  const advanced = (request: ResyncRequest, since: string): ResyncRequest => {
    const outcome = request.state === "requested" ? outcomes.get(request.id) : undefined
    const next = outcome === undefined ? request : { ...request, ...outcome, since }
    if (next.state !== "begun") return next
    switch (phase(next.table)) {
      case "streaming":
        return { ...next, state: "done", since }
      case "quarantined": {
        const why = quarantine(next.table)
        return why === undefined ? next : { ...next, ...refused(why.message, why.hint), since }
      }
      case "left":
      case "unwanted":
      case undefined:
        return { ...next, ...left, since }
      default:
        return next
    }
  }

  /** Brings the document up to date and returns its requests. */
  const update = Effect.gen(function*() {
    const entry = yield* state.get(key)
    if (Option.isNone(entry)) return []
    const { value, version } = entry.value
    const requests = Requests.decode(value)
    if (Option.isNone(requests)) {
      if (unreadable !== version) {
        yield* Effect.logWarning("The requests for new copies can't be read").pipe(
          Effect.annotateLogs({ key, hint: "Something else wrote them. Ask for the copies again." })
        )
      }
      unreadable = version
      return []
    }
    const since = new Date(yield* Clock.currentTimeMillis).toISOString()
    const next = requests.value.map((request) => advanced(request, since))
    if (next.some((request, index) => request !== requests.value[index])) {
      // When somebody else was faster, the next look finds what they wrote.
      yield* state.compareAndSet(key, Requests.encode(next), version)
    }
    return next
  }).pipe(
    Effect.tap(() => Effect.sync(() => failing = false)),
    Effect.catch((error: ConnectorError) => {
      const first = !failing
      failing = true
      return Effect.as(
        first
          ? Effect.logWarning("Requests for new copies can't be read or answered; the pipeline goes on").pipe(
            Effect.annotateLogs({ reason: error.reason, message: error.message, hint: error.hint })
          )
          : Effect.void,
        []
      )
    })
  )

  /** Whether a copy of the table is under way, or is due without a request: its beginning would be taken for that of the one asked for. */
  const isBeingCopied = (table: TableId): boolean => {
    // Of a table that was set aside nothing comes but the copy that is asked for.
    if (quarantine(table) !== undefined) return false
    const now = phase(table)
    return now === "copying" || now === "waiting"
  }

  const look = Effect.gen(function*() {
    for (const request of yield* update) {
      const { id, state, table } = request
      if (state !== "requested" || given.has(id)) continue
      if (!isBeingCopied(table)) {
        given.add(id)
        yield* Effect.forkScoped(serve(request, begins.get(table) ?? 0))
      } else if (!waiting.has(id)) {
        waiting.add(id)
        yield* Effect.logInfo("A new copy of a table is asked for, and begins when the one under way has ended").pipe(
          Effect.annotateLogs({ table, request: id })
        )
      }
    }
  })

  return {
    begun: (table) => {
      begins.set(table, (begins.get(table) ?? 0) + 1)
      changed.openUnsafe()
    },
    quarantined: () => changed.openUnsafe(),
    isWanted: (table) => wanted.has(table),
    report: Effect.asVoid(update),
    run: Effect.andThen(Effect.repeat(look, Schedule.spaced(every)), Effect.never)
  }
}
