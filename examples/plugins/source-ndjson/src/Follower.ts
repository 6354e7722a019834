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

/** One reading of the log. */
class Follower {
  private readonly options: Options
  private readonly matchers: ReturnType<typeof LogFiles.matchers>
  private current: OpenFile | undefined
  /** Whether a newer file was there before the current one was read last. */
  private closed = false
  /** The file before, which must not grow any more. */
  private before: OpenFile | undefined
  private next: { readonly number: number; readonly offset: number }
  /** Numbers of all files that were ever there. */
  private readonly known = new Set<number>()
  /** Tables that can't go on: their files are passed over. */
  private readonly failed = new Set<TableId>()

  constructor(options: Options) {
    this.options = options
    this.matchers = LogFiles.matchers(options.config)
    this.next = { number: Position.fileOf(options.from), offset: Position.offsetOf(options.from) }
  }

  /** Pieces that are new; none when there is nothing new now. */
  readonly look: Effect.Effect<ReadonlyArray<Piece>, ConnectorError> = Effect.gen({ self: this }, function*() {
    for (;;) {
      const file = this.current ?? (yield* attempt(() => this.open()))
      if (file === undefined) return []
      // What concerns one table's file sets that table aside; the others go on.
      const read = yield* Effect.result(attempt(() => this.read(file)))
      if (read._tag === "Failure") {
        if (read.failure.table !== file.file.table) return yield* read.failure
        return [this.fail(file, Position.pack(file.file.number, file.offset) + 1n, read.failure)]
      }
      const lines = read.success
      if (lines === "nothing") return []
      if (lines === "passed") continue
      const pieces = yield* this.pieces(file, lines)
      if (pieces.length > 0) return pieces
    }
  })

  close(): Promise<void> {
    return Promise.all([this.current?.close(), this.before?.close()]).then(() => {})
  }

  private async list(): Promise<ReadonlyArray<LogFiles.LogFile>> {
    const files = await LogFiles.list(this.options.directory, this.matchers)
    const reached = this.current?.file.number
    for (const { name, number, table } of files) {
      if (reached !== undefined && number < reached && !this.known.has(number) && !this.failed.has(table)) {
        throw Failure.make(
          "Lost",
          `The file ${name} came after one with a higher number was read: its lines would be left out`,
          "Give new files higher numbers than those that are there. Rename the file, or have the table copied again to read it.",
          this.current?.file.table === table ? table : undefined
        )
      }
      this.known.add(number)
    }
    return files
  }

  /** Opens the next file, when there is one. */
  private async open(): Promise<OpenFile | undefined> {
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
    this.closed = index < files.length - 1
    const opened = await OpenFile.open(file, isSame ? offset : 0, this.options.config.maxLineBytes)
    this.current = opened
    return opened
  }

  /** The next lines of the current file; `passed` when it is over, `nothing` when it is the last one and has no more. */
  private async read(file: OpenFile): Promise<Lines | "passed" | "nothing"> {
    if (!this.failed.has(file.file.table)) {
      const lines = await file.next(this.closed)
      if (lines !== undefined) return lines
    }
    if (this.closed) {
      if (!this.failed.has(file.file.table)) await file.verify(true)
      await this.before?.close()
      this.before = file
      this.current = undefined
      this.next = { number: file.file.number + 1, offset: 0 }
      return "passed"
    }
    // First whether there is a newer file, then the rest of this one: what was written before the newer one isn't missed.
    const files = await this.list()
    this.closed = files.some(({ number }) => number > file.file.number)
    if (this.closed) return this.read(file)
    if (!this.failed.has(file.file.table)) await file.verify(false)
    await this.before?.ended()
    return "nothing"
  }

  private fail(file: OpenFile, position: bigint, error: ConnectorError): Piece {
    const { table } = file.file
    this.failed.add(table)
    const followed = this.options.tables.get(table)
    return { position, changes: followed === undefined ? [] : [RowChange.fail(followed.table, error)] }
  }

  private pieces(file: OpenFile, { ends, lines, tooLong }: Lines): Effect.Effect<ReadonlyArray<Piece>> {
    return Effect.gen({ self: this }, function*() {
      const { badLines, config, tables } = this.options
      const { number, table } = file.file
      const followed = tables.get(table)
      const pieces: Array<Piece> = []
      const bad = Effect.fnUntraced({ self: this }, function*(offset: number, line: Pick<BadLine, "problem" | "bytes">) {
        const error = yield* badLines.take({ file: file.file, offset, ...line })
        if (error !== undefined) pieces.push(this.fail(file, Position.pack(number, offset), error))
        return error !== undefined
      })
      for (const [index, line] of lines.entries()) {
        const offset = ends[index] ?? 0
        if (followed === undefined || isBlank(line)) continue
        const change = followed.decode(line)
        if (!(change instanceof Line.Bad)) pieces.push({ position: Position.pack(number, offset), changes: [change] })
        else if (yield* bad(offset, { problem: change.problem, bytes: line })) return pieces
      }
      if (tooLong) {
        // Nothing of it is kept, and where it ends isn't known: the table can't go on.
        yield* bad(file.offset + 1, { problem: `is longer than ${config.maxLineBytes} bytes`, bytes: undefined })
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
