/**
 * The dead letters of one table as Parquet files in a folder of their own, that other processes put letters in and take some from at the same time.
 *
 * A Parquet file can't be appended to, and one without its end is none. So each is written whole under another name, and gets its own when it is on the disk: what a
 * crash leaves of it is never read. Files are readable by their owner only, as they hold values of rows.
 *
 * Letters are forgotten by a line that says of which file they are gone; only then a file without them is put in its place. Another process may put what it
 * read before in that place once more: the lines stay, so that nothing comes back by that.
 */
import * as AppendedLines from "@etl-stream/core/AppendedLines"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { DeadLetter } from "@etl-stream/core/DeadLetter"
import type { Options } from "@etl-stream/core/DeadLetterFiles"
import { tooMany, trouble, unsureAt } from "@etl-stream/core/DeadLetterFiles"
import * as DurableFolder from "@etl-stream/core/DurableFolder"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { randomUUID } from "node:crypto"
import { open, readdir, readFile, rename, rm } from "node:fs/promises"
import { dirname, join } from "node:path"
import * as DeadLetterRows from "./DeadLetterRows.ts"

type Failed = ConnectorError

const extension = ".parquet"

/** Files that are tidied when letters are put: more would hold these up. */
const tidiedAtOnce = 10

/** Of which file which letter is gone; by its first character no reader of Parquet takes it for data. */
const forgottenName = "_forgotten.ndjson"
const Forgotten = Schema.fromJsonString(Schema.Struct({ file: Schema.String, id: Schema.String }))
const decodeForgotten = Schema.decodeUnknownOption(Forgotten)

/** Names in a folder that end as Parquet files do; none when there is no folder. */
export const entries = async (folder: string): Promise<ReadonlyArray<string>> => {
  try {
    return (await readdir(folder)).filter((name) => name.endsWith(extension)).sort()
  } catch (cause) {
    if (AppendedLines.isMissing(cause)) return []
    throw cause
  }
}

