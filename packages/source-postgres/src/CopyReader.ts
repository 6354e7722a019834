/**
 * Reads tables by `COPY … TO STDOUT (FORMAT binary)`, from the socket's bytes straight into Arrow columns.
 *
 * node-postgres has made the connection; then its socket is ours. The socket flows only while somebody waits for a batch, so
 * what isn't pulled stays in the kernel and, beyond that, on the server. Formats: "Message Formats" and "COPY: Binary
 * Format" in PostgreSQL's documentation.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { ChangeBatchBuilder } from "@etl-stream/core/ChangeBatchBuilder"
import type { BytesColumn } from "@etl-stream/core/ColumnBuilder"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import { tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Duplex } from "node:stream"
import type { Client } from "pg"
import * as DirectSocket from "./internal/directSocket.ts"
import { MessageBuffer } from "./internal/messageBuffer.ts"
import { copyBytes, type ValueDecoder, ValueError } from "./internal/valueDecoder.ts"
import * as PostgresError from "./PostgresError.ts"

/** How rows of one table come: the schema, and the decoder of each column in the order of the SELECT. */
export interface CopyTarget {
  readonly schema: TableSchema
  readonly decoders: ReadonlyArray<ValueDecoder>
}

/** What every row of a snapshot carries. */
export interface CopyStamp {
  /** The snapshot's position. */
  readonly position: bigint
  /** When the snapshot was taken, microseconds since 1970-01-01 UTC. */
  readonly time: bigint
}

/** A batch ends when this many bytes have come for it. */
const batchBytes = 4 << 20

const high = (value: bigint): number => Number(BigInt.asIntN(32, value >> 32n))
const low = (value: bigint): number => Number(BigInt.asIntN(32, value))

const signature = Buffer.from("PGCOPY\n\xff\r\n\0", "latin1")

const protocolError = (table: TableSchema | undefined, what: string): ConnectorError =>
  PostgresError.make(
    "Protocol",
    `copying: ${what}`,
    "Please report this with the server's version.",
    table === undefined ? undefined : tableId(table.table)
  )

/** Fields of an ErrorResponse that say what happened; the others may quote values. */
const errorOf = (bytes: Buffer, start: number, end: number): Error & { code: string } => {
  const fields = new Map<string, string>()
  for (let at = start; at < end && bytes[at] !== 0;) {
    const stop = bytes.indexOf(0, at)
    if (stop === -1 || stop >= end) break
    fields.set(String.fromCharCode(bytes[at] as number), bytes.toString("utf8", at + 1, stop)) // at < end
    at = stop + 1
  }
  return Object.assign(new Error(fields.get("M") ?? "unknown error"), { code: fields.get("C") ?? "XX000" })
}

/** The decoding of one COPY. */
class Copy {
  readonly target: CopyTarget
  readonly builder: ChangeBatchBuilder
  private readonly stamp: CopyStamp
  private readonly positionHigh: number
  private readonly positionLow: number
  private readonly timeHigh: number
  private readonly timeLow: number
  private headerSeen = false
  private trailerSeen = false
  private bytesInBatch = 0
  /** Rows since the last batch was taken. */
  rowsInBatch = 0
  rows = 0
  /** Which column is being decoded, for errors. */
  private column = 0

  constructor(target: CopyTarget, stamp: CopyStamp, builder: ChangeBatchBuilder) {
    this.target = target
    this.builder = builder
    this.stamp = stamp
    this.positionHigh = high(stamp.position)
    this.positionLow = low(stamp.position)
    this.timeHigh = high(stamp.time)
    this.timeLow = low(stamp.time)
  }

  continuing(target: CopyTarget, stamp: CopyStamp): boolean {
    return this.target === target && this.stamp === stamp
  }

  get full(): boolean {
    return this.bytesInBatch >= batchBytes && this.rowsInBatch > 0
  }

  take(): ChangeBatch.ChangeBatch {
    this.builder.copied(this.rowsInBatch, this.positionHigh, this.positionLow, this.timeHigh, this.timeLow)
    this.bytesInBatch = 0
    this.rowsInBatch = 0
    return this.builder.finish()
  }

