/**
 * The files of a spool: a folder with segments, each a run of records (`SpoolRecord`), and `front.json`, which says where the spool begins.
 *
 * A segment is only ever appended to, by the run that made it; a later run begins a new one, which notes how long the one before was. So what a crash
 * cut short is told from what somebody cut off later. Segments are removed from the front, and `front.json` says so first. Whoever opens the folder reads
 * all of it: what counts is what can be read from the front on, up to the first record that isn't whole. Folder and files are their owner's alone, as
 * they hold values of rows.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { randomUUID } from "node:crypto"
import { type FileHandle, mkdir, open as openFile, readdir, readFile, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { crc32 } from "node:zlib"
import type { ConnectorError } from "./ConnectorError.ts"
import { tableOf } from "./Element.ts"
import * as SpoolRecord from "./SpoolRecord.ts"
import { type TableId, tableId, type TableSchema } from "./TableSchema.ts"

/** Where a spool begins, and what stands on it. */
const Front = Schema.Struct({
  version: Schema.Literal(1),
  pipeline: Schema.String,
  spool: Schema.String,
  /** Number of the first segment that counts. */
  first: Schema.Int,
  /** Everything up to here is durable at the sink. */
  durable: Schema.BigIntFromString,
  /** Whether positions may have been confirmed to the source that only the spool stands behind. */
  relied: Schema.Boolean
})
export type Front = typeof Front.Type
const FrontText = Schema.fromJsonString(Front)
const encodeFront = Schema.encodeSync(FrontText)
const decodeFront = Schema.decodeUnknownOption(FrontText)

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

/** What the last element of an earlier run that is about more than changes of a table makes of the copy that its sink holds. */
export interface Mark {
  readonly table: TableSchema
  /** Copies that began below this position are void. */
  readonly below: bigint
  /** Why the table can't go on; undefined when it only has to be copied again. */
  readonly error: ConnectorError | undefined
}

/** What a folder holds. */
export interface Found {
  readonly front: Front
  readonly segments: ReadonlyArray<Segment>
  /** Everything up to here is at the sink or in the segments. */
  readonly upTo: bigint
  /** The highest commit position of a table's changes that is covered by `upTo`. */
  readonly commits: ReadonlyMap<TableId, bigint>
  /** What is wrong with what lies behind; undefined when nothing is, or only the last record was cut short. */
  readonly damage: string | undefined
  readonly marks: ReadonlyMap<TableId, Mark>
  /** Every shape that a table has in the segments. */
  readonly shapes: ReadonlyMap<TableId, ReadonlyArray<TableSchema>>
  /** Number of the next segment; what lies there, or behind, doesn't count. */
  readonly next: number
}

const extension = ".segment"
const magic = new TextEncoder().encode("etlspool")
const frontName = "front.json"

const segmentName = (number: number): string => `${String(number).padStart(12, "0")}${extension}`

