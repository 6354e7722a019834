/**
 * Holds changes back until synchronous standbys have them.
 *
 * A walsender sends a transaction once it is durable on the primary, before its client is told and before synchronous standbys have
 * acknowledged it: a failover at that moment undoes what a sink already holds. So after changes have come a small transaction of our own is committed
 * synchronously: when that returns, the standbys that `synchronous_standby_names` asks for have everything before it. Nothing is pulled
 * meanwhile, so nothing gathers. Where no standby is synchronous it returns at once.
 */
import type { Conditions } from "@etl-stream/core/Condition"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Client } from "pg"
import * as Connections from "./Connections.ts"
import * as HeartbeatRecord from "./HeartbeatRecord.ts"
import * as PostgresError from "./PostgresError.ts"
import * as Sql from "./Sql.ts"

export interface SynchronousGuard {
  /** Gives the elements on when synchronous standbys have their changes. */
  readonly hold: (elements: ReadonlyArray<Element>) => Effect.Effect<ReadonlyArray<Element>, ConnectorError>
}

/** The guard of a pipeline that does without. */
export const none: SynchronousGuard = { hold: Effect.succeed }

const late = "synchronous-standbys-late"
const patience = "10 seconds"

const barrier = `SELECT pg_catalog.set_config('synchronous_commit', 'on', true), ` +
  `pg_catalog.pg_logical_emit_message(true, ${Sql.literal(HeartbeatRecord.prefix)}, 'synchronous guard')`

/** Watermarks hold no changes: to wait for them, too, would answer each barrier with another. */
const hasChanges = (elements: ReadonlyArray<Element>): boolean => elements.some(({ _tag }) => _tag !== "Watermark")

const doing = "waiting for synchronous standbys"

/** Waits until synchronous standbys have everything that this server has now. */
const wait = Effect.fnUntraced(function*(client: Client) {
  let waived = false
  // The server says in a warning that it stopped waiting, because somebody cancelled the statement.
  const onNotice = (): void => {
    waived = true
  }
  client.on("notice", onNotice)
  yield* Effect.ensuring(
    Connections.run(client, doing, barrier),
    Effect.sync(() => client.off("notice", onNotice))
  )
  if (!waived) return
  return yield* PostgresError.make(
    "Throttled",
    `${doing}: the wait was cancelled`,
    "The pipeline tries again by itself. Don't cancel its statements; see pg_stat_replication for the standbys."
  )
})

/** Waits once, for example before rows are read in a snapshot that sees everything that is in the log. */
export const once = (connections: Connections.Connections): Effect.Effect<void, ConnectorError> =>
  Effect.scoped(Effect.flatMap(connections.primary.client("copy"), wait))

/** A guard with a session of its own, closed with the scope. */
export const make = Effect.fnUntraced(function*(
  connections: Connections.Connections,
  conditions: Conditions
): Effect.fn.Return<SynchronousGuard, ConnectorError, Scope.Scope> {
  // Of a kind without a time limit: when it is up, a commit doesn't fail but goes on without the standbys.
  const client = yield* connections.primary.client("copy")
  const alarm = conditions.raise({
    name: late,
    severity: "warning",
    message: "synchronous standbys don't acknowledge, so changes are held back",
    hint: "See pg_stat_replication and synchronous_standby_names at the primary: its own clients wait, too."
  }).pipe(Effect.delay(patience), Effect.andThen(Effect.never))
  return {
    hold: (elements) =>
      hasChanges(elements)
        ? Effect.raceFirst(wait(client), alarm).pipe(Effect.andThen(conditions.clear(late)), Effect.as(elements))
        : Effect.succeed(elements)
  }
})
