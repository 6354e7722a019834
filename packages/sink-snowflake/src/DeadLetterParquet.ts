/**
 * Dead letters in Parquet files: a folder per table, in it a file per time that letters were put, for tools that read Parquet.
 */
import type { DeadLetter } from "@etl-stream/core/DeadLetter"
import type { Indexed, Options } from "@etl-stream/core/DeadLetterFiles"
import { fileName, trouble } from "@etl-stream/core/DeadLetterFiles"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { join } from "node:path"
import * as DeadLetterFolder from "./DeadLetterFolder.ts"

const extension = ".parquet"

export const make = (options: Options): Indexed => {
  /** Folders of tables that were asked for. */
  const folders = new Map<string, DeadLetterFolder.Folder>()
  const pipelineFolder = (pipeline: string): string => join(options.directory, fileName(pipeline))
  const tableFolder = (pipeline: string, table: TableId): string =>
    join(pipelineFolder(pipeline), fileName(table) + extension)

  const folderOf = (pipeline: string, table: TableId): DeadLetterFolder.Folder => {
    const path = tableFolder(pipeline, table)
    const folder = folders.get(path) ?? DeadLetterFolder.make(options, path, table)
    folders.set(path, folder)
    return folder
  }

  /** Letters of a pipeline's tables, or of one. */
  const letters = (pipeline: string, table?: TableId): Stream.Stream<DeadLetter, ReturnType<typeof trouble>> =>
    table !== undefined ? folderOf(pipeline, table).letters : Stream.unwrap(
      Effect.map(
        Effect.tryPromise({
          try: () => DeadLetterFolder.entries(pipelineFolder(pipeline)),
          catch: (cause) => trouble(options, cause)
        }),
        (names) =>
          Stream.fromArray([...names]).pipe(
            Stream.flatMap((name) =>
              DeadLetterFolder.make(options, join(pipelineFolder(pipeline), name), undefined).letters
            )
          )
      )
    )

  const byTable = (given: ReadonlyArray<DeadLetter>) =>
    Array.from(
      Map.groupBy(given, ({ pipeline, table }) => tableFolder(pipeline, table)).values(),
      (of) => [of[0] === undefined ? undefined : folderOf(of[0].pipeline, of[0].table), of] as const
    )

  return {
    ids: (pipeline, table) => folderOf(pipeline, table).ids,
    put: (given) =>
      Effect.map(
        Effect.forEach(byTable(given), ([folder, of]) => folder?.put(of) ?? Effect.succeed(0)),
        (counts) => counts.reduce((sum, count) => sum + count, 0)
      ),
    list: ({ column, pipeline, table }) =>
      Stream.filter(letters(pipeline, table), (letter) => column === undefined || letter.column.name === column),
    get: (pipeline, id) =>
      Effect.map(
        Stream.runCollect(Stream.take(Stream.filter(letters(pipeline), (letter) => letter.id === id), 1)),
        ([letter]) => letter
      ),
    remove: (given) =>
      Effect.forEach(
        byTable(given),
        ([folder, of]) => folder?.remove(new Set(of.map(({ id }) => id))) ?? Effect.void,
        { discard: true }
      )
  }
}
