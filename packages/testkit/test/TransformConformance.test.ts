/**
 * The suite of transforms passes what keeps the contract, and catches what doesn't by the case that is meant for it.
 */
import * as BatchConcat from "@etl-stream/core/BatchConcat"
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Plugin from "@etl-stream/core/Plugin"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import type { Transform } from "@etl-stream/core/Transform"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { assert, describe, it } from "vitest"
import * as RowBatch from "../src/RowBatch.ts"
import * as TransformConformance from "../src/TransformConformance.ts"
import * as Verdicts from "./Verdicts.ts"

const Config = Schema.Struct({ column: Schema.NonEmptyString })
const people: TableSchema = {
  table: { schema: "public", name: "people" },
  version: 1,
  columns: [
    { name: "id", type: { _tag: "Int32" }, sourceType: "integer", nullable: false },
    { name: "email", type: { _tag: "Text", maxLength: undefined }, sourceType: "text", nullable: true }
  ],
  identity: { _tag: "Key", columns: [0] }
}

const plugin = (make: () => Transform, config: Plugin.ConfigSchema<unknown> = Config) =>
  Plugin.transform({ name: "tried", version: "1.0.0", summary: "Is tried", config, make: () => Effect.sync(make) })

const suiteOf = (
  make: () => Transform,
  more: Partial<TransformConformance.Subject<unknown>> = {},
  config: Plugin.ConfigSchema<unknown> = Config
) =>
  TransformConformance.make({
    plugin: plugin(make, config),
    options: [{ column: "email" }],
    tables: [people],
    seeds: 8,
    refused: [{ what: "a column without a name", options: { column: "" }, path: "column" }],
    ...more
  })

type Rows = ReadonlyArray<Required<RowBatch.Row>>

/** A transform by rows: slow and simple. */
const byRows = (
  change: (rows: Rows, table: TableSchema) => ReadonlyArray<RowBatch.Row>,
  schema: (table: TableSchema) => TableSchema | undefined = (table) => table
): Transform => ({
  schema: (table) => Effect.sync(() => schema(table)),
  apply: (batch) =>
    Effect.sync(() => {
      const target = schema(batch.table)
      const left = change(RowBatch.rows(batch), batch.table)
      return target === undefined || left.length === 0 ? undefined : RowBatch.make(target, left)
    })
})

/** Every value of the column `email` becomes what `make` says; what was not sent stays so. */
const emails = (make: (value: RowBatch.Value) => RowBatch.Value) =>
  byRows((rows) =>
    rows.map((row) =>
      Object.hasOwn(row.values, "email")
        ? { ...row, values: { ...row.values, email: make(row.values["email"] ?? null) } }
        : row
    )
  )

const masked = () => emails((value) => value === null ? null : "***")

const failing = Effect.fail(
  new ConnectorError({ reason: "Rejected", plugin: "tried", message: "It is refused", hint: "Correct it." })
)