/** Writes a file, or puts it in the place of another one: on the disk on return, whole or not at all. */
const write = async (path: string, content: Uint8Array): Promise<void> => {
  const temporary = `${path}.${randomUUID()}.tmp`
  try {
    const file = await open(temporary, "wx", 0o600)
    try {
      await AppendedLines.giveToOwner(file, dirname(path))
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
  await DurableFolder.synchronise(dirname(path))
}

export interface Folder {
  /** Its letters, file by file; each once, whatever several processes did at a time. */
  readonly letters: Stream.Stream<DeadLetter, Failed>
  /** Ids of its letters, whoever put or removed them. */
  readonly ids: Effect.Effect<ReadonlySet<string>, Failed>
  /** Keeps letters, durably on return; returns how many are new. */
  readonly put: (letters: ReadonlyArray<DeadLetter>) => Effect.Effect<number, Failed>
  readonly remove: (gone: ReadonlySet<string>) => Effect.Effect<void, Failed>
}

/** `table`: whose letters they are, for errors; undefined: that isn't known. */
export const make = (options: Options, folder: string, table: TableId | undefined): Folder => {
  const { limit, plugin } = options
  const exclusive = Semaphore.makeUnsafe(1)
  const forgottenPath = join(folder, forgottenName)
  /** Ids of each file's letters, without those that are forgotten. What is read once is known, since files only become fewer letters, by lines. */
  const known = new Map<string, Set<string>>()
  /** How long the lines are that `known` heeds. */
  let heeded = 0
  /** Files that may still have letters that are forgotten. */
  const untidy = new Set<string>()
  const unsure = unsureAt(folder)

  const disk = <A>(body: () => Promise<A>): Effect.Effect<A, Failed> =>
    Effect.tryPromise({ try: body, catch: (cause) => trouble(options, cause) })
  // What was begun can't be taken back: it ends before anything else begins.
  const writing = <A>(body: () => Promise<A>): Effect.Effect<A, Failed> => Effect.uninterruptible(disk(body))

  const pathOf = (file: string): string => join(folder, file)

  /** Letters of a file; none when it is gone by now. */
  const read = Effect.fnUntraced(function*(file: string) {
    const path = pathOf(file)
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
      try: () => DeadLetterRows.decode(content),
      catch: () =>
        new ConnectorError({
          plugin,
          reason: "Protocol",
          message: `${path} isn't a file of dead letters`,
          hint: "Something else wrote or damaged it. Move it elsewhere.",
          ...(table === undefined ? {} : { table })
        })
    })
  })

  /** Ids of forgotten letters of those files. */
  const forgotten = (files: Iterable<string>): Effect.Effect<ReadonlyMap<string, ReadonlySet<string>>, Failed> =>
    disk(async () => {
      const gone = new Map(Array.from(files, (file) => [file, new Set<string>()]))
      for await (const [, { file, id }] of AppendedLines.read(forgottenPath, decodeForgotten)) gone.get(file)?.add(id)
      return gone
    })

  /** Heeds what other processes did. */
  const refresh = Effect.gen(function*() {
    const bytes = yield* disk(() => AppendedLines.size(forgottenPath))
    const files = new Set(yield* disk(() => entries(folder)))
    for (const file of known.keys()) {
      if (files.has(file)) continue
      known.delete(file)
      untidy.delete(file)
    }
    const others = [...files].filter((file) => !known.has(file))
    if (others.length === 0 && bytes === heeded) return
    const theirs = new Map<string, Set<string>>()
    for (const file of others) theirs.set(file, new Set((yield* read(file)).map(({ id }) => id)))
    const gone = yield* forgotten(files)
    // Whoever wrote them may not have come to that; the content of files is on the disk, or they had no names.
    if (others.length > 0) yield* disk(() => DurableFolder.synchronise(folder))
    if (bytes !== heeded) yield* disk(() => AppendedLines.settle(forgottenPath))
    for (const [file, ids] of theirs) known.set(file, ids)
    for (const [file, ids] of known) {
      for (const id of gone.get(file) ?? []) {
        if (ids.delete(id)) untidy.add(file)
      }
    }
    heeded = bytes
  })

  const ids = (): Set<string> => {
    const all = new Set<string>()
    for (const each of known.values()) {
      for (const id of each) all.add(id)
    }
    return all
  }

  /** Takes forgotten letters out of files. */
  const tidy = Effect.fnUntraced(function*(files: ReadonlyArray<string>) {
    let removed = false
    for (const file of files) {
      const kept = known.get(file)
      const found = kept === undefined ? [] : yield* read(file)
      const rest = found.filter(({ id }) => kept?.has(id) === true)
      if (rest.length === found.length) continue
      if (rest.length > 0) yield* writing(() => write(pathOf(file), DeadLetterRows.encode(rest)))
      else {
        yield* writing(() => rm(pathOf(file), { force: true }))
        removed = true
      }
    }
    if (removed) yield* writing(() => DurableFolder.synchronise(folder))
    // A line that came meanwhile may be of a letter that was just written again: whoever writes looks once more.
    if ((yield* disk(() => AppendedLines.size(forgottenPath))) !== heeded) return
    for (const file of files) untidy.delete(file)
  })

  const put = Effect.fnUntraced(function*(given: ReadonlyArray<DeadLetter>) {
    yield* refresh
    const kept = ids()
    const fresh = new Map(
      given.filter(({ id }) => !kept.has(id) || unsure.has(id)).map((letter) => [letter.id, letter])
    )
    const [first] = fresh.values()
    if (first === undefined) return 0
    if (new Set([...kept, ...fresh.keys()]).size > limit) return yield* tooMany(options, first.table)
    const content = DeadLetterRows.encode([...fresh.values()])
    const file = `${first.at.replaceAll(/[^0-9TZ]/g, "")}-${randomUUID()}${extension}`
    for (const id of fresh.keys()) unsure.add(id)
    yield* writing(async () => {
      await DurableFolder.make(folder)
      await write(pathOf(file), content)
    })
    known.set(file, new Set(fresh.keys()))
    for (const id of fresh.keys()) unsure.delete(id)
    // What a command left that was cut off, a little at a time. Whether that can be done is nothing to the letters that are kept.
    yield* Effect.ignore(tidy([...untidy].slice(0, tidiedAtOnce)))
    return fresh.size
  })

  const remove = Effect.fnUntraced(function*(gone: ReadonlySet<string>) {
    yield* refresh
    const lines: Array<typeof Forgotten.Type> = []
    for (const [file, held] of known) {
      for (const id of held) {
        if (gone.has(id)) lines.push({ file, id })
      }
    }
    if (lines.length > 0) {
      heeded += yield* writing(() => AppendedLines.append(forgottenPath, lines))
      for (const { file, id } of lines) {
        known.get(file)?.delete(id)
        untidy.add(file)
      }
    }
    while (untidy.size > 0) {
      yield* tidy([...untidy])
      yield* refresh
    }
  })

  return {
    letters: Stream.unwrap(Effect.gen(function*() {
      const files = yield* disk(() => entries(folder))
      const gone = yield* forgotten(files)
      const seen = new Set<string>()
      return Stream.fromArray([...files]).pipe(
        Stream.mapEffect((file) =>
          Effect.map(read(file), (found) => found.filter(({ id }) => gone.get(file)?.has(id) !== true))
        ),
        Stream.flatMap((found) => Stream.fromArray(found)),
        Stream.filter(({ id }) => !seen.has(id) && seen.add(id).size > 0)
      )
    })),
    ids: exclusive.withPermits(1)(Effect.map(refresh, ids)),
    put: (letters) => exclusive.withPermits(1)(put(letters)),
    remove: (gone) => exclusive.withPermits(1)(remove(gone))
  }
}
