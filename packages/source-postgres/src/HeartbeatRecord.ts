/**
 * The logical message that a pipeline writes into the server's log: that it lives, and how far it may confirm its slot.
 *
 * Each one is written before the position in it is confirmed, so it always lies behind that position in the log: whoever reads on
 * from where the pipeline left the slot finds a record that names this position or a higher one. Behind the position of a slot that somebody
 * else moved, or made anew, there is none.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Lsn from "./Lsn.ts"
import * as Sql from "./Sql.ts"

/** Prefix of the messages of every pipeline. */
export const prefix = "etl-stream/heartbeat"

const LsnText = Schema.String.check(Schema.makeFilter((text: string) => Lsn.parse(text) !== undefined))

const fields = {
  pipeline: Schema.String,
  slot: Schema.String,
  /** Differs from run to run. */
  run: Schema.String,
  /** When it was written, milliseconds since 1970-01-01 UTC by the pipeline's clock. */
  at: Schema.Number,
  /** Everything before is durable, and may be confirmed from now on. */
  confirmed: LsnText
}

const Record = Schema.Union([
  /** Everything before `confirmed` is durable at the sink. */
  Schema.Struct({ version: Schema.Literal(1), ...fields }),
  /**
   * Only what is before `durable` is; the rest is in a spool. Another version, so that who knows nothing of spools doesn't take the record for
   * a proof that the sink has everything.
   */
  Schema.Struct({ version: Schema.Literal(2), ...fields, durable: LsnText, spool: Schema.String })
])
export type Record = typeof Record.Type

const fromText = Schema.decodeUnknownOption(Schema.fromJsonString(Record))

const text = new TextDecoder()

/** The record in a message's content, undefined when it is none. */
export const parse = (content: Uint8Array): Record | undefined => Option.getOrUndefined(fromText(text.decode(content)))

export const confirmed = (record: Record): Lsn.Lsn => Lsn.parse(record.confirmed) ?? 0n

/** Up to where everything was durable at the sink. */
export const durable = (record: Record): Lsn.Lsn =>
  record.version === 1 ? confirmed(record) : Lsn.parse(record.durable) ?? 0n

/** The spool that stands behind the rest; undefined when there is none. */
export const spool = (record: Record): string | undefined => record.version === 1 ? undefined : record.spool

/** SQL that writes the record; durable on this server when it returns, without waiting for standbys. */
export const statement = (record: Record): string =>
  `SELECT pg_catalog.set_config('synchronous_commit', 'local', true), ` +
  `pg_catalog.pg_logical_emit_message(true, ${Sql.literal(prefix)}, ${Sql.literal(JSON.stringify(record))})`
