/**
 * What becomes of a line that can't be read: it stops its table, or is kept in a file of its own. It is never left out without a trace.
 */
import type { Conditions } from "@etl-stream/core/Condition"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import { mkdir, open, rename } from "node:fs/promises"
import { join } from "node:path"
import * as Failure from "./Failure.ts"
import type { LogFile } from "./LogFiles.ts"
import * as OpenFile from "./OpenFile.ts"

/** The condition that is raised while lines of a table are kept aside. */
export const condition = "ndjson-bad-lines"

export interface Options {
  /** Where bad lines are kept; undefined: they stop their tables. */
  readonly directory: string | undefined
  readonly atMost: number
}

/** A line that isn't a change. `bytes` is undefined for one that is too long to be kept. */
export interface BadLine {
  readonly file: LogFile
  /** Offset of its end; of one that is too long, of a byte in it. */
  readonly offset: number
  readonly problem: string
  readonly bytes: Uint8Array | undefined
}

export class BadLines {
  private readonly options: Options
  private readonly conditions: Conditions
  private readonly kept = new Map<TableId, Set<string>>()

  constructor(options: Options, conditions: Conditions) {
    this.options = options
    this.conditions = conditions
  }

  /** Keeps a line durably; the error that stops its table when that isn't to be. */
  take(line: BadLine): Effect.Effect<ConnectorError | undefined> {
    return Effect.gen({ self: this }, function*() {
      const { file: { name, table } } = line
      const { atMost, directory } = this.options
      const kept = this.kept.get(table) ?? new Set()
      if (directory === undefined || line.bytes === undefined || kept.size >= atMost) return yield* this.stop(line)
      const saved = yield* Effect.result(Effect.tryPromise(() => save(directory, line)))
      if (saved._tag === "Failure") {
        return Failure.make(
          "Forbidden",
          `A bad line of ${name} can't be kept in ${directory}`,
          "See to it that the runner's user can write to the folder and that the disk isn't full.",
          table
        )
      }
      // A line that is read again is the same one.
      kept.add(`${name}@${line.offset}`)
      this.kept.set(table, kept)
      yield* this.conditions.raise({
        name: condition,
        severity: "warning",
        table,
        message:
          `${kept.size} lines of ${table} can't be read and are kept aside; the last one, in ${name}, ${line.problem}`,
        hint: `Look into ${directory}; write the lines again, mended, into a new file of the log.`
      })
      return undefined
    })
  }

  private stop({ file, offset, problem }: BadLine): Effect.Effect<ConnectorError> {
    return Effect.promise(() => OpenFile.lineNumber(file, offset).catch(() => undefined)).pipe(
      Effect.map((number) => {
        const place = number === undefined ? "a line" : `line ${number}`
        return Failure.make(
          "Rejected",
          `${file.name}: ${place} ${problem}`,
          "Correct the line, or the table's columns in the source's options; or have bad lines kept aside (option badLines).",
          file.table
        )
      })
    )
  }
}

/** One file for each line, by its place in the log: kept again it is the same file. It is whole or not there, for its owner only, and on the disk on return. */
const save = async (directory: string, { bytes, file, offset, problem }: BadLine): Promise<void> => {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const path = join(directory, `${file.name.replace(/\.gz$/, "")}@${offset}.json`)
  const handle = await open(`${path}.partial`, "w", 0o600)
  try {
    const line = Buffer.from(bytes ?? []).toString("base64")
    await handle.writeFile(`${JSON.stringify({ file: file.name, offset, problem: `The line ${problem}`, line })}\n`)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(`${path}.partial`, path)
  // The name is only there for certain when its folder is.
  const folder = await open(directory, "r")
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
