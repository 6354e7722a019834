/**
 * What a row-wise sink stores with its rows: how far a table is, as a text that only this module reads.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Reason } from "./ConnectorError.ts"
import * as Sequence from "./Sequence.ts"
import type { TablePosition } from "./Sink.ts"

const Position = Schema.BigIntFromString

const Stored = Schema.fromJsonString(Schema.Struct({
  version: Schema.Literal(1),
  /** Whoever wrote it, so that two of them never store the same. */
  writer: Schema.String,
  copied: Schema.optionalKey(Position),
  settled: Schema.optionalKey(Position),
  /** As `Sequence.format` has it. */
  committed: Schema.optionalKey(Schema.String),
  origin: Schema.optionalKey(Schema.String),
  quarantined: Schema.optionalKey(Schema.Struct({
    reason: Reason,
    message: Schema.String,
    hint: Schema.String,
    since: Schema.Finite
  }))
}))

const encode = Schema.encodeSync(Stored)
const decode = Schema.decodeUnknownOption(Stored)

/** Nothing is held. */
export const none: TablePosition = { copied: undefined, committed: undefined }

export const format = (
  { committed, copied, origin, quarantined, settled }: TablePosition,
  writer: string
): string =>
  encode({
    version: 1,
    writer,
    ...(copied === undefined ? {} : { copied }),
    ...(settled === undefined ? {} : { settled }),
    ...(committed === undefined ? {} : { committed: Sequence.format(committed) }),
    ...(origin === undefined ? {} : { origin }),
    ...(quarantined === undefined ? {} : { quarantined })
  })

/** The position that a text says; undefined when it isn't one of ours. */
export const parse = (text: string): TablePosition | undefined => {
  const stored = Option.getOrUndefined(decode(text))
  if (stored === undefined) return undefined
  const committed = stored.committed === undefined ? undefined : Sequence.parse(stored.committed)
  if (stored.committed !== undefined && committed === undefined) return undefined
  return {
    copied: stored.copied,
    settled: stored.settled,
    committed,
    origin: stored.origin,
    quarantined: stored.quarantined
  }
}
