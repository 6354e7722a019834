/**
 * How many messages a notifier may send in a time: `10 per minute`.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"

export interface Rate {
  readonly messages: number
  readonly perMillis: number
}

// A longer one would let what waits for it be forgotten by whoever waits.
const periods: Readonly<Record<string, number>> = { second: 1000, minute: 60_000 }

/** The rate that `text` means; undefined when it is none. */
export const parse = (text: string): Rate | undefined => {
  const match = /^([1-9]\d{0,5}) per (second|minute)$/.exec(text.trim().replace(/\s+/g, " "))
  const perMillis = periods[match?.[2] ?? ""]
  return match === null || perMillis === undefined ? undefined : { messages: Number(match[1]), perMillis }
}

export const format = ({ messages, perMillis }: Rate): string =>
  `${messages} per ${Object.keys(periods).find((name) => periods[name] === perMillis) ?? `${perMillis} millis`}`

const expected = "a rate such as `10 per minute`, with a whole number above 0 and second or minute"

const Decoded = Schema.Struct({ messages: Schema.Int, perMillis: Schema.Int })

export const Rate = Schema.String.pipe(
  Schema.decodeTo(Decoded, {
    decode: SchemaGetter.transformEffect((text: string) => {
      const rate = parse(text)
      return rate === undefined ? Effect.fail(new SchemaIssue.InvalidValue({ expected })) : Effect.succeed(rate)
    }),
    encode: SchemaGetter.transform(format)
  })
).pipe(
  Schema.annotateEncoded({
    kind: "a rate",
    jsonSchema: { pattern: "^\\s*[1-9][0-9]{0,5}\\s+per\\s+(second|minute)\\s*$" }
  })
)
