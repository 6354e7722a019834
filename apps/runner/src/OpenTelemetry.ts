/**
 * Export of traces, metrics and logs to an OpenTelemetry collector, by OTLP over HTTP.
 *
 * OpenTelemetry's own SDK queues, samples and sends; `TracerBridge`, `LoggerBridge` and `MetricBridge` give it what Effect has. Nothing waits for a collector: what it doesn't
 * take is dropped, counted in `etl_stream.telemetry.dropped` and said once. The end of the process waits for it three seconds at most.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import * as OtlpSettings from "./OtlpSettings.ts"
import type { Redaction } from "./Redaction.ts"

/** How long the end may be held up. */
const patience = "3 seconds"

export interface Options {
  readonly version: string
  readonly redact: Redaction
}

/**
 * The tracer, the logger (besides those that there are) and the reader of metrics of these settings. What it has to say of itself goes to the loggers that there are.
 */
export const layer = (settings: OtlpSettings.Settings, { redact, version }: Options): Layer.Layer<never> =>
  Layer.effectContext(Effect.gen(function*() {
    for (const warning of settings.warnings) yield* Effect.logWarning(redact(warning))
    const context = yield* Effect.context<never>()
    if (!OtlpSettings.isOn(settings)) return Context.make(References.TracerEnabled, false)
    const [sdk, delivery, tracer, logger, metrics] = yield* Effect.promise(() =>
      Promise.all([
        import("./OtlpSdk.ts"),
        import("./TelemetryDelivery.ts"),
        import("./TracerBridge.ts"),
        import("./LoggerBridge.ts"),
        import("./MetricBridge.ts")
      ])
    )
    const log = Effect.runForkWith(context)
    const lostOf = new Map<OtlpSettings.Signal, number>()
    let ending = false
    const lost = (signal: OtlpSettings.Signal, items: number, why: string): void => {
      const before = lostOf.get(signal) ?? 0
      lostOf.set(signal, before + items)
      Metric.withAttributes(delivery.dropped, { signal }).updateUnsafe(items, context)
      if (before > 0 || ending) return
      log(
        Effect.logWarning(`The OpenTelemetry collector doesn't take ${signal}: ${redact(why)}`).pipe(
          Effect.annotateLogs({
            hint:
              "What it doesn't take is dropped and counted in etl_stream.telemetry.dropped; pipelines go on. Check the endpoint of `telemetry.otlp` or OTEL_EXPORTER_OTLP_ENDPOINT (OTLP over HTTP is usually port 4318), and the collector's own log."
          })
        )
      )
    }
    const warnings: Array<string> = []
    const made = yield* Effect.promise(() =>
      sdk.make({ settings, version, lost, warn: (message) => warnings.push(message) })
    )
    for (const warning of warnings) yield* Effect.logWarning(redact(warning))

    const scope = { name: "etl-stream", version }
    made.metrics?.provider(metrics.make(context, yield* Clock.Clock, made.resource, scope))
    const pipes = [made.traces, made.metrics, made.logs].filter((pipe) => pipe !== undefined)
    yield* Effect.addFinalizer(() =>
      Effect.gen(function*() {
        yield* Effect.forEach(
          pipes,
          ({ shutdown }) => Effect.promise(() => shutdown().catch(() => {})),
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.interruptible, Effect.timeoutOption(patience))
        ending = true
        for (const pipe of pipes) pipe.delivery.close()
        if (lostOf.size > 0) {
          yield* Effect.logWarning("The OpenTelemetry collector didn't get everything").pipe(
            Effect.annotateLogs(Object.fromEntries([...lostOf].map(([signal, items]) => [`${signal}Dropped`, items])))
          )
        }
      })
    )
    const { logs, traces } = made
    const loggers = yield* Effect.withFiber((fiber) => Effect.succeed(fiber.getRef(Logger.CurrentLoggers)))
    return Context.make(References.TracerEnabled, traces !== undefined).pipe(
      Context.add(
        Logger.CurrentLoggers,
        logs === undefined
          ? loggers
          : new Set([...loggers, logger.make(logs.provider.getLogger(scope.name, scope.version), redact)])
      ),
      traces === undefined
        ? (services) => services
        : Context.add(Tracer.Tracer, tracer.make(traces.provider.getTracer(scope.name, scope.version), redact))
    )
  }))
