/**
 * What is no longer as it was, or as it has to be: of a slot, and of what is published through it.
 *
 * All pure: from what is seen and what is remembered to what is to be told, and what to remember.
 */
import type { Condition } from "@etl-stream/core/Condition"
import type { TableId } from "@etl-stream/core/TableSchema"
import type { Watched } from "./Config.ts"
import * as Lsn from "./Lsn.ts"
import type { SlotEntry } from "./Memory.ts"
import type { Publication, Server, Slot } from "./Observation.ts"

/** A condition, and whether it is so. */
export interface Judgement {
  readonly condition: Condition
  readonly met: boolean
}

const aboutSlot = (
  slot: string,
  name: string,
  severity: Condition["severity"],
  message: string,
  hint: string
): Condition => ({ name, subject: slot, severity, message, hint })

/** The conditions about a slot that isn't there. `known`: it was there before. */
export const missing = (slot: string, known: boolean): Condition =>
  aboutSlot(
    slot,
    "slot-missing",
    known ? "critical" : "warning",
    known ? `The slot ${slot} was dropped` : `There is no slot ${slot}`,
    known
      ? "Changes since then are kept for nobody. Its pipeline says what to do at its next start: it halts, or copies the tables again (slot.onLost)."
      : "Correct its name in `slots`, or start the pipeline that makes it."
  )

/** What says that counters are of one and the same count. */
const countingOf = (server: Server, slot: Slot): string =>
  `${server.statisticsReset ?? ""} ${slot.decoded?.reset ?? ""}`

/** What a slot is now, to be compared with later. `before`: what it was. */
export const remember = (
  server: Server,
  slot: Slot,
  before: SlotEntry | undefined,
  now: number
): SlotEntry => {
  const total = slot.decoded?.totalTransactions
  const counting = countingOf(server, slot)
  const confirmed = slot.confirmed
  const fell = before?.totalTransactions !== undefined && total !== undefined && before.counting === counting &&
    total < before.totalTransactions
  const anew = before !== undefined && (!before.present || fell)
    // A slot of no position yet has everything before it.
    ? Lsn.format(confirmed ?? 0n)
    : before?.anew
  // Its reader has taken it up once it has confirmed more.
  const takenUp = anew !== undefined && slot.active && confirmed !== undefined && Lsn.format(confirmed) !== anew &&
    anew === before?.anew
  const first = <A>(earlier: A | undefined, current: A | undefined): A | undefined => earlier ?? current
  const plugin = first(before?.plugin, slot.plugin)
  const database = first(before?.database, slot.database)
  const failover = first(before?.failover, slot.failover)
  const twoPhase = first(before?.twoPhase, slot.twoPhase)
  return {
    present: true,
    ...(plugin === undefined ? {} : { plugin }),
    ...(database === undefined ? {} : { database }),
    ...(failover === undefined ? {} : { failover }),
    ...(twoPhase === undefined ? {} : { twoPhase }),
    ...(slot.active ? {} : { inactiveSince: slot.inactiveSince ?? before?.inactiveSince ?? now }),
    ...(total === undefined ? {} : { totalTransactions: total }),
    counting,
    ...(anew === undefined || takenUp ? {} : { anew }),
    ...(before?.publication === undefined ? {} : { publication: before.publication }),
    ...(before?.identified === undefined ? {} : { identified: before.identified })
  }
}

const differences = (slot: Slot, watched: Watched, entry: SlotEntry): ReadonlyArray<string> => {
  const plugin = watched.pipeline === undefined ? entry.plugin : "pgoutput"
  const failover = watched.failover ?? entry.failover
  const twoPhase = watched.twoPhase ?? entry.twoPhase
  return [
    ...(slot.logical ? [] : ["it is a physical slot"]),
    ...(slot.logical && plugin !== undefined && slot.plugin !== plugin
      ? [`its plugin is ${slot.plugin ?? "none"} instead of ${plugin}`]
      : []),
    ...(slot.logical && entry.database !== undefined && slot.database !== entry.database
      ? [`it decodes the database ${slot.database ?? "of nobody"} instead of ${entry.database}`]
      : []),
    ...(failover !== undefined && slot.failover !== undefined && slot.failover !== failover
      ? [`its failover is ${slot.failover ? "on" : "off"} instead of ${failover ? "on" : "off"}`]
      : []),
    ...(twoPhase !== undefined && slot.twoPhase !== undefined && slot.twoPhase !== twoPhase
      ? [`its two_phase is ${slot.twoPhase ? "on" : "off"} instead of ${twoPhase ? "on" : "off"}`]
      : [])
  ]
}

