/**
 * What each transform makes of values, keys and columns that come and go.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Plugin } from "@etl-stream/core/Plugin"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import type { Value } from "@etl-stream/testkit/RowBatch"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as fc from "fast-check"
import { createHmac } from "node:crypto"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Calendar from "../src/Calendar.ts"
import { plugins } from "../src/index.ts"
import * as Fixture from "./Fixture.ts"

const people = Fixture.table({ id: "int64", email: "text", body: "text" })
const { key } = Fixture

const problem = <A>(plugin: Plugin<"transform", A>, options: object, table: TableSchema) =>
  Effect.map(
    Effect.flip(Effect.flatMap(Fixture.make(plugin, options), ({ schema }) => schema(table))),
    (error) => String((error as { readonly message: string }).message) // a ConnectorError
  )

const omit = (row: Readonly<Record<string, Value>>, ...names: ReadonlyArray<string>): Readonly<Record<string, Value>> =>
  Object.fromEntries(Object.entries(row).filter(([name]) => !names.includes(name)))

/** What comes of values in a column `v` of the given type. */
const values = <A>(plugin: Plugin<"transform", A>, options: object, type: string, given: ReadonlyArray<Value>) =>
  Effect.map(
    Fixture.apply(
      plugin,
      options,
      Fixture.table({ id: "int64", v: type }),
      given.map((v, index) => ({ values: { id: BigInt(index), v } }))
    ),
    (made) => Fixture.column(made, "v")
  )

