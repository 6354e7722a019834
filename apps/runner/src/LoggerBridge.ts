/**
 * Log lines as log records of OpenTelemetry's SDK: the same words, levels and annotations as on standard error, redacted the same way, and the span that they came from.
 */
import { type Logger as OtelLogger, SeverityNumber } from "@opentelemetry/api"
import * as Logger from "effect/Logger"
import type { LogLevel } from "effect/LogLevel"
import { toLine } from "./Logging.ts"
import type { Redaction } from "./Redaction.ts"
import { attributeValue, contextOfSpan } from "./TracerBridge.ts"

const severities: Readonly<Record<LogLevel, SeverityNumber>> = {
  All: SeverityNumber.UNSPECIFIED,
  Trace: SeverityNumber.TRACE,
  Debug: SeverityNumber.DEBUG,
  Info: SeverityNumber.INFO,
  Warn: SeverityNumber.WARN,
  Error: SeverityNumber.ERROR,
  Fatal: SeverityNumber.FATAL,
  None: SeverityNumber.UNSPECIFIED
}

/** Annotations that metrics and spans have too are called as there. */
const names: ReadonlyMap<string, string> = new Map([
  ["pipeline", "etl_stream.pipeline"],
  ["table", "etl_stream.table"],
  ["condition", "etl_stream.condition.name"]
])

/** A logger that gives every event to `logger`. */
export const make = (logger: OtelLogger, redact: Redaction): Logger.Logger<unknown, void> =>
  Logger.make((event) => {
    const { annotations, details, level, message } = toLine(event)
    logger.emit({
      timestamp: event.date,
      severityNumber: severities[event.logLevel],
      severityText: level,
      body: redact(message),
      attributes: {
        ...Object.fromEntries(
          Object.entries(annotations).map(([key, value]) => [names.get(key) ?? key, attributeValue(value, redact)])
        ),
        ...(details === undefined ? {} : { "exception.stacktrace": redact(details) })
      },
      context: contextOfSpan(event.fiber.cache.span)
    })
  })
