/**
 * Options that all notifiers have: how long a delivery may take, how long it is tried again, and how many there may be.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import { Rate } from "./Rate.ts"

const period = (longest: Duration.Duration, expected: string) =>
  Schema.DurationFromString.check(
    Schema.makeFilter(
      (duration) => Duration.toMillis(duration) > 0 && Duration.toMillis(duration) <= Duration.toMillis(longest),
      { expected }
    )
  )

export const timeout = period(Duration.minutes(2), "a duration above 0, at most 2 minutes").pipe(
  ConfigOption.withDefault("10 seconds")
).annotateKey({ description: "How long one attempt to deliver may take; at most 2 minutes" })

export const retryFor = period(Duration.minutes(10), "a duration above 0, at most 10 minutes").pipe(
  ConfigOption.withDefault("1 minute")
).annotateKey({
  description:
    "How long a delivery that fails for a passing reason is tried again at once, as late as the other side asks (Retry-After). After that it counts as failed, is logged, and is begun anew some time later as long as the alert holds. At most 10 minutes"
})

const rateOption = (byDefault: string, rest: string) =>
  Rate.pipe(ConfigOption.withDefault(byDefault)).annotateKey({
    description: `Messages at most, for example \`5 per minute\` or \`1 per second\`; ${rest}`
  })

/** For notifiers that tell people: what is too much comes as one message. */
export const summarisedRate = rateOption(
  "10 per minute",
  "what is more is gathered and sent as one summary when the next message may go"
)

/** For notifiers where each alert has a life of its own. */
export const pacedRate = rateOption("60 per minute", "what is more waits for its turn")

/** How a delivery is tried, in milliseconds. */
export interface Patience {
  readonly timeout: Duration.Duration
  readonly retryFor: Duration.Duration
}
