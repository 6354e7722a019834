/**
 * The files of the log, in the order of their numbers.
 *
 * All files that belong to tables make one log: only the one with the highest number may still grow. So lines have one order, over all tables, that is the same
 * at every reading, which is what positions and watermarks need. Files that grow side by side have no such order: they are pipelines of their own.
 */
import type { TableId } from "@etl-stream/core/TableSchema"
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import type { Config } from "./Config.ts"
import * as Failure from "./Failure.ts"
import { type FileNumber, largestNumber } from "./Position.ts"

export interface LogFile {
  readonly number: FileNumber
  readonly table: TableId
  readonly path: string
  readonly name: string
  readonly compressed: boolean
}

interface Matcher {
  readonly table: TableId
  readonly pattern: RegExp
}

const escape = (literal: string): string => literal.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")

/** For each table what its files' names look like; the first group is the number, the second one there for compressed files. */
export const matchers = (config: Config): ReadonlyArray<Matcher> =>
  Object.entries(config.tables).map(([table, { files }]) => {
    const [before = "", after = ""] = files.split("*")
    return { table, pattern: new RegExp(`^${escape(before)}(.*)${escape(after)}(\\.gz)?$`, "s") }
  })

/** What `*` stands for without what separates digits: `2026-11-26` is 20261126. Undefined when that is no number. */
const numberOf = (text: string): FileNumber | undefined => {
  const digits = text.replace(/[-_.T]/g, "")
  const number = Number(digits)
  return /^\d+$/.test(digits) && number <= largestNumber ? number : undefined
}

/** The files that are there. Rejects when one has no number, or two have the same: their lines would have no order. */
export const list = async (directory: string, tables: ReadonlyArray<Matcher>): Promise<ReadonlyArray<LogFile>> => {
  const names = await readdir(directory).catch((cause: unknown) => {
    throw Failure.fromFileSystem(directory, cause)
  })
  const files = new Map<FileNumber, LogFile>()
  for (const name of names) {
    for (const { pattern, table } of tables) {
      const match = pattern.exec(name)
      if (match === null) continue
      const number = numberOf(match[1] ?? "")
      if (number === undefined) {
        throw Failure.make(
          "Misconfigured",
          `The file ${name} of ${table} has no number of at most ${largestNumber} where the pattern has its *`,
          "Number the files, or give the table another pattern."
        )
      }
      const file: LogFile = { number, table, name, path: join(directory, name), compressed: match[2] !== undefined }
      const other = files.get(number)
      if (other === undefined) {
        files.set(number, file)
        continue
      }
      if (other.table !== table || other.compressed === file.compressed) {
        throw Failure.make(
          "Misconfigured",
          `The files ${other.name} and ${name} have the same number, so their lines have no order`,
          "Number the files of all tables in the order in which they are written; files that are written side by side need a pipeline for each table."
        )
      }
      // While a file is being compressed both are there, and only the old one is whole.
      if (other.compressed) files.set(number, file)
    }
  }
  return [...files.values()].sort((left, right) => left.number - right.number)
}
