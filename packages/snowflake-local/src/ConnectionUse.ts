/**
 * What is under way on each DuckDB connection.
 *
 * DuckDB works in threads of its own and goes on when nobody waits any more for what it was asked: a fiber that is interrupted, a session that ends. A connection
 * that is closed meanwhile takes the process down with it, so whoever closes one waits until it is at rest.
 */
import type { DuckDBConnection } from "@duckdb/node-api"
import * as Effect from "effect/Effect"

const underWay = new WeakMap<DuckDBConnection, Set<Promise<unknown>>>()

/** Uses the connection; a result that is read as it comes belongs to the use. */
export const use = <A>(connection: DuckDBConnection, work: () => Promise<A>): Promise<A> => {
  const running = underWay.get(connection) ?? new Set()
  underWay.set(connection, running)
  const promise = work()
  running.add(promise)
  const ended = (): void => void running.delete(promise)
  promise.then(ended, ended)
  return promise
}

/** Waits until nothing is under way on the connection. */
export const atRest = (connection: DuckDBConnection): Effect.Effect<void> =>
  Effect.suspend(() => {
    const running = [...underWay.get(connection) ?? []]
    return running.length === 0
      ? Effect.void
      : Effect.andThen(Effect.promise(() => Promise.allSettled(running)), atRest(connection))
  })

/** Closes the connection when it is at rest. */
export const close = (connection: DuckDBConnection): Effect.Effect<void> =>
  Effect.andThen(atRest(connection), Effect.sync(() => connection.closeSync()))
