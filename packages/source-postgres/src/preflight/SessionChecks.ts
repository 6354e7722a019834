/**
 * Doctor's checks of how we are connected and as whom.
 */
import type { Check } from "@etl-stream/core/Check"
import { critical, info, warning } from "@etl-stream/core/Finding"
import * as Endpoint from "../Endpoint.ts"
import * as Sql from "../Sql.ts"
import type { Inspection } from "./Inspection.ts"
import * as Units from "./Units.ts"

/** Major version that the tests run on last. */
const newestTested = 18

const serverVersion: Check<Inspection> = {
  name: "server-version",
  looksAt: `the server runs a major version that is tested (14 to ${newestTested})`,
  severities: ["critical", "warning"],
  *find({ server }) {
    if (Math.floor(server.version / 10_000) <= newestTested) return
    yield warning(
      `the server runs PostgreSQL ${server.versionText}, newer than ${newestTested}, the last version that is tested`,
      "Look for a newer etl-stream, or try this one with tables that matter less."
    )
  }
}

const tls: Check<Inspection> = {
  name: "tls",
  looksAt: "the connection is encrypted with a verified server, or stays on this machine",
  severities: ["warning"],
  *find({ session, settings: { endpoint, tls } }) {
    if (endpoint.hosts.every(Endpoint.isLocal)) return
    const server = endpoint.hosts.map(({ name }) => name).join(", ")
    if (!session.encrypted) {
      yield warning(
        `the connection to ${server} is not encrypted: whoever is on the way can read and change every row`,
        "Switch TLS on at the server (ssl = on) and set tls.mode to verify-full."
      )
    } else if (tls.mode === "require") {
      yield warning(
        `the identity of ${server} is not checked (tls.mode ${tls.mode}): another server could take its place`,
        "Set tls.mode to verify-full, and tls.ca to its authority's certificate unless the system trusts it."
      )
    }
  }
}

const passwordEncryption: Check<Inspection> = {
  name: "password-encryption",
  looksAt: "passwords are kept as SCRAM-SHA-256",
  severities: ["warning"],
  *find({ configured }) {
    if (configured.get("password_encryption")?.value !== "md5") return
    yield warning(
      "new passwords are kept as MD5 hashes (password_encryption), which are weak and which PostgreSQL is giving up",
      "Keep them as SCRAM, then give the role its password once more.",
      { sql: ["ALTER SYSTEM SET password_encryption = 'scram-sha-256';", "SELECT pg_reload_conf();"] }
    )
  }
}

const passwordSeconds = 14 * 86_400

const passwordExpiry: Check<Inspection> = {
  name: "password-expiry",
  looksAt: "the role's password doesn't expire in the next two weeks",
  severities: ["warning"],
  *find({ server: { role }, session: { passwordExpires } }) {
    if (passwordExpires >= passwordSeconds) return
    yield warning(
      passwordExpires <= 0
        ? `the password of role ${role} has expired`
        : `the password of role ${role} expires in ${Units.duration(passwordExpires)}`,
      "Give the role a new password in time, or let it be valid for ever.",
      { sql: [`ALTER ROLE ${Sql.identifier(role)} VALID UNTIL 'infinity';`] }
    )
  }
}

/** Besides the copy's: a pool of two, the stream, and the session that exports a snapshot. */
const extraConnections = 4

const connectionLimits: Check<Inspection> = {
  name: "connection-limits",
  looksAt: "the connection limits of role and database leave room for the copy",
  severities: ["critical"],
  *find({ server, session, settings }) {
    if (session.superuser) return
    const needed = settings.snapshot.parallel + extraConnections
    const limits = [
      [`ROLE ${Sql.identifier(server.role)}`, `role ${server.role}`, session.roleLimit, session.roleSessions],
      [
        `DATABASE ${Sql.identifier(server.database)}`,
        `database ${server.database}`,
        session.databaseLimit,
        session.databaseSessions
      ]
    ] as const
    for (const [object, name, limit, used] of limits) {
      // What we use now, a run will use.
      const others = Math.max(0, used - 1)
      if (limit < 0 || limit - others >= needed) continue
      yield critical(
        "Misconfigured",
        `${name} may have ${limit} connections, and ${others} are open; a run needs up to ${needed}`,
        "Raise the limit, or lower snapshot.parallel.",
        { sql: [`ALTER ${object} CONNECTION LIMIT ${others + needed};`] }
      )
    }
  }
}

