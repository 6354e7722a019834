/**
 * Rules of a configuration's `alerts`: what is alerted about, after how long, and whom to tell.
 */
import * as ByteSize from "@etl-stream/core/ByteSize"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import type { Measure } from "@etl-stream/core/Notifier"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import { closest } from "../Suggestion.ts"

/** Numbers of a pipeline that a rule can put a limit to, and what kind of number each is. */
export const measures = { freshness: "duration", silence: "duration", lag: "size" } as const
export type MeasureName = keyof typeof measures

/** When a rule holds. */
export type When =
  /** A number of the pipeline is above a limit. */
  | { readonly _tag: "Above"; readonly measure: MeasureName; readonly threshold: Measure }
  /** A condition is raised. */
  | { readonly _tag: "Condition" }
  /** The pipeline's run failed and no later one has got to its tables. */
  | { readonly _tag: "PipelineFailed" }
  /** A table is in quarantine. */
  | { readonly _tag: "TableQuarantined" }

const words: Readonly<Record<string, When>> = {
  condition: { _tag: "Condition" },
  "pipeline-failed": { _tag: "PipelineFailed" },
  "table-quarantined": { _tag: "TableQuarantined" }
}

const measureNames = Object.keys(measures).filter((name): name is MeasureName => name in measures)

const forms =
  `expected \`condition\`, \`pipeline-failed\`, \`table-quarantined\`, or a limit such as \`freshness > 5 minutes\`, \`silence > 1 hour\` or \`lag > 1GiB\``

const decodeDuration = Schema.decodeUnknownOption(Schema.DurationFromString)

const limitOf = (measure: MeasureName, text: string): Measure | undefined => {
  if (measures[measure] === "size") {
    // A number alone would leave open what it counts.
    const bytes = /[a-z]/i.test(text) ? Option.getOrUndefined(ByteSize.parse(text)) : undefined
    return bytes === undefined ? undefined : { value: bytes, unit: "By" }
  }
  const duration = Option.getOrUndefined(decodeDuration(text))
  if (duration === undefined || !Duration.isFinite(duration)) return undefined
  const value = Duration.toMillis(duration)
  return value > 0 ? { value, unit: "ms" } : undefined
}

/** What `text` means, or what is wrong with it. */
export const parseWhen = (text: string): When | string => {
  const written = text.trim()
  const word = Object.hasOwn(words, written) ? words[written] : undefined
  if (word !== undefined) return word
  const match = /^([\w-]+)\s*(>=|<=|[<>=]+)\s*(.*)$/.exec(written)
  if (match === null) {
    const meant = closest(written, Object.keys(words))
    return meant === undefined ? forms : `${forms}; did you mean \`${meant}\`?`
  }
  const [, name = "", operator, limit = ""] = match
  const measure = measureNames.find((known) => known === name)
  if (measure === undefined) {
    const meant = closest(name, measureNames)
    return `expected a limit of \`freshness\`, \`silence\` or \`lag\`${
      meant === undefined ? "" : `; did you mean \`${meant}\`?`
    }`
  }
  if (operator !== ">") return `expected \`>\` after \`${measure}\``
  const threshold = limitOf(measure, limit)
  if (threshold !== undefined) return { _tag: "Above", measure, threshold }
  return measures[measure] === "size"
    ? `expected a size above 0 after \`${measure} >\`, such as 512MiB or 2GB`
    : `expected a duration above 0 after \`${measure} >\`, such as 5 minutes`
}

const WhenText = Schema.String.check(
  Schema.makeFilter((text: string) => {
    const parsed = parseWhen(text)
    return typeof parsed === "string" ? parsed : undefined
  })
)

/** A duration that may be 0. */
const Span = Schema.DurationFromString.check(
  Schema.makeFilter((duration) => Duration.isFinite(duration) && Duration.toMillis(duration) >= 0, {
    expected: "a duration, 0 or more (not infinite)"
  })
)

const shortestReminder = Duration.minutes(1)

const Reminder = Schema.DurationFromString.check(
  Schema.makeFilter(
    (duration) => Duration.isFinite(duration) && Duration.toMillis(duration) >= Duration.toMillis(shortestReminder),
    { expected: "a duration of at least 1 minute" }
  )
)

