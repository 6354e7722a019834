/**
 * Doctor's checks of settings and states that decide how long the server keeps log for a slot, and of what holds a slot's creation up.
 */
import type { Check } from "@etl-stream/core/Check"
import { info, warning } from "@etl-stream/core/Finding"
import * as Sql from "../Sql.ts"
import type { Inspection } from "./Inspection.ts"
import * as Units from "./Units.ts"

const reload = "SELECT pg_reload_conf();"

const shortestSenderTimeout = 10_000

const walSenderTimeout: Check<Inspection> = {
  name: "wal-sender-timeout",
  looksAt: "wal_sender_timeout notices a reader that is gone, and is no shorter than 10 seconds",
  severities: ["warning"],
  *find({ configured }) {
    const timeout = configured.get("wal_sender_timeout")
    const millis = Number(timeout?.value ?? 60_000)
    if (millis >= shortestSenderTimeout) return
    yield warning(
      millis === 0
        ? "wal_sender_timeout is 0: the server never notices that a reader is gone, and its slot stays in use"
        : `wal_sender_timeout is ${timeout?.text ?? ""}: a short hiccup of the network ends the stream`,
      "Set it to a minute, the server's default.",
      { sql: ["ALTER SYSTEM SET wal_sender_timeout = '60s';", reload] }
    )
  }
}

const shortestIdle = 86_400

const idleSlotTimeout: Check<Inspection> = {
  name: "idle-slot-timeout",
  looksAt: "idle_replication_slot_timeout lets the pipeline stand still for a day",
  severities: ["warning"],
  *find({ configured }) {
    const timeout = configured.get("idle_replication_slot_timeout")
    const seconds = Number(timeout?.value ?? 0)
    if (seconds === 0 || seconds >= shortestIdle) return
    yield warning(
      `idle_replication_slot_timeout is ${
        timeout?.text ?? ""
      }: a pipeline that stands still for longer loses its slot, and ` +
        "every table has to be copied again",
      "Give it longer than a stop may last, such as a long weekend.",
      { sql: ["ALTER SYSTEM SET idle_replication_slot_timeout = '4d';", reload] }
    )
  }
}

const megabyte = 1024 ** 2
const shortestReserve = 6 * 3600

const slotWalReserve: Check<Inspection> = {
  name: "slot-wal-reserve",
  looksAt: "max_slot_wal_keep_size lasts for a stop of six hours, as far as can be told",
  severities: ["warning"],
  *find({ configured, logRate }) {
    const keep = Number(configured.get("max_slot_wal_keep_size")?.value ?? -1) * megabyte
    if (keep < 0) return
    const wal = Number(configured.get("max_wal_size")?.value ?? 0) * megabyte
    const lasts = logRate === undefined || logRate === 0 ? Infinity : keep / logRate
    const enough = Math.ceil(Math.max(wal, (logRate ?? 0) * shortestReserve) / megabyte)
    if (lasts >= shortestReserve && keep >= wal) return
    const limit = `max_slot_wal_keep_size (${Units.bytes(keep)})`
    yield warning(
      keep < wal
        ? `${limit} is smaller than max_wal_size (${Units.bytes(wal)}): the slot can be lost between two checkpoints`
        : `${limit} holds the log of ${
          Units.duration(lasts)
        } at its average rate: a pipeline that stands still for longer loses ` +
          "its slot, and every table has to be copied again",
      "Raise it as far as the disk allows.",
      { sql: [`ALTER SYSTEM SET max_slot_wal_keep_size = '${enough}MB';`, reload] }
    )
  }
}

const atRisk = (status: string | null): boolean => status === "unreserved"

const slotLag: Check<Inspection> = {
  name: "slot-lag",
  looksAt: "the pipeline's slot holds back little log, or is being read",
  severities: ["warning"],
  *find({ limits, settings, slots }) {
    const own = slots.find(({ name }) => name === settings.slot.name)
    if (own === undefined) return
    const retained = own.retained ?? 0
    if (atRisk(own.status)) {
      yield warning(
        `replication slot ${own.name} is behind by more than max_slot_wal_keep_size (${
          Units.bytes(retained)
        }): the next ` +
          "checkpoint may remove log that it needs",
        "Start the pipeline now, or give the slot more room for now:",
        { sql: ["ALTER SYSTEM SET max_slot_wal_keep_size = -1;", reload] }
      )
    } else if (!own.active && retained >= limits.retainedBytes) {
      yield warning(
        `replication slot ${own.name} holds back ${Units.bytes(retained)} of log, and nobody reads it`,
        "Start the pipeline, or drop the slot when the pipeline won't come back.",
        { sql: [`SELECT pg_drop_replication_slot(${Sql.literal(own.name)});`] }
      )
    }
  }
}

