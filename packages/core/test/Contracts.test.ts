import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import { ConnectorError } from "../src/ConnectorError.ts"
import type { Element } from "../src/Element.ts"
import { tableOf } from "../src/Element.ts"
import * as Plugin from "../src/Plugin.ts"
import * as Progress from "../src/Progress.ts"
import * as Sequence from "../src/Sequence.ts"
import { parseTableId, tableId } from "../src/TableSchema.ts"
import * as Telemetry from "../src/Telemetry.ts"
import { MemoryState } from "./doubles/MemoryState.ts"
import { batch, plain } from "./doubles/Tables.ts"

const uint64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })
const sequence = fc.record({ commit: uint64, ordinal: uint64 })

describe("TableId", () => {
  it("is different for different tables, whatever their names hold", () => {
    const name = fc.string({ unit: fc.constantFrom("a", ".", "\""), minLength: 1, maxLength: 5 })
    fc.assert(fc.property(name, name, name, name, (schema, table, otherSchema, otherTable) => {
      const same = schema === otherSchema && table === otherTable
      const [one, other] = [{ schema, name: table }, { schema: otherSchema, name: otherTable }]
      assert.strictEqual(tableId(one) === tableId(other), same)
    }))
    assert.strictEqual(tableId({ schema: "public", name: "orders" }), "public.orders")
  })

  it("is understood as people write it, each part in double quotes or not", () => {
    const name = fc.string({ unit: fc.constantFrom("a", "Ä", " ", ".", "\""), minLength: 1, maxLength: 6 })
    const quoted = (text: string) => `"${text.replaceAll("\"", "\"\"")}"`
    fc.assert(fc.property(name, name, (schema, table) => {
      const parts = { schema, name: table }
      assert.deepStrictEqual(parseTableId(tableId(parts)), parts)
      assert.deepStrictEqual(parseTableId(`${quoted(schema)}.${quoted(table)}`), parts)
    }))
    assert.deepStrictEqual(parseTableId("public.\"Order.Items\""), { schema: "public", name: "Order.Items" })
    for (const wrong of ["", "orders", "a.b.c", "a.", ".b", "\"a.b", "a.\"\"", "a.\"b\"c", "a.b\"c"]) {
      assert.isUndefined(parseTableId(wrong), wrong)
    }
  })
})

describe("Sequence", () => {
  it("has a text form that sorts as the sequence does and can be read back", () => {
    fc.assert(fc.property(sequence, sequence, (a, b) => {
      const [x, y] = [Sequence.format(a), Sequence.format(b)]
      assert.strictEqual(x.length, 33)
      assert.strictEqual(Math.sign(Sequence.compare(a, b)), x < y ? -1 : x > y ? 1 : 0)
      assert.deepStrictEqual(Sequence.parse(x), a)
      assert.deepStrictEqual(Sequence.max(a, b), Sequence.compare(a, b) >= 0 ? a : b)
    }))
  })

  it("refuses text that isn't one of ours", () => {
    for (
      const text of [
        "",
        "0",
        "0000000001a2b3c8/000000000000000",
        "0000000001a2b3c8-0000000000000005",
        "g".repeat(16) + "/" + "0".repeat(16)
      ]
    ) {
      assert.isUndefined(Sequence.parse(text))
    }
  })
})

describe("Element", () => {
  it("knows the table of every element that has one", () => {
    const table = plain("a")
    const rows = batch(table, [{ commit: 1n, ordinal: 1n, values: [1, "x"] }])
    const at = Sequence.make(1n, 1n)
    const own: ReadonlyArray<Element> = [
      { _tag: "Rows", batch: rows },
      { _tag: "SnapshotRows", batch: rows, position: 1n, chunk: 0 },
      {
        _tag: "SnapshotBegin",
        table,
        position: 1n,
        plan: undefined,
        resumed: false,
        estimatedBytes: undefined,
        estimatedRows: undefined
      },
      { _tag: "SnapshotChunk", table, position: 1n, chunk: 0, rows: 1 },
      { _tag: "SnapshotEnd", table, position: 1n, chunks: 1, settled: 1n },
      { _tag: "TableLeft", table },
      { _tag: "Schema", table, sequence: at },
      { _tag: "Truncate", table, sequence: at, commitTime: 0n }
    ]
    assert.deepStrictEqual(own.map((element) => tableOf(element)), own.map(() => table.table))
    assert.isUndefined(tableOf({ _tag: "Watermark", position: 1n, commitTime: undefined }))
    assert.isUndefined(tableOf({ _tag: "Message", sequence: at, prefix: "p", content: new Uint8Array() }))
    assert.strictEqual(tableId(table.table), "public.a")
  })
})

