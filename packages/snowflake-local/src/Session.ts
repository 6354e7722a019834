/**
 * Sessions: who is connected, in which database, schema, role and warehouse, and how far its transaction is.
 *
 * A session owns one DuckDB connection. Snowflake's transactions differ from DuckDB's in three ways that are made up for here: each statement sees what is
 * committed when it starts (until the transaction has written something: from then on DuckDB's snapshot holds, which is the one known difference); UPDATE, DELETE
 * and MERGE take a lock on their table that others wait for; and a failed statement doesn't undo the ones before it. Where DuckDB has thrown away what a
 * transaction wrote, the transaction is broken: every later statement, COMMIT too, is refused until ROLLBACK.
 *
 * A statement can be stopped until DuckDB is asked to commit what it was for; from then on it goes to its end.
 */
import type { DuckDBConnection } from "@duckdb/node-api"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type * as Semaphore from "effect/Semaphore"
import type { Table } from "./Catalog.ts"
import * as DuckdbError from "./DuckdbError.ts"
import * as SnowflakeError from "./SnowflakeError.ts"
import * as Storage from "./Storage.ts"

/** A transaction that the client began. */
export interface Transaction {
  readonly id: string
  /** DuckDB has begun: there is a snapshot. */
  begun: boolean
  wrote: boolean
  /** The statement that runs has changed rows: when it fails now, a part of it is there. */
  changed: boolean
  /** DuckDB has lost what the transaction wrote. */
  broken: boolean
}

/** Mutable: changed by the session's own statements, one at a time, under `lock`. */
export interface Session {
  readonly id: string
  readonly user: string
  readonly scope: Scope.Closeable
  readonly connection: DuckDBConnection
  readonly lock: Semaphore.Semaphore
  readonly createdAt: number
  /** The name of the task that runs in it. */
  readonly task: string | undefined
  token: string
  tokenExpiresAt: number
  masterToken: string
  masterExpiresAt: number
  role: string
  warehouse: string | undefined
  database: string | undefined
  schema: string | undefined
  readonly parameters: Map<string, string>
  readonly variables: Map<string, string>
  readonly temporary: Map<string, Table>
  transaction: Transaction | undefined
  /** A statement runs now. */
  busy: boolean
  /** What the statement that runs was asked for is being committed, or is: it isn't stopped any more. */
  committing: boolean
  lastUsedAt: number
  lastQueryId: string | undefined
}

