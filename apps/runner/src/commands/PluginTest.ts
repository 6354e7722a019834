/**
 * `etl-stream plugin test`: runs the conformance suites of a plugin package, one case after the other, and tells of each whether the plugin shows the behaviour.
 *
 * No test runner is needed. Each case has the time that its suite gives it, and what it holds is released before the next begins; Ctrl-C ends the case that runs in the same way.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { inspect } from "node:util"
import { closingWithin } from "../BoundedScope.ts"
import { type CommandError, isConnectorError, usage } from "../CommandError.ts"
import * as ConformanceModule from "../ConformanceModule.ts"
import { ExitCode } from "../ExitCode.ts"
import * as Logging from "../Logging.ts"
import type { Result } from "../Output.ts"
import * as PluginShape from "../PluginShape.ts"
import * as Redaction from "../Redaction.ts"
import * as Signals from "../Signals.ts"
import * as Terminal from "../Terminal.ts"
import { printable } from "../TextWidth.ts"

export interface Options {
  /** A package's name, a folder, a module; undefined: the package around `directory`. */
  readonly plugin: string | undefined
  /** Only cases with this text in their names or their plugins' names. */
  readonly only: string | undefined
  readonly directory: string
  readonly json: boolean
}

/** Why a case failed, as text. */
interface Failure {
  readonly message: string
  readonly expected?: string
  readonly actual?: string
  /** Where, without lines of Node's and of libraries. */
  readonly at?: ReadonlyArray<string>
}

interface Outcome {
  readonly name: string
  readonly status: "passed" | "failed" | "skipped" | "interrupted"
  readonly millis: number
  readonly failure: Failure | undefined
  /** Why it wasn't tried. */
  readonly reason: string | undefined
}

interface Tested {
  readonly suite: ConformanceModule.Suite
  readonly outcomes: Array<Outcome>
}

/** How long what a case holds may take to be released. */
const closeLimit = Duration.seconds(10)

const mostLines = 40

/** A value as people read it. */
const shown = (value: unknown): string => {
  const lines = (typeof value === "string" ? value : inspect(value, { depth: 6, breakLength: 100, sorted: true }))
    .split("\n")
  return lines.length <= mostLines ? lines.join("\n") : [...lines.slice(0, mostLines), "…"].join("\n")
}

const places = (stack: string): ReadonlyArray<string> =>
  stack.split("\n").filter((line) => /^\s+at /.test(line) && !/node:|node_modules|Generator\.next/.test(line)).map((
    line
  ) => line.trim())
    .slice(0, 5)

const isComparison = (
  error: unknown
): error is { readonly expected: unknown; readonly actual: unknown; readonly operator: string } =>
  typeof error === "object" && error !== null && "expected" in error && "actual" in error && "operator" in error

/** Operators of Node's assertions whose `expected` says something that the message doesn't. */
const compares = /^(deep)?(strict)?equal$|^notDeep|^notStrict/i

const failureOf = (thrown: unknown): Failure => {
  if (isConnectorError(thrown)) {
    return { message: `${thrown.reason}: ${thrown.message}${thrown.hint === "" ? "" : `\n-> ${thrown.hint}`}` }
  }
  if (!(thrown instanceof Error)) return { message: shown(thrown) }
  return {
    message: thrown.message === "" ? thrown.name : thrown.message,
    ...(isComparison(thrown) && compares.test(thrown.operator)
      ? { expected: shown(thrown.expected), actual: shown(thrown.actual) }
      : {}),
    at: places(thrown.stack ?? "")
  }
}

const marks = { passed: "✓", failed: "✗", skipped: "-", interrupted: "!" } as const
const colors = { passed: 32, failed: 31, skipped: 36, interrupted: 33 } as const

const indented = (text: string, by: string): ReadonlyArray<string> =>
  text.split("\n").map((line) => `${by}${printable(line)}`)

/** A case as people read it, with why it failed. */
const lines = ({ failure, millis, name, reason, status }: Outcome, color: boolean): ReadonlyArray<string> => {
  const mark = color ? `\x1b[${colors[status]}m${marks[status]}\x1b[0m` : marks[status]
  const time = status === "skipped" ? "" : ` (${Duration.format(Duration.millis(Math.round(millis)))})`
  return [
    `  ${mark} ${printable(name)}${time}${reason === undefined ? "" : `: not tried, ${printable(reason)}`}`,
    ...(failure === undefined ? [] : [
      ...indented(failure.message, "      "),
      ...(failure.expected === undefined ? [] : indented(`expected: ${failure.expected}`, "      ")),
      ...(failure.actual === undefined ? [] : indented(`actual:   ${failure.actual}`, "      ")),
      ...(failure.at ?? []).map((line) => `      ${printable(line)}`)
    ])
  ]
}

