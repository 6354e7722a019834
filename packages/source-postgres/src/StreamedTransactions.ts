/**
 * Between the wire and the decoder: turns transactions that the server streams while they are in progress into ordinary
 * ones, as if they had been sent when they committed.
 *
 * The frames of a transaction in progress go to a file of its own, as they come. Stream Abort of a sub-transaction excludes its
 * frames, that of the whole transaction removes the file; Stream Commit replays the file, in pieces and only as fast as
 * it is pulled, between the Begin and the Commit that the server would have sent. So commit position, order and content of a
 * transaction are those of a server that doesn't stream, and so is the sequence of every change.
 *
 * Positions need no care of their own: a transaction in progress commits above every position that the server can
 * have reported before, and is sent again as a whole as long as its commit isn't confirmed.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Frames, uint32At } from "./internal/frameBuffer.ts"
import { MalformedMessage, malformedMessage } from "./internal/malformedMessage.ts"
import * as StreamedFrames from "./internal/streamedFrames.ts"
import * as TransactionSpool from "./internal/transactionSpool.ts"
import * as Lsn from "./Lsn.ts"
import * as PostgresError from "./PostgresError.ts"

export interface Options {
  /** Folder of the spool files, for this connection alone; made when missing. */
  readonly directory: string
  /** Bytes that all of them together may take; more ends the stream. */
  readonly diskLimit: number
}

export interface StreamedTransactions {
  /** Ordinary frames, in order; a view is valid until the next pull. Must not be used after a failure. */
  readonly pull: Effect.Effect<Frames, ConnectorError>
  /** Bytes of transactions in progress on disk. */
  readonly spooled: () => number
}

/** A piece of a replay: large enough for the disk, small beside a batch. */
const pieceSize = 1024 * 1024

const report =
  "This should not happen between a supported server and this version: please report it with the server's version."

/** Gives the frames of a committed transaction, piece by piece; undefined at the end. */
type Replay = Effect.Effect<Frames | undefined, ConnectorError>

/** Reads a spool file of a transaction as ordinary frames. */
const replay = (
  spool: TransactionSpool.TransactionSpool,
  transaction: TransactionSpool.SpooledTransaction,
  piece: Uint8Array,
  announced: Map<number, StreamedFrames.Announcement>
): Replay => {
  let bytes = piece
  let position = 0
  let consumed = 0
  let filled = 0
  return Effect.gen(function*() {
    for (;;) {
      const rest = filled - consumed
      if (position === transaction.size) {
        if (rest > 0) malformedMessage("a frame in a spool file that is cut off")
        return undefined
      }
      // A frame larger than a piece gets a buffer of its own size.
      const needed = rest >= 5 ? 1 + uint32At(bytes, consumed + 1) : 0
      const larger = needed > bytes.length ? new Uint8Array(needed) : bytes
      larger.set(bytes.subarray(consumed, filled))
      bytes = larger
      const read = yield* spool.read(transaction, bytes, rest, position)
      position += read
      filled = rest + read
      const compacted = StreamedFrames.compact(bytes, filled, transaction.aborted, announced)
      consumed = compacted.consumed
      if (compacted.written > 0) return { bytes, start: 0, end: compacted.written }
    }
  })
}

const sequence = (...parts: ReadonlyArray<Replay>): Replay => {
  let current = 0
  return Effect.gen(function*() {
    for (; current < parts.length; current++) {
      const frames = yield* parts[current] as Replay // in range
      if (frames !== undefined) return frames
    }
    return undefined
  })
}

/** One view. */
const once = (frames: () => Frames | undefined): Replay => {
  let given = false
  return Effect.sync(() => {
    if (given) return undefined
    given = true
    return frames()
  })
}

