/**
 * `etl-stream run`: runs every pipeline of a configuration file until it is asked to stop or none is left; SIGHUP reloads the file, and with `--watch` so does
 * every change of it. From a configuration database it runs until it is asked to stop, and follows what changes there.
 */
import * as MemoryBudget from "@etl-stream/core/MemoryBudget"
import type { Progress } from "@etl-stream/core/Progress"
import * as Quarantine from "@etl-stream/core/Quarantine"
import * as StatusMetrics from "@etl-stream/core/StatusMetrics"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Alerts from "../alerts/Alerts.ts"
import { CommandError, internal, redacted, usage } from "../CommandError.ts"
import * as Config from "../Config.ts"
import * as Configuration from "../Configuration.ts"
import * as Address from "../database/Address.ts"
import { ExitCode } from "../ExitCode.ts"
import * as FileWatch from "../FileWatch.ts"
import * as LiveView from "../LiveView.ts"
import * as Logging from "../Logging.ts"
import * as Monitors from "../Monitors.ts"
import * as OpenTelemetry from "../OpenTelemetry.ts"
import * as OtlpSettings from "../OtlpSettings.ts"
import type { Result } from "../Output.ts"
import type { Problem } from "../Problem.ts"
import * as ProgressLog from "../ProgressLog.ts"
import { PipelinesRates } from "../Rates.ts"
import * as Redaction from "../Redaction.ts"
import * as Reload from "../Reload.ts"
import * as Screen from "../Screen.ts"
import * as Signals from "../Signals.ts"
import * as Supervisor from "../Supervisor.ts"
import * as Terminal from "../Terminal.ts"
import * as Warnings from "../Warnings.ts"

export interface Options {
  /** The configuration's file; undefined: it comes from a database. */
  readonly file: string | undefined
  /** URL of the configuration database, or a reference to it. */
  readonly database: string | undefined
  /** How often the database is looked at without a notification. */
  readonly poll: Duration.Duration
  /** Whether changes of the file take effect by themselves. */
  readonly watch: boolean
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
  progressOf: (pipeline: string) => Progress | undefined,
  warnings: ReadonlyArray<Problem>
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
        }),
        ...(warnings.length === 0 ? {} : { warnings })
      },
      text: [...outcomes.keys()].flatMap((name) =>
        quarantinedOf(progressOf(name)).map(({ hint, message, table }) =>
          `etl-stream: the table ${table} of the pipeline ${name} is in quarantine: ${message}\n  -> ${hint}`
        )
      ).join("\n")
    })
}

/** What follows a configuration needs. */
interface Following {
  readonly supervisor: Supervisor.Supervisor
  /** Completes each time that a reload is asked for. */
  readonly asked: Effect.Effect<void>
  readonly loaded: (configuration: Configuration.Configuration) => void
  /** Takes over what of a configuration isn't about pipelines. */
  readonly taken: (configuration: Configuration.Configuration) => Effect.Effect<void>
  readonly redact: Redaction.Redaction
}

/** Where a run's configuration comes from. */
interface Origin {
  readonly configuration: Configuration.Configuration
  /** Whether there is more to come when no pipeline is left. */
  readonly lasting: boolean
  /** Takes over what changes there, until interrupted. */
  readonly follow: (following: Following) => Effect.Effect<never, never, Scope.Scope>
  /** More that nobody may see. */
  readonly secrets: ReadonlySet<string>
}

const fromFile = Effect.fnUntraced(function*(file: string, watch: boolean): Effect.fn.Return<Origin, CommandError> {
  const since = FileWatch.digestOf(file)
  const configuration = yield* Configuration.load(file, { environment: process.env, offline: false })
  if (configuration === undefined) return yield* internal("Loading the configuration", undefined)
  return {
    configuration,
    lasting: false,
    follow: ({ asked, loaded, supervisor, taken }) =>
      Effect.gen(function*() {
        const changed = watch ? yield* FileWatch.make(file, { since }) : Effect.never
        return yield* Reload.run(configuration, { supervisor, loaded, taken, asked: Effect.raceFirst(asked, changed) })
      }),
    secrets: new Set()
  }
})

