import { assert, describe, it } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import type { Identity, TableSchema } from "@etl-stream/core/TableSchema"
import * as PgOutputDecoder from "@etl-stream/source-postgres/PgOutputDecoder"
import * as PostgresType from "@etl-stream/source-postgres/PostgresType"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { valueAt } from "./columnValues.ts"
import * as Pg from "./pgoutputMessages.ts"
import { unchanged } from "./pgoutputMessages.ts"

const { Oid } = PostgresType

const schemaOf = (relation: PgOutputDecoder.Relation, identity?: Identity): TableSchema => ({
  table: { schema: relation.schema, name: relation.name },
  version: 1,
  columns: relation.columns.map((column) => {
    const { sourceType, type } = PostgresType.resolve(PostgresType.emptyCatalog, column.typeOid, column.typmod)
    return { name: column.name, type, sourceType, nullable: true }
  }),
  identity: identity ?? (relation.replicaIdentity === "f" && relation.name.startsWith("keyless")
    ? { _tag: "Full" }
    : { _tag: "Key", columns: [0] })
})

const make = (options: Partial<PgOutputDecoder.Options> = {}) =>
  PgOutputDecoder.make({
    tables: [],
    copied: new Map(),
    resolveRelation: (relation) => relation.name.startsWith("other") ? undefined : schemaOf(relation),
    ...options
  })

const operationNames = Object.fromEntries(Object.entries(Operation).map(([name, value]) => [value, name]))

/** One line per row: operation, commit/ordinal, values (`~` = not sent); one per other element. */
const lines = (elements: ReadonlyArray<Element>): ReadonlyArray<string> =>
  elements.flatMap((element): ReadonlyArray<string> => {
    switch (element._tag) {
      case "Rows": {
        const { records, rows, table } = element.batch
        return Array.from({ length: rows }, (_, row) => {
          const { commit, ordinal } = ChangeBatch.sequenceAt(records, row)
          const unsent = valueAt(
            ChangeBatch.child(records, ChangeBatch.MetadataColumns.unsent),
            { _tag: "Binary" },
            row
          )
          const mask = unsent === null ? 0n : BigInt(`0x${unsent.match(/../g)?.reverse().join("")}`)
          const values = table.columns.map((column, index) =>
            ((mask >> BigInt(index)) & 1n) === 1n
              ? "~"
              : valueAt(ChangeBatch.child(records, ChangeBatch.metadataColumns + index), column.type, row) ?? "null"
          )
          const op = operationNames[ChangeBatch.child(records, ChangeBatch.MetadataColumns.op).values[row]]
          return `${table.table.name} ${op} ${commit}/${ordinal} ${values.join(",")}`
        })
      }
      case "Schema":
        return [
          `${element.table.table.name} Schema ${element.sequence.commit}/${element.sequence.ordinal} ${
            element.table.columns.map((column) => column.name).join(",")
          }`
        ]
      case "Truncate":
        return [`${element.table.table.name} Truncate ${element.sequence.commit}/${element.sequence.ordinal}`]
      case "Watermark":
        return [`Watermark ${element.position}`]
      case "Message":
        return [
          `Message ${element.sequence.commit}/${element.sequence.ordinal} ${element.prefix}: ${
            Buffer.from(element.content)
          }`
        ]
      default:
        return [element._tag]
    }
  })

const orders = Pg.relation(1, "orders", "d", [{ name: "id", type: Oid.int4, key: true }, {
  name: "note",
  type: Oid.text
}])
const keyless = Pg.relation(2, "keyless", "f", [
  { name: "a", type: Oid.int4, key: true },
  { name: "b", type: Oid.text, key: true }
])
const other = Pg.relation(3, "other", "d", [{ name: "id", type: Oid.int4, key: true }])

