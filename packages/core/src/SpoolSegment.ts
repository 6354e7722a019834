/**
 * One segment of a spool: a file of records, appended to by the run that made it, and read in order from anywhere where a record begins.
 */
import { type FileHandle, open as openFile, rm } from "node:fs/promises"
import { join } from "node:path"
import { crc32 } from "node:zlib"
import * as SpoolRecord from "./SpoolRecord.ts"
import type { TableSchema } from "./TableSchema.ts"

export interface Segment {
  readonly number: number
  readonly path: string
  /** The run that wrote it. */
  readonly run: string
  /** Bytes that count. */
  length: number
  readonly tables: Array<TableSchema>
  /** The highest watermark in it, or before it. */
  last: bigint
  /** The first watermark that covers all of it; undefined as long as there is none. */
  end: bigint | undefined
  /** Whether anything in it is about more than changes: a copy, or a table that fails or leaves. */
  structural: boolean
}

const magic = new TextEncoder().encode("etlspool")

/** The file of the segment with this number. */
export const segmentName = (number: number): string => `${String(number).padStart(12, "0")}.segment`

/** Reads so much at once. */
const readSize = 256 * 1024

/** A payload and where the record behind it begins. */
export interface RecordAt {
  readonly payload: Uint8Array
  readonly next: number
}

/** Reads the records of a file in order, from anywhere where one begins. */
export class RecordReader {
  /** Bytes of the file when it was opened. */
  readonly size: number
  private readonly handle: FileHandle
  private buffer = new Uint8Array(0)
  private start = 0

  private constructor(handle: FileHandle, size: number) {
    this.handle = handle
    this.size = size
  }

  static async open(path: string): Promise<RecordReader> {
    const handle = await openFile(path, "r")
    try {
      const { size } = await handle.stat()
      return new RecordReader(handle, size)
    } catch (cause) {
      await handle.close()
      throw cause
    }
  }

  /** Reads what an open file has so far; the file stays its opener's to close. */
  static of(handle: FileHandle, size: number): RecordReader {
    return new RecordReader(handle, size)
  }

  /** `size` bytes at `at`; fewer at the end of the file. */
  private async bytes(at: number, size: number, limit: number): Promise<Uint8Array> {
    const from = at - this.start
    if (from >= 0 && from + size <= this.buffer.length) return this.buffer.subarray(from, from + size)
    // What lies behind the limit may still become something else.
    const wanted = new Uint8Array(Math.max(size, Math.min(readSize, limit - at)))
    let filled = 0
    while (filled < size) {
      const { bytesRead } = await this.handle.read(wanted, filled, wanted.length - filled, at + filled)
      if (bytesRead === 0) break
      filled += bytesRead
    }
    this.buffer = wanted.subarray(0, filled)
    this.start = at
    return this.buffer.subarray(0, Math.min(size, filled))
  }

  /** Whether the file begins as a segment does. */
  async begins(): Promise<boolean> {
    const found = await this.bytes(0, magic.length, readSize)
    return found.length === magic.length && magic.every((byte, index) => byte === found[index])
  }

  /** The record at `at`; undefined when there is no whole record before `limit`. */
  async read(at: number, limit: number): Promise<RecordAt | undefined> {
    if (at + SpoolRecord.frameSize > limit) return undefined
    const frame = await this.bytes(at, SpoolRecord.frameSize, limit)
    if (frame.length < SpoolRecord.frameSize) return undefined
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
    const length = view.getUint32(0, true)
    const crc = view.getUint32(4, true)
    const next = at + SpoolRecord.frameSize + length
    if (length === 0 || length > SpoolRecord.largestPayload || next > limit) return undefined
    // A buffer of its own: a batch keeps it.
    const payload = (await this.bytes(at + SpoolRecord.frameSize, length, limit)).slice()
    return payload.length === length && crc32(payload) === crc ? { payload, next } : undefined
  }

  async close(): Promise<void> {
    this.buffer = new Uint8Array(0)
    this.start = 0
    await this.handle.close()
  }
}

/** Where a segment's records begin. */
export const firstRecord = magic.length

/** A segment that a run writes. */
export class SegmentFile {
  readonly segment: Segment
  private readonly handle: FileHandle
  private readonly numbers = new Map<TableSchema, number>()
  private unsynced = true

  private constructor(segment: Segment, handle: FileHandle) {
    this.segment = segment
    this.handle = handle
  }

  static async create(folder: string, header: SpoolRecord.Header, last: bigint): Promise<SegmentFile> {
    const path = join(folder, segmentName(header.number))
    const handle = await openFile(path, "wx", 0o600)
    const { number, run } = header
    const segment: Segment = { number, path, run, length: 0, tables: [], last, end: undefined, structural: false }
    const file = new SegmentFile(segment, handle)
    try {
      await file.write([magic, ...SpoolRecord.header(header).parts])
      return file
    } catch (cause) {
      // A full disk takes a file's name, but nothing in it: the next attempt makes it anew.
      await handle.close()
      await rm(path, { force: true })
      throw cause
    }
  }

  /** Bytes that are only there when all of them are: a write that fails is written over. */
  private async write(parts: ReadonlyArray<Uint8Array>): Promise<void> {
    let at = this.segment.length
    let rest = [...parts]
    while (rest.length > 0) {
      let { bytesWritten } = await this.handle.writev(rest, at)
      at += bytesWritten
      const left: Array<Uint8Array> = []
      for (const part of rest) {
        if (bytesWritten >= part.length) bytesWritten -= part.length
        else {
          left.push(part.subarray(bytesWritten))
          bytesWritten = 0
        }
      }
      rest = left
    }
    this.segment.length = at
    this.unsynced = true
  }

  /** Appends a record whose schema may have to be written before it. */
  async append(schema: TableSchema | undefined, encode: (table: number) => SpoolRecord.Encoded): Promise<void> {
    const number = schema === undefined ? 0 : this.numbers.get(schema)
    if (number !== undefined) return await this.write(encode(number).parts)
    if (schema === undefined) return
    const { tables } = this.segment
    const next = tables.length
    await this.write([...SpoolRecord.tableSchema(schema).parts, ...encode(next).parts])
    tables.push(schema)
    this.numbers.set(schema, next)
  }

  /** Has the disk hold what was appended. */
  async sync(): Promise<void> {
    if (!this.unsynced) return
    this.unsynced = false
    try {
      await this.handle.datasync()
    } catch (cause) {
      this.unsynced = true
      throw cause
    }
  }

  close(): Promise<void> {
    return this.handle.close()
  }
}

const isStructural = (tag: string): boolean =>
  tag.startsWith("Snapshot") || tag === "TableLeft" || tag === "TableFailed"

/** Notes in a segment what an element in it means for it. */
export const note = (segment: Segment, tag: string): void => {
  if (isStructural(tag)) segment.structural = true
}

/** Notes a watermark that comes after everything in `segments`. */
export const cover = (segments: Iterable<Segment>, position: bigint): void => {
  for (const segment of segments) if (segment.end === undefined && position > segment.last) segment.end = position
}
