/**
 * The transform `filter` against a mirror made row by row: what the target holds is what a query with the condition gives at the source.
 */
import { assert, describe, it } from "@effect/vitest"
import type { RowOperation, Value } from "@etl-stream/testkit/RowBatch"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as fc from "fast-check"
import { filter } from "../src/Filter.ts"
import * as Fixture from "./Fixture.ts"

type Values = Readonly<Record<string, Value>>

const columns = { id: "int64", status: "text", total: "decimal(10,2)", body: "text" }
const orders = Fixture.table(columns)
const where = "status == 'open' && total > 10"
const row = (id: number, status: string | null, total: string | null, body = "b"): Values => ({
  id: BigInt(id),
  status,
  total,
  body
})
const omit = (values: Values, ...names: ReadonlyArray<string>): Values =>
  Object.fromEntries(Object.entries(values).filter(([name]) => !names.includes(name)))
const without = (values: Values): Values => omit(values, "body")
const onlyKey = ({ id }: Values): Values => ({ id: id ?? null, status: null, total: null, body: null })

const tried = (
  rows: ReadonlyArray<{ readonly op: RowOperation; readonly values: Values }>,
  table = orders,
  options: object = {}
) => Effect.map(Fixture.apply(filter, { where, ...options }, table, rows), (made) => made.rows)

const problemOf = (rows: ReadonlyArray<{ readonly op: RowOperation; readonly values: Values }>, table = orders) =>
  Effect.map(Effect.flip(tried(rows, table)), (error) => {
    const { hint, message } = error as { readonly hint: string; readonly message: string } // a ConnectorError
    return `${message}. ${hint}`
  })

const pair = (before: Values, after: Values) => [
  { op: "KeyChangeOld" as const, values: before },
  { op: "KeyChangeNew" as const, values: after }
]

