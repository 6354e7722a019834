/**
 * Where a line is in the log: the number of its file and the offset of its end, in one whole number.
 *
 * A position must be the same each time a line is read, on whatever machine and after whatever crash, because it is the line's identity: by it the sink
 * knows what it has already. So it is made of what doesn't change as long as the log is only appended to: the number is in the file's name (not its place among
 * the files that are there, which changes when old ones are removed), and the offset counts uncompressed bytes (so that a file may be compressed later).
 *
 * Positions are 64 bits: 31 for the number, so that hours such as 2026112613 fit, 33 for the offset.
 */

/** Of a file; at most `largestNumber`. */
export type FileNumber = number

const offsetBits = 33n
const offsetMask = (1n << offsetBits) - 1n

export const largestNumber = 2 ** 31 - 1
/** The largest file, in uncompressed bytes: 8 GiB. */
export const largestOffset = 2 ** 33 - 1

export const pack = (file: FileNumber, offset: number): bigint => (BigInt(file) << offsetBits) | BigInt(offset)

export const fileOf = (position: bigint): FileNumber => Number(position >> offsetBits)

export const offsetOf = (position: bigint): number => Number(position & offsetMask)