describe("transforms of values", () => {
  it.effect("mask covers what it is to cover, and leaves NULL", () =>
    Effect.gen(function*() {
      const mask = (mode: string, given: ReadonlyArray<Value>, more: object = {}) =>
        values(plugins.mask, { columns: ["v"], mode, ...more }, "text", given)
      assert.deepStrictEqual(yield* mask("full", ["secret", "", null]), ["****", "****", null])
      assert.deepStrictEqual(yield* mask("characters", ["añ🙂", ""], { with: "•" }), ["•••", ""])
      assert.deepStrictEqual(yield* mask("keepLast", ["4111111111111111", "12345678", "1234567"]), [
        "************1111",
        "********",
        "*******"
      ])
      assert.deepStrictEqual(yield* mask("keepFirst", ["🙂🙃🙂🙃🙂"], { keep: 2 }), ["🙂🙃***"])
      assert.deepStrictEqual(
        yield* mask("email", ["jane@example.com", "j@example.com", "nobody", "@x", "a@b@example.com"]),
        [
          "j****@example.com",
          "****@example.com",
          "****",
          "****",
          "a****@example.com"
        ]
      )
      assert.deepStrictEqual(
        yield* values(plugins.mask, { columns: ["v"], mode: "keepLast", keep: 2 }, "int64", [123456n]),
        ["****56"]
      )
      assert.deepStrictEqual(yield* values(plugins.mask, { columns: ["v"], mode: "null" }, "int64", [1n]), [null])
    }))

  it.effect("hash is HMAC-SHA-256 of the value's text, the same in every row that carries it, not sent where that isn't", () =>
    Effect.gen(function*() {
      const hmac = (text: string) => createHmac("sha256", key).update(text).digest("hex")
      const made = yield* Fixture.apply(plugins.hash, { columns: ["id", "body"], key }, people, [
        { op: "Insert", values: { id: 1n, email: "a", body: "ß" } },
        { op: "Update", values: { id: 1n, email: "b" } },
        { op: "KeyChangeOld", values: { id: 1n, email: null, body: null } },
        { op: "KeyChangeNew", values: { id: 2n, email: "b" } },
        { op: "Delete", values: { id: 2n, email: null, body: null } }
      ])
      assert.deepStrictEqual(made.rows, [
        { op: "Insert", values: { id: hmac("1"), email: "a", body: hmac("ß") } },
        { op: "Update", values: { id: hmac("1"), email: "b" } },
        { op: "KeyChangeOld", values: { id: hmac("1"), email: null, body: null } },
        { op: "KeyChangeNew", values: { id: hmac("2"), email: "b" } },
        { op: "Delete", values: { id: hmac("2"), email: null, body: null } }
      ])
      assert.strictEqual(Fixture.types(made.table)["id"], "text(64)")
      assert.deepStrictEqual(
        yield* values(plugins.hash, { columns: ["v"], key, encoding: "base64" }, "binary", [new Uint8Array([0xff])]),
        [createHmac("sha256", key).update(new Uint8Array([0xff])).digest("base64")]
      )
      const secret = yield* Effect.flip(Fixture.decode(plugins.hash, { columns: ["v"], key: "too short, it is" }))
      assert.notInclude(String(secret), "too short")
    }))

  it.effect("tokens keep their shape, are the same for the same values, and different for different ones", () =>
    Effect.gen(function*() {
      const token = (format: string, given: ReadonlyArray<Value>) =>
        values(plugins.tokenise, { columns: ["v"], key, format }, "text", given)
      const [text] = yield* token("text", ["a"])
      assert.match(String(text), /^tok_[0-9a-hjkmnp-tv-z]{26}$/)
      assert.match(
        String((yield* token("uuid", ["a"]))[0]),
        /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
      )
      assert.match(String((yield* token("email", ["a"]))[0]), /^\w{26}@example\.invalid$/)
      const [card, again, other, none] = yield* token("digits", [
        "4111 1111-1111/1111 é",
        "4111 1111-1111/1111 é",
        "4111 1111-1111/1112 é",
        "é"
      ])
      assert.match(String(card), /^\d{4} \d{4}-\d{4}\/\d{4} é$/)
      assert.strictEqual(card, again)
      assert.notStrictEqual(card, other)
      assert.strictEqual(none, "é")
      assert.match(String((yield* token("characters", ["Ab9-ü"]))[0]), /^[A-Z][a-z]\d-ü$/)
      // All of them once: a permutation.
      const all = Array.from({ length: 1000 }, (_, index) => String(index).padStart(3, "0"))
      assert.deepStrictEqual([...yield* token("digits", all)].sort(), all)
      const letters = Array.from(
        { length: 260 },
        (_, index) => `${String.fromCharCode(97 + index % 26)}${Math.floor(index / 26)}`
      )
      assert.strictEqual(new Set(yield* token("characters", letters)).size, 260)
      assert.include(
        yield* problem(plugins.tokenise, { columns: ["id"], key, format: "digits" }, people),
        "only for text"
      )
    }))

  it.effect("truncate cuts no character in two, and timestamps downwards", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* values(plugins.truncate, { columns: ["v"], length: 2 }, "text", ["äöü", "🙂🙃x", "a", "", null]),
        [
          "äö",
          "🙂🙃",
          "a",
          "",
          null
        ]
      )
      const at = (text: string) => Calendar.parseTimestamp(text, true) ?? 0n
      const infinity = 0x7fffffffffffffffn
      assert.deepStrictEqual(
        yield* values(plugins.truncate, { columns: ["v"], unit: "hour" }, "timestamptz", [
          at("1969-12-31T23:59:59.999999Z"),
          at("2026-02-28T12:05:00Z"),
          infinity,
          null
        ]),
        [at("1969-12-31T23:00:00Z"), at("2026-02-28T12:00:00Z"), infinity, null]
      )
      assert.deepStrictEqual(yield* values(plugins.truncate, { columns: ["v"], unit: "year" }, "date", [-1, 20_512]), [
        -365,
        20_454
      ])
      assert.include(
        yield* problem(plugins.truncate, { columns: ["id"], length: 3 }, { ...people, identity: { _tag: "None" } }),
        "can't be cut"
      )
    }))

  it.effect("cast changes no meaning: what doesn't fit exactly fails the table, or becomes NULL where that is chosen", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [from: string, to: string, given: Value, expected: Value | "misfit"]> = [
        ["text", "int16", "32767", 32_767],
        ["text", "int16", "32768", "misfit"],
        ["text", "int32", "1.0", 1],
        ["text", "int32", "1.5", "misfit"],
        ["text", "int32", " 1", "misfit"],
        ["text", "int64", "1e3", "misfit"],
        ["float64", "int32", 2, 2],
        ["float64", "int32", 2.5, "misfit"],
        ["float64", "int64", 1e300, "misfit"],
        ["int64", "float64", 9_007_199_254_740_993n, "misfit"],
        ["int64", "float64", 9_007_199_254_740_992n, 9_007_199_254_740_992],
        ["decimal", "float64", "0.1", 0.1],
        ["decimal", "float64", "0.1000000000000000000001", "misfit"],
        ["decimal", "decimal(4,1)", "12.30", "12.3"],
        ["decimal", "decimal(4,1)", "12.34", "misfit"],
        ["decimal", "decimal(4,1)", "1234.5", "misfit"],
        ["decimal", "int64", "12.00", 12n],
        ["decimal", "int64", "NaN", "misfit"],
        ["float64", "float32", 0.5, 0.5],
        ["float64", "float32", 0.1, "misfit"],
        ["float64", "decimal", 0.1, "0.1"],
        ["text", "boolean", "t", true],
        ["text", "boolean", "yes", "misfit"],
        ["int32", "boolean", 2, "misfit"],
        ["boolean", "int16", true, 1],
        ["text", "date", "2026-02-28", 20_512],
        ["text", "date", "2026-02-30", "misfit"],
        ["timestamptz", "date", 86_400_000_000n, 1],
        ["timestamptz", "date", 86_400_000_001n, "misfit"],
        ["date", "timestamp", 1, 86_400_000_000n],
        ["text", "timestamptz", "2026-02-28 13:05:00+01", 1_772_280_300_000_000n],
        ["text", "timestamptz", "2026-02-28 13:05:00", "misfit"],
        ["text", "timestamp", "2026-02-28T12:05:00.000001", 1_772_280_300_000_001n],
        ["text", "timestamp", "2026-02-28T12:05:00.0000001", "misfit"],
        ["text", "time", "24:00", 86_400_000_000n],
        ["text", "uuid", "00000000-0000-4000-8000-00000000000A", "00000000-0000-4000-8000-00000000000a"],
        ["text", "json", "{\"a\":1}", "{\"a\":1}"],
        ["text", "json", "{", "misfit"],
        ["text", "text(2)", "🙂🙃", "🙂🙃"],
        ["text", "text(2)", "abc", "misfit"],
        ["date", "text", -719_529, "-000001-12-31"],
        ["timestamptz", "text", 1_772_280_300_000_001n, "2026-02-28T12:05:00.000001Z"],
        ["time", "text", 3_600_000_001n, "01:00:00.000001"],
        ["binary", "text", new Uint8Array([1, 255]), "01ff"],
        ["boolean", "text", false, "false"]
      ]
      for (const [from, to, given, expected] of cases) {
        const [made] = yield* values(plugins.cast, { columns: { v: to }, onMisfit: "null" }, from, [given])
        assert.deepStrictEqual(made, expected === "misfit" ? null : expected, `${String(given)} from ${from} to ${to}`)
      }
      const error = yield* Effect.flip(values(plugins.cast, { columns: { v: "int16" } }, "text", ["1", "secret"]))
      assert.include(String(error), "can't hold exactly")
      assert.notInclude(String(error), "secret")
      assert.include(yield* problem(plugins.cast, { columns: { id: "uuid" } }, people), "can't become uuid")
    }))

  it.effect("casting to text and back gives the same, whatever the value", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.array(fc.bigInt({ min: -211_810_000_000_000_000n, max: 9_223_000_000_000_000_000n }), {
            minLength: 1,
            maxLength: 20
          }),
          fc.array(fc.double({ noNaN: true, noDefaultInfinity: true }), { minLength: 1, maxLength: 20 }),
          async (instants, doubles) => {
            for (
              const [type, given] of [["timestamptz", instants], ["timestamp", instants], ["int64", instants], [
                "float64",
                doubles
              ]] as const
            ) {
              const back = await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
                const texts = yield* values(plugins.cast, { columns: { v: "text" } }, type, given)
                return yield* values(plugins.cast, { columns: { v: type } }, "text", texts.map((text) => text ?? null))
              })))
              assert.deepStrictEqual(
                back.map((value) => value === 0 ? 0 : value),
                given.map((value) => value === 0 ? 0 : value)
              )
            }
          }
        ),
        { numRuns: 60 }
      )
    ))

  it.effect("flatten takes values out of JSON with all their digits", () =>
    Effect.gen(function*() {
      const table = Fixture.table({ id: "int64", doc: "json", note: "text" })
      const options = {
        column: "doc",
        prefix: "d_",
        keep: true,
        columns: {
          big: { type: "decimal" },
          deep: { path: ["a", "0", "b"], type: "text" },
          list: { path: ["a"], type: "json" },
          __proto__x: { path: ["__proto__"], type: "text" }
        }
      }
      const made = yield* Fixture.apply(plugins.flatten, options, table, [
        { values: { id: 1n, doc: "{\"big\": 12345678901234567890.10, \"a\": [{\"b\": \"x\"}]}", note: "" } },
        { values: { id: 2n, doc: "{\"a\": null, \"__proto__\": \"own\"}", note: "" } },
        { values: { id: 3n, doc: null, note: "" } },
        { op: "Update", values: { id: 4n, note: "unchanged document" } }
      ])
      assert.deepStrictEqual(made.rows.map(({ values }) => omit(values, "doc", "note")), [
        { id: 1n, d_big: "12345678901234567890.10", d_deep: "x", d_list: "[{\"b\":\"x\"}]", d___proto__x: null },
        { id: 2n, d_big: null, d_deep: null, d_list: null, d___proto__x: "own" },
        { id: 3n, d_big: null, d_deep: null, d_list: null, d___proto__x: null },
        { id: 4n }
      ])
      const misfit = yield* Effect.flip(
        Fixture.apply(plugins.flatten, { column: "doc", columns: { n: { type: "int32" } } }, table, [{
          values: { id: 1n, doc: "{\"n\": \"secret\"}", note: "" }
        }])
      )
      assert.include(String(misfit), "n has a value in doc that int32 can't hold exactly")
      assert.notInclude(String(misfit), "secret")
    }))
})

