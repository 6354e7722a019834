/**
 * Dead letters in Parquet files: a folder per table, in it a file per time that letters were put, for tools that read Parquet.
 *
 * A Parquet file can't be appended to, and one without its end is none. So each is written whole under another name, and gets its own when it is on the disk: what a
 * crash leaves of it is never read. Files are readable by their owner only, as they hold values of rows.
 *
 * Letters are forgotten by a line that says of which file they are gone; only then a file without them is put in its place. Another process may put what it
 * read before in that place once more: the lines stay, so that nothing comes back by that.
 */
import * as AppendedLines from "@etl-stream/core/AppendedLines"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import { DeadLetter } from "@etl-stream/core/DeadLetter"
import type { Indexed, Options } from "@etl-stream/core/DeadLetterFiles"
import { fileName, tooMany, trouble } from "@etl-stream/core/DeadLetterFiles"
import type { Selection } from "@etl-stream/core/DeadLetterStore"
import type { TableId } from "@etl-stream/core/TableSchema"
import type * as Arrow from "apache-arrow"
import { vectorFromArray } from "apache-arrow/factories"
import { Table } from "apache-arrow/table"
import { Utf8 } from "apache-arrow/type"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { randomUUID } from "node:crypto"
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises"
import { basename, dirname, join } from "node:path"
import * as ParquetFile from "./ParquetFile.ts"
import * as ParquetReader from "./ParquetReader.ts"

type Failed = ConnectorError

/** A letter as a row: text in every column, lists and records as JSON. */
const Row = Schema.Struct({
  id: Schema.String,
  pipeline: Schema.String,
  table: Schema.String,
  sequence: Schema.String,
  operation: Schema.String,
  commit_time: Schema.String,
  row: Schema.String,
  identity: DeadLetter.fields.identity,
  key: Schema.fromJsonString(DeadLetter.fields.key),
  column: Schema.String,
  column_target: Schema.String,
  column_type: Schema.String,
  reason: Schema.String,
  values: Schema.fromJsonString(DeadLetter.fields.values),
  unsent: Schema.fromJsonString(DeadLetter.fields.unsent),
  at: Schema.String
})
const names = Object.keys(Row.fields) as ReadonlyArray<keyof typeof Row.Encoded> // the struct's own

const encodeRow = Schema.encodeSync(Row)
const decodeRow = Schema.decodeUnknownSync(Row)

const rowOf = ({ column, commitTime, ...letter }: DeadLetter): typeof Row.Encoded =>
  encodeRow({
    ...letter,
    commit_time: commitTime,
    column: column.name,
    column_target: column.target,
    column_type: column.type
  })

const letterOf = (row: unknown): DeadLetter => {
  const { column, column_target: target, column_type: type, commit_time: commitTime, ...letter } = decodeRow(row)
  return { ...letter, commitTime, column: { name: column, target, type } }
}

const tableOf = (letters: ReadonlyArray<DeadLetter>): Arrow.Table => {
  const rows = letters.map(rowOf)
  return new Table(
    Object.fromEntries(
      names.map((name) => [name, vectorFromArray(rows.map((row) => row[name]), new Utf8())])
    )
  )
}

const extension = ".parquet"

/** Of which file which letter is gone, in the table's folder; by its first character no reader of Parquet takes it for data. */
const forgottenName = "_forgotten.ndjson"
const Forgotten = Schema.fromJsonString(Schema.Struct({ file: Schema.String, id: Schema.String }))
const decodeForgotten = Schema.decodeUnknownOption(Forgotten)

/** Ids of forgotten letters per file, of files that are there. */
type ForgottenIds = ReadonlyMap<string, ReadonlySet<string>>

const forgottenOf = async (folder: string, paths: ReadonlyArray<string>): Promise<ForgottenIds> => {
  const all = new Map(paths.map((path) => [basename(path), new Set<string>()]))
  for await (const [, { file, id }] of AppendedLines.read(join(folder, forgottenName), decodeForgotten)) {
    all.get(file)?.add(id)
  }
  return all
}

/** What a folder holds; nothing when there is none. */
const entries = async (path: string): Promise<ReadonlyArray<string>> => {
  try {
    return (await readdir(path)).filter((name) => name.endsWith(extension)).sort()
  } catch (cause) {
    if (AppendedLines.isMissing(cause)) return []
    throw cause
  }
}

