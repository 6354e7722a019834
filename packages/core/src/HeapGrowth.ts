/**
 * How V8 lets the heap grow in processes that make batches.
 *
 * The buffers of batches lie outside of V8's heap, which counts them as part of it. Beside a heap of some 25 MB it takes every few megabytes of them for a reason to
 * mark the whole heap, in threads of its own as well: 40 times for 2.5 million rows from a slot, which takes a third of all processor time. When the heap may grow to three times
 * what survived, what is young is collected before that happens: 2 times, at 130 MB at the peak instead of 180 (measured).
 *
 * What is young, on the other hand, is little, because no row is an object; but loading the program makes V8 set aside 100 MB for it, which stay.
 */
import { setFlagsFromString } from "node:v8"

/**
 * Lets the heap of this process, and of its workers, grow to three times what survived a collection, and the part for young objects not at all. Call it once, before the
 * program is loaded: memory that V8 has set aside it keeps.
 */
export const forBatches = (): void => {
  setFlagsFromString("--heap-growing-percent=200")
  setFlagsFromString("--semi-space-growth-factor=1")
}