/** Defects, each with a part of the name of the case that must find it. */
const defects: Readonly<Record<string, readonly [make: () => Transform, found: string]>> = {
  "a schema that changes": [() => {
    let asked = 0
    return {
      ...masked(),
      schema: (table) =>
        Effect.sync(() => ({ ...table, columns: [...table.columns].slice(0, table.columns.length - (asked++ % 2)) }))
    }
  }, "says the same of a table"],
  "a version of its own": [
    () => byRows((rows) => rows, (table) => ({ ...table, version: 1 })),
    "says the same of a table"
  ],
  "two columns of one name": [
    () => ({
      ...masked(),
      schema: (table) =>
        Effect.succeed({ ...table, columns: table.columns.map((column) => ({ ...column, name: "same" })) })
    }),
    "says the same of a table"
  ],
  "a schema that it writes into": [() => ({
    ...masked(),
    schema: (table) => Effect.sync(() => Object.assign(table, { origin: "mine" }))
  }), "says the same of a table"],
  "batches that aren't as it said": [
    () => ({
      ...masked(),
      schema: (table) => Effect.succeed({ ...table, columns: table.columns.slice(1), identity: { _tag: "None" } })
    }),
    "as `schema` says"
  ],
  "rows in another order": [() => byRows((rows) => [...rows].reverse()), "as `schema` says"],
  "rows twice": [() => byRows((rows) => rows.flatMap((row) => [row, row])), "as `schema` says"],
  "half of a change of key": [
    () => byRows((rows) => rows.filter(({ op }) => op !== "KeyChangeOld")),
    "as `schema` says"
  ],
  "a value that isn't of its type": [
    () =>
      byRows((rows, { columns }) =>
        rows.map((row) => ({
          ...row,
          values: Object.fromEntries(
            Object.entries(row.values).map(([name, value]) => [
              name,
              value !== null && columns.find((column) => column.name === name)?.type._tag === "Uuid"
                ? "not a uuid"
                : value
            ])
          )
        }))
      ),
    "as `schema` says"
  ],
  "a mask that is too short": [() => ({
    ...masked(),
    apply: (batch) =>
      Effect.sync(() => {
        const rows = RowBatch.rows(batch)
        const narrow = { ...batch.table, columns: batch.table.columns.slice(0, 8), identity: { _tag: "None" as const } }
        const names = new Set(narrow.columns.map(({ name }) => name))
        const cut = RowBatch.make(
          narrow,
          rows.map((row) => ({
            ...row,
            values: Object.fromEntries(Object.entries(row.values).filter(([name]) => names.has(name)))
          }))
        )
        const masks = ChangeBatch.child(cut.records, ChangeBatch.MetadataColumns.unsent)
        const own = RowBatch.make(batch.table, rows)
        ;(own.records.data.children as Array<typeof masks>)[ChangeBatch.MetadataColumns.unsent] = masks // a defect, on purpose
        return own
      })
  }), "as `schema` says"],
  "an exception": [() => ({
    ...masked(),
    apply: () =>
      Effect.sync(() => {
        throw new TypeError("undefined is not a function")
      })
  }), "as `schema` says"],
  "an error that tells a value": [() => ({
    ...masked(),
    apply: (batch) =>
      Effect.suspend(() => {
        const told = RowBatch.rows(batch).flatMap(({ values }) => Object.values(values)).find((value) =>
          String(value).includes("kitvalue")
        )
        return told === undefined ? Effect.succeed(batch) : Effect.fail(
          new ConnectorError({
            reason: "Rejected",
            plugin: "tried",
            message: `The value ${String(told)} is refused`,
            hint: "Correct it."
          })
        )
      })
  }), "as `schema` says"],
  "values written where they came from": [() => ({
    ...masked(),
    apply: (batch) =>
      Effect.sync(() => {
        const { values } = ChangeBatch.child(batch.records, ChangeBatch.metadataColumns)
        if (ArrayBuffer.isView(values)) new Uint8Array(values.buffer, values.byteOffset, values.byteLength).fill(0)
        return batch
      })
  }), "writes into nothing"],
  "a look at a buffer's beginning": [() => ({
    ...masked(),
    apply: (batch) =>
      Effect.sync(() => {
        const commits = new BigUint64Array(
          ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.commit).values.buffer
        )
        return (commits[0] ?? 0n) === batch.first.commit ? batch : BatchConcat.copyRows(batch, 0, 1)
      })
  }), "reads buffers as they may be"],
  "chance": [() => emails((value) => value === null ? null : String(Math.random())), "given again after a restart"],
  "a number that goes on": [() => {
    let count = 0
    return byRows((rows) => rows.filter(({ op }) => op.startsWith("Key") || count++ % 7 !== 0))
  }, "in whatever batches they come"],
  "a value for what was not sent": [
    () =>
      byRows(
        (rows) =>
          rows.map((row) => ({
            ...row,
            values: {
              ...row.values,
              ...(Object.hasOwn(row.values, "text") ? { text: row.values["text"] ?? null } : {}),
              ...(Object.hasOwn(row.values, "id") && !Object.hasOwn(row.values, "email") &&
                  !Object.hasOwn(row.values, "text")
                ? { text: "unknown" }
                : {})
            }
          })).map((row) => row),
        (table) => table.columns.some(({ name }) => name === "text") ? table : undefined
      ),
    "not sent"
  ],
  "NULL for what was not sent": [
    () =>
      byRows((rows, { columns }) =>
        rows.map((row) => ({
          ...row,
          values: { ...Object.fromEntries(columns.map(({ name }) => [name, null])), ...row.values }
        }))
      ),
    "not sent"
  ],
  "nothing sent where something was": [
    () =>
      byRows((rows, { columns }) =>
        rows.map((row) => columns.every(({ name }) => Object.hasOwn(row.values, name)) ? row : { ...row, values: {} })
      ),
    "not sent"
  ],
  "one table's state for all": [() => {
    let current: TableSchema | undefined
    return {
      schema: Effect.succeed,
      apply: (batch) =>
        Effect.gen(function*() {
          current = batch.table
          yield* Effect.yieldNow
          return current === batch.table ? batch : undefined
        })
    }
  }, "several tables at once"],
  "a schema that it keeps": [() => {
    const known = new Map<string, TableSchema>()
    const once = (table: TableSchema) =>
      known.get(table.table.name) ?? known.set(table.table.name, table).get(table.table.name)
    return {
      schema: (table) => Effect.sync(() => once(table)),
      apply: (batch) => Effect.sync(() => ({ ...batch, table: once(batch.table) ?? batch.table }))
    }
  }, "another column"],
  "batches that it keeps": [() => {
    const kept: Array<unknown> = []
    return { schema: Effect.succeed, apply: (batch) => Effect.sync(() => (kept.push(batch), batch)) }
  }, "holds no more"],
  "a refusal of everything": [() => ({ schema: Effect.succeed, apply: () => failing }), "as `schema` says"]
}

