/**
 * Requests for a new copy of single tables, and the document in the state store that carries them from whoever asks to the
 * pipeline's run, and back again how far each is.
 *
 * A pipeline has one document. Asking and answering change it by compare-and-set, so anybody may ask whether or not the pipeline
 * runs; what was asked for meanwhile is served by the next run. Losing the document with the state store loses the requests that
 * weren't served, nothing else; finding an old one serves a request twice, which costs a copy.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { randomUUID } from "node:crypto"
import { ConnectorError } from "./ConnectorError.ts"
import type { Entry, StateStoreShape } from "./StateStore.ts"
import type { TableId } from "./TableSchema.ts"

/**
 * `requested`: not served yet; `begun`: the sink has durably forgotten what it held, so the copy goes on whatever happens; `done`: the
 * copy is complete and durable; `refused`: there will be none, `message` and `hint` say why.
 */
export const State = Schema.Literals(["requested", "begun", "done", "refused"])
export type State = typeof State.Type

export const ResyncRequest = Schema.Struct({
  id: Schema.String,
  /** The table (`schema.name`) as the source calls it. */
  table: Schema.String,
  /** When it was asked for, ISO 8601. */
  at: Schema.String,
  state: State,
  /** Since when it is in this state, ISO 8601. */
  since: Schema.String,
  message: Schema.optionalKey(Schema.String),
  hint: Schema.optionalKey(Schema.String)
})
export type ResyncRequest = typeof ResyncRequest.Type

/** The stored document: at most one request per table, in the order in which they were asked for. */
export const Document = Schema.fromJsonString(
  Schema.Struct({ version: Schema.Literal(1), requests: Schema.Array(ResyncRequest) })
)

const decodeDocument = Schema.decodeUnknownOption(Document)

/** The state store's key of a pipeline's requests. */
export const key = (pipeline: string): string => `pipelines/${pipeline}/resync`

/** The requests in a stored document; none when it is not one of ours. */
export const decode = (value: string): Option.Option<ReadonlyArray<ResyncRequest>> =>
  Option.map(decodeDocument(value), ({ requests }) => requests)

export const encode = (requests: ReadonlyArray<ResyncRequest>): string => JSON.stringify({ version: 1, requests })

/** Requests that are served or refused stay for whoever wants to know; this many of them. */
const keptFinished = 100

const isFinished = ({ state }: ResyncRequest): boolean => state === "done" || state === "refused"

const requestsOf = (entry: Option.Option<Entry>): ReadonlyArray<ResyncRequest> =>
  Option.getOrElse(Option.flatMap(entry, ({ value }) => decode(value)), (): ReadonlyArray<ResyncRequest> => [])

/** The requests of a pipeline; empty when there are none, or none that can be read. */
export const all = (
  state: StateStoreShape,
  pipeline: string
): Effect.Effect<ReadonlyArray<ResyncRequest>, ConnectorError> => Effect.map(state.get(key(pipeline)), requestsOf)

/** How often a write is tried again that somebody else was faster at. */
const attempts = 20

/**
 * Asks for a new copy of `tables` and returns the requests, in that order. A table that waits for one already isn't asked for again;
 * one whose copy is under way is copied once more.
 */
export const ask = Effect.fn("ResyncRequest.ask")(function*(
  state: StateStoreShape,
  pipeline: string,
  tables: ReadonlyArray<TableId>
): Effect.fn.Return<ReadonlyArray<ResyncRequest>, ConnectorError> {
  const at = new Date(yield* Clock.currentTimeMillis).toISOString()
  for (let attempt = 0; attempt < attempts; attempt++) {
    const entry = yield* state.get(key(pipeline))
    const known = requestsOf(entry)
    const asked = [...new Set(tables)].map((table): ResyncRequest =>
      known.find((request) => request.table === table && request.state === "requested") ??
        { id: randomUUID(), table, at, state: "requested", since: at }
    )
    const others = known.filter(({ table }) => !tables.includes(table))
    const finished = others.filter(isFinished).slice(-keptFinished)
    const kept = others.filter((request) => !isFinished(request) || finished.includes(request))
    const written = yield* state.compareAndSet(
      key(pipeline),
      encode([...kept, ...asked]),
      Option.getOrUndefined(entry)?.version
    )
    if (Option.isSome(written)) return asked
    yield* Effect.sleep(5 * (attempt + 1))
  }
  return yield* new ConnectorError({
    reason: "Throttled",
    plugin: "@etl-stream/core",
    message: `The requests of the pipeline ${pipeline} are changed by others all the time`,
    hint: "Ask again."
  })
})
