import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import type { ChangeBatch } from "../src/ChangeBatch.ts"
import * as ChangeBatches from "../src/ChangeBatch.ts"
import { Operation } from "../src/ChangeBatch.ts"
import * as Column from "../src/Column.ts"
import type { ConnectorError } from "../src/ConnectorError.ts"
import * as RowTransform from "../src/RowTransform.ts"
import * as RowView from "../src/RowView.ts"
import { sinkRows } from "../src/RowWriting.ts"
import type { TableSchema } from "../src/TableSchema.ts"
import type { Transform } from "../src/Transform.ts"
import { batch, notSent, type Row, sequences, type Value } from "./doubles/Tables.ts"

const column = (name: string, type: TableSchema["columns"][number]["type"], nullable = false) => ({
  name,
  type,
  sourceType: name,
  nullable
})

/** Orders: `id` is the key. */
const orders = (identity: TableSchema["identity"] = { _tag: "Key", columns: [1] }): TableSchema => ({
  table: { schema: "shop", name: "orders" },
  version: 1,
  columns: [
    column("note", { _tag: "Text", maxLength: undefined }, true),
    column("id", { _tag: "Int64" }),
    column("price", { _tag: "Int32" }),
    column("quantity", { _tag: "Int32" })
  ],
  identity
})

const apply = (transform: Transform, rows: ChangeBatch): ChangeBatch | undefined => {
  const made = Effect.runSync(transform.apply(rows))
  if (made !== undefined) {
    assert.isUndefined(ChangeBatches.misfit(made))
    assert.deepStrictEqual(made.table, Effect.runSync(transform.schema(rows.table)))
  }
  return made
}

const failure = (effect: Effect.Effect<unknown, ConnectorError>): ConnectorError => Effect.runSync(Effect.flip(effect))

const objects = (rows: ChangeBatch | undefined): ReadonlyArray<Readonly<Record<string, unknown>>> =>
  rows === undefined ? [] : Array.from(RowView.rows(rows), (row) => ({ op: row.operation, ...row.toObject() }))

/** The total in place of the price, and the double of the quantity behind all others. */
const totals = RowTransform.make({
  plugin: "totals",
  reads: { price: Column.int32(), quantity: Column.int32() },
  writes: { double: Column.int64(), price: Column.decimal().nullable },
  drops: ["note", "nothing"],
  map: ({ price, quantity }) => ({
    price: price < 0 ? null : `${price * quantity}`,
    double: BigInt(quantity) * 2n
  }),
  whenUnsent: ({ quantity }) => ({
    price: Column.notSent,
    double: quantity === Column.notSent ? Column.notSent : BigInt(quantity) * 2n
  })
})

const small = fc.integer({ min: -9, max: 9 })
const sent = (value: fc.Arbitrary<Value>) =>
  fc.oneof({ weight: 2, arbitrary: value }, { weight: 1, arbitrary: fc.constant<Value>(notSent) })

