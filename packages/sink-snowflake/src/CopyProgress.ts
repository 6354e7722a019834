/**
 * How far a copy is in this run: chunks whose rows are coming, with the file that each is written to, files that wait to be loaded, chunks that wait to be recorded with them, and
 * chunks that are durable.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { Chunk, Chunks } from "./ChunkTable.ts"
import type { File } from "./EncodingPool.ts"

/** A COPY is run for about this much: Snowflake loads the files of one statement in parallel. */
const copyBytes = 256 << 20
/** Most file names that a COPY may list. */
export const copyFiles = 1000
/** Most chunks that have ended and wait for their rows to be loaded. */
const copyChunks = 1000

export interface StagedFile {
  readonly name: string
  readonly position: bigint
  readonly rows: number
  readonly bytes: number
}

/** A file that rows are appended to. */
export interface GrowingFile {
  readonly rows: File
  /** Ends with the file. */
  readonly scope: Scope.Closeable
  /** Its bytes and rows so far. */
  bytes: number
  count: number
}

/** A chunk whose rows are coming. */
export interface OpenChunk {
  readonly number: number
  readonly position: bigint
  /** The file that its rows go to at the moment. */
  file: GrowingFile | undefined
  /** Its files so far, each while it is uploaded or after. */
  readonly uploads: Array<Fiber.Fiber<StagedFile, ConnectorError.ConnectorError>>
  /** How many files it has had. */
  sealed: number
  rows: number
  /** How many of its rows have a value, by column. */
  filled: ReadonlyArray<number>
}

export interface Identity {
  readonly id: string
  readonly run: string
  /** Where this run stages its files. */
  readonly folder: string
  readonly position: bigint
  readonly plan: string | undefined
}

export class CopyProgress {
  readonly identity: Identity
  readonly open = new Map<number, OpenChunk>()
  readonly durable: Map<number, Chunk>
  /** Files that may be loaded, and chunks that may be recorded with them. */
  files: Array<StagedFile> = []
  ended = new Map<number, Chunk>()
  /** Position of the first chunk that came. */
  private snapshot: bigint | undefined
  private bytes = 0
  /** When the first of them came. */
  private waitingSince: number | undefined
  /** Rows so far: each gets a number of its own. */
  staged = 0

  constructor(identity: Identity, durable: Chunks) {
    this.identity = identity
    this.durable = new Map(durable)
  }

  /**
   * The chunk `number`, read at `position`; undefined when it has ended before, or doesn't belong to this copy. `single`: all chunks are to be of one
   * snapshot.
   */
  chunk(number: number, position: bigint, single: boolean): OpenChunk | undefined {
    if (this.durable.has(number) || this.ended.has(number) || position < this.identity.position) return undefined
    this.snapshot ??= position
    if (single && position !== this.snapshot) return undefined
    let chunk = this.open.get(number)
    if (chunk === undefined) {
      chunk = { number, position, file: undefined, uploads: [], sealed: 0, rows: 0, filled: [] }
      this.open.set(number, chunk)
    }
    return chunk.position === position ? chunk : undefined
  }

  end({ filled, number, position, rows }: OpenChunk): void {
    this.open.delete(number)
    this.ended.set(number, { position, rows, filled })
  }

  /** Lets files be loaded; true when enough wait, or some that complete a chunk have waited for `everyMillis`. */
  release(files: ReadonlyArray<StagedFile>, now: number, everyMillis: number): boolean {
    for (const file of files) {
      this.files.push(file)
      this.bytes += file.bytes
    }
    this.waitingSince ??= now
    return this.bytes >= copyBytes || this.files.length >= copyFiles || this.ended.size >= copyChunks ||
      (this.ended.size > 0 && now - this.waitingSince >= everyMillis)
  }

  /** Everything released is loaded and recorded. */
  loaded(): void {
    for (const [number, chunk] of this.ended) this.durable.set(number, chunk)
    this.ended = new Map()
    this.files = []
    this.bytes = 0
    this.waitingSince = undefined
  }

  /** Position of the latest snapshot of a durable chunk. */
  get copiedTo(): bigint {
    let latest = this.identity.position
    for (const { position } of this.durable.values()) if (position > latest) latest = position
    return latest
  }
}
