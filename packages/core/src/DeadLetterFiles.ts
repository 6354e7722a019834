/**
 * Dead letters in local files: one per table, a JSON line per letter, only ever appended to.
 *
 * A letter that is forgotten gets a line that says so, because another process may be writing. Each line begins with a line end of its own, so that
 * one that was cut short by a crash spoils no other; what isn't a whole line counts for nothing. Files are readable by their owner only, as
 * they hold values of rows.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { mkdir, open, readdir } from "node:fs/promises"
import { dirname, join } from "node:path"
import { createInterface } from "node:readline"
import { ConnectorError } from "./ConnectorError.ts"
import { DeadLetter } from "./DeadLetter.ts"
import type { DeadLetterStore, Selection } from "./DeadLetterStore.ts"
import type { TableId } from "./TableSchema.ts"

export interface Options {
  readonly directory: string
  /** Most letters of a table. */
  readonly limit: number
  /** The plugin that errors come from. */
  readonly plugin: string
}

const Line = Schema.fromJsonString(Schema.Union([
  Schema.Struct({ letter: DeadLetter }),
  Schema.Struct({ removed: Schema.String })
]))
const decodeLine = Schema.decodeUnknownOption(Line)

/** Longest part of a file's name; most file systems take 255 bytes. */
const maxName = 180