describe("RowTransform.make", () => {
  it("computes columns as a row by row model does, keeping order, operations and what was not sent", () => {
    const row: fc.Arbitrary<Row> = fc.record({
      op: fc.constantFrom(Operation.Update, Operation.Insert, Operation.Delete, Operation.KeyChangeNew),
      commit: fc.constant(5n),
      ordinal: fc.constant(1n),
      values: fc.tuple(sent(fc.constantFrom<Value>("a", null)), small, sent(small), sent(small))
    })
    const wanted = ({ op, values: [, id, price, quantity] }: Row) => {
      const known = { op, id: BigInt(id as number) } // as the generator above has it
      if (op === Operation.Delete) {
        return { ...known, price: null, quantity: quantity === notSent ? Column.notSent : quantity, double: null }
      }
      const sentQuantity = typeof quantity === "number" ? quantity : undefined
      return {
        ...known,
        price: typeof price !== "number" || sentQuantity === undefined
          ? Column.notSent
          : price < 0
          ? null
          : `${price * sentQuantity}`,
        quantity: sentQuantity ?? Column.notSent,
        double: sentQuantity === undefined ? Column.notSent : BigInt(sentQuantity) * 2n
      }
    }
    fc.assert(fc.property(fc.array(row, { minLength: 1, maxLength: 30 }), (rows) => {
      const numbered = rows.map((row, index) => ({ ...row, ordinal: BigInt(index) }))
      const given = batch(orders(), numbered)
      const made = apply(totals, given)
      assert.deepStrictEqual(objects(made), rows.map(wanted))
      assert.deepStrictEqual(made === undefined ? [] : sequences(made), sequences(given))
    }))
  })

  it("says what it makes of a table: written columns in their places or behind, the key where it is then", () => {
    const made = Effect.runSync(totals.schema(orders()))
    assert.deepStrictEqual(made?.columns.map(({ name, nullable, type }) => [name, type._tag, nullable]), [
      ["id", "Int64", false],
      ["price", "Decimal", true],
      ["quantity", "Int32", false],
      ["double", "Int64", false]
    ])
    assert.deepStrictEqual(made?.identity, { _tag: "Key", columns: [0] })
  })

  const plain = RowTransform.make({
    plugin: "plain",
    reads: { id: Column.int64(), price: Column.int32(), quantity: Column.int32() },
    writes: { total: Column.int32() },
    map: ({ price, quantity }) => ({ total: price * quantity })
  })
  const update = (op: Operation, price: Value, quantity: Value) =>
    batch(orders(), [{ op, commit: 1n, ordinal: 1n, values: ["x", 1n, price, quantity] }])

  it("sends nothing for an update in which nothing that it reads has changed, though the key is always there", () => {
    const [row] = objects(apply(plain, update(Operation.Update, notSent, notSent)))
    assert.strictEqual(row?.["total"], Column.notSent)
    assert.strictEqual(row?.["note"], "x")
  })

  it("refuses an update of which it has only some of the values, rather than write something wrong", () => {
    for (const op of [Operation.Update, Operation.KeyChangeNew]) {
      const error = failure(plain.apply(update(op, 7, notSent)))
      assert.strictEqual(error.table, "shop.orders")
      assert.match(error.message, /lacks values that the transform reads: quantity/)
      assert.notMatch(`${error.message}${error.hint}`, /7/)
    }
    // A change of key with a new key, but nothing else: what follows from both isn't known.
    assert.match(failure(plain.apply(update(Operation.KeyChangeNew, notSent, notSent))).message, /price, quantity/)
  })

  it("refuses values that don't fit their columns, naming table and column and never the value", () => {
    const liar = (value: unknown, type: Column.Column<Column.Value | null>) =>
      failure(
        RowTransform.make({
          plugin: "liar",
          reads: {},
          writes: { out: type },
          map: () => ({ out: value as never })
        }).apply(update(Operation.Insert, 1, 1))
      )
    const secret = "secret 4711"
    const wrong: ReadonlyArray<readonly [unknown, Column.Column<Column.Value | null>, RegExp]> = [
      [secret, Column.int32(), /is a string, where a number belongs/],
      [null, Column.text(), /is NULL, which the column doesn't take/],
      [undefined, Column.text(), /is missing/],
      [4711, Column.int64(), /is a number, where a bigint belongs/],
      [47.11, Column.int32(), /isn't an integer/],
      [4711e9, Column.int32(), /is out of range/],
      [1n << 63n, Column.int64(), /is out of range/],
      [secret, Column.decimal(), /isn't decimal text/],
      ["4711.00", Column.decimal(5, 2), /more digits than decimal\(5,2\)/],
      ["4.711", Column.decimal(5, 2), /more digits/],
      [secret, Column.text(5), /more than 5 characters/],
      [`${secret}\ud800`, Column.text(), /half of a surrogate pair/],
      [secret, Column.json(), /isn't JSON/],
      [secret, Column.uuid(), /isn't a UUID/],
      [4711e38, Column.float32(), /out of range/],
      [Column.notSent, Column.text(), /is a symbol/],
      [[4711], Column.binary(), /is a object, where a Uint8Array/]
    ]
    for (const [value, type, message] of wrong) {
      const error = liar(value, type)
      assert.strictEqual(error.reason, "Rejected")
      assert.strictEqual(error.table, "shop.orders")
      assert.match(error.message, /the column out of the table shop\.orders/)
      assert.match(error.message, message)
      assert.notMatch(`${error.message}${error.hint}`, /4711|47\.11|4\.711/)
    }
    const thrower = RowTransform.make({
      plugin: "thrower",
      reads: {},
      writes: { out: Column.text() },
      map: (): { out: string } => {
        throw new SyntaxError(secret)
      }
    })
    const error = failure(thrower.apply(update(Operation.Insert, 1, 1)))
    assert.match(error.message, /threw \(SyntaxError\)/)
    assert.notMatch(JSON.stringify(error), /4711/)
  })

  it("takes what fits exactly", () => {
    const taken: ReadonlyArray<readonly [Column.Value, Column.Column<Column.Value | null>, Column.Value?]> = [
      ["123.4500", Column.decimal(5, 2)],
      ["000123", Column.decimal(3)],
      ["NaN", Column.decimal(3)],
      ["-Infinity", Column.decimal()],
      ["🌊🌊", Column.text(2)],
      ["\ufeff", Column.text(1)],
      ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", Column.uuid(), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
      [86_400_000_000n, Column.time()],
      [-(1n << 63n), Column.timestampUtc()],
      [0x7fffffff, Column.date()],
      [Infinity, Column.float32()],
      ["x".repeat(10_000) + "ä", Column.text()]
    ]
    for (const [value, type, read = value] of taken) {
      const transform = RowTransform.make({
        plugin: "exact",
        reads: {},
        writes: { out: type },
        map: () => ({ out: value })
      })
      assert.strictEqual(objects(apply(transform, update(Operation.Insert, 1, 1)))[0]?.["out"], read)
    }
  })

  it("refuses tables whose columns aren't those that it reads", () => {
    const reading = (reads: Column.Columns) => RowTransform.filter({ plugin: "reader", reads, keep: () => true })
    const wrong: ReadonlyArray<readonly [Column.Columns, RegExp]> = [
      [{ colour: Column.text() }, /shop\.orders has no column colour/],
      [{ id: Column.int32() }, /id of the table shop\.orders is Int64, but the transform reads it as Int32/],
      [{ note: Column.text() }, /note of the table shop\.orders may be NULL/]
    ]
    for (const [reads, message] of wrong) {
      const error = failure(reading(reads).schema(orders()))
      assert.strictEqual(error.table, "shop.orders")
      assert.match(error.message, message)
    }
  })

  it("lets nobody lose the key: not left out, not from what a delete hasn't got, never NULL", () => {
    const writing = (parts: {
      readonly reads?: Column.Columns
      readonly writes?: Column.Columns
      readonly drops?: ReadonlyArray<string>
    }) =>
      failure(
        RowTransform.make({
          plugin: "keys",
          reads: {},
          writes: {},
          ...parts,
          map: () => {
            throw new Error("not called")
          }
        }).schema(orders())
      ).message
    assert.match(writing({ drops: ["id"] }), /leaves out the column id/)
    assert.match(
      writing({ reads: { price: Column.int32() }, writes: { id: Column.int64() } }),
      /key column id .* from columns that aren't of the key/
    )
    assert.match(writing({ writes: { id: Column.int64().nullable } }), /may write NULL to the key column id/)
  })

  it("writes a key from the key, in deletes as well", () => {
    const hashed = RowTransform.make({
      plugin: "hash",
      reads: { id: Column.int64() },
      writes: { id: Column.text() },
      map: ({ id }) => ({ id: `#${id}` })
    })
    const rows = batch(orders(), [
      { op: Operation.Insert, commit: 1n, ordinal: 1n, values: ["x", 1n, 1, 1] },
      { op: Operation.Delete, commit: 1n, ordinal: 2n, values: [null, 1n, null, null] },
      { op: Operation.KeyChangeOld, commit: 1n, ordinal: 4n, values: [null, 2n, null, null] },
      { op: Operation.KeyChangeNew, commit: 1n, ordinal: 5n, values: [notSent, 3n, 1, 1] }
    ])
    assert.deepStrictEqual(objects(apply(hashed, rows)).map((row) => [row["op"], row["id"]]), [
      [Operation.Insert, "#1"],
      [Operation.Delete, "#1"],
      [Operation.KeyChangeOld, "#2"],
      [Operation.KeyChangeNew, "#3"]
    ])
  })

  it("maps old rows, too, where rows are found by the whole of them", () => {
    const rows = batch(orders({ _tag: "Full" }), [
      { op: Operation.KeyChangeOld, commit: 1n, ordinal: 0n, values: ["x", 1n, 2, 3] },
      { op: Operation.KeyChangeNew, commit: 1n, ordinal: 1n, values: ["x", 1n, 2, 4] },
      { op: Operation.Delete, commit: 1n, ordinal: 3n, values: ["x", 1n, 2, 4] }
    ])
    assert.deepStrictEqual(objects(apply(plain, rows)).map((row) => row["total"]), [6, 8, 8])
  })
})

/** A table at a target that does what sinks do: rows by key, or all of them where there is none. */
class Target {
  readonly rows = new Map<string, Record<string, unknown>>()
  private readonly keyless: boolean
  private next = 0

  constructor(keyless: boolean) {
    this.keyless = keyless
  }

  private find(row: RowView.RowView): string | undefined {
    if (!this.keyless) return `${String(row.get("id"))}`
    const wanted = Object.entries(row.toObject())
    for (const [key, held] of this.rows) if (wanted.every(([name, value]) => held[name] === value)) return key
    return undefined
  }

  apply(rows: ChangeBatch): void {
    for (const row of sinkRows(rows)) {
      if (row.change === "remove") {
        const key = this.find(row)
        if (key !== undefined) this.rows.delete(key)
        continue
      }
      const oldKey = row.old === undefined ? undefined : this.find(row.old)
      const old = oldKey === undefined ? undefined : this.rows.get(oldKey)
      if (oldKey !== undefined) this.rows.delete(oldKey)
      const key = this.keyless ? `${this.next++}` : this.find(row) ?? ""
      const before = old ?? this.rows.get(key) ?? {}
      const sent = Object.entries(row.toObject()).filter(([, value]) => value !== Column.notSent)
      this.rows.set(key, { ...before, ...Object.fromEntries(sent) })
    }
  }

  contents(): ReadonlyArray<string> {
    const text = (_: string, value: unknown) => typeof value === "bigint" ? `${value}n` : value
    return [...this.rows.values()].map((row) => JSON.stringify(row, text)).sort()
  }
}

interface Step {
  readonly kind: "put" | "remove" | "rekey"
  readonly id: number
  readonly to: number
  readonly price: number
  readonly note: string
  readonly noteSent: boolean
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom("put", "put", "put", "remove", "rekey"),
  id: fc.integer({ min: 0, max: 4 }),
  to: fc.integer({ min: 0, max: 4 }),
  price: fc.integer({ min: 0, max: 3 }),
  note: fc.constantFrom("a", "b"),
  noteSent: fc.boolean()
})

interface Held {
  readonly note: string
  readonly price: number
}

/** What a source says of the steps, and what it holds in the end. `unsent`: it leaves out notes that haven't changed. */
const history = (steps: ReadonlyArray<Step>, identity: TableSchema["identity"], unsent: boolean) => {
  const held = new Map<number, Held>()
  const rows: Array<Row> = []
  const whole = identity._tag === "Full"
  const old = (id: number, { note, price }: Held): ReadonlyArray<Value> =>
    whole ? [note, BigInt(id), price, 1] : [null, BigInt(id), null, null]
  steps.forEach(({ id, kind, note, noteSent, price, to }, index) => {
    const at = { commit: BigInt(index + 1) }
    const before = held.get(id)
    const left = (): void => {
      if (before === undefined) return
      held.delete(id)
      rows.push({ ...at, op: Operation.Delete, ordinal: 1n, values: old(id, before) })
    }
    if (kind === "remove") return left()
    if (before === undefined) {
      if (kind === "rekey") return
      held.set(id, { note, price })
      rows.push({ ...at, op: Operation.Insert, ordinal: 1n, values: [note, BigInt(id), price, 1] })
      return
    }
    const keeps = unsent && !noteSent
    const after = { note: keeps ? before.note : note, price }
    const target = kind === "rekey" && !held.has(to) ? to : id
    const values: ReadonlyArray<Value> = [keeps ? notSent : after.note, BigInt(target), price, 1]
    if (target === id && !whole) rows.push({ ...at, op: Operation.Update, ordinal: 1n, values })
    else {
      rows.push({ ...at, op: Operation.KeyChangeOld, ordinal: 0n, values: old(id, before) })
      rows.push({ ...at, op: Operation.KeyChangeNew, ordinal: 1n, values })
    }
    held.delete(id)
    held.set(target, after)
  })
  return { rows, held }
}

const filters = {
  byPrice: RowTransform.filter({ plugin: "price", reads: { price: Column.int32() }, keep: ({ price }) => price < 2 }),
  byKey: RowTransform.filter({ plugin: "key", reads: { id: Column.int64() }, keep: ({ id }) => id < 3n })
}
const keeps = {
  byPrice: (_: number, { price }: Held) => price < 2,
  byKey: (id: number) => id < 3
}

describe("RowTransform.filter", () => {
  const cuts = fc.integer({ min: 1, max: 7 })

  /** Gives the rows to a target, filtered, in batches of at most so many; an error is what came instead. */
  const filtered = (transform: Transform, table: TableSchema, rows: ReadonlyArray<Row>, size: number) => {
    const target = new Target(table.identity._tag === "Full")
    for (let at = 0; at < rows.length;) {
      // A change of key stays together, as sources have it.
      const end = rows[at + size]?.op === Operation.KeyChangeNew ? at + size + 1 : at + size
      const made = Effect.runSync(Effect.result(transform.apply(batch(table, rows.slice(at, end)))))
      if (made._tag === "Failure") return made.failure
      if (made.success !== undefined) target.apply(made.success)
      at = end
    }
    return target
  }

  for (const which of ["byPrice", "byKey"] as const) {
    for (const identity of [{ _tag: "Key", columns: [1] }, { _tag: "Full" }] as const) {
      for (const unsent of [false, true]) {
        const name = `${which} a table with identity ${identity._tag}${unsent ? " and values that aren't sent" : ""}`
        it(`leaves a target with just the rows that pass, whatever side they change to: ${name}`, () => {
          fc.assert(
            fc.property(fc.array(step, { minLength: 1, maxLength: 40 }), cuts, (steps, size) => {
              const { held, rows } = history(steps, identity, unsent)
              if (rows.length === 0) return
              const target = filtered(filters[which], orders(identity), rows, size)
              if (!(target instanceof Target)) {
                // Only ever for want of values.
                assert.isTrue(unsent)
                assert.match(target.message, /lacks values/)
                return
              }
              const expected = [...held].filter(([id, row]) => keeps[which](id, row)).map(([id, { note, price }]) =>
                JSON.stringify({ note, id: `${id}n`, price, quantity: 1 })
              )
              assert.deepStrictEqual(target.contents(), expected.sort())
            }),
            { numRuns: 300 }
          )
        })
      }
    }
  }

  const update = (values: ReadonlyArray<Value>, op: Operation = Operation.Update) =>
    batch(orders(), [{ op, commit: 1n, ordinal: 1n, values }])

  it("turns an update that doesn't pass into a delete that shows nothing but the key", () => {
    const [row] = objects(apply(filters.byPrice, update([notSent, 1n, 5, 7])))
    assert.deepStrictEqual(row, { op: Operation.Delete, note: null, id: 1n, price: null, quantity: null })
  })

  it("refuses an update that passes and lacks values, because the row may be new to the target", () => {
    assert.match(failure(filters.byPrice.apply(update([notSent, 1n, 1, 7]))).message, /lacks values, and the row/)
    assert.deepStrictEqual(objects(apply(filters.byKey, update([notSent, 1n, notSent, 7]))).length, 1)
  })

  it("takes a promise that what it reads never changes", () => {
    const constant = RowTransform.filter({
      plugin: "price",
      reads: { price: Column.int32() },
      constant: true,
      keep: ({ price }) => price < 2
    })
    assert.deepStrictEqual(objects(apply(constant, update([notSent, 1n, 1, 7]))).map((row) => row["op"]), [
      Operation.Update
    ])
    assert.isUndefined(apply(constant, update([notSent, 1n, 5, 7])))
    assert.match(failure(constant.apply(update(["x", 1n, notSent, 7]))).message, /lacks values that the filter reads/)
  })

  it("gives back the batch itself when all rows stay", () => {
    const rows = update(["x", 1n, 1, 7])
    assert.strictEqual(apply(filters.byPrice, rows), rows)
  })
})
