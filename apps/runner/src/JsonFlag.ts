/**
 * The flag `--json`, which every command has.
 */
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"

export const Json = GlobalFlag.Setting("json")({
  flag: Flag.Boolean("json").pipe(
    Flag.withDescription("Print one JSON envelope as the result; log as JSON lines"),
    Flag.withDefault(false)
  )
})
