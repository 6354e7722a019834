/**
 * How a mirror takes a window of its journal: the target becomes what the table is at the window's end.
 *
 * Tables with a key take one MERGE, before which changes of key that left columns unsent are followed; those without a key lose and gain copies of rows, or are
 * only appended to.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { failure } from "./ErrorPolicy.ts"
import * as JournalStatement from "./JournalStatement.ts"
import type { Contents, Window, WindowApplier } from "./JournalWindow.ts"
import * as KeyChange from "./KeyChange.ts"
import * as KeylessStatement from "./KeylessStatement.ts"
import * as MergeStatement from "./MergeStatement.ts"
import type { Session } from "./SqlClient.ts"
import type { TableLayout } from "./TableLayout.ts"
import * as TableOptions from "./TableOptions.ts"

type Failed = ConnectorError.ConnectorError

const UnsentSet = Schema.Struct({ unsent: Schema.fromJsonString(Schema.Array(Schema.String)) })

/** Rounds of doubling reach 2^32 links. */
const maxRounds = 32

/** Names of the columns that some change of the window left unsent. */
export const unsentColumns = (
  session: Session,
  layout: TableLayout,
  window: Window
): Effect.Effect<ReadonlySet<string>, Failed> =>
  Effect.gen(function*() {
    const table = layout.id
    const { rows } = yield* session.execute({
      what: `Looking for unsent columns of ${table}`,
      sql: JournalStatement.unsent(layout, window),
      table
    })
    const sets = yield* Effect.forEach(rows, (row) =>
      Effect.mapError(
        Schema.decodeUnknownEffect(UnsentSet)(row),
        () =>
          failure(
            "Protocol",
            `The journal of ${table} holds another list of unsent columns than expected`,
            "Report it.",
            { table }
          )
      ))
    return new Set(sets.flatMap(({ unsent }) => unsent))
  })

/** Fills the session's table of links, which must exist, for the window. */
export const resolveLinks = (
  session: Session,
  layout: TableLayout,
  window: Window,
  contents: Contents
): Effect.Effect<void, Failed> =>
  Effect.gen(function*() {
    const table = layout.id
    const what = `Following changes of key in ${table}`
    for (const sql of KeyChange.fillLinks(layout, window, contents)) yield* session.execute({ what, sql, table })
    for (let round = 0; round < maxRounds; round++) {
      const { changed } = yield* session.execute({ what, sql: KeyChange.resolveLinks(layout), table })
      if (changed === 0) return
    }
    return yield* failure(
      "Protocol",
      `Changes of key in ${table} lead back to themselves`,
      "Report it; copy the table again.",
      { table }
    )
  })

/** Tables without a key: first the copies that go, then those that come; the other way round where all of them stay. */
const countCopies = (
  session: Session,
  layout: TableLayout,
  window: Window,
  contents: Contents
): Effect.Effect<void, Failed> =>
  Effect.gen(function*() {
    const table = layout.id
    const what = `Merging ${table}`
    const add = session.execute({ what, sql: KeylessStatement.addCopies(layout, window, contents), table })
    if (layout.softDelete) yield* add
    if (contents.removes > 0) {
      const { rows } = yield* session.execute({
        what,
        sql: KeylessStatement.countRemoved(layout, window, contents),
        table
      })
      const { changed } = yield* session.execute({
        what,
        sql: KeylessStatement.removeCopies(layout, window, contents),
        table
      })
      if (changed !== Number(rows[0]?.["copies"])) {
        return yield* failure(
          "Lost",
          `Changes of ${table} remove rows that the target doesn't hold`,
          "The target was changed by something else, or the table's columns changed: find out which.",
          { table }
        )
      }
    }
    if (!layout.softDelete) yield* add
  })

/** A table whose rows are only appended can't follow a change of rows that it holds; leaving it out would be a silent difference. */
const altered = ({ id, table }: TableLayout, sequence: string): Failed =>
  failure(
    "Unsupported",
    `Rows of ${id} were updated or deleted at the source (first by the change ${sequence}), but without a key its rows are only appended`,
    table.identity._tag === "Full"
      ? `Set ${
        TableOptions.path(id, "keyless")
      } to identity, or the table's mode to changelog, or publish only its inserts. Then have it copied again (etl-stream resync).`
      : "Give it a key or REPLICA IDENTITY FULL at the source. Then have it copied again (etl-stream resync).",
    { table: id }
  )

/**
 * The pieces that a window is applied in. What comes before a truncate has no effect on rows that it removes, unless they stay with the values that they had: then the
 * window is applied up to the truncate first.
 */
const pieces = (
  layout: TableLayout,
  window: Window,
  contents: Contents
): ReadonlyArray<{ readonly window: Window; readonly contents: Contents }> => {
  const { truncated } = contents
  if (!layout.softDelete || truncated === undefined) return [{ window, contents }]
  return [{ window: { ...window, upTo: truncated }, contents: { ...contents, truncated: undefined } }, {
    window: { ...window, after: truncated },
    contents
  }]
}

export const apply: WindowApplier = Effect.fnUntraced(function*(session, layout, window, contents) {
  const table = layout.id
  const what = `Merging ${table}`
  const keyed = layout.keys.length > 0
  if (!keyed && !layout.keyless && contents.altered !== undefined) return yield* altered(layout, contents.altered)
  const moved = keyed && contents.moved
  const unsent = keyed && contents.partial ? yield* unsentColumns(session, layout, window) : new Set<string>()
  if (moved) yield* session.execute({ what, sql: KeyChange.createLinks(layout), table })
  const applyPiece = Effect.fnUntraced(function*(piece: Window, held: Contents) {
    if (held.truncated !== undefined) {
      yield* session.execute({ what, sql: MergeStatement.empty(layout, piece, held.truncated), table })
    }
    if (moved) yield* resolveLinks(session, layout, piece, held)
    if (keyed) {
      yield* session.execute({ what, sql: MergeStatement.merge(layout, piece, held, unsent), table })
    } else if (layout.keyless) yield* countCopies(session, layout, piece, held)
    else yield* session.execute({ what, sql: KeylessStatement.append(layout, piece, held), table })
  })
  return Effect.forEach(
    pieces(layout, window, contents),
    (piece) => applyPiece(piece.window, piece.contents),
    { discard: true }
  )
})