describe("the suite of transforms", () => {
  it("passes one that keeps the contract", async () => {
    const suite = suiteOf(masked, {
      examples: [{
        title: "an address is hidden",
        options: { column: "email" },
        table: people,
        given: [{ values: { id: 1, email: "a@example.com" } }, { op: "Update", values: { id: 1 } }, {
          values: { id: 2, email: null }
        }],
        becomes: [{ values: { id: 1, email: "***" } }, { values: { id: 1 } }, { values: { id: 2, email: null } }],
        becomesTable: { table: people.table }
      }, {
        title: "another is, too",
        options: { column: "email" },
        table: people,
        given: [{ values: { id: 1, email: "b@example.com" } }],
        becomes: [{ op: "Insert", commit: 1n, ordinal: 0n, values: { id: 1, email: "***" } }]
      }]
    })
    assert.deepStrictEqual([...await Verdicts.failures(suite)], [])
    assert.include(suite.cases.map(({ name }) => name), "example: an address is hidden")
  }, 120_000)

  it("passes one that takes out rows, with both halves of a change of key", async () => {
    const filter = () =>
      byRows((rows) =>
        rows.filter((row, index) => {
          const of = row.op === "KeyChangeOld" ? rows[index + 1] ?? row : row
          return (of.ordinal + (row.op === "KeyChangeNew" ? 0n : 0n)) % 3n !== 0n
        })
      )
    assert.deepStrictEqual([...await Verdicts.failures(suiteOf(filter))], [])
  }, 120_000)

  it("leaves out what the subject says can't be tried", () => {
    const suite = suiteOf(masked, { varies: "it has the time of day in it" })
    assert.isAbove(suite.cases.filter(({ skipped }) => skipped === "it has the time of day in it").length, 2)
  })

  for (const [defect, [make, found]] of Object.entries(defects)) {
    it(`catches ${defect}`, async () => {
      const failures = await Verdicts.failures(suiteOf(make), found)
      assert.strictEqual(failures.size, 1, `no case about "${found}" failed`)
    }, 60_000)
  }

  it("catches options that nobody looks at, and an example that comes out otherwise", async () => {
    const any = suiteOf(masked, {}, Schema.Unknown)
    assert.deepStrictEqual([...(await Verdicts.failures(any, "refuses")).keys()], [
      "refuses an option that it doesn't know",
      "refuses a column without a name, and says where"
    ])
    const example = suiteOf(masked, {
      examples: [{
        title: "wrong",
        options: { column: "email" },
        table: people,
        given: [{ values: { id: 1, email: "a" } }],
        becomes: [{ values: { id: 1, email: "b" } }]
      }]
    })
    const [why] = (await Verdicts.failures(example, "example")).values()
    assert.include(why, "\"***\"")
  })
})
