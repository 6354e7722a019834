/**
 * Files that hold the frames of transactions in progress, one for each, within a limit on all of them together.
 *
 * They lie in a folder that only its owner can enter, and serve one connection: what an earlier run left behind is removed
 * first, what is left at the end goes with the scope. Nothing of a transaction's rows stays in memory.
 */
import * as ByteSize from "@etl-stream/core/ByteSize"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as PostgresError from "../PostgresError.ts"
import { XidSet } from "./xidSet.ts"

const suffix = ".spool"

export interface SpooledTransaction {
  readonly xid: number
  readonly file: string
  readonly handle: fs.FileHandle
  /** Sub-transactions that were rolled back. */
  readonly aborted: XidSet
  size: number
}

export interface TransactionSpool {
  readonly folder: string
  /** Bytes on disk. */
  readonly used: () => number
  readonly open: (xid: number) => Effect.Effect<SpooledTransaction, ConnectorError>
  readonly append: (
    transaction: SpooledTransaction,
    bytes: Uint8Array,
    start: number,
    end: number
  ) => Effect.Effect<void, ConnectorError>
  /** Reads into `bytes[start, …)` from `position`, which lies within the transaction; how many bytes it were, at least one. */
  readonly read: (
    transaction: SpooledTransaction,
    bytes: Uint8Array,
    start: number,
    position: number
  ) => Effect.Effect<number, ConnectorError>
  readonly remove: (transaction: SpooledTransaction) => Effect.Effect<void, ConnectorError>
}

/** Codes that somebody has to mend, as opposed to a full disk or one in trouble, which may pass. */
const forbidden = new Set(["EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST", "ENOENT", "ELOOP", "ENAMETOOLONG"])

const fileError = (doing: string, folder: string) => (cause: unknown): ConnectorError => {
  const code = PostgresError.codeOf(cause) ?? "unknown error"
  return forbidden.has(code)
    ? PostgresError.make(
      "Misconfigured",
      `${doing} in ${folder}: ${code}`,
      "Set streaming.directory to a folder that this process may write."
    )
    : PostgresError.make(
      "Throttled",
      `${doing} in ${folder}: ${code}`,
      "Make room on the disk or see what troubles it, or set streaming.directory to another one; the pipeline tries again by itself."
    )
}

const overLimit = (limit: number): ConnectorError =>
  PostgresError.make(
    "Misconfigured",
    `transactions in progress need more than ${ByteSize.format(limit)} of disk (streaming.diskLimit)`,
    "Raise streaming.diskLimit, or set streaming.mode to off, so that the server keeps transactions until they commit. " +
      "Nothing is lost: what was not confirmed is sent again."
  )

/** Makes the folder ours alone. */
const prepare = async (folder: string): Promise<void> => {
  await fs.mkdir(folder, { recursive: true, mode: 0o700 })
  const status = await fs.lstat(folder)
  const uid = process.getuid?.()
  if (!status.isDirectory() || (uid !== undefined && status.uid !== uid)) {
    throw Object.assign(new Error("the folder is somebody else's"), { code: "EPERM" })
  }
  if ((status.mode & 0o077) !== 0) await fs.chmod(folder, 0o700)
  for (const name of await fs.readdir(folder)) {
    if (name.endsWith(suffix)) await fs.rm(path.join(folder, name), { force: true })
  }
}

const discard = async ({ file, handle }: SpooledTransaction): Promise<void> => {
  await handle.close()
  await fs.rm(file, { force: true })
}

/** A spool in `folder`, for files of `limit` bytes altogether. */
export const make = Effect.fn("PostgresSource.transactionSpool")(function*(
  folder: string,
  limit: number
): Effect.fn.Return<TransactionSpool, ConnectorError, Scope.Scope> {
  yield* Effect.tryPromise({ try: () => prepare(folder), catch: fileError("preparing to spool transactions", folder) })
  const run = randomBytes(6).toString("hex")
  const open = new Set<SpooledTransaction>()
  let used = 0
  yield* Effect.addFinalizer(() =>
    Effect.promise(async () => {
      for (const transaction of open) await discard(transaction).catch(() => undefined)
      open.clear()
    })
  )
  /** Files are not left in the middle of a call: their buffers belong to whoever comes next. */
  const io = <A>(doing: string, call: () => Promise<A>): Effect.Effect<A, ConnectorError> =>
    Effect.uninterruptible(Effect.tryPromise({ try: call, catch: fileError(doing, folder) }))
  return {
    folder,
    used: () => used,
    open: (xid) =>
      io("spooling a transaction", async () => {
        const file = path.join(folder, `${run}-${xid}${suffix}`)
        const handle = await fs.open(file, "wx+", 0o600)
        const transaction = { xid, file, handle, aborted: new XidSet(), size: 0 }
        open.add(transaction)
        return transaction
      }),
    append: (transaction, bytes, start, end) =>
      used + end - start > limit ? overLimit(limit) : io("spooling a transaction", async () => {
        for (let at = start; at < end;) {
          const { bytesWritten } = await transaction.handle.write(bytes, at, end - at, transaction.size)
          at += bytesWritten
          transaction.size += bytesWritten
          used += bytesWritten
        }
      }),
    read: (transaction, bytes, start, position) =>
      io("reading a spooled transaction", async () => {
        const length = Math.min(bytes.length - start, transaction.size - position)
        const { bytesRead } = await transaction.handle.read(bytes, start, length, position)
        if (bytesRead === 0) throw Object.assign(new Error("the file was cut off"), { code: "a file was cut off" })
        return bytesRead
      }),
    remove: (transaction) =>
      io("removing a spooled transaction", async () => {
        open.delete(transaction)
        used -= transaction.size
        await discard(transaction)
      })
  }
})
