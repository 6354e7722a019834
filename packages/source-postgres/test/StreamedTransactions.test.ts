import { assert, describe, it } from "@effect/vitest"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as PostgresError from "@etl-stream/source-postgres/PostgresError"
import * as StreamedTransactions from "@etl-stream/source-postgres/StreamedTransactions"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import type { Frames } from "../src/internal/frameBuffer.ts"
import { XidSet } from "../src/internal/xidSet.ts"
import * as Messages from "./pgoutputMessages.ts"
import { insert, model, relation, text } from "./streamedModel.ts"

const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "etl-stream-spool-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const end = PostgresError.make("Unreachable", "the end of the test's stream", "None.")

/** What the stage gives for `views`, as texts: a message without its header, or `keepalive`. */
const run = Effect.fnUntraced(function*(
  views: ReadonlyArray<Frames>,
  { diskLimit = 1e9, folder, each }: {
    readonly diskLimit?: number
    readonly folder?: string
    readonly each?: (stage: StreamedTransactions.StreamedTransactions, directory: string) => void
  } = {}
) {
  const directory = folder ?? (yield* temporaryFolder)
  let next = 0
  const wire = Effect.suspend(() => {
    const view = views[next++]
    return view === undefined ? Effect.fail(end) : Effect.succeed(view)
  })
  const stage = yield* StreamedTransactions.make(wire, { directory, diskLimit })
  const given: Array<string> = []
  for (;;) {
    const frames = yield* Effect.result(stage.pull)
    each?.(stage, directory)
    if (frames._tag === "Failure") {
      return { given, error: frames.failure === end ? undefined : frames.failure, spooled: stage.spooled() }
    }
    const { bytes, end: to, start } = frames.success
    for (let at = start; at < to;) {
      const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
      const limit = at + 1 + view.readUInt32BE(at + 1)
      given.push(view[at + 5] === 0x77 ? view.toString("latin1", at + 30, limit) : "keepalive")
      at = limit
    }
  }
}, Effect.scoped)

/** A block of messages, each with its transaction. */
const block = (
  xid: number,
  first: boolean,
  ...messages: ReadonlyArray<readonly [xid: number, payload: Buffer]>
): ReadonlyArray<Buffer> => [
  Messages.streamStart(xid, first),
  ...messages.map(([of, payload]) => Messages.streamed(of, payload)),
  Messages.streamStop
]

const succeeds = Effect.fnUntraced(function*(...payloads: ReadonlyArray<Buffer>) {
  const { error, given, spooled } = yield* run([Messages.messages(...payloads)])
  assert.isUndefined(error)
  assert.strictEqual(spooled, 0, "bytes are left in the spool")
  return given
})

