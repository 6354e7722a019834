import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as References from "effect/References"
import { TestClock } from "effect/testing"
import * as Tracer from "effect/Tracer"
import { Acknowledgement } from "../src/Acknowledgement.ts"
import { DurableSpans } from "../src/DurableSpans.ts"
import { MemoryBudget } from "../src/MemoryBudget.ts"
import * as Progress from "../src/Progress.ts"
import * as Sequence from "../src/Sequence.ts"
import { SpanLinks } from "../src/SpanLinks.ts"
import * as StatusMetrics from "../src/StatusMetrics.ts"
import * as Telemetry from "../src/Telemetry.ts"
import * as Tracing from "../src/Tracing.ts"

/** A tracer that keeps its spans. */
const recording = () => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  return { spans, tracer }
}

const spanOf = (spanId: string, sampled = true): Tracer.AnySpan =>
  Tracer.externalSpan({ traceId: "0".repeat(31) + "1", spanId, sampled })

describe("SpanLinks", () => {
  it("keeps a bounded number of links however many batches are joined, and counts the rest", () => {
    const links = new SpanLinks()
    for (let i = 0; i < 1000; i++) links.add(spanOf(String(i)))
    links.add(spanOf("unsampled", false))
    assert.strictEqual(links.size, 32)
    assert.strictEqual(links.omitted, 968)
    assert.deepStrictEqual(links.links().map(({ span }) => span.spanId).slice(0, 2), ["0", "1"])

    const more = new SpanLinks()
    more.add(spanOf("a"))
    more.addAll(links)
    assert.deepStrictEqual([more.size, more.omitted], [32, 969])
    assert.strictEqual(Telemetry.tableSpan("p", "t", { links: more }).attributes["etl_stream.links.omitted"], 969)
  })
})

describe("spans of tables", () => {
  it.effect("aren't made without a tracer, nor asked for their details", () =>
    Effect.gen(function*() {
      let asked = 0
      const inside = Effect.withFiber((fiber) => Effect.succeed(fiber.cache.span))
      const details = () => {
        asked++
        return {}
      }
      const traced = Telemetry.withTableSpan("etl_stream.test", "p", "t", details)(inside)
      assert.isUndefined(yield* Tracing.detached(traced))
      const { spans, tracer } = recording()
      const off = traced.pipe(
        Effect.provideService(Tracer.Tracer, tracer),
        Effect.provideService(References.TracerEnabled, false)
      )
      assert.isUndefined(yield* Tracing.detached(off))
      assert.strictEqual(asked, 0)
      assert.strictEqual((yield* Effect.provideService(traced, Tracer.Tracer, tracer))?.spanId, spans[0]?.spanId)
      assert.deepStrictEqual([asked, spans.length], [1, 1])
    }))

  it.effect("are no part of what started the pipeline", () =>
    Effect.gen(function*() {
      const { spans, tracer } = recording()
      yield* Effect.void.pipe(
        Effect.withSpan("inner"),
        Tracing.detached,
        Effect.withSpan("outer"),
        Effect.provideService(Tracer.Tracer, tracer)
      )
      assert.deepStrictEqual(spans.map(({ name, parent }) => [name, parent._tag]), [["outer", "None"], [
        "inner",
        "None"
      ]])
    }))
})

describe("DurableSpans", () => {
  it.effect("last from a write's acceptance until it is durable, linked to the writes that a report covers", () =>
    Effect.gen(function*() {
      const { spans, tracer } = recording()
      const of = new DurableSpans(tracer, yield* Clock.Clock, "p", "public.a")
      const at = (commit: bigint) => Sequence.make(commit, 0n)
      of.durable(at(1n))
      assert.strictEqual(spans.length, 0)
      of.accepted(at(10n), spanOf("ten"))
      yield* TestClock.adjust("2 seconds")
      of.accepted(at(20n), spanOf("twenty"))
      of.accepted(at(30n), spanOf("thirty"))
      yield* TestClock.adjust("1 second")
      of.durable(at(25n))
      of.durable(at(30n))
      assert.deepStrictEqual(spans.map(({ links }) => links.map(({ span }) => span.spanId)), [
        ["ten", "twenty"],
        ["thirty"]
      ])
      assert.deepStrictEqual(
        spans.map(({ status }) => status._tag === "Ended" ? status.endTime - status.startTime : undefined),
        [3_000_000_000n, 1_000_000_000n]
      )
      assert.strictEqual(spans[0]?.attributes.get("etl_stream.table"), "public.a")

      for (let i = 100n; i < 100_000n; i++) of.accepted(at(i), spanOf(String(i)))
      of.durable(at(200_000n))
      assert.strictEqual(spans[2]?.links.length, 32)
      assert.strictEqual(spans[2]?.attributes.get("etl_stream.links.omitted"), 99_900 - 32)
      of.accepted(at(1n), spanOf("void"))
      of.clear()
      of.durable(at(300_000n))
      assert.strictEqual(spans.length, 3)
    }))
})

