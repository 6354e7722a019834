/**
 * How far a spool has been given on: the place in its segments, and reading what comes after it.
 *
 * The element that was appended last is given on from memory; all others are read from disk.
 */
import * as Effect from "effect/Effect"
import type { ConnectorError } from "./ConnectorError.ts"
import type { Element } from "./Element.ts"
import * as SpoolRecord from "./SpoolRecord.ts"
import * as SpoolSegment from "./SpoolSegment.ts"
import * as SpoolTrouble from "./SpoolTrouble.ts"

/** An element in its turn; `earlier`: an earlier run took it from the source. */
export interface Taken {
  readonly element: Element
  readonly earlier: boolean
}

/** Where a record begins. */
export interface Place {
  readonly segment: SpoolSegment.Segment
  readonly offset: number
}

/** Where an element was appended. */
export interface Appended {
  readonly segment: SpoolSegment.Segment
  readonly start: number
  readonly end: number
  readonly element: Element
}

export interface SpoolReading {
  /** Whether the element that was given on last may still be on its way to whoever took it. */
  outstanding: boolean
  /** The place in the segments up to which everything was taken; undefined before the first was. */
  readonly cursor: () => Place | undefined
  /** The place of the next record that wasn't taken; undefined when there is none. */
  readonly locate: () => Place | undefined
  readonly appended: (appended: Appended) => void
  /** What was appended until now was given on when it came: how the source's stream begins. */
  readonly skip: () => void
  /** The segments are gone, and the spool begins anew. */
  readonly restart: () => void
  /** Everything in the segments comes once more. */
  readonly rewind: () => void
  /** Segments up to this one go. */
  readonly passed: (last: SpoolSegment.Segment) => void
  /** Gives the element at `place`, where reading is, which is outstanding then; undefined when the record is none. */
  readonly read: (place: Place) => Effect.Effect<Taken | undefined, ConnectorError>
  readonly close: () => Promise<void>
}

/** @param run The run that appends to `segments`. */
export const make = (
  directory: string,
  run: string,
  segments: () => ReadonlyArray<SpoolSegment.Segment>
): SpoolReading => {
  const io = SpoolTrouble.io(directory)
  /** Where reading goes on after what earlier runs left behind. */
  let resume: Place | undefined
  let cursor: Place | undefined
  let latest: Appended | undefined
  let reader: { readonly segment: SpoolSegment.Segment; readonly records: SpoolSegment.RecordReader } | undefined

  const startOf = (segment: SpoolSegment.Segment): number => {
    if (resume === undefined || segment.run !== run || segment.number > resume.segment.number) {
      return SpoolSegment.firstRecord
    }
    // The prologue was given on when it came.
    return segment === resume.segment ? resume.offset : segment.length
  }

  const locate = (): Place | undefined => {
    for (;;) {
      if (cursor === undefined) {
        const [first] = segments()
        if (first === undefined) return undefined
        cursor = { segment: first, offset: startOf(first) }
      }
      const { offset, segment } = cursor
      if (offset < segment.length) return cursor
      const next = segments().find(({ number }) => number > segment.number)
      if (next === undefined) return undefined
      cursor = { segment: next, offset: startOf(next) }
    }
  }

  const readerOf = Effect.fnUntraced(function*(segment: SpoolSegment.Segment) {
    if (reader?.segment === segment) return reader.records
    return yield* io(async () => {
      const old = reader?.records
      reader = undefined
      await old?.close()
      const records = await SpoolSegment.RecordReader.open(segment.path)
      reader = { segment, records }
      return records
    })
  })

  const reading: SpoolReading = {
    outstanding: false,
    cursor: () => cursor,
    locate,
    appended: (appended) => void (latest = appended),
    skip: () => void (resume = latest === undefined ? undefined : { segment: latest.segment, offset: latest.end }),
    restart: () => {
      latest = undefined
      cursor = undefined
    },
    rewind: () => {
      cursor = undefined
      resume = undefined
      reading.outstanding = false
    },
    passed: ({ number }) => {
      if (cursor !== undefined && cursor.segment.number <= number) cursor = undefined
    },
    read: Effect.fnUntraced(function*({ offset, segment }) {
      if (latest?.segment === segment && latest.start === offset) {
        const { element, end } = latest
        cursor = { segment, offset: end }
        reading.outstanding = true
        return { element, earlier: false }
      }
      const records = yield* readerOf(segment)
      const record = yield* io(() => records.read(offset, segment.length))
      if (record === undefined) return yield* SpoolTrouble.spoiled(directory)
      const decoded = yield* Effect.try({
        try: () => SpoolRecord.decode(record.payload, segment.tables),
        catch: () => SpoolTrouble.spoiled(directory)
      })
      cursor = { segment, offset: record.next }
      if (decoded._tag !== "Element") return undefined
      reading.outstanding = true
      return { element: decoded.element, earlier: segment.run !== run }
    }),
    close: async () => await reader?.records.close()
  }
  return reading
}
