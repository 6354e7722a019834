/**
 * A message of `pg_logical_emit_message`, in a transaction or on its own. It is no row change and has no number.
 */
import { uint32At } from "./frameBuffer.ts"
import { malformedMessage } from "./malformedMessage.ts"
import { stringEnd } from "./relation.ts"

export interface LogicalMessage {
  readonly transactional: boolean
  readonly prefix: string
  /** A view into the message's bytes. */
  readonly content: Uint8Array
}

const text = new TextDecoder()

/** Reads a Message message's body, which begins at `at` after the type byte. */
export const parse = (bytes: Uint8Array, at: number, limit: number): LogicalMessage => {
  if (limit - at < 9) malformedMessage("a Message message that is too short")
  const prefixEnd = stringEnd(bytes, at + 9, limit, "message prefix")
  if (limit - prefixEnd < 5 || uint32At(bytes, prefixEnd + 1) !== limit - prefixEnd - 5) {
    malformedMessage("a Message message of the wrong length")
  }
  return {
    transactional: ((bytes[at] as number) & 1) !== 0, // in range
    prefix: text.decode(bytes.subarray(at + 9, prefixEnd)),
    content: bytes.subarray(prefixEnd + 5, limit)
  }
}
