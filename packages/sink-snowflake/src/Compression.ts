/**
 * Compresses request bodies: by zstd, until it turns out that the other side doesn't take it, then by gzip.
 *
 * Both are documented. A proxy in between may know less, so the first refusal of a request that might be about its coding, before any was taken, changes to
 * gzip for good; `streaming.compression` in the options takes the choice away.
 */
import * as Effect from "effect/Effect"
import * as Zlib from "node:zlib"
import type { Encoding } from "./BodyCoding.ts"
import * as BodyCoding from "./BodyCoding.ts"
import type { Config } from "./Config.ts"
import type { StreamingFailure } from "./StreamingTransport.ts"

export class Compression {
  private readonly free: boolean
  /** The coding of the moment. */
  encoding: Encoding
  /** Whether a request of this coding was taken. */
  private proven = false

  /** `none` is for the official SDK, which compresses by itself. */
  constructor(choice: Config["streaming"]["compression"] | "none") {
    this.free = choice === "auto"
    this.encoding = choice === "none"
      ? "identity"
      : choice === "gzip" || typeof Zlib.zstdCompress !== "function"
      ? "gzip"
      : "zstd"
  }

  /** Compresses bytes, which must not change meanwhile. */
  compress(bytes: Uint8Array): Effect.Effect<{ readonly body: Uint8Array; readonly encoding: Encoding }> {
    return Effect.suspend(() => {
      const { encoding } = this
      return Effect.map(Effect.promise(() => BodyCoding.compress(bytes, encoding)), (body) => ({ body, encoding }))
    })
  }

  /** A request of this coding was taken. */
  taken(encoding: Encoding): void {
    if (encoding === this.encoding) this.proven = true
  }

  /** Whether a request that failed should be sent again with another coding, which bodies have from now on. */
  refused(failure: StreamingFailure, encoding: Encoding): boolean {
    const { code, status } = failure
    const aboutCoding = status === 415 ||
      (status === 400 && (code === undefined || code === "ERR_UNSUPPORTED_MEDIA_TYPE"))
    if (!this.free || encoding !== "zstd" || !aboutCoding) return false
    // Another request may have found out meanwhile.
    if (this.encoding === "gzip") return true
    if (this.proven) return false
    this.encoding = "gzip"
    return true
  }
}
