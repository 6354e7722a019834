/**
 * A notification in words, shared by the notifiers that people read.
 */
import * as ByteSize from "@etl-stream/core/ByteSize"
import type { Measure, Notification } from "@etl-stream/core/Notifier"
import type { Told } from "./RateLimit.ts"

/** `millis` in its two largest units: `1 h 5 min`, `42 s`. */
export const duration = (millis: number): string => {
  const units: ReadonlyArray<readonly [name: string, millis: number]> = [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["min", 60_000],
    ["s", 1000]
  ]
  const rounded = Math.round(millis / 1000) * 1000
  const first = units.findIndex(([, unit]) => rounded >= unit)
  if (first < 0) return `${Math.round(millis)} ms`
  let rest = rounded
  return units.slice(first, first + 2).flatMap(([name, unit]) => {
    const count = Math.floor(rest / unit)
    rest -= count * unit
    return count === 0 ? [] : [`${count} ${name}`]
  }).join(" ")
}

/** A measure as people read it; a unit that isn't known stands as it is, without UCUM's braces. */
export const measure = ({ unit, value }: Measure): string => {
  if (unit === "ms") return duration(value)
  if (unit === "By") return ByteSize.format(value)
  return unit === "1" ? String(value) : `${value} ${unit.replace(/^\{(.*)\}$/, "$1")}`
}

/** At most `longest` UTF-16 units, cut between characters. */
export const shorten = (text: string, longest: number): string => {
  if (text.length <= longest) return text
  let kept = ""
  for (const character of text) {
    if (kept.length + character.length > longest - 1) break
    kept += character
  }
  return `${kept}…`
}

/** Without control characters and line breaks. */
export const oneLine = (text: string): string => text.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ").trim()

export const statusWord = ({ reminder, severity, status }: Notification): string =>
  status === "resolved" ? "Resolved" : `${reminder ? "Still " : ""}${reminder ? severity : capital(severity)}`

const capital = (word: string): string => `${word.charAt(0).toUpperCase()}${word.slice(1)}`

/** The notification in one line: `Critical: shop failed`. */
export const headline = (notification: Notification): string =>
  `${statusWord(notification)}: ${oneLine(notification.title)}`

/** What is known besides title and body, each with its name. */
export const facts = (notification: Notification): ReadonlyArray<readonly [name: string, value: string]> => {
  const { at, duration: lasted, pipeline, severity, size, source, status, table, threshold } = notification
  return [
    [pipeline === undefined ? "Source" : "Pipeline", source],
    ...(table === undefined ? [] : [["Table", table] as const]),
    ["Severity", severity],
    ...(size === undefined ? [] : [["Measured", measure(size)] as const]),
    ...(threshold === undefined ? [] : [["Threshold", measure(threshold)] as const]),
    ...(lasted > 0 ? [[status === "firing" ? "For" : "Lasted", duration(lasted)] as const] : []),
    ["Time", new Date(at).toISOString()]
  ]
}

const gravity = { info: 0, warning: 1, critical: 2 } as const

/** The gravest of what fires in `told`; `resolved` when nothing does. */
export const gravest = (told: Told): Notification["severity"] | "resolved" =>
  told.reduce<Notification["severity"] | "resolved">(
    (worst, { severity, status }) =>
      status === "firing" && (worst === "resolved" || gravity[severity] > gravity[worst]) ? severity : worst,
    "resolved"
  )

/** What is told together, in one line: `12 notifications: 9 firing, 3 resolved`. */
export const summaryLine = (told: Told): string => {
  const firing = told.filter(({ status }) => status === "firing").length
  return `${told.length} notifications: ${firing} firing, ${told.length - firing} resolved`
}

/** One line for each of what is told together, as many as there is room for. */
export const summaryLines = (told: Told, most: number): ReadonlyArray<string> => [
  ...told.slice(0, most).map((notification) => headline(notification)),
  ...(told.length > most ? [`and ${told.length - most} more`] : [])
]
