/**
 * What all definitions share: committing first, changing DuckDB and the catalog together, and the options behind a definition.
 */
import * as Effect from "effect/Effect"
import type { Changes } from "../Catalog.ts"
import * as DuckdbError from "../DuckdbError.ts"
import * as ResultRows from "../ResultRows.ts"
import * as Session from "../Session.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import type { Cursor } from "../sql/Cursor.ts"
import { isWord } from "../sql/Cursor.ts"
import type * as Storage from "../Storage.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

export const done = (kind: string, message: string): Outcome => ({
  kind,
  typeId: Statement.typeIds.definition,
  result: ResultRows.status(message)
})

/** Changes the catalog and DuckDB, after committing the session's transaction. */
export const change = <A>(
  context: StatementContext,
  change: (changes: Changes) => Effect.Effect<A, SnowflakeError.SnowflakeError | Storage.StorageError>
): Run<A> =>
  Effect.gen(function*() {
    yield* Session.commit(context.session, context.services.locks)
    return yield* context.services.catalog.change(change).pipe(
      Effect.mapError((error) => error instanceof SnowflakeError.SnowflakeError ? error : DuckdbError.from(error))
    )
  })

/** As `change`, for what exists already and may be written to by a transaction just now. */
export const changeExisting = <A>(
  context: StatementContext,
  body: (changes: Changes) => Effect.Effect<A, SnowflakeError.SnowflakeError | Storage.StorageError>
): Run<A> =>
  Effect.andThen(
    Session.commit(context.session, context.services.locks),
    context.services.locks.defining(context.session, change(context, body))
  )

/** What stands between CREATE and the kind of object. */
export interface Head {
  readonly replace: boolean
  readonly words: ReadonlySet<string>
}

export const head = (cursor: Cursor): Head => {
  cursor.expect("CREATE")
  const replace = cursor.accept("OR", "REPLACE")
  const words = new Set<string>()
  while (
    isWord(cursor.peek(), "TRANSIENT", "TEMPORARY", "TEMP", "VOLATILE", "LOCAL", "GLOBAL", "SECURE", "RECURSIVE")
  ) {
    words.add(cursor.identifier())
  }
  return { replace, words }
}

/** Options behind a definition: NAME = value, COMMENT = '…', CLUSTER BY (…). Unknown ones are refused. */
export const options = (cursor: Cursor, allowed: ReadonlySet<string>): Record<string, string> => {
  const out: Record<string, string> = {}
  while (!cursor.done) {
    cursor.acceptOp(",")
    if (cursor.accept("CLUSTER", "BY")) {
      const group = cursor.group()
      out["CLUSTER_BY"] = cursor.source.slice(group.at, group.end)
      continue
    }
    const name = cursor.identifier()
    if (!allowed.has(name)) {
      cursor.at--
      throw cursor.unexpected()
    }
    cursor.expectOp("=")
    const token = cursor.next()
    out[name] = token.kind === "group" ? cursor.source.slice(token.at, token.end) : token.text
  }
  return out
}

export const tableOptions = new Set([
  "DATA_RETENTION_TIME_IN_DAYS",
  "MAX_DATA_EXTENSION_TIME_IN_DAYS",
  "CHANGE_TRACKING",
  "ENABLE_SCHEMA_EVOLUTION",
  "DEFAULT_DDL_COLLATION",
  "COMMENT",
  "ERROR_LOGGING",
  "STAGE_FILE_FORMAT",
  "COPY_GRANTS"
])
