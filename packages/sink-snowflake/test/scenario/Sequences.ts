/**
 * Many scenarios over all cells of the matrix (calls x what goes wrong with them), several at a time, each on a server of its own.
 *
 * The calls are those that the sink was seen to make. Every cell gets a scenario of its own until its fault has struck, so in the end each was struck, or the matrix says which
 * was not. What fails is made smaller by fast-check, and told with the seed that brings it about again.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as fc from "fast-check"
import * as Local from "../Local.ts"
import { random } from "../MirrorModel.ts"
import type { Call, Cell } from "./Calls.ts"
import * as Calls from "./Calls.ts"
import type { Mode } from "./Modes.ts"
import type { Report, Scenario, Strike } from "./Scenario.ts"
import * as Scenarios from "./Scenario.ts"

export interface Options {
  readonly modes: ReadonlyArray<Mode>
  readonly sequences: number
  readonly seed: number
  /** Servers, with one scenario at a time on each. */
  readonly lanes: number
  /** How often each cell must have been struck. */
  readonly strikes: number
}

interface Known {
  readonly cell: Cell
  struck: number
  tried: number
  /** Sequences in which the call was seen, with how often. */
  readonly seen: Array<{ readonly seed: number; readonly mode: Mode; readonly calls: number }>
}

export interface Summary {
  readonly sequences: number
  readonly cells: number
  readonly strikes: number
  readonly runs: number
  readonly resumed: number
  /** Cells that weren't struck often enough. */
  readonly missing: ReadonlyArray<string>
}

/** How many times as many sequences there may be, for cells that were hard to strike. */
const mostSequences = 1.3
const sequencesPerServer = 200
/** Faults per sequence, each in a run of its own. */
const strikesPerSequence = 2
/** Sequences of each mode without a fault, which show the calls. */
const undisturbed = 8

interface Planned {
  readonly seed: number
  readonly mode: Mode
  readonly strikes: ReadonlyArray<readonly [known: Known, strike: Strike]>
}

/** A smaller counterexample is looked for this long. */
const shrinkMillis = 120_000

const scenarioOf = (seed: number): Scenario => {
  const [scenario] = fc.sample(Scenarios.scenarios, { seed, numRuns: 1 })
  if (scenario === undefined) throw new Error("fast-check made no scenario")
  return scenario
}

