/**
 * `etl-stream run`: runs every pipeline of a configuration file until it is asked to stop or none is left; SIGHUP reloads the file.
 */
import * as MemoryBudget from "@etl-stream/core/MemoryBudget"
import type { Progress } from "@etl-stream/core/Progress"
import * as Quarantine from "@etl-stream/core/Quarantine"
import * as StatusMetrics from "@etl-stream/core/StatusMetrics"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Alerts from "../alerts/Alerts.ts"
import { CommandError, internal, redacted } from "../CommandError.ts"
import * as Config from "../Config.ts"
import * as Configuration from "../Configuration.ts"
import { ExitCode } from "../ExitCode.ts"
import * as LiveView from "../LiveView.ts"
import * as Logging from "../Logging.ts"
import * as Monitors from "../Monitors.ts"
import * as OpenTelemetry from "../OpenTelemetry.ts"
import * as OtlpSettings from "../OtlpSettings.ts"
import type { Result } from "../Output.ts"
import * as ProgressLog from "../ProgressLog.ts"
import { PipelinesRates } from "../Rates.ts"
import * as Redaction from "../Redaction.ts"
import * as Reload from "../Reload.ts"
import * as Screen from "../Screen.ts"
import * as Signals from "../Signals.ts"
import * as Supervisor from "../Supervisor.ts"
import * as Terminal from "../Terminal.ts"

export interface Options {
  readonly file: string
  readonly drainTimeout: Duration.Duration
  /** Whether a live view is welcome. */
  readonly view: boolean
  readonly progressEvery: Duration.Duration
  readonly logFormat: Logging.Format | undefined
  readonly json: boolean
  readonly version: string
  /** Whether the HTTP API is served; undefined: when the configuration says so. */
  readonly http: boolean | undefined
}

const drawEvery = Duration.millis(200)

/** Added to the drain's deadline before the process is ended by force. */
const grace = Duration.seconds(10)

/** Draws the live view until interrupted, and once more then, so that the last state stays on the terminal. */
const drawing = Effect.fnUntraced(function*(
  screen: Screen.Screen,
  supervisor: Supervisor.Supervisor,
  monitors: Monitors.Monitors,
  stopping: () => boolean
) {
  const budget = yield* MemoryBudget.MemoryBudget
  const startedAt = yield* Clock.currentTimeMillis
  const rates = new PipelinesRates()
  const draw = Effect.map(Clock.currentTimeMillis, (now) => {
    const pipelines = supervisor.pipelines().map((pipeline) => {
      const { progress } = pipeline
      const view = progress.snapshot(now)
      const activity = pipeline.activity()
      return {
        view,
        rates: rates.of(progress).record(view, now),
        retryAt: pipeline.retryAt(),
        activity: activity === "paused" || activity === "waiting" ? activity : undefined
      }
    })
    const model: LiveView.Model = {
      now,
      startedAt,
      memory: { used: budget.used(), capacity: budget.capacity },
      draining: stopping() && pipelines.some(({ view }) => view.phase !== "stopped" && view.phase !== "failed"),
      pipelines,
      monitors: monitors.monitors()
    }
    screen.draw(LiveView.render(model, {
      width: Math.max(1, process.stdout.columns),
      height: Math.max(2, process.stdout.rows),
      color: Terminal.wantsColor(process.stdout),
      unicode: Terminal.showsUnicode()
    }))
  })
  yield* Effect.repeat(draw, Schedule.spaced(drawEvery)).pipe(Effect.ensuring(draw))
})

/** Serves the HTTP API while the scope is open, when that is wanted. */
const serving = Effect.fnUntraced(function*(
  configuration: Configuration.Configuration,
  wanted: boolean | undefined,
  supervisor: Supervisor.Supervisor,
  monitors: Monitors.Monitors,
  redact: Redaction.Redaction,
  isStopping: () => boolean
) {
  const section = configuration.http ?? (wanted === true ? yield* Effect.orDie(Config.defaultHttp) : undefined)
  if (section === undefined || wanted === false) return
  const { host, hosts, port, tapValues, token } = section
  // Loaded only when it is wanted.
  const Server = yield* Effect.promise(() => import("../api/Server.ts"))
  const url = yield* Server.serve({
    host,
    port,
    token,
    hosts,
    tapValues,
    supervisor,
    monitors: monitors.monitors,
    redact,
    state: configuration.state,
    directory: configuration.directory,
    isStopping
  }).pipe(Effect.mapError(({ cause }) =>
    new CommandError({
      code: "Unreachable",
      message: `The HTTP API can't listen on ${host}, port ${port}${
        typeof cause === "object" && cause !== null && "code" in cause ? ` (${String(cause.code)})` : ""
      }`,
      hint: "Another process may have it: give another one as `http.port`, or leave the API out with `--no-http`.",
      exitCode: ExitCode.environment
    })
  ))
  yield* Effect.logInfo("The HTTP API is served").pipe(Effect.annotateLogs({ url }))
})

/** Tables in quarantine, with what people need to know of each. */
const quarantinedOf = (progress: Progress | undefined) =>
  (progress?.snapshot(0).tables ?? []).flatMap(({ quarantine, table }) =>
    quarantine === undefined
      ? []
      : [{
        table,
        reason: quarantine.reason,
        message: quarantine.message,
        hint: Quarantine.remedy(quarantine, table),
        since: new Date(quarantine.since).toISOString()
      }]
  )

/**
 * The command's result of how its pipelines ended: the first failure decides. Tables in quarantine are no failure: everything that was to be done is, and
 * starting again would change nothing about them. They are told.
 */