const freeConnections: Check<Inspection> = {
  name: "free-connections",
  looksAt: "max_connections leaves room for the copy",
  severities: ["warning"],
  *find({ configured, session, settings }) {
    const of = (name: "max_connections" | "superuser_reserved_connections" | "reserved_connections") =>
      Number(configured.get(name)?.value ?? 0)
    const reserved = session.superuser ? 0 : of("superuser_reserved_connections") + of("reserved_connections")
    const free = of("max_connections") - reserved - session.sessions + 1
    const needed = settings.snapshot.parallel + extraConnections
    if (free >= needed) return
    yield warning(
      `${Math.max(0, free)} of the server's ${of("max_connections")} connections are free; a run needs up to ${needed}`,
      "Close connections that nobody needs, lower snapshot.parallel, or raise max_connections and restart the server.",
      { sql: [`ALTER SYSTEM SET max_connections = ${of("max_connections") + needed - free};`] }
    )
  }
}

/** The stream, and the session of a temporary slot while tables are copied later. */
const neededSenders = 2

const freeWalSenders: Check<Inspection> = {
  name: "free-wal-senders",
  looksAt: "max_wal_senders leaves room for the stream and a copy",
  severities: ["warning"],
  *find({ configured, session, slot }) {
    const max = Number(configured.get("max_wal_senders")?.value ?? 0)
    const free = max - session.walSenders
    // A running pipeline has its stream already.
    const needed = slot?.activePid === undefined ? neededSenders : neededSenders - 1
    if (free >= needed) return
    yield warning(
      `${free} of the server's ${max} WAL senders are free; a run needs up to ${needed}`,
      "Raise max_wal_senders and restart the server.",
      { sql: [`ALTER SYSTEM SET max_wal_senders = ${max + needed - free};`] }
    )
  }
}

const clockMillis = 1000

const clock: Check<Inspection> = {
  name: "clock",
  looksAt: "the server's clock and this machine's agree to a second",
  severities: ["warning"],
  *find({ clockAhead }) {
    if (Math.abs(clockAhead) <= clockMillis) return
    yield warning(
      `the server's clock is ${(Math.abs(clockAhead) / 1000).toFixed(1)} seconds ${
        clockAhead > 0 ? "ahead of" : "behind"
      } this machine's: lag that is measured between them is wrong by as much, and logins by signed tokens may fail`,
      "Let both machines take their time from the same source (NTP)."
    )
  }
}

const monitoring: Check<Inspection> = {
  name: "monitoring",
  looksAt: "the role may see the log's size and everybody's transactions",
  severities: ["warning"],
  *find({ server: { role }, session: { monitor } }) {
    if (monitor) return
    yield warning(
      `role ${role} is no member of pg_monitor: the size of the log and transactions of other roles can't be seen`,
      "Let it see them (it is no more than looking), or look yourself.",
      { sql: [`GRANT pg_monitor TO ${Sql.identifier(role)};`] }
    )
  }
}

const disk: Check<Inspection> = {
  name: "disk",
  looksAt: "the log takes no space",
  severities: ["info"],
  *find({ directoryBytes }) {
    yield info(
      directoryBytes === undefined
        ? "how much of the server's disk the log takes can't be seen, nor how much is free"
        : `the log takes ${Units.bytes(directoryBytes)} of the server's disk; how much is free can't be asked by SQL`,
      "Watch the disk of pg_wal with the server's own monitoring."
    )
  }
}

/** In the order in which they are told. */
export const checks: ReadonlyArray<Check<Inspection>> = [
  serverVersion,
  tls,
  passwordEncryption,
  passwordExpiry,
  connectionLimits,
  freeConnections,
  freeWalSenders,
  clock,
  monitoring,
  disk
]
