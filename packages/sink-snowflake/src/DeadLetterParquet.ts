/**
 * Dead letters in Parquet files: a folder per table, in it a file per time that letters were put, for tools that read Parquet.
 *
 * A Parquet file can't be appended to, and one without its end is none. So each is written whole under another name, and gets its own when it is on the disk: what a
 * crash leaves of it is never read. Letters are forgotten by putting a file without them in its place. Files are readable by their
 * owner only, as they hold values of rows.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import { DeadLetter } from "@etl-stream/core/DeadLetter"
import type { Options } from "@etl-stream/core/DeadLetterFiles"
import { fileName, tooMany, trouble } from "@etl-stream/core/DeadLetterFiles"
import type { DeadLetterStore, Selection } from "@etl-stream/core/DeadLetterStore"
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
import { dirname, join } from "node:path"
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

const isMissing = (cause: unknown): boolean => cause instanceof Error && "code" in cause && cause.code === "ENOENT"

/** What a folder holds; nothing when there is none. */
const entries = async (path: string): Promise<ReadonlyArray<string>> => {
  try {
    return (await readdir(path)).filter((name) => name.endsWith(extension)).sort()
  } catch (cause) {
    if (isMissing(cause)) return []
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

export const make = (options: Options): DeadLetterStore => {
  const { directory, limit, plugin } = options
  const exclusive = Semaphore.makeUnsafe(1)
  /** Letters per folder, of folders that this process put letters in. */
  const known = new Map<string, Set<string>>()
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
        if (isMissing(cause)) return undefined
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

  /** Letters of folders, file by file; each once, whatever several processes did at a time. */
  const letters = (selection: Selection): Stream.Stream<DeadLetter, Failed> =>
    Stream.unwrap(Effect.map(folders(selection), (all) =>
      Stream.fromArray([...all]).pipe(Stream.flatMap((folder) => {
        const seen = new Set<string>()
        return Stream.unwrap(Effect.map(files(folder), (paths) => Stream.fromArray([...paths]))).pipe(
          Stream.mapEffect(read),
          Stream.flatMap((found) => Stream.fromArray([...found])),
          Stream.filter(({ id }) => !seen.has(id) && seen.add(id).size > 0)
        )
      }))))

  const idsOf = Effect.fnUntraced(function*(pipeline: string, table: TableId) {
    const folder = tableFolder(pipeline, table)
    const ids = known.get(folder) ??
      new Set(yield* Stream.runCollect(Stream.map(letters({ pipeline, table }), ({ id }) => id)))
    known.set(folder, ids)
    return ids
  })

  /** `given` belong to one folder. */
  const putTable = Effect.fnUntraced(function*(folder: string, given: ReadonlyArray<DeadLetter>) {
    const [first] = given
    if (first === undefined) return 0
    const { pipeline, table } = first
    const ids = yield* idsOf(pipeline, table)
    const fresh = new Map(given.filter(({ id }) => !ids.has(id)).map((letter) => [letter.id, letter]))
    if (fresh.size === 0) return 0
    if (ids.size + fresh.size > limit) return yield* tooMany(options, table)
    const content = ParquetFile.of(tableOf([...fresh.values()]))
    yield* disk(async () => {
      // Each folder is only there for certain when the one that it is in is.
      if (await mkdir(folder, { recursive: true, mode: 0o700 }) !== undefined) {
        await synchronised(dirname(folder))
        await synchronised(directory)
      }
      await write(join(folder, `${first.at.replaceAll(/[^0-9TZ]/g, "")}-${randomUUID()}${extension}`), content)
    })
    for (const id of fresh.keys()) ids.add(id)
    return fresh.size
  })

  const removeFrom = Effect.fnUntraced(function*(folder: string, gone: ReadonlySet<string>) {
    for (const path of yield* files(folder)) {
      const held = yield* read(path)
      const rest = held.filter(({ id }) => !gone.has(id))
      if (rest.length === held.length) continue
      if (rest.length === 0) yield* disk(() => rm(path, { force: true }))
      else {
        const content = ParquetFile.of(tableOf(rest))
        yield* disk(() => write(path, content))
      }
    }
    const ids = known.get(folder)
    for (const id of gone) ids?.delete(id)
  })

  return {
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