describe("computed columns", () => {
  const options = { columns: { label: { expression: "email + ':' + string(size(body))" }, source: { value: "pg" } } }

  it.effect("are not sent where nothing that they are computed from is, and can't be told where some of it is", () =>
    Effect.gen(function*() {
      const made = yield* Fixture.apply(
        plugins.add,
        { columns: { size: { expression: "string(id) + string(size(body))" } } },
        people,
        [
          { values: { id: 1n, email: "a", body: "xyz" } },
          { op: "Update", values: { id: 1n, email: "b" } },
          { op: "Delete", values: { id: 1n, email: null, body: null } }
        ]
      )
      assert.deepStrictEqual(made.rows.map(({ values }) => values["size"]), ["13", undefined, null])
      for (const op of ["Update", "KeyChangeNew"] as const) {
        const error = yield* Effect.flip(
          Fixture.apply(plugins.add, options, people, [{ op, values: { id: 1n, email: "b" } }])
        )
        assert.include(String(error), "label can't be computed for a change that sends some")
      }
      // A change of key may change what is computed from it.
      const moved = yield* Effect.flip(
        Fixture.apply(plugins.add, { columns: { size: { expression: "string(id) + body" } } }, people, [
          { op: "KeyChangeNew", values: { id: 2n, email: "b" } }
        ])
      )
      assert.include(String(moved), "can't be computed")
    }))

  it.effect("of a table without a key are computed for the old rows, too, so that those are found", () =>
    Effect.gen(function*() {
      const made = yield* Fixture.apply(plugins.add, options, { ...people, identity: { _tag: "Full" } }, [
        { op: "Delete", values: { id: 1n, email: "a", body: "xyz" } }
      ])
      assert.deepStrictEqual(made.rows[0]?.values, { id: 1n, email: "a", body: "xyz", label: "a:3", source: "pg" })
    }))

  it.effect("have the type of their expression or the one that is named, and refuse what it can't hold", () =>
    Effect.gen(function*() {
      const table = Fixture.table({
        id: "int64",
        price: "decimal(10,2)",
        n: "int32",
        at: "timestamptz",
        ok: "boolean",
        doc: "json"
      })
      const made = yield* Fixture.apply(
        plugins.add,
        {
          columns: {
            total: { expression: "price * n" },
            rounded: { expression: "price * n", type: "decimal(12,2)" },
            next: { expression: "at + duration('24h')" },
            inner: { expression: "json(doc).a", type: "int32" },
            whole: { expression: "json(doc)", type: "json" },
            half: { expression: "double(n) / 2.0" },
            none: { expression: "1 / (n - 3)", onError: "null" },
            day: { value: "2026-02-28", type: "date" }
          }
        },
        table,
        [{ values: { id: 1n, price: "0.10", n: 3, at: 0n, ok: true, doc: "{\"a\": 7}" } }]
      )
      const computed = omit(made.rows[0]?.values ?? {}, ...table.columns.map(({ name }) => name))
      assert.deepStrictEqual(computed, {
        total: "0.30",
        rounded: "0.30",
        next: 86_400_000_000n,
        inner: 7,
        whole: "{\"a\":7}",
        half: 1.5,
        none: null,
        day: 20_512
      })
      assert.include(
        yield* problem(plugins.add, { columns: { x: { expression: "ok", type: "date" } } }, table),
        "comes to bool, which can't become date"
      )
      assert.include(yield* problem(plugins.add, { columns: { x: { expression: "[n]" } } }, table), "no column's type")
      assert.include(
        yield* problem(plugins.add, { columns: { n: { value: 1 } } }, table),
        "There is a column n already"
      )
      assert.include(
        yield* problem(plugins.add, { columns: { id: { value: 1 } }, replace: true }, table),
        "part of the key"
      )
      assert.include(
        yield* problem(plugins.add, { columns: { x: { value: "x", type: "int32" } } }, table),
        "none of the type int32"
      )
    }))
})

