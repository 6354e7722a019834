/**
 * Compresses bodies of requests, on a thread of Node's pool.
 */
import * as Zlib from "node:zlib"

export type Encoding = "zstd" | "gzip" | "identity"

/** Each piece of this size costs a turn of the event loop; Node's own is 16 KiB. */
const chunkSize = 256 << 10

/** `bytes` must not change before it is settled. */
export const compress = (bytes: Uint8Array, encoding: Encoding): Promise<Uint8Array> => {
  // The bytes themselves are overwritten by the next rows.
  if (encoding === "identity") return Promise.resolve(Buffer.from(bytes))
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, result: Buffer) => error === null ? resolve(result) : reject(error)
    // Of both the fastest level: a request is small enough at any, and the rate is limited by its uncompressed size.
    if (encoding === "zstd") {
      Zlib.zstdCompress(bytes, { chunkSize, params: { [Zlib.constants.ZSTD_c_compressionLevel]: 1 } }, done)
    } else Zlib.gzip(bytes, { chunkSize, level: 1 }, done)
  })
}