/** What has become of a slot that is there. `entry`: as `remember` has it now. */
export const ofSlot = (slot: Slot, watched: Watched, entry: SlotEntry): ReadonlyArray<Judgement> => {
  const { name } = slot
  const different = differences(slot, watched, entry)
  const lost = slot.status === "lost" || slot.invalidation !== undefined
  const why = slot.invalidation === undefined ? "" : ` (${slot.invalidation})`
  return [
    { condition: missing(name, true), met: false },
    {
      condition: aboutSlot(
        name,
        "slot-lost",
        "critical",
        `The slot ${name} is lost: the server has removed what it needs${why}`,
        "No reader can go on from it. Drop it and have the tables copied again: its pipeline does both with slot.onLost: resnapshot."
      ),
      met: lost
    },
    {
      condition: aboutSlot(
        name,
        "slot-unreserved",
        "critical",
        `The slot ${name} keeps more WAL than the server allows and may be lost at the next checkpoint`,
        "Raise max_slot_wal_keep_size and reload the server's configuration, or let its reader catch up at once."
      ),
      met: slot.status === "unreserved" && !lost
    },
    {
      condition: aboutSlot(
        name,
        "slot-recreated",
        "warning",
        `The slot ${name} was dropped and made anew`,
        "What was committed in between doesn't come through it: its pipeline has to copy the tables again, if it hasn't. This is over once the slot is read."
      ),
      met: entry.anew !== undefined
    },
    {
      condition: aboutSlot(
        name,
        "slot-changed",
        "critical",
        `The slot ${name} is not as it has to be: ${different.join(", ")}`,
        "Make it as it was, or say in `slots` how it has to be (failover, twoPhase); a slot of another plugin or database has to be made anew."
      ),
      met: different.length > 0
    }
  ]
}

/** What is to be told of a publication, and what to remember. */
export interface PublicationDrift {
  readonly judgements: ReadonlyArray<Judgement>
  readonly publication: string | undefined
  readonly identified: ReadonlyArray<TableId> | undefined
}

/**
 * What has become of what is published through a slot.
 *
 * @param expected Tables that have to be published; what a pipeline reads as one table may be published as its partitions.
 */
export const ofPublication = (
  watched: Watched,
  found: ReadonlyArray<Publication>,
  expected: ReadonlyArray<TableId>,
  before: SlotEntry | undefined
): PublicationDrift => {
  const name = watched.publication ?? before?.publication ?? watched.slot
  const publication = found.find((candidate) => candidate.name === name)
  // One that nobody named, and that nobody has seen, is none of ours.
  const known = watched.publication !== undefined || before?.publication !== undefined
  const gone: Judgement = {
    condition: {
      name: "publication-missing",
      subject: name,
      severity: "critical",
      message: `There is no publication ${name}`,
      hint: `Create it for the tables of the slot ${watched.slot}; its pipeline can't read without it.`
    },
    met: publication === undefined && known
  }
  if (publication === undefined) {
    return { judgements: [gone], publication: before?.publication, identified: before?.identified }
  }
  const published = new Set(publication.tables.flatMap(({ ancestors, table }) => [table, ...ancestors]))
  const identified = new Set(publication.tables.filter((table) => table.identified).map(({ table }) => table))
  const earlier = new Set(before?.identified)
  const unidentified = publication.needsIdentity
    ? publication.tables.filter((table) => !table.identified && earlier.has(table.table)).map(({ table }) => table)
    : []
  // What was there at the last look and isn't any more is judged too, so that its condition ends.
  const tables = new Set([...expected, ...earlier, ...identified])
  return {
    judgements: [
      gone,
      ...[...tables].map((table): Judgement => ({
        condition: {
          name: "publication-table-missing",
          table,
          subject: name,
          severity: "critical",
          message: `The table ${table} is not in the publication ${name}`,
          hint:
            `Its changes reach nobody. Add it again (ALTER PUBLICATION … ADD TABLE), then have it copied again: etl-stream resync.`
        },
        met: expected.includes(table) && !published.has(table)
      })),
      ...[...tables].map((table): Judgement => ({
        condition: {
          name: "replica-identity-lost",
          table,
          subject: name,
          severity: "critical",
          message: `The table ${table} has lost its replica identity: no updates or deletes of it can be published`,
          hint:
            "The server refuses them, or they can't be applied. Give it a primary key again, or set one: ALTER TABLE … REPLICA IDENTITY USING INDEX …, or FULL."
        },
        met: unidentified.includes(table)
      }))
    ],
    publication: name,
    // A table that has lost it is remembered as one that had it, for as long as it is published.
    identified: publication.tables.map(({ table }) => table).filter((table) =>
      identified.has(table) || earlier.has(table)
    )
  }
}
