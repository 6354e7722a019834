/**
 * Every kind of change of a table's columns with every policy for it, as it comes while the sink runs and at its next start; and what
 * people do to targets by hand.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import { ConnectorError, isRetryable } from "@etl-stream/core/ConnectorError"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const text: LogicalType = { _tag: "Text", maxLength: undefined }
const int: LogicalType = { _tag: "Int64" }
const decimal = (precision: number): LogicalType => ({ _tag: "Decimal", precision, scale: 2 })

/** Columns by number, which their ids are made of: `2 a`. */
const shape = (
  name: string,
  columns: Readonly<Record<string, LogicalType>>,
  version = 1,
  keyless = false
): TableSchema => {
  const of = Batches.table(
    name,
    Object.fromEntries(Object.entries(columns).map(([key, type]) => [key.replace(/^\d+ /, ""), type])),
    keyless ? { _tag: "Full" } : { _tag: "Key", columns: [0] }
  )
  const ids = Object.keys(columns).map((key) => /^\d+/.exec(key)?.[0])
  return {
    ...of,
    version,
    columns: of.columns.map((column, index) => ({ ...column, ...(ids[index] ? { id: `16400.${ids[index]}` } : {}) }))
  }
}

const at = (commit: number, ordinal: number) => Sequence.make(BigInt(commit), BigInt(ordinal))
const change = (op: Operation, commit: number, ordinal: number, ...values: ReadonlyArray<Batches.Value>) => ({
  op,
  sequence: at(commit, ordinal),
  values
})
const base = { "1 id": int, "2 a": decimal(10), "3 b": text }
const before = (name: string) => shape(name, base)

interface Scenario {
  readonly name: string
  readonly options?: object
  readonly mode?: "changelog"
  readonly next: Readonly<Record<string, LogicalType>>
  /** Values of the row that comes after the change. */
  readonly values: ReadonlyArray<Batches.Value>
}

const target = (name: string) => `RAW.SHOP.${name.toUpperCase()}`
const journalOf = (name: string) => `RAW.ETL_STREAM.SHOP__${name.toUpperCase()}__JOURNAL`

/** Columns of a table that aren't the sink's own, with their types. */
const columnsOf = (local: Local.Local, table: string) =>
  Effect.map(
    local.query(`DESCRIBE TABLE ${table}`),
    (rows) =>
      Object.fromEntries(
        rows.filter((row) => !String(row["name"]).startsWith("_ETL_")).map((row) => [row["name"], row["type"]])
      )
  )

const rowsOf = (local: Local.Local, name: string, columns: string) =>
  local.query(`SELECT ${columns} FROM ${target(name)} ORDER BY "ID"`)

/** Copies two rows and streams a third, all in the first shape. */
const populate = Effect.fnUntraced(function*(opened: Local.Opened, schema: TableSchema) {
  yield* Local.copy(opened, schema, 10n, [
    Batches.batch(schema, [
      change(Operation.Read, 10, 0, 1n, "1.50", "one"),
      change(Operation.Read, 10, 0, 2n, null, "two")
    ])
  ])
  yield* opened.rows(Batches.batch(schema, [change(Operation.Insert, 20, 1, 3n, "3.00", "three")]))
  yield* opened.durable(at(20, 1))
})

/** Options of the sink, with the policies of a test. */
const options = (policies: object, more: object = {}) => ({ ...more, schemaEvolution: policies })

/** The change comes while the sink runs (`barrier`) or before it starts again; then one more row. Returns the error, if there is one. */
const evolve = Effect.fnUntraced(function*(
  local: Local.Local,
  { mode, name, next: columns, options: policies = {}, values }: Scenario,
  way: "barrier" | "start"
) {
  const first = before(name)
  const next = shape(name, columns, 2)
  const of = options(policies, { merge: { every: "1 hour" }, ...(mode === undefined ? {} : { mode }) })
  const write = Effect.fnUntraced(function*(running: Local.Running, opened: Local.Opened) {
    yield* opened.rows(Batches.batch(next, [change(Operation.Insert, 30, 1, ...values)]))
    yield* opened.durable(at(30, 1))
    yield* running.sink.settle
    return undefined
  })
  if (way === "barrier") {
    return yield* Effect.scoped(Effect.gen(function*() {
      const running = yield* Local.run(local, of, name)
      const opened = yield* running.open(first)
      yield* populate(opened, first)
      const failed = yield* Effect.match(
        opened.writer.write({ _tag: "Schema", table: next, sequence: at(30, 0) }),
        { onFailure: (error) => error, onSuccess: () => undefined }
      )
      return failed ?? (yield* write(running, opened))
    }))
  }
  yield* Effect.scoped(Effect.gen(function*() {
    const running = yield* Local.run(local, of, name)
    const opened = yield* running.open(first)
    yield* populate(opened, first)
  }))
  return yield* Effect.scoped(Effect.gen(function*() {
    const running = yield* Local.run(local, of, name)
    const opened = yield* Effect.match(running.open(next), { onFailure: (error) => error, onSuccess: (open) => open })
    if (opened instanceof ConnectorError) return opened
    if (!("writer" in (opened as object))) throw opened
    const open = opened as Local.Opened // not an error
    if (open.writer.position.copied === undefined) return "copied again"
    return yield* write(running, open)
  }))
})

