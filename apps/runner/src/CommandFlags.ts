/**
 * Flags and arguments that several commands have.
 */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

/** `--json`, of every command. */
export const Json = GlobalFlag.Setting("json")({
  flag: Flag.Boolean("json").pipe(
    Flag.withDescription("Print one JSON envelope as the result; log as JSON lines"),
    Flag.withDefault(false)
  )
})

/** The configuration's file. */
export const file = Argument.String("file.yaml").pipe(Argument.withDescription("Configuration file"))

/** Where the configuration database is. */
export const database = Flag.String("config-db").pipe(
  Flag.withDescription(
    "URL of the configuration database, or a reference to it: ${env:NAME}, ${file:path}. Default: the environment variable ETL_STREAM_CONFIG_DB, which the list of processes doesn't show"
  ),
  Flag.optional
)

/** A duration above 0, such as `--name "30 seconds"`. */
export const period = (name: string, fallback: Duration.Duration) =>
  Flag.String(name).pipe(
    Flag.withSchema(Schema.DurationFromString.check(
      Schema.makeFilter((duration) => Duration.isFinite(duration) && Duration.toMillis(duration) > 0, {
        expected: "a duration above 0, such as \"30 seconds\""
      })
    )),
    Flag.withDefault(fallback)
  )