describe("streamed transactions", () => {
  it.live("are ordinary ones with the commit's position, end and time when they have committed", () =>
    Effect.gen(function*() {
      const given = yield* succeeds(
        ...block(7, true, [7, relation(16_400, "c")], [7, insert("a")], [8, insert("b")]),
        Messages.begin(50n, 5n),
        insert("ordinary"),
        Messages.commit(50n, 60n, 5n),
        ...block(7, false, [7, Messages.truncate(16_400)], [7, Messages.message(true, 3n, "p", "c")]),
        Messages.streamCommit(7, 100n, 120n, 9n)
      )
      assert.deepStrictEqual(
        given,
        [
          Messages.begin(50n, 5n),
          insert("ordinary"),
          Messages.commit(50n, 60n, 5n),
          Messages.begin(100n, 9n, 7),
          relation(16_400, "c"),
          insert("a"),
          insert("b"),
          Messages.truncate(16_400),
          Messages.message(true, 3n, "p", "c"),
          Messages.commit(100n, 120n, 9n)
        ].map(text)
      )
    }))

  it.live("keep the announcement of their origin, which has no transaction id", () =>
    Effect.gen(function*() {
      const origin = Messages.origin(0n, "elsewhere")
      const given = yield* succeeds(
        Messages.streamStart(7, true),
        origin,
        Messages.streamed(7, insert("a")),
        Messages.streamStop,
        Messages.streamCommit(7, 100n)
      )
      assert.deepStrictEqual(given, [Messages.begin(100n, 0n, 7), origin, insert("a"), Messages.commit(100n)].map(text))
    }))

  it.live("may be rolled back, in part or whole, before anything of them came", () =>
    Effect.gen(function*() {
      const given = yield* succeeds(
        Messages.streamAbort(7, 8),
        ...block(7, true, [7, insert("a")]),
        Messages.streamAbort(9),
        Messages.streamCommit(7, 100n)
      )
      assert.deepStrictEqual(given, [Messages.begin(100n, 0n, 7), insert("a"), Messages.commit(100n)].map(text))
    }))

  it.live("announce a relation again that was announced otherwise while they were in progress", () =>
    Effect.gen(function*() {
      const [old, new_] = [relation(16_400, "old"), relation(16_400, "new")]
      const ordinary = [Messages.begin(50n), new_, insert("b"), Messages.commit(50n)]
      const given = yield* succeeds(
        ...block(7, true, [7, old], [7, relation(16_401, "same")], [7, insert("a")]),
        ...block(9, true, [9, old], [9, insert("c")]),
        ...ordinary,
        ...block(9, false, [9, new_], [9, insert("d")]),
        Messages.streamCommit(9, 90n),
        Messages.streamCommit(7, 100n)
      )
      assert.deepStrictEqual(
        given,
        [
          ...ordinary,
          Messages.begin(90n, 0n, 9),
          old,
          insert("c"),
          new_,
          insert("d"),
          Messages.commit(90n),
          Messages.begin(100n, 0n, 7),
          old,
          relation(16_401, "same"),
          insert("a"),
          Messages.commit(100n),
          new_
        ].map(text)
      )
    }))

  it.live("may have messages larger than what is read at once, and many pieces", () =>
    Effect.gen(function*() {
      const payloads = [
        insert("x".repeat(5_000_000)),
        ...Array.from({ length: 40 }, (_, index) => insert(String(index).repeat(100_000)))
      ]
      const given = yield* succeeds(
        ...block(7, true, ...payloads.map((payload) => [7, payload] as const)),
        Messages.streamCommit(7, 100n)
      )
      assert.strictEqual(given.length, payloads.length + 2)
      payloads.forEach((payload, index) => assert.isTrue(given[index + 1] === text(payload), `message ${index}`))
    }))

  it.live("agree with a simple model, whatever takes turns and is rolled back", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.array(fc.array(fc.nat(1_000_000), { minLength: 8, maxLength: 8 }), { maxLength: 60, size: "max" }),
          fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 10 }),
          async (choices, sizes) => {
            const { expected, frames } = model(choices)
            const views: Array<Frames> = []
            for (let at = 0, index = 0; at < frames.length; index++) {
              const size = sizes[index % sizes.length] ?? 1
              views.push(Messages.view(...frames.slice(at, at + size)))
              at += size
            }
            const { error, given } = await Effect.runPromise(run(views))
            assert.isUndefined(error)
            assert.deepStrictEqual(given, expected)
          }
        ),
        { numRuns: 150 }
      )
    ), 60_000)
})

