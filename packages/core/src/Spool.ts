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
 *
 * The segments on disk are `SpoolStore`'s, the place up to which they were given on `SpoolReading`'s, and whether spooling is wanted `SpoolWatch`'s.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { Conditions } from "./Condition.ts"
import type { ConnectorError } from "./ConnectorError.ts"
import type { Element } from "./Element.ts"
import { tableOf } from "./Element.ts"
import * as SpoolFiles from "./SpoolFiles.ts"
import * as SpoolReading from "./SpoolReading.ts"
import * as SpoolRecord from "./SpoolRecord.ts"
import * as SpoolSegment from "./SpoolSegment.ts"
import * as SpoolStore from "./SpoolStore.ts"
import * as SpoolTrouble from "./SpoolTrouble.ts"
import * as SpoolWatch from "./SpoolWatch.ts"
import { type TableId, tableId } from "./TableSchema.ts"

export { fullCondition, spoolingCondition } from "./SpoolWatch.ts"

export type Taken = SpoolReading.Taken

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
  const { acknowledged, pipeline, settings } = options
  const { directory, maxBytes } = settings
  const every = Duration.fromInputUnsafe(settings.every ?? "200 millis")
  const io = SpoolTrouble.io(directory)

  const found = yield* io(() => SpoolFiles.find(directory, pipeline))
  yield* io(() => SpoolFiles.syncSegments(directory, found.segments))
  if (found.damage !== undefined) {
    yield* Effect.logWarning(`The spool isn't as it was left: ${found.damage}`).pipe(
      Effect.annotateLogs({ directory, hint: "Whether anything is missing because of that, the source finds out." })
    )
  }
  const exclusive = Semaphore.makeUnsafe(1)
  const changed = Latch.makeUnsafe(false)
  const look = () => void changed.openUnsafe()
  const store = SpoolStore.make({
    directory,
    pipeline,
    maxBytes,
    acknowledged,
    found,
    appended: (appended) => reading.appended(appended)
  })
  const { bytes, segments } = store
  const reading = SpoolReading.make(directory, store.run, segments)
  const { isWanted, setFull, took, watch } = yield* SpoolWatch.make({ ...options, ...settings, changed: look })

  /** Whether changes have come, and whether a table's shape changed after that. */
  let begun = false
  let reshaped = false

  /** The highest watermark that came, and whether nothing came after it. */
  let watermark = found.upTo
  let atWatermark = true
  /** What `kept` says. */
  let counted = store.relied() ? found.upTo : 0n
  /** What the sink must have before anything here counts. */
  let base = 0n
  let bypassing = false
  /** Whether an element waits for room. */
  let blocked = false
  const copies = new Map<TableId, bigint>()

  /** What is given on from memory: during the prologue, and past the spool. */
  let direct: Element | undefined
  /** Until the source's stream has begun what is kept waits. */
  let prologue = segments().length > 0

  const allTaken = (): boolean =>
    !reading.outstanding && direct === undefined && (prologue || reading.locate() === undefined)

  /** Makes what was appended durable, and has it count. */
  const sync = Effect.gen(function*() {
    if (!isWanted() || bypassing || watermark <= counted || acknowledged() < base) return
    const target = watermark
    if (target <= acknowledged()) return
    if (!store.relied()) yield* store.rely(true)
    yield* store.sync
    counted = target
  })

  /** Removes what the sink has. */
  const trim = Effect.gen(function*() {
    const position = acknowledged()
    if (store.open() !== undefined && (bypassing || (atWatermark && position >= watermark && allTaken()))) {
      yield* store.closeFile
    }
    const open = store.open()
    const cursor = reading.cursor()
    const held = cursor?.segment
    const passed = held !== undefined && held.length === cursor?.offset && held !== open && !reading.outstanding
    const goes = (segment: SpoolSegment.Segment): boolean =>
      !prologue && segment !== open && segment.end !== undefined && position >= segment.end &&
      held !== undefined && (segment.number < held.number || (segment === held && passed))
    const staying = segments().findIndex((segment) => !goes(segment))
    const count = staying < 0 ? segments().length : staying
    if (count > 0) {
      const gone = yield* store.takeOut(count)
      const last = gone.at(-1)
      if (last !== undefined) reading.passed(last)
      yield* store.remove(gone)
      look()
    }
    if (store.relied() && position >= counted && (segments().length === 0 || !isWanted())) yield* store.rely(false)
  })

  const tend = exclusive.withPermits(1)(Effect.gen(function*() {
    yield* watch({ watermark, counted, allTaken, staysFull: () => bypassing || blocked, bytes })
    yield* sync
    yield* trim
    // Whoever waits looks again, whatever came between their last look and their waiting.
    look()
  }))

  yield* Effect.addFinalizer(() =>
    exclusive.withPermits(1)(Effect.gen(function*() {
      yield* trim
      yield* store.closeFile
      yield* io(async () => {
        await reading.close()
        await store.leave()
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
      // From here on the source has found that nothing is missing, or given up what is.
      yield* store.cleanUp
      const name = tableOf(element)
      const copy = name === undefined ? undefined : copies.get(tableId(name))
      const segment = yield* store.append(element, copy, watermark)
      if (segment === undefined) return false
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
    SpoolSegment.cover(segments(), position)
    if (position > watermark) watermark = position
    const open = store.open()
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
      return until(() => direct === undefined && !reading.outstanding)
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
    reading.skip()
    prologue = false
    look()
  }

  const put = Effect.fnUntraced(function*(element: Element) {
    if (!isPrologue(element)) begun = true
    else if (begun && element._tag === "Schema") reshaped = true
    if (prologue) {
      if (isPrologue(element)) {
        // It is on the disk for a run that comes after this one.
        if (!(yield* append(element))) return yield* SpoolTrouble.noSpace(directory)
        return yield* pass(element)
      }
      endPrologue()
    }
    if (bypassing && atWatermark && segments().length === 0 && !store.relied()) {
      bypassing = false
      base = watermark
      reading.restart()
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

  const take: Effect.Effect<Taken, ConnectorError> = Effect.gen(function*() {
    if (reading.outstanding) {
      reading.outstanding = false
      took()
      look()
    }
    while (true) {
      yield* until(() => direct !== undefined || (!prologue && reading.locate() !== undefined))
      const place = prologue ? undefined : reading.locate()
      if (place !== undefined) {
        const taken = yield* reading.read(place)
        if (taken !== undefined) return taken
        continue
      }
      const element = direct
      direct = undefined
      if (element === undefined) continue
      reading.outstanding = true
      return { element, earlier: false }
    }
  })

  return {
    id: found.front.spool,
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
        segments().every(({ run, structural }) => !structural || run !== store.run)
      if (!whole) return false
      reading.rewind()
      look()
      return true
    })),
    look,
    run: Effect.andThen(Effect.repeat(tend, Schedule.spaced(every)), Effect.never)
  }
})
