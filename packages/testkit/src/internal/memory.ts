/**
 * What this process holds when everything that nobody needs any more is gone.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

let collect: (() => void) | undefined

const collector = (): () => void => {
  setFlagsFromString("--expose-gc")
  return runInNewContext("gc") as () => void // the function that the flag makes
}

/** Bytes of the heap and of buffers beside it, after a collection. */
export const held = async (): Promise<number> => {
  collect ??= collector()
  // Buffers are released some time after the objects that had them.
  for (let round = 0; round < 3; round++) {
    collect()
    await new Promise((resolve) => setImmediate(resolve))
  }
  const { arrayBuffers, external, heapUsed } = process.memoryUsage()
  return heapUsed + Math.max(arrayBuffers, external)
}