  /** One CopyData message: header, rows or trailer. PostgreSQL never splits a row between messages. */
  data(bytes: Buffer, start: number, end: number): void {
    let at = start
    if (!this.headerSeen) {
      if (end - at < 19 || bytes.compare(signature, 0, 11, at, at + 11) !== 0) {
        this.broken("no header of the binary format")
      }
      if (bytes.readInt32BE(at + 11) !== 0) this.broken("flags of the binary format that are not known")
      const extension = bytes.readInt32BE(at + 15)
      if (extension < 0 || extension > end - at - 19) this.broken("a header extension of an impossible length")
      at += 19 + extension
      this.headerSeen = true
    }
    try {
      while (at < end) at = this.row(bytes, at, end)
    } catch (cause) {
      throw cause instanceof ValueError ? this.undecodable(cause) : cause
    }
    this.bytesInBatch += end - start
  }

  private row(bytes: Buffer, start: number, end: number): number {
    if (this.trailerSeen || end - start < 2) this.broken("bytes after the end of the data")
    const fields = ((bytes[start] as number) << 8) | (bytes[start + 1] as number) // checked above
    if (fields === 0xffff) {
      this.trailerSeen = true
      return start + 2
    }
    const { decoders } = this.target
    if (fields !== decoders.length) this.broken(`a row of ${fields} columns where ${decoders.length} were selected`)
    const { columns } = this.builder
    let at = start + 2
    for (let index = 0; index < fields; index++) {
      this.column = index
      if (end - at < 4) this.broken("a row that ends early")
      const length = ((bytes[at] as number) << 24) | ((bytes[at + 1] as number) << 16) | // checked above
        ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number)
      at += 4
      const column = columns[index] as (typeof columns)[number] // one builder per decoder
      if (length === -1) column.appendNull()
      else {
        if (length < 0 || length > end - at) this.broken("a value that ends after its message")
        const decode = decoders[index] as ValueDecoder // index < decoders.length
        // Most values are copied: known here, that takes no call.
        if (decode === copyBytes) (column as BytesColumn).append(bytes, at, at + length) // what it is given to
        else decode(column, bytes, at, at + length)
        at += length
      }
    }
    this.rows++
    this.rowsInBatch++
    return at
  }

  private undecodable({ message, reason }: ValueError): ConnectorError {
    const { columns, table } = this.target.schema
    const column = columns[this.column]
    return PostgresError.make(
      reason === "OutOfRange" ? "Unsupported" : "Protocol",
      `column ${column?.name ?? this.column} (${column?.sourceType ?? "unknown type"}) holds ${message}`,
      reason === "OutOfRange"
        ? "Correct the value at the source, or leave the table out."
        : "Please report this with the column's type and the server's version.",
      tableId(table)
    )
  }

  /** Checks the row count that the server's command tag names. */
  complete(tag: string): void {
    if (!this.trailerSeen) this.broken("no end of the binary format")
    if (tag !== `COPY ${this.rows}`) this.broken(`${this.rows} rows, but the server says ${tag}`)
  }

  private broken(what: string): never {
    throw protocolError(this.target.schema, what)
  }
}

