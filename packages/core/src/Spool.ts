/**
 * Keeps what a source emits on local disk until the sink has it, so that the source can be told that it is safe before the sink says so.
 *
 * Every element is appended to the spool (`SpoolFiles`) before it is given on, and given on in the same order: from memory while the sink keeps up, from
 * disk otherwise. Nothing can overtake anything, as there is one queue. While spooling isn't wanted the source is read as fast as the
 * sink takes, as without a spool, and nothing waits for the disk; from the moment it is wanted the source is read on, what was appended is made durable, and `kept` tells up to where: since
 * everything that the sink may still lose is in the spool, that holds at once. A segment goes when the sink has all of it.
 *
 * Where the disk doesn't suffice the source waits for the sink again. What doesn't fit at all, such as a transaction larger than the
 * spool, passes beside it (`bypass`), once all that came before was given on; the spool begins anew when the sink has everything up to there.
 *
 * What an earlier run left behind is given on first, after the elements by which the source's stream begins (its prologue): what the source says
 * of tables before it says anything of changes holds for those that were kept, too.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as ByteSize from "./ByteSize.ts"
import type { Conditions } from "./Condition.ts"
import { ConnectorError } from "./ConnectorError.ts"
import type { Element } from "./Element.ts"
import { tableOf } from "./Element.ts"
import * as SpoolFiles from "./SpoolFiles.ts"
import * as SpoolRecord from "./SpoolRecord.ts"
import * as SpoolSegment from "./SpoolSegment.ts"
import { type TableId, tableId } from "./TableSchema.ts"

export interface Settings {
  /** Folder of the pipeline's spool, of no other's. */
  readonly directory: string
  /** Bytes that it may take. */
  readonly maxBytes: number
  /** `asked`: spooling begins and ends when it is asked for; `stalled`: also by itself while the sink makes no progress. */
  readonly when: "asked" | "stalled"
  /** How long the sink may make no progress before spooling begins by itself. */
  readonly after: Duration.Input
  /** How often the files are looked after, 200 ms by default: what was appended is durable at the latest so much later, when it is wanted. */
  readonly every?: Duration.Input
}

export interface Options {
  readonly pipeline: string
  readonly settings: Settings
  readonly conditions: Conditions
  /** Up to where everything is durable at the sink. Never goes back. */
  readonly acknowledged: () => bigint
  /** Whether spooling is asked for. */
  readonly asked: () => boolean
  /** Called when spooling begins or ends. */
  readonly spooling: (now: boolean) => void
}

/** An element in its turn; `earlier`: an earlier run took it from the source. */
export interface Taken {
  readonly element: Element
  readonly earlier: boolean
}

export interface Spool {
  /** Tells this spool from every other, over all runs. */
  readonly id: string
  /** What earlier runs left behind. */
  readonly found: SpoolFiles.Found
  /** Up to where everything is durable here or at the sink, so that it may be confirmed to the source; 0 when nothing here counts. */
  readonly kept: () => bigint
  readonly isSpooling: () => boolean
  /** Bytes on disk. */
  readonly bytes: () => number
  /** The position of the copy that a table has before the stream begins. */
  readonly copied: (table: TableId, position: bigint) => void
  /** Takes the source's next element; returns when the one after it may be pulled. */
  readonly put: (element: Element) => Effect.Effect<void, ConnectorError>
  /** To be called when the source has come to its end: what earlier runs left behind waits for nothing any more. */
  readonly end: () => void
  /** The next element in order; the one before counts as given on. */
  readonly take: Effect.Effect<Taken, ConnectorError>
  /** Waits until everything that was put has been given on. */
  readonly drained: Effect.Effect<void>
  /** Gives everything that the sink may lack once more, from now on; false when that isn't all here, or more than changes. */
  readonly rewind: Effect.Effect<boolean>
  /** To be called when what `acknowledged` or `asked` says has changed. */
  readonly look: () => void
  /** Looks after the files until it is interrupted. */
  readonly run: Effect.Effect<never, ConnectorError>
}

const plugin = "@etl-stream/core"
const largestSegment = 64 * 1024 * 1024

export const spoolingCondition = "spooling"
export const fullCondition = "spool-full"

const codeOf = (cause: unknown): string | undefined =>
  cause instanceof Error && "code" in cause ? String(cause.code) : undefined