export const severities = ["warning", "critical"] as const

export const AlertRule = Schema.Struct({
  when: WhenText.annotateKey({
    description:
      "When the rule holds: `freshness > 5 minutes` (the sink's state is older than that while changes are under way), `silence > 1 hour` (nothing came from the source for that long), `lag > 1GiB` (log received and not yet acknowledged), `pipeline-failed` (a run failed, whether or not it is tried again), `table-quarantined`, or `condition` (any condition that a source, a sink or a monitor raises)"
  }),
  names: Schema.optionalKey(Schema.NonEmptyArray(Schema.NonEmptyString)).annotateKey({
    description: "With `when: condition`: only conditions of these names. Default: all"
  }),
  severity: Schema.optionalKey(Schema.Literals(severities)).annotateKey({
    description:
      "With `when: condition`: only conditions of this severity; otherwise the severity to tell it with (default: `critical` for `pipeline-failed` and `table-quarantined`, `warning` for limits)"
  }),
  pipelines: Schema.optionalKey(Schema.NonEmptyArray(Schema.NonEmptyString)).annotateKey({
    description: "Only these pipelines. Default: all of them, and monitors"
  }),
  for: Span.pipe(ConfigOption.withDefault("0 seconds")).annotateKey({
    description: "How long it must hold without a break before anybody is told, for example 2 minutes"
  }),
  recoverAfter: Span.pipe(ConfigOption.withDefault("1 minute")).annotateKey({
    description: "How long it must be over before its end is told; what comes back sooner is the same alert"
  }),
  repeat: Schema.optionalKey(Reminder).annotateKey({
    description: "How often to remind while it holds, for example 4 hours, at least 1 minute. Default: never"
  }),
  to: Schema.NonEmptyArray(Schema.NonEmptyString).annotateKey({ description: "Names of the notifiers that tell it" })
})
export type AlertRule = typeof AlertRule.Type

const noRules: ReadonlyArray<typeof AlertRule.Encoded> = []

/** The section `alerts`. */
export const AlertRules = Schema.Array(AlertRule).pipe(ConfigOption.withDefault(noRules))

/** A rule ready for use. Durations are milliseconds. */
export interface ActiveRule {
  /** Stays the same over restarts and reloads as long as what the rule is about does. */
  readonly id: string
  readonly when: When
  readonly names: ReadonlySet<string> | undefined
  readonly severity: "warning" | "critical" | undefined
  readonly pipelines: ReadonlySet<string> | undefined
  readonly forMillis: number
  readonly recoverAfterMillis: number
  readonly repeatMillis: number | undefined
  readonly to: ReadonlyArray<string>
}

/** What a rule is about. Whom it tells and after how long may change without making it another one. */
const subjectOf = (rule: AlertRule, when: When): string =>
  JSON.stringify([
    when._tag === "Above" ? [when.measure, when.threshold.value] : when._tag,
    [...rule.names ?? []].sort(),
    rule.severity ?? "",
    [...rule.pipelines ?? []].sort()
  ])

/** `rules` ready for use; several about the same are told apart by their order. */
export const activate = (rules: ReadonlyArray<AlertRule>): ReadonlyArray<ActiveRule> => {
  const seen = new Map<string, number>()
  return rules.flatMap((rule) => {
    const when = parseWhen(rule.when)
    if (typeof when === "string") return []
    const subject = subjectOf(rule, when)
    const before = seen.get(subject) ?? 0
    seen.set(subject, before + 1)
    return [{
      id: createHash("sha256").update(`${subject}#${before}`).digest("hex").slice(0, 12),
      when,
      names: rule.names === undefined ? undefined : new Set(rule.names),
      severity: rule.severity,
      pipelines: rule.pipelines === undefined ? undefined : new Set(rule.pipelines),
      forMillis: Duration.toMillis(rule.for),
      recoverAfterMillis: Duration.toMillis(rule.recoverAfter),
      repeatMillis: rule.repeat === undefined ? undefined : Duration.toMillis(rule.repeat),
      to: [...new Set(rule.to)]
    }]
  })
}
