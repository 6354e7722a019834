/**
 * Many scenarios of one mode over all cells of the matrix (calls x what goes wrong with them), several at a time, each on a server of its own.
 *
 * Each sequence is made for the cell that was struck least: its scenario is one that was seen to make the call, or that is likely to. So in the end each cell was struck, or
 * the matrix says which was not. What fails is made smaller by fast-check, and told with a command that plays it again.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as fc from "fast-check"
import * as Local from "../Local.ts"
import type { Random } from "../MirrorModel.ts"
import { random } from "../MirrorModel.ts"
import type { Cell } from "./Calls.ts"
import * as Calls from "./Calls.ts"
import type { Mode } from "./Modes.ts"
import type { Replay } from "./Replay.ts"
import * as Replays from "./Replay.ts"
import type { Report, Scenario, Strike } from "./Scenario.ts"
import * as Scenarios from "./Scenario.ts"
import * as Statements from "./Statements.ts"

export interface Options {
  readonly mode: Mode
  readonly sequences: number
  readonly seed: number
  /** Servers, with one scenario at a time on each. */
  readonly lanes: number
}

interface Known {
  readonly cell: Cell
  struck: number
  tried: number
}

/** A sequence that made a call, with how often in each of its runs. */
interface Sighting {
  readonly seed: number
  readonly calls: ReadonlyArray<number>
}

interface Planned {
  readonly seed: number
  readonly strikes: ReadonlyArray<readonly [known: Known, strike: Strike]>
}

export interface Summary {
  readonly sequences: number
  readonly cells: number
  readonly strikes: number
  readonly runs: number
  readonly resumed: number
  /** Cells that weren't struck, and those of them that are seldom reached. */
  readonly missing: ReadonlyArray<string>
  readonly seldom: ReadonlyArray<string>
}

/** How many times as many sequences there may be, for cells that were hard to strike. */
const mostSequences = 1.3
const sequencesPerServer = 200
/** Faults per sequence. */
const strikesPerSequence = 2
/** Sequences without a fault, which show the calls. */
const undisturbed = 10
/** So many sequences are remembered that made a call. */
const sightingsPerCall = 12
/** So many scenarios are looked at for one that suits. */
const looks = 2000

/** A smaller counterexample is looked for this long. */
const shrinkMillis = 120_000

const scenarioOf = (seed: number): Scenario => {
  const [scenario] = fc.sample(Scenarios.scenarios, { seed, numRuns: 1 })
  if (scenario === undefined) throw new Error("fast-check made no scenario")
  return scenario
}

/** What is known of the cells, and what is to be played next. */
class Plan {
  private readonly mode: Mode
  private readonly seed: number
  private readonly chance: Random
  private readonly known: ReadonlyArray<Known>
  private readonly sightings = new Map<string, Array<Sighting>>()

  constructor({ mode, seed }: Options) {
    this.mode = mode
    this.seed = seed
    this.chance = random(seed)
    this.known = Calls.cellsOf(mode.name).map((cell) => ({ cell, struck: 0, tried: 0 }))
  }

  get cells(): number {
    return this.known.length
  }

  get missing(): ReadonlyArray<string> {
    return this.known.filter(({ cell, struck }) => struck === 0 && cell.call.statement?.seldom !== true).map((
      { cell }
    ) => cell.name)
  }

  get seldom(): ReadonlyArray<string> {
    return this.known.filter(({ cell, struck }) => struck === 0 && cell.call.statement?.seldom === true).map((
      { cell }
    ) => cell.name)
  }

