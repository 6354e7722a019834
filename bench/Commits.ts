/**
 * Transactions of one row, committed by the server's own loops: at a rate, or as fast as it can. No client takes processor time for them.
 */
import * as Effect from "effect/Effect"
import * as Server from "./Server.ts"
import * as Workload from "./Workload.ts"

export interface Commits {
  /** Undefined: as fast as possible. */
  readonly perSecond: number | undefined
  readonly rows: number
  /** How many of them come first, and aren't looked at: readers are still starting, or have just done so. */
  readonly warmUp: number
}

/** One connection can't keep the server busy. */
const sessions = 2

/** The table, with one row in the slot's log. */
export const workload: Workload.Workload = { ...Workload.single, rows: 1 }

/** Makes the table and the slot anew; `prepare` is for the empty table. */
export const fresh = Effect.fnUntraced(function*<E = never, R = never>(
  server: Server.Server,
  prepare: Effect.Effect<unknown, E, R> = Effect.void
) {
  yield* server.query("DROP TABLE IF EXISTS single; DROP PUBLICATION IF EXISTS single")
  yield* server.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
  return yield* Server.write(server, workload, prepare)
})

const block = (first: number, rows: number, perSecond: number | undefined): string => {
  const pace = `early := ${perSecond === undefined ? 0 : `(i - ${first}) / ${perSecond}::float8`}
    - extract(epoch FROM clock_timestamp() - begun); IF early > 0 THEN PERFORM pg_sleep(early); END IF;`
  return `DO $$ DECLARE begun timestamptz := clock_timestamp(); early float8; BEGIN
    FOR i IN ${first}..${first + rows - 1} LOOP
      ${perSecond === undefined ? "" : pace}
      INSERT INTO single VALUES (i, 'a value of some length');
      COMMIT;
    END LOOP; END $$`
}

/** Commits them; seconds that it took. */
export const write = (server: Server.Server, { perSecond, rows }: Commits) =>
  Effect.gen(function*() {
    const begun = performance.now()
    const each = Math.floor(rows / sessions)
    yield* Effect.forEach(
      Array.from({ length: sessions }, (_, index) => index),
      (index) => {
        const own = index === 0 ? rows - each * (sessions - 1) : each
        return server.query(
          block((index + 1) * 100_000_000, own, perSecond === undefined ? undefined : perSecond / sessions)
        )
      },
      { concurrency: "unbounded", discard: true }
    )
    return (performance.now() - begun) / 1000
  })