describe("freshness", () => {
  it("is told of the oldest transaction that came to be acknowledged, also of those put together", () => {
    const acknowledgement = new Acknowledgement(4)
    acknowledgement.emitted("public.a", Sequence.make(1n, 0n))
    for (let i = 1n; i <= 20n; i++) acknowledgement.watermark(i * 10n, i * 1000n)
    assert.isUndefined(acknowledgement.takeOldestTime())
    acknowledgement.durable("public.a", Sequence.make(1n, 0n))
    assert.strictEqual(acknowledgement.acknowledgedTime(), 20_000n)
    assert.strictEqual(acknowledgement.takeOldestTime(), 1000n)
    assert.isUndefined(acknowledgement.takeOldestTime())
    acknowledgement.watermark(500n)
    assert.isUndefined(acknowledgement.takeOldestTime())
    acknowledgement.watermark(600n, 30_000n)
    assert.strictEqual(acknowledgement.takeOldestTime(), 30_000n)
  })
})

describe("StatusMetrics", () => {
  it.effect("show one state of each pipeline and table, and none of what is gone", () =>
    Effect.gen(function*() {
      const [shop, other] = [Progress.make("shop"), Progress.make("other")]
      const pipelines = [{ progress: shop }, { progress: other }]
      shop.table("public.a").phase = "copying"
      const shown = Effect.map(Metric.snapshot, (snapshots) =>
        snapshots.flatMap((snapshot) =>
          snapshot.type === "Counter" && Number(snapshot.state.count) !== 0
            ? [[
              snapshot.attributes?.["etl_stream.table"] ?? snapshot.attributes?.["etl_stream.pipeline"],
              snapshot.attributes?.["state"],
              Number(snapshot.state.count)
            ]]
            : []
        ).sort())
      yield* Effect.gen(function*() {
        yield* Effect.forkScoped(StatusMetrics.run(() =>
          pipelines
        ))
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(yield* shown, [["other", "starting", 1], ["public.a", "copying", 1], [
          "shop",
          "starting",
          1
        ]])
        shop.table("public.a").phase = "streaming"
        shop.phase = "streaming"
        pipelines.pop()
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* shown, [["public.a", "streaming", 1], ["shop", "streaming", 1]])
      }).pipe(Effect.scoped)
      assert.deepStrictEqual(yield* shown, [])
    }).pipe(
      Effect.provideService(Metric.MetricRegistry, new Map()),
      Effect.provide(MemoryBudget.layer(1000))
    ))
})

describe("statements", () => {
  it.effect("are timed by system, first word and error, whatever they hold", () =>
    Effect.gen(function*() {
      const timed = (sql: string, statement: Effect.Effect<void, string> = Effect.void) =>
        Effect.ignore(Telemetry.timedStatement(statement, "postgresql", sql, (error) => error))
      yield* timed("select 1")
      yield* timed("  -- why\n SELECT 2")
      yield* timed("/* a */ merge into x")
      yield* timed("secret'); DROP TABLE x")
      yield* timed("COMMIT", Effect.fail("Unreachable"))
      const found = (yield* Metric.snapshot).map(({ attributes, state }) => [
        attributes?.["db.operation.name"],
        attributes?.["error.type"],
        "count" in state ? state.count : undefined
      ])
      assert.deepStrictEqual(found, [
        ["SELECT", undefined, 2],
        ["MERGE", undefined, 1],
        ["OTHER", undefined, 1],
        ["COMMIT", "Unreachable", 1]
      ])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))
})