const run = Effect.fnUntraced(
  function*({ timeout }: ConformanceModule.Suite, { name, run, skipped }: ConformanceModule.Case) {
    if (skipped !== undefined) {
      return { name, status: "skipped", millis: 0, failure: undefined, reason: skipped } satisfies Outcome
    }
    const before = yield* Clock.currentTimeMillis
    const exit = yield* run.pipe(
      closingWithin(closeLimit, "a case"),
      Effect.timeoutOrElse({
        duration: timeout,
        orElse: () => Effect.die(new Error(`It was not over after ${Duration.format(timeout)}`))
      }),
      Effect.exit
    )
    const millis = (yield* Clock.currentTimeMillis) - before
    return {
      name,
      millis,
      reason: undefined,
      ...(Exit.isSuccess(exit)
        ? { status: "passed" as const, failure: undefined }
        : { status: "failed" as const, failure: failureOf(Cause.squash(exit.cause)) })
    } satisfies Outcome
  }
)

const count = (tested: ReadonlyArray<Tested>, status: Outcome["status"]): number =>
  tested.reduce((sum, { outcomes }) => sum + outcomes.filter((outcome) => outcome.status === status).length, 0)

const summary = (tested: ReadonlyArray<Tested>, interrupted: boolean): string => {
  const parts = (["passed", "failed", "skipped"] as const).flatMap((status) => {
    const cases = count(tested, status)
    return cases === 0 && status !== "passed" ? [] : [`${cases} ${status === "skipped" ? "not tried" : status}`]
  })
  return `${parts.join(", ")}${interrupted ? ", interrupted" : ""}.`
}

export const test = Effect.fn("PluginTest.test")(
  function*({ directory, json, only, plugin }: Options): Effect.fn.Return<Result, CommandError> {
    const { module, name, suites } = yield* ConformanceModule.load(plugin, directory)
    const wanted = only?.toLowerCase() ?? ""
    const chosen = suites.map((suite) => ({
      ...suite,
      cases: suite.cases.filter((one) => `${suite.plugin} ${one.name}`.toLowerCase().includes(wanted))
    })).filter(({ cases }) => cases.length > 0)
    if (chosen.length === 0) {
      return yield* usage(
        `No case of ${name} has "${only ?? ""}" in its name`,
        "Leave `--only` out to see the names of all."
      )
    }
    const color = Terminal.wantsColor(process.stdout)
    const print = (text: ReadonlyArray<string>) =>
      Effect.sync(() => {
        if (!json) process.stdout.write(text.map((line) => `${line}\n`).join(""))
      })
    const tested: Array<Tested> = []
    const all = Effect.gen(function*() {
      for (const suite of chosen) {
        const outcomes: Array<Outcome> = []
        tested.push({ suite, outcomes })
        yield* print([
          `${printable(suite.plugin)}, conformance of its ${printable(PluginShape.kindText(suite.kind))}`
        ])
        for (const one of suite.cases) {
          const outcome = yield* run(suite, one).pipe(
            Effect.onInterrupt(() =>
              Effect.sync(() => {
                const now: Outcome = {
                  name: one.name,
                  status: "interrupted",
                  millis: 0,
                  failure: undefined,
                  reason: undefined
                }
                outcomes.push(now)
              })
            )
          )
          outcomes.push(outcome)
          yield* print(lines(outcome, color))
        }
      }
      return false
    })
    // What plugins log is no part of the result.
    const logging = Logging.layer({
      format: json ? "json" : process.stderr.isTTY === true ? "pretty" : "logfmt",
      color: Terminal.wantsColor(process.stderr),
      redact: Redaction.none,
      write: (line) => process.stderr.write(`${line}\n`)
    })
    const interrupted = yield* Effect.gen(function*() {
      const signals = yield* Signals.make(() => {})
      return yield* Effect.raceFirst(all, Effect.as(signals.stop, true))
    }).pipe(Effect.scoped, Effect.provide(logging))
    const failed = count(tested, "failed")
    const exitCode = failed > 0 || interrupted ? ExitCode.runtime : ExitCode.ok
    return {
      command: "plugin test",
      exitCode,
      data: {
        plugin: name,
        module,
        exitCode,
        passed: count(tested, "passed"),
        failed,
        skipped: count(tested, "skipped"),
        interrupted,
        suites: tested.map(({ outcomes, suite }) => ({
          plugin: suite.plugin,
          kind: suite.kind,
          cases: outcomes.map(({ failure, millis, name, reason, status }) => ({
            name,
            status,
            millis,
            ...(reason === undefined ? {} : { reason }),
            ...(failure === undefined ? {} : { failure })
          }))
        }))
      },
      text: `\n${summary(tested, interrupted)}`
    }
  }
)