describe("Plugin", () => {
  it("is known by its brand, also across copies of the package", () => {
    const state = Plugin.state({
      name: "memory",
      version: "1.0.0",
      summary: "A store in memory",
      config: Schema.Struct({}),
      make: () => Effect.succeed(new MemoryState())
    })
    assert.isTrue(Plugin.isPlugin(state))
    assert.strictEqual(state.kind, "state")
    assert.strictEqual(state.apiVersion, Plugin.apiVersion)
    assert.isTrue(Plugin.isPlugin({ [Symbol.for("@etl-stream/core/Plugin")]: true }))
    for (const other of [undefined, null, "plugin", 1, {}, { kind: "state" }]) assert.isFalse(Plugin.isPlugin(other))
  })
})

describe("Progress", () => {
  it("gives views that don't change, and starts tables anew with each run", () => {
    const progress = Progress.make("shop")
    progress.begin(1000)
    const table = progress.table("public.a")
    table.changes = 5
    const view = progress.snapshot(2000)
    table.changes = 9
    assert.strictEqual(view.tables[0]?.changes, 5)
    progress.begin(3000)
    assert.deepInclude(progress.snapshot(3000), { run: 2, startedAt: 3000, phase: "starting", tables: [] })
  })

  it("tells how old the durable state is while changes are under way", () => {
    const progress = Progress.make("shop")
    assert.isUndefined(progress.freshness(5000))
    progress.receivedPosition = 10n
    progress.receivedCommitTime = 4_000_000n
    assert.strictEqual(progress.freshness(5000), 1000)
    progress.durableCommitTime = 2_000_000n
    assert.strictEqual(progress.freshness(5000), 3000)
    progress.acknowledgedPosition = 10n
    assert.strictEqual(progress.freshness(5000), 0)
  })

  it("takes the sink for as old as what came last while a failed run isn't back, because nobody knows what has happened since", () => {
    const progress = Progress.make("shop")
    progress.receivedPosition = progress.acknowledgedPosition = 10n
    progress.receivedCommitTime = progress.durableCommitTime = 2_000_000n
    progress.receivedAt = 4000
    progress.phase = "streaming"
    assert.strictEqual(progress.freshness(5000), 0)
    progress.phase = "failed"
    assert.strictEqual(progress.freshness(64_000), 60_000)
    progress.begin(70_000)
    assert.strictEqual(progress.freshness(74_000), 70_000)
    progress.phase = "stopped"
    assert.strictEqual(progress.freshness(74_000), 0)
  })

  it("knows nothing of a pipeline that another process runs", () => {
    const progress = Progress.make("shop")
    progress.receivedPosition = 12n
    progress.acknowledgedPosition = 10n
    progress.receivedCommitTime = progress.durableCommitTime = 2_000_000n
    progress.receivedAt = 4000
    progress.phase = "failed"
    progress.standBy()
    const { freshness, phase, receivedAt } = progress.snapshot(100_000)
    assert.deepStrictEqual({ freshness, phase, receivedAt }, {
      freshness: undefined,
      phase: "starting",
      receivedAt: undefined
    })
    assert.isTrue(progress.caughtUp())
  })

  it("keeps the error of the last run", () => {
    const progress = Progress.make("shop")
    progress.lastError = new ConnectorError({ reason: "Fenced", plugin: "p", message: "m", hint: "h" })
    progress.begin(1)
    assert.strictEqual(progress.snapshot(1).lastError?.reason, "Fenced")
  })
})

describe("Telemetry", () => {
  it("names metrics by convention: one singular namespace, no unit or total in the name", () => {
    const names: ReadonlyArray<string> = Object.values(Telemetry.Names)
    for (const name of names) {
      // Names of OpenTelemetry's own conventions are taken where there are any.
      assert.match(name, /^(etl_stream|db\.client)(\.[a-z]+(_[a-z]+)*)+$/)
      assert.notMatch(name, /_total$|_seconds$|_bytes$/)
      // A name is not the namespace of another one.
      assert.isFalse(names.some((other) => other.startsWith(`${name}.`)), name)
    }
    assert.sameMembers(Telemetry.metrics.map(({ definition }) => definition.name), [...names])
    for (const { definition, id, type } of Telemetry.metrics) {
      assert.strictEqual(id, definition.name)
      assert.strictEqual(
        type,
        { counter: "Counter", updown: "Counter", gauge: "Gauge", histogram: "Histogram" }[definition.kind]
      )
      assert.match(definition.unit, /^(s|By|\{[a-z]+\})$/)
    }
  })

  it.effect("counts per pipeline and table, with units for exporters", () =>
    Effect.gen(function*() {
      const table = Telemetry.forTable("shop", "public.a")
      yield* Metric.update(table.sourceRecords, 5)
      yield* Metric.update(table.sinkRecords, 3)
      yield* Telemetry.forPipeline("shop").error("Fenced", "sink")
      const metrics = yield* Metric.snapshot
      const records = metrics.find(({ id }) => id === Telemetry.Names.producedRecords)
      assert.deepStrictEqual(records?.attributes, {
        unit: "{record}",
        "etl_stream.pipeline": "shop",
        "etl_stream.table": "public.a",
        "etl_stream.component": "source"
      })
      assert.strictEqual(metrics.length, 3)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))
})
