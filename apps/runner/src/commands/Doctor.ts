/**
 * `etl-stream doctor`: asks the plugins of every pipeline to check their environment, and reports what they found with its remedies.
 *
 * Nothing is changed anywhere. Pipelines are checked one after the other, the plugins of one at the same time. One whose checks don't end in time is left to
 * itself.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Finding, Severity } from "@etl-stream/core/Finding"
import type { Kind } from "@etl-stream/core/Plugin"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { type CommandError, fromConnector, internal, isConnectorError, redacted, usage } from "../CommandError.ts"
import * as Configuration from "../Configuration.ts"
import { ExitCode } from "../ExitCode.ts"
import * as Logging from "../Logging.ts"
import type { Result } from "../Output.ts"
import { render as renderProblem } from "../Problem.ts"
import type { Redaction } from "../Redaction.ts"
import { closest, enumerate } from "../Suggestion.ts"
import * as Terminal from "../Terminal.ts"
import { printable } from "../TextWidth.ts"

export interface Options {
  readonly file: string
  /** Names of the pipelines to check; empty: all. */
  readonly pipelines: ReadonlyArray<string>
  readonly json: boolean
  /** How long the checks of one plugin may take. */
  readonly checkTimeout: Duration.Duration
}

/** What was found at one side of a pipeline. */
interface Checked {
  readonly kind: "source" | "sink" | "deadLetters"
  readonly plugin: string
  readonly findings: ReadonlyArray<Finding>
  /** Why it couldn't be asked. */
  readonly error: CommandError | undefined
}

interface PipelineReport {
  readonly name: string
  readonly sides: ReadonlyArray<Checked>
}

const tooLong = (plugin: string, limit: Duration.Duration): CommandError =>
  fromConnector(
    undefined,
    new ConnectorError({
      reason: "Unreachable",
      plugin,
      message: `The checks of ${plugin} have not ended within ${Duration.format(limit)}`,
      hint:
        "Look whether its server, and what is between (proxy, firewall), accepts connections and doesn't answer. If it is only slow, give it more time with --check-timeout."
    })
  )

const examine = Effect.fnUntraced(function*<K extends Kind & Checked["kind"]>(
  kind: K,
  { name: plugin, options, plugin: { check } }: Configuration.Stage<K>,
  pipeline: string,
  directory: string,
  limit: Duration.Duration
): Effect.fn.Return<Checked> {
  if (check === undefined) return { kind, plugin, findings: [], error: undefined }
  const checking = yield* Effect.suspend(() => check(options, { pipeline, directory })).pipe(
    Effect.scoped,
    Effect.forkDetach
  )
  const ended = yield* Fiber.await(checking).pipe(
    Effect.timeoutOption(limit),
    // Not waited for: what hangs may hang when it is to stop, too.
    Effect.ensuring(Effect.sync(() => checking.interruptUnsafe()))
  )
  if (Option.isNone(ended)) return { kind, plugin, findings: [], error: tooLong(plugin, limit) }
  const exit = ended.value
  if (Exit.isSuccess(exit)) return { kind, plugin, findings: exit.value, error: undefined }
  if (Cause.hasInterruptsOnly(exit.cause)) return yield* Effect.interrupt
  const failure = Cause.squash(exit.cause)
  return {
    kind,
    plugin,
    findings: [],
    error: isConnectorError(failure) ? fromConnector(undefined, failure) : internal(`The checks of ${plugin}`, failure)
  }
})

/** A plugin's messages pass through redaction like everything that is printed. */
const withoutSecrets = (checked: Checked, redact: Redaction): Checked => ({
  ...checked,
  findings: checked.findings.map((finding) => ({
    ...finding,
    message: redact(finding.message),
    remedy: redact(finding.remedy),
    sql: finding.sql.map(redact)
  })),
  error: checked.error === undefined ? undefined : redacted(checked.error, redact)
})

const unknownPipeline = (name: string, known: ReadonlyArray<string>): CommandError => {
  const meant = closest(name, known)
  return usage(
    `There is no pipeline ${name}`,
    meant === undefined ? `There is ${enumerate(known, "and")}.` : `Did you mean ${meant}?`
  )
}

const colors: Readonly<Record<Severity | "error", number>> = { critical: 31, error: 31, warning: 33, info: 36, ok: 32 }

