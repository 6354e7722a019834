/**
 * Writes pgoutput messages and the frames around them, for tests of the decoder.
 */
import type { Frames } from "../src/internal/frameBuffer.ts"

const int16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value | 0)
  return bytes
}

const int64 = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(value)
  return bytes
}

const cstring = (text: string): Buffer => Buffer.from(`${text}\0`)

/** A value of a tuple: text, null, `unchanged`, or bytes in binary format. */
export type Value = string | null | typeof unchanged | Uint8Array
export const unchanged = Symbol("unchanged")

export const tuple = (values: ReadonlyArray<Value>): Buffer =>
  Buffer.concat([
    int16(values.length),
    ...values.map((value) => {
      if (value === null) return Buffer.from("n")
      if (value === unchanged) return Buffer.from("u")
      const bytes = typeof value === "string" ? Buffer.from(value) : value
      return Buffer.concat([Buffer.from(typeof value === "string" ? "t" : "b"), int32(bytes.length), bytes])
    })
  ])

export interface Column {
  readonly name: string
  readonly type: number
  readonly key?: boolean
}

export const relation = (
  oid: number,
  name: string,
  identity: "d" | "n" | "f" | "i",
  columns: ReadonlyArray<Column>
): Buffer =>
  Buffer.concat([
    Buffer.from("R"),
    int32(oid),
    cstring("public"),
    cstring(name),
    Buffer.from(identity),
    int16(columns.length),
    ...columns.map((column) =>
      Buffer.concat([Uint8Array.of(column.key === true ? 1 : 0), cstring(column.name), int32(column.type), int32(-1)])
    )
  ])

/** Microseconds between 1970 and 2000. */
export const epoch = 946_684_800_000_000n

export const begin = (lsn: bigint, time = 0n, xid = 700): Buffer =>
  Buffer.concat([Buffer.from("B"), int64(lsn), int64(time - epoch), int32(xid)])
export const commit = (lsn: bigint, end = lsn + 8n, time = 0n): Buffer =>
  Buffer.concat([Buffer.from("C"), Uint8Array.of(0), int64(lsn), int64(end), int64(time - epoch)])
export const insert = (oid: number, values: ReadonlyArray<Value>): Buffer =>
  Buffer.concat([Buffer.from("I"), int32(oid), Buffer.from("N"), tuple(values)])
export const update = (
  oid: number,
  values: ReadonlyArray<Value>,
  old?: { readonly kind: "K" | "O"; readonly values: ReadonlyArray<Value> }
): Buffer =>
  Buffer.concat([
    Buffer.from("U"),
    int32(oid),
    ...(old === undefined ? [] : [Buffer.from(old.kind), tuple(old.values)]),
    Buffer.from("N"),
    tuple(values)
  ])
export const remove = (oid: number, kind: "K" | "O", values: ReadonlyArray<Value>): Buffer =>
  Buffer.concat([Buffer.from("D"), int32(oid), Buffer.from(kind), tuple(values)])
export const truncate = (...oids: ReadonlyArray<number>): Buffer =>
  Buffer.concat([Buffer.from("T"), int32(oids.length), Uint8Array.of(0), ...oids.map(int32)])
export const message = (transactional: boolean, lsn: bigint, prefix: string, content: string): Buffer =>
  Buffer.concat([
    Buffer.from("M"),
    Uint8Array.of(transactional ? 1 : 0),
    int64(lsn),
    cstring(prefix),
    int32(Buffer.byteLength(content)),
    Buffer.from(content)
  ])
export const origin = (lsn: bigint, name: string): Buffer =>
  Buffer.concat([Buffer.from("O"), int64(lsn), cstring(name)])
export const type = (oid: number, name: string): Buffer =>
  Buffer.concat([Buffer.from("Y"), int32(oid), cstring("public"), cstring(name)])

export const streamStart = (xid: number, first: boolean): Buffer =>
  Buffer.concat([Buffer.from("S"), int32(xid), Uint8Array.of(first ? 1 : 0)])
export const streamStop = Buffer.from("E")
export const streamAbort = (xid: number, subxid = xid): Buffer =>
  Buffer.concat([Buffer.from("A"), int32(xid), int32(subxid)])
export const streamCommit = (xid: number, lsn: bigint, end = lsn + 8n, time = 0n): Buffer =>
  Buffer.concat([Buffer.from("c"), int32(xid), Uint8Array.of(0), int64(lsn), int64(end), int64(time - epoch)])
/** A message as it stands within a block of a streamed transaction. */
export const streamed = (xid: number, payload: Buffer): Buffer =>
  Buffer.concat([payload.subarray(0, 1), int32(xid), payload.subarray(1)])

const copyData = (body: Buffer): Buffer => Buffer.concat([Buffer.from("d"), int32(body.length + 4), body])

/** XLogData around one pgoutput message. */
export const wal = (payload: Buffer, lsn = 1n): Buffer =>
  copyData(Buffer.concat([Buffer.from("w"), int64(lsn), int64(lsn), int64(0n), payload]))

export const keepalive = (lsn: bigint): Buffer =>
  copyData(Buffer.concat([Buffer.from("k"), int64(lsn), int64(0n), Uint8Array.of(0)]))

/** A view over frames, with bytes around it that aren't its own. */
export const view = (...frames: ReadonlyArray<Buffer>): Frames => {
  const bytes = Buffer.concat([Buffer.alloc(7, 0xff), ...frames, Buffer.alloc(7, 0xff)])
  return { bytes, start: 7, end: bytes.length - 7 }
}

/** A view over messages, each in a frame of its own. */
export const messages = (...payloads: ReadonlyArray<Buffer>): Frames => view(...payloads.map((payload) => wal(payload)))
