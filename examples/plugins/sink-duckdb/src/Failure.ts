/**
 * What DuckDB says when it refuses something, as a `ConnectorError`: the reason decides what the engine does about it.
 *
 * DuckDB's messages quote values of rows ("Could not convert string '…'"), and those must never reach a log. So a message is only passed on when it is
 * about names, and of all others just the kind. For the same reason no error here has a `cause`.
 */
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import type { TableId } from "@etl-stream/core/TableSchema"

/** The name that configurations use, and that errors carry. */
export const pluginName = "etl-stream-sink-duckdb"

/** An error of this plugin. With a table it sets that table aside; without one it ends the run. */
export const make = (reason: Reason, message: string, hint: string, table?: TableId): ConnectorError =>
  new ConnectorError({ reason, plugin: pluginName, message, hint, ...(table === undefined ? {} : { table }) })

const textOf = (cause: unknown): string => cause instanceof Error ? cause.message : String(cause)

/** `Conversion Error`, `Out of Memory Error`: what comes before the first colon. */
const kindOf = (text: string): string => /^([A-Z][A-Za-z ]{2,40}): /.exec(text)?.[1] ?? "an error without a kind"

/** These are about names of tables and columns, and about SQL of ours: nothing of a row is in them. */
const aboutNames = new Set(["Catalog Error", "Binder Error", "Parser Error", "Dependency Error"])

/** Why the file could not be opened. */
export const opening = (file: string, cause: unknown): ConnectorError => {
  const text = textOf(cause)
  if (/No such file or directory|cannot find the path/i.test(text)) {
    return make(
      "Missing",
      `The folder of the DuckDB file ${file} doesn't exist`,
      "Make it, or correct the option file; it is relative to the configuration file's folder."
    )
  }
  if (/lock/i.test(text)) {
    return make(
      "Unreachable",
      `The DuckDB file ${file} is in use by another process`,
      "DuckDB lets one process at a time write to a file: end the other one (a runner, a shell, a notebook). The pipeline goes on by itself when the file is free."
    )
  }
  if (/unique file handle conflict|different configuration/i.test(text)) {
    return make(
      "Misconfigured",
      `The DuckDB file ${file} is open in this process with other options`,
      "Give pipelines that write to the same file the same memory and threads."
    )
  }
  return make(
    "Misconfigured",
    `The DuckDB file ${file} can't be opened (${kindOf(text)})`,
    "Check that its folder exists and can be written, and that it is a file of DuckDB 1.5 or older."
  )
}

/** Why a transaction failed, in which `table` was written. */
export const writing = (table: TableId | undefined, cause: unknown): ConnectorError => {
  if (cause instanceof ConnectorError) return cause
  const text = textOf(cause)
  const kind = kindOf(text)
  if (/^(IO|FATAL|Fatal|Connection)/.test(kind) || /invalidated/.test(text)) {
    return make(
      "Unreachable",
      `The DuckDB file can't be written (${kind})`,
      "Look for a full disk or a folder that was unmounted. Nothing is lost: the pipeline reads again what wasn't written."
    )
  }
  if (kind === "Out of Memory Error") {
    return make("Misconfigured", "DuckDB needs more memory than it may use", "Raise the option memory.")
  }
  if (kind === "TransactionContext Error") {
    return make(
      "Unreachable",
      "Somebody else changed the same rows of the DuckDB file",
      "Only the pipeline should write to its tables and to the schema etl_stream. It is tried again."
    )
  }
  const what = aboutNames.has(kind) ? text.split("\n")[0] ?? kind : kind
  return make(
    "Rejected",
    table === undefined ? `DuckDB refused a statement: ${what}` : `DuckDB refused to write the table ${table}: ${what}`,
    "If the target was changed by hand, change it back or drop it.",
    table
  )
}
