/**
 * Running what changes rows: in the session's transaction, with what streams have to know of it.
 */
import * as Effect from "effect/Effect"
import type { Table } from "../Catalog.ts"
import * as DuckdbError from "../DuckdbError.ts"
import * as Session from "../Session.ts"
import * as StreamLog from "../StreamLog.ts"
import type { Run, StatementContext } from "./StatementContext.ts"

/** Runs `use`, which writes, and moves the streams that the statement has read. */
export const writing = <A>(context: StatementContext, lockedTable: string | undefined, use: Run<A>): Run<A> => {
  const { facts, findings, services, session } = context
  return Session.writing(
    session,
    services.locks,
    lockedTable,
    Effect.tap(use, () =>
      Effect.forEach(
        new Set(findings.relations.flatMap(({ stream }) => stream === undefined ? [] : [stream])),
        (stream) =>
          Effect.andThen(
            // A transaction that reads a stream keeps others from reading it.
            services.locks.acquire(session, stream),
            Effect.mapError(StreamLog.consume(session.connection, stream), DuckdbError.from)
          ),
        { discard: true }
      ))
  ).pipe(Effect.tap(() => {
    // A stream that was created while a statement without a transaction ran missed its rows. (In a transaction, definitions wait for its end.)
    const { inserted } = facts
    if (inserted === undefined || session.transaction !== undefined) return Effect.void
    const missed = services.catalog.streamsOn(inserted.table).filter((stream) => !inserted.streams.includes(stream))
    return Effect.mapError(
      services.storage.write((connection) => StreamLog.record(connection, missed)),
      DuckdbError.from
    )
  }))
}

/** Tells the streams on a table that it got rows. */
export const inserted = (context: StatementContext, table: Table, rows: number): Run<void> =>
  Effect.suspend(() => {
    if (rows === 0) return Effect.void
    const streams = context.services.catalog.streamsOn(table.id)
    context.facts.inserted = { table: table.id, streams }
    return Effect.mapError(StreamLog.record(context.session.connection, streams), DuckdbError.from)
  })