describe("filter", () => {
  it.effect("keeps rows of a copy and inserts that match; NULL doesn't match", () =>
    Effect.gen(function*() {
      const rows = [row(1, "open", "11.00"), row(2, "open", "10.00"), row(3, null, "50.00"), row(4, "open", null)]
      for (const op of ["Read", "Insert"] as const) {
        assert.deepStrictEqual(yield* tried(rows.map((values) => ({ op, values }))), [{
          op,
          values: row(1, "open", "11.00")
        }])
      }
    }))

  it.effect("passes an update that matches, and makes a delete of one that doesn't, in which nothing but the key is to be seen", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* tried([
          { op: "Update", values: row(1, "open", "11.00") },
          { op: "Update", values: row(2, "secret", "11.00") },
          { op: "Update", values: without(row(3, "secret", "11.00")) },
          { op: "Delete", values: onlyKey(row(4, null, null)) }
        ]),
        [
          { op: "Update", values: row(1, "open", "11.00") },
          { op: "Delete", values: onlyKey(row(2, null, null)) },
          { op: "Delete", values: onlyKey(row(3, null, null)) },
          { op: "Delete", values: onlyKey(row(4, null, null)) }
        ]
      )
    }))

  it.effect("sets the table aside when a row may begin to match without all of its columns, or needs what isn't sent", () =>
    Effect.gen(function*() {
      const incomplete = without(row(1, "open", "11.00"))
      for (
        const rows of [[{ op: "Update" as const, values: incomplete }], pair(onlyKey(row(2, null, null)), incomplete)]
      ) {
        const problem = yield* problemOf(rows)
        assert.include(problem, "the row would be incomplete")
        assert.include(problem, "REPLICA IDENTITY FULL")
        assert.notInclude(problem, "11.00")
      }
      const lacking = omit(row(1, "open", "11.00"), "status")
      assert.include(
        yield* problemOf([{ op: "Update", values: lacking }]),
        "doesn't send a column that the condition needs"
      )
      const decided = omit(row(1, "open", "9.00"), "status")
      assert.deepStrictEqual((yield* tried([{ op: "Update", values: decided }]))[0]?.op, "Delete")
    }))

  it.effect("lets updates without all columns pass where what the condition reads never changes", () =>
    Effect.gen(function*() {
      const incomplete = without(row(1, "open", "11.00"))
      const rows = [{ op: "Update" as const, values: incomplete }, {
        op: "Update" as const,
        values: without(row(2, "x", "1.00"))
      }]
      assert.deepStrictEqual(yield* tried(rows, orders, { constant: true }), [{ op: "Update", values: incomplete }])
      const byKey = yield* Fixture.apply(filter, { where: "id < 5" }, orders, [
        ...rows,
        { op: "Update", values: row(7, "open", "1.00") },
        { op: "Delete", values: onlyKey(row(8, null, null)) },
        ...pair(onlyKey(row(9, null, null)), row(4, "a", "1.00")),
        ...pair(onlyKey(row(3, null, null)), row(10, "a", "1.00")),
        ...pair(onlyKey(row(11, null, null)), row(12, "a", "1.00"))
      ])
      assert.deepStrictEqual(byKey.rows.map(({ op, values }) => [op, values["id"]]), [
        ["Update", 1n],
        ["Update", 2n],
        ["Insert", 4n],
        ["Delete", 3n]
      ])
    }))

  it.effect("follows a change of key: both halves, the old one as a delete, or neither", () =>
    Effect.gen(function*() {
      const old = onlyKey(row(1, null, null))
      assert.deepStrictEqual(yield* tried(pair(old, row(2, "open", "11.00"))), pair(old, row(2, "open", "11.00")))
      assert.deepStrictEqual(yield* tried(pair(row(1, "open", "99.00"), row(2, "x", "11.00"))), [{
        op: "Delete",
        values: old
      }])
      const keyless = Fixture.table(columns, "full")
      const open = row(1, "open", "11.00")
      const closed = row(1, "closed", "11.00")
      assert.deepStrictEqual(yield* tried(pair(open, closed), keyless), [{ op: "Delete", values: open }])
      assert.deepStrictEqual(yield* tried(pair(closed, open), keyless), [{ op: "Insert", values: open }])
      assert.deepStrictEqual(yield* tried(pair(open, open), keyless), pair(open, open))
      assert.deepStrictEqual(yield* tried(pair(closed, closed), keyless), [])
      assert.deepStrictEqual(
        yield* tried([{ op: "Delete", values: closed }, { op: "Delete", values: open }], keyless),
        [
          { op: "Delete", values: open }
        ]
      )
    }))

  it.effect("goes on where a change of key was cut in two", () =>
    Effect.gen(function*() {
      const [, second] = pair(onlyKey(row(1, null, null)), row(2, "x", "1.00"))
      assert.deepStrictEqual(yield* tried(second === undefined ? [] : [second]), [
        { op: "Delete", values: onlyKey(row(2, null, null)) }
      ])
      const keyless = Fixture.table(columns, "full")
      assert.deepStrictEqual(yield* tried([{ op: "KeyChangeNew", values: row(2, "x", "1.00") }], keyless), [])
    }))

  it.effect("sets a table aside by a condition that fits no more, or has no value for a row", () =>
    Effect.gen(function*() {
      const transform = yield* Fixture.make(filter, { where: "100 / size(body) > 2" })
      const problem = yield* Effect.flip(
        Fixture.through(transform, orders, [{ op: "Insert", values: row(1, "a", "1.00", "") }])
      )
      assert.include(problem.message, "has no value for a row")
      assert.strictEqual(problem.table, "public.t")
      const renamed = Fixture.table({ id: "int64", state: "text", total: "decimal(10,2)", body: "text" })
      const misfit = yield* Effect.flip(
        Effect.flatMap(Fixture.make(filter, { where }), ({ schema }) => schema(renamed))
      )
      assert.include(String((misfit as { readonly message: string }).message), "there is no column status")
      const number = yield* Effect.flip(
        Effect.flatMap(Fixture.make(filter, { where: "total" }), ({ schema }) => schema(orders))
      )
      assert.include(String((number as { readonly message: string }).message), "not to true or false")
    }))

  it.effect("is WHERE at a mirror, for any history; only values that weren't sent may set the table aside", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.array(
            fc.record({
              kind: fc.constantFrom("insert", "update", "update", "move", "delete"),
              id: fc.integer({ min: 1, max: 5 }),
              to: fc.integer({ min: 1, max: 9 }),
              status: fc.constantFrom("open", "closed", null),
              total: fc.constantFrom("5.00", "10.00", "10.01", "99.00", null),
              body: fc.option(fc.constantFrom("x", "y"))
            }),
            { minLength: 1, maxLength: 40 }
          ),
          fc.boolean(),
          fc.boolean(),
          fc.integer({ min: 1, max: 7 }),
          async (steps, isKeyed, sendsAll, size) => {
            const table = Fixture.table(columns, isKeyed ? ["id"] : "full")
            const source = new Map<number, Values>()
            const rows: Array<{ readonly op: RowOperation; readonly values: Values }> = []
            const old = (values: Values) => isKeyed ? onlyKey(values) : values
            for (const { body, id, kind, status, to, total } of steps) {
              const before = source.get(id)
              if (kind === "insert" && before === undefined) {
                source.set(id, row(id, status, total, body ?? "new"))
                rows.push({ op: "Insert", values: source.get(id) ?? {} })
              } else if (before !== undefined && kind === "delete") {
                source.delete(id)
                rows.push({ op: "Delete", values: old(before) })
              } else if (before !== undefined && (kind === "update" || (kind === "move" && !source.has(to)))) {
                const key = kind === "move" ? to : id
                const after = row(key, status, total, body ?? String(before["body"]))
                source.delete(id)
                source.set(key, after)
                const sent = body === null && !sendsAll && isKeyed ? without(after) : after
                if (key === id && isKeyed) rows.push({ op: "Update", values: sent })
                else rows.push(...pair(old(before), sent))
              }
            }
            if (rows.length === 0) return
            const exit = await Effect.runPromiseExit(Effect.scoped(Effect.gen(function*() {
              const transform = yield* Fixture.make(filter, { where })
              const left: Array<{ readonly op: string; readonly values: Values }> = []
              for (let from = 0; from < rows.length;) {
                let to = Math.min(rows.length, from + size)
                // A source gives both halves of a change of key at once.
                if (rows[to]?.op === "KeyChangeNew") to++
                left.push(...(yield* Fixture.through(transform, table, rows.slice(from, to))).rows)
                from = to
              }
              return left
            })))
            if (Exit.isFailure(exit)) {
              assert.isTrue(rows.some(({ values }) => !("body" in values)), "it fails although everything was sent")
              return
            }
            const mirror = new Map<string, Values>()
            let moving: Values | undefined
            for (const { op, values } of exit.value) {
              const id = isKeyed
                ? String(values["id"])
                : JSON.stringify(Object.entries(values).map(([name, value]) => [name, String(value)]))
              if (op === "Delete" || op === "KeyChangeOld") {
                moving = op === "KeyChangeOld" ? mirror.get(id) : undefined
                assert.isTrue(isKeyed || mirror.has(id), "a row is removed that isn't there")
                mirror.delete(id)
              } else {
                const base = op === "KeyChangeNew" ? moving : mirror.get(id)
                mirror.set(id, { ...(("body" in values) ? {} : base), ...values })
              }
            }
            const byId = (a: Values, b: Values) => Number(a["id"]) - Number(b["id"])
            assert.deepStrictEqual(
              [...mirror.values()].sort(byId),
              [...source.values()].filter(({ status, total }) => status === "open" && Number(total) > 10).sort(byId)
            )
          }
        ),
        { numRuns: 400 }
      )
    ))
})
