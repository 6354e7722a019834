/**
 * Copies short runs of bytes, such as the values of columns, between buffers.
 *
 * `Uint8Array.set` needs a `subarray` for its source, and both are calls: 60 to 85 ns, whatever the length. Reading and writing whole words takes 18 ns for 36 bytes
 * and 30 for 84 (measured), so it is used up to where both are even.
 */

/** A view of the same bytes, for `copy`. */
export const viewOf = ({ buffer, byteLength, byteOffset }: Uint8Array): DataView =>
  new DataView(buffer, byteOffset, byteLength)

/** Longer runs are faster by `set` (measured). */
const longest = 512

/**
 * Copies the bytes `[start, end)` of `source` to `at` in `target`, where they have to fit. Both may be views of one buffer when the ranges don't overlap.
 *
 * The last word may repeat bytes of the one before. Words are unsigned, because V8 (13.6) gives up inlining accesses to signed ones after its middle compiler was wrong
 * about their bounds, and then each is a call; those of 64 bits are no objects once the function is compiled.
 */
export const copy = (target: DataView, at: number, source: DataView, start: number, end: number): void => {
  const length = end - start
  if (length >= 8) {
    if (length > longest) {
      // What the buffers behind the views have is not theirs.
      if (at + length > target.byteLength || end > source.byteLength || at < 0 || start < 0) {
        throw new RangeError("bytes beyond the end of a view can't be copied")
      }
      new Uint8Array(target.buffer, target.byteOffset + at, length)
        .set(new Uint8Array(source.buffer, source.byteOffset + start, length))
      return
    }
    const last = end - 8
    let to = at
    for (let from = start; from < last; from += 8, to += 8) target.setBigUint64(to, source.getBigUint64(from))
    target.setBigUint64(at + length - 8, source.getBigUint64(last))
  } else if (length >= 4) {
    target.setUint32(at, source.getUint32(start))
    target.setUint32(at + length - 4, source.getUint32(end - 4))
  } else {
    for (let from = start, to = at; from < end; from++, to++) target.setUint8(to, source.getUint8(from))
  }
}