/** Locks of UPDATE, DELETE, MERGE and TRUNCATE on tables, held to the end of the transaction; and who may change tables' definitions when. */
export interface TableLocks {
  /**
   * Before a transaction's first write. DuckDB refuses to write to a table that was altered after a transaction's snapshot, which a Snowflake transaction
   * may do; so definitions wait for transactions that have written, and new ones wait for definitions.
   */
  readonly enter: (session: Session) => Effect.Effect<void>
  /** Runs the change of an existing object's definition while no other transaction has written. */
  readonly defining: <A, E, R>(session: Session, use: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  readonly acquire: (session: Session, tableId: string) => Effect.Effect<void, SnowflakeError.SnowflakeError>
  readonly release: (session: Session) => Effect.Effect<void>
}

interface Held {
  readonly session: Session
  readonly released: Deferred.Deferred<void>
}

/** How often a wait looks again, and how long a definition waits at most for transactions that go on and on. */
const pollMillis = "5 millis"
const longestWaitMillis = 60_000

/**
 * Rolls back what a session has open that has been idle for so long, and frees its locks; its next statement is refused. A session that runs a statement, or
 * ends, is left alone.
 */
export const abandon = (
  session: Session,
  locks: Pick<TableLocks, "release">,
  afterMillis: number
): Effect.Effect<void> =>
  session.lock.withPermitsIfAvailable(1)(Effect.suspend(() => {
    if (Date.now() - session.lastUsedAt < afterMillis) return Effect.void
    if (session.transaction !== undefined) {
      session.transaction.begun = false
      session.transaction.broken = true
    }
    return Effect.andThen(Effect.ignore(Storage.run(session.connection, "ROLLBACK")), locks.release(session))
  })).pipe(Effect.asVoid, Effect.uninterruptible)

/**
 * @param abandonedAfterMillis A transaction whose session has been idle for this long is rolled back when another waits for its lock. Snowflake waits five
 * minutes.
 */
export const makeTableLocks = (abandonedAfterMillis: number): TableLocks => {
  const held = new Map<string, Held>()
  const waitsFor = new Map<Session, string>()
  /** Sessions whose transaction has written. */
  const writers = new Set<Session>()
  /** Changes of definitions that wait or run. */
  const definitions = { count: 0 }

  const enter = (session: Session): Effect.Effect<void> =>
    Effect.gen(function*() {
      while (definitions.count > 0 && !writers.has(session)) yield* Effect.sleep(pollMillis)
      writers.add(session)
    })

  const defining = <A, E, R>(session: Session, use: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        definitions.count++
      }),
      () =>
        Effect.gen(function*() {
          const deadline = Date.now() + longestWaitMillis
          for (;;) {
            const others = [...writers].filter((writer) => writer !== session)
            if (others.length === 0 || Date.now() >= deadline) return yield* use
            for (const other of others) yield* abandon(other, { release }, abandonedAfterMillis)
            yield* Effect.sleep(pollMillis)
          }
        }),
      () =>
        Effect.sync(() => {
          definitions.count--
        })
    )

  const release = (session: Session): Effect.Effect<void> =>
    Effect.suspend(() => {
      writers.delete(session)
      return Effect.forEach(
        [...held].filter(([, lock]) => lock.session === session),
        ([table, lock]) => {
          held.delete(table)
          return Deferred.succeed(lock.released, undefined)
        },
        { discard: true }
      )
    })

  /** Whether waiting for the table would wait for oneself, along the chain of holders and what they wait for. */
  const deadlocks = (session: Session, tableId: string): boolean => {
    for (let at: string | undefined = tableId; at !== undefined;) {
      const holder = held.get(at)?.session
      if (holder === undefined) return false
      if (holder === session) return true
      at = waitsFor.get(holder)
    }
    return false
  }

  const acquire = (session: Session, tableId: string): Effect.Effect<void, SnowflakeError.SnowflakeError> =>
    Effect.gen(function*() {
      for (;;) {
        const lock = held.get(tableId)
        if (lock?.session === session) return
        if (lock === undefined) {
          held.set(tableId, { session, released: yield* Deferred.make<void>() })
          return
        }
        if (deadlocks(session, tableId)) return yield* SnowflakeError.deadlock()
        waitsFor.set(session, tableId)
        yield* Deferred.await(lock.released).pipe(
          Effect.timeoutOption(`${abandonedAfterMillis} millis`),
          Effect.ensuring(Effect.sync(() => waitsFor.delete(session)))
        )
        if (held.get(tableId) === lock) yield* abandon(lock.session, { release }, abandonedAfterMillis)
      }
    })

  return { enter, defining, acquire, release }
}

const sql = (session: Session, text: string): Effect.Effect<void, SnowflakeError.SnowflakeError> =>
  Storage.run(session.connection, text).pipe(Effect.mapError(DuckdbError.from))

/**
 * Runs the COMMIT of what the client's statement is for. DuckDB may have done it before it could be stopped, so the statement goes on to its end, and its client
 * hears of a success.
 */
export const committing = <A, E, R>(session: Session, commit: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    session.committing = true
    return Effect.onError(commit, () => Effect.sync(() => committed(session)))
  }).pipe(Effect.uninterruptible)

/** What was committed is done, and the client knows, or there is more to do that may be stopped. */
export const committed = (session: Session): void => {
  session.committing = false
}

/** Waits while the statement that runs isn't to be stopped. */
export const stoppable = (session: Session): Effect.Effect<void> =>
  Effect.gen(function*() {
    while (session.committing) yield* Effect.sleep(pollMillis)
  })

/** Runs something that only reads, in the session's transaction when there is one. */
export const reading = <A, R>(
  session: Session,
  use: Effect.Effect<A, SnowflakeError.SnowflakeError, R>
): Effect.Effect<A, SnowflakeError.SnowflakeError, R> =>
  Effect.suspend(() => {
    const transaction = session.transaction
    return transaction === undefined
      ? use
      : inTransaction(session, transaction, use, () => Effect.void, () => afterFailure(session, transaction))
  })

