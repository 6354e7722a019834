import { assert, describe, it } from "@effect/vitest"
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import { type Duplex, duplexPair } from "node:stream"
import * as BinaryValues from "../src/BinaryValues.ts"
import { CopyReader, type CopyTarget } from "../src/CopyReader.ts"
import * as PostgresType from "../src/PostgresType.ts"

const schema: TableSchema = {
  table: { schema: "public", name: "t" },
  version: 1,
  columns: [
    { name: "id", type: { _tag: "Int32" }, sourceType: "integer", nullable: false },
    { name: "name", type: { _tag: "Text", maxLength: undefined }, sourceType: "text", nullable: true }
  ],
  identity: { _tag: "Key", columns: [0] }
}

const target: CopyTarget = {
  schema,
  decoders: [PostgresType.Oid.int4, PostgresType.Oid.text].map((oid) =>
    BinaryValues.decoder(PostgresType.resolve(PostgresType.emptyCatalog, oid, -1)) ?? assert.fail("no decoder")
  )
}

const stamp = { position: 0x1_0000_0001n, time: -1n }

const message = (type: string, body: Uint8Array): Buffer => {
  const head = Buffer.alloc(5)
  head.write(type)
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

const int16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

const header = Buffer.concat([Buffer.from("PGCOPY\n\xff\r\n\0", "latin1"), int32(0), int32(0)])
const row = (id: number, name: string | null): Buffer => {
  const text = Buffer.from(name ?? "")
  return Buffer.concat([int16(2), int32(4), int32(id), int32(name === null ? -1 : text.length), text])
}
const ready = message("Z", Buffer.from("T"))
/** The answer to a statement about a savepoint. */
const done = (tag: string): Buffer => Buffer.concat([message("C", Buffer.from(`${tag}\0`)), ready])
const begin = Buffer.concat([done("SAVEPOINT"), message("H", Buffer.from([1, 0, 2, 0, 1, 0, 1]))])
const end = (rows: number): Buffer =>
  Buffer.concat([
    message("d", int16(-1)),
    message("c", Buffer.alloc(0)),
    message("C", Buffer.from(`COPY ${rows}\0`)),
    ready
  ])
const rowsOf = (count: number): Buffer =>
  Buffer.concat([
    begin,
    ...Array.from({ length: count }, (_, index) => {
      const bytes = row(index, index % 3 === 0 ? null : `name ${index}`)
      return message("d", index === 0 ? Buffer.concat([header, bytes]) : bytes)
    })
  ])

const open = (fetchRows = 1000, of = target): { readonly reader: CopyReader; readonly server: Duplex } => {
  const [client, server] = duplexPair()
  server.resume()
  const reader = new CopyReader(client, fetchRows)
  reader.start("COPY …", of, stamp)
  return { reader, server }
}

const drain = Effect.fnUntraced(function*(reader: CopyReader) {
  const ids: Array<number> = []
  const sizes: Array<number> = []
  for (;;) {
    const batch = yield* reader.next
    if (batch === undefined) return { ids, sizes }
    sizes.push(batch.rows)
    assert.deepStrictEqual(batch.first, { commit: stamp.position, ordinal: 0n })
    const values = ChangeBatch.child(batch.records, ChangeBatch.metadataColumns).values as Int32Array // an int32 column
    ids.push(...values)
  }
})

const failure = (bytes: Buffer) =>
  Effect.suspend(() => {
    const { reader, server } = open()
    server.write(bytes)
    return Effect.flip(drain(reader))
  })

describe("CopyReader", () => {
  it.live("the rows are the same however the bytes are cut", () =>
    Effect.gen(function*() {
      const bytes = Buffer.concat([rowsOf(5), end(5)])
      for (let size = 1; size < 40; size++) {
        const { reader, server } = open()
        for (let at = 0; at < bytes.length; at += size) server.write(bytes.subarray(at, at + size))
        assert.deepStrictEqual(yield* drain(reader), { ids: [0, 1, 2, 3, 4], sizes: [5] })
      }
    }))

  it.live("batches end at the wanted number of rows, and at 4 MiB", () =>
    Effect.gen(function*() {
      const some = open(7)
      some.server.write(Buffer.concat([rowsOf(20), end(20)]))
      assert.deepStrictEqual((yield* drain(some.reader)).sizes, [7, 7, 6])
      const wide = open()
      const large = message("d", row(1, "x".repeat(3 << 20)))
      wide.server.write(Buffer.concat([begin, message("d", header), large, large, large, end(3)]))
      assert.deepStrictEqual((yield* drain(wide.reader)).sizes, [2, 1])
    }))

  it.live("one connection copies one statement after another, empty ones too", () =>
    Effect.gen(function*() {
      const { reader, server } = open()
      for (const [index, count] of [3, 0, 2].entries()) {
        const bytes = count === 0 ? Buffer.concat([begin, message("d", header)]) : rowsOf(count)
        if (index > 0) server.write(done("RELEASE"))
        server.write(Buffer.concat([bytes, message("N", Buffer.from("SNOTICE\0\0")), end(count)]))
        assert.lengthOf((yield* drain(reader)).ids, count)
        reader.start("COPY …", target, stamp)
      }
    }))

  it.live("nothing is read from the socket while nobody waits for a batch", () =>
    Effect.gen(function*() {
      const { reader, server } = open(10)
      const block = Buffer.concat(
        Array.from({ length: 1000 }, (_, index) => message("d", row(index, "x".repeat(1000))))
      )
      server.write(Buffer.concat([begin, message("d", header)]))
      for (let index = 0; index < 8; index++) server.write(block)
      assert.strictEqual((yield* reader.next)?.rows, 10)
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      const waiting = server.writableLength
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      assert.isAbove(waiting, 4_000_000)
      assert.strictEqual(server.writableLength, waiting)
    }))

  it.live("an error of the server keeps its meaning and loses its values", () =>
    Effect.gen(function*() {
      const error = (code: string, text: string) =>
        message("E", Buffer.from(`SERROR\0C${code}\0M${text}\0DKey (id)=(secret)\0\0`))
      const missing = yield* failure(Buffer.concat([rowsOf(2), error("42703", "column \"x\" does not exist"), ready]))
      assert.strictEqual(missing.reason, "Missing")
      assert.include(missing.message, "column \"x\" does not exist")
      assert.strictEqual(missing.table, "public.t")
      const data = yield* failure(error("22021", "invalid byte sequence: secret"))
      assert.strictEqual(data.reason, "Rejected")
      assert.notInclude(JSON.stringify(data), "secret")
    }))

  it.live("what comes after an error is passed over, and the connection goes on with another statement", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const [client, server] = duplexPair()
      server.on(
        "data",
        (bytes: Buffer) =>
          asked.push(...bytes.toString("latin1").split(/Q[^]{4}/).map((text) => text.replace("\0", "")))
      )
      const reader = new CopyReader(client, 1000)
      const cases = [
        // The server refuses it; a value can't be decoded in the middle of a row, and its copy goes on to the end.
        message("E", Buffer.from("SERROR\0C42501\0Mpermission denied\0\0")),
        Buffer.concat([message("d", Buffer.concat([int16(3)])), message("d", row(9, "x")), end(7)])
      ]
      for (const [index, bytes] of cases.entries()) {
        reader.start("COPY 1", target, stamp)
        if (index > 0) server.write(done("RELEASE"))
        server.write(Buffer.concat([rowsOf(2), bytes, ...(index === 0 ? [ready] : [])]))
        const error = yield* Effect.flip(drain(reader))
        assert.strictEqual(error.table, "public.t")
        yield* reader.skip
        reader.start("COPY 2", target, stamp)
        server.write(Buffer.concat([done("ROLLBACK"), done("RELEASE"), rowsOf(3), end(3)]))
        assert.deepStrictEqual((yield* drain(reader)).ids, [0, 1, 2])
      }
      const statements = () => asked.filter((text) => text !== "")
      while (statements().at(-1) !== "COPY 2" || statements().length < 13) yield* Effect.sleep(1)
      assert.deepStrictEqual(statements(), [
        "SAVEPOINT piece",
        "COPY 1",
        "ROLLBACK TO SAVEPOINT piece",
        "RELEASE SAVEPOINT piece",
        "SAVEPOINT piece",
        "COPY 2",
        "RELEASE SAVEPOINT piece",
        "SAVEPOINT piece",
        "COPY 1",
        "ROLLBACK TO SAVEPOINT piece",
        "RELEASE SAVEPOINT piece",
        "SAVEPOINT piece",
        "COPY 2"
      ])
    }))

  it.live("a defect of ours is no trouble of the network, and its message is not shown", () =>
    Effect.gen(function*() {
      const defects: ReadonlyArray<() => void> = [
        () => {
          throw new TypeError("secret is not a function\n  at secret.ts:1:1")
        },
        () => {
          BigInt("secret")
        },
        () => {
          Buffer.alloc(1).readInt32BE(8)
        }
      ]
      for (const defect of defects) {
        const { reader, server } = open(1000, { schema, decoders: [defect, defect] })
        server.write(rowsOf(1))
        const error = yield* Effect.flip(drain(reader))
        assert.strictEqual(error.reason, "Protocol")
        assert.match(error.message, /internal error, (Type|Syntax|Range)Error.* at \w+\.test\.ts:\d+/)
        assert.match(error.hint, /report/)
        assert.notInclude(`${JSON.stringify(error)} ${error.stack}`, "secret")
      }
    }))

  it.live("a lost connection is no end", () =>
    Effect.gen(function*() {
      for (const bytes of [Buffer.alloc(0), rowsOf(3), Buffer.concat([rowsOf(3), end(3)]).subarray(0, -ready.length)]) {
        const { reader, server } = open()
        server.write(bytes)
        server.end()
        const error = yield* Effect.flip(drain(reader))
        assert.strictEqual(error.reason, "Unreachable")
      }
    }))

  it.live("bytes that break the protocol are refused", () =>
    Effect.gen(function*() {
      const first = (bytes: Uint8Array) => Buffer.concat([begin, message("d", Buffer.concat([header, bytes]))])
      const hostile: Record<string, Buffer> = {
        "no header": Buffer.concat([begin, message("d", row(1, "x"))]),
        "unknown flags": Buffer.concat([
          begin,
          message("d", Buffer.concat([header.subarray(0, 11), int32(1 << 16), int32(0)]))
        ]),
        "a header extension beyond its message": Buffer.concat([
          begin,
          message("d", Buffer.concat([header.subarray(0, 15), int32(1000)])),
          end(0)
        ]),
        "a negative header extension": Buffer.concat([
          begin,
          message("d", Buffer.concat([header.subarray(0, 15), int32(-1000), row(1, "x")])),
          end(0)
        ]),
        "too few columns": first(Buffer.concat([int16(1), int32(4), int32(1)])),
        "a row that ends early": first(row(1, "x").subarray(0, 6)),
        "a length beyond the message": first(Buffer.concat([int16(2), int32(400), int32(1)])),
        "a negative length": first(Buffer.concat([int16(2), int32(-2), int32(1)])),
        "a value of the wrong size": first(Buffer.concat([int16(2), int32(2), int16(1), int32(-1)])),
        "bytes after the end": first(Buffer.concat([int16(-1), row(1, "x")])),
        "half a row": first(Buffer.alloc(1)),
        "fewer rows than counted": Buffer.concat([rowsOf(2), end(3)]),
        "no end of the data": Buffer.concat([rowsOf(2), message("C", Buffer.from("COPY 2\0")), ready]),
        "a message that isn't known": Buffer.concat([begin, message("?", Buffer.alloc(3))]),
        "a message with a negative length": Buffer.concat([begin, Buffer.from("d"), int32(-1), Buffer.alloc(8)])
      }
      for (const [what, bytes] of Object.entries(hostile)) {
        const error = yield* failure(bytes)
        assert.strictEqual(error.reason, "Protocol", what)
      }
    }))
})