const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? "" : "s"}`

/** The report as people read it; `color` for a terminal. */
export const render = (reports: ReadonlyArray<PipelineReport>, color: boolean): string => {
  const label = (severity: Severity | "error"): string => {
    const text = severity.padEnd(8)
    return color ? `\x1b[${colors[severity]}m${text}\x1b[0m` : text
  }
  const indent = " ".repeat(11)
  const remedy = (text: string, sql: ReadonlyArray<string>): ReadonlyArray<string> => [
    ...(text === "" ? [] : [`${indent}-> ${printable(text)}`]),
    ...sql.map((statement) => `${indent}   ${printable(statement)}`)
  ]
  const lines: Array<string> = []
  for (const { name, sides } of reports) {
    for (const { error, findings, kind, plugin } of sides) {
      lines.push(`${name}: ${kind === "deadLetters" ? "dead letters" : kind} ${plugin}`)
      if (error !== undefined) lines.push(`  ${label("error")} ${printable(error.message)}`, ...remedy(error.hint, []))
      else if (findings.length === 0) lines.push(`  ${label("info")} the plugin has no checks`)
      for (const finding of findings) {
        lines.push(`  ${label(finding.severity)} ${finding.check}: ${printable(finding.message)}`)
        lines.push(...remedy(finding.remedy, finding.sql))
      }
      lines.push("")
    }
  }
  const { critical, unreachable, warnings } = summary(reports)
  lines.push(
    critical + unreachable + warnings === 0
      ? "Everything is in order."
      : [
        ...(unreachable === 0 ? [] : [`${unreachable} could not be asked`]),
        ...(critical === 0 ? [] : [`${critical} critical`]),
        ...(warnings === 0 ? [] : [counted(warnings, "warning")])
      ].join(", ") + "."
  )
  return lines.join("\n")
}

const summary = (reports: ReadonlyArray<PipelineReport>) => {
  const sides = reports.flatMap((report) => report.sides)
  const count = (severity: Severity): number =>
    sides.reduce((sum, { findings }) => sum + findings.filter((finding) => finding.severity === severity).length, 0)
  return {
    critical: count("critical"),
    warnings: count("warning"),
    unreachable: sides.filter(({ error }) => error !== undefined).length
  }
}

/**
 * A critical finding doesn't go away by itself, so it goes first; what couldn't be asked may answer next time, unless a plugin is broken.
 */
const exitCodeOf = (reports: ReadonlyArray<PipelineReport>): ExitCode => {
  const { critical, unreachable } = summary(reports)
  if (critical > 0) return ExitCode.validation
  if (reports.some(({ sides }) => sides.some(({ error }) => error?.code === "Internal"))) return ExitCode.runtime
  return unreachable > 0 ? ExitCode.environment : ExitCode.ok
}

const side = ({ error, findings, plugin }: Checked) => ({
  plugin,
  findings,
  ...(error === undefined ? {} : { error: { code: error.code, message: error.message, hint: error.hint } })
})

const envelope = ({ name, sides }: PipelineReport) => ({
  name,
  ...Object.fromEntries(sides.map((checked) => [checked.kind, side(checked)]))
})

export const doctor = Effect.fn("Doctor.doctor")(
  function*({ checkTimeout, file, json, pipelines }: Options): Effect.fn.Return<Result, CommandError> {
    const configuration = yield* Configuration.load(file, { environment: process.env, offline: false })
    if (configuration === undefined) return yield* internal("Loading the configuration", undefined)
    const { directory, redact } = configuration
    const known = configuration.pipelines.map(({ name }) => name)
    const unknown = pipelines.find((name) => !known.includes(name))
    if (unknown !== undefined) return yield* unknownPipeline(unknown, known)
    const chosen = configuration.pipelines.filter(({ name }) => pipelines.length === 0 || pipelines.includes(name))
    // Standard output is the report's alone.
    const logging = Logging.layer({
      format: json ? "json" : process.stderr.isTTY === true ? "pretty" : "logfmt",
      color: Terminal.wantsColor(process.stderr),
      redact,
      write: (line) => process.stderr.write(`${line}\n`)
    })
    const reports = yield* Effect.forEach(chosen, ({ deadLetters, name, sink, source }) =>
      Effect.all(
        [
          examine("source", source, name, directory, checkTimeout),
          examine("sink", sink, name, directory, checkTimeout),
          ...(deadLetters === undefined ? [] : [examine("deadLetters", deadLetters, name, directory, checkTimeout)])
        ],
        { concurrency: "unbounded" }
      ).pipe(
        Effect.map((sides): PipelineReport => ({
          name,
          sides: sides.map((checked) => withoutSecrets(checked, redact))
        }))
      )).pipe(Effect.provide(logging))
    const exitCode = exitCodeOf(reports)
    const { critical, unreachable, warnings } = summary(reports)
    const ofFile = configuration.warnings.map((warning) => renderProblem(file, warning))
    return {
      command: "doctor",
      exitCode,
      data: {
        file,
        exitCode,
        critical,
        warnings,
        unreachable,
        configurationWarnings: configuration.warnings,
        pipelines: reports.map(envelope)
      },
      text: [...ofFile, render(reports, Terminal.wantsColor(process.stdout))].join("\n\n")
    }
  }
)
