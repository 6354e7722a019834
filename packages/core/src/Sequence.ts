/**
 * The identity and order of one change: `(commit position, ordinal within the transaction)`.
 *
 * A source numbers every change the same way each time it is read, so a sink that remembers the last sequence it holds
 * can tell what is new. The text form is fixed-width hexadecimal, so bytewise order is numeric order: it is used as
 * Snowpipe's offset token and as the sequence column of journal tables.
 */

/**
 * Position of a change. `commit` is the commit position of its transaction (for PostgreSQL the LSN of the commit
 * record), `ordinal` its number within the transaction. A row of a snapshot has the snapshot's position and ordinal 0.
 */
export interface Sequence {
  readonly commit: bigint
  readonly ordinal: bigint
}

/** `commit` and `ordinal` as `0000000001a2b3c8/0000000000000005`: 33 characters whose bytewise order is the sequence's order. */
export type SequenceText = string

export const make = (commit: bigint, ordinal: bigint): Sequence => ({ commit, ordinal })

/** Lower than every change. */
export const zero: Sequence = make(0n, 0n)

/** The last sequence before every change that commits at `position`. */
export const before = (position: bigint): Sequence => position === 0n ? zero : make(position - 1n, 0xffffffffffffffffn)

const hex16 = (value: bigint): string => value.toString(16).padStart(16, "0")

export const format = (sequence: Sequence): SequenceText => `${hex16(sequence.commit)}/${hex16(sequence.ordinal)}`

const pattern = /^([0-9a-f]{16})\/([0-9a-f]{16})$/i

/** The sequence that `text` names, or `undefined` when it is not one of ours. */
export const parse = (text: SequenceText): Sequence | undefined => {
  const match = pattern.exec(text)
  return match === null ? undefined : make(BigInt(`0x${match[1]}`), BigInt(`0x${match[2]}`))
}

/** Negative, zero or positive as `a` is before, at or after `b`. */
export const compare = (a: Sequence, b: Sequence): number =>
  a.commit < b.commit ? -1 : a.commit > b.commit ? 1 : a.ordinal < b.ordinal ? -1 : a.ordinal > b.ordinal ? 1 : 0

export const max = (a: Sequence, b: Sequence): Sequence => compare(a, b) >= 0 ? a : b