describe("a stream that breaks the protocol", () => {
  const ordinary = Messages.begin(1n)
  const cases: Readonly<Record<string, readonly [message: RegExp, ...payloads: ReadonlyArray<Buffer>]>> = {
    "a block's end without its beginning": [/Stream Stop message without a Stream Start/, Messages.streamStop],
    "a block within a block": [
      /type 0x53 .*within a block/,
      Messages.streamStart(7, true),
      Messages.streamStart(8, true)
    ],
    "a transaction within a block": [/type 0x42 .*within a block/, Messages.streamStart(7, true), ordinary],
    "a block within a transaction": [/within another transaction/, ordinary, Messages.streamStart(7, true)],
    "a commit within a block": [
      /type 0x63 .*within a block/,
      Messages.streamStart(7, true),
      Messages.streamCommit(7, 1n)
    ],
    "an unknown message within a block": [
      /type 0x7a .*within a block/,
      Messages.streamStart(7, true),
      Buffer.from("z1234")
    ],
    "more of an unknown transaction": [
      /Stream Start message of transaction 7, which was not/,
      Messages.streamStart(7, false)
    ],
    "a transaction that starts twice": [
      /transaction 7, which was started before/,
      ...block(7, true),
      Messages.streamStart(7, true)
    ],
    "the commit of an unknown transaction": [
      /Stream Commit message of transaction 7, which/,
      Messages.streamCommit(7, 1n)
    ],
    "a transaction that ends twice": [
      /transaction 7, which was not started/,
      ...block(7, true),
      Messages.streamAbort(7),
      Messages.streamCommit(7, 1n)
    ],
    "a change that ends before its transaction": [/too short/, Messages.streamStart(7, true), Buffer.from("I123")],
    "a relation that is too short": [
      /Relation message that is too short/,
      Messages.streamStart(7, true),
      Buffer.from("R1234567")
    ],
    "a start that is too short": [
      /Stream Start message of the wrong length/,
      Messages.streamStart(7, true).subarray(0, 5)
    ],
    "an end with more": [
      /Stream Abort message of the wrong length/,
      Buffer.concat([Messages.streamAbort(7), Buffer.alloc(16)])
    ],
    "a commit that is too short": [
      /Stream Commit message of the wrong length/,
      Messages.streamCommit(7, 1n).subarray(0, 20)
    ]
  }
  for (const [name, [message, ...payloads]] of Object.entries(cases)) {
    it.live(`is refused: ${name}`, () =>
      Effect.gen(function*() {
        const { error } = yield* run(payloads.map((payload) => Messages.messages(payload)))
        assert.strictEqual(error?.reason, "Protocol")
        assert.match(error?.message ?? "", message)
        assert.match(error?.message ?? "", /^Replication stream at 0\/1: /)
      }))
  }

  it.live("is never anything but an error of the protocol", () => {
    const xid = fc.constantFrom(7, 8, 9)
    const valid = fc.oneof(
      fc.tuple(xid, fc.boolean()).map(([id, first]) => Messages.streamStart(id, first)),
      fc.constant(Messages.streamStop),
      fc.tuple(xid, xid).map(([id, sub]) => Messages.streamAbort(id, sub)),
      xid.map((id) => Messages.streamCommit(id, 5n)),
      xid.map((id) => Messages.streamed(id, insert("a"))),
      xid.map((id) => Messages.streamed(id, relation(16_400, "c"))),
      fc.constant(insert("b")),
      fc.constant(relation(16_400, "c")),
      fc.constant(Messages.begin(5n)),
      fc.constant(Messages.commit(5n))
    )
    const damaged = fc.tuple(valid, fc.nat(40), fc.nat(255)).map(([payload, at, value]) => {
      const bytes = Buffer.from(payload.subarray(0, at % 7 === 0 ? at : payload.length))
      if (bytes.length > 0) bytes[at % bytes.length] = value
      return bytes
    })
    const frame = fc.oneof(
      { weight: 6, arbitrary: valid.map((payload) => Messages.wal(payload)) },
      { weight: 2, arbitrary: damaged.map((payload) => Messages.wal(payload)) },
      { weight: 1, arbitrary: fc.constant(Messages.keepalive(1n)) },
      { weight: 1, arbitrary: fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)) }
    )
    return Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(fc.array(fc.array(frame, { maxLength: 8 }), { maxLength: 6 }), async (views) => {
          const { error } = await Effect.runPromise(run(views.map((frames) => Messages.view(...frames))))
          if (error !== undefined) assert.strictEqual(error.reason, "Protocol", error.message)
        }),
        { numRuns: 400 }
      )
    )
  }, 60_000)
})

