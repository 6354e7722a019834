/**
 * Whether somebody asked a pipeline to pause or to stop, kept in the state store so that it survives a restart of the process.
 *
 * The store is a cache: when it is lost, pipelines run again. What has to hold in any case is `status: paused` in the configuration.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** `running` is what a pipeline does when nobody asked for anything else. */
export type RequestedStatus = "running" | "paused" | "stopped"

const Document = Schema.fromJsonString(
  Schema.Struct({
    version: Schema.Literal(1),
    status: Schema.Literals(["paused", "stopped"]),
    /** When it was asked for, ISO 8601. */
    at: Schema.String
  })
)

const decode = Schema.decodeUnknownOption(Document)

/** The state store's key. */
export const key = (pipeline: string): string => `pipelines/${pipeline}/requested`

/** What was asked for; `running` when there is nothing, or nothing that can be read. */
export const read = (state: StateStoreShape, pipeline: string): Effect.Effect<RequestedStatus, ConnectorError> =>
  Effect.map(state.get(key(pipeline)), (entry) =>
    Option.match(Option.flatMap(entry, ({ value }) => decode(value)), {
      onNone: () => "running" as const,
      onSome: ({ status }) => status
    }))

/** Others may write at the same time, the process that is being replaced, for example: the last one wins. */
const attempts = 5

/** Keeps it. False when the store keeps nothing between processes, or others were faster every time. */
export const write = Effect.fnUntraced(function*(
  state: StateStoreShape,
  pipeline: string,
  status: RequestedStatus
): Effect.fn.Return<boolean, ConnectorError> {
  const name = key(pipeline)
  if (status === "running") {
    yield* state.remove(name)
    return true
  }
  const at = new Date(yield* Clock.currentTimeMillis).toISOString()
  const value = JSON.stringify({ version: 1, status, at })
  for (let attempt = 0; attempt < attempts; attempt++) {
    const entry = yield* state.get(name)
    const written = yield* state.compareAndSet(name, value, Option.getOrUndefined(entry)?.version)
    if (Option.isSome(written)) return Option.isSome(yield* state.get(name))
  }
  return false
})

/** How long the store may take: nothing waits for it any longer. */
const limit = "5 seconds"

/** `effect`, or `otherwise` with a warning when the store fails, breaks or doesn't answer. */
const orElse = <A>(
  effect: Effect.Effect<A, ConnectorError>,
  otherwise: A,
  warning: string
): Effect.Effect<A> => {
  const warned = (annotations: Readonly<Record<string, unknown>>) =>
    Effect.as(Effect.annotateLogs(Effect.logWarning(warning), annotations), otherwise)
  return effect.pipe(
    Effect.timeoutOption(limit),
    Effect.flatMap((answer) =>
      Option.isSome(answer) ? Effect.succeed(answer.value) : warned({ reason: "The state store doesn't answer" })
    ),
    Effect.catch(({ hint, message, reason }) => warned({ reason, message, hint })),
    Effect.catchDefect((defect) =>
      Effect.andThen(Effect.logDebug("The state store broke", defect), warned({ reason: "The state store broke" }))
    )
  )
}

/** What was asked for in an earlier process; `running` when the store can't say. */
export const recall = (state: StateStoreShape, pipeline: string): Effect.Effect<RequestedStatus> =>
  orElse(read(state, pipeline), "running", "Whether the pipeline is paused can't be told: it runs").pipe(
    Effect.tap((status) =>
      status === "running"
        ? Effect.void
        : Effect.logInfo(`The pipeline is ${status}, as somebody asked before; resume it to run it`)
    )
  )

/** Keeps what is asked for. False when it won't survive a restart of the process. */
export const keep = (state: StateStoreShape, pipeline: string, status: RequestedStatus): Effect.Effect<boolean> =>
  orElse(
    write(state, pipeline, status),
    false,
    "What was asked of the pipeline can't be kept: it won't survive a restart"
  ).pipe(Effect.annotateLogs({ pipeline }))

/** Forgets what was asked for, with the pipeline. */
export const forget = (state: StateStoreShape, pipeline: string): Effect.Effect<void> =>
  orElse(state.remove(key(pipeline)), undefined, "What was asked of the removed pipeline can't be forgotten")
