/**
 * Log lines: `pretty` for people, `logfmt` and `json` for collectors. They go to standard error; results go to standard output.
 *
 * A line has a time, a level, a message and the annotations in force (pipeline, table …). Errors are shown by their message; causes with stack traces
 * only at level Debug and below, because they may quote data. Every line passes through redaction.
 */
import * as Cause from "effect/Cause"
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import { CommandError, isConnectorError } from "./CommandError.ts"
import type { Redaction } from "./Redaction.ts"
import { printable } from "./TextWidth.ts"

export const formats = ["pretty", "logfmt", "json"] as const
export type Format = typeof formats[number]

/** One log event, before it is formatted. */
export interface Line {
  readonly timestamp: string
  readonly level: string
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
  /** With its stack trace; only when details are wanted. */
  readonly details: string | undefined
}

const plain = (value: unknown): unknown => {
  if (value instanceof Error) return value.message === "" ? value.name : value.message
  if (typeof value === "bigint" || typeof value === "symbol" || typeof value === "function") return String(value)
  return value
}

/** Any value as text. */
export const word = (value: unknown): string => {
  const simple = plain(value)
  return typeof simple === "string"
    ? simple
    : JSON.stringify(simple, (_, inner: unknown) => plain(inner)) ?? String(simple)
}

const quoted = (text: string): string => text === "" || /[\s"=\\]/.test(text) ? JSON.stringify(text) : text

const colors: Readonly<Record<string, number>> = { FATAL: 31, ERROR: 31, WARN: 33, INFO: 32, DEBUG: 34, TRACE: 90 }

/** One line of text, without its end; details follow on lines of their own when pretty. */
export const render = (line: Line, format: Format, color: boolean): string => {
  switch (format) {
    case "json":
      return JSON.stringify(
        {
          timestamp: line.timestamp,
          level: line.level,
          message: line.message,
          ...line.annotations,
          ...(line.details === undefined ? {} : { details: line.details })
        },
        (_, value: unknown) => plain(value)
      )
    case "logfmt":
      return [
        `timestamp=${line.timestamp}`,
        `level=${line.level}`,
        `message=${quoted(line.message)}`,
        ...Object.entries(line.annotations).map(([key, value]) =>
          `${key.replace(/[\s="]/g, "_")}=${quoted(word(value))}`
        ),
        ...(line.details === undefined ? [] : [`details=${quoted(line.details)}`])
      ].join(" ")
    case "pretty": {
      const paint = (code: number, text: string): string => color ? `\x1b[${code}m${text}\x1b[0m` : text
      const annotations = Object.entries(line.annotations).map(([key, value]) =>
        paint(90, `${key}=${quoted(word(value))}`)
      )
      const head = [
        paint(90, line.timestamp.slice(11, 23)),
        paint(colors[line.level] ?? 0, line.level.padEnd(5)),
        printable(line.message),
        ...annotations
      ]
      return `${head.join(" ")}${line.details === undefined ? "" : `\n${line.details}`}`
    }
  }
}

/** A failure in words: our own errors hold no data in their messages; of others only the name is certain to. */
export const failureText = (failure: unknown): string =>
  isConnectorError(failure) || failure instanceof CommandError
    ? failure.message
    : failure instanceof Error
    ? failure.name
    : "unknown error"

/** Whether an argument of a log call is a record of fields rather than a part of the message. */
const isFields = (part: unknown): part is Readonly<Record<string, unknown>> =>
  typeof part === "object" && part !== null && Object.getPrototypeOf(part) === Object.prototype

/** What a log event says. */
export const toLine = (event: Logger.Options<unknown>): Line => {
  const parts: ReadonlyArray<unknown> = Array.isArray(event.message) ? event.message : [event.message]
  const fields = parts.filter(isFields)
  const failed = event.cause.reasons.length > 0 && !Cause.hasInterruptsOnly(event.cause)
  return {
    timestamp: event.date.toISOString(),
    level: event.logLevel.toUpperCase(),
    message: [
      ...parts.filter((part) => !isFields(part)).map(word),
      ...(failed ? [failureText(Cause.squash(event.cause))] : [])
    ].filter((part) => part !== "").join(" "),
    annotations: Object.assign({}, event.fiber.getRef(References.CurrentLogAnnotations), ...fields),
    details: failed && isVerbose(event.fiber.getRef(References.MinimumLogLevel)) ? Cause.pretty(event.cause) : undefined
  }
}

/** Whether stack traces and the causes of errors are wanted. */
export const isVerbose = (level: string): boolean => level === "Debug" || level === "Trace" || level === "All"

export interface Options {
  readonly format: Format
  readonly color: boolean
  readonly redact: Redaction
  /** Takes one finished line, without its end. */
  readonly write: (line: string) => void
}

/** Replaces Effect's own loggers. */
export const layer = (options: Options): Layer.Layer<never> =>
  Logger.layer([
    Logger.make((event) => options.write(options.redact(render(toLine(event), options.format, options.color))))
  ])
