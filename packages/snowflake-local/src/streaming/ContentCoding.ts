/**
 * Decodes a request's body by its `Content-Encoding`, with a bound on what comes out so that a small body can't exhaust the memory.
 */
import * as Effect from "effect/Effect"
import { promisify } from "node:util"
import { gunzip, zstdDecompress } from "node:zlib"
import * as StreamingError from "./StreamingError.ts"

const decoders = {
  gzip: promisify<Uint8Array, { readonly maxOutputLength: number }, Buffer>(gunzip),
  zstd: promisify<Uint8Array, { readonly maxOutputLength: number }, Buffer>(zstdDecompress)
}

/** The decoded body. Fails with 415 for another coding, 413 beyond `maxBytes` and 400 for bytes that are not of the coding. */
export const decode = (
  body: Uint8Array,
  coding: string | undefined,
  maxBytes: number
): Effect.Effect<Uint8Array, StreamingError.StreamingError> => {
  const name = (coding ?? "identity").trim().toLowerCase()
  const tooLarge = StreamingError.tooLarge(
    `The rows take more than ${maxBytes} bytes uncompressed. Split them over several requests.`
  )
  if (name === "identity") return body.length > maxBytes ? Effect.fail(tooLarge) : Effect.succeed(body)
  if (name !== "gzip" && name !== "zstd") {
    return Effect.fail(StreamingError.unsupportedMedia("Content-Encoding must be gzip, zstd or absent."))
  }
  return Effect.tryPromise({
    try: () => decoders[name](body, { maxOutputLength: maxBytes }),
    catch: (cause) =>
      cause instanceof Error && "code" in cause && cause.code === "ERR_BUFFER_TOO_LARGE"
        ? tooLarge
        : StreamingError.badRequest(`The body is not valid ${name}.`)
  })
}