const noRoom = new Set(["ENOSPC", "EDQUOT", "EFBIG"])
const forbidden = new Set(["EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST", "ELOOP", "ENAMETOOLONG"])

const trouble = (directory: string, cause: unknown): ConnectorError => {
  const code = codeOf(cause)
  return code !== undefined && forbidden.has(code)
    ? new ConnectorError({
      reason: "Misconfigured",
      plugin,
      message: `The spool in ${directory} can't be used: ${code}`,
      hint: "Set spool.directory to a folder that this process may write and nobody else uses."
    })
    : new ConnectorError({
      reason: "Unreachable",
      plugin,
      message: `The spool in ${directory} can't be read or written: ${code ?? "unknown error"}`,
      hint: "See what troubles the disk; the pipeline tries again by itself."
    })
}

/** Something that was read and found whole when the run began isn't any more. */
const spoiled = (directory: string): ConnectorError =>
  new ConnectorError({
    reason: "Fenced",
    plugin,
    message: `The spool in ${directory} was changed while it was in use`,
    hint: "The pipeline starts again by itself, and sees whether anything is missing."
  })

const isPrologue = ({ _tag }: Element): boolean =>
  _tag !== "Rows" && _tag !== "Truncate" && _tag !== "Watermark" && _tag !== "Message"

/** Bytes that an element takes, roughly and rather too many. */
const sizeOf = (element: Element): number => {
  const columns = SpoolRecord.schemaOf(element)?.columns.length ?? 0
  if ("batch" in element) return element.batch.bytes + columns * 64 + 1024
  return 1024 + columns * 128 + (element._tag === "Message" ? element.content.length * 2 : 0)
}

