/**
 * Log sequence numbers: byte positions in PostgreSQL's write-ahead log, which SQL writes as two hexadecimal halves (`16/B374D848`).
 */
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"

/** A byte position in the write-ahead log. */
export type Lsn = bigint

const pattern = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/i

/** The position as PostgreSQL writes it. */
export const format = (lsn: Lsn): string =>
  `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`

/** Bytes of log from `from` to `to`; 0 when `from` is not before `to`. */
export const distance = (from: Lsn, to: Lsn): number => to > from ? Number(to - from) : 0

const parse = (text: string): Lsn => {
  const [high = "0", low = "0"] = text.split("/")
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)
}

/** A position from its text. */
export const FromText = Schema.String.check(
  Schema.isPattern(pattern, { expected: "a log position such as 16/B374D848" })
).pipe(Schema.decodeTo(Schema.BigInt, {
  decode: SchemaGetter.transform(parse),
  encode: SchemaGetter.transform(format)
}))