const syncFolder = async (folder: string): Promise<void> => {
  const handle = await openFile(folder, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes the folder, and writes where the spool begins, durably. */
export const writeFront = async (folder: string, front: Front): Promise<void> => {
  const temporary = join(folder, `${frontName}.new`)
  const handle = await openFile(temporary, "w", 0o600)
  try {
    await handle.writeFile(encodeFront(front))
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(temporary, join(folder, frontName))
  await syncFolder(folder)
}

const isMissing = (cause: unknown): boolean => cause instanceof Error && "code" in cause && cause.code === "ENOENT"

const readFront = async (folder: string): Promise<Front | undefined> => {
  try {
    return Option.getOrUndefined(decodeFront(await readFile(join(folder, frontName), "utf8")))
  } catch (cause) {
    if (isMissing(cause)) return undefined
    throw cause
  }
}

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
    await file.write([magic, ...SpoolRecord.header(header).parts])
    return file
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

const headerOf = ({ payload }: RecordAt): SpoolRecord.Header | undefined => {
  try {
    const decoded = SpoolRecord.decode(payload, [])
    return decoded._tag === "Header" ? decoded.header : undefined
  } catch (cause) {
    if (cause instanceof SpoolRecord.Malformed) return undefined
    throw cause
  }
}

/** How long the segment before was when the one at `path` was begun; undefined when that isn't known. */
const lengthBefore = async (path: string): Promise<number | undefined> => {
  const reader = await RecordReader.open(path)
  try {
    const first = await reader.begins() ? await reader.read(firstRecord, reader.size) : undefined
    return first === undefined ? undefined : headerOf(first)?.previous?.length
  } finally {
    await reader.close()
  }
}

/** What is known of a folder while its segments are read. */
class Scan {
  readonly segments: Array<Segment> = []
  readonly marks = new Map<TableId, Mark>()
  readonly shapes = new Map<TableId, Array<TableSchema>>()
  readonly commits = new Map<TableId, bigint>()
  upTo: bigint
  /** Changes that no watermark has covered yet. */
  private pending: Array<readonly [table: TableId, commit: bigint]> = []

  constructor(durable: bigint) {
    this.upTo = durable
  }

  private element(segment: Segment, { below, element }: Extract<SpoolRecord.Decoded, { _tag: "Element" }>): void {
    note(segment, element._tag)
    if (element._tag === "Watermark") {
      const { position } = element
      cover(this.segments, position)
      if (position > segment.last) {
        segment.last = position
        segment.end = position
      }
      if (position > this.upTo) this.upTo = position
      for (const [table, commit] of this.pending) {
        if (commit < position && commit > (this.commits.get(table) ?? 0n)) this.commits.set(table, commit)
      }
      this.pending = this.pending.filter(([, commit]) => commit >= position)
      return
    }
    segment.end = undefined
    const name = tableOf(element)
    const table = SpoolRecord.schemaOf(element)
    if (name === undefined || table === undefined) return
    const id = tableId(name)
    // A batch may hold rows of several transactions, the last of which hasn't ended.
    if (element._tag === "Rows") {
      this.pending.push([id, element.batch.first.commit], [id, element.batch.last.commit])
    }
    if (element._tag === "Truncate") this.pending.push([id, element.sequence.commit])
    if (below === undefined) return
    this.marks.set(id, { table, below, error: element._tag === "TableFailed" ? element.error : undefined })
  }

  /**
   * Reads a segment up to `limit`, which the one behind it has noted; returns why the reading ends there, `undefined` when it goes on. What was appended
   * later, by a run that didn't know that it was over, doesn't count.
   */
  async read(
    path: string,
    number: number,
    spool: string,
    before: Segment | undefined,
    limit: number | undefined
  ): Promise<string | undefined> {
    const reader = await RecordReader.open(path)
    const name = `segment ${number}`
    try {
      if (!(await reader.begins())) return `${name} has no beginning`
      const first = await reader.read(firstRecord, reader.size)
      const header = first === undefined ? undefined : headerOf(first)
      if (first === undefined || header === undefined) return `${name} has no header`
      if (header.spool !== spool || header.number !== number) return `${name} belongs to another spool`
      if (before !== undefined && header.previous?.length !== before.length) {
        return `segment ${before.number} isn't as long any more as it was`
      }
      const end = Math.min(reader.size, limit ?? reader.size)
      const segment: Segment = {
        number,
        path,
        run: header.run,
        length: first.next,
        tables: [],
        last: before?.last ?? this.upTo,
        end: undefined,
        structural: false
      }
      this.segments.push(segment)
      for (;;) {
        const record = await reader.read(segment.length, end)
        if (record === undefined) return undefined
        const decoded = SpoolRecord.decode(record.payload, segment.tables)
        if (decoded._tag === "Table") {
          segment.tables.push(decoded.schema)
          const id = tableId(decoded.schema.table)
          this.shapes.set(id, [...this.shapes.get(id) ?? [], decoded.schema])
        } else if (decoded._tag === "Element") this.element(segment, decoded)
        else return undefined
        segment.length = record.next
      }
    } catch (cause) {
      if (!(cause instanceof SpoolRecord.Malformed)) throw cause
      // Where the next segment was begun later than this one was damaged, its header knows.
      return this.segments.at(-1)?.number === number ? undefined : `${name} has ${cause.message}`
    } finally {
      await reader.close()
    }
  }
}

/** Reads a folder, which is made when it is missing; changes nothing of what it holds. */
export const find = async (folder: string, pipeline: string): Promise<Found> => {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const known = await readFront(folder)
  const numbers = (await readdir(folder)).filter((name) => /^\d{12}\.segment$/.test(name)).map((name) =>
    Number.parseInt(name, 10)
  ).sort((a, b) => a - b)
  const highest = numbers.at(-1) ?? 0
  const own = known?.pipeline === pipeline ? known : undefined
  // Segments without a front, or with somebody else's, prove nothing.
  const front = own ??
    {
      version: 1 as const,
      pipeline,
      spool: randomUUID(),
      first: highest + 1,
      durable: 0n,
      relied: false
    }
  const scan = new Scan(front.durable)
  let damage = own === undefined && numbers.length > 0 ? `${frontName} is missing or isn't this pipeline's` : undefined
  if (front.relied) {
    let next = front.first
    for (const number of numbers.filter((number) => number >= front.first)) {
      if (number !== next) {
        damage = `segment ${next} is missing`
        break
      }
      const path = join(folder, segmentName(number))
      const limit = numbers.includes(number + 1)
        ? await lengthBefore(join(folder, segmentName(number + 1)))
        : undefined
      damage = await scan.read(path, number, front.spool, scan.segments.at(-1), limit)
      if (damage !== undefined) break
      next++
    }
  }
  const { commits, marks, segments, shapes, upTo } = scan
  const last = segments.at(-1)?.number
  return {
    front,
    segments,
    upTo,
    commits,
    damage,
    marks,
    shapes,
    // Where the front says that the spool begins, should nothing of it be there.
    next: last !== undefined ? last + 1 : front.relied ? front.first : Math.max(highest + 1, front.first)
  }
}

/** Removes the segments of a folder that `keeps` doesn't keep. */
export const removeOthers = async (folder: string, keeps: (number: number) => boolean): Promise<void> => {
  for (const name of await readdir(folder)) {
    if (/^\d{12}\.segment$/.test(name) && !keeps(Number.parseInt(name, 10))) {
      await rm(join(folder, name), { force: true })
    }
  }
}

export const remove = ({ path }: Segment): Promise<void> => rm(path, { force: true })

/** Has the disk hold segments of earlier runs. */
export const syncSegments = async (folder: string, segments: ReadonlyArray<Segment>): Promise<void> => {
  for (const { path } of segments) {
    const handle = await openFile(path, "r+")
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  }
  await syncFolder(folder)
}

export { syncFolder }