const run = Effect.fnUntraced(function*(
  decoder: PgOutputDecoder.PgOutputDecoder,
  ...payloads: ReadonlyArray<Buffer>
) {
  const elements = yield* decoder.decode(Pg.messages(...payloads))
  const failed = elements.find((element) => element._tag === "TableFailed")
  if (failed !== undefined) return yield* failed.error
  return lines(elements)
})

describe("PgOutputDecoder", () => {
  it.effect("numbers every row change of a transaction, those of other tables too", () =>
    Effect.gen(function*() {
      const result = yield* run(
        make(),
        Pg.begin(100n),
        other,
        orders,
        Pg.insert(1, ["1", "a"]),
        Pg.insert(3, ["1"]),
        Pg.truncate(3),
        Pg.message(true, 90n, "p", "not a row"),
        Pg.update(1, ["1", "b"]),
        Pg.remove(1, "K", ["1", null]),
        Pg.commit(100n)
      )
      assert.deepStrictEqual(result, [
        "orders Schema 100/0 id,note",
        "orders Insert 100/1 1,a",
        "Message 100/6 p: not a row",
        "orders Update 100/7 1,b",
        "orders Delete 100/9 1,null",
        "Watermark 108"
      ])
    }))

  it.effect("makes a pair of rows of a change of key, and one row of an old tuple with the same key", () =>
    Effect.gen(function*() {
      const result = yield* run(
        make(),
        Pg.begin(100n),
        orders,
        Pg.update(1, ["2", unchanged], { kind: "K", values: ["1", null] }),
        Pg.update(1, ["2", unchanged], { kind: "O", values: ["2", "long"] }),
        Pg.update(1, [unchanged, "x"], { kind: "K", values: ["2", null] }),
        Pg.update(1, ["3", "y"], { kind: "O", values: ["2", "long"] }),
        Pg.commit(100n)
      )
      assert.deepStrictEqual(result, [
        "orders Schema 100/0 id,note",
        "orders KeyChangeOld 100/0 1,null",
        "orders KeyChangeNew 100/1 2,~",
        "orders Update 100/3 2,long",
        "orders Update 100/5 2,x",
        "orders KeyChangeOld 100/6 2,long",
        "orders KeyChangeNew 100/7 3,y",
        "Watermark 108"
      ])
    }))

  it.effect("makes a pair of every update of a table without a key", () =>
    Effect.gen(function*() {
      const result = yield* run(
        make(),
        Pg.begin(100n),
        keyless,
        Pg.update(2, ["1", unchanged], { kind: "O", values: ["1", "b"] }),
        Pg.remove(2, "O", ["1", "b"]),
        Pg.commit(100n)
      )
      assert.deepStrictEqual(result.slice(1), [
        "keyless KeyChangeOld 100/0 1,b",
        "keyless KeyChangeNew 100/1 1,b",
        "keyless Delete 100/3 1,b",
        "Watermark 108"
      ])
    }))

  it.effect("tells a value that was not sent from null, in any column", () =>
    Effect.gen(function*() {
      const wide = Pg.relation(9, "wide", "d", [
        { name: "id", type: Oid.int4, key: true },
        ...Array.from({ length: 20 }, (_, index) => ({ name: `c${index}`, type: Oid.text }))
      ])
      const values = Array.from(
        { length: 20 },
        (_, index) => index % 3 === 0 ? unchanged : index % 3 === 1 ? null : "v"
      )
      const result = yield* run(
        make(),
        Pg.begin(1n),
        wide,
        Pg.update(9, ["1", ...values]),
        Pg.update(9, ["1", ...values.map(() => "w")]),
        Pg.commit(1n)
      )
      const expected = values.map((value) => value === unchanged ? "~" : value ?? "null")
      assert.strictEqual(result[1], `wide Update 1/1 1,${expected.join(",")}`)
      assert.strictEqual(result[2], `wide Update 1/3 1,${expected.map(() => "w").join(",")}`)
    }))

  it.effect("gives rows of an unfinished transaction at once, but no watermark before its end", () =>
    Effect.gen(function*() {
      const decoder = make()
      assert.deepStrictEqual(
        yield* run(
          decoder,
          Pg.begin(50n),
          orders,
          Pg.insert(1, ["1", "a"]),
          Pg.commit(50n),
          Pg.begin(100n),
          Pg.insert(1, ["2", "b"])
        ),
        ["orders Schema 50/0 id,note", "orders Insert 50/1 1,a", "orders Insert 100/1 2,b", "Watermark 58"]
      )
      const middle = yield* decoder.decode(Pg.view(Pg.keepalive(200n), Pg.wal(Pg.insert(1, ["3", "c"]))))
      assert.deepStrictEqual(lines(middle), ["orders Insert 100/3 3,c"])
      const last = yield* decoder.decode(Pg.view(Pg.wal(Pg.commit(100n)), Pg.keepalive(250n), Pg.keepalive(240n)))
      assert.deepStrictEqual(lines(last), ["Watermark 250"])
      assert.deepStrictEqual(lines(yield* decoder.decode(Pg.view(Pg.keepalive(250n)))), [])
      assert.deepStrictEqual(lines(yield* decoder.decode(Pg.view())), [])
    }))

  it.effect("carries the commit time in rows, truncates and watermarks", () =>
    Effect.gen(function*() {
      const decoder = make()
      assert.deepStrictEqual(yield* decoder.decode(Pg.view(Pg.keepalive(1n))), [
        { _tag: "Watermark", position: 1n, commitTime: undefined }
      ])
      for (const time of [1_700_000_000_123_456n, -1n, 0n, 946_684_799_999_999n]) {
        const elements = yield* decoder.decode(Pg.messages(
          Pg.begin(100n + time, time),
          orders,
          Pg.insert(1, ["1", "a"]),
          Pg.truncate(1),
          Pg.commit(100n + time, 2n ** 60n + time, time)
        ))
        for (const element of elements) {
          if (element._tag === "Rows") {
            assert.strictEqual(
              ChangeBatch.child(element.batch.records, ChangeBatch.MetadataColumns.commitTime).values[0],
              time
            )
          } else if (element._tag === "Truncate" || element._tag === "Watermark") {
            assert.strictEqual(element.commitTime, time)
          }
        }
      }
    }))

  it.effect("cuts batches by rows and by bytes, and loses none", () =>
    Effect.gen(function*() {
      const inserts = Array.from({ length: 1000 }, (_, index) => Pg.insert(1, [String(index), "x".repeat(100)]))
      for (const limit of [{ maxRows: 64 }, { maxBytes: 8192 }]) {
        const elements = yield* make(limit).decode(Pg.messages(Pg.begin(100n), orders, ...inserts, Pg.commit(100n)))
        const batches = elements.flatMap((element) => element._tag === "Rows" ? [element.batch] : [])
        assert.isAbove(batches.length, 10)
        assert.isTrue(batches.every((batch) => batch.rows <= 64))
        const rows = lines(elements).filter((line) => line.includes("Insert"))
        assert.deepStrictEqual(
          rows.map((line) => line.split(" ")[3]?.split(",")[0]),
          inserts.map((_, index) => String(index))
        )
      }
    }))

  it.effect("keeps every row's operation, sequence and values in batches of any size", () =>
    Effect.gen(function*() {
      const changes = Array.from({ length: 3000 }, (_, index) =>
        index % 3 === 0 ? Pg.insert(1, [String(index), `note ${index}`]) : Pg.update(1, [String(index), unchanged]))
      const result = yield* run(make(), Pg.begin(100n), orders, ...changes, Pg.commit(100n))
      assert.deepStrictEqual(
        result.slice(1, -1),
        changes.map((_, index) =>
          `orders ${index % 3 === 0 ? "Insert" : "Update"} 100/${index * 2 + 1} ${index},${
            index % 3 === 0 ? `note ${index}` : "~"
          }`
        )
      )
    }))

  it.effect("keeps each table's order across barriers", () =>
    Effect.gen(function*() {
      const widened = Pg.relation(1, "orders", "d", [
        { name: "id", type: Oid.int4, key: true },
        { name: "note", type: Oid.text },
        { name: "more", type: Oid.bool }
      ])
      const result = yield* run(
        make(),
        Pg.begin(100n),
        orders,
        keyless,
        Pg.insert(1, ["1", "a"]),
        Pg.insert(2, ["1", "k"]),
        Pg.truncate(1, 2),
        Pg.insert(1, ["2", "b"]),
        orders,
        Pg.insert(1, ["3", "c"]),
        widened,
        Pg.insert(1, ["4", "d", "t"]),
        Pg.commit(100n)
      )
      assert.deepStrictEqual(result.filter((line) => line.startsWith("orders")), [
        "orders Schema 100/0 id,note",
        "orders Insert 100/1 1,a",
        "orders Truncate 100/5",
        "orders Insert 100/7 2,b",
        "orders Insert 100/9 3,c",
        "orders Schema 100/10 id,note,more",
        "orders Insert 100/11 4,d,true"
      ])
      assert.deepStrictEqual(result.filter((line) => line.startsWith("keyless")), [
        "keyless Schema 100/2 a,b",
        "keyless Insert 100/3 1,k",
        "keyless Truncate 100/5"
      ])
    }))

  it.effect("makes no barrier of a relation that has the shape which the sink knows", () =>
    Effect.gen(function*() {
      const known = make({
        tables: [{
          table: { schema: "public", name: "orders" },
          version: 3,
          columns: [
            { name: "id", type: { _tag: "Int32" }, sourceType: "integer", nullable: false },
            { name: "note", type: { _tag: "Text", maxLength: undefined }, sourceType: "text", nullable: true }
          ],
          identity: { _tag: "Key", columns: [0] }
        }]
      })
      const result = yield* run(
        known,
        Pg.begin(100n),
        orders,
        Pg.insert(1, ["1", "a"]),
        orders,
        Pg.insert(1, ["2", "b"]),
        Pg.commit(100n)
      )
      assert.deepStrictEqual(result, ["orders Insert 100/1 1,a", "orders Insert 100/3 2,b", "Watermark 108"])
    }))

  it.effect("leaves out what is in a table's copy, its old shapes too, and nothing else", () =>
    Effect.gen(function*() {
      const decoder = make({ copied: new Map([["public.orders", 0x1_0000_0064n]]) })
      const old = Pg.relation(1, "orders", "d", [{ name: "id", type: Oid.int4, key: true }])
      const before = 0x1_0000_0063n
      const after = 0x1_0000_0064n
      const result = yield* run(
        decoder,
        Pg.begin(5n),
        old,
        keyless,
        Pg.insert(1, ["0"]),
        Pg.commit(5n),
        Pg.begin(before),
        Pg.insert(1, ["1"]),
        Pg.truncate(1),
        Pg.insert(2, ["1", "k"]),
        Pg.commit(before),
        Pg.begin(after),
        orders,
        Pg.insert(1, ["2", "b"]),
        Pg.commit(after)
      )
      assert.deepStrictEqual(result, [
        `keyless Schema ${before}/4 a,b`,
        `orders Schema ${after}/0 id,note`,
        `keyless Insert ${before}/5 1,k`,
        `orders Insert ${after}/1 2,b`,
        `Watermark ${after + 8n}`
      ])
    }))

  it.effect("finds columns by name, and skips those that the table doesn't have", () =>
    Effect.gen(function*() {
      const decoder = make({
        resolveRelation: (relation) => {
          const schema = schemaOf(relation)
          return {
            ...schema,
            columns: schema.columns.filter((column) => column.name !== "secret").reverse(),
            identity: { _tag: "Key", columns: [1] }
          }
        }
      })
      const table = Pg.relation(1, "orders", "d", [
        { name: "id", type: Oid.int4, key: true },
        { name: "secret", type: Oid.text },
        { name: "note", type: Oid.text }
      ])
      const result = yield* run(
        decoder,
        Pg.begin(1n),
        table,
        Pg.insert(1, ["1", "hidden", "a"]),
        Pg.update(1, ["2", "hidden", "a"], { kind: "K", values: ["1", null, null] }),
        Pg.commit(1n)
      )
      assert.deepStrictEqual(result.slice(1), [
        "orders Insert 1/1 a,1",
        "orders KeyChangeOld 1/2 null,1",
        "orders KeyChangeNew 1/3 a,2",
        "Watermark 9"
      ])
    }))

  it.effect("passes over origins and types, and decodes messages outside of transactions", () =>
    Effect.gen(function*() {
      const result = yield* run(
        make(),
        Pg.begin(100n),
        Pg.origin(7n, "upstream"),
        Pg.type(50001, "mood"),
        Pg.relation(4, "moods", "d", [{ name: "id", type: 50001, key: true }]),
        Pg.insert(4, ["happy"]),
        Pg.commit(100n),
        Pg.message(false, 0x2_0000_0001n, "heartbeat", "42")
      )
      assert.deepStrictEqual(result, [
        "moods Schema 100/0 id",
        "moods Insert 100/1 happy",
        "Message 8589934593/0 heartbeat: 42",
        "Watermark 108"
      ])
    }))

  it.effect("decodes binary values, and says which column has no binary decoder", () =>
    Effect.gen(function*() {
      const table = Pg.relation(1, "orders", "d", [{ name: "id", type: Oid.int4, key: true }, {
        name: "spans",
        type: Oid.interval
      }])
      const decoder = make()
      const result = yield* run(
        decoder,
        Pg.begin(1n),
        table,
        Pg.insert(1, [Uint8Array.of(0, 0, 1, 0), "1 day"]),
        Pg.commit(1n)
      )
      assert.strictEqual(result[1], "orders Insert 1/1 256,1 day")
      const error = yield* Effect.flip(
        run(decoder, Pg.begin(9n), Pg.insert(1, [Uint8Array.of(0, 0, 1, 0), new Uint8Array(16)]))
      )
      assert.strictEqual(error.reason, "Unsupported")
      assert.include(error.message, "spans")
      assert.strictEqual(error.table, "public.orders")
    }))

  it.effect("gives up a table with a change that can't be represented, goes on with the others, and counts as ever", () =>
    Effect.gen(function*() {
      const spans = Pg.relation(4, "spans", "d", [
        { name: "id", type: Oid.int4, key: true },
        { name: "span", type: Oid.interval }
      ])
      const decoder = make()
      const bad = Pg.insert(4, ["2", new Uint8Array(16)])
      const elements = yield* decoder.decode(Pg.messages(
        Pg.begin(9n),
        orders,
        spans,
        Pg.insert(4, ["1", "1 day"]),
        Pg.insert(1, ["1", "a"]),
        bad,
        Pg.insert(4, ["3", "1 day"]),
        bad,
        Pg.truncate(4),
        Pg.insert(1, ["2", "b"]),
        Pg.commit(9n)
      ))
      const failed = elements.filter((element) => element._tag === "TableFailed")
      assert.deepStrictEqual(failed.map(({ error, table }) => [error.reason, error.table, table.table.name]), [
        ["Unsupported", "public.spans", "spans"]
      ])
      const others = elements.filter((element) => element._tag !== "TableFailed")
      assert.deepStrictEqual(lines(others).filter((line) => !line.includes("Schema")), [
        "orders Insert 9/3 1,a",
        "orders Insert 9/13 2,b",
        "Watermark 17"
      ])
      // Somebody has it copied again.
      const [table] = failed.map(({ table }) => table)
      if (table === undefined) return assert.fail("no table")
      assert.strictEqual(yield* decoder.track(table, 20n), 20n)
      assert.deepStrictEqual(
        yield* run(decoder, Pg.begin(19n), Pg.insert(4, ["4", "1 day"]), Pg.commit(19n)),
        ["Watermark 27"]
      )
      assert.deepStrictEqual(
        yield* run(decoder, Pg.begin(30n), Pg.insert(4, ["5", "1 day"]), Pg.commit(30n)),
        ["spans Insert 30/1 5,1 day", "Watermark 38"]
      )
    }))

  it.effect("refuses changes that don't say which row they mean", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<Buffer> = [
        Pg.update(2, ["1", "b"]),
        Pg.remove(2, "K", ["1", "b"]),
        Pg.remove(1, "K", [null, "b"]),
        Pg.update(1, ["1", "b"], { kind: "K", values: [null, null] })
      ]
      for (const change of cases) {
        const error = yield* Effect.flip(run(make(), Pg.begin(1n), orders, keyless, change))
        assert.strictEqual(error.reason, "Unsupported")
        assert.include(["public.orders", "public.keyless"], error.table)
      }
    }))

  it.effect("names the position, table and column of a value that it can't decode, and not the value", () =>
    Effect.gen(function*() {
      const insert = Pg.wal(Pg.insert(1, ["12x45", "secret text"]), 0x16_b374d848n)
      const error = yield* Effect.flip(make().decode(Pg.view(Pg.wal(Pg.begin(1n)), Pg.wal(orders), insert)))
      assert.strictEqual(error.reason, "Protocol")
      assert.strictEqual(error.table, "public.orders")
      assert.include(error.message, "16/B374D848")
      assert.include(error.message, "column id of table public.orders")
      assert.notInclude(error.message, "12x45")
    }))

  it.effect("refuses a column of the table that the server doesn't send", () =>
    Effect.gen(function*() {
      const decoder = make({
        resolveRelation: (relation) => ({
          ...schemaOf(relation),
          columns: [...schemaOf(relation).columns, {
            name: "total",
            type: { _tag: "Int32" },
            sourceType: "integer",
            nullable: true
          }]
        })
      })
      const error = yield* Effect.flip(run(decoder, Pg.begin(1n), orders))
      assert.strictEqual(error.reason, "Misconfigured")
      assert.include(error.message, "total")
    }))

  const samples: ReadonlyArray<Buffer> = [
    orders,
    Pg.insert(1, ["1", "a"]),
    Pg.update(1, ["1", unchanged]),
    Pg.update(1, ["2", "b"], { kind: "K", values: ["1", null] }),
    Pg.remove(1, "K", ["1", null]),
    Pg.truncate(1, 2),
    Pg.message(true, 5n, "prefix", "content"),
    Pg.commit(100n)
  ]

  it.effect("answers every truncated or lengthened message with a Protocol error", () =>
    Effect.gen(function*() {
      for (const sample of samples) {
        const cut = Array.from({ length: sample.length }, (_, length) => sample.subarray(0, length))
        for (const payload of [...cut, Buffer.concat([sample, Uint8Array.of(0)])]) {
          const error = yield* Effect.flip(run(make(), Pg.begin(100n), orders, keyless, payload))
          assert.strictEqual(error.reason, "Protocol", payload.toString("hex"))
        }
      }
      for (let length = 0; length < 20; length++) {
        const error = yield* Effect.flip(run(make(), Pg.begin(100n).subarray(0, length)))
        assert.strictEqual(error.reason, "Protocol")
      }
    }))

  it.effect("answers messages out of place with a Protocol error", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<ReadonlyArray<Buffer>> = [
        [Pg.insert(1, ["1", "a"])],
        [Pg.commit(1n)],
        [Pg.truncate(1)],
        [Pg.message(true, 1n, "p", "c")],
        [Pg.begin(1n), Pg.begin(2n)],
        [Pg.begin(1n), Pg.commit(2n)],
        [Pg.begin(1n), Pg.insert(1, ["1", "a"])],
        [Pg.begin(1n), Pg.truncate(1)],
        [Pg.begin(1n), orders, Pg.insert(1, ["1"])],
        [Pg.begin(1n), orders, Pg.insert(1, ["1", "a", "b"])],
        [Pg.begin(1n), orders, Pg.remove(1, "K", ["1", unchanged])],
        [Buffer.from("S")],
        [Buffer.from("Z")],
        [Buffer.alloc(0)]
      ]
      for (const payloads of cases) {
        const error = yield* Effect.flip(run(make(), ...payloads))
        assert.strictEqual(error.reason, "Protocol")
      }
      const error = yield* Effect.flip(make().decode(Pg.view(Buffer.from("d\0\0\0\x06zz", "latin1"))))
      assert.strictEqual(error.reason, "Protocol")
    }))

  it.effect("answers any damage with elements or one ConnectorError", () =>
    Effect.gen(function*() {
      const stream = [Pg.begin(100n), orders, keyless, ...samples].map((payload) => Pg.wal(payload))
      const damage = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 6 })
      const exits = yield* Effect.forEach(fc.sample(damage, 3000), (changes) => {
        const frames = stream.map((frame) => Buffer.from(frame))
        for (const [at, byte] of changes) {
          const frame = frames[at % frames.length] ?? Buffer.alloc(0)
          frame[5 + at % (frame.length - 5)] = byte
        }
        return Effect.result(make().decode(Pg.view(...frames)))
      })
      for (const exit of exits) if (exit._tag === "Failure") assert.instanceOf(exit.failure, ConnectorError)
      assert.isAbove(exits.filter((exit) => exit._tag === "Failure").length, 100)
      assert.isAbove(exits.filter((exit) => exit._tag === "Success").length, 100)
    }))

  it.effect("doesn't keep the buffers of large batches for small ones", () =>
    Effect.gen(function*() {
      const decoder = make()
      const many = Array.from({ length: 10_000 }, (_, index) => Pg.insert(1, [String(index), "x"]))
      yield* run(decoder, Pg.begin(100n), orders, ...many, Pg.commit(100n))
      yield* run(decoder, Pg.begin(200n), Pg.insert(1, ["1", "x"]), Pg.commit(200n))
      const elements = yield* decoder.decode(Pg.messages(Pg.begin(300n), Pg.insert(1, ["1", "x"]), Pg.commit(300n)))
      const held = elements.flatMap((element) =>
        element._tag === "Rows"
          ? element.batch.records.data.children.map((child) => child.values?.buffer.byteLength ?? 0)
          : []
      )
      assert.isAbove(held.length, 0)
      assert.isBelow(Math.max(...held), 10_000)
    }))

  it.effect("keeps little memory for many tables of which each had one large batch", () =>
    Effect.gen(function*() {
      const tables = Array.from({ length: 30 }, (_, index) => index + 100)
      const relation = (oid: number) =>
        Pg.relation(oid, `t${oid}`, "d", [{ name: "id", type: Oid.int4, key: true }, { name: "note", type: Oid.text }])
      const collect: () => void = yield* Effect.sync(() => {
        setFlagsFromString("--expose-gc")
        return runInNewContext("gc")
      })
      const held = () => {
        // The second waits until what the first has found is given back.
        collect()
        collect()
        return process.memoryUsage().arrayBuffers
      }
      const decoder = make()
      const before = held()
      for (const oid of tables) {
        const many = Array.from({ length: 2500 }, (_, index) => Pg.insert(oid, [String(index), "x".repeat(1000)]))
        yield* run(decoder, Pg.begin(100n), relation(oid), ...many, Pg.commit(100n))
        yield* run(decoder, Pg.begin(200n), Pg.insert(oid, ["1", "x"]), Pg.commit(200n))
      }
      // What each batch took alone; without a limit there would be thirty times as much.
      assert.isBelow(held() - before, 25_000_000)
      const elements = yield* decoder.decode(Pg.messages(Pg.begin(300n), Pg.insert(100, ["1", "x"]), Pg.commit(300n)))
      assert.strictEqual(elements.length, 2)
    }))
})
