/**
 * Options of the notifier: what stands under its `options` in a configuration.
 *
 * From this schema come the validation of configurations, completion in editors, `etl-stream plugin docs` and the reference pages: each option has a description, and a
 * default wherever there is a good one.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Schema from "effect/Schema"

const isHttp = (text: string): boolean => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)

export const Config = Schema.Struct({
  url: Schema.String.check(Schema.makeFilter(isHttp, { expected: "an http:// or https:// address" })).pipe(
    ConfigOption.withExamples("https://alerts.example.com/hook"),
    ConfigOption.describe("Address that notifications are posted to, as JSON")
  ),
  // A secret can't be printed by accident. Configurations give it by reference: "${env:ALERTS_TOKEN}".
  token: Schema.optionalKey(ConfigOption.Secret).pipe(
    ConfigOption.describe("Sent as `Authorization: Bearer`. Without it no such header is sent")
  ),
  timeout: ConfigOption.Period.pipe(
    ConfigOption.withDefault("10 seconds"),
    ConfigOption.describe("How long one attempt may take")
  ),
  retryFor: ConfigOption.Period.pipe(
    ConfigOption.withDefault("1 minute"),
    ConfigOption.describe("How long a notification is tried again when the other side can't take it for now")
  )
})
export type Config = typeof Config.Type
