/**
 * Dead letters for the suite of their stores, and what a store has of them.
 */
import { type DeadLetter, encodeType, idOf } from "@etl-stream/core/DeadLetter"
import type { DeadLetterStore, Selection } from "@etl-stream/core/DeadLetterStore"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import assert from "node:assert/strict"

/** The pipeline whose letters they are. */
export const pipeline = "conformance"

/** Is in all values of the kit's letters, so that it can be recognised where it doesn't belong. */
export const marker = "kitvalue"

export interface Given {
  readonly pipeline?: string
  readonly table?: string
  readonly column?: string
  readonly ordinal?: number
  /** Further values of its row. */
  readonly values?: Readonly<Record<string, string | null>>
}

export const letter = (
  { column = "c", ordinal = 0, pipeline: of = pipeline, table = "public.a", values = {} }: Given = {}
): DeadLetter => {
  const identified = {
    pipeline: of,
    table,
    sequence: `0000000000000001/${ordinal.toString(16).padStart(16, "0")}`,
    row: `["${ordinal}"]`,
    column: { name: column, target: column.toUpperCase(), type: encodeType({ _tag: "Text", maxLength: undefined }) }
  }
  return {
    id: idOf(identified),
    ...identified,
    operation: "insert",
    commitTime: "2026-01-02T03:04:05.678901Z",
    identity: "Key",
    key: [{ name: "id", target: "ID", type: encodeType({ _tag: "Int64" }) }],
    reason: "is too long",
    values: { id: String(ordinal), [column]: `${marker} ${ordinal}`, ...values },
    unsent: ["other"],
    at: "2026-01-02T03:04:06.000Z"
  }
}

const byId = (a: DeadLetter, b: DeadLetter): number => a.id < b.id ? -1 : a.id > b.id ? 1 : 0

/** The letters of a store, by their ids. */
export const listed = (store: DeadLetterStore, selection: Partial<Selection> = {}) =>
  Effect.map(
    Stream.runCollect(store.list({ pipeline, ...selection })),
    (letters) => [...letters].sort(byId)
  )

/** Fails unless the store has these letters, each once. */
export const holds = Effect.fnUntraced(
  function*(store: DeadLetterStore, letters: ReadonlyArray<DeadLetter>, selection: Partial<Selection> = {}) {
    assert.deepEqual(yield* listed(store, selection), [...letters].sort(byId))
  }
)
