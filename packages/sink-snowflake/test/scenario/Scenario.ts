/**
 * One scenario: a table's history, read by several runs of the whole engine and the real sink against a server, one of whose calls goes wrong.
 *
 * The sink and the engine recover by running again, as the runner has them do; whatever fails in a way that no run can mend fails the scenario. In the end the table is
 * compared with its history.
 */
import { isRetryable } from "@etl-stream/core/ConnectorError"
import * as MemoryBudget from "@etl-stream/core/MemoryBudget"
import * as Pipeline from "@etl-stream/core/Pipeline"
import * as Progress from "@etl-stream/core/Progress"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as fc from "fast-check"
import * as SnowflakeSink from "../../src/SnowflakeSink.ts"
import * as Layout from "../../src/TableLayout.ts"
import type { Local } from "../Local.ts"
import { random } from "../MirrorModel.ts"
import type { Cell } from "./Calls.ts"
import * as Calls from "./Calls.ts"
import type { Command } from "./History.ts"
import * as History from "./History.ts"
import type { Mode } from "./Modes.ts"
import { shapes } from "./Shapes.ts"
import type { Run } from "./TableLog.ts"
import { TableLog } from "./TableLog.ts"

export interface Scenario {
  readonly shape: number
  readonly commands: ReadonlyArray<Command>
  readonly runs: ReadonlyArray<Run>
  /** Chunks of a copy. */
  readonly chunks: number
  /** Whether merges run beside the stream, or only at the end of a run. */
  readonly merges: boolean
  readonly connections: number
  /** Channels that the changes of a table with a key are spread over. */
  readonly channels: number
  /** Of the small choices: where batches end, in which order chunks come, what they see. */
  readonly seed: number
}

const rarely = fc.nat(5).map((chance) => chance === 0)

const run: fc.Arbitrary<Run> = fc.record({
  upTo: fc.integer({ min: 0, max: 100 }),
  end: fc.oneof(
    { arbitrary: fc.record({ breaksAfter: fc.nat(25), lingers: fc.boolean() }), weight: 2 },
    { arbitrary: fc.constant("drains" as const), weight: 1 }
  ),
  pauses: fc.nat(3),
  resync: rarely,
  fences: fc.boolean()
})

/** Brings everything into its place. */
const lastRun: Run = { upTo: 100, end: "drains", pauses: 0, resync: false, fences: false }

export const scenarios: fc.Arbitrary<Scenario> = fc.record({
  shape: fc.nat(shapes.length - 1),
  commands: History.commands,
  runs: fc.array(run, { maxLength: 2 }),
  chunks: fc.integer({ min: 1, max: 3 }),
  merges: fc.boolean(),
  connections: fc.integer({ min: 1, max: 2 }),
  channels: fc.constantFrom(1, 1, 3),
  seed: fc.nat()
})

/** What goes wrong, and where: at the call's occurrence `skip` (from 0) in or after a run. */
export interface Strike extends Cell {
  readonly skip: number
}

/** A run of a table of some rows takes seconds; what takes this long hangs. */
const patience = "90 seconds"

/** Failures in a row that no fault explains any more. */
const attempts = 6

/** Nothing is ever decided by a state store, so this one forgets. */
const forgetful: StateStoreShape = {
  get: () => Effect.succeedNone,
  list: () => Effect.succeed([]),
  compareAndSet: () => Effect.succeed(Option.some("1")),
  remove: () => Effect.void
}

export interface Report {
  /** The strikes that came about. */
  readonly struck: ReadonlyArray<Strike>
  readonly runs: number
  readonly failures: ReadonlyArray<string>
  /** Runs that went on with another run's copy. */
  readonly resumed: number
}

const faultOf = ({ call, mishap, skip }: Strike) => ({
  ...mishap.fault,
  endpoint: call.endpoint,
  ...(call.match === undefined ? {} : { match: call.match }),
  ...(skip === 0 ? {} : { skip })
})

