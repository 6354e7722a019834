/**
 * Errors of this source. Messages name files, lines and columns; a value of a row is in none of them.
 */
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import type { TableId } from "@etl-stream/core/TableSchema"

/** The name that configurations use, and that errors carry. */
export const pluginName = "etl-stream-source-ndjson"

/** An error of this plugin. With a table it sets that table aside, so that the others go on. */
export const make = (reason: Reason, message: string, hint: string, table?: TableId): ConnectorError =>
  new ConnectorError({ reason, plugin: pluginName, message, hint, ...(table === undefined ? {} : { table }) })

/** Code of an error of the file system; undefined for any other error. */
export const codeOf = (cause: unknown): string | undefined =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string"
    ? cause.code
    : undefined

/** An error of the file system about `path`. */
export const fromFileSystem = (path: string, cause: unknown): ConnectorError => {
  if (cause instanceof ConnectorError) return cause
  const code = codeOf(cause)
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return make(
        "Missing",
        `There is no ${path}`,
        "Check the option directory; it is relative to the configuration file."
      )
    case "EACCES":
    case "EPERM":
      return make("Forbidden", `${path} can't be read`, "Give the runner's user the right to read it.")
    default:
      return make("Unreachable", `${path} can't be read (${code ?? "unknown error"})`, "It is tried again.")
  }
}
