/**
 * Reads the log from a position on and follows it: file after file, the last one again and again.
 *
 * It polls. `fs.watch` would be told sooner, but not always: events are lost when many come, none come from network file systems and mounted
 * volumes, and what they say of renamed files differs by system. A log that is looked at once a second is never missed, and costs a `readdir`.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as RowChange from "@etl-stream/core/RowChange"
import type { Piece } from "@etl-stream/core/RowSource"
import type { RowTable } from "@etl-stream/core/RowTable"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { BadLine, BadLines } from "./BadLines.ts"
import type { Config } from "./Config.ts"
import * as Failure from "./Failure.ts"
import * as Line from "./Line.ts"
import * as LogFiles from "./LogFiles.ts"
import { type Lines, OpenFile } from "./OpenFile.ts"
import * as Position from "./Position.ts"

/** A table and how its lines are read. */
export interface FollowedTable {
  readonly table: RowTable
  readonly decode: Line.Decode
}

export interface Options {
  readonly config: Config
  /** Absolute. */
  readonly directory: string
  readonly tables: ReadonlyMap<TableId, FollowedTable>
  readonly badLines: BadLines
  readonly from: bigint
}

type NonEmpty<A> = readonly [A, ...Array<A>]
const isNonEmpty = <A>(values: ReadonlyArray<A>): values is NonEmpty<A> => values.length > 0

/** The file that is read now. */
interface Current {
  readonly file: LogFiles.LogFile
  /** Undefined: its table can't go on, so it is passed over. */
  readonly open: OpenFile | undefined
  /** Whether a newer file was there before this one was read last. */
  closed: boolean
}

/** One reading of the log. */
class Follower {
  private readonly options: Options
  private readonly matchers: ReturnType<typeof LogFiles.matchers>
  private current: Current | undefined
  /** The file before, which must not grow any more. */
  private before: OpenFile | undefined
  private next: { readonly number: number; readonly offset: number }
  /** Numbers of all files that were ever there. */
  private readonly known = new Set<number>()
  /** A look that may be under way: what it opens is known when it is over. */
  private reading: Promise<unknown> = Promise.resolve()
  /** Tables that can't go on. */
  private readonly failed = new Set<TableId>()

  constructor(options: Options) {
    this.options = options
    this.matchers = LogFiles.matchers(options.config)
    this.next = { number: Position.fileOf(options.from), offset: Position.offsetOf(options.from) }
  }

  /** Pieces that are new; none when there is nothing new now. */
  readonly look: Effect.Effect<ReadonlyArray<Piece>, ConnectorError> = Effect.gen({ self: this }, function*() {
    for (;;) {
      // What is opened has to be closed, so it isn't interrupted on its way.
      const read = yield* Effect.result(Effect.uninterruptible(attempt(() => this.reading = this.read())))
      if (read._tag === "Failure") {
        // What concerns one table's file sets that table aside; the others go on.
        const { table } = read.failure
        if (table === undefined || this.failed.has(table)) return yield* read.failure
        return [this.fail(table, this.position() + 1n, read.failure)]
      }
      if (read.success === "nothing") return []
      if (read.success === "passed") continue
      const pieces = yield* this.pieces(read.success)
      if (pieces.length > 0) return pieces
    }
  })

  async close(): Promise<void> {
    await this.reading.catch(() => {})
    await this.current?.open?.close()
    await this.before?.close()
  }

  /** What was read last. */
  private position(): bigint {
    const { current, next } = this
    return current === undefined
      ? Position.pack(next.number, next.offset)
      : Position.pack(current.file.number, current.open?.offset ?? 0)
  }

  private async list(): Promise<ReadonlyArray<LogFiles.LogFile>> {
    const files = await LogFiles.list(this.options.directory, this.matchers)
    const reached = this.current?.file.number ?? 0
    for (const { name, number, table } of files) {
      if (number < reached && !this.known.has(number) && !this.failed.has(table)) {
        throw Failure.make(
          "Lost",
          `The file ${name} came after one with a higher number was read: its lines would be left out`,
          "Give new files higher numbers than those that are there. Rename the file, or have the table copied again to read it.",
          table
        )
      }
      this.known.add(number)
    }
    return files
  }