const synchronised = async (folder: string): Promise<void> => {
  const handle = await open(folder, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Writes a file, or puts it in the place of another one: on the disk on return, whole or not at all. */
const write = async (path: string, content: Uint8Array): Promise<void> => {
  const temporary = `${path}.${randomUUID()}.tmp`
  try {
    const file = await open(temporary, "wx", 0o600)
    try {
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (cause) {
    await rm(temporary, { force: true })
    throw cause
  }
  await synchronised(dirname(path))
}

/** What a process knows of a table's folder. */
interface Known {
  /** Ids of its letters. */
  readonly ids: Set<string>
  /** Its files, with those that this process put there since. */
  readonly paths: Set<string>
  /** How long the lines about forgotten letters were. */
  readonly forgotten: number
}

export const make = (options: Options): Indexed => {
  const { directory, limit, plugin } = options
  const exclusive = Semaphore.makeUnsafe(1)
  /** Per folder, of those that this process put letters in. */
  const known = new Map<string, Known>()
  const pipelineFolder = (pipeline: string): string => join(directory, fileName(pipeline))
  const tableFolder = (pipeline: string, table: TableId): string =>
    join(pipelineFolder(pipeline), fileName(table) + extension)

  const disk = <A>(body: () => Promise<A>): Effect.Effect<A, Failed> =>
    Effect.tryPromise({ try: body, catch: (cause) => trouble(options, cause) })

  /** Letters of a file; none when it is gone by now. */
  const read = Effect.fnUntraced(function*(path: string) {
    const content = yield* disk(async () => {
      try {
        return await readFile(path)
      } catch (cause) {
        if (AppendedLines.isMissing(cause)) return undefined
        throw cause
      }
    })
    if (content === undefined) return []
    return yield* Effect.try({
      try: () => ParquetReader.read(content).map(letterOf),
      catch: () =>
        new ConnectorError({
          plugin,
          reason: "Protocol",
          message: `${path} isn't a file of dead letters`,
          hint: "Something else wrote or damaged it. Move it elsewhere."
        })
    })
  })

  const folders = ({ pipeline, table }: Selection): Effect.Effect<ReadonlyArray<string>, Failed> =>
    table !== undefined ? Effect.succeed([tableFolder(pipeline, table)]) : Effect.map(
      disk(() => entries(pipelineFolder(pipeline))),
      (found) => found.map((name) => join(pipelineFolder(pipeline), name))
    )
  const files = (folder: string): Effect.Effect<ReadonlyArray<string>, Failed> =>
    Effect.map(disk(() => entries(folder)), (found) => found.map((name) => join(folder, name)))

  const forgotten = (folder: string, paths: ReadonlyArray<string>): Effect.Effect<ForgottenIds, Failed> =>
    disk(() => forgottenOf(folder, paths))

  /** Letters of a folder's files, file by file; each once, whatever several processes did at a time. */
  const lettersIn = (folder: string, paths: ReadonlyArray<string>): Stream.Stream<DeadLetter, Failed> =>
    Stream.unwrap(Effect.map(forgotten(folder, paths), (gone) => {
      const seen = new Set<string>()
      return Stream.fromArray([...paths]).pipe(
        Stream.mapEffect((path) =>
          Effect.map(read(path), (found) => found.filter(({ id }) => gone.get(basename(path))?.has(id) !== true))
        ),
        Stream.flatMap((found) => Stream.fromArray(found)),
        Stream.filter(({ id }) => !seen.has(id) && seen.add(id).size > 0)
      )
    }))

  const letters = (selection: Selection): Stream.Stream<DeadLetter, Failed> =>
    Stream.unwrap(Effect.map(folders(selection), (all) =>
      Stream.fromArray([...all]).pipe(
        Stream.flatMap((folder) => Stream.unwrap(Effect.map(files(folder), (paths) => lettersIn(folder, paths))))
      )))

  /** What is known of a folder holds as long as nobody else has put or removed something there. */
  const knownOf = Effect.fnUntraced(function*(folder: string) {
    const bytes = yield* disk(() => AppendedLines.size(join(folder, forgottenName)))
    const paths = yield* files(folder)
    const before = known.get(folder)
    if (
      before?.forgotten === bytes && before.paths.size === paths.length && paths.every((path) => before.paths.has(path))
    ) {
      return before
    }
    const ids = new Set(yield* Stream.runCollect(Stream.map(lettersIn(folder, paths), ({ id }) => id)))
    const now: Known = { ids, paths: new Set(paths), forgotten: bytes }
    known.set(folder, now)
    return now
  })

  /** `given` belong to one folder. */
  const putTable = Effect.fnUntraced(function*(folder: string, given: ReadonlyArray<DeadLetter>) {
    const [first] = given
    if (first === undefined) return 0
    const { table } = first
    const { ids, paths } = yield* knownOf(folder)
    const fresh = new Map(given.filter(({ id }) => !ids.has(id)).map((letter) => [letter.id, letter]))
    if (fresh.size === 0) return 0
    if (ids.size + fresh.size > limit) return yield* tooMany(options, table)
    const content = ParquetFile.of(tableOf([...fresh.values()]))
    const path = join(folder, `${first.at.replaceAll(/[^0-9TZ]/g, "")}-${randomUUID()}${extension}`)
    yield* disk(async () => {
      // Each folder is only there for certain when the one that it is in is.
      if (await mkdir(folder, { recursive: true, mode: 0o700 }) !== undefined) {
        await synchronised(dirname(folder))
        await synchronised(directory)
      }
      await write(path, content)
    })
    paths.add(path)
    for (const id of fresh.keys()) ids.add(id)
    return fresh.size
  })

  /** Takes forgotten letters out of files of a folder. */
  const tidy = Effect.fnUntraced(function*(folder: string, paths: ReadonlyArray<string>) {
    // Another process may put in a file's place what it read before: whoever puts one there looks again.
    for (let left = paths; left.length > 0;) {
      const gone = yield* forgotten(folder, left)
      const written: Array<string> = []
      for (const path of left) {
        const held = yield* read(path)
        const rest = held.filter(({ id }) => gone.get(basename(path))?.has(id) !== true)
        if (rest.length === held.length) continue
        if (rest.length === 0) yield* disk(() => rm(path, { force: true }))
        else {
          const content = ParquetFile.of(tableOf(rest))
          yield* disk(() => write(path, content))
        }
        written.push(path)
      }
      left = written
    }
  })

  const removeFrom = Effect.fnUntraced(function*(folder: string, gone: ReadonlySet<string>) {
    const paths = yield* files(folder)
    const before = yield* forgotten(folder, paths)
    const lines: Array<typeof Forgotten.Type> = []
    for (const path of paths) {
      const file = basename(path)
      for (const { id } of yield* read(path)) {
        if (gone.has(id) && before.get(file)?.has(id) !== true) lines.push({ file, id })
      }
    }
    if (lines.length === 0) return
    yield* disk(() => AppendedLines.append(join(folder, forgottenName), lines))
    known.delete(folder)
    yield* tidy(folder, [...new Set(lines.map(({ file }) => join(folder, file)))])
  })

  return {
    ids: (pipeline, table) => Effect.map(knownOf(tableFolder(pipeline, table)), ({ ids }) => ids),
    put: (given) =>
      exclusive.withPermits(1)(
        Effect.map(
          Effect.forEach(
            Map.groupBy(given, ({ pipeline, table }) => tableFolder(pipeline, table)),
            ([folder, of]) => putTable(folder, of)
          ),
          (counts) => counts.reduce((sum, count) => sum + count, 0)
        )
      ),
    list: (selection) =>
      Stream.filter(
        letters(selection),
        ({ column }) => selection.column === undefined || column.name === selection.column
      ),
    get: (pipeline, id) =>
      Effect.map(
        Stream.runCollect(Stream.take(Stream.filter(letters({ pipeline }), (letter) => letter.id === id), 1)),
        ([letter]) => letter
      ),
    remove: (given) =>
      exclusive.withPermits(1)(
        Effect.forEach(
          Map.groupBy(given, ({ pipeline, table }) => tableFolder(pipeline, table)),
          ([folder, of]) => removeFrom(folder, new Set(of.map(({ id }) => id))),
          { discard: true }
        )
      )
  }
}
