/**
 * One file that is read from an offset on, by pieces that end with a line.
 *
 * A file that is appended to keeps what it has. Whatever else happens to it (it is cut, replaced by another one of the same name, or written anew in place) would make lines
 * disappear without a trace, so each look compares its identity, its size and its first bytes with what they were: a difference is an error, not a line less.
 */
import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { type FileHandle, open, stat } from "node:fs/promises"
import { createGunzip } from "node:zlib"
import * as Failure from "./Failure.ts"
import type { LogFile } from "./LogFiles.ts"
import * as Position from "./Position.ts"

const readBytes = 256 * 1024
/** So many bytes at the beginning tell a file from one that was written in its place. */
const headBytes = 4096

const newline = 0x0a

/** Lines of a file: bytes without their line ends, and the offset of the end of each (its line end included). */
export interface Lines {
  readonly lines: ReadonlyArray<Uint8Array>
  readonly ends: ReadonlyArray<number>
  /** The line after them is longer than it may be. Nothing of the file can be read from there on. */
  readonly tooLong: boolean
}

const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("base64")

const lost = ({ name, table }: LogFile, what: string) =>
  Failure.make(
    "Lost",
    `The file ${name} ${what} while it was read, or since: lines that were in it may be missing`,
    "Files of the log may only be appended to, and compressed or removed when a newer one exists. Put the file back as it was; or have the table copied again from what is there now.",
    table
  )

/** Bytes of a file from where it is read on. */
interface Bytes {
  /** Where the first of them is. */
  readonly from: number
  /** The next bytes; empty when there are none now. */
  readonly read: () => Promise<Buffer>
  /** Rejects when the file isn't what it was. `gone`: it isn't there any more, which is right for a file that isn't the last. */
  readonly verify: () => Promise<"there" | "gone">
  readonly size: () => Promise<number>
  readonly close: () => Promise<void>
}

/** Where the line begins that byte `offset` is in: behind the last line end before it. */
const beginningOf = async (handle: FileHandle, offset: number): Promise<number> => {
  const buffer = Buffer.allocUnsafe(readBytes)
  for (let end = offset; end > 0;) {
    const start = Math.max(0, end - readBytes)
    const { bytesRead } = await handle.read(buffer, 0, end - start, start)
    const found = buffer.subarray(0, bytesRead).lastIndexOf(newline)
    if (found >= 0) return start + found + 1
    end = start
  }
  return 0
}

const plainBytes = async (file: LogFile, behind: number): Promise<Bytes> => {
  const handle = await open(file.path, "r")
  const head = Buffer.alloc(headBytes)
  const { ino, size } = await handle.stat()
  let known = (await handle.read(head, 0, Math.min(headBytes, size), 0)).bytesRead
  let hash = digest(head.subarray(0, known))
  if (behind > 0) {
    // A line ended just there, or one byte later: with a line end, or with the file.
    const around = Buffer.alloc(2)
    await handle.read(around, 0, 2, behind - 1)
    if (size < behind || (!around.includes(newline) && size > behind + 1)) {
      await handle.close()
      throw lost(file, size < behind ? "became shorter" : "was written anew")
    }
  }
  const from = await beginningOf(handle, behind)
  let offset = from
  return {
    from,
    read: async () => {
      const buffer = Buffer.allocUnsafe(readBytes)
      const { bytesRead } = await handle.read(buffer, 0, readBytes, offset)
      offset += bytesRead
      return buffer.subarray(0, bytesRead)
    },
    verify: async () => {
      const now = await handle.stat()
      if (now.size < offset) throw lost(file, "became shorter")
      const read = (await handle.read(head, 0, Math.min(headBytes, now.size), 0)).bytesRead
      if (digest(head.subarray(0, known)) !== hash) throw lost(file, "was written anew")
      known = read
      hash = digest(head.subarray(0, known))
      const named = await stat(file.path).catch((cause: unknown) => {
        if (Failure.codeOf(cause) === "ENOENT") return undefined
        throw cause
      })
      if (named !== undefined && named.ino !== ino) throw lost(file, "was replaced by another one")
      return named === undefined ? "gone" : "there"
    },
    size: async () => (await handle.stat()).size,
    close: () => handle.close()
  }
}