  /** Learns which statements the runs of a sequence made; fails for one that isn't listed. */
  learn(seed: number, runs: ReadonlyArray<ReadonlyArray<string>>): void {
    const calls = new Map<string, Array<number>>()
    const overtaken = scenarioOf(seed).runs.some((run) => run.overtaken)
    for (const [run, texts] of runs.entries()) {
      for (const text of texts) {
        const statement = Statements.find(text)
        if (statement?.modes.includes(this.mode.name) !== true) {
          if (overtaken) continue
          throw new Error(
            `The matrix doesn't know this statement in the mode ${this.mode.name}; write it down in scenario/Statements.ts: ${
              text.slice(0, 200)
            }`
          )
        }
        const counts = calls.get(statement.name) ?? runs.map(() => 0)
        counts[run] = (counts[run] ?? 0) + 1
        calls.set(statement.name, counts)
      }
    }
    for (const [name, counts] of calls) {
      const seen = this.sightings.get(name) ?? []
      if (seen.length < sightingsPerCall && seen.every((other) => other.seed !== seed)) {
        this.sightings.set(name, [...seen, { seed, calls: counts }])
      }
    }
  }

  /** The sequence of this number: its scenario's seed, and what strikes where. The first ones are left alone, to see the calls. */
  next(index: number): Planned {
    const own = this.ownSeed(index)
    if (index < undisturbed) return { seed: own, strikes: [] }
    const order = this.known.toSorted((a, b) => a.struck - b.struck || a.tried - b.tried)
    const [least] = order
    if (least === undefined) return { seed: own, strikes: [] }
    const seed = this.seedFor(least, own)
    const scenario = scenarioOf(seed)
    const strikes: Array<readonly [Known, Strike]> = []
    const endpoints = new Set<string>()
    for (const known of order) {
      if (strikes.length >= strikesPerSequence) break
      const { call } = known.cell
      // Two faults of one call could be taken for each other.
      if (endpoints.has(call.name)) continue
      const strike = this.place(known, scenario, seed, known === least)
      if (strike === undefined) continue
      endpoints.add(call.name)
      known.tried++
      strikes.push([known, strike])
    }
    return { seed, strikes }
  }

  private ownSeed(index: number): number {
    return (this.seed + Math.imul(index, 7919)) | 0
  }

  private seen({ call }: Cell): ReadonlyArray<Sighting> {
    return this.sightings.get(call.name) ?? []
  }

  private suits({ mishap }: Cell, scenario: Scenario): boolean {
    return mishap.suits?.(scenario) !== false
  }

  /** The seed of a scenario that makes the call: one that did, else one that is likely to. */
  private seedFor({ cell, tried }: Known, own: number): number {
    const seen = this.seen(cell).filter(({ seed }) => this.suits(cell, scenarioOf(seed)))
    const again = seen[tried % Math.max(1, seen.length)]
    if (again !== undefined) return again.seed
    for (let look = 0; look < looks; look++) {
      const seed = (own + look) | 0
      const scenario = scenarioOf(seed)
      const likely = cell.call.statement?.likely?.(scenario, Scenarios.shapeOf(this.mode, scenario).name) !== false
      if (likely && this.suits(cell, scenario)) return seed
    }
    return own
  }

  /** Where the fault strikes in the scenario; undefined when it isn't known to make the call. */
  private place({ cell, tried }: Known, scenario: Scenario, seed: number, anyway: boolean): Strike | undefined {
    if (!this.suits(cell, scenario)) return undefined
    const patient = tried > 2
    if (cell.call.statement === undefined) {
      return patient ? { cell, run: 0, skip: 0 } : {
        cell,
        run: this.chance(scenario.runs.length + 1),
        skip: this.chance(2)
      }
    }
    const sighting = this.seen(cell).find((other) => other.seed === seed)
    if (sighting === undefined) return anyway ? { cell, run: 0, skip: 0 } : undefined
    const runs = sighting.calls.flatMap((calls, run) => calls === 0 ? [] : [{ run, calls }])
    const { calls, run } = runs[this.chance(runs.length)] ?? { run: 0, calls: 1 }
    return { cell, run, skip: patient ? 0 : this.chance(calls) }
  }
}

