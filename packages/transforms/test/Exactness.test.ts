/**
 * Values that aren't silently another number, day or time, and rows that aren't left behind.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Quarantine from "@etl-stream/core/Quarantine"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { plugins } from "../src/index.ts"
import * as TablePlan from "../src/TablePlan.ts"
import * as Fixture from "./Fixture.ts"

const message = (error: unknown): string => error instanceof Error ? error.message : String(error)

describe("cast", () => {
  const far = Fixture.table({ id: "int64", day: "date", written: "text" })
  const rows: ReadonlyArray<Fixture.Row> = [
    { op: "Insert", values: { id: 1n, day: 150_000_000, written: "+300000-01-01T00:00:00Z" } },
    { op: "Insert", values: { id: 2n, day: 1, written: "1970-01-02T00:00:00Z" } }
  ]

  for (const column of ["day", "written"]) {
    it.effect(`doesn't wrap a ${column} beyond the last timestamp round to another one`, () =>
      Effect.gen(function*() {
        const columns = { [column]: "timestamptz" }
        const lenient = yield* Fixture.apply(plugins.cast, { columns, onMisfit: "null" }, far, rows)
        assert.deepStrictEqual(Fixture.column(lenient, column), [null, 86_400_000_000n])
        const error = yield* Effect.flip(Fixture.apply(plugins.cast, { columns }, far, rows))
        assert.include(message(error), "can't hold exactly")
      }))
  }

  it.effect("writes decimals from text as decimal text, whatever form they had", () =>
    Effect.gen(function*() {
      const texts = ["1e5", "+1.50", ".5", "1.", "1.00", "-0.10", "NaN"]
      const made = yield* Fixture.apply(
        plugins.cast,
        { columns: { written: "decimal" } },
        Fixture.table({ id: "int64", written: "text" }),
        texts.map((written, at) => ({ op: "Insert", values: { id: BigInt(at), written } }))
      )
      assert.deepStrictEqual(Fixture.column(made, "written"), ["100000", "1.50", "0.5", "1", "1.00", "-0.10", "NaN"])
    }))
})

describe("add", () => {
  it.effect("takes numbers out of JSON with all their digits", () =>
    Effect.gen(function*() {
      const table = Fixture.table({ id: "int64", doc: "json" })
      const doc =
        `{"id": 9007199254740993, "q": 12345678901234567890.123, "near": 1.00000000000000000001, "n": 1.50, "big": 1e400}`
      const values: Record<string, { readonly expression: string; readonly type: string }> = {
        whole: { expression: "json(doc).id", type: "int64" },
        text: { expression: "json(doc).id", type: "text" },
        quantity: { expression: "json(doc).q", type: "decimal" },
        near: { expression: "json(doc).near", type: "decimal" },
        price: { expression: "json(doc).n", type: "decimal(5,2)" },
        is: {
          expression: "json(doc).id == 9007199254740993 && json(doc).q > decimal('1') && json(doc).n == 1.5",
          type: "boolean"
        },
        all: { expression: "json(doc).map(k, k == 'q', json(doc)[k])[0]", type: "json" }
      }
      const made = yield* Fixture.apply(plugins.add, { columns: values }, table, [
        { op: "Insert", values: { id: 1n, doc } }
      ])
      const { doc: _, id: __, ...added } = made.rows[0]?.values ?? {}
      assert.deepStrictEqual(added, {
        whole: 9_007_199_254_740_993n,
        text: "9007199254740993",
        quantity: "12345678901234567890.123",
        near: "1.00000000000000000001",
        price: "1.50",
        is: true,
        all: "12345678901234567890.123"
      })
    }))

  it.effect("writes times, bytes and numbers that JSON has no form for as text in it, not as something else or NULL", () =>
    Effect.gen(function*() {
      const made = yield* Fixture.apply(
        plugins.add,
        {
          columns: {
            times: { expression: "[at]", type: "json" },
            bytes: { expression: "{'raw': raw}", type: "json" },
            numbers: { expression: "[1.0 / 0.0, 1.5]", type: "json" },
            decimals: { expression: "[amount, amount + 1]", type: "json" }
          }
        },
        Fixture.table({ id: "int64", at: "timestamptz", raw: "binary", amount: "decimal" }),
        [{ op: "Insert", values: { id: 1n, at: 1_500_001n, raw: new Uint8Array([1, 2, 255]), amount: "NaN" } }]
      )
      const { bytes, decimals, numbers, times } = made.rows[0]?.values ?? {}
      assert.deepStrictEqual([times, bytes, numbers, decimals], [
        `["1970-01-01T00:00:01.500001Z"]`,
        `{"raw":"AQL/"}`,
        `["Infinity",1.5]`,
        `["NaN","NaN"]`
      ])
    }))

  it.effect("doesn't wrap far days round, nor write times of no day", () =>
    Effect.gen(function*() {
      const columns = {
        at: { expression: "day", type: "timestamptz", onError: "null" },
        time: { expression: "dyn(86400000001)", type: "time", onError: "null" }
      }
      const made = yield* Fixture.apply(plugins.add, { columns }, Fixture.table({ id: "int64", day: "date" }), [
        { op: "Insert", values: { id: 1n, day: 150_000_000 } }
      ])
      assert.deepStrictEqual(made.rows[0]?.values, { id: 1n, day: 150_000_000, at: null, time: null })
    }))
})

describe("a transform that breaks", () => {
  it.effect("sets aside the table of the row that it breaks at, and doesn't tell its values", () =>
    Effect.gen(function*() {
      const table = Fixture.table({ id: "int64" })
      const transform = TablePlan.transform((target) => ({
        target,
        apply: () => {
          throw new SyntaxError("4711 is no JSON")
        }
      }))
      const error = yield* Effect.flip(Fixture.through(transform, table, [{ op: "Insert", values: { id: 1n } }]))
      assert.strictEqual(error.table, "public.t")
      assert.isTrue(Quarantine.concernsTable(error))
      assert.include(error.message, "broke (SyntaxError) at a row of the table public.t")
      assert.notInclude(`${error.message} ${error.hint} ${String(error.cause)}`, "4711")
    }))
})

describe("deduplicate", () => {
  it.effect("lets a change of an ignored column of a table without a key pass: the next change finds the row by it", () =>
    Effect.gen(function*() {
      const table = Fixture.table({ a: "int64", seen: "int64" }, "full")
      const rows: ReadonlyArray<Fixture.Row> = [
        { op: "KeyChangeOld", values: { a: 1n, seen: 1n } },
        { op: "KeyChangeNew", values: { a: 1n, seen: 2n } },
        { op: "KeyChangeOld", values: { a: 1n, seen: 2n } },
        { op: "KeyChangeNew", values: { a: 1n, seen: 2n } }
      ]
      const made = yield* Fixture.apply(plugins.deduplicate, { ignore: ["seen"] }, table, rows)
      assert.deepStrictEqual(Fixture.column(made, "seen"), [1n, 2n])
    }))

  it.effect("lets a large ignored value pass, which later updates don't send again", () =>
    Effect.gen(function*() {
      const table = Fixture.table({ id: "int64", note: "text", body: "text", seen: "int64" })
      const large = "new".repeat(1000)
      const made = yield* Fixture.apply(plugins.deduplicate, { ignore: ["body", "seen"] }, table, [
        { op: "Insert", values: { id: 1n, note: "a", body: "old".repeat(1000), seen: 1n } },
        { op: "Update", values: { id: 1n, note: "a", body: large, seen: 2n } },
        { op: "Update", values: { id: 1n, note: "a", body: large, seen: 3n } },
        { op: "Update", values: { id: 1n, note: "a", body: "short", seen: 3n } },
        { op: "Update", values: { id: 1n, note: "b", seen: 4n } }
      ])
      assert.deepStrictEqual(made.rows.map(({ values }) => [values["note"], values["body"], values["seen"]]), [
        ["a", "old".repeat(1000), 1n],
        ["a", large, 2n],
        ["b", undefined, 4n]
      ])
    }))
})

describe("mask", () => {
  it.effect("leaves nothing of a text that only has an @ in it, and not half of a short one", () =>
    Effect.gen(function*() {
      const table = Fixture.table({ id: "int64", value: "text" })
      const masked = (options: object, values: ReadonlyArray<string>) =>
        Effect.map(
          Fixture.apply(
            plugins.mask,
            { columns: ["value"], ...options },
            table,
            values.map((value, at) => ({ op: "Insert", values: { id: BigInt(at), value } }))
          ),
          (made) => Fixture.column(made, "value")
        )
      assert.deepStrictEqual(
        yield* masked({ mode: "email" }, [
          "john@example.com",
          "müller@straße.example",
          "a@b.example, card 4111 1111 1111 1111",
          "me@x.example\nsecret",
          "user@4111111111111111"
        ]),
        ["j****@example.com", "m****@straße.example", "****", "****", "****"]
      )
      assert.deepStrictEqual(yield* masked({ mode: "keepLast" }, ["12345678", "123456789"]), ["********", "*****6789"])
    }))
})

describe("enrich", () => {
  it.effect("lets deletes pass whose entry has left the lookup table before", () =>
    Effect.gen(function*() {
      const made = yield* Fixture.apply(
        plugins.enrich,
        {
          column: "id",
          key: "id",
          table: [{ id: 1, label: "one" }],
          columns: { label: { type: "text" } },
          missing: "fail"
        },
        Fixture.table({ id: "int64" }),
        [{ op: "Delete", values: { id: 2n } }, { op: "Insert", values: { id: 1n } }]
      )
      assert.deepStrictEqual(made.rows.map(({ values }) => values["label"]), [null, "one"])
    }))

  it.effect("goes by what was read before when the file can't even be looked at", () =>
    Effect.gen(function*() {
      const directory = mkdtempSync(join(tmpdir(), "enrich-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(directory, { recursive: true })))
      const file = join(directory, "codes.csv")
      writeFileSync(file, "code,label\na,first\n")
      const table = Fixture.table({ id: "int64", code: "text" })
      const transform = yield* Fixture.make(
        plugins.enrich,
        { column: "code", key: "code", file, columns: { label: { type: "text" } }, reload: "1 millis" },
        directory
      )
      rmSync(file)
      symlinkSync(file, file)
      yield* TestClock.adjust("5 millis")
      const made = yield* Fixture.through(transform, table, [{ op: "Insert", values: { id: 1n, code: "a" } }])
      assert.deepStrictEqual(Fixture.column(made, "label"), ["first"])
    }))
})
