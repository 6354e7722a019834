/**
 * Checks of the replication slot that every run makes.
 */
import type { Check } from "@etl-stream/core/Check"
import { critical, warning } from "@etl-stream/core/Finding"
import * as Slot from "../Slot.ts"
import * as Sql from "../Sql.ts"
import type { Facts } from "./Facts.ts"

/** The function that writes logical messages; it got a parameter with PostgreSQL 17. */
const emit = (version: number): string =>
  `pg_catalog.pg_logical_emit_message(boolean, text, text${version >= 170000 ? ", boolean" : ""})`

const slot: Check<Facts> = {
  name: "slot",
  looksAt: "the replication slot can be streamed from, or doesn't exist yet",
  // Doctor takes a slot that is in use for a pipeline that runs.
  severities: ["critical", "info"],
  *find({ settings, slotProblem }) {
    if (slotProblem === undefined) return
    const { hint, message, reason } = slotProblem
    // Dropping a slot that is in use is refused, and a slot that isn't lost may be somebody's: the hint says when.
    const sql = reason === "Fenced" ? [] : [`SELECT pg_drop_replication_slot(${Sql.literal(settings.slot.name)});`]
    yield critical(reason, message, hint, { sql })
  }
}

const slotKept: Check<Facts> = {
  name: "slot-kept",
  looksAt: "the server has kept the slot's log",
  severities: ["critical", "warning"],
  *find({ settings, slot }) {
    const lost = slot === undefined ? undefined : Slot.invalidated(slot)
    if (lost === undefined) return
    yield settings.slot.onLost === "halt"
      ? critical(
        "Lost",
        lost,
        "Changes are missing that can't be had any more. Set slot.onLost to resnapshot and start again: the slot is dropped and made " +
          "anew, and the tables are copied again. See also max_slot_wal_keep_size and idle_replication_slot_timeout.",
        { sql: [`SELECT pg_drop_replication_slot(${Sql.literal(settings.slot.name)});`] }
      )
      : warning(lost, "It is dropped and made anew at the next start, and the tables are copied again.")
  }
}

const heartbeat: Check<Facts> = {
  name: "heartbeat",
  looksAt: "the role may write heartbeats into the server's log",
  severities: ["critical"],
  *find({ server, settings }) {
    if (server.mayEmit || !(settings.heartbeat.enabled || settings.synchronousGuard)) return
    yield critical(
      "Forbidden",
      `role ${server.role} may not write heartbeats into the server's log`,
      "Grant it, or set heartbeat.enabled (and synchronousGuard) to false: a slot that somebody else moved can't be told from one's own then.",
      { sql: [`GRANT EXECUTE ON FUNCTION ${emit(server.version)} TO ${Sql.identifier(server.role)};`] }
    )
  }
}

const failover: Check<Facts> = {
  name: "failover-slot",
  looksAt: "the server's standbys can keep a copy of the slot, when they shall",
  severities: ["critical", "warning"],
  *find({ server, settings }) {
    if (!settings.slot.failover) return
    if (server.version < Slot.failoverVersion) {
      yield critical(
        "Unsupported",
        `slot.failover needs PostgreSQL 17, and the server runs ${server.versionText}`,
        "Set slot.failover to false, or upgrade the server."
      )
    } else if (server.synchronizedSlots === "") {
      yield warning(
        "synchronized_standby_slots is not set: after a failover the sink may hold changes that the new primary lacks",
        "List the physical slots of the standbys that may take the primary's place.",
        {
          sql: [
            "ALTER SYSTEM SET synchronized_standby_slots = 'slot_of_the_standby';",
            "SELECT pg_reload_conf();"
          ]
        }
      )
    }
  }
}

const freeSlots: Check<Facts> = {
  name: "free-slots",
  looksAt: "the server has a replication slot to spare",
  severities: ["critical", "warning"],
  *find({ server, settings, slot }) {
    if (server.usedSlots < server.maxSlots) return
    const remedy = "Raise max_replication_slots and restart the server, or drop slots that nobody reads (see " +
      "pg_replication_slots)."
    const sql = [`ALTER SYSTEM SET max_replication_slots = ${server.maxSlots + 5};`]
    yield slot === undefined
      ? critical(
        "Misconfigured",
        `replication slot ${settings.slot.name} can't be created: all ${server.maxSlots} slots of the server exist already`,
        remedy,
        { sql }
      )
      : warning(
        `all ${server.maxSlots} replication slots of the server exist: a table added later can't be copied`,
        remedy,
        { sql }
      )
  }
}

/** In the order in which they are told. */
export const checks: ReadonlyArray<Check<Facts>> = [slot, slotKept, heartbeat, failover, freeSlots]