/** Runs a statement in a transaction; how it ends is put on record whatever interrupts it. */
const inTransaction = <A, R>(
  session: Session,
  transaction: Transaction,
  use: Effect.Effect<A, SnowflakeError.SnowflakeError, R>,
  onSuccess: () => Effect.Effect<void>,
  onCancel: () => Effect.Effect<void>
): Effect.Effect<A, SnowflakeError.SnowflakeError, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      if (transaction.broken) return yield* SnowflakeError.transactionBroken()
      // Nothing written yet: a new snapshot, so that the statement sees what others have committed.
      if (transaction.begun && !transaction.wrote) yield* sql(session, "COMMIT")
      if (!transaction.wrote) {
        yield* sql(session, "BEGIN TRANSACTION")
        transaction.begun = true
      }
      transaction.changed = false
      return yield* Effect.onExit(restore(use), (exit) =>
        Exit.isSuccess(exit)
          ? onSuccess()
          : Exit.hasInterrupts(exit)
          ? onCancel()
          : afterFailure(session, transaction))
    })
  )

/** DuckDB's transaction is over, and what it wrote is lost. */
const lose = (session: Session, transaction: Transaction): Effect.Effect<void> =>
  Effect.gen(function*() {
    yield* Effect.ignore(Storage.run(session.connection, "ROLLBACK"))
    transaction.begun = false
    if (transaction.wrote) transaction.broken = true
  })

/** Finds out whether DuckDB has aborted the transaction, which without writes loses nothing, and leaves nothing of a statement that has done a part. */
const afterFailure = (session: Session, transaction: Transaction): Effect.Effect<void> =>
  Effect.gen(function*() {
    if (transaction.changed) return yield* lose(session, transaction)
    const alive = yield* Effect.isSuccess(Storage.run(session.connection, "SELECT 1"))
    if (!alive) yield* lose(session, transaction)
  })

const conflictAttempts = 200

/** Runs something that writes: in the session's transaction, or in one of its own that is run again after a write conflict. */
export const writing = <A, R>(
  session: Session,
  locks: TableLocks,
  lockedTable: string | undefined,
  use: Effect.Effect<A, SnowflakeError.SnowflakeError, R>
): Effect.Effect<A, SnowflakeError.SnowflakeError, R> =>
  Effect.gen(function*() {
    const transaction = session.transaction
    if (transaction !== undefined) yield* locks.enter(session)
    if (lockedTable !== undefined) yield* locks.acquire(session, lockedTable)
    if (transaction !== undefined) {
      return yield* inTransaction(
        session,
        transaction,
        use,
        () =>
          Effect.sync(() => {
            transaction.wrote = true
          }),
        // DuckDB may have done it before it could be stopped; a cancelled statement must not be there.
        () => lose(session, transaction)
      )
    }
    const once = Effect.acquireUseRelease(
      sql(session, "BEGIN TRANSACTION"),
      () => Effect.tap(use, Effect.andThen(sql(session, "SELECT 1"), committing(session, sql(session, "COMMIT")))),
      (_, exit) => exit._tag === "Success" ? Effect.void : Effect.ignore(Storage.run(session.connection, "ROLLBACK"))
    )
    return yield* Effect.retry(once, {
      times: conflictAttempts,
      while: (error) => Effect.as(Effect.sleep("5 millis"), error.code === SnowflakeError.lockTimeout().code)
    }).pipe(Effect.ensuring(locks.release(session)))
  })

/** BEGIN: inside a transaction it changes nothing. */
export const begin = (session: Session, id: string): Effect.Effect<void> =>
  Effect.sync(() => {
    session.transaction ??= { id, begun: false, wrote: false, changed: false, broken: false }
  })

/** COMMIT: fails, and rolls back, when what the transaction wrote is lost. */
export const commit = (session: Session, locks: TableLocks): Effect.Effect<void, SnowflakeError.SnowflakeError> =>
  Effect.gen(function*() {
    const transaction = session.transaction
    session.transaction = undefined
    if (transaction === undefined) return
    if (transaction.broken) return yield* SnowflakeError.transactionBroken()
    if (transaction.begun) {
      yield* sql(session, "SELECT 1").pipe(
        Effect.andThen(sql(session, "COMMIT")),
        Effect.tapCause(() => Effect.ignore(Storage.run(session.connection, "ROLLBACK")))
      )
    }
  }).pipe(Effect.ensuring(locks.release(session)), Effect.uninterruptible)

export const rollback = (session: Session, locks: TableLocks): Effect.Effect<void> =>
  Effect.gen(function*() {
    const transaction = session.transaction
    session.transaction = undefined
    if (transaction?.begun === true) yield* Effect.ignore(Storage.run(session.connection, "ROLLBACK"))
  }).pipe(Effect.ensuring(locks.release(session)), Effect.uninterruptible)