const fromDatabase = Effect.fnUntraced(function*(
  url: Redacted.Redacted,
  poll: Duration.Duration
): Effect.fn.Return<Origin, CommandError> {
  // Who runs from a file doesn't pay for these.
  const Opening = yield* Effect.promise(() => import("../database/Opening.ts"))
  const Following = yield* Effect.promise(() => import("../database/Following.ts"))
  const secrets = Redaction.secretsOf(url)
  const { evaluation, initial } = yield* Opening.open(url, { directory: process.cwd(), environment: process.env }).pipe(
    Effect.mapError((error) => redacted(error, Redaction.make(secrets)))
  )
  return {
    configuration: initial.configuration,
    lasting: true,
    follow: (following) => Following.run({ ...following, url, evaluation, initial, poll }),
    secrets
  }
})

/** The origin that the options name: one, and not two. */
const originOf = Effect.fnUntraced(
  function*({ database, file, poll, watch }: Options): Effect.fn.Return<Origin, CommandError> {
    if (file !== undefined) {
      return database === undefined
        ? yield* fromFile(file, watch)
        : yield* usage(
          "The configuration comes from a file or from a database, not from both",
          "Leave out one of the file and `--config-db`; `etl-stream apply` brings the file into the database."
        )
    }
    const url = yield* Address.urlFrom(database, process.env)
    if (url === undefined) {
      return yield* usage(
        "There is no configuration to run",
        `Name a file, or a database with \`--config-db\` or the environment variable ${Address.urlVariable}.`
      )
    }
    return watch
      ? yield* usage(
        "`--watch` is for files",
        "Leave it out: changes in the database always take effect by themselves."
      )
      : yield* fromDatabase(url, poll)
  }
)

const running = Effect.fnUntraced(
  function*(
    origin: Origin,
    options: Options,
    screen: Screen.Screen | undefined,
    loaded: (configuration: Configuration.Configuration) => void,
    redact: Redaction.Redaction
  ) {
    const { configuration, lasting } = origin
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
    yield* Warnings.log(configuration.warnings)
    const state = yield* Supervisor.makeState(configuration)
    const supervisor = yield* Supervisor.start(configuration, state, { stop: signals.stop, drain, lasting })
    yield* Effect.forkScoped(StatusMetrics.run(supervisor.pipelines))
    const clock = yield* Clock.Clock
    const monitors = yield* Monitors.start(configuration, {
      state,
      // Of one that is stopped nothing can be asked.
      pipelines: () =>
        Monitors.pipelinesOf(
          supervisor.pipelines().filter(({ desired }) => desired() !== "stopped"),
          () => clock.currentTimeMillisUnsafe()
        )
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
    yield* Effect.forkScoped(origin.follow({
      supervisor,
      asked: signals.reload,
      loaded,
      taken: (next) => Effect.andThen(alerts.reload(next), monitors.reload(next)),
      redact
    }))
    yield* serving(configuration, options.http, supervisor, monitors, redact, signals.stopping)
    if (lasting) yield* signals.stop
    return yield* Effect.flatMap(
      Effect.tap(supervisor.outcomes, () => alerts.finish(signals.stopping())),
      (outcomes) =>
        conclude(
          outcomes,
          (pipeline) => supervisor.pipelines().find(({ name }) => name === pipeline)?.progress,
          configuration.warnings
        )
    )
  }
)

export const run = Effect.fn("Run.run")(function*(options: Options): Effect.fn.Return<Result, CommandError> {
  const origin = yield* originOf(options)
  const { configuration } = origin
  const otlp = yield* OtlpSettings.make(configuration.telemetry.otlp, process.env)
  // Secrets of configurations that were replaced stay hidden.
  let secrets: ReadonlySet<string> = new Set([...configuration.secrets, ...origin.secrets, ...otlp.secrets])
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
    return yield* running(origin, options, screen, loaded, redact).pipe(
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
