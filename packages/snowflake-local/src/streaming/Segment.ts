/**
 * Accepted rows that wait for their commit: one spool file of a channel, and what must be known to commit it.
 *
 * Rows go to a file rather than the heap, so a client that is ahead of the commits costs disk. The file's name says which appends it holds; a file
 * that is left after a crash tells that accepted rows were lost.
 */
import { closeSync, ftruncateSync, mkdirSync, openSync, readdirSync, rmSync, writeSync } from "node:fs"
import { join } from "node:path"
import type { Column, Table } from "../Catalog.ts"
import * as ColumnConversion from "./ColumnConversion.ts"
import * as NdjsonRows from "./NdjsonRows.ts"

/** One accepted append: where its rows begin in the segment, and the offset token that its commit sets. */
export interface Append {
  readonly firstRow: number
  readonly offsetToken: string | null
}

/** Rejected rows that are kept with their content; all of them are counted. */
export const maxErrorRows = 200
const maxErrorBytes = 64 << 10

export class Segment {
  readonly file: string
  readonly tableId: string
  readonly columns: ReadonlyArray<Column>
  readonly layout: NdjsonRows.RowLayout
  readonly clientSequencer: number
  readonly firstRowSequencer: number
  readonly openedAt: number
  readonly appends: Array<Append> = []
  readonly errors: Array<{
    readonly row: number
    readonly message: string
    readonly data: string
    readonly source?: string | undefined
  }> = []
  rows = 0
  rejected = 0
  bytes = 0
  /** Bytes of the largest append, which bound the longest line that DuckDB has to read. */
  longestAppend = 0
  private descriptor: number | undefined

  constructor(options: {
    readonly folder: string
    readonly channelId: number
    readonly clientSequencer: number
    readonly rowSequencer: number
    readonly table: Table
    readonly now: number
  }) {
    this.file = join(options.folder, `${options.channelId}-${options.clientSequencer}-${options.rowSequencer}.ndjson`)
    this.tableId = options.table.id
    this.columns = options.table.columns
    this.layout = NdjsonRows.layout(options.table.columns.map((column) => ({
      name: column.name,
      holds: ColumnConversion.holds(column.type),
      hasDefault: column.default !== undefined
    })))
    this.clientSequencer = options.clientSequencer
    this.firstRowSequencer = options.rowSequencer
    this.openedAt = options.now
    this.descriptor = openSync(this.file, "w")
  }

  /** Whether rows of `table` as it is now can join the segment. */
  fits(table: Table): boolean {
    return this.tableId === table.id && this.columns === table.columns
  }

  get rowSequencer(): number {
    return this.firstRowSequencer + this.appends.length
  }

  /** Takes the rows of an encoded body: `spool` holds the good ones, `body` the bytes that rejected rows lie in. */
  append(
    encoded: Extract<NdjsonRows.Encoded, { readonly _tag: "Rows" }>,
    spool: NdjsonRows.SpoolBuffer,
    body: Uint8Array,
    offsetToken: string | null
  ): void {
    const descriptor = this.descriptor
    if (descriptor === undefined) throw new Error("a sealed segment takes no rows")
    // Each write says where, so that what a failed append left behind is written over by the next one.
    for (let written = 0; written < spool.length;) {
      written += writeSync(descriptor, spool.bytes, written, spool.length - written, this.bytes + written)
    }
    for (const { end, message, row, start } of encoded.rejected) {
      // The newest stays, for it is what the channel's status shows.
      if (this.errors.length >= maxErrorRows) this.errors.pop()
      const data = Buffer.from(body.subarray(start, Math.min(end, start + maxErrorBytes))).toString("utf8")
      this.errors.push({ row, message, data })
    }
    this.appends.push({ firstRow: this.rows, offsetToken })
    this.rows += encoded.rows
    this.rejected += encoded.rejected.length
    this.bytes += spool.length
    this.longestAppend = Math.max(this.longestAppend, spool.length)
  }

  /** The offset token that committing the segment sets; undefined when no append brought one. */
  get offsetToken(): string | undefined {
    for (let index = this.appends.length - 1; index >= 0; index--) {
      const token = this.appends[index]?.offsetToken
      if (token !== null && token !== undefined) return token
    }
    return undefined
  }

  /** The offset token of the append that a row came with. */
  offsetTokenOf(row: number): string | null {
    let low = 0
    let high = this.appends.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((this.appends[middle]?.firstRow ?? 0) <= row) low = middle
      else high = middle - 1
    }
    return this.appends[low]?.offsetToken ?? null
  }

  /** No more rows: the file can be read. */
  seal(): void {
    if (this.descriptor !== undefined) {
      ftruncateSync(this.descriptor, this.bytes)
      closeSync(this.descriptor)
    }
    this.descriptor = undefined
  }

  get sealed(): boolean {
    return this.descriptor === undefined
  }

  /** Committed or given up: the file goes. */
  discard(): void {
    this.seal()
    rmSync(this.file, { force: true })
  }
}

/** Which appends a left-over spool file held; undefined for a file of another kind. */
const parseFile = (
  name: string
): { readonly channelId: number; readonly clientSequencer: number; readonly rowSequencer: number } | undefined => {
  const [, channelId, clientSequencer, rowSequencer] = /^(\d+)-(\d+)-(\d+)\.ndjson$/.exec(name) ?? []
  if (channelId === undefined || clientSequencer === undefined || rowSequencer === undefined) return undefined
  return { channelId: Number(channelId), clientSequencer: Number(clientSequencer), rowSequencer: Number(rowSequencer) }
}

type LeftOver = NonNullable<ReturnType<typeof parseFile>>

/** The appends whose spool files were left in `folder` by a crash, by channel id; makes the folder when there is none. */
export const lostAppends = (folder: string): ReadonlyMap<number, ReadonlyArray<LeftOver>> => {
  mkdirSync(folder, { recursive: true })
  const found = new Map<number, Array<LeftOver>>()
  for (const name of readdirSync(folder)) {
    const file = parseFile(name)
    if (file !== undefined) found.set(file.channelId, [...(found.get(file.channelId) ?? []), file])
  }
  return found
}