/** The table is copied again: opens it in its new shape, copies `rows`, and goes on. */
const again = Effect.fnUntraced(function*(
  local: Local.Local,
  { mode, name, next: columns, options: policies = {} }: Pick<Scenario, "mode" | "name" | "next" | "options">,
  rows: ReadonlyArray<ReadonlyArray<Batches.Value>>
) {
  yield* Effect.scoped(Effect.gen(function*() {
    const of = options(policies, mode === undefined ? {} : { mode })
    const schema = shape(name, columns, 2)
    const running = yield* Local.run(local, of, name)
    const opened = yield* running.open(schema)
    assert.strictEqual(opened.writer.position.copied, undefined)
    yield* Local.copy(opened, schema, 40n, [
      Batches.batch(schema, rows.map((values) => change(Operation.Read, 40, 0, ...values)))
    ])
    const [first = []] = rows
    yield* opened.rows(Batches.batch(schema, [change(Operation.Insert, 50, 1, 9n, ...first.slice(1))]))
    yield* opened.durable(at(50, 1))
    yield* running.sink.settle
  }))
  // And from then on it is good.
  yield* Effect.scoped(Effect.gen(function*() {
    const running = yield* Local.run(local, options(policies, mode === undefined ? {} : { mode }), name)
    const opened = yield* running.open(shape(name, columns, 2))
    assert.strictEqual(opened.writer.position.copied, 40n)
  }))
})

const isQuarantine = (error: unknown, name: string, ...words: ReadonlyArray<string>): void => {
  assert.instanceOf(error, ConnectorError)
  const failed = error as ConnectorError // just checked
  assert.isFalse(isRetryable(failed))
  assert.strictEqual(failed.table, `public.${name}`)
  for (const word of words) assert.include(failed.message, word)
}