/** Plays a sequence on its server. */
const attempt = (local: Local.Local, mode: Mode, scenario: Scenario, serial: number, strikes: ReadonlyArray<Strike>) =>
  Effect.andThen(local.clearFaults, Scenarios.play(local, mode, scenario, serial, strikes))

const server = Local.start({
  abandonedAfterMillis: 200,
  // Where many are wanted, rows may come in another order each time, too.
  ...(process.env["ETL_STREAM_SEQUENCES"] === undefined ? {} : { threads: 3 }),
  streaming: { commitDelayMillis: { min: 0, max: 2 } }
})

export const run = Effect.fnUntraced(function*(options: Options) {
  const { lanes, mode, sequences } = options
  const plan = new Plan(options)
  let started = 0
  let serial = 0
  const totals = { strikes: 0, runs: 0, resumed: 0 }

  const one = (local: Local.Local) =>
    Effect.gen(function*() {
      const { seed, strikes: planned } = plan.next(started++)
      const strikes = planned.map(([, strike]) => strike)
      const exit = yield* Effect.exit(attempt(local, mode, scenarioOf(seed), ++serial, strikes))
      if (Exit.isFailure(exit)) {
        return yield* Effect.promise(() => shrink(local, seed, strikes, String(exit.cause)))
      }
      const report: Report = exit.value
      totals.runs += report.runs
      totals.resumed += report.resumed
      for (const [known, strike] of planned) {
        if (!report.struck.includes(strike)) continue
        known.struck++
        totals.strikes++
      }
      plan.learn(seed, report.statements)
    })

  /** Fails with the smallest scenario that goes wrong in this way. */
  const shrink = async (local: Local.Local, seed: number, strikes: ReadonlyArray<Strike>, why: string) => {
    const details = await fc.check(
      fc.asyncProperty(
        Scenarios.scenarios,
        (scenario) => Effect.runPromise(Effect.asVoid(attempt(local, mode, scenario, ++serial, strikes)))
      ),
      { seed, numRuns: 1, interruptAfterTimeLimit: shrinkMillis, markInterruptAsFailure: true }
    )
    const found = details.counterexample === null
      ? `It did not happen again. First it was:\n${why}`
      : `${fc.stringify(details.counterexample)}\n${String(details.errorInstance)}\nFirst it was:\n${why}`
    throw new Error(
      `In the mode ${mode.name}, with the seed ${seed}, ${
        strikes.length === 0
          ? "with no fault"
          : strikes.map(({ cell, run, skip }) => `when ${cell.name} (in run ${run}, after ${skip} others)`).join(
            " and "
          )
      }:\n${found}\nPlay it again: ${Replays.command({ mode: mode.name, seed, strikes })}`
    )
  }

  /** Some more than asked for, while there are cells that no fault has struck yet. */
  const goesOn = () => started < sequences || (started < sequences * mostSequences && plan.missing.length > 0)

  /** Tables gather on a server: it is replaced now and then. */
  const onOneServer = Effect.scoped(Effect.gen(function*() {
    const local = yield* server
    for (let played = 0; played < sequencesPerServer && goesOn(); played++) yield* one(local)
  }))

  yield* Effect.forEach(
    Array.from({ length: lanes }, (_, lane) => lane),
    () =>
      Effect.gen(function*() {
        while (goesOn()) yield* onOneServer
      }),
    { concurrency: lanes, discard: true }
  )
  const summary: Summary = {
    sequences: started,
    cells: plan.cells,
    ...totals,
    missing: plan.missing,
    seldom: plan.seldom
  }
  return summary
})

/** Plays one sequence again and again: its timing isn't part of its seed. */
export const replay = (mode: Mode, { seed, strikes }: Replay, times: number) =>
  Effect.scoped(Effect.gen(function*() {
    const local = yield* server
    for (let time = 0; time < times; time++) yield* attempt(local, mode, scenarioOf(seed), time, strikes)
  }))
