/**
 * What goes wrong with a spool's disk, as errors of the pipeline.
 */
import * as Effect from "effect/Effect"
import { ConnectorError } from "./ConnectorError.ts"

const plugin = "@etl-stream/core"

const codeOf = (cause: unknown): string | undefined =>
  cause instanceof Error && "code" in cause ? String(cause.code) : undefined

const noRoom = new Set(["ENOSPC", "EDQUOT", "EFBIG"])
const forbidden = new Set(["EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST", "ELOOP", "ENAMETOOLONG"])

/** Whether a write failed because it doesn't fit, on the disk or into a record. */
export const isTooLarge = (cause: unknown): boolean => {
  const code = codeOf(cause)
  return cause instanceof RangeError || (code !== undefined && noRoom.has(code))
}

/** The error of a call to the file system. */
export const from = (directory: string, cause: unknown): ConnectorError => {
  const code = codeOf(cause)
  return code !== undefined && forbidden.has(code)
    ? new ConnectorError({
      reason: "Misconfigured",
      plugin,
      message: `The spool in ${directory} can't be used: ${code}`,
      hint: "Set spool.directory to a folder that this process may write and nobody else uses."
    })
    : new ConnectorError({
      reason: "Unreachable",
      plugin,
      message: `The spool in ${directory} can't be read or written: ${code ?? "unknown error"}`,
      hint: "See what troubles the disk; the pipeline tries again by itself."
    })
}

/** Something that was read and found whole when the run began isn't any more. */
export const spoiled = (directory: string): ConnectorError =>
  new ConnectorError({
    reason: "Fenced",
    plugin,
    message: `The spool in ${directory} was changed while it was in use`,
    hint: "The pipeline starts again by itself, and sees whether anything is missing."
  })

/** Not even how the source's stream begins can be kept. */
export const noSpace = (directory: string): ConnectorError =>
  new ConnectorError({
    reason: "Throttled",
    plugin,
    message: `There is no room on the disk for the spool in ${directory}`,
    hint: "Make room; the pipeline tries again by itself."
  })

/** Calls the file system, about the spool in `directory`. */
export const io = (directory: string) => <A>(call: () => Promise<A>): Effect.Effect<A, ConnectorError> =>
  // A call that is left alone would go on beside what comes after it.
  Effect.uninterruptible(Effect.tryPromise({ try: call, catch: (cause) => from(directory, cause) }))
