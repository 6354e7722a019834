/**
 * The thread of a worker of `EncodingPool`: it answers the calls of its sessions, as `EncodingProtocol` has them.
 */
import { parentPort } from "node:worker_threads"
import { ByteBuffer } from "./ByteBuffer.ts"
import type { Answer, Call, Calls, Ndjson, Parquet, Request } from "./EncodingProtocol.ts"
import { NdjsonEncoder } from "./NdjsonEncoder.ts"
import { NdjsonRows } from "./NdjsonRows.ts"
import * as PackedBatch from "./PackedBatch.ts"
import { Unwritable } from "./ValueWriter.ts"

const port = parentPort
if (port === null) throw new Error("EncodingWorker runs as a worker thread only")

type Result = Promise<Calls[keyof Calls]["answer"]>

type Session = (call: Call) => Result

const foreign = ({ _tag }: Call): never => {
  throw new Error(`The session takes no ${_tag}`)
}

/** Memory that no call uses, grown to what a request takes: there are few calls at a time, and many sessions. */
const idle: Array<Uint8Array> = []
const keptCalls = 3
const keptBytes = 16 << 20

const none = new Uint8Array(0)

/** Makes the work when it is first called, so that what is wrong with it is said to somebody. */
const ndjson = ({ batch, layout, noting, outOfRange, selection }: Ndjson): Session => {
  const out = new ByteBuffer(0)
  let rows: NdjsonRows | undefined
  return async (call) => {
    if (call._tag === "Close") {
      await rows?.settled
      return undefined
    }
    if (call._tag !== "Chunk") return foreign(call)
    rows ??= new NdjsonRows(new NdjsonEncoder(layout, outOfRange, out), PackedBatch.unpack(batch), noting, selection)
    out.bytes = idle.pop() ?? none
    // Encodes at once; from then on the memory is read only, by who compresses it.
    const chunk = rows.next(call.given.from, call.given.limit, call.given.encoding)
    const used = out.bytes
    out.bytes = none
    try {
      return await chunk
    } finally {
      if (idle.length < keptCalls && used.length <= keptBytes) idle.push(used)
    }
  }
}

/** Only copies need the writer and what comes with it. */
const writer = () => import("./ParquetRows.ts")

const parquet = ({ options }: Parquet): Session => {
  const made = writer().then(({ ParquetRows }) => new ParquetRows(options))
  // The first call sees it.
  made.catch(() => {})
  return async (call) => {
    const rows = await made
    switch (call._tag) {
      case "Append":
        return rows.append(PackedBatch.unpack(call.given.batch), call.given.firstCopy)
      case "Finish":
        return rows.finish()
      case "Close":
        return undefined
      default:
        return foreign(call)
    }
  }
}

const sessions = new Map<number, Session>()

/** A body that has its memory to itself, so that it can leave this thread without a copy. */
const movable = (body: Uint8Array): Uint8Array<ArrayBuffer> =>
  body.buffer instanceof ArrayBuffer && body.byteLength === body.buffer.byteLength
    ? new Uint8Array(body.buffer)
    : new Uint8Array(body)

const reply = (answer: Answer): void => {
  if (answer._tag !== "Done" || typeof answer.answer !== "object") return port.postMessage(answer, [])
  if (answer.answer instanceof Uint8Array) {
    const content = movable(answer.answer)
    return port.postMessage({ ...answer, answer: content }, [content.buffer])
  }
  if (!("body" in answer.answer) || answer.answer.body === undefined) return port.postMessage(answer, [])
  const body = movable(answer.answer.body)
  port.postMessage({ ...answer, answer: { ...answer.answer, body } }, [body.buffer])
}

port.on("message", (request: Request) => {
  if (request._tag === "Copies") {
    // The first file sees what is wrong with it.
    writer().catch(() => {})
    return
  }
  const { session } = request
  if (request._tag === "Open") {
    sessions.set(session, request.work._tag === "Ndjson" ? ndjson(request.work) : parquet(request.work))
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
// Whoever waits for an answer would wait forever.
port.on("messageerror", (cause) => {
  throw cause
})
port.postMessage({ _tag: "Ready" } satisfies Answer, [])