const arm = (local: Local, strike: Strike) => local.fault(strike.call.server, faultOf(strike))

/** Whether a fault is still to come. */
const isLeft = (strike: Strike, left: ReadonlyArray<Readonly<Record<string, unknown>>>): boolean =>
  left.some((fault) =>
    fault["kind"] === strike.mishap.fault["kind"] && fault["endpoint"] === strike.call.endpoint &&
    fault["match"] === strike.call.match
  )

const losesUncommitted = ({ mishap }: Strike): boolean => mishap.name === Calls.losesUncommitted

/**
 * Plays a scenario and compares; dies when anything is wrong. `serial` makes its names unique on the server. Each strike is armed before a run of its own, the first before the first
 * one.
 */
export const play = Effect.fnUntraced(function*(
  local: Local,
  mode: Mode,
  scenario: Scenario,
  serial: number,
  strikes: ReadonlyArray<Strike>
): Effect.fn.Return<Report> {
  const suitable = shapes.filter(({ identity }) => mode.keyless || identity._tag === "Key")
  const shape = suitable[scenario.shape % suitable.length]
  if (shape === undefined) return yield* Effect.die("there is no shape")
  const table = Calls.tableName(serial)
  const pipeline = table.toUpperCase()
  const history = History.make(shape, scenario.commands)
  const log = new TableLog(shape, table, history, scenario.chunks, random(scenario.seed))
  const config = local.config({
    merge: { every: scenario.merges ? "10 millis" : "1 hour" },
    copy: { every: scenario.seed % 2 === 0 ? "1 milli" : "30 seconds" },
    connections: scenario.connections,
    tables: shape.identity._tag === "Key" ? { [`public.${table}`]: { channels: scenario.channels } } : {},
    ...mode.options
  })
  const runOnce = (plan: Run) =>
    Effect.scoped(Effect.gen(function*() {
      const sink = yield* SnowflakeSink.make(config, { pipeline, directory: local.directory })
      yield* Pipeline.run({
        name: pipeline,
        source: log.source(plan),
        transforms: [],
        sink,
        batch: { rows: 4, bytes: 1 << 20, every: "1 milli" },
        progress: Progress.make(pipeline),
        state: forgetful,
        stop: Effect.never,
        drain: "1 minute"
      })
    })).pipe(
      Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.die(new Error("a run hangs")) }),
      Effect.provide([MemoryBudget.MemoryBudget.layer(), Logger.layer([])]),
      Effect.exit
    )
  const failures: Array<string> = []
  const armed: Array<Strike> = []
  let made = 0
  for (let planned = 0, unexplained = 0;;) {
    const strike = strikes[made]
    if (strike !== undefined) {
      // What is accepted in this run stays uncommitted, and is lost at the next one's open.
      if (losesUncommitted(strike)) yield* local.fault("streaming", { kind: "slowCommits", millis: 2000 })
      else yield* arm(local, strike)
      armed.push(strike)
    }
    const plan = scenario.runs[planned] ?? lastRun
    const exit = yield* runOnce(plan)
    made++
    if (strike !== undefined && losesUncommitted(strike)) yield* arm(local, strike)
    if (Exit.isSuccess(exit)) {
      if (plan === lastRun) break
      planned++
    } else {
      const error = exit.cause.reasons.find(Cause.isFailReason)?.error
      if (error === undefined || !isRetryable(error)) return yield* Effect.failCause(exit.cause).pipe(Effect.orDie)
      failures.push(`${error.reason}: ${error.message}`)
      if (plan === lastRun && ++unexplained > attempts) return yield* Effect.die(error)
      planned++
    }
    log.rewind()
  }
  const left = yield* local.faults
  const struck = armed.filter((strike) => !isLeft(strike, left))
  yield* local.clearFaults
  const layout = yield* Layout.make(config, pipeline, log.finalSchema).pipe(Effect.orDie)
  yield* mode.verify({ local, pipeline, layout, log, history })
  return { struck, runs: made, failures, resumed: log.resumed }
})
