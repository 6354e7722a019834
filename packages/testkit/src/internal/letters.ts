/**
 * Dead letters for the suite of their stores.
 */
import { type DeadLetter, encodeType, idOf } from "@etl-stream/core/DeadLetter"

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
  { column = "c", ordinal = 0, pipeline = "conformance", table = "public.a", values = {} }: Given = {}
): DeadLetter => {
  const identified = {
    pipeline,
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