describe("transforms of columns and tables", () => {
  it.effect("keys can't go, nor become the same, unless that is allowed", () =>
    Effect.gen(function*() {
      const table = Fixture.table({ id: "text", at: "timestamptz", v: "text" }, ["id", "at"])
      assert.include(
        yield* problem(plugins.select, { exclude: ["id"] }, table),
        "id is part of the key and can't be left out"
      )
      assert.include(yield* problem(plugins.mask, { columns: ["id"] }, table), "different rows the same key")
      assert.include(
        yield* problem(plugins.truncate, { columns: ["at"], unit: "day" }, table),
        "different rows the same key"
      )
      assert.include(yield* problem(plugins.cast, { columns: { id: "int32" } }, table), "different rows the same key")
      assert.include(
        yield* problem(plugins.cast, { columns: { id: "text" }, onMisfit: "null" }, table),
        "can't become NULL"
      )
      const allowed = yield* Fixture.apply(plugins.mask, { columns: ["id"], keys: "allow" }, table, [
        { op: "Delete", values: { id: "a", at: 1n, v: null } }
      ])
      assert.deepStrictEqual(allowed.rows[0]?.values, { id: "****", at: 1n, v: null })
    }))

  it.effect("columns that come later pass a list of what goes, and not one of what stays; one that is named and gone is an error", () =>
    Effect.gen(function*() {
      const later = Fixture.table({ id: "int64", email: "text", added: "text" })
      const schema = (options: object) =>
        Effect.map(
          Effect.flatMap(Fixture.make(plugins.select, options), (transform) => transform.schema(later)),
          (made) => made?.columns.map(({ name }) => name)
        )
      assert.deepStrictEqual(yield* schema({ exclude: ["email"] }), ["id", "added"])
      assert.deepStrictEqual(yield* schema({ include: ["id", "e*"] }), ["id", "email"])
      assert.include(
        yield* problem(plugins.select, { include: ["id", "emial"] }, later),
        "There is no column emial. Did you mean email?"
      )
      assert.include(yield* problem(plugins.mask, { columns: ["body"] }, later), "There is no column body")
    }))

  it.effect("columns keep what they are recognised by, identity follows them, and no two get one name", () =>
    Effect.gen(function*() {
      const table: TableSchema = {
        ...Fixture.table({ a: "text", id: "int64", b: "text" }),
        columns: Fixture.table({ a: "text", id: "int64", b: "text" }).columns.map((column) => ({
          ...column,
          id: `x/${column.name}`
        }))
      }
      const selected = yield* Effect.flatMap(
        Fixture.make(plugins.select, { exclude: ["a"] }),
        ({ schema }) => schema(table)
      )
      assert.deepStrictEqual(selected?.identity, { _tag: "Key", columns: [0] })
      const renamed = yield* Effect.flatMap(
        Fixture.make(plugins.rename, { columns: { a: "c" }, case: "upper" }),
        ({ schema }) => schema(table)
      )
      assert.deepStrictEqual(renamed?.columns.map(({ id, name }) => [name, id]), [["c", "x/a"], ["ID", "x/id"], [
        "B",
        "x/b"
      ]])
      assert.include(yield* problem(plugins.rename, { columns: { a: "b" } }, table), "a and b would both be named b")
    }))

  it.effect("route renames by pattern and by expression, and refuses to write two tables to one", () =>
    Effect.gen(function*() {
      const transform = yield* Fixture.make(plugins.route, {
        rules: [
          { tables: "tenant_*.*", schema: "tenants", nameExpression: "schema + '__' + name.lowerAscii()" },
          { tables: "public.*", schema: "shop", name: "t_{name}" },
          { tables: "old.*", schema: "shop", name: "t_{name}" }
        ]
      })
      const named = (schema: string, name: string) =>
        Effect.map(transform.schema({ ...people, table: { schema, name } }), (made) => made?.table)
      assert.deepStrictEqual(yield* named("tenant_1", "Orders"), { schema: "tenants", name: "tenant_1__orders" })
      assert.deepStrictEqual(yield* named("public", "orders"), { schema: "shop", name: "t_orders" })
      assert.deepStrictEqual(yield* named("other", "orders"), { schema: "other", name: "orders" })
      const error = yield* Effect.flip(named("old", "orders"))
      assert.include(error.message, "public.orders and old.orders would both be written to shop.t_orders")
      assert.isUndefined(error.table)
    }))

  it.effect("deduplicate leaves out updates that repeat the row before, and nothing that may change something", () =>
    Effect.gen(function*() {
      const made = yield* Fixture.apply(plugins.deduplicate, {}, people, [
        { op: "Insert", values: { id: 1n, email: "a", body: "x" } },
        { op: "Update", values: { id: 1n, email: "a", body: "x" } },
        { op: "Update", values: { id: 1n, email: "a" } },
        { op: "Update", values: { id: 1n, email: "b" } },
        { op: "Update", values: { id: 1n, email: "b", body: "x" } },
        { op: "Delete", values: { id: 1n, email: null, body: null } },
        { op: "Insert", values: { id: 1n, email: "b", body: "x" } },
        { op: "Insert", values: { id: 1n, email: "b", body: "x" } },
        { op: "Update", values: { id: 2n, email: "b", body: "x" } }
      ])
      assert.deepStrictEqual(made.rows.map(({ op, values }) => `${op} ${Object.keys(values).length}`), [
        "Insert 3",
        "Update 2",
        // It is sent after it was not: it may be new.
        "Update 3",
        "Delete 3",
        "Insert 3",
        "Insert 3",
        "Update 3"
      ])
      const keyless = yield* Fixture.apply(plugins.deduplicate, {}, {
        ...people,
        identity: { _tag: "Full" }
      }, [
        { op: "KeyChangeOld", values: { id: 1n, email: "b", body: "x" } },
        { op: "KeyChangeNew", values: { id: 1n, email: "b", body: "x" } },
        { op: "KeyChangeOld", values: { id: 1n, email: "b", body: "x" } },
        { op: "KeyChangeNew", values: { id: 1n, email: "b", body: "y" } }
      ])
      assert.strictEqual(keyless.rows.length, 2)
    }))

  it.effect("enrich looks values up in a file, follows its changes, and keeps what it has when the file is broken", () =>
    Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "etl-stream-enrich-"))),
        (made) => Effect.sync(() => Fs.rmSync(made, { recursive: true }))
      )
      const write = (text: string) => Effect.sync(() => Fs.writeFileSync(join(folder, "lookup.csv"), text))
      yield* write("code,name,rank\na,\"Über, A\",1\nb,B,\n")
      const options = {
        column: "email",
        file: "./lookup.csv",
        key: "code",
        columns: { name: { type: "text" }, rank: { type: "int16" } }
      }
      const transform = yield* Fixture.make(plugins.enrich, options, folder)
      const found = Effect.map(
        Fixture.through(transform, people, [
          { values: { id: 1n, email: "a", body: "" } },
          { values: { id: 2n, email: "b", body: "" } },
          { values: { id: 3n, email: "c", body: "" } },
          { values: { id: 4n, email: null, body: "" } },
          { op: "Update", values: { id: 1n, body: "" } }
        ]),
        (made) => made.rows.map(({ values }) => [values["name"], values["rank"]])
      )
      assert.deepStrictEqual(yield* found, [["Über, A", 1], ["B", null], [null, null], [null, null], [
        undefined,
        undefined
      ]])
      yield* write("code,name,rank\nc,New one,3\n")
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual((yield* found)[2], ["New one", 3])
      yield* write("code,name,rank\n\"broken")
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual((yield* found)[2], ["New one", 3])
      assert.include(
        yield* problem(plugins.enrich, { ...options, file: join(folder, "lookup.csv") }, people),
        "is no csv"
      )
      yield* write("code,name\na,1\na,2\n")
      assert.include(yield* problem(plugins.enrich, { ...options, file: join(folder, "lookup.csv") }, people), "twice")
      assert.include(
        yield* problem(plugins.enrich, { ...options, file: join(folder, "none.csv") }, people),
        "isn't there"
      )
      const inline = { column: "email", key: "k", table: [{ k: "a", v: 1 }], columns: { v: { type: "int16" } } }
      assert.include(
        yield* problem(plugins.enrich, inline, { ...people, identity: { _tag: "Full" } }),
        "Tables without a key can't be enriched"
      )
    }))
})
