/**
 * What a monitor looks at beside the slots that it watches: the WAL directory, what limits slots at all, and slots of others that nobody reads.
 */
import * as ByteSize from "@etl-stream/core/ByteSize"
import type { Condition } from "@etl-stream/core/Condition"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Schema from "effect/Schema"
import { atOnce } from "./Alarms.ts"
import * as Config from "./Config.ts"
import { Growth } from "./Growth.ts"
import * as Lsn from "./Lsn.ts"
import * as Metrics from "./Metrics.ts"
import type { Look } from "./Observation.ts"
import * as Outlook from "./Outlook.ts"
import { describe, directoryOf, judgeLevel, levels, type Surroundings, sustainedOf } from "./SlotWatch.ts"

const withoutDirectory: Condition = {
  name: "wal-directory-unknown",
  severity: "warning",
  message: "The role may not see the WAL directory; its size is taken to be what the slots keep",
  hint: "GRANT pg_monitor TO the monitor's role, or leave `disk` out: slots are watched all the same."
}

const withoutBudget: Condition = {
  name: "wal-budget-unknown",
  severity: "warning",
  message: "Nothing says how much WAL slots may keep, so shares of it and the time that is left are not known",
  hint: "Set `budget` (or `disk`) in the monitor's options, or max_slot_wal_keep_size at the server."
}

const idleSlot = (slot: string, bytes: number): Condition => ({
  name: "slot-idle",
  subject: slot,
  severity: "warning",
  message: `The slot ${slot}, which nobody reads, keeps ${ByteSize.format(bytes)} of WAL`,
  hint: "It fills the disk for all. If its reader is not to come back, drop it: SELECT pg_drop_replication_slot('…')."
})

const othersOf = (look: Look, watched: ReadonlyArray<Config.Watched>) =>
  look.slots.filter(({ name }) => !watched.some(({ slot }) => slot === name)).map((slot) => ({
    slot,
    bytes: slot.restart === undefined ? 0 : Lsn.distance(slot.restart, look.server.lsn)
  }))

export class ServerWatch {
  private readonly surroundings: Surroundings
  private readonly growth: Growth
  private readonly metrics: ReturnType<typeof Metrics.forMonitor>

  constructor(surroundings: Surroundings) {
    this.surroundings = surroundings
    this.growth = new Growth(Duration.toMillis(surroundings.config.window))
    this.metrics = Metrics.forMonitor(surroundings.monitor)
  }

  /** The log is another one than before. */
  restart(): void {
    this.growth.reset()
  }

  /** Takes in what a look has seen at `now`. */
  see(look: Look, watched: ReadonlyArray<Config.Watched>, now: number): Effect.Effect<void> {
    return Effect.andThen(this.judgeOthers(look, watched, now), this.judgeServer(look, now))
  }

  /** Parts of the status. */
  status(look: Look, watched: ReadonlyArray<Config.Watched>): { readonly [key: string]: Schema.Json } {
    const { server } = look
    return {
      server: {
        version: `${Math.floor(server.version / 10_000)}.${server.version % 10_000}`,
        standby: server.standby,
        database: server.database,
        wal: Lsn.format(server.lsn),
        slotKeepBytes: server.keepSize ?? null
      },
      directory: {
        bytes: directoryOf(look),
        estimated: look.directory === undefined,
        growthBytesPerSecond: this.growth.rate() ?? null,
        diskBytes: this.surroundings.config.disk ?? null
      },
      otherSlots: othersOf(look, watched).map(({ bytes, slot }) => ({
        slot: slot.name,
        active: slot.active,
        retainedBytes: bytes
      }))
    }
  }

  private judgeOthers(look: Look, watched: ReadonlyArray<Config.Watched>, now: number): Effect.Effect<void> {
    const { alarms, config } = this.surroundings
    const { hysteresis } = config.thresholds
    return Effect.forEach(othersOf(look, watched), ({ bytes, slot }) => {
      const idle = !slot.active && !slot.temporary && slot.synced !== true
      return alarms.judge(
        idleSlot(slot.name, bytes),
        {
          met: idle && bytes >= config.idleSlots,
          over: !idle || bytes < config.idleSlots * (1 - hysteresis)
        },
        now,
        sustainedOf(config)
      )
    }, { discard: true })
  }

  private judgeServer(look: Look, now: number): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const { alarms, config } = this.surroundings
      const { actions, budget, disk, thresholds } = config
      const size = directoryOf(look)
      yield* Metric.update(this.metrics.directory, size)
      const blind = look.directory === undefined
      yield* alarms.judge(withoutDirectory, { met: blind, over: !blind }, now, atOnce)
      const triggers = [
        ...levels.flatMap((level) => Config.triggers(thresholds[level])),
        ...actions.map(({ at }) => at)
      ]
      const aimless = budget === undefined && disk === undefined && look.server.keepSize === undefined &&
        triggers.some(({ _tag }) => _tag !== "Size")
      yield* alarms.judge(withoutBudget, { met: aimless, over: !aimless }, now, atOnce)
      this.growth.add(now, size)
      if (disk === undefined) return
      const outlook = Outlook.make(
        size,
        { server: undefined, budget: undefined, disk: disk - size },
        this.growth.rate()
      )
      yield* Effect.forEach(levels, (level) =>
        alarms.judge(
          {
            name: `wal-directory-${level}`,
            severity: level === "danger" ? "critical" : "warning",
            message: `The WAL directory has ${describe(outlook)}`,
            hint: "See which slots keep it, what archiving does (archive_command), and whether the disk can grow."
          },
          judgeLevel(config, level, outlook, false),
          now,
          sustainedOf(config)
        ), { discard: true })
    })
  }
}
