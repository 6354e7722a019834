/**
 * When something is to happen as WAL is used up: at a share of the budget (`50%`), at a size (`10GiB`), or when as much time is left (`30 minutes`).
 *
 * A prediction alone says little while hardly anything is used, since a burst of a second would exhaust any budget if it went on. So the time that is left
 * counts once a tenth of the budget is used.
 */
import * as ByteSize from "@etl-stream/core/ByteSize"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"
import type { Outlook } from "./Outlook.ts"

export type Trigger =
  /** Above 0, at most 1. */
  | { readonly _tag: "Share"; readonly share: number }
  | { readonly _tag: "Size"; readonly bytes: number }
  | { readonly _tag: "Left"; readonly millis: number }

/** Share of the budget from which on predictions count. */
export const predictionsFrom = 0.1

/** The share that `text` (`50%`) means; undefined when it is none, or not above 0 and at most 100 %. */
export const parseShare = (text: string): number | undefined => {
  const match = /^(\d+(?:\.\d+)?)\s*%$/.exec(text.trim())
  // Hundredths of a per cent stay what they are written as.
  const share = Math.round(Number(match?.[1]) * 1e8) / 1e10
  return match !== null && share > 0 && share <= 1 ? share : undefined
}

/** What `text` means; undefined when it is neither a share, a size with a unit, nor a duration above 0. */
export const parse = (text: string): Trigger | undefined => {
  const share = parseShare(text)
  if (share !== undefined) return { _tag: "Share", share }
  // A number without a unit would be bytes, and is far more likely a share without its sign.
  const bytes = /[a-z]/i.test(text) ? Option.getOrUndefined(ByteSize.parse(text)) : undefined
  if (bytes !== undefined) return { _tag: "Size", bytes }
  const words = text.trim()
  if (!/^\d+(\.\d+)?\s*[a-z]+$/i.test(words)) return undefined
  const duration = Schema.decodeUnknownOption(Schema.DurationFromString)(words.replace(/\s+/, " "))
  const millis = Option.isSome(duration) ? Duration.toMillis(duration.value) : 0
  return millis > 0 && Number.isFinite(millis) ? { _tag: "Left", millis } : undefined
}

/** In words: `50 % of the budget`, `10 GiB`, `30 minutes left`. */
export const describe = (trigger: Trigger): string => {
  switch (trigger._tag) {
    case "Share":
      return `${percent(trigger.share)} of the budget`
    case "Size":
      return ByteSize.format(trigger.bytes)
    case "Left":
      return `${span(trigger.millis)} left`
  }
}

/** As it is written in options. */
export const format = (trigger: Trigger): string => {
  switch (trigger._tag) {
    case "Share":
      return `${Number((trigger.share * 100).toFixed(6))}%`
    case "Size":
      return `${trigger.bytes}B`
    case "Left":
      return `${trigger.millis} millis`
  }
}

/** `62 %`. */
export const percent = (share: number): string => `${Math.round(share * 100)} %`

/** A time span in its largest unit: `45 seconds`, `12 minutes`, `3.5 hours`, `2 days`. */
export const span = (millis: number): string => {
  const units = [["day", 86_400_000], ["hour", 3_600_000], ["minute", 60_000], ["second", 1000]] as const
  const [name, size] = units.find(([, size]) => millis >= size) ?? units[3]
  const count = millis / size
  const shown = count >= 10 ? Math.round(count) : Math.round(count * 10) / 10
  return `${shown} ${name}${shown === 1 ? "" : "s"}`
}

/** Whether it has come to that. */
export const isMet = (trigger: Trigger, outlook: Outlook): boolean => {
  switch (trigger._tag) {
    case "Share":
      return outlook.share !== undefined && outlook.share >= trigger.share
    case "Size":
      return outlook.used >= trigger.bytes
    case "Left":
      return outlook.left !== undefined && outlook.left <= trigger.millis && (outlook.share ?? 0) >= predictionsFrom
  }
}

/**
 * Whether it is clearly no longer so: by `hysteresis` (a share of the trigger) below it, or above it for a time. Between the two nothing changes, so that
 * what hovers around a trigger doesn't come and go.
 */
export const isOver = (trigger: Trigger, outlook: Outlook, hysteresis: number): boolean => {
  switch (trigger._tag) {
    case "Share":
      return outlook.share === undefined || outlook.share < trigger.share * (1 - hysteresis)
    case "Size":
      return outlook.used < trigger.bytes * (1 - hysteresis)
    case "Left": {
      if (outlook.share === undefined || outlook.share < predictionsFrom * (1 - hysteresis)) return true
      // Not known yet, as after a start, is no recovery.
      return outlook.left !== undefined && outlook.left > trigger.millis * (1 + hysteresis)
    }
  }
}

const expected = "a share of the budget (50%), a size (10GiB), or the time that is left (30 minutes)"

/** A trigger from its text. */
const Parsed = Schema.Union([
  Schema.Struct({ _tag: Schema.tag("Share"), share: Schema.Finite }),
  Schema.Struct({ _tag: Schema.tag("Size"), bytes: Schema.Finite }),
  Schema.Struct({ _tag: Schema.tag("Left"), millis: Schema.Finite })
])
export const Trigger = Schema.String.pipe(Schema.decodeTo(Parsed, {
  decode: SchemaGetter.transformEffect((text: string) => {
    const trigger = parse(text)
    return trigger === undefined
      ? Effect.fail(new SchemaIssue.InvalidValue({ expected }))
      : Effect.succeed(trigger)
  }),
  encode: SchemaGetter.transform(format)
})).pipe(
  Schema.annotateEncoded({
    kind: "a share, a size or a time",
    jsonSchema: {
      pattern:
        "^\\s*[0-9]+(\\.[0-9]+)?(\\s*%|\\s*([kKmMgGtT][iI]?)?[bB]|\\s+(nanos?|micros?|millis?|seconds?|minutes?|hours?|days?|weeks?))\\s*$"
    }
  })
)

/** A share from its text, such as `20%`. */
export const Share = Schema.String.pipe(Schema.decodeTo(Schema.Finite, {
  decode: SchemaGetter.transformEffect((text: string) => {
    const share = parseShare(text)
    return share === undefined
      ? Effect.fail(new SchemaIssue.InvalidValue({ expected: "a share such as 20%, above 0 and at most 100%" }))
      : Effect.succeed(share)
  }),
  encode: SchemaGetter.transform((share: number) => `${share * 100}%`)
})).pipe(
  Schema.annotateEncoded({ kind: "a share", jsonSchema: { pattern: "^\\s*[0-9]+(\\.[0-9]+)?\\s*%\\s*$" } })
)