/** A compressed file is whole, and is read from its beginning. */
const compressedBytes = (file: LogFile, behind: number): Bytes => {
  const source = createReadStream(file.path)
  const unzipped = source.pipe(createGunzip())
  source.once("error", (cause) => unzipped.destroy(cause))
  const chunks: AsyncIterator<Buffer> = unzipped[Symbol.asyncIterator]()
  let size = 0
  return {
    from: 0,
    read: async () => {
      const next = await chunks.next().catch((cause: unknown) => {
        if (Failure.codeOf(cause)?.startsWith("Z_") !== true) throw cause
        throw Failure.make(
          "Unreachable",
          `The file ${file.name} isn't whole, or no gzip file`,
          "It is read again. Move compressed files into the folder when they are whole."
        )
      })
      if (next.done === true) {
        if (size < behind) throw lost(file, "became shorter")
        return Buffer.alloc(0)
      }
      size += next.value.length
      return next.value
    },
    verify: () => Promise.resolve("there"),
    size: () => Promise.resolve(size),
    close: () => {
      source.destroy()
      unzipped.destroy()
      return Promise.resolve()
    }
  }
}

export class OpenFile {
  readonly file: LogFile
  /** Offset of the end of the last line that was given or skipped. */
  offset: number
  private rest: Buffer = Buffer.alloc(0)
  private readonly bytes: Bytes
  private readonly behind: number
  private readonly maxLineBytes: number

  private constructor(file: LogFile, behind: number, bytes: Bytes, maxLineBytes: number) {
    this.file = file
    this.offset = bytes.from
    this.bytes = bytes
    this.behind = behind
    this.maxLineBytes = maxLineBytes
  }

  /** Opens a file to give the lines that end behind an offset. */
  static async open(file: LogFile, behind: number, maxLineBytes: number): Promise<OpenFile> {
    try {
      const bytes = file.compressed ? compressedBytes(file, behind) : await plainBytes(file, behind)
      return new OpenFile(file, behind, bytes, maxLineBytes)
    } catch (cause) {
      throw Failure.fromFileSystem(file.path, cause)
    }
  }

  /** The next lines that are whole; undefined when there are none now. A last line without its end waits, unless the file is `closed`: then it is whole, too. */
  async next(closed: boolean): Promise<Lines | undefined> {
    try {
      for (;;) {
        const more = await this.bytes.read()
        if (more.length === 0 && !(closed && this.rest.length > 0)) return undefined
        const all = this.rest.length === 0 ? more : Buffer.concat([this.rest, more])
        const lines: Array<Uint8Array> = []
        const ends: Array<number> = []
        const add = (start: number, end: number, next: number): void => {
          this.offset += next - start
          if (this.offset <= this.behind) return
          lines.push(all.subarray(start, end))
          ends.push(this.offset)
        }
        let start = 0
        let tooLong = false
        // What was looked through before has no line end.
        for (let at = all.indexOf(newline, this.rest.length); at >= 0; at = all.indexOf(newline, start)) {
          tooLong = at - start > this.maxLineBytes
          if (tooLong) break
          add(start, at, at + 1)
          start = at + 1
        }
        this.rest = all.subarray(start)
        tooLong ||= this.rest.length > this.maxLineBytes
        if (more.length === 0 && !tooLong) {
          add(0, all.length, all.length)
          this.rest = Buffer.alloc(0)
        }
        if (this.offset > Position.largestOffset) throw lost(this.file, "became larger than 8 GiB")
        if (lines.length > 0 || tooLong) return { lines, ends, tooLong }
      }
    } catch (cause) {
      throw Failure.fromFileSystem(this.file.path, cause)
    }
  }

  /** Rejects when the file isn't what it was, or isn't there any more although it is the last one. */
  async verify(closed: boolean): Promise<void> {
    try {
      if (await this.bytes.verify() === "gone" && !closed) throw lost(this.file, "was removed or renamed")
    } catch (cause) {
      throw Failure.fromFileSystem(this.file.path, cause)
    }
  }

  /** Rejects when a file that isn't the last one has grown since it was read to its end. */
  async ended(): Promise<void> {
    if (await this.bytes.size() > this.offset) throw lost(this.file, "grew after a newer one was there")
  }

  close(): Promise<void> {
    return this.bytes.close().catch(() => {})
  }
}

/** The number of the line that ends at `offset`, from 1. Reads the file for it: only errors need it. */
export const lineNumber = async (file: LogFile, offset: number): Promise<number> => {
  let number = 0
  let at = 0
  let last = newline
  const source = createReadStream(file.path)
  for await (const chunk of file.compressed ? source.pipe(createGunzip()) : source) {
    const bytes = chunk as Buffer // without an encoding, streams give buffers
    for (
      let found = bytes.indexOf(newline);
      found >= 0 && at + found < offset;
      found = bytes.indexOf(newline, found + 1)
    ) number++
    last = bytes[Math.min(bytes.length, offset - at) - 1] ?? last
    at += bytes.length
    if (at >= offset) break
  }
  source.destroy()
  return last === newline ? number : number + 1
}
