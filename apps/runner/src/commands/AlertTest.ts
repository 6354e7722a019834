/**
 * `etl-stream alert test`: sends a test alert and its end through notifiers of a file, and tells of each whether it works, with the remedy when it doesn't.
 *
 * All are tried at the same time, for a limited time. No rule is looked at and no state is kept.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Notification } from "@etl-stream/core/Notifier"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { randomUUID } from "node:crypto"
import * as Alerts from "../alerts/Alerts.ts"
import type { NamedNotifier } from "../alerts/Channels.ts"
import { closingWithin } from "../BoundedScope.ts"
import { type CommandError, fromConnector, internal, isConnectorError, redacted, usage } from "../CommandError.ts"
import * as Configuration from "../Configuration.ts"
import { ExitCode } from "../ExitCode.ts"
import * as Logging from "../Logging.ts"
import type { Result } from "../Output.ts"
import { closest, enumerate } from "../Suggestion.ts"
import * as Terminal from "../Terminal.ts"
import { printable } from "../TextWidth.ts"

export interface Options {
  readonly file: string
  /** Names of the notifiers to try; empty: all. */
  readonly notifiers: ReadonlyArray<string>
  readonly json: boolean
}

/** How long one notifier may take for both messages. */
const limit = Duration.minutes(3)

const closeLimit = Duration.seconds(2)

interface Tried {
  readonly name: string
  readonly plugin: string
  readonly error: CommandError | undefined
}

const message = (key: string, status: Notification["status"], at: number, startedAt: number): Notification => ({
  key,
  type: "test",
  severity: "info",
  status,
  title: status === "firing" ? "Test alert of etl-stream" : "Test alert of etl-stream is over",
  body: status === "firing" ? "Nothing is wrong: somebody tries whether alerts get here. Its end follows." : "",
  source: "etl-stream",
  pipeline: undefined,
  table: undefined,
  size: undefined,
  threshold: undefined,
  duration: at - startedAt,
  reminder: false,
  at
})

const send = ({ make }: NamedNotifier): Effect.Effect<void, ConnectorError> =>
  Effect.gen(function*() {
    const notifier = yield* make
    const key = `etl-stream/test/${randomUUID()}`
    const startedAt = yield* Clock.currentTimeMillis
    yield* notifier.notify(message(key, "firing", startedAt, startedAt))
    yield* notifier.notify(message(key, "resolved", yield* Clock.currentTimeMillis, startedAt))
  }).pipe(
    closingWithin(closeLimit, "the notifier"),
    Effect.timeoutOrElse({
      duration: limit,
      orElse: () =>
        Effect.fail(
          new ConnectorError({
            reason: "Unreachable",
            plugin: "the notifier",
            message: `It did not get both messages through in ${Duration.format(limit)}`,
            hint: "Raise its `rate` if that is very low, or report it to the author of its plugin."
          })
        )
    })
  )

const attempt = Effect.fnUntraced(function*(notifier: NamedNotifier, plugin: string): Effect.fn.Return<Tried> {
  const { name } = notifier
  const exit = yield* Effect.exit(send(notifier))
  if (Exit.isSuccess(exit)) return { name, plugin, error: undefined }
  if (Cause.hasInterruptsOnly(exit.cause)) return yield* Effect.interrupt
  const failure = Cause.squash(exit.cause)
  return {
    name,
    plugin,
    error: isConnectorError(failure) ? fromConnector(undefined, failure) : internal(`The plugin ${plugin}`, failure)
  }
})

/** What has to be mended outside comes before what is broken: it is what somebody can do. */
const exitCodeOf = (tried: ReadonlyArray<Tried>): ExitCode => {
  const codes = tried.map(({ error }) => error?.exitCode ?? ExitCode.ok)
  return [ExitCode.environment, ExitCode.runtime].find((code) => codes.includes(code)) ?? ExitCode.ok
}

/** The report as people read it; `color` for a terminal. */
export const render = (tried: ReadonlyArray<Tried>, color: boolean): string => {
  const label = (text: string, code: number): string => color ? `\x1b[${code}m${text}\x1b[0m` : text
  return tried.flatMap(({ error, name, plugin }) =>
    error === undefined
      ? [`${label("ok   ", 32)} ${name} (${plugin}): the test alert and its end were delivered`]
      : [
        `${label("error", 31)} ${name} (${plugin}): ${printable(error.message)}`,
        ...(error.hint === "" ? [] : [`      -> ${printable(error.hint)}`])
      ]
  ).join("\n")
}

const choose = (
  configuration: Configuration.Configuration,
  wanted: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<NamedNotifier>, CommandError> => {
  const all = Alerts.notifiers(configuration)
  const known = all.map(({ name }) => name)
  if (known.length === 0) {
    return Effect.fail(
      usage("The file has no notifiers", "Add them to the section `notifiers`; docs/alerts.md shows how.")
    )
  }
  const unknown = wanted.find((name) => !known.includes(name))
  if (unknown !== undefined) {
    const meant = closest(unknown, known)
    return Effect.fail(
      usage(
        `There is no notifier ${unknown}`,
        meant === undefined ? `The file has ${enumerate(known, "and")}.` : `Did you mean ${meant}?`
      )
    )
  }
  return Effect.succeed(all.filter(({ name }) => wanted.length === 0 || wanted.includes(name)))
}

export const test = Effect.fn("AlertTest.test")(
  function*({ file, json, notifiers }: Options): Effect.fn.Return<Result, CommandError> {
    const configuration = yield* Configuration.load(file, { environment: process.env, offline: false })
    if (configuration === undefined) return yield* internal("Loading the configuration", undefined)
    const { redact } = configuration
    const chosen = yield* choose(configuration, notifiers)
    const plugins = new Map(configuration.notifiers.map(({ name, notifier }) => [name, notifier.name]))
    // Standard output is the report's alone.
    const logging = Logging.layer({
      format: json ? "json" : process.stderr.isTTY === true ? "pretty" : "logfmt",
      color: Terminal.wantsColor(process.stderr),
      redact,
      write: (line) => process.stderr.write(`${line}\n`)
    })
    const tried = yield* Effect.forEach(
      chosen,
      (notifier) => attempt(notifier, plugins.get(notifier.name) ?? notifier.name),
      { concurrency: "unbounded" }
    ).pipe(
      Effect.map((tried) =>
        tried.map(({ error, name, plugin }): Tried => ({
          name,
          plugin,
          error: error === undefined ? undefined : redacted(error, redact)
        }))
      ),
      Effect.provide(logging)
    )
    const exitCode = exitCodeOf(tried)
    return {
      command: "alert test",
      exitCode,
      data: {
        file,
        exitCode,
        notifiers: tried.map(({ error, name, plugin }) => ({
          name,
          plugin,
          ok: error === undefined,
          ...(error === undefined ? {} : { error: { code: error.code, message: error.message, hint: error.hint } })
        }))
      },
      text: render(tried, Terminal.wantsColor(process.stdout))
    }
  }
)
