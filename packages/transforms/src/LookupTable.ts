/**
 * Tables that values are looked up in: from a file (CSV, NDJSON or JSON) or from the configuration.
 *
 * A table is read whole and kept in memory, so files have a size limit. Keys are compared as text.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import { parse as parseCsv } from "csv-parse/sync"
import * as Effect from "effect/Effect"
import { readFileSync, statSync } from "node:fs"
import { extname } from "node:path"
import * as JsonText from "./JsonText.ts"

/** Values of one entry by their field; of CSV all text. */
export type Entry = Readonly<Record<string, unknown>>

/** Entries by the text of their key. */
export type Entries = ReadonlyMap<string, Entry>

export type Format = "csv" | "ndjson" | "json"

export interface FileOptions {
  readonly plugin: string
  readonly path: string
  readonly format: Format | undefined
  /** The field that is the key. */
  readonly key: string
  /** Largest size, in bytes. */
  readonly largest: number
}

/** What tells one content of a file from another without reading it. */
export type Version = string

const error = ({ path, plugin }: FileOptions, reason: "Missing" | "Rejected", message: string, hint: string) =>
  new ConnectorError({ reason, plugin, message: `The lookup file ${path} ${message}`, hint })

const formats: Readonly<Record<string, Format>> = {
  ".csv": "csv",
  ".ndjson": "ndjson",
  ".jsonl": "ndjson",
  ".json": "json"
}

const isEntry = (value: unknown): value is Entry => typeof value === "object" && value !== null && !Array.isArray(value)

/** The text by which an entry's key is found; undefined for what is no key. */
export const keyText = (value: unknown): string | undefined => {
  switch (typeof value) {
    case "string":
      return value
    case "number":
    case "bigint":
    case "boolean":
      return String(value)
    default:
      return undefined
  }
}

/** Entries by their key, or what is wrong: the number of the first entry without a key, or whose key an earlier one has. */
export const index = (entries: ReadonlyArray<unknown>, key: string): Entries | string => {
  const found = new Map<string, Entry>()
  for (const [position, entry] of entries.entries()) {
    const text = isEntry(entry) && Object.hasOwn(entry, key) ? keyText(exactNumber(entry[key])) : undefined
    if (!isEntry(entry) || text === undefined) return `has no key (${key}) in entry ${position + 1}`
    if (found.has(text)) return `has the key of entry ${position + 1} twice`
    found.set(text, entry)
  }
  return found
}

const exactNumber = (value: unknown): unknown =>
  typeof value === "object" && value !== null ? JsonText.cell(value, false) : value

const parse = (text: string, format: Format): ReadonlyArray<unknown> | undefined => {
  switch (format) {
    case "csv":
      try { // The library reports by throwing.
        return parseCsv(text, { bom: true, columns: true, skip_empty_lines: true })
      } catch {
        return undefined
      }
    case "ndjson": {
      const entries = text.replace(/^\ufeff/, "").split("\n").filter((line) => line.trim() !== "").map(JsonText.parse)
      return entries.includes(undefined) ? undefined : entries
    }
    case "json": {
      const document = JsonText.parse(text.replace(/^\ufeff/, ""))
      return Array.isArray(document) ? document : undefined
    }
  }
}

/** The file's size and time of change; fails when it isn't there. */
export const version = (options: FileOptions): Effect.Effect<Version, ConnectorError> =>
  Effect.suspend(() => {
    const found = statSync(options.path, { throwIfNoEntry: false })
    return found?.isFile() === true
      ? Effect.succeed(`${found.size}/${found.mtimeMs}/${found.ino}`)
      : Effect.fail(error(options, "Missing", "isn't there", "Correct its path, or put it there."))
  })

/** Reads the file. */
export const read = (options: FileOptions): Effect.Effect<Entries, ConnectorError> =>
  Effect.gen(function*() {
    const format = options.format ?? formats[extname(options.path).toLowerCase()]
    if (format === undefined) {
      return yield* error(options, "Rejected", "has no ending that tells its format", "Set the option format.")
    }
    if ((statSync(options.path, { throwIfNoEntry: false })?.size ?? 0) > options.largest) {
      return yield* error(
        options,
        "Rejected",
        "is too large to be kept in memory",
        "Raise maxSize, or look the values up at the target."
      )
    }
    const text = yield* Effect.try({
      try: () => readFileSync(options.path, "utf8"),
      catch: () => error(options, "Missing", "can't be read", "Check that the runner may read it.")
    })
    const entries = parse(text, format)
    if (entries === undefined) {
      return yield* error(
        options,
        "Rejected",
        `is no ${format}`,
        format === "json" ? "It must be a list of objects." : "Correct it."
      )
    }
    const found = index(entries, options.key)
    if (typeof found === "string") return yield* error(options, "Rejected", found, "Give each entry a key of its own.")
    return found
  })
