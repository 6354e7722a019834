/**
 * Log sequence numbers: positions in PostgreSQL's write-ahead log.
 *
 * Inside the source they are 64-bit integers; SQL and the replication commands write them as two hexadecimal halves,
 * `16/B374D848`.
 */

/** A byte position in the write-ahead log. */
export type Lsn = bigint

/** Above every position that comes. */
export const highest: Lsn = 0xffffffffffffffffn

const pattern = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/i

/** The position that `text` (`16/B374D848`) names, or undefined when it is none. */
export const parse = (text: string): Lsn | undefined => {
  const match = pattern.exec(text)
  return match === null ? undefined : (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)
}

/** The position as PostgreSQL writes it. */
export const format = (lsn: Lsn): string =>
  `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`