const otherSlots: Check<Inspection> = {
  name: "other-slots",
  looksAt: "no other slot holds back much log without a reader",
  severities: ["warning"],
  *find({ limits, settings, slots }) {
    for (const { active, name, retained, status } of slots) {
      if (active || name === settings.slot.name) continue
      const lost = status === "lost"
      if (!lost && (retained ?? 0) < limits.retainedBytes) continue
      yield warning(
        lost
          ? `replication slot ${name} is lost: nothing can be read from it any more, but it takes one of the server's slots`
          : `replication slot ${name} holds back ${Units.bytes(retained ?? 0)} of log, and nobody reads it`,
        "Find out whose it is; drop it when nobody needs it.",
        { sql: [`SELECT pg_drop_replication_slot(${Sql.literal(name)});`] }
      )
    }
  }
}

const longTransactions: Check<Inspection> = {
  name: "long-transactions",
  looksAt: "no open transaction delays the creation of a slot",
  severities: ["warning"],
  *find({ limits, transactions }) {
    for (const { pid, seconds } of transactions) {
      if (seconds < limits.transactionSeconds) continue
      yield warning(
        `a transaction of server process ${pid} has been open for ${
          Units.duration(seconds)
        }: a slot can be created only when ` +
          "it has ended, and the log is kept for it",
        "Wait until it ends, or end it (what it did is undone).",
        { sql: [`SELECT pg_terminate_backend(${pid});`] }
      )
    }
  }
}

const preparedTransactions: Check<Inspection> = {
  name: "prepared-transactions",
  looksAt: "no prepared transaction delays the creation of a slot",
  severities: ["warning"],
  *find({ limits, prepared }) {
    for (const { database, gid, seconds } of prepared) {
      if (seconds < limits.transactionSeconds) continue
      yield warning(
        `a transaction of database ${database} has been prepared for ${
          Units.duration(seconds)
        } and not ended: a slot can be ` +
          "created only when it has",
        `Find out whose it is, and commit it or roll it back in database ${database}.`,
        { sql: [`ROLLBACK PREPARED ${Sql.literal(gid)};`] }
      )
    }
  }
}

const smallDecodingMemory = 64 * 1024

const decodingMemory: Check<Inspection> = {
  name: "decoding-memory",
  looksAt: "logical_decoding_work_mem holds transactions of usual size",
  severities: ["info"],
  *find({ configured }) {
    const memory = configured.get("logical_decoding_work_mem")
    if (memory === undefined || Number(memory.value) >= smallDecodingMemory) return
    yield info(
      `logical_decoding_work_mem is ${memory.text}: the server writes transactions with more changes to its disk while it decodes them`,
      "Raise it when transactions are often larger.",
      { sql: ["ALTER SYSTEM SET logical_decoding_work_mem = '64MB';", reload] }
    )
  }
}

const failover: Check<Inspection> = {
  name: "failover",
  looksAt: "the server has no standby that could take its place, or the slot goes with it",
  severities: ["info"],
  *find({ configured, server, slot, slots }) {
    const standbys = slots.some(({ active, logical }) => active && !logical) ||
      (configured.get("synchronous_standby_names")?.value ?? "") !== ""
    if (!standbys || slot === undefined) return
    if (slots.some(({ failover, name }) => failover && name === slot.name)) return
    yield info(
      "the server has standbys, and the pipeline's slot isn't kept on them: after a failover every table is copied again",
      server.version >= 170000
        ? "Set slot.failover to true in the source's options, and sync_replication_slots = on at the standbys."
        : "Failover slots came with PostgreSQL 17."
    )
  }
}

const synchronousStandbys: Check<Inspection> = {
  name: "synchronous-standbys",
  looksAt: "changes are never sent before a synchronous standby has them",
  severities: ["info"],
  *find({ configured, server, settings }) {
    const names = configured.get("synchronous_standby_names")?.value ?? ""
    const guarded = settings.synchronousGuard || (configured.get("synchronized_standby_slots")?.value ?? "") !== ""
    if (names === "" || guarded) return
    yield info(
      "the server has synchronous standbys, but sends changes to the pipeline without waiting for them: after a failover the " +
        "destination may hold changes that the new primary never had",
      server.version >= 170000
        ? "Set synchronousGuard to true; or name the standbys' physical slots in synchronized_standby_slots, and let the pipeline " +
          "have a failover slot (slot.failover)."
        : "Set synchronousGuard to true."
    )
  }
}

const hotStandbyFeedback: Check<Inspection> = {
  name: "hot-standby-feedback",
  looksAt: "the server is a primary, or a standby with hot_standby_feedback",
  severities: ["warning"],
  *find({ configured, server }) {
    if (!server.standby || configured.get("hot_standby_feedback")?.value === "on") return
    yield warning(
      "the server is a standby without hot_standby_feedback: its logical slots can be invalidated by the primary's vacuum",
      "Switch it on at the standby.",
      { sql: ["ALTER SYSTEM SET hot_standby_feedback = on;", reload] }
    )
  }
}

/** In the order in which they are told. */
export const checks: ReadonlyArray<Check<Inspection>> = [
  walSenderTimeout,
  idleSlotTimeout,
  slotWalReserve,
  slotLag,
  otherSlots,
  longTransactions,
  preparedTransactions,
  decodingMemory,
  failover,
  synchronousStandbys,
  hotStandbyFeedback
]
