/**
 * What the arguments of the command ask for, as far as can be told before they are parsed or when nobody waits for it any more: for what is told of errors then.
 */
import { isVerbose } from "./Logging.ts"

export const wantsJson = (args: ReadonlyArray<string>): boolean => args.includes("--json")

/** Name of the command, for envelopes. */
export const commandName = (args: ReadonlyArray<string>): string => {
  const words = args.filter((arg) => !arg.startsWith("-"))
  const [group = "etl-stream", command] = words
  return (group === "plugin" || group === "dlq" || group === "alert") && command !== undefined
    ? `${group} ${command}`
    : group
}

/** Whether stack traces are asked for. */
export const wantsDetails = (args: ReadonlyArray<string>): boolean => {
  const at = args.findIndex((arg) => arg === "--log-level" || arg.startsWith("--log-level="))
  const level = args[at]?.split("=")[1] ?? args[at + 1] ?? ""
  return at >= 0 && isVerbose(`${level.charAt(0).toUpperCase()}${level.slice(1).toLowerCase()}`)
}