  /** Begins with the next file, when there is one. */
  private async begin(): Promise<Current | undefined> {
    const { number, offset } = this.next
    const files = await this.list()
    const index = files.findIndex((file) => file.number >= number)
    const file = files[index]
    if (file === undefined) return undefined
    const isSame = file.number === number
    if (!isSame && offset > 0 && this.options.config.removedFiles === "fail") {
      throw Failure.make(
        "Lost",
        `The file with the number ${number}, which was read up to byte ${offset}, isn't there any more: lines of it may be missing`,
        "Put it back. Where files are only ever removed after everything in them is at the sink, set the option removedFiles to skip."
      )
    }
    return {
      file,
      open: this.failed.has(file.table)
        ? undefined
        : await OpenFile.open(file, isSame ? offset : 0, this.options.config.maxLineBytes),
      closed: index < files.length - 1
    }
  }

  /** The next lines; `passed` when a file is over, `nothing` when the last one has no more. */
  private async read(): Promise<Lines | "passed" | "nothing"> {
    this.current ??= await this.begin()
    const { current } = this
    if (current === undefined) return "nothing"
    const { file } = current
    const open = this.failed.has(file.table) ? undefined : current.open
    const lines = await open?.next(current.closed)
    if (lines !== undefined) return lines
    if (current.closed) {
      await open?.verify(true)
      await this.before?.close()
      this.before = current.open
      this.current = undefined
      this.next = { number: file.number + 1, offset: 0 }
      return "passed"
    }
    // First whether there is a newer file, then the rest of this one: what was written before the newer one isn't missed.
    const files = await this.list()
    if (files.some(({ number }) => number > file.number)) {
      current.closed = true
      return "passed"
    }
    await open?.verify(false)
    if (this.before !== undefined && !this.failed.has(this.before.file.table)) await this.before.ended()
    return "nothing"
  }

  private fail(table: TableId, position: bigint, error: ConnectorError): Piece {
    this.failed.add(table)
    const followed = this.options.tables.get(table)
    return { position, changes: followed === undefined ? [] : [RowChange.fail(followed.table, error)] }
  }

  private pieces({ ends, lines, tooLong }: Lines): Effect.Effect<ReadonlyArray<Piece>> {
    return Effect.gen({ self: this }, function*() {
      const { badLines, config, tables } = this.options
      const { file } = this.current ?? {}
      const followed = file === undefined ? undefined : tables.get(file.table)
      if (file === undefined || followed === undefined) return []
      const pieces: Array<Piece> = []
      const bad = Effect.fnUntraced(
        { self: this },
        function*(offset: number, line: Pick<BadLine, "problem" | "bytes">) {
          const error = yield* badLines.take({ file, offset, ...line })
          if (error !== undefined) pieces.push(this.fail(file.table, Position.pack(file.number, offset), error))
          return error !== undefined
        }
      )
      for (const [index, line] of lines.entries()) {
        if (isBlank(line)) continue
        const offset = ends[index] ?? 0
        const change = followed.decode(line)
        if (!(change instanceof Line.Bad)) {
          pieces.push({ position: Position.pack(file.number, offset), changes: [change] })
        } else if (yield* bad(offset, { problem: change.problem, bytes: line })) return pieces
      }
      if (tooLong) {
        // Nothing of it is kept, and where it ends isn't known: the table can't go on.
        const offset = this.current?.open?.offset ?? 0
        yield* bad(offset + 1, { problem: `is longer than ${config.maxLineBytes} bytes`, bytes: undefined })
      }
      return pieces
    })
  }
}

const isBlank = (line: Uint8Array): boolean => line.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d)

const attempt = <A>(use: () => Promise<A>): Effect.Effect<A, ConnectorError> =>
  Effect.tryPromise({ try: use, catch: (cause) => Failure.fromFileSystem("the log", cause) })

/** Pieces of the log behind a position, without end. */
export const follow = (options: Options): Stream.Stream<Piece, ConnectorError, Scope.Scope> =>
  Stream.unwrap(
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new Follower(options)),
        (follower) => Effect.promise(() => follower.close())
      ),
      (follower) => {
        const wait = Duration.toMillis(options.config.poll)
        const more: Effect.Effect<NonEmpty<Piece>, ConnectorError> = Effect.flatMap(
          follower.look,
          (pieces) => isNonEmpty(pieces) ? Effect.succeed(pieces) : Effect.andThen(Effect.sleep(wait), more)
        )
        return Stream.flattenArray(Stream.fromEffectRepeat(more))
      }
    )
  )
