/**
 * Why a command failed, in the form that people and scripts get: one message, a hint, an exit code.
 *
 * `code` is stable and for scripts: `Usage`, `ConfigurationInvalid`, `Internal`, `DrainTimeout`, `ResyncRefused`, `NoDeadLetters`, `NoConformance`, `PluginUnloadable`, one of the HTTP API's (`ApiCode`), or the reason of a connector's error.
 */
import * as Connector from "@etl-stream/core/ConnectorError"
import * as Cause from "effect/Cause"
import * as Schema from "effect/Schema"
import { ExitCode } from "./ExitCode.ts"
import { Problem, render } from "./Problem.ts"
import type { Redaction } from "./Redaction.ts"

/** Codes of the HTTP API's problems, as a client's command passes them on; `ApiError`: any other, or no answer of ours. */
export const ApiCode = Schema.Literals([
  "ApiError",
  "CrossSite",
  "InvalidRequest",
  "InvalidTable",
  "PausedByConfiguration",
  "PipelineStopped",
  "ShuttingDown",
  "StateStore",
  "Timeout",
  "TooLarge",
  "TooManyStreams",
  "Unauthorized",
  "UnknownPath",
  "UnknownPipeline",
  "ValuesNotAllowed",
  "WrongHost"
])

export class CommandError extends Schema.TaggedError<CommandError>("@etl-stream/runner/CommandError")("CommandError", {
  code: Schema.Union([
    Schema.Literals([
      "Usage",
      "ConfigurationInvalid",
      "Internal",
      "DrainTimeout",
      "ResyncRefused",
      "NoDeadLetters",
      "NoConformance",
      "PluginUnloadable"
    ]),
    ApiCode,
    Connector.Reason
  ]),
  message: Schema.String,
  hint: Schema.String,
  exitCode: Schema.Literals([ExitCode.runtime, ExitCode.validation, ExitCode.environment]),
  /** The configuration file, when the error is about one. */
  file: Schema.optionalKey(Schema.String),
  /** The pipeline that failed, when it is one pipeline's error. */
  pipeline: Schema.optionalKey(Schema.String),
  problems: Schema.optionalKey(Schema.Array(Problem)),
  /** Stack traces and causes, without secrets, for whoever asks for details. */
  details: Schema.optionalKey(Schema.String),
  cause: Schema.optionalKey(Schema.Defect())
}) {}

/** Ends a command whose result has been printed with another exit code than 0. */
export class Verdict extends Schema.TaggedError<Verdict>("@etl-stream/runner/Verdict")("Verdict", {
  exitCode: Schema.Literals([ExitCode.runtime, ExitCode.validation, ExitCode.environment])
}) {}

export const usage = (message: string, hint: string): CommandError =>
  new CommandError({ code: "Usage", message, hint, exitCode: ExitCode.validation })

/** `problems` in the order of the file; there is at least one. */
export const invalidConfiguration = (file: string, problems: ReadonlyArray<Problem>): CommandError =>
  new CommandError({
    code: "ConfigurationInvalid",
    message: problems.length === 1 ? `${file} has a problem` : `${file} has ${problems.length} problems`,
    hint: "Mend them and check again with `etl-stream validate`.",
    exitCode: ExitCode.validation,
    file,
    problems
  })

/** Whether a failure is a connector's; told by its tag, because a plugin may bring its own copy of the class. */
export const isConnectorError = (failure: unknown): failure is Connector.ConnectorError =>
  typeof failure === "object" && failure !== null && "_tag" in failure && failure._tag === "ConnectorError"

export const fromConnector = (pipeline: string | undefined, error: Connector.ConnectorError): CommandError =>
  new CommandError({
    code: error.reason,
    message: [
      pipeline === undefined ? undefined : `Pipeline ${pipeline}`,
      error.table === undefined ? undefined : `table ${error.table}`,
      error.message
    ].filter((part) => part !== undefined).join(": "),
    hint: error.hint,
    exitCode: Connector.exitCode(error),
    ...(pipeline === undefined ? {} : { pipeline }),
    ...(error.cause === undefined ? {} : { cause: error.cause })
  })

/** A defect: a bug of ours or of a plugin. Its message may quote data, so it is shown only where the user asks for details. */
export const internal = (where: string, cause: unknown): CommandError =>
  new CommandError({
    code: "Internal",
    message: `${where}: an unexpected ${cause instanceof Error ? cause.name : typeof cause} was thrown`,
    hint: "This is a bug. Run again with `--log-level debug` to see where it comes from, and report it.",
    exitCode: ExitCode.runtime,
    cause
  })

/** `error` without secrets: its cause is kept as `details`. */
export const redacted = (error: CommandError, redact: Redaction): CommandError => {
  const { cause: _, ...fields } = error
  return new CommandError({
    ...fields,
    message: redact(error.message),
    hint: redact(error.hint),
    details: redact(Cause.pretty(Cause.fail(error.cause ?? error)))
  })
}

/** For people: what is wrong, then what to do. */
export const renderText = (error: CommandError): string => {
  const head = `etl-stream: ${error.message}`
  if (error.problems === undefined) return error.hint === "" ? head : `${head}\n  -> ${error.hint}`
  return [head, ...error.problems.map((problem) => render(error.file ?? "", problem))].join("\n\n")
}
