/** What a monitor has around it, in memory: conditions that are noted, a state store that can fail, a pipeline that notes what is asked of it. */
import { type Conditions, keyOf, type Raised } from "@etl-stream/core/Condition"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { MonitoredPipeline } from "@etl-stream/core/Monitor"
import * as Progress from "@etl-stream/core/Progress"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/** The pipeline that there is. */
export const pipelineName = "conformance"

/** A request that a monitor can make of a pipeline. */
export type Request = "pauseCopies" | "spool" | "quarantine"

/** What is raised, over several runs. */
export class Told {
  private readonly holder = new Map<string, Raised>()
  /** What a condition must not be, each with its name. */
  readonly problems: Array<string> = []
  /** How often conditions of each name came to be, and were over. */
  readonly begun = new Map<string, number>()
  readonly ended = new Map<string, number>()
  private readonly heard: (condition: unknown) => void

  constructor(heard: (condition: unknown) => void) {
    this.heard = heard
  }

  has(name: string): boolean {
    return [...this.holder.values()].some((condition) => condition.name === name)
  }

  /** Names of all that is raised. */
  get names(): ReadonlyArray<string> {
    return [...this.holder.values()].map(({ name }) => name)
  }

  readonly conditions: Conditions = {
    raise: (condition, since) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        const { hint, message, name } = condition
        this.heard(condition)
        if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name)) {
          this.problems.push(`${name} isn't in lower case with hyphens, as alerts match it`)
        }
        if (message.trim() === "") this.problems.push(`${name} doesn't say what is wrong`)
        if (hint.trim() === "") this.problems.push(`${name} doesn't say what to do`)
        const key = keyOf(condition)
        const known = this.holder.get(key)
        this.holder.set(key, { ...condition, since: known?.since ?? since ?? now })
        if (known === undefined) this.begun.set(name, (this.begun.get(name) ?? 0) + 1)
      }),
    clear: (name, table, subject) =>
      Effect.sync(() => {
        const about = { ...(table === undefined ? {} : { table }), ...(subject === undefined ? {} : { subject }) }
        if (this.holder.delete(keyOf({ name, ...about }))) this.ended.set(name, (this.ended.get(name) ?? 0) + 1)
      })
  }
}

const failure = (reason: "Unreachable" | "Misconfigured", message: string): ConnectorError =>
  new ConnectorError({ reason, plugin: "@etl-stream/testkit", message, hint: "It is a part of the test." })

/** Keeps documents as long as the case lasts. */
export class State {
  private readonly documents = new Map<string, { readonly value: string; readonly version: string }>()
  private version = 0
  /** Whether it answers. */
  answers = true

  private answer<A>(run: () => A): Effect.Effect<A, ConnectorError> {
    return Effect.suspend(() =>
      this.answers ? Effect.sync(run) : Effect.fail(failure("Unreachable", "The state store doesn't answer"))
    )
  }

  readonly store: StateStoreShape = {
    get: (key) => this.answer(() => Option.fromUndefinedOr(this.documents.get(key))),
    list: (prefix) => this.answer(() => [...this.documents].filter(([key]) => key.startsWith(prefix))),
    compareAndSet: (key, value, expected) =>
      this.answer(() => {
        if (this.documents.get(key)?.version !== expected) return Option.none()
        const version = String(++this.version)
        this.documents.set(key, { value, version })
        return Option.some(version)
      }),
    remove: (key) => this.answer(() => void this.documents.delete(key)),
    now: Clock.currentTimeMillis
  }
}

/** One pipeline, which is there or not. */
export class Pipelines {
  present = true
  /** Whether it refuses what it can refuse. */
  refuses = false
  paused = false
  spooling = false
  quarantined = false
  refused = 0
  private readonly progress = Progress.make(pipelineName)

  constructor() {
    this.progress.begin(0)
  }

  /** Whether it does what is asked by the request now. */
  does(request: Request): boolean {
    return { pauseCopies: this.paused, spool: this.spooling, quarantine: this.quarantined }[request]
  }

  private request(run: () => void): Effect.Effect<void, ConnectorError> {
    return Effect.suspend(() => {
      if (!this.refuses) return Effect.sync(run)
      this.refused++
      return Effect.fail(failure("Misconfigured", "The pipeline refuses that"))
    })
  }

  private readonly one: MonitoredPipeline = {
    name: pipelineName,
    view: () => this.progress.snapshot(0),
    control: {
      pauseCopies: (paused) => Effect.sync(() => void (this.paused = paused)),
      copiesPaused: () => this.paused,
      spool: (wanted) => this.request(() => void (this.spooling = wanted)),
      isSpooling: () => this.spooling,
      quarantine: () => this.request(() => void (this.quarantined = true)),
      blocking: () => this.quarantined ? [] : ["kit.slow"]
    }
  }

  readonly all = (): ReadonlyArray<MonitoredPipeline> => this.present ? [this.one] : []
}