const conclude = (
  outcomes: ReadonlyMap<string, Supervisor.Outcome>,
  progressOf: (pipeline: string) => Progress | undefined
): Effect.Effect<Result, CommandError> => {
  const unsettled: Array<string> = []
  for (const [name, outcome] of outcomes) {
    if (outcome._tag === "Failed") return Effect.fail(outcome.error)
    if (outcome._tag === "Stopped" && !outcome.settled) unsettled.push(name)
  }
  return unsettled.length > 0
    ? Effect.fail(
      new CommandError({
        code: "DrainTimeout",
        message: `Stopped before everything read was in place: ${unsettled.join(", ")}`,
        hint: "Nothing is lost, it is read again next time. Give `--drain-timeout` more time if that takes too long.",
        exitCode: ExitCode.runtime
      })
    )
    : Effect.succeed({
      command: "run",
      data: {
        pipelines: [...outcomes].map(([name, outcome]) => {
          const quarantined = quarantinedOf(progressOf(name))
          return { name, state: outcome._tag.toLowerCase(), ...(quarantined.length === 0 ? {} : { quarantined }) }
        })
      },
      text: [...outcomes.keys()].flatMap((name) =>
        quarantinedOf(progressOf(name)).map(({ hint, message, table }) =>
          `etl-stream: the table ${table} of the pipeline ${name} is in quarantine: ${message}\n  -> ${hint}`
        )
      ).join("\n")
    })
}

const running = Effect.fnUntraced(
  function*(
    configuration: Configuration.Configuration,
    options: Options,
    screen: Screen.Screen | undefined,
    loaded: (configuration: Configuration.Configuration) => void,
    redact: Redaction.Redaction
  ) {
    const drain = options.drainTimeout
    const signals = yield* Signals.make((signal) => {
      // Whatever a plugin's finalizer does: the process ends.
      setTimeout(() => process.exit(ExitCode.runtime), Duration.toMillis(drain) + Duration.toMillis(grace)).unref()
      if (screen === undefined && !options.json) {
        process.stderr.write(`etl-stream: ${signal}: stopping; once more to quit at once\n`)
      }
    })
    yield* Effect.logInfo("etl-stream starts").pipe(
      Effect.annotateLogs({
        version: options.version,
        file: configuration.file,
        pipelines: configuration.pipelines.length
      })
    )
    const state = yield* Supervisor.makeState(configuration)
    const supervisor = yield* Supervisor.start(configuration, state, { stop: signals.stop, drain })
    yield* Effect.forkScoped(StatusMetrics.run(supervisor.pipelines))
    const clock = yield* Clock.Clock
    const monitors = yield* Monitors.start(configuration, {
      state,
      pipelines: () => Monitors.pipelinesOf(supervisor.pipelines(), () => clock.currentTimeMillisUnsafe())
    })
    yield* Effect.forkScoped(
      screen === undefined
        ? ProgressLog.run(supervisor.pipelines, options.progressEvery, monitors.monitors)
        : drawing(screen, supervisor, monitors, signals.stopping)
    )
    const alerts = yield* Alerts.start(configuration, {
      state,
      redact,
      subjects: (now) => [
        ...Alerts.pipelines(supervisor.pipelines(), now),
        ...Alerts.monitors(monitors.monitors())
      ]
    })
    yield* Effect.forkScoped(
      Reload.run(configuration, {
        supervisor,
        asked: signals.reload,
        loaded,
        taken: (next) => Effect.andThen(alerts.reload(next), monitors.reload(next))
      })
    )
    yield* serving(configuration, options.http, supervisor, monitors, redact, signals.stopping)
    return yield* Effect.flatMap(
      Effect.tap(supervisor.outcomes, () => alerts.finish(signals.stopping())),
      (outcomes) =>
        conclude(outcomes, (pipeline) => supervisor.pipelines().find(({ name }) => name === pipeline)?.progress)
    )
  }
)

export const run = Effect.fn("Run.run")(function*(options: Options): Effect.fn.Return<Result, CommandError> {
  const configuration = yield* Configuration.load(options.file, { environment: process.env, offline: false })
  if (configuration === undefined) return yield* internal("Loading the configuration", undefined)
  const otlp = yield* OtlpSettings.make(configuration.telemetry.otlp, process.env)
  // Secrets of configurations that were replaced stay hidden.
  let secrets = new Set([...configuration.secrets, ...otlp.secrets])
  let redacting = Redaction.make(secrets)
  const redact = (text: string) => redacting(text)
  const loaded = (next: Configuration.Configuration): void => {
    secrets = new Set([...secrets, ...next.secrets])
    redacting = Redaction.make(secrets)
  }
  return yield* Effect.gen(function*() {
    const view = options.view && !options.json && process.stdout.isTTY === true && process.env["TERM"] !== "dumb"
    const screen = view ? yield* Screen.make(process.stdout) : undefined
    const write = (text: string): unknown => process.stderr.write(text)
    const logging = Logging.layer({
      format: options.logFormat ?? (options.json ? "json" : process.stderr.isTTY === true ? "pretty" : "logfmt"),
      color: Terminal.wantsColor(process.stderr),
      redact,
      write: (line) =>
        screen !== undefined && process.stderr.isTTY === true ? screen.print(line, write) : write(`${line}\n`)
    })
    const telemetry = OpenTelemetry.layer(otlp, { version: options.version, redact })
    return yield* running(configuration, options, screen, loaded, redact).pipe(
      Effect.scoped,
      Effect.provide([
        Layer.provideMerge(telemetry, logging),
        MemoryBudget.MemoryBudget.layer(configuration.memory)
      ])
    )
  }).pipe(
    Effect.scoped,
    Effect.mapError((error) => redacted(error, redact))
  )
})
