/**
 * Checks of the server as a whole and of the role, that every run makes.
 */
import type { Check } from "@etl-stream/core/Check"
import { critical, warning } from "@etl-stream/core/Finding"
import * as Sql from "../Sql.ts"
import * as StandbyDecoding from "../StandbyDecoding.ts"
import type { Facts } from "./Facts.ts"

const walLevel: Check<Facts> = {
  name: "wal-level",
  looksAt: "wal_level is logical",
  severities: ["critical"],
  *find({ server }) {
    if (server.walLevel === "logical") return
    yield critical(
      "Misconfigured",
      `the server's wal_level is ${server.walLevel}, but logical replication needs logical`,
      "Set wal_level and restart the server (on a managed service: set logical replication on).",
      { sql: ["ALTER SYSTEM SET wal_level = logical;"] }
    )
  }
}

const standby: Check<Facts> = {
  name: "primary",
  looksAt: "the server is a primary, or a standby that can be read from",
  severities: ["critical"],
  *find({ server, settings }) {
    if (!server.standby) return
    if (settings.primary === undefined) {
      // A failover that is going on ends: worth another attempt.
      yield critical(
        "Unreachable",
        "the server is a standby",
        "Connect to the primary server. To read from a standby (PostgreSQL 16), set primary in the source's options, too."
      )
    } else if (server.version < StandbyDecoding.version) {
      yield critical(
        "Unsupported",
        `the server is a standby that runs PostgreSQL ${server.versionText}`,
        "Reading from a standby needs PostgreSQL 16: connect to the primary server."
      )
    } else if (settings.slot.failover) {
      yield critical(
        "Misconfigured",
        "a slot on a standby can't be kept on other standbys",
        "Set slot.failover to false, or connect to the primary server."
      )
    }
  }
}

const encoding: Check<Facts> = {
  name: "encoding",
  looksAt: "the database's text has an encoding",
  severities: ["critical"],
  *find({ server }) {
    if (server.encoding !== "SQL_ASCII") return
    yield critical(
      "Misconfigured",
      "the database's encoding is SQL_ASCII: its text may be in any encoding, so it can't be read as UTF-8 without loss",
      "Move the data to a database with a real encoding, such as UTF8."
    )
  }
}

/** A limit to begin with; what the disk can spare is for the operator to say. */
const exampleLimit = "50GB"

const slotWalLimit: Check<Facts> = {
  name: "slot-wal-limit",
  looksAt: "max_slot_wal_keep_size limits the log that a slot can hold back",
  severities: ["warning"],
  *find({ server }) {
    if (server.keepSize !== "-1") return
    yield warning(
      "max_slot_wal_keep_size is not set: while the pipeline stands still, the server keeps log without limit",
      "Watch the disk of the server, or set max_slot_wal_keep_size to what it may use (change the example's size).",
      { sql: [`ALTER SYSTEM SET max_slot_wal_keep_size = '${exampleLimit}';`, "SELECT pg_reload_conf();"] }
    )
  }
}

const replicationSession: Check<Facts> = {
  name: "replication-session",
  looksAt: "the role can open a replication session",
  severities: ["critical"],
  *find({ replication, server }) {
    if (replication === undefined) return
    const role = Sql.identifier(server.role)
    if (replication.reason === "Forbidden") {
      yield critical(
        "Forbidden",
        `role ${server.role} may not replicate`,
        `Give the role the attribute REPLICATION (on Amazon RDS: GRANT rds_replication TO ${role}).`,
        { sql: [`ALTER ROLE ${role} REPLICATION;`] }
      )
    } else yield critical(replication.reason, replication.message, replication.hint)
  }
}

const originFilter: Check<Facts> = {
  name: "origin-filter",
  looksAt: "the server can leave out changes that were themselves replicated, if it is to",
  severities: ["critical"],
  *find({ server, settings }) {
    if (settings.origin === "any" || server.version >= 160000) return
    yield critical(
      "Unsupported",
      `the server runs PostgreSQL ${server.versionText}, which can't leave out changes that were themselves replicated`,
      "Set origin to any, or use PostgreSQL 16 or later."
    )
  }
}

/** In the order in which they are told. */
export const checks: ReadonlyArray<Check<Facts>> = [
  walLevel,
  standby,
  encoding,
  slotWalLimit,
  replicationSession,
  originFilter
]
