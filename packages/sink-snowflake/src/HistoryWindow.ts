/**
 * How a history takes a window of its journal: cut at truncates, each piece by one MERGE.
 */
import * as Effect from "effect/Effect"
import { failure } from "./ErrorPolicy.ts"
import * as HistoryStatement from "./HistoryStatement.ts"
import type { Contents, Window, WindowApplier } from "./JournalWindow.ts"
import * as KeyChange from "./KeyChange.ts"
import * as MirrorWindow from "./MirrorWindow.ts"

interface Piece {
  readonly window: Window
  /** The truncate that it ends with. */
  readonly truncated: string | undefined
}

/** The window's pieces; the last one ends with it. */
const cut = (window: Window, truncates: ReadonlyArray<string>): ReadonlyArray<Piece> => {
  const pieces: Array<Piece> = []
  let { after } = window
  for (const truncated of truncates) {
    pieces.push({ window: { ...window, after, upTo: truncated }, truncated })
    after = truncated
  }
  return after < window.upTo ? [...pieces, { window: { ...window, after }, truncated: undefined }] : pieces
}

export const apply: WindowApplier = Effect.fnUntraced(function*(session, layout, window, contents) {
  const table = layout.id
  const what = `Adding to the history of ${table}`
  const unsent = contents.partial ? yield* MirrorWindow.unsentColumns(session, layout, window) : new Set<string>()
  const { moved } = contents
  if (moved) yield* session.execute({ what, sql: KeyChange.createLinks(layout), table })
  const truncates = contents.truncated === undefined
    ? []
    : (yield* session.execute({ what, sql: HistoryStatement.truncates(layout, window), table })).rows
  if (truncates.some((row) => typeof row["truncated"] !== "string")) {
    return yield* failure("Protocol", `The journal of ${table} has another form than expected`, "Report it.", { table })
  }
  const pieces = cut(window, truncates.map((row) => String(row["truncated"])))
  // No piece has a truncate before its end.
  const untruncated: Contents = { ...contents, truncated: undefined }
  return Effect.gen(function*() {
    for (const { truncated, window } of pieces) {
      if (moved) yield* MirrorWindow.resolveLinks(session, layout, window, untruncated)
      yield* session.execute({ what, sql: HistoryStatement.merge(layout, window, unsent, moved), table })
      if (truncated === undefined) continue
      for (const sql of HistoryStatement.truncate(layout, window, truncated)) {
        yield* session.execute({ what, sql, table })
      }
    }
  })
})
