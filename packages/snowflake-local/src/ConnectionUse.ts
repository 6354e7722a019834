/**
 * Asking a DuckDB connection for something, and waiting for it.
 *
 * DuckDB works in threads of its own and goes on when nobody waits any more for what it was asked: a statement that is left alone may come after the ROLLBACK of
 * its transaction, and stay; a connection that is closed meanwhile takes the process down with it. So a fiber that is interrupted has DuckDB stop, and waits
 * until it has.
 */
import type { DuckDBConnection } from "@duckdb/node-api"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"

/** DuckDB forgets that it was to stop when it had not begun yet: it is told until it has. */
const stopped = (connection: DuckDBConnection, work: Promise<unknown>): Effect.Effect<void> =>
  Effect.raceFirst(
    Effect.promise(() => Promise.allSettled([work])),
    Effect.repeat(Effect.sync(() => connection.interrupt()), Schedule.spaced("5 millis"))
  ).pipe(Effect.asVoid)

/** Uses the connection; a result that is read as it comes belongs to the use. */
export const use = <A, E>(
  connection: DuckDBConnection,
  work: () => Promise<A>,
  failure: (cause: unknown) => E
): Effect.Effect<A, E> =>
  Effect.callback((resume) => {
    // What is thrown before the promise is there is a failure like any other.
    const promise = (async () => await work())()
    promise.then((value) => resume(Effect.succeed(value)), (cause: unknown) => resume(Effect.fail(failure(cause))))
    return stopped(connection, promise)
  })
