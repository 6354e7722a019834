/**
 * Checks of the replication slot that every run makes.
 */
import type { Check } from "@etl-stream/core/Check"
import { critical, warning } from "@etl-stream/core/Finding"
import * as Sql from "../Sql.ts"
import type { Facts } from "./Facts.ts"

const slot: Check<Facts> = {
  name: "slot",
  looksAt: "the replication slot can be streamed from, or doesn't exist yet",
  severities: ["critical"],
  *find({ settings, slotProblem }) {
    if (slotProblem === undefined) return
    const { hint, message, reason } = slotProblem
    // Dropping a slot that is in use is refused, and a slot that isn't lost may be somebody's: the hint says when.
    const sql = reason === "Fenced" ? [] : [`SELECT pg_drop_replication_slot(${Sql.literal(settings.slot.name)});`]
    yield critical(reason, message, hint, { sql })
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
export const checks: ReadonlyArray<Check<Facts>> = [slot, freeSlots]