/** Puts the stage behind `wire`, which gives the views of a stream that was started with `streaming`. */
export const make = Effect.fn("StreamedTransactions.make")(function*(
  wire: Effect.Effect<Frames, ConnectorError>,
  options: Options
): Effect.fn.Return<StreamedTransactions, ConnectorError, Scope.Scope> {
  const spool = yield* TransactionSpool.make(options.directory, options.diskLimit)
  const scanner = new StreamedFrames.Scanner()
  const transactions = new Map<number, TransactionSpool.SpooledTransaction>()
  /** Whose block is open. */
  let open: TransactionSpool.SpooledTransaction | undefined
  let replaying: Replay | undefined
  let piece: Uint8Array | undefined

  const known = (xid: number, what: string): TransactionSpool.SpooledTransaction =>
    transactions.get(xid) ?? malformedMessage(`a ${what} message of transaction ${xid}, which was not started`)

  const forget = (transaction: TransactionSpool.SpooledTransaction) => {
    transactions.delete(transaction.xid)
    return spool.remove(transaction)
  }

  const start = (xid: number, first: boolean): Effect.Effect<void, ConnectorError> => {
    if (!first) {
      open = known(xid, "Stream Start")
      return Effect.void
    }
    if (transactions.has(xid)) {
      malformedMessage(`a Stream Start message of transaction ${xid}, which was started before`)
    }
    return Effect.map(spool.open(xid), (transaction) => {
      transactions.set(xid, transaction)
      open = transaction
    })
  }

  const abort = (xid: number, subxid: number): Effect.Effect<void, ConnectorError> => {
    const transaction = transactions.get(xid)
    // Nothing of it came: a server that reads its log again, after a restart, drops what it knows to be rolled back, and says so.
    if (transaction === undefined) return Effect.void
    if (subxid === xid) return forget(transaction)
    transaction.aborted.add(subxid)
    return Effect.void
  }

  const commit = (xid: number, begin: Frames, end: Frames): void => {
    const transaction = known(xid, "Stream Commit")
    const announced = new Map<number, StreamedFrames.Announcement>()
    piece ??= new Uint8Array(pieceSize)
    replaying = sequence(
      once(() => begin),
      replay(spool, transaction, piece, announced),
      Effect.as(Effect.suspend(() => transactions.has(xid) ? forget(transaction) : Effect.void), undefined),
      once(() => end),
      once(() => {
        const again = StreamedFrames.settle(scanner.announced, announced)
        if (again.length === 0) return undefined
        const bytes = new Uint8Array(Buffer.concat(again))
        return { bytes, start: 0, end: bytes.length }
      })
    )
  }

  /** The next ordinary frames, undefined when what came wasn't any. */
  const advance = Effect.gen(function*() {
    if (replaying !== undefined) {
      const frames = yield* replaying
      if (frames === undefined) replaying = undefined
      return frames
    }
    const step = scanner.next()
    switch (step._tag) {
      case "Ordinary":
        return step.frames
      case "Streamed": {
        const { bytes, end, start: from } = step.frames
        // The scanner is in a block, which `start` opened.
        yield* spool.append(open as TransactionSpool.SpooledTransaction, bytes, from, end)
        return undefined
      }
      case "Start":
        yield* start(step.xid, step.first)
        return undefined
      case "Stop":
        open = undefined
        return undefined
      case "Abort":
        yield* abort(step.xid, step.subxid)
        return undefined
      case "Commit":
        commit(step.xid, step.begin, step.commit)
        return undefined
      case "End":
        scanner.look(yield* wire)
        return undefined
    }
  })

  const pull = Effect.gen(function*() {
    for (;;) {
      const frames = yield* advance
      if (frames !== undefined) return frames
    }
  }).pipe(
    Effect.catchDefect((defect) =>
      defect instanceof MalformedMessage
        ? PostgresError.make(
          "Protocol",
          `Replication stream at ${
            Lsn.format(BigInt(scanner.messageHigh) << 32n | BigInt(scanner.messageLow))
          }: ${defect.message}`,
          report
        )
        : Effect.die(defect)
    )
  )
  return { pull, spooled: spool.used }
})