/** A name as part of a path: letters, digits, `-`, `_`, `.` but not first, everything else in hexadecimal; long ones end in a hash. */
export const fileName = (text: string): string => {
  const name = encodeURIComponent(text).replaceAll(/[!'()*]/g, "_").replace(/^\./, "%2E")
  return name.length <= maxName && !/[!'()*]/.test(text)
    ? name
    : `${name.slice(0, maxName)}-${createHash("sha256").update(text).digest("hex").slice(0, 16)}`
}

const extension = ".ndjson"

const isMissing = (cause: unknown): boolean => cause instanceof Error && "code" in cause && cause.code === "ENOENT"

/** The lines of a file that are whole, each with its number. None when there is no file. */
async function* lines(path: string): AsyncGenerator<readonly [number: number, line: typeof Line.Type]> {
  const input = createReadStream(path)
  let at = 0
  try {
    for await (const text of createInterface({ input, crlfDelay: Infinity })) {
      at++
      if (text === "") continue
      const line = decodeLine(text)
      if (line._tag === "Some") yield [at, line.value]
    }
  } catch (cause) {
    if (!isMissing(cause)) throw cause
  } finally {
    input.destroy()
  }
}

/** Ids of the letters that count, each with the line that it begins to count at. */
const live = async (path: string): Promise<Map<string, number>> => {
  const ids = new Map<string, number>()
  for await (const [at, line] of lines(path)) {
    if ("removed" in line) ids.delete(line.removed)
    else if (!ids.has(line.letter.id)) ids.set(line.letter.id, at)
  }
  return ids
}

async function* letters(path: string): AsyncGenerator<DeadLetter> {
  const ids = await live(path)
  if (ids.size === 0) return
  for await (const [at, line] of lines(path)) {
    if ("letter" in line && ids.get(line.letter.id) === at) yield line.letter
  }
}

/** On one line for readers that take these two for line ends, too. */
const oneLine = (value: object): string =>
  JSON.stringify(value).replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029")

/** Appends whole lines, on the disk on return. */
const append = async (path: string, content: ReadonlyArray<object>): Promise<void> => {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const file = await open(path, "a", 0o600)
  try {
    const { size } = await file.stat()
    // All of it or an error: a single write may end early, as it does on a disk that becomes full.
    await file.appendFile(content.map((line) => `\n${oneLine(line)}\n`).join(""))
    await file.sync()
    if (size > 0) return
  } finally {
    await file.close()
  }
  // A new file is only there for certain when its directory is.
  const folder = await open(dirname(path), "r")
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** The error of files that can't be read or written. */
export const trouble = ({ directory, plugin }: Pick<Options, "directory" | "plugin">, cause: unknown): ConnectorError =>
  new ConnectorError({
    plugin,
    reason: "Unreachable",
    message: `The dead letters in ${directory} can't be read or written${
      cause instanceof Error && "code" in cause ? ` (${String(cause.code)})` : ""
    }`,
    hint: "Give the directory room and the runner's user access to it; the pipeline then goes on by itself."
  })

/** The error of a table with more letters than are kept. */
export const tooMany = ({ limit, plugin }: Pick<Options, "limit" | "plugin">, table: TableId): ConnectorError =>
  new ConnectorError({
    plugin,
    reason: "Rejected",
    message: `${table} has more than ${limit} values that can't be written, the most that are kept as dead letters`,
    hint:
      "Look at what they have in common (`etl-stream dlq ls`), give the column a type that holds them, and replay or drop them; or raise deadLetters.limit.",
    table
  })

export const make = (options: Options): DeadLetterStore => {
  const { directory, limit } = options
  const exclusive = Semaphore.makeUnsafe(1)
  /** Letters that count, per file, of files that this process wrote to. */
  const known = new Map<string, Set<string>>()
  const folder = (pipeline: string): string => join(directory, fileName(pipeline))
  const path = (pipeline: string, table: TableId): string => join(folder(pipeline), fileName(table) + extension)

  const failed = (cause: unknown): ConnectorError => trouble(options, cause)
  const file = <A>(body: () => Promise<A>): Effect.Effect<A, ConnectorError> =>
    Effect.tryPromise({ try: body, catch: failed })

  const paths = async ({ pipeline, table }: Selection): Promise<ReadonlyArray<string>> => {
    if (table !== undefined) return [path(pipeline, table)]
    try {
      const names = await readdir(folder(pipeline))
      return names.filter((name) => name.endsWith(extension)).sort().map((name) => join(folder(pipeline), name))
    } catch (cause) {
      if (isMissing(cause)) return []
      throw cause
    }
  }

  const idsOf = Effect.fnUntraced(function*(at: string) {
    const ids = known.get(at) ?? new Set((yield* file(() => live(at))).keys())
    known.set(at, ids)
    return ids
  })

  /** `given` belong to one file. */
  const putTable = Effect.fnUntraced(function*(at: string, given: ReadonlyArray<DeadLetter>) {
    const [first] = given
    if (first === undefined) return 0
    const { table } = first
    const ids = yield* idsOf(at)
    const fresh = new Map(given.filter(({ id }) => !ids.has(id)).map((letter) => [letter.id, letter]))
    if (fresh.size === 0) return 0
    if (ids.size + fresh.size > limit) return yield* tooMany(options, table)
    yield* file(() => append(at, [...fresh.values()].map((letter) => ({ letter }))))
    for (const id of fresh.keys()) ids.add(id)
    return fresh.size
  })

  const store: DeadLetterStore = {
    put: (given) =>
      exclusive.withPermits(1)(
        Effect.map(
          Effect.forEach(
            Map.groupBy(given, ({ pipeline, table }) => path(pipeline, table)),
            ([at, of]) => putTable(at, of)
          ),
          (counts) => counts.reduce((sum, count) => sum + count, 0)
        )
      ),
    list: (selection) =>
      Stream.unwrap(Effect.map(file(() => paths(selection)), (all) =>
        Stream.fromArray([...all]).pipe(
          Stream.flatMap((at) => Stream.fromAsyncIterable(letters(at), failed)),
          Stream.filter(({ column }) => selection.column === undefined || column.name === selection.column)
        ))),
    get: (pipeline, id) =>
      file(async () => {
        for (const at of await paths({ pipeline })) {
          for await (const letter of letters(at)) {
            if (letter.id === id) return letter
          }
        }
        return undefined
      }),
    remove: (given) =>
      exclusive.withPermits(1)(
        Effect.forEach(
          Map.groupBy(given, ({ pipeline, table }) => path(pipeline, table)),
          ([at, of]) =>
            Effect.map(file(() => append(at, of.map(({ id }) => ({ removed: id })))), () => {
              for (const { id } of of) known.get(at)?.delete(id)
            }),
          { discard: true }
        )
      )
  }
  return store
}
