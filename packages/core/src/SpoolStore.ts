/**
 * A spool's segments on disk: appending to them, making durable what was appended, and removing what the sink has.
 *
 * Not for calls at the same time.
 */
import * as Effect from "effect/Effect"
import type { ConnectorError } from "./ConnectorError.ts"
import * as DurableFolder from "./DurableFolder.ts"
import type { Element } from "./Element.ts"
import * as SpoolFiles from "./SpoolFiles.ts"
import type { Appended } from "./SpoolReading.ts"
import * as SpoolRecord from "./SpoolRecord.ts"
import * as SpoolSegment from "./SpoolSegment.ts"
import * as SpoolTrouble from "./SpoolTrouble.ts"

export interface Options {
  readonly directory: string
  readonly pipeline: string
  readonly maxBytes: number
  readonly acknowledged: () => bigint
  readonly found: SpoolFiles.Found
  /** Called when an element has been appended, before anything else sees it. */
  readonly appended: (appended: Appended) => void
}

export interface SpoolStore {
  /** Tells what this run writes from what others wrote. */
  readonly run: string
  readonly segments: () => ReadonlyArray<SpoolSegment.Segment>
  /** The segment that is appended to. */
  readonly open: () => SpoolSegment.Segment | undefined
  /** Whether the source may have been told that what is here is safe. */
  readonly relied: () => boolean
  readonly bytes: () => number
  readonly closeFile: Effect.Effect<void, ConnectorError>
  readonly rely: (relied: boolean) => Effect.Effect<void, ConnectorError>
  readonly sync: Effect.Effect<void, ConnectorError>
  /** Takes out the first `count` segments, and gives them: they count no more, but their files are still there. */
  readonly takeOut: (
    count: number
  ) => Effect.Effect<ReadonlyArray<SpoolSegment.Segment>, ConnectorError>
  readonly remove: (gone: ReadonlyArray<SpoolSegment.Segment>) => Effect.Effect<void, ConnectorError>
  /** Removes what earlier runs left behind that isn't needed, before the first element is appended. */
  readonly cleanUp: Effect.Effect<void, ConnectorError>
  /**
   * Appends an element, and gives the segment that it is in; undefined when there is no room for it on the disk. `copy`: the position of the copy of its
   * table; `watermark`: where a segment that is begun for it begins.
   */
  readonly append: (
    element: Element,
    copy: bigint | undefined,
    watermark: bigint
  ) => Effect.Effect<SpoolSegment.Segment | undefined, ConnectorError>
  /** Removes everything unless the source relies on it. */
  readonly leave: () => Promise<void>
}

const largestSegment = 64 * 1024 * 1024

export const make = ({ acknowledged, appended, directory, found, maxBytes, pipeline }: Options): SpoolStore => {
  const segmentBytes = Math.min(largestSegment, Math.max(1, Math.floor(maxBytes / 8)))
  const io = SpoolTrouble.io(directory)
  const { spool } = found.front
  const run = crypto.randomUUID()
  let segments: Array<SpoolSegment.Segment> = [...found.segments]
  let nextNumber = found.next
  let file: SpoolSegment.SegmentFile | undefined
  let relied = found.front.relied
  let durableNoted = found.front.durable
  /** Segments of this run that are closed and may not be on the disk yet. */
  let unsynced: Array<SpoolSegment.Segment> = []
  let newNames = false
  let cleaned = false

  const closeFile = Effect.suspend(() => {
    const open = file
    file = undefined
    if (open === undefined) return Effect.void
    unsynced.push(open.segment)
    return io(() => open.close())
  })

  const writeFront = (change: Partial<SpoolFiles.Front>) =>
    Effect.suspend(() => {
      const front: SpoolFiles.Front = {
        version: 1,
        pipeline,
        spool,
        first: segments[0]?.number ?? nextNumber,
        durable: acknowledged() > durableNoted ? acknowledged() : durableNoted,
        relied,
        ...change
      }
      return Effect.tap(io(() => SpoolFiles.writeFront(directory, front)), () =>
        Effect.sync(() => {
          relied = front.relied
          durableNoted = front.durable
        }))
    })

  const sync = Effect.gen(function*() {
    const closed = unsynced
    unsynced = []
    const open = file
    yield* io(async () => {
      await SpoolFiles.syncSegments(directory, closed)
      await open?.sync()
      if (newNames) await DurableFolder.synchronise(directory)
    })
    newNames = false
  })

  const cleanUp = Effect.suspend(() => {
    if (cleaned) return Effect.void
    const kept = new Set(segments.map(({ number }) => number))
    return Effect.tap(
      io(() => SpoolFiles.removeOthers(directory, (number) => kept.has(number))),
      () =>
        Effect.sync(() => {
          cleaned = true
        })
    )
  })

  const append = Effect.fnUntraced(function*(element: Element, copy: bigint | undefined, watermark: bigint) {
    if (file !== undefined && file.segment.length >= segmentBytes) yield* closeFile
    const before = segments.at(-1)
    return yield* Effect.uninterruptible(Effect.tryPromise({
      try: async () => {
        if (file === undefined) {
          const header: SpoolRecord.Header = {
            version: 1,
            pipeline,
            spool,
            run,
            number: nextNumber,
            previous: before === undefined ? null : { number: before.number, length: before.length }
          }
          file = await SpoolSegment.SegmentFile.create(directory, header, watermark)
          nextNumber++
          newNames = true
          segments.push(file.segment)
        }
        const { segment } = file
        const start = segment.length
        await file.append(
          SpoolRecord.schemaOf(element),
          (table) => SpoolRecord.element(element, table, copy)
        )
        appended({ segment, start, end: segment.length, element })
        return segment
      },
      catch: (cause) => cause
    })).pipe(
      Effect.catch((cause) =>
        SpoolTrouble.isTooLarge(cause) ? Effect.undefined : Effect.fail(SpoolTrouble.from(directory, cause))
      )
    )
  })

  return {
    run,
    segments: () => segments,
    open: () => file?.segment,
    relied: () => relied,
    bytes: () => segments.reduce((sum, { length }) => sum + length, 0),
    closeFile,
    rely: (relied) => writeFront({ relied }),
    sync,
    takeOut: Effect.fnUntraced(function*(count) {
      const gone = segments.slice(0, count)
      if (relied) yield* writeFront({ first: segments[count]?.number ?? nextNumber })
      segments = segments.slice(count)
      unsynced = unsynced.filter((segment) => !gone.includes(segment))
      return gone
    }),
    remove: (gone) =>
      io(async () => {
        for (const segment of gone) await SpoolFiles.remove(segment)
      }),
    cleanUp,
    append,
    leave: async () => {
      // Nothing stands on what is left, and it holds values of rows.
      if (!relied && cleaned) await SpoolFiles.removeOthers(directory, () => false)
    }
  }
}
