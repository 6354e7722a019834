/**
 * Dead letters in local files: one per table, a JSON line per letter, only ever appended to.
 *
 * A letter that is forgotten gets a line that says so, because another process may be writing. What a process knows of a file holds as long as nobody else has
 * written to it.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import { readdir } from "node:fs/promises"
import { dirname, join, resolve } from "node:path"
import * as AppendedLines from "./AppendedLines.ts"
import { ConnectorError } from "./ConnectorError.ts"
import { DeadLetter } from "./DeadLetter.ts"
import type { DeadLetterStore, Selection } from "./DeadLetterStore.ts"
import * as DurableFolder from "./DurableFolder.ts"
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

/** Ids of the letters that count, each with the line that it begins to count at. */
const live = async (path: string): Promise<Map<string, number>> => {
  const ids = new Map<string, number>()
  for await (const [at, line] of AppendedLines.read(path, decodeLine)) {
    if ("removed" in line) ids.delete(line.removed)
    else if (!ids.has(line.letter.id)) ids.set(line.letter.id, at)
  }
  return ids
}

async function* letters(path: string): AsyncGenerator<DeadLetter> {
  const ids = await live(path)
  if (ids.size === 0) return
  for await (const [at, line] of AppendedLines.read(path, decodeLine)) {
    if ("letter" in line && ids.get(line.letter.id) === at) yield line.letter
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

/** A store that tells which letters it has. */
export interface Indexed extends DeadLetterStore {
  /** Ids of a table's letters, whoever put or removed them. */
  readonly ids: (pipeline: string, table: TableId) => Effect.Effect<ReadonlySet<string>, ConnectorError>
}

/** By where they were to be written. Of the process, since a write that fails ends a run and its store. */
const unsure = new Map<string, Set<string>>()

/** Ids of letters whose writing there wasn't completed: they may be there to read, and not on the disk. */
export const unsureAt = (path: string): Set<string> => {
  const ids = unsure.get(resolve(path)) ?? new Set<string>()
  unsure.set(resolve(path), ids)
  return ids
}

/** What a process knows of a file. */
interface Known {
  /** Ids of the letters that count. */
  readonly ids: Set<string>
  /** How long the file was, with what this process added to it since. */
  bytes: number
}

export const make = (options: Options): Indexed => {
  const { directory, limit } = options
  const exclusive = Semaphore.makeUnsafe(1)
  /** Per file, of those that were asked for. */
  const known = new Map<string, Known>()
  const folder = (pipeline: string): string => join(directory, fileName(pipeline))
  const path = (pipeline: string, table: TableId): string => join(folder(pipeline), fileName(table) + extension)

  const failed = (cause: unknown): ConnectorError => trouble(options, cause)
  const file = <A>(body: () => Promise<A>): Effect.Effect<A, ConnectorError> =>
    Effect.tryPromise({ try: body, catch: failed })
  // What was begun can't be taken back: it ends before anything else begins.
  const writing = <A>(body: () => Promise<A>): Effect.Effect<A, ConnectorError> => Effect.uninterruptible(file(body))

  const paths = async ({ pipeline, table }: Selection): Promise<ReadonlyArray<string>> => {
    if (table !== undefined) return [path(pipeline, table)]
    try {
      const names = await readdir(folder(pipeline))
      return names.filter((name) => name.endsWith(extension)).sort().map((name) => join(folder(pipeline), name))
    } catch (cause) {
      if (AppendedLines.isMissing(cause)) return []
      throw cause
    }
  }

  const knownOf = Effect.fnUntraced(function*(at: string) {
    const bytes = yield* file(() => AppendedLines.size(at))
    const before = known.get(at)
    if (before?.bytes === bytes) return before
    const now: Known = { ids: new Set((yield* file(() => live(at))).keys()), bytes }
    yield* file(() => AppendedLines.settle(at))
    known.set(at, now)
    return now
  })

  /** `given` belong to one file. */
  const putTable = Effect.fnUntraced(function*(at: string, given: ReadonlyArray<DeadLetter>) {
    const [first] = given
    if (first === undefined) return 0
    const { table } = first
    const of = yield* knownOf(at)
    const { ids } = of
    const doubtful = unsureAt(at)
    const fresh = new Map(
      given.filter(({ id }) => !ids.has(id) || doubtful.has(id)).map((letter) => [letter.id, letter])
    )
    if (fresh.size === 0) return 0
    if (new Set([...ids, ...fresh.keys()]).size > limit) return yield* tooMany(options, table)
    for (const id of fresh.keys()) doubtful.add(id)
    of.bytes += yield* writing(async () => {
      await DurableFolder.make(dirname(at))
      return AppendedLines.append(at, [...fresh.values()].map((letter) => ({ letter })))
    })
    for (const id of fresh.keys()) {
      ids.add(id)
      doubtful.delete(id)
    }
    return fresh.size
  })

  const removeFrom = Effect.fnUntraced(function*(at: string, gone: ReadonlyArray<DeadLetter>) {
    const of = yield* knownOf(at)
    const removed = gone.filter(({ id }) => of.ids.has(id)).map(({ id }) => ({ removed: id }))
    if (removed.length === 0) return
    of.bytes += yield* writing(() => AppendedLines.append(at, removed))
    for (const { removed: id } of removed) of.ids.delete(id)
  })

  return {
    ids: (pipeline, table) => Effect.map(knownOf(path(pipeline, table)), ({ ids }) => ids),
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
          ([at, of]) => removeFrom(at, of),
          { discard: true }
        )
      )
  }
}
