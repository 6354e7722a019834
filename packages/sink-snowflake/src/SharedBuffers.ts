/**
 * Memory that threads share, used again and again: what carries a batch to a worker is as large as the batch, and would otherwise wait for two
 * garbage collectors.
 */

const unit = 1 << 20

export class SharedBuffers {
  private readonly free: Array<SharedArrayBuffer> = []
  private readonly keep: number
  private kept = 0

  /** At most `keep` bytes are kept while nobody uses them. */
  constructor(keep: number) {
    this.keep = keep
  }

  /** A buffer of at least so many bytes, which hold whatever they held before. */
  take(bytes: number): SharedArrayBuffer {
    // One that is much too large would keep a large batch's memory busy with small ones.
    const index = this.free.findIndex(({ byteLength }) => byteLength >= bytes && byteLength <= 4 * bytes + unit)
    const [found] = index === -1 ? [] : this.free.splice(index, 1)
    if (found === undefined) return new SharedArrayBuffer(Math.max(1, Math.ceil(bytes / unit)) * unit)
    this.kept -= found.byteLength
    return found
  }

  /** Nobody reads or writes the buffer any more. */
  give(buffer: SharedArrayBuffer): void {
    this.free.push(buffer)
    this.kept += buffer.byteLength
    while (this.kept > this.keep) this.kept -= this.free.shift()?.byteLength ?? this.kept
  }
}