const ways = ["barrier", "start"] as const

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("SchemaEvolution", (it) => {
  for (const way of ways) {
    const named = (name: string) => `${name}_${way}`
    const title = way === "barrier" ? "while the sink runs" : "before the sink starts again"

    it.effect(`addColumn, ${title}`, () =>
      Effect.gen(function*() {
        const local = yield* Server
        const next = { ...base, "4 c": int }
        const values = [4n, "4.00", "four", 44n]
        const applied = { name: named("add_apply"), next, values }
        assert.isUndefined(yield* evolve(local, applied, way))
        assert.deepStrictEqual(yield* rowsOf(local, applied.name, `"ID", "C"::VARCHAR AS "C"`), [
          { ID: "1", C: null },
          { ID: "2", C: null },
          { ID: "3", C: null },
          { ID: "4", C: "44" }
        ])

        const alert = { name: named("add_alert"), next, values, options: { addColumn: "alert" } }
        assert.isUndefined(yield* evolve(local, alert, way))
        assert.notProperty(yield* columnsOf(local, target(alert.name)), "C")
        assert.deepStrictEqual((yield* rowsOf(local, alert.name, `"ID", "B"`)).at(-1), { ID: "4", B: "four" })
        // Somebody adds it: its values have to come from the source.
        yield* local.query(`ALTER TABLE ${target(alert.name)} ADD COLUMN C NUMBER(38,0)`)
        yield* again(local, alert, [[1n, "1.00", "x", 11n]])
        assert.deepStrictEqual(yield* rowsOf(local, alert.name, `"ID", "C"`), [{ ID: "1", C: "11" }, {
          ID: "9",
          C: "11"
        }])

        const stopped = { name: named("add_stop"), next, values, options: { addColumn: "quarantine" } }
        isQuarantine(yield* evolve(local, stopped, way), stopped.name, "C", "addColumn")
        assert.notProperty(yield* columnsOf(local, target(stopped.name)), "C")
      }))

    it.effect(`dropColumn, ${title}`, () =>
      Effect.gen(function*() {
        const local = yield* Server
        const next = { "1 id": int, "2 a": decimal(10) }
        const values = [4n, "4.00"]
        for (const policy of ["apply", "alert"]) {
          const kept = { name: named(`drop_${policy}`), next, values, options: { dropColumn: policy } }
          assert.isUndefined(yield* evolve(local, kept, way))
          assert.deepStrictEqual(yield* rowsOf(local, kept.name, `"ID", "B"`), [
            { ID: "1", B: "one" },
            { ID: "2", B: "two" },
            // At a start the journal is merged without the column.
            { ID: "3", B: way === "barrier" ? "three" : null },
            { ID: "4", B: null }
          ])
        }
        const gone = { name: named("drop_drop"), next, values, options: { dropColumn: "drop" } }
        assert.isUndefined(yield* evolve(local, gone, way))
        assert.notProperty(yield* columnsOf(local, target(gone.name)), "B")
        assert.notProperty(yield* columnsOf(local, journalOf(gone.name)), "B")
        assert.strictEqual((yield* rowsOf(local, gone.name, `"ID"`)).length, 4)

        const stopped = { name: named("drop_stop"), next, values, options: { dropColumn: "quarantine" } }
        isQuarantine(yield* evolve(local, stopped, way), stopped.name, "B", "dropColumn")
      }))

    it.effect(`renameColumn, ${title}`, () =>
      Effect.gen(function*() {
        const local = yield* Server
        const next = { "1 id": int, "2 a": decimal(10), "3 Note": text }
        const values = [4n, "4.00", "four"]
        const names = ["one", "two", "three", "four"]
        const applied = { name: named("rename_apply"), next, values }
        assert.isUndefined(yield* evolve(local, applied, way))
        assert.deepStrictEqual((yield* rowsOf(local, applied.name, `"Note"`)).map((row) => row["Note"]), names)
        assert.notProperty(yield* columnsOf(local, target(applied.name)), "B")
        assert.deepStrictEqual(
          yield* local.query(`SELECT "Note" AS "N" FROM ${journalOf(applied.name)} ORDER BY "_ETL_SEQ"`),
          [{ N: "three" }, { N: "four" }]
        )

        const alert = { name: named("rename_alert"), next, values, options: { renameColumn: "alert" } }
        assert.isUndefined(yield* evolve(local, alert, way))
        assert.deepStrictEqual((yield* rowsOf(local, alert.name, `"B"`)).map((row) => row["B"]), names)
        assert.notProperty(yield* columnsOf(local, target(alert.name)), "Note")
        // The policy changes: now it gets its name, and keeps its values.
        yield* Effect.scoped(Effect.gen(function*() {
          const opened = yield* (yield* Local.run(local, {}, alert.name)).open(shape(alert.name, next, 2))
          assert.strictEqual(opened.writer.position.copied, 10n)
        }))
        assert.deepStrictEqual((yield* rowsOf(local, alert.name, `"Note"`)).map((row) => row["Note"]), names)

        const stopped = { name: named("rename_stop"), next, values, options: { renameColumn: "quarantine" } }
        isQuarantine(yield* evolve(local, stopped, way), stopped.name, "B", "Note", "renameColumn")
        assert.property(yield* columnsOf(local, target(stopped.name)), "B")
      }))

    for (const mode of ["mirror", "changelog"] as const) {
      it.effect(`renameColumn, ${title}: a change that left the column unsent still leaves it as it is (${mode})`, () =>
        Effect.gen(function*() {
          const local = yield* Server
          const name = named(`rename_unsent_${mode}`)
          const first = before(name)
          const next = shape(name, { "1 id": int, "2 a": decimal(10), "3 Note": text }, 2)
          // Nothing is merged before the change.
          const of = { merge: { every: "1 hour" }, ...(mode === "changelog" ? { mode } : {}) }
          const write = Effect.fnUntraced(function*(opened: Local.Opened) {
            yield* populate(opened, first)
            yield* opened.rows(Batches.batch(first, [change(Operation.Update, 25, 1, 3n, "3.50", Batches.unsent)]))
            yield* opened.durable(at(25, 1))
          })
          yield* Effect.scoped(Effect.gen(function*() {
            const running = yield* Local.run(local, of, name)
            const opened = yield* running.open(first)
            yield* write(opened)
            if (way === "start") return
            yield* opened.writer.write({ _tag: "Schema", table: next, sequence: at(30, 0) })
            yield* running.sink.settle
          }))
          yield* Effect.scoped(Effect.gen(function*() {
            const running = yield* Local.run(local, of, name)
            const opened = yield* running.open(next)
            yield* opened.rows(Batches.batch(next, [change(Operation.Update, 30, 1, 3n, "3.75", Batches.unsent)]))
            yield* opened.durable(at(30, 1))
            yield* running.sink.settle
          }))
          const shown = mode === "changelog" ? `${target(name)}_CURRENT` : target(name)
          assert.deepStrictEqual(
            yield* local.query(`SELECT "A" || '' AS "A", "Note" AS "N" FROM ${shown} WHERE "ID" = 3`),
            [{ A: "3.75", N: "three" }]
          )
        }))
    }

    it.effect(`widen, ${title}`, () =>
      Effect.gen(function*() {
        const local = yield* Server
        const next = { ...base, "2 a": decimal(20) }
        const values = [4n, "123456789012345678.25", "four"]
        const applied = { name: named("widen_apply"), next, values }
        assert.isUndefined(yield* evolve(local, applied, way))
        assert.strictEqual((yield* columnsOf(local, target(applied.name)))["A"], "NUMBER(20,2)")
        assert.deepStrictEqual((yield* rowsOf(local, applied.name, `"A"::VARCHAR AS "A"`)).map((row) => row["A"]), [
          "1.50",
          null,
          "3.00",
          "123456789012345678.25"
        ])
        // A narrower type afterwards changes nothing.
        yield* Effect.scoped(Effect.gen(function*() {
          const opened = yield* (yield* Local.run(local, {}, applied.name)).open(before(applied.name))
          assert.strictEqual(opened.writer.position.copied, 10n)
        }))
        assert.strictEqual((yield* columnsOf(local, target(applied.name)))["A"], "NUMBER(20,2)")

        const stopped = { name: named("widen_stop"), next, values, options: { widen: "quarantine" } }
        isQuarantine(yield* evolve(local, stopped, way), stopped.name, "A", "NUMBER(20,2)", "widen")
      }))

    it.effect(`incompatible, ${title}`, () =>
      Effect.gen(function*() {
        const local = yield* Server
        const next: Scenario["next"] = { ...base, "2 a": { _tag: "Boolean" } }
        const values = [4n, true, "four"]
        const isVoid = (result: unknown) => {
          if (way === "start") return assert.strictEqual(result, "copied again")
          assert.instanceOf(result, ConnectorError)
          assert.strictEqual((result as ConnectorError).reason, "Fenced") // just checked
        }
        const applied = { name: named("type_apply"), next, values }
        isVoid(yield* evolve(local, applied, way))
        yield* again(local, applied, [[1n, true, "x"], [2n, false, "y"]])
        assert.strictEqual((yield* columnsOf(local, target(applied.name)))["A"], "BOOLEAN")
        assert.deepStrictEqual((yield* rowsOf(local, applied.name, `"A"::VARCHAR AS "A"`)).map((row) => row["A"]), [
          "true",
          "false",
          "true"
        ])

        const asText = { name: named("type_text"), next, values, options: { incompatible: "text" } }
        isVoid(yield* evolve(local, asText, way))
        yield* again(local, asText, [[1n, true, "x"]])
        assert.match(String((yield* columnsOf(local, target(asText.name)))["A"]), /^VARCHAR/)
        // Any type that comes later is text, too, and its column stays as it is.
        const types: ReadonlyArray<readonly [LogicalType, Batches.Value, string]> = [
          [{ _tag: "Date" }, 19_756, "2024-02-03"],
          [{ _tag: "Float64" }, 0.1, "0.1"],
          [int, 9_007_199_254_740_993n, "9007199254740993"],
          [{ _tag: "Json" }, "{\"a\": null}", "{\"a\": null}"],
          [{ _tag: "Decimal", precision: 5, scale: 2 }, "NaN", "NaN"]
        ]
        for (const [index, [type, value]] of types.entries()) {
          yield* Effect.scoped(Effect.gen(function*() {
            const later = shape(asText.name, { ...base, "2 a": type }, 3)
            const running = yield* Local.run(local, options(asText.options), asText.name)
            const opened = yield* running.open(later)
            assert.strictEqual(opened.writer.position.copied, 40n)
            yield* opened.rows(
              Batches.batch(later, [change(Operation.Insert, 60 + index, 1, BigInt(20 + index), value, "z")])
            )
            yield* opened.durable(at(60 + index, 1))
            yield* running.sink.settle
          }))
        }
        assert.deepStrictEqual(
          (yield* rowsOf(local, asText.name, `"A"`)).map((row) => row["A"]),
          ["true", "true", ...types.map(([, , form]) => form)]
        )

        const stopped = { name: named("type_stop"), next, values, options: { incompatible: "quarantine" } }
        isQuarantine(yield* evolve(local, stopped, way), stopped.name, "A", "BOOLEAN", "incompatible")
        assert.strictEqual((yield* columnsOf(local, target(stopped.name)))["A"], "NUMBER(10,2)")

        // A changelog keeps what it has.
        const log = { name: named("type_log"), next, values, mode: "changelog" as const }
        assert.isUndefined(yield* evolve(local, log, way))
        assert.deepStrictEqual(yield* rowsOf(local, log.name, `"ID", "A", "A__OLD"::VARCHAR AS "OLD"`), [
          { ID: "1", A: null, OLD: "1.50" },
          { ID: "2", A: null, OLD: null },
          { ID: "3", A: null, OLD: "3.00" },
          { ID: "4", A: true, OLD: null }
        ])
      }))
  }

  for (const mode of ["mirror", "changelog"] as const) {
    it.effect(`renameColumn, before the sink starts again: changes that were accepted and not committed yet keep their values (${mode})`, () =>
      Effect.gen(function*() {
        const local = yield* Server
        const name = `rename_in_flight_${mode}`
        const first = before(name)
        const next = shape(name, { "1 id": int, "2 a": decimal(10), "3 Note": text }, 2)
        const of = { merge: { every: "1 hour" }, ...(mode === "changelog" ? { mode } : {}) }
        yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, of, name)
          const opened = yield* running.open(first)
          yield* populate(opened, first)
          yield* local.fault("streaming", { kind: "holdCommits" })
          yield* opened.rows(Batches.batch(first, [
            change(Operation.Update, 25, 1, 3n, "3.50", Batches.unsent),
            change(Operation.Insert, 25, 2, 4n, "4.00", "four")
          ]))
        }))
        yield* local.clearStatements
        // Used up by the first request that opens a channel.
        yield* local.fault("streaming", { kind: "delay", endpoint: "open", millis: 1 })
        yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, of, name)
          const opening = yield* Effect.forkChild(running.open(next))
          yield* Effect.all([local.statements, local.faults]).pipe(
            Effect.repeat({
              schedule: Schedule.spaced("10 millis"),
              until: ([statements, faults]) =>
                statements.some(({ sql }) => sql.includes("RENAME COLUMN")) ||
                !faults.some(({ kind }) => kind === "delay")
            })
          )
          yield* local.clearFaults
          const opened = yield* Fiber.join(opening)
          assert.strictEqual(opened.writer.position.committed?.commit, 25n)
          yield* opened.rows(Batches.batch(next, [change(Operation.Update, 30, 1, 3n, "3.75", Batches.unsent)]))
          yield* opened.durable(at(30, 1))
          yield* running.sink.settle
        }))
        const shown = mode === "changelog" ? `${target(name)}_CURRENT` : target(name)
        assert.deepStrictEqual(
          yield* local.query(`SELECT "ID", "A" || '' AS "A", "Note" AS "N" FROM ${shown} WHERE "ID" > 2 ORDER BY 1`),
          [{ ID: "3", A: "3.75", N: "three" }, { ID: "4", A: "4.00", N: "four" }]
        )
      }))
  }

  it.effect("nullability", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (const policy of ["apply", "quarantine"]) {
        const name = `null_${policy}`
        const first = before(name)
        yield* Effect.scoped(Effect.gen(function*() {
          yield* populate(yield* (yield* Local.run(local, {}, name)).open(first), first)
        }))
        yield* local.query(`ALTER TABLE ${target(name)} ALTER COLUMN B SET NOT NULL`)
        yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, options({ nullability: policy }), name)
          if (policy === "quarantine") {
            return isQuarantine(yield* Effect.flip(running.open(first)), name, "B", "NOT NULL")
          }
          const opened = yield* running.open(first)
          yield* opened.rows(Batches.batch(first, [change(Operation.Insert, 30, 1, 4n, null, null)]))
          yield* opened.durable(at(30, 1))
          yield* running.sink.settle
          assert.strictEqual((yield* rowsOf(local, name, `"ID"`)).length, 4)
        }))
      }
    }))

  it.effect("columns of the key: renamed with the rest, and of another type with the next copy", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const renamed = {
        name: "key_named",
        next: { "1 code": int, "2 a": decimal(10), "3 b": text },
        values: [4n, "4.00", "four"]
      }
      assert.isUndefined(yield* evolve(local, renamed, "start"))
      assert.deepStrictEqual(
        (yield* local.query(`SELECT "CODE" FROM ${target(renamed.name)} ORDER BY "CODE"`)).map((row) => row["CODE"]),
        ["1", "2", "3", "4"]
      )
      const retyped = { name: "key_typed", next: { ...base, "1 id": text }, values: ["4", "4.00", "four"] }
      assert.strictEqual(yield* evolve(local, retyped, "start"), "copied again")
      yield* Effect.scoped(Effect.gen(function*() {
        const schema = shape(retyped.name, retyped.next, 2)
        const running = yield* Local.run(local, {}, retyped.name)
        const opened = yield* running.open(schema)
        yield* Local.copy(opened, schema, 40n, [
          Batches.batch(schema, [change(Operation.Read, 40, 0, "x", "1.00", "one")])
        ])
        yield* opened.rows(Batches.batch(schema, [change(Operation.Update, 50, 1, "x", "2.00", Batches.unsent)]))
        yield* opened.durable(at(50, 1))
        yield* running.sink.settle
        assert.deepStrictEqual(yield* rowsOf(local, retyped.name, `"ID", "A"::VARCHAR AS "A", "B"`), [
          { ID: "x", A: "2.00", B: "one" }
        ])
        const described = yield* local.query(`DESCRIBE TABLE ${target(retyped.name)}`)
        assert.deepStrictEqual(described.filter((row) => row["primary key"] === "Y").map((row) => row["name"]), ["ID"])
      }))
    }))

  it.effect("a table without a key is copied again when a column is renamed or dropped: rows are told apart by all of their columns", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (const next of [{ "1 id": int, "2 aa": decimal(10), "3 b": text }, { "1 id": int, "3 b": text }]) {
        const name = `keyless_${Object.keys(next).length}`
        const first = shape(name, base, 1, true)
        yield* Effect.scoped(Effect.gen(function*() {
          yield* populate(yield* (yield* Local.run(local, {}, name)).open(first), first)
        }))
        yield* Effect.scoped(Effect.gen(function*() {
          const opened = yield* (yield* Local.run(local, {}, name)).open(shape(name, next, 2, true))
          assert.strictEqual(opened.writer.position.copied, undefined)
        }))
      }
    }))

  it.effect("columns made by hand are let be, and taken over when the source gets one of their name", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const name = "by_hand"
      const first = before(name)
      const write = (schema: TableSchema, commit: number, ...values: ReadonlyArray<Batches.Value>) =>
        Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, {}, name)
          const opened = yield* running.open(schema)
          assert.strictEqual(opened.writer.position.copied, 10n)
          yield* opened.rows(Batches.batch(schema, [change(Operation.Insert, commit, 1, ...values)]))
          yield* opened.durable(at(commit, 1))
          yield* running.sink.settle
        }))
      yield* Effect.scoped(Effect.gen(function*() {
        yield* populate(yield* (yield* Local.run(local, {}, name)).open(first), first)
      }))
      yield* local.query(`ALTER TABLE ${target(name)} ADD COLUMN NOTE VARCHAR`)
      yield* local.query(`ALTER TABLE ${target(name)} ADD COLUMN RATED NUMBER(3,0) DEFAULT 5`)
      yield* local.query(`ALTER TABLE ${journalOf(name)} ADD COLUMN SEEN BOOLEAN`)
      yield* local.query(`UPDATE ${target(name)} SET NOTE = 'mine' WHERE ID = 1`)
      yield* write(first, 30, 4n, null, "four")
      yield* write({ ...first, columns: first.columns.map((column) => ({ ...column })) }, 31, 5n, null, "five")
      assert.deepStrictEqual(
        (yield* rowsOf(local, name, `"NOTE", "RATED"`)).map((row) => [row["NOTE"], row["RATED"]]),
        [["mine", "5"], [null, "5"], [null, "5"], [null, "5"], [null, "5"]]
      )
      yield* write(shape(name, { ...base, "4 note": text }, 2), 40, 6n, null, "six", "theirs")
      assert.deepStrictEqual((yield* rowsOf(local, name, `"NOTE"`)).map((row) => row["NOTE"]), [
        "mine",
        null,
        null,
        null,
        null,
        "theirs"
      ])
    }))

  it.effect("a column made by hand that refuses rows without a value stops the table, by its name", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (const [index, of] of [target, journalOf].entries()) {
        const name = `refusing_${index}`
        const first = before(name)
        yield* Effect.scoped((yield* Local.run(local, {}, name)).open(first))
        yield* local.query(`ALTER TABLE ${of(name)} ADD COLUMN MUST VARCHAR NOT NULL`)
        const running = yield* Local.run(local, {}, name)
        isQuarantine(yield* Effect.flip(running.open(first)), name, "MUST", of(name).split(".")[2] ?? "")
        yield* local.query(`ALTER TABLE ${of(name)} ALTER COLUMN MUST DROP NOT NULL`)
        yield* running.open(first)
      }
    }))

  it.effect("a column dropped by hand comes back with its values, by a new copy", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (const [index, of] of [target, journalOf].entries()) {
        const name = `hand_dropped_${index}`
        const first = before(name)
        yield* Effect.scoped(Effect.gen(function*() {
          yield* populate(yield* (yield* Local.run(local, {}, name)).open(first), first)
        }))
        yield* local.query(`ALTER TABLE ${of(name)} DROP COLUMN B`)
        yield* again(local, { name, next: base }, [[1n, "1.00", "one"]])
        assert.deepStrictEqual((yield* rowsOf(local, name, `"B"`)).map((row) => row["B"]), ["one", "one"])
      }
    }))

  it.effect("goes on where a run died between two statements of a change", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const next = { "1 id": int, "2 a": decimal(20), "3 bb": text, "4 c": int }
      const steps = [
        (name: string) => `ALTER TABLE ${target(name)} RENAME COLUMN B TO BB`,
        (name: string) => `ALTER TABLE ${target(name)} ADD COLUMN C NUMBER(38,0)`,
        (name: string) => `ALTER TABLE ${target(name)} ALTER COLUMN A SET DATA TYPE NUMBER(20,2)`,
        (name: string) => `ALTER TABLE ${journalOf(name)} RENAME COLUMN B TO BB`
      ]
      for (let died = 1; died <= steps.length; died++) {
        const name = `died_${died}`
        const first = before(name)
        yield* Effect.scoped(Effect.gen(function*() {
          const opened = yield* (yield* Local.run(local, { merge: { every: "1 hour" } }, name)).open(first)
          yield* populate(opened, first)
          yield* opened.rows(Batches.batch(first, [change(Operation.Update, 25, 1, 3n, "3.50", Batches.unsent)]))
          yield* opened.durable(at(25, 1))
        }))
        for (const step of steps.slice(0, died)) yield* local.query(step(name))
        yield* Effect.scoped(Effect.gen(function*() {
          const schema = shape(name, next, 2)
          const running = yield* Local.run(local, {}, name)
          const opened = yield* running.open(schema)
          assert.strictEqual(opened.writer.position.copied, 10n)
          yield* opened.rows(Batches.batch(schema, [change(Operation.Insert, 30, 1, 4n, "4.00", "four", 44n)]))
          yield* opened.durable(at(30, 1))
          yield* running.sink.settle
        }))
        assert.deepStrictEqual(
          (yield* rowsOf(local, name, `"BB", "C"::VARCHAR AS "C"`)).map((row) => [row["BB"], row["C"]]),
          [["one", null], ["two", null], ["three", null], ["four", "44"]],
          name
        )
        assert.deepStrictEqual(
          yield* local.query(`SELECT COUNT(*) AS "N", COUNT(DISTINCT "_ETL_SEQ") AS "S" FROM ${journalOf(name)}`),
          [{ N: "3", S: "3" }]
        )
      }
    }))
})
