/**
 * Reading from a standby (PostgreSQL 16): what it lacks is asked of the primary, `Connections.primary`.
 *
 * Changes come from the standby; copies are read from the primary, since a snapshot of a slot that is made on a standby can lack rows (measured:
 * under load, those that the primary prunes in between). A standby writes nothing, so heartbeats and changes of the publication go to the primary and arrive by replication. A slot on a
 * standby can begin only after the primary has logged which transactions run, which it does now and then, or when it is told.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { Connections } from "./Connections.ts"

/** The first version whose standbys decode. */
export const version = 160000

const Position = Schema.Struct({ position: Schema.String })
const Reached = Schema.Struct({ reached: Schema.NullOr(Schema.Boolean) })

const isOf = ({ settings }: Connections): boolean => settings.primary !== undefined

/** Waits until the standby has replayed what the primary has written so far. */
export const caughtUp = Effect.fn("PostgresSource.standbyCaughtUp")(function*(
  connections: Connections
): Effect.fn.Return<void, ConnectorError> {
  if (!isOf(connections)) return
  const [written] = yield* connections.primary.query(
    "reading the end of the primary's log",
    Position,
    "SELECT pg_current_wal_insert_lsn()::text AS position"
  )
  if (written === undefined) return
  yield* connections.query(
    "waiting for the standby to follow the primary",
    Reached,
    "SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= $1::pg_lsn AS reached",
    [written.position]
  ).pipe(Effect.repeat({ schedule: Schedule.spaced("100 millis"), until: ([row]) => row?.reached === true }))
})

/** Has the primary log its running transactions for as long as `creating` a slot takes; on a primary it is left alone. */
export const withPrimary = <A>(
  connections: Connections,
  creating: Effect.Effect<A, ConnectorError>
): Effect.Effect<A, ConnectorError> =>
  isOf(connections)
    ? Effect.raceFirst(
      creating,
      connections.primary.execute("logging running transactions", "SELECT pg_log_standby_snapshot()").pipe(
        Effect.repeat(Schedule.spaced("500 millis")),
        Effect.andThen(Effect.never)
      )
    )
    : creating