describe("the spool", () => {
  const large = block(7, true, [7, insert("x".repeat(10_000))])

  it.live("ends the stream when transactions in progress need more than the limit", () =>
    Effect.gen(function*() {
      const first = Messages.messages(...large)
      const second = Messages.messages(...block(8, true, [8, insert("y".repeat(10_000))]))
      const { error, given } = yield* run([first, second], { diskLimit: 15_000 })
      assert.deepStrictEqual(given, [])
      assert.instanceOf(error, ConnectorError)
      assert.strictEqual(error?.reason, "Misconfigured")
      assert.match(error?.message ?? "", /more than 14\.6 KiB of disk \(streaming\.diskLimit\)/)
      assert.match(error?.hint ?? "", /Raise streaming\.diskLimit, or set streaming\.mode to off/)
      // What ended makes room.
      const again = yield* run([first, Messages.messages(Messages.streamAbort(7)), second], {
        diskLimit: 15_000
      })
      assert.isUndefined(again.error)
    }))

  it.live("keeps files for its owner only, and removes them with what an earlier run left", () =>
    Effect.gen(function*() {
      const folder = path.join(yield* temporaryFolder, "deep", "spool")
      fs.mkdirSync(folder, { recursive: true, mode: 0o755 })
      fs.writeFileSync(path.join(folder, "0123-5.spool"), "left over")
      fs.writeFileSync(path.join(folder, "notes.txt"), "somebody's")
      let files: ReadonlyArray<string> = []
      const { spooled } = yield* run([Messages.messages(...large)], {
        folder,
        each: () => {
          files = fs.readdirSync(folder)
          assert.strictEqual(fs.statSync(folder).mode & 0o777, 0o700)
          for (const name of files.filter((file) => file.endsWith(".spool"))) {
            assert.strictEqual(fs.statSync(path.join(folder, name)).mode & 0o777, 0o600)
          }
        }
      })
      assert.isAbove(spooled, 10_000)
      assert.strictEqual(files.length, 2)
      assert.notInclude(files, "0123-5.spool")
      assert.deepStrictEqual(fs.readdirSync(folder), ["notes.txt"])
    }))

  it.live("says so when a file was changed behind its back", () =>
    Effect.gen(function*() {
      const views = [
        Messages.messages(...large, Messages.begin(1n), Messages.commit(1n)),
        Messages.messages(Messages.streamCommit(7, 5n))
      ]
      const damage = (change: (file: string) => void) =>
        run(views, {
          each: (stage, directory) => {
            const [file] = fs.readdirSync(directory)
            if (stage.spooled() > 0 && file !== undefined) change(path.join(directory, file))
          }
        })
      const cut = yield* damage((file) => fs.truncateSync(file, 0))
      assert.strictEqual(cut.error?.reason, "Throttled")
      assert.match(cut.error?.message ?? "", /reading a spooled transaction in .*: a file was cut off/)
      const overwritten = yield* damage((file) => fs.writeFileSync(file, Buffer.alloc(20_000, 1)))
      assert.strictEqual(overwritten.error?.reason, "Protocol")
      assert.match(overwritten.error?.message ?? "", /frame in a spool file that is/)
    }))

  it.live("says so when the folder can't be had", () =>
    Effect.gen(function*() {
      const file = path.join(yield* temporaryFolder, "file")
      fs.writeFileSync(file, "")
      const error = yield* Effect.flip(run([], { folder: path.join(file, "spool") }))
      assert.strictEqual(error.reason, "Misconfigured")
      assert.match(error.message, /preparing to spool transactions in .*spool: ENOTDIR/)
      assert.match(error.hint, /streaming\.directory/)
    }))
})

describe("a set of transaction ids", () => {
  it("holds what was added, over the whole range", () => {
    fc.assert(fc.property(
      fc.array(fc.oneof(fc.integer({ min: 0, max: 5000 }), fc.integer({ min: 0, max: 0xffffffff }))),
      fc.array(fc.oneof(fc.integer({ min: 0, max: 5000 }), fc.integer({ min: 0, max: 0xffffffff }))),
      (added, asked) => {
        const set = new XidSet()
        for (const xid of added) set.add(xid)
        const model_ = new Set(added)
        assert.strictEqual(set.size, model_.size)
        for (const xid of [...added, ...asked]) assert.strictEqual(set.has(xid), model_.has(xid), String(xid))
      }
    ))
  })
})
