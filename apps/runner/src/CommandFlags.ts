/**
 * Flags and arguments that several commands have.
 */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"

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
