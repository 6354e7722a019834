/**
 * A directory of dead letters in one format, that may hold letters of the other one from before the option was changed: all are listed, replayed and forgotten alike.
 */
import type { DeadLetter } from "@etl-stream/core/DeadLetter"
import type { Options } from "@etl-stream/core/DeadLetterFiles"
import * as DeadLetterFiles from "@etl-stream/core/DeadLetterFiles"
import type { DeadLetterStore } from "@etl-stream/core/DeadLetterStore"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { DeadLetterFormat } from "./DeadLetterConfig.ts"
import * as DeadLetterParquet from "./DeadLetterParquet.ts"

export const make = (options: Options, format: DeadLetterFormat): DeadLetterStore => {
  const lines = DeadLetterFiles.make(options)
  const parquet = DeadLetterParquet.make(options)
  const [current, former] = format === "parquet" ? [parquet, lines] : [lines, parquet]
  return {
    put: Effect.fnUntraced(function*(letters) {
      const fresh: Array<DeadLetter> = []
      for (const [, given] of Map.groupBy(letters, ({ pipeline, table }) => JSON.stringify([pipeline, table]))) {
        const [first] = given
        if (first === undefined) continue
        const kept = yield* former.ids(first.pipeline, first.table)
        fresh.push(...given.filter(({ id }) => !kept.has(id)))
      }
      return yield* current.put(fresh)
    }),
    list: (selection) => Stream.concat(former.list(selection), current.list(selection)),
    get: Effect.fnUntraced(function*(pipeline, id) {
      return (yield* current.get(pipeline, id)) ?? (yield* former.get(pipeline, id))
    }),
    remove: (letters) => Effect.andThen(current.remove(letters), former.remove(letters))
  }
}
