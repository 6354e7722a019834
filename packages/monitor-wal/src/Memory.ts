/**
 * What the monitor remembers over restarts, as one JSON document in the state store.
 *
 * It is a cache: losing it costs alarms their beginning and lags their past, nothing else. A document that can't be read is begun anew. Another
 * process that watches under the same name writes the same document; the last one wins.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Lsn from "./Lsn.ts"

const time = Schema.Finite

/** A condition that was raised, or is about to be. */
const AlarmEntry = Schema.Struct({
  name: Schema.String,
  severity: Schema.Literals(["warning", "critical"]),
  table: Schema.optionalKey(Schema.String),
  subject: Schema.optionalKey(Schema.String),
  message: Schema.String,
  hint: Schema.String,
  since: time,
  raised: Schema.Boolean,
  overSince: Schema.optionalKey(time)
})
export type AlarmEntry = typeof AlarmEntry.Type

/** What is known of a slot from earlier looks. */
const SlotEntry = Schema.Struct({
  plugin: Schema.optionalKey(Schema.String),
  database: Schema.optionalKey(Schema.String),
  failover: Schema.optionalKey(Schema.Boolean),
  twoPhase: Schema.optionalKey(Schema.Boolean),
  /** Whether it was there at the last look. */
  present: Schema.Boolean,
  /** Since when nobody reads it, where the server doesn't say. */
  inactiveSince: Schema.optionalKey(time),
  /** Transactions handed on, and what says that this is still the same count: when that falls, the count is another slot's. */
  totalTransactions: Schema.optionalKey(Schema.Finite),
  counting: Schema.optionalKey(Schema.String),
  /** Where it was confirmed up to when it had been made anew; until its reader confirms more. */
  anew: Schema.optionalKey(Schema.String),
  /** Its publication, once that was seen. */
  publication: Schema.optionalKey(Schema.String),
  /** Tables that could be told apart by a key or identity. */
  identified: Schema.optionalKey(Schema.Array(Schema.String))
})
export type SlotEntry = typeof SlotEntry.Type

/** An action and what became of it. */
const ActionEntry = Schema.Struct({
  /** `trigger do`, as in the options: another one is another action. */
  key: Schema.String,
  /** Since when its trigger is met without a break. */
  since: time,
  /** When it was done; not there while it waits or has failed. */
  done: Schema.optionalKey(time),
  /** Somebody else had asked for it before, so it isn't ours to undo. */
  notOurs: Schema.optionalKey(Schema.Boolean),
  failed: Schema.optionalKey(Schema.Struct({ at: time, why: Schema.String })),
  overSince: Schema.optionalKey(time),
  tables: Schema.optionalKey(Schema.Array(Schema.String))
})
export type ActionEntry = typeof ActionEntry.Type

const LadderEntry = Schema.Struct({
  actions: Schema.Array(ActionEntry),
  /** When something was done last, and what the slot kept then. */
  last: Schema.optionalKey(Schema.Struct({ at: time, used: Schema.Finite }))
})
export type LadderEntry = typeof LadderEntry.Type

const Document = Schema.Struct({
  version: Schema.Literal(1),
  alarms: Schema.Array(AlarmEntry),
  slots: Schema.Record(Schema.String, SlotEntry),
  ladders: Schema.Record(Schema.String, LadderEntry),
  history: Schema.Array(Schema.Struct({ at: time, lsn: Lsn.FromText }))
})
export type Document = typeof Document.Type

export const nothing: Document = { version: 1, alarms: [], slots: {}, ladders: {}, history: [] }

const codec = Schema.fromJsonString(Schema.toCodecJson(Document))
const decode = Schema.decodeUnknownOption(codec)
const encode = Schema.encodeSync(codec)

/** The state store's key of a monitor's document. */
export const key = (monitor: string): string => `monitors/${monitor}/wal`

/** The document of a text; nothing when it is none, or another version's. */
export const parse = (text: string): Document => Option.getOrElse(decode(text), () => nothing)

/** The document as a text. */
export const format = (document: Document): string => encode(document)

export interface Memory {
  readonly document: Document
  /** Writes a document, when it is not the one that is there. */
  readonly save: (document: Document) => Effect.Effect<void, ConnectorError>
}

/** Reads what is remembered of `monitor`. */
export const load = Effect.fnUntraced(function*(
  state: StateStoreShape,
  monitor: string
): Effect.fn.Return<Memory, ConnectorError> {
  const name = key(monitor)
  const found = Option.getOrUndefined(yield* state.get(name))
  let written = found?.value
  let version = found?.version
  return {
    document: found === undefined ? nothing : parse(found.value),
    save: Effect.fnUntraced(function*(document) {
      const text = format(document)
      if (text === written) return
      const stored = yield* state.compareAndSet(name, text, version)
      if (Option.isSome(stored)) {
        version = stored.value
        written = text
        return
      }
      // Somebody else wrote meanwhile: what we see now is newer.
      const other = Option.getOrUndefined(yield* state.get(name))
      const again = yield* state.compareAndSet(name, text, other?.version)
      version = Option.getOrUndefined(again) ?? other?.version
      written = Option.isSome(again) ? text : other?.value
    })
  }
})
