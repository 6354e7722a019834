import { assert, describe, it } from "@effect/vitest"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import { InMemoryLogRecordExporter, LoggerProvider, SimpleLogRecordProcessor } from "@opentelemetry/sdk-logs"
import {
  InMemorySpanExporter,
  ParentBasedSampler,
  SimpleSpanProcessor,
  TraceIdRatioBasedSampler,
  TracerProvider
} from "@opentelemetry/sdk-trace"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import * as LoggerBridge from "../src/LoggerBridge.ts"
import * as Redaction from "../src/Redaction.ts"
import * as TracerBridge from "../src/TracerBridge.ts"

const redact = Redaction.make(new Set(["swordfish"]))

const bridged = (ratio = 1) => {
  const exporter = new InMemorySpanExporter()
  const provider = new TracerProvider({
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(ratio) }),
    spanProcessors: [new SimpleSpanProcessor({ exporter })]
  })
  return {
    spans: () => exporter.getFinishedSpans(),
    traced: <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.provideService(effect, Tracer.Tracer, TracerBridge.make(provider.getTracer("test"), redact))
  }
}

describe("TracerBridge", () => {
  it.effect("gives the SDK names, times, parents, kinds, links and attributes, without secrets", () =>
    Effect.gen(function*() {
      const { spans, traced } = bridged()
      yield* traced(Effect.gen(function*() {
        const first = yield* Effect.withSpan(Effect.currentSpan, "first")
        yield* Effect.annotateCurrentSpan("note", "a swordfish").pipe(
          Effect.withSpan("inner", { kind: "client", links: [{ span: first, attributes: { why: "swordfish" } }] }),
          Effect.withSpan("outer", { attributes: { rows: 5, big: 7n } })
        )
      }))
      const [first, inner, outer] = spans()
      assert.deepStrictEqual([first?.name, inner?.name, outer?.name], ["first", "inner", "outer"])
      assert.strictEqual(inner?.parentSpanContext?.spanId, outer?.spanContext().spanId)
      assert.isUndefined(outer?.parentSpanContext)
      assert.deepStrictEqual(outer?.attributes, { rows: 5, big: "7" })
      assert.strictEqual(inner?.kind, 2)
      assert.deepStrictEqual(inner?.attributes, { note: "a <redacted>" })
      assert.strictEqual(inner?.links[0]?.context.spanId, first?.spanContext().spanId)
      assert.deepStrictEqual(inner?.links[0]?.attributes, { why: "<redacted>" })
      assert.strictEqual(outer?.status.code, 0)
    }))

  it.effect("tells our errors by reason and message, others by their kind alone, and interruption as no error", () =>
    Effect.gen(function*() {
      const { spans, traced } = bridged()
      const ours = new ConnectorError({
        reason: "Rejected",
        plugin: "p",
        message: "swordfish was refused",
        hint: "",
        cause: new Error("value 4711")
      })
      const theirs = Object.assign(new Error("duplicate key (email)=(ann@example.com)"), { name: "DriverError" })
      yield* traced(Effect.exit(Effect.withSpan(Effect.fail(ours), "ours")))
      yield* traced(Effect.exit(Effect.withSpan(Effect.fail(theirs), "theirs")))
      yield* traced(Effect.exit(Effect.withSpan(Effect.die("ann@example.com"), "defect")))
      yield* traced(Effect.exit(Effect.withSpan(Effect.interrupt, "interrupted")))
      const [first, second, third, fourth] = spans()
      assert.deepStrictEqual(first?.status, { code: 2, message: "<redacted> was refused" })
      assert.deepStrictEqual(first?.events.map(({ attributes, name }) => [name, attributes]), [[
        "exception",
        { "exception.type": "Rejected", "exception.message": "<redacted> was refused" }
      ]])
      assert.deepStrictEqual(second?.status, { code: 2, message: "DriverError" })
      assert.deepStrictEqual(third?.attributes, { "error.type": "_OTHER" })
      assert.deepStrictEqual(fourth?.status, { code: 0 })
      const told = spans().map(({ attributes, events, status }) => JSON.stringify([attributes, events, status])).join()
      assert.notMatch(told, /ann@example|4711|swordfish|at .*\.ts/)
    }))

  it.effect("leaves out what isn't sampled, with everything in it, and takes no parent from before there was a tracer", () =>
    Effect.gen(function*() {
      const none = bridged(0)
      const sampled = yield* none.traced(
        Effect.withSpan(Effect.map(Effect.currentSpan, (span) => span.sampled), "inner").pipe(Effect.withSpan("outer"))
      )
      assert.isFalse(sampled)
      assert.deepStrictEqual(none.spans(), [])

      // The parent is of Effect's own tracer and says that it is sampled: the sampler decides all the same.
      yield* Effect.withSpan(none.traced(Effect.withSpan(Effect.void, "child")), "native")
      assert.deepStrictEqual(none.spans(), [])
      const all = bridged()
      yield* Effect.withSpan(all.traced(Effect.withSpan(Effect.void, "child")), "native")
      assert.isUndefined(all.spans()[0]?.parentSpanContext)
    }))
})

describe("LoggerBridge", () => {
  it.effect("gives log lines with their level, annotations and span, without secrets", () =>
    Effect.gen(function*() {
      const exporter = new InMemoryLogRecordExporter()
      const provider = new LoggerProvider({ processors: [new SimpleLogRecordProcessor({ exporter })] })
      const { spans, traced } = bridged()
      yield* traced(
        Effect.logWarning("swordfish", new Error("kept by its message")).pipe(
          Effect.annotateLogs({ pipeline: "shop", table: "public.a", rows: 5, hint: "not swordfish" }),
          Effect.withSpan("here")
        )
      ).pipe(Effect.provide(Logger.layer([LoggerBridge.make(provider.getLogger("test"), redact)])))
      yield* Effect.logInfo("alone").pipe(
        Effect.provide(Logger.layer([LoggerBridge.make(provider.getLogger("test"), redact)])),
        Effect.provideService(References.MinimumLogLevel, "Info")
      )
      const [warning, alone] = exporter.getFinishedLogRecords()
      assert.strictEqual(warning?.body, "<redacted> kept by its message")
      assert.strictEqual(warning?.severityNumber, 13)
      assert.deepStrictEqual(warning?.attributes, {
        "etl_stream.pipeline": "shop",
        "etl_stream.table": "public.a",
        rows: 5,
        hint: "not <redacted>"
      })
      assert.strictEqual(warning?.spanContext?.spanId, spans()[0]?.spanContext().spanId)
      assert.isUndefined(alone?.spanContext)
    }))
})