/** A Query message. */
const query = (sql: string): Buffer => {
  const body = Buffer.from(`${sql}\0`, "utf8")
  const head = Buffer.alloc(5)
  head.write("Q")
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

/** A connection that copies one query's rows after another's. */
export class CopyReader {
  private readonly socket: Duplex
  private readonly messages = new MessageBuffer()
  private readonly fetchRows: number
  private copy: Copy | undefined
  /** Queries that the server isn't done with. */
  private unfinished = 0
  /** Whether a COPY was begun, and whether the last one failed: its savepoint is still there. */
  private begun = false
  private failed = false
  /** Whether what comes is passed over. */
  private skipping = false
  private failure: ConnectorError | undefined
  private wake: (() => void) | undefined

  constructor(socket: Duplex, fetchRows: number) {
    this.socket = socket
    this.fetchRows = fetchRows
    socket.pause()
    // node-postgres' parser; its error and close listeners stay.
    socket.removeAllListeners("data")
    const direct = DirectSocket.of(socket)
    if (direct === undefined) {
      socket.on("data", (chunk: Buffer) => {
        this.messages.append(chunk)
        this.wake?.()
      })
    } else {
      direct.direct({
        target: () => this.messages.target(),
        received: (from, count) => {
          this.messages.received(from, count)
          this.wake?.()
          // Whoever got a batch may have asked for the next one, which resumes the socket.
          return this.wake !== undefined
        }
      })
    }
    const lost = (cause: unknown) => {
      this.failure ??= PostgresError.fromCause(cause, "copying: the connection was lost", this.tableId)
      this.wake?.()
    }
    socket.on("error", lost)
    socket.on("close", () => lost(new Error("Connection terminated unexpectedly")))
    socket.on("end", () => lost(new Error("Connection terminated unexpectedly")))
  }

  private get tableId(): string | undefined {
    return this.copy === undefined ? undefined : tableId(this.copy.target.schema.table)
  }

  /** Begins a COPY. The one before must have been read to its end, or skipped. A COPY that fails leaves the transaction as it was. */
  start(sql: string, target: CopyTarget, stamp: CopyStamp): void {
    const before = this.copy
    // The same builder goes on with the next range of a table: its buffers have the right size already.
    const builder = before?.continuing(target, stamp) === true ? before.builder : new ChangeBatchBuilder(target.schema)
    this.copy = new Copy(target, stamp, builder)
    this.skipping = false
    const settled = this.failed
      ? ["ROLLBACK TO SAVEPOINT piece", "RELEASE SAVEPOINT piece"]
      : this.begun
      ? ["RELEASE SAVEPOINT piece"]
      : []
    // All at once: the server takes them one after the other.
    const queries = [...settled, "SAVEPOINT piece", sql]
    this.begun = true
    this.failed = false
    this.unfinished = queries.length
    this.socket.write(Buffer.concat(queries.map(query)))
  }

  /** The next batch, or undefined at the end of this COPY. */
  readonly next: Effect.Effect<ChangeBatch.ChangeBatch | undefined, ConnectorError> = Effect.callback((resume) => {
    const stop = (): void => {
      this.wake = undefined
      this.socket.pause()
    }
    const attempt = (): void => {
      try {
        const outcome = this.advance()
        if (outcome === "more") {
          if (this.failure !== undefined) throw this.failure
          this.socket.resume()
          return
        }
        stop()
        resume(Effect.succeed(outcome))
      } catch (cause) {
        stop()
        resume(Effect.fail(PostgresError.fromCause(cause, "copying", this.tableId)))
      }
    }
    this.wake = attempt
    attempt()
    return Effect.sync(stop)
  })

  /** Passes over the rest of a COPY that failed, so that the connection can go on with another one. */
  get skip(): Effect.Effect<void, ConnectorError> {
    return Effect.suspend(() => {
      this.failed = true
      this.skipping = true
      return Effect.andThen(
        this.next,
        Effect.sync(() => {
          // Its builder may hold half a row.
          this.copy = undefined
        })
      )
    })
  }

  /** Handles the messages that are there: a batch, undefined at the end, or "more" when it takes more bytes. */
  private advance(): ChangeBatch.ChangeBatch | undefined | "more" {
    const { copy, messages } = this
    if (copy === undefined) throw protocolError(undefined, "no COPY was begun")
    for (;;) {
      if (this.skipping) {
        if (this.unfinished === 0) return undefined
      } else {
        if (copy.full || copy.rowsInBatch >= this.fetchRows) return copy.take()
        if (this.unfinished === 0) return copy.rowsInBatch > 0 ? copy.take() : undefined
      }
      if (!messages.next()) return "more"
      const { bytes, end, start, type } = messages
      switch (type) {
        case 0x64: // d: CopyData
          if (!this.skipping) copy.data(bytes, start, end)
          break
        case 0x43: // C: CommandComplete, of the savepoint's statements, too
          if (!this.skipping && bytes[start] === 0x43) copy.complete(bytes.toString("latin1", start, end - 1))
          break
        case 0x5a: // Z: ReadyForQuery
          this.unfinished--
          break
        case 0x45: // E: ErrorResponse
          if (this.skipping) break
          throw errorOf(bytes, start, end)
        case 0x48: // H: CopyOutResponse
        case 0x63: // c: CopyDone
        case 0x4e: // N: NoticeResponse
        case 0x53: // S: ParameterStatus
        case 0x41: // A: NotificationResponse
          break
        default:
          throw protocolError(copy.target.schema, `an unexpected message of type ${type}`)
      }
    }
  }
}

/** Takes over a connected client, whose transaction must be set up already. The socket is destroyed with the scope. */
export const make = (client: Client, fetchRows: number): Effect.Effect<CopyReader, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => new CopyReader(client.connection.stream, fetchRows)),
    () =>
      Effect.sync(() => {
        client.connection.stream.destroy()
      })
  )
