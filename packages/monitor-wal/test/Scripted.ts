/**
 * A server and a pipeline that tests write the script of.
 */
import * as Condition from "@etl-stream/core/Condition"
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import type { MonitoredPipeline } from "@etl-stream/core/Monitor"
import type { PipelineControl } from "@etl-stream/core/PipelineControl"
import * as Progress from "@etl-stream/core/Progress"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { TestClock } from "effect/testing"
import { Config } from "../src/Config.ts"
import type { Look, Publication, Slot } from "../src/Observation.ts"
import * as WalMonitor from "../src/WalMonitor.ts"

export const GiB = 1024 ** 3

export const failure = (reason: Reason, message: string) =>
  new ConnectorError({ reason, plugin: "scripted", message, hint: "Mend it." })

/** Decoded options, with what every monitor needs. */
export const config = (options: Record<string, unknown>) =>
  Schema.decodeUnknownSync(Schema.toCodecJson(Config))({ user: "somebody", ...options }, { onExcessProperty: "error" })

/** Keeps documents as long as the test lasts. */
export const memory = (): StateStoreShape & { readonly documents: Map<string, string>; writes: number } => {
  const documents = new Map<string, string>()
  let version = 0
  const versions = new Map<string, string>()
  const store = {
    documents,
    writes: 0,
    get: (key: string) =>
      Effect.sync(() => {
        const value = documents.get(key)
        return value === undefined ? Option.none() : Option.some({ value, version: versions.get(key) ?? "" })
      }),
    list: () => Effect.succeed([]),
    compareAndSet: (key: string, value: string, expected: string | undefined) =>
      Effect.sync(() => {
        if (versions.get(key) !== expected) return Option.none<string>()
        store.writes++
        documents.set(key, value)
        versions.set(key, String(++version))
        return Option.some(String(version))
      }),
    remove: () => Effect.void,
    now: Clock.currentTimeMillis
  }
  return store
}

/** A server with one slot, `shop`, as it is changed by the test. */
export class Server {
  /** The log's end, and how far each slot has come. */
  lsn = 100n * BigInt(GiB)
  slots = new Map<string, Slot>([["shop", this.slot("shop")]])
  keepSize: number | undefined
  directory: number | undefined = GiB
  statisticsReset = "2026-01-01"
  publications: Array<Publication> = []
  /** Why it can't be looked at. */
  down: ConnectorError | undefined
  /** Why its publications can't be. */
  unreadable: ConnectorError | undefined
  looks = 0

  slot(name: string, fields: Partial<Slot> = {}): Slot {
    return {
      name,
      logical: true,
      plugin: "pgoutput",
      database: "app",
      temporary: false,
      active: true,
      restart: this.lsn,
      confirmed: this.lsn,
      status: "reserved",
      safe: undefined,
      twoPhase: false,
      failover: false,
      synced: false,
      inactiveSince: undefined,
      invalidation: undefined,
      xminAge: undefined,
      catalogXminAge: 10,
      decoded: undefined,
      ...fields
    }
  }

  change(name: string, fields: Partial<Slot>): void {
    this.slots.set(name, { ...this.slots.get(name) ?? this.slot(name), ...fields })
  }

  /** Writes log, which no slot's reader takes. */
  write(bytes: number): void {
    this.lsn += BigInt(Math.round(bytes))
  }

  /** The reader of `shop` catches up but for `behind` bytes. */
  catchUp(behind = 0): void {
    const position = this.lsn - BigInt(behind)
    this.change("shop", { restart: position, confirmed: position })
  }

  look(): Look {
    return {
      server: {
        version: 180001,
        standby: false,
        lsn: this.lsn,
        statisticsReset: this.statisticsReset,
        database: "app",
        keepSize: this.keepSize,
        seesDirectory: this.directory !== undefined
      },
      slots: [...this.slots.values()],
      directory: this.directory
    }
  }

  readonly observer: WalMonitor.Observer = {
    look: Effect.suspend(() => {
      this.looks++
      return this.down === undefined ? Effect.succeed(this.look()) : Effect.fail(this.down)
    }),
    publications: (names) =>
      Effect.suspend(() =>
        this.unreadable === undefined
          ? Effect.succeed(this.publications.filter(({ name }) => names.includes(name)))
          : Effect.fail(this.unreadable)
      )
  }
}

/** A pipeline that notes what is asked of it. */
export class Pipeline {
  asked: Array<string> = []
  paused = false
  spooling = false
  /** Whether it can begin to spool, and end it. */
  hasSpool = true
  endsSpooling = true
  blocking: Array<string> = []
  /** Completes a quarantine; at once when undefined. */
  quarantining: Effect.Effect<void, ConnectorError> | undefined
  tables: Array<string> = []
  readonly name: string

  constructor(name = "shop") {
    this.name = name
  }

  readonly control: PipelineControl = {
    pauseCopies: (paused) =>
      Effect.sync(() => {
        this.paused = paused
        this.asked.push(paused ? "pause" : "resume")
      }),
    copiesPaused: () => this.paused,
    spool: (wanted) =>
      Effect.suspend(() => {
        this.asked.push(wanted ? "spool" : "unspool")
        if (wanted ? !this.hasSpool : !this.endsSpooling) {
          return Effect.fail(failure("Misconfigured", "The pipeline has no spool."))
        }
        this.spooling = wanted
        return Effect.void
      }),
    isSpooling: () => this.spooling,
    quarantine: (table) =>
      Effect.suspend(() => {
        this.asked.push(`quarantine ${table}`)
        return (this.quarantining ?? Effect.void).pipe(Effect.tap(() =>
          Effect.sync(() => {
            this.blocking = this.blocking.filter((one) => one !== table)
          })
        ))
      }),
    blocking: () => this.blocking
  }

  monitored(): MonitoredPipeline {
    const progress = Progress.make(this.name)
    progress.begin(0)
    for (const table of this.tables) progress.table(table)
    return { name: this.name, control: this.control, view: () => progress.snapshot(0) }
  }
}

/** A monitor as it runs in a test. */
export interface Watching {
  readonly monitor: ReturnType<typeof WalMonitor.make>
  /** What is raised: `name subject table`, in order. */
  readonly raised: () => ReadonlyArray<string>
  readonly conditions: () => ReadonlyArray<Condition.Raised>
}

/** Runs the monitor `pg` until the scope ends. */
export const watch = Effect.fnUntraced(function*(
  server: Server,
  options: Record<string, unknown>,
  more: { readonly state?: StateStoreShape; readonly pipelines?: ReadonlyArray<Pipeline> } = {}
) {
  const holder: Condition.Holder = { conditions: new Map() }
  const monitor = WalMonitor.make("pg", config(options), server.observer)
  const fiber = yield* Effect.forkScoped(
    monitor.run({
      conditions: Condition.makeMonitor("pg", holder),
      state: more.state ?? memory(),
      pipelines: () => (more.pipelines ?? []).map((pipeline) => pipeline.monitored())
    })
  )
  yield* TestClock.adjust("1 milli")
  const watching: Watching = {
    monitor,
    conditions: () => [...holder.conditions.values()],
    raised: () =>
      [...holder.conditions.values()].map(({ name, subject, table }) =>
        [name, subject, table].filter((part) => part !== undefined).join(" ")
      )
  }
  return { ...watching, fiber }
})

/** Lets time pass in steps of ten seconds, with what happens at the server before each. */
export const pass = (seconds: number, each: () => void = () => {}) =>
  Effect.repeat(
    Effect.andThen(Effect.sync(each), TestClock.adjust("10 seconds")),
    { times: Math.ceil(seconds / 10) - 1 }
  )