/** Opens the spool; its files are closed with the scope. */
export const open = Effect.fn("Spool.open")(function*(
  options: Options
): Effect.fn.Return<Spool, ConnectorError, Scope.Scope> {
  const { acknowledged, conditions, pipeline, settings } = options
  const { directory, maxBytes, when } = settings
  const segmentBytes = Math.min(largestSegment, Math.max(1, Math.floor(maxBytes / 8)))
  const every = Duration.fromInputUnsafe(settings.every ?? "200 millis")
  const after = Duration.toMillis(Duration.fromInputUnsafe(settings.after))
  const clock = yield* Clock.Clock
  const io = <A>(call: () => Promise<A>): Effect.Effect<A, ConnectorError> =>
    // A call that is left alone would go on beside what comes after it.
    Effect.uninterruptible(Effect.tryPromise({ try: call, catch: (cause) => trouble(directory, cause) }))

  const found = yield* io(() => SpoolFiles.find(directory, pipeline))
  yield* io(() => SpoolFiles.syncSegments(directory, found.segments))
  if (found.damage !== undefined) {
    yield* Effect.logWarning(`The spool isn't as it was left: ${found.damage}`).pipe(
      Effect.annotateLogs({ directory, hint: "Whether anything is missing because of that, the source finds out." })
    )
  }
  const id = found.front.spool
  const run = crypto.randomUUID()
  const exclusive = Semaphore.makeUnsafe(1)
  const changed = Latch.makeUnsafe(false)
  const look = () => void changed.openUnsafe()

  let segments: Array<SpoolSegment.Segment> = [...found.segments]
  let nextNumber = found.next
  let file: SpoolSegment.SegmentFile | undefined
  let relied = found.front.relied
  let durableNoted = found.front.durable
  /** Segments of this run that are closed and may not be on the disk yet. */
  let unsynced: Array<SpoolSegment.Segment> = []
  let newNames = false
  let cleaned = false
  /** Whether changes have come, and whether a table's shape changed after that. */
  let begun = false
  let reshaped = false

  /** The highest watermark that came, and whether nothing came after it. */
  let watermark = found.upTo
  let atWatermark = true
  /** What `kept` says. */
  let counted = relied ? found.upTo : 0n
  /** What the sink must have before anything here counts. */
  let base = 0n
  let bypassing = false
  let full = false
  /** Whether an element waits for room. */
  let blocked = false
  let stalled = false
  let movedAt = clock.currentTimeMillisUnsafe()
  let seen = acknowledged()
  let told = false
  /** How many elements were taken. */
  let taken = 0
  let takenBefore = 0
  const copies = new Map<TableId, bigint>()

  /** What is given on from memory: during the prologue, and past the spool. */
  let direct: Element | undefined
  /** Until the source's stream has begun what is kept waits. */
  let prologue = segments.length > 0
  /** Where reading goes on after what earlier runs left behind. */
  let resume: { readonly segment: SpoolSegment.Segment; readonly offset: number } | undefined
  /** The place in the segments up to which everything was taken. */
  let cursor: { segment: SpoolSegment.Segment; offset: number } | undefined
  /** Whether the element that was taken last may still be on its way to whoever took it. */
  let outstanding = false
  let latest: { segment: SpoolSegment.Segment; start: number; end: number; element: Element } | undefined
  let reader: { segment: SpoolSegment.Segment; records: SpoolSegment.RecordReader } | undefined

  const isWanted = () => options.asked() || stalled
  const bytes = () => segments.reduce((sum, { length }) => sum + length, 0)

  const startOf = (segment: SpoolSegment.Segment): number => {
    if (resume === undefined || segment.run !== run || segment.number > resume.segment.number) {
      return SpoolSegment.firstRecord
    }
    // The prologue was given on when it came.
    return segment === resume.segment ? resume.offset : segment.length
  }

  /** The place of the next record that wasn't taken; undefined when there is none. */
  const locate = (): { segment: SpoolSegment.Segment; offset: number } | undefined => {
    for (;;) {
      if (cursor === undefined) {
        const [first] = segments
        if (first === undefined) return undefined
        cursor = { segment: first, offset: startOf(first) }
      }
      const { offset, segment } = cursor
      if (offset < segment.length) return cursor
      const next = segments.find(({ number }) => number > segment.number)
      if (next === undefined) return undefined
      cursor = { segment: next, offset: startOf(next) }
    }
  }

  const allTaken = (): boolean => !outstanding && direct === undefined && (prologue || locate() === undefined)

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
        spool: id,
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

  /** Makes what was appended durable, and has it count. */
  const sync = Effect.gen(function*() {
    if (!isWanted() || bypassing || watermark <= counted || acknowledged() < base) return
    const target = watermark
    if (target <= acknowledged()) return
    if (!relied) yield* writeFront({ relied: true })
    const closed = unsynced
    unsynced = []
    const open = file
    yield* io(async () => {
      await SpoolFiles.syncSegments(directory, closed)
      await open?.sync()
      if (newNames) await SpoolFiles.syncFolder(directory)
    })
    newNames = false
    counted = target
  })

  /** Removes what the sink has. */
  const trim = Effect.gen(function*() {
    const position = acknowledged()
    if (file !== undefined && (bypassing || (atWatermark && position >= watermark && allTaken()))) yield* closeFile
    const open = file?.segment
    const held = cursor?.segment
    const passed = held !== undefined && held.length === cursor?.offset && held !== open && !outstanding
    const goes = (segment: SpoolSegment.Segment): boolean =>
      !prologue && segment !== open && segment.end !== undefined && position >= segment.end &&
      held !== undefined && (segment.number < held.number || (segment === held && passed))
    const staying = segments.findIndex((segment) => !goes(segment))
    const gone = segments.slice(0, staying < 0 ? segments.length : staying)
    if (gone.length > 0) {
      const first = segments[gone.length]?.number ?? nextNumber
      if (relied) yield* writeFront({ first })
      const last = gone.at(-1)
      segments = segments.slice(gone.length)
      unsynced = unsynced.filter((segment) => !gone.includes(segment))
      if (cursor !== undefined && last !== undefined && cursor.segment.number <= last.number) cursor = undefined
      yield* io(async () => {
        for (const segment of gone) await SpoolFiles.remove(segment)
      })
      look()
    }
    if (relied && position >= counted && (segments.length === 0 || !isWanted())) yield* writeFront({ relied: false })
  })

  const setFull = (now: boolean) =>
    Effect.suspend(() => {
      if (full === now) return Effect.void
      full = now
      return now
        ? conditions.raise({
          name: fullCondition,
          severity: "critical",
          message: `The spool in ${directory} is full (${
            ByteSize.format(maxBytes)
          }, or the disk): the source is read only as fast as the sink takes changes`,
          hint: "Give the disk room and raise spool.maxBytes, or see to it that the sink takes changes again."
        })
        : conditions.clear(fullCondition)
    })

  /** Finds out whether the sink makes progress, and tells when spooling begins or ends. */
  const watch = Effect.gen(function*() {
    const now = clock.currentTimeMillisUnsafe()
    const position = acknowledged()
    // Within a transaction nothing becomes durable, however large it is: then it counts that elements are taken.
    if (position !== seen || (position >= watermark && (allTaken() || taken !== takenBefore))) movedAt = now
    seen = position
    takenBefore = taken
    const late = now - movedAt >= after
    if (when === "stalled") {
      if (late) stalled = true
      else if (stalled && allTaken()) stalled = false
    }
    const wanted = isWanted()
    if (wanted !== told) {
      told = wanted
      options.spooling(wanted)
      look()
      if (wanted) {
        yield* conditions.raise({
          name: spoolingCondition,
          severity: "warning",
          message: options.asked()
            ? `Changes are kept on disk in ${directory}, as was asked`
            : `Changes are kept on disk in ${directory}, because the sink makes no progress`,
          hint:
            "Keep that folder until the sink has caught up: the source may have been told that what is in it is safe."
        })
      }
    }
    if (!wanted && counted <= position) yield* conditions.clear(spoolingCondition)
    if (full && !bypassing && !blocked && (!wanted || bytes() < maxBytes * 0.9)) yield* setFull(false)
  })

  const tend = exclusive.withPermits(1)(Effect.gen(function*() {
    yield* watch
    yield* sync
    yield* trim
    // Whoever waits looks again, whatever came between their last look and their waiting.
    look()
  }))

  yield* Effect.addFinalizer(() =>
    exclusive.withPermits(1)(Effect.gen(function*() {
      yield* trim
      yield* closeFile
      const records = reader?.records
      yield* io(async () => {
        await records?.close()
        // Nothing stands on what is left, and it holds values of rows.
        if (!relied && cleaned) await SpoolFiles.removeOthers(directory, () => false)
      })
    })).pipe(Effect.ignore)
  )

  /** Waits until `holds`. */
  const until = (holds: () => boolean) =>
    Effect.gen(function*() {
      while (true) {
        changed.closeUnsafe()
        if (holds()) return
        yield* changed.await
      }
    })

  /** Appends an element; false when there is no room for it on the disk. */
  const append = (element: Element): Effect.Effect<boolean, ConnectorError> =>
    exclusive.withPermits(1)(Effect.gen(function*() {
      if (!cleaned) {
        // From here on the source has found that nothing is missing, or given up what is.
        const kept = new Set(segments.map(({ number }) => number))
        yield* io(() => SpoolFiles.removeOthers(directory, (number) => kept.has(number)))
        cleaned = true
      }
      if (file !== undefined && file.segment.length >= segmentBytes) yield* closeFile
      const before = segments.at(-1)
      const name = tableOf(element)
      const copy = name === undefined ? undefined : copies.get(tableId(name))
      const stored = yield* Effect.uninterruptible(Effect.tryPromise({
        try: async () => {
          if (file === undefined) {
            const header: SpoolRecord.Header = {
              version: 1,
              pipeline,
              spool: id,
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
          latest = { segment, start, end: segment.length, element }
          return true
        },
        catch: (cause) => cause
      })).pipe(Effect.catch((cause) => {
        const code = codeOf(cause)
        return cause instanceof RangeError || (code !== undefined && noRoom.has(code))
          ? Effect.succeed(false)
          : Effect.fail(trouble(directory, cause))
      }))
      if (!stored || file === undefined) return false
      const { segment } = file
      SpoolSegment.note(segment, element._tag)
      if (element._tag === "SnapshotBegin" && name !== undefined) copies.set(tableId(name), element.position)
      if (element._tag !== "Watermark") segment.end = undefined
      noteWatermark(element)
      return true
    }))

  const noteWatermark = (element: Element): void => {
    atWatermark = element._tag === "Watermark"
    if (element._tag !== "Watermark") return
    const { position } = element
    SpoolSegment.cover(segments, position)
    if (position > watermark) watermark = position
    const open = file?.segment
    if (open !== undefined && position > open.last) {
      open.last = position
      open.end = position
    }
  }

  /** Gives an element on from memory, and waits until it was. */
  const pass = (element: Element): Effect.Effect<void> =>
    Effect.suspend(() => {
      direct = element
      look()
      return until(() => direct === undefined && !outstanding)
    })

  /** Waits for room; false when there will be none before the element has passed. */
  const room = (element: Element): Effect.Effect<boolean, ConnectorError> =>
    Effect.gen(function*() {
      const size = sizeOf(element)
      const fits = () => bytes() + size <= maxBytes
      while (true) {
        // As without a spool: the sink's pace is the source's.
        if (!isWanted()) {
          yield* until(() => isWanted() || allTaken())
          if (!isWanted()) return fits()
          continue
        }
        if (fits()) return true
        if (allTaken()) return false
        blocked = true
        yield* setFull(true)
        yield* until(() => !isWanted() || fits() || allTaken())
        blocked = false
      }
    })

  const bypass = Effect.fnUntraced(function*(element: Element) {
    yield* until(allTaken)
    if (isWanted()) yield* setFull(true)
    noteWatermark(element)
    yield* pass(element)
  })

  const endPrologue = (): void => {
    if (!prologue) return
    resume = latest === undefined ? undefined : { segment: latest.segment, offset: latest.end }
    prologue = false
    look()
  }

  const put = Effect.fnUntraced(function*(element: Element) {
    if (!isPrologue(element)) begun = true
    else if (begun && element._tag === "Schema") reshaped = true
    if (prologue) {
      if (isPrologue(element)) {
        // It is on the disk for a run that comes after this one.
        if (!(yield* append(element))) {
          return yield* new ConnectorError({
            reason: "Throttled",
            plugin,
            message: `There is no room on the disk for the spool in ${directory}`,
            hint: "Make room; the pipeline tries again by itself."
          })
        }
        return yield* pass(element)
      }
      endPrologue()
    }
    if (bypassing && atWatermark && segments.length === 0 && !relied) {
      bypassing = false
      base = watermark
      latest = undefined
      cursor = undefined
      yield* setFull(false)
    }
    if (!bypassing) {
      while (yield* room(element)) {
        if (yield* append(element)) {
          look()
          return
        }
        // The disk is full, whatever the limit: what the sink has makes room.
        if (allTaken()) break
        yield* setFull(true)
        yield* Effect.sleep(every)
      }
      bypassing = true
      look()
    }
    yield* bypass(element)
  })

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

  const take: Effect.Effect<Taken, ConnectorError> = Effect.gen(function*() {
    if (outstanding) {
      outstanding = false
      taken++
      look()
    }
    while (true) {
      yield* until(() => direct !== undefined || (!prologue && locate() !== undefined))
      const place = prologue ? undefined : locate()
      if (place === undefined) {
        const element = direct
        direct = undefined
        if (element === undefined) continue
        outstanding = true
        return { element, earlier: false }
      }
      const { offset, segment } = place
      if (latest?.segment === segment && latest.start === offset) {
        const { element, end } = latest
        cursor = { segment, offset: end }
        outstanding = true
        return { element, earlier: false }
      }
      const records = yield* readerOf(segment)
      const record = yield* io(() => records.read(offset, segment.length))
      if (record === undefined) return yield* spoiled(directory)
      const decoded = yield* Effect.try({
        try: () => SpoolRecord.decode(record.payload, segment.tables),
        catch: () => spoiled(directory)
      })
      cursor = { segment, offset: record.next }
      if (decoded._tag !== "Element") continue
      outstanding = true
      return { element: decoded.element, earlier: segment.run !== run }
    }
  })

  return {
    id,
    found,
    kept: () => counted,
    isSpooling: isWanted,
    bytes,
    copied: (table, position) => void copies.set(table, position),
    put,
    end: endPrologue,
    take,
    drained: until(allTaken),
    rewind: exclusive.withPermits(1)(Effect.sync(() => {
      const whole = !bypassing && !prologue && !reshaped && direct === undefined && acknowledged() >= base &&
        segments.every(({ run: of, structural }) => !structural || of !== run)
      if (!whole) return false
      cursor = undefined
      resume = undefined
      outstanding = false
      look()
      return true
    })),
    look,
    run: Effect.andThen(Effect.repeat(tend, Schedule.spaced(every)), Effect.never)
  }
})
