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
  /** Letters of the former format, per table; nothing adds to them. */
  const before = new Map<string, Set<string>>()

  const formerIds = Effect.fnUntraced(function*({ pipeline, table }: Pick<DeadLetter, "pipeline" | "table">) {
    const key = JSON.stringify([pipeline, table])
    const ids = before.get(key) ??
      new Set(yield* Stream.runCollect(Stream.map(former.list({ pipeline, table }), ({ id }) => id)))
    before.set(key, ids)
    return ids
  })

  return {
    put: Effect.fnUntraced(function*(letters) {
      const fresh: Array<DeadLetter> = []
      for (const letter of letters) {
        if (!(yield* formerIds(letter)).has(letter.id)) fresh.push(letter)
      }
      return yield* current.put(fresh)
    }),
    list: (selection) => Stream.concat(former.list(selection), current.list(selection)),
    get: Effect.fnUntraced(function*(pipeline, id) {
      return (yield* current.get(pipeline, id)) ?? (yield* former.get(pipeline, id))
    }),
    remove: Effect.fnUntraced(function*(letters) {
      const old: Array<DeadLetter> = []
      for (const letter of letters) {
        if ((yield* formerIds(letter)).has(letter.id)) old.push(letter)
      }
      yield* current.remove(letters.filter((letter) => !old.includes(letter)))
      if (old.length === 0) return
      yield* former.remove(old)
      for (const letter of old) (yield* formerIds(letter)).delete(letter.id)
    })
  }
}