export const run = Effect.fnUntraced(function*(options: Options) {
  const { lanes, modes, seed, sequences, strikes } = options
  const cells = new Map<string, Known>()
  const add = (cell: Cell): void => {
    const name = Calls.cellName(cell)
    if (!cells.has(name)) cells.set(name, { cell, struck: 0, tried: 0, seen: [] })
  }
  for (const cell of Calls.endpointCells) add(cell)
  const chance = random(seed)
  let started = 0
  let serial = 0
  const totals = { strikes: 0, runs: 0, resumed: 0 }

  /** Learns which calls a sequence makes. */
  const learn = (
    calls: ReadonlyMap<string, { readonly call: Call; readonly count: number }>,
    at: number,
    mode: Mode
  ) => {
    for (const { call, count } of calls.values()) {
      for (const cell of Calls.statementCells(call)) {
        add(cell)
        const known = cells.get(Calls.cellName(cell))
        if (known !== undefined && known.seen.length < 8) known.seen.push({ seed: at, mode, calls: count })
      }
    }
  }

  /** The cells that were struck least, each with where to strike it. */
  const strikesFor = (at: (known: Known) => number): ReadonlyArray<readonly [known: Known, strike: Strike]> =>
    [...cells.values()].sort((a, b) => a.struck - b.struck || a.tried - b.tried).filter((known) => at(known) > 0).slice(
      0,
      strikesPerSequence
    ).map((known) => {
      known.tried++
      return [known, { ...known.cell, skip: known.tried > 3 ? 0 : chance(at(known)) }] as const
    })

  /** The next sequence: its scenario's seed, its mode, and what strikes where. The first ones are left alone, to see the calls. */
  const next = (index: number): Planned => {
    const own = (seed + Math.imul(index, 7919)) | 0
    const mode = modes[index % modes.length] as Mode // never empty
    if (index < undisturbed * modes.length) return { seed: own, mode, strikes: [] }
    const [least] = [...cells.values()].sort((a, b) => a.struck - b.struck || a.tried - b.tried)
    // A sequence that made the call will make it again. Calls of endpoints are always made.
    const again = least?.seen[least.tried % Math.max(1, least.seen.length)]
    return again === undefined
      ? { seed: own, mode, strikes: strikesFor(({ cell }) => cell.call.match === undefined ? 2 : 0) }
      : {
        seed: again.seed,
        mode: again.mode,
        strikes: strikesFor(({ cell, seen }) =>
          cell.call.match === undefined ? 2 : seen.find(({ seed }) => seed === again.seed)?.calls ?? 0
        )
      }
  }

  const attempt = (local: Local.Local, mode: Mode, scenario: Scenario, strikes: ReadonlyArray<Strike>) =>
    Effect.gen(function*() {
      yield* local.clearFaults
      yield* local.clearStatements
      return yield* Scenarios.play(local, mode, scenario, ++serial, strikes)
    })

  const one = (local: Local.Local) =>
    Effect.gen(function*() {
      const { mode, seed: own, strikes: planned } = next(started++)
      const strikes = planned.map(([, strike]) => strike)
      const scenario = scenarioOf(own)
      const exit = yield* Effect.exit(attempt(local, mode, scenario, strikes))
      if (Exit.isFailure(exit)) {
        return yield* Effect.promise(() => shrink(local, mode, own, strikes, String(exit.cause)))
      }
      const report: Report = exit.value
      totals.runs += report.runs
      totals.resumed += report.resumed
      for (const [known, strike] of planned) {
        if (!report.struck.includes(strike)) continue
        known.struck++
        totals.strikes++
      }
      const calls = new Map<string, { call: Call; count: number }>()
      for (const { sql } of yield* local.statements) {
        const call = Calls.statementCall(sql)
        const entry = calls.get(call.label) ?? { call, count: 0 }
        entry.count++
        calls.set(call.label, entry)
      }
      if (strikes.length === 0) learn(calls, own, mode)
    })

  /** Fails with the smallest scenario that goes wrong in this way. */
  const shrink = async (
    local: Local.Local,
    mode: Mode,
    own: number,
    strikes: ReadonlyArray<Strike>,
    why: string
  ) => {
    const details = await fc.check(
      fc.asyncProperty(
        Scenarios.scenarios,
        (scenario) => Effect.runPromise(Effect.asVoid(attempt(local, mode, scenario, strikes)))
      ),
      { seed: own, numRuns: 1, interruptAfterTimeLimit: shrinkMillis, markInterruptAsFailure: true }
    )
    const found = details.counterexample === null
      ? `It did not happen again. First it was:\n${why}`
      : `${fc.stringify(details.counterexample)}\n${String(details.errorInstance)}`
    throw new Error(
      `In mode ${mode.name}, with the seed ${own}, ${
        strikes.length === 0
          ? "with no fault"
          : strikes.map((strike) => `when ${Calls.cellName(strike)} (after ${strike.skip} others)`).join(" and ")
      }:\n${found}`
    )
  }

  const missing = () => [...cells].filter(([, { struck }]) => struck < strikes).map(([name]) => name)
  /** Some more than asked for, while there are cells that no fault has struck yet. */
  const goesOn = () => started < sequences || (started < sequences * mostSequences && missing().length > 0)

  /** Tables gather on a server: it is replaced now and then. */
  const onOneServer = Effect.scoped(Effect.gen(function*() {
    const local = yield* Local.start({
      abandonedAfterMillis: 200,
      streaming: { commitDelayMillis: { min: 0, max: 2 } }
    })
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
    cells: cells.size,
    ...totals,
    missing: missing()
  }
  return summary
})
