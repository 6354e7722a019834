/**
 * The thread of a worker of `EncodingPool`: it answers the calls of its sessions, as `EncodingProtocol` has them.
 */
import { parentPort } from "node:worker_threads"
import type { Answer, Call, Calls, Request, Work } from "./EncodingProtocol.ts"
import { NdjsonEncoder } from "./NdjsonEncoder.ts"
import { NdjsonRows } from "./NdjsonRows.ts"
import * as PackedBatch from "./PackedBatch.ts"
import { Unwritable } from "./ValueWriter.ts"

const port = parentPort
if (port === null) throw new Error("EncodingWorker runs as a worker thread only")

type Result = Promise<Calls[keyof Calls]["answer"]>

/** Makes the work when it is first called, so that what is wrong with it is said to somebody. */
const sessionOf = (work: Work): (call: Call) => Result => {
  let rows: NdjsonRows | undefined
  return async (call) => {
    if (call._tag === "Close") {
      rows?.release()
      return undefined
    }
    rows ??= new NdjsonRows(
      new NdjsonEncoder(work.layout, work.outOfRange),
      PackedBatch.unpack(work.batch),
      work.noting,
      work.selection
    )
    return rows.next(call.given.from, call.given.limit, call.given.encoding)
  }
}

const sessions = new Map<number, (call: Call) => Result>()

/** A body that has its memory to itself, so that it can leave this thread without a copy. */
const movable = (body: Uint8Array): Uint8Array<ArrayBuffer> =>
  body.buffer instanceof ArrayBuffer && body.byteLength === body.buffer.byteLength
    ? new Uint8Array(body.buffer)
    : new Uint8Array(body)

const reply = (answer: Answer): void => {
  if (answer._tag !== "Done" || answer.answer?.body === undefined) return port.postMessage(answer, [])
  const body = movable(answer.answer.body)
  port.postMessage({ ...answer, answer: { ...answer.answer, body } }, [body.buffer])
}

port.on("message", (request: Request) => {
  const { session } = request
  if (request._tag === "Open") {
    sessions.set(session, sessionOf(request.work))
    return
  }
  const { call, id } = request
  const handle = sessions.get(session)
  if (call._tag === "Close") sessions.delete(session)
  const result: Result = handle?.(call) ?? Promise.reject(new Error("There is no such session"))
  result.then(
    (answer) => reply({ _tag: "Done", id, answer }),
    (cause: unknown) =>
      reply(
        cause instanceof Unwritable
          ? { _tag: "Unwritable", id, column: cause.column, message: cause.message }
          : { _tag: "Failed", id, cause }
      )
  )
})
