/**
 * `etl-stream validate`: checks a configuration file without connecting to anything; with `connect` it asks the sources for their tables, and the transforms what they make of
 * each.
 */
import * as LogicalTypeText from "@etl-stream/core/LogicalTypeText"
import { type ColumnSchema, tableId } from "@etl-stream/core/TableSchema"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { closingWithin } from "../BoundedScope.ts"
import { type CommandError, usage } from "../CommandError.ts"
import * as Configuration from "../Configuration.ts"
import { ExitCode } from "../ExitCode.ts"
import * as Logging from "../Logging.ts"
import type { Result } from "../Output.ts"
import { type Problem, render } from "../Problem.ts"
import type { Redaction } from "../Redaction.ts"
import * as TablePlan from "../TablePlan.ts"
import * as Terminal from "../Terminal.ts"
import { printable } from "../TextWidth.ts"
import * as YamlDocument from "../YamlDocument.ts"

export interface Options {
  readonly file: string
  readonly offline: boolean
  readonly connect: boolean
  readonly json: boolean
}

/** How long what a pipeline's plugins hold may take to be released. */
const closeLimit = Duration.seconds(10)

const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`

/** A problem or warning about tables, and its pipeline. */
interface Told extends Problem {
  readonly pipeline: string
  readonly table?: string
  readonly code?: string
}

const columnOf = ({ name, nullable, sourceType, type }: ColumnSchema) => ({
  name,
  type: LogicalTypeText.format(type),
  sourceType,
  nullable
})

const tableOf = ({ leftOutBy, source, target }: TablePlan.PlannedTable) => ({
  source: tableId(source.table),
  target: target === undefined ? null : tableId(target.table),
  ...(leftOutBy === undefined ? {} : { leftOutBy }),
  columns: target?.columns.map(columnOf) ?? []
})

interface Report {
  readonly name: string
  readonly source: string
  readonly tables: ReadonlyArray<ReturnType<typeof tableOf>>
}

const renderTold = (file: string, label: string, told: Problem & { readonly table?: string }): string =>
  render(file, {
    ...told,
    message: `${label}${told.table === undefined ? "" : ` with table ${printable(told.table)}`}: ${
      printable(told.message)
    }`,
    remedy: printable(told.remedy)
  })

const renderReport = ({ name, source, tables }: Report): ReadonlyArray<string> => [
  `${name}: ${count(tables.length, "table")} of ${source}`,
  ...tables.flatMap(({ columns, leftOutBy, source, target }) => [
    `  ${printable(source)} -> ${
      target !== null
        ? printable(target)
        : leftOutBy === undefined
        ? "a problem"
        : `left out by transforms[${leftOutBy}]`
    }`,
    ...columns.map(({ name, nullable, type }) => `    ${printable(name)} ${type}${nullable ? "" : " not null"}`)
  ])
]

/** The worst: what is to be mended in the file goes before what may be otherwise next time. */
const exitCodeOf = (problems: ReadonlyArray<TablePlan.Remark>): ExitCode => {
  const codes = problems.map(({ exitCode }) => exitCode)
  return [ExitCode.validation, ExitCode.runtime, ExitCode.environment].find((code) => codes.includes(code)) ??
    ExitCode.ok
}

const summaryOf = ({ name, sink, source, transforms }: Configuration.PipelineConfiguration) => ({
  name,
  source: source.name,
  transforms: transforms.map((transform) => transform.name),
  sink: sink.name
})

/** Puts remarks into the words of the result: with their places in the file, and without secrets. */
const telling =
  (yaml: YamlDocument.YamlDocument, redact: Redaction, pipeline: string) =>
  ({ code, hint, message, path, table }: TablePlan.Remark): Told => ({
    ...YamlDocument.problemAt(yaml, { path, at: "value", message: redact(message), remedy: redact(hint) }),
    pipeline,
    ...(table === undefined ? {} : { table }),
    ...(code === undefined ? {} : { code })
  })

/** Asks the plugins of every pipeline, one pipeline after the other. */
const connected = Effect.fnUntraced(
  function*({ file, json }: Options, configuration: Configuration.Configuration) {
    const { directory, pipelines, redact } = configuration
    // Standard output is the report's alone.
    const logging = Logging.layer({
      format: json ? "json" : process.stderr.isTTY === true ? "pretty" : "logfmt",
      color: Terminal.wantsColor(process.stderr),
      redact,
      write: (line) => process.stderr.write(`${line}\n`)
    })
    const yaml = yield* Configuration.parse(file)
    const plans = yield* Effect.forEach(pipelines, (pipeline) =>
      Effect.map(
        TablePlan.make(pipeline, directory).pipe(closingWithin(closeLimit)),
        (plan) => ({ pipeline, plan, tell: telling(yaml, redact, pipeline.name) })
      )).pipe(Effect.provide(logging))
    const problems = plans.flatMap(({ plan, tell }) => plan.problems.map(tell))
    const warnings = [
      ...configuration.warnings,
      ...plans.flatMap(({ plan, tell }) => plan.warnings.map(tell))
    ]
    const reports = plans.map(({ pipeline, plan }) => ({
      ...summaryOf(pipeline),
      tables: plan.tables.map(tableOf)
    }))
    const exitCode = exitCodeOf(plans.flatMap(({ plan }) => plan.problems))
    return {
      command: "validate",
      exitCode,
      data: { file, offline: false, connected: true, exitCode, pipelines: reports, problems, warnings },
      text: [
        ...reports.map((report) => renderReport(report).join("\n")),
        ...warnings.map((warning) => renderTold(file, "warning", warning)),
        ...problems.map((problem) => renderTold(file, "problem", problem)),
        problems.length === 0
          // Of a pipeline without tables nothing was tried.
          ? `${file} is valid${plans.every(({ plan }) => plan.tables.length > 0) ? ", and fits its tables" : ""}: ${
            count(pipelines.length, "pipeline")
          }`
          : `${file} has ${count(problems.length, "problem")}`
      ].join("\n\n")
    } satisfies Result
  }
)

export const validate = Effect.fn("Validate.validate")(
  function*(options: Options): Effect.fn.Return<Result, CommandError> {
    const { connect, file, offline } = options
    if (connect && offline) {
      return yield* usage("`--connect` doesn't go with `--offline`", "Leave one out: sources can't be asked offline.")
    }
    const { configuration, warnings } = yield* Configuration.read(file, { environment: process.env, offline })
    if (connect && configuration !== undefined) return yield* connected(options, configuration)
    const pipelines = configuration?.pipelines.map(summaryOf)
    return {
      command: "validate",
      data: { file, offline, ...(pipelines === undefined ? {} : { pipelines }), warnings },
      text: [
        ...warnings.map((warning) => `warning: ${render(file, warning)}`),
        pipelines === undefined
          ? `${file} is valid as far as can be told without resolving references`
          : `${file} is valid: ${count(pipelines.length, "pipeline")} (${pipelines.map(({ name }) => name).join(", ")})`
      ].join("\n")
    }
  }
)
