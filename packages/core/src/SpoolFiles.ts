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
import { open as openFile, readdir, readFile, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import type { ConnectorError } from "./ConnectorError.ts"
import * as DurableFolder from "./DurableFolder.ts"
import { tableOf } from "./Element.ts"
import * as SpoolRecord from "./SpoolRecord.ts"
import { cover, firstRecord, note, type RecordAt, RecordReader, type Segment, segmentName } from "./SpoolSegment.ts"
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

const frontName = "front.json"

/** Writes where the spool begins, durably. */
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
  await DurableFolder.synchronise(folder)
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
  await DurableFolder.make(folder)
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
  await DurableFolder.synchronise(folder)
}
