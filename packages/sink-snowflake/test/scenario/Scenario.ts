/**
 * One scenario: a table's history, read by several runs of the whole engine and the real sink against a server, one of whose calls goes wrong.
 *
 * The sink and the engine recover by running again, as the runner has them do; whatever fails in a way that no run can mend fails the scenario. In the end the table is
 * compared with its history.
 */
import { ConnectorError, isRetryable } from "@etl-stream/core/ConnectorError"
import * as MemoryBudget from "@etl-stream/core/MemoryBudget"
import * as Pipeline from "@etl-stream/core/Pipeline"
import * as Progress from "@etl-stream/core/Progress"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as fc from "fast-check"
import { literal } from "../../src/Identifier.ts"
import * as SnowflakeSink from "../../src/SnowflakeSink.ts"
import * as Layout from "../../src/TableLayout.ts"
import type { Local } from "../Local.ts"
import { random } from "../MirrorModel.ts"
import type { Cell } from "./Calls.ts"
import * as Calls from "./Calls.ts"
import type { Command } from "./History.ts"
import * as History from "./History.ts"
import type { Mode } from "./Modes.ts"
import type { Shape } from "./Shapes.ts"
import { shapes } from "./Shapes.ts"
import * as Statements from "./Statements.ts"
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
  fences: fc.boolean(),
  overtaken: rarely
})

/** Brings everything into its place; where merges run beside the stream, with time for some. */
const lastRunOf = ({ merges }: Scenario): Run => ({
  upTo: 100,
  end: "drains",
  pauses: merges ? 2 : 0,
  resync: false,
  fences: false,
  overtaken: false
})

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

/** What goes wrong, and where: at the call's occurrence `skip` (from 0) in the run `run` (from 0) or later. */
export interface Strike {
  readonly cell: Cell
  readonly run: number
  readonly skip: number
}

/** A run of a table of some rows takes seconds; what takes this long hangs. */
const patience = "90 seconds"

/** Failures in a row that no fault explains any more. */
const attempts = 6

/** What a run is delayed by that another one overtakes: the other has logged in and merged by then. */
const slowMillis = 1500
const merging = Statements.statements.flatMap(({ match, name }) => name === "merging changes" ? [match] : []).join("|")

const overtaken = new ConnectorError({
  reason: "Unreachable",
  plugin: "test",
  message: "the run was overtaken",
  hint: "It is part of the test."
})

/** The failure of a run that another run mends. */
const retryable = (cause: Cause.Cause<ConnectorError>): ConnectorError | undefined => {
  const error = cause.reasons.find(Cause.isFailReason)?.error
  return error !== undefined && isRetryable(error) ? error : undefined
}

/** Nothing is ever decided by a state store, so this one forgets. */
const forgetful: StateStoreShape = {
  get: () => Effect.succeedNone,
  list: () => Effect.succeed([]),
  compareAndSet: () => Effect.succeed(Option.some("1")),
  remove: () => Effect.void,
  now: Clock.currentTimeMillis
}

export interface Report {
  /** The strikes that came about. */
  readonly struck: ReadonlyArray<Strike>
  readonly runs: number
  readonly failures: ReadonlyArray<string>
  /** Runs that went on with another run's copy. */
  readonly resumed: number
  /** The statements of each run. */
  readonly statements: ReadonlyArray<ReadonlyArray<string>>
}

const faultOf = ({ call, mishap }: Cell, skip: number) => ({
  ...mishap.fault,
  endpoint: call.endpoint,
  ...(call.statement === undefined ? {} : { match: call.statement.match }),
  ...(skip === 0 ? {} : { skip })
})

const arm = (local: Local, { cell, skip }: Strike): Effect.Effect<void> =>
  local.fault(cell.call.server, faultOf(cell, skip))

/** Whether a fault is still to come. */
const isLeft = ({ cell }: Strike, left: ReadonlyArray<Readonly<Record<string, unknown>>>): boolean => {
  const { kind, endpoint, match } = { match: undefined, ...faultOf(cell, 0), kind: cell.mishap.fault["kind"] }
  return left.some((fault) => fault["kind"] === kind && fault["endpoint"] === endpoint && fault["match"] === match)
}

const losesUncommitted = ({ cell }: Strike): boolean => cell.mishap.name === Calls.losesUncommitted

/** The table that a scenario is of, in this mode. */
export const shapeOf = (mode: Mode, scenario: Scenario): Shape => {
  const suitable = shapes.filter(({ identity }) => mode.keyless || identity._tag === "Key")
  const shape = suitable[scenario.shape % suitable.length]
  if (shape === undefined) throw new Error("there is no shape")
  return shape
}

/** Plays a scenario and compares; dies when anything is wrong. `serial` makes its names unique on the server. */
export const play = Effect.fnUntraced(function*(
  local: Local,
  mode: Mode,
  scenario: Scenario,
  serial: number,
  strikes: ReadonlyArray<Strike>
): Effect.fn.Return<Report> {
  const shape = shapeOf(mode, scenario)
  const table = Statements.tableName(serial)
  const pipeline = table.toUpperCase()
  const history = History.make(shape, scenario.commands)
  const ownTag = `"pipeline":"${pipeline}"`
  const spread = shape.identity._tag === "Key" && scenario.channels > 1
  const log = new TableLog(shape, table, history, scenario.chunks, random(scenario.seed))
  const config = local.config({
    merge: { every: scenario.merges ? "10 millis" : "1 hour" },
    copy: { every: scenario.seed % 2 === 0 ? "1 milli" : "30 seconds" },
    connections: scenario.connections,
    tables: spread ? { [`public.${table}`]: { channels: scenario.channels } } : {},
    ...mode.options
  })
  /** Whether Snowflake holds an unfinished copy that the next run may go on with. */
  const copying = Effect.map(
    local.query(
      `SELECT COUNT(*) AS "n" FROM RAW.ETL_STREAM.TABLES WHERE "PIPELINE" = ${
        literal(pipeline)
      } AND "COPY_PLAN" IS NOT NULL`
    ),
    ([row]) => Number(row?.["n"]) > 0
  )
  const runOnce = (plan: Run, overtaken?: Effect.Effect<void>) =>
    Effect.scoped(Effect.gen(function*() {
      const sink = yield* SnowflakeSink.make(config, { pipeline, directory: local.directory })
      yield* Pipeline.run({
        name: pipeline,
        source: log.source(plan, copying, overtaken),
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
  /** Starts a run and leaves it when its source would fail; it ends while or after the next one runs. */
  const leave = Effect.fnUntraced(function*(plan: Run) {
    const [stalls, goes] = [Deferred.makeUnsafe<void>(), Deferred.makeUnsafe<void>()]
    // A merge that it has begun to look at gets to Snowflake after those of the next run.
    yield* local.fault("driver", { kind: "delay", endpoint: "query", match: merging, millis: slowMillis })
    const older = yield* Effect.forkChild(
      runOnce(plan, Effect.andThen(Deferred.succeed(stalls, undefined), Deferred.await(goes)))
    )
    const ended = yield* Effect.raceFirst(
      Fiber.join(older),
      Effect.as(Deferred.await(stalls), Exit.fail(overtaken))
    )
    // What it has begun comes to its end, too late.
    const late = Effect.raceFirst(Effect.asVoid(Fiber.join(older)), Effect.sleep(slowMillis))
    return {
      exit: ended,
      end: late.pipe(Effect.andThen(Deferred.succeed(goes, undefined)), Effect.andThen(Fiber.join(older)))
    }
  })
  let older: Effect.Effect<Exit.Exit<void, ConnectorError>> | undefined
  const lastRun = lastRunOf(scenario)
  const failures: Array<string> = []
  const armed: Array<Strike> = []
  const statements: Array<ReadonlyArray<string>> = []
  yield* local.clearStatements
  for (let planned = 0, unexplained = 0;;) {
    const coming = strikes.filter(({ run }) => run === statements.length)
    for (const strike of coming) {
      // What is accepted in this run stays uncommitted, and is lost at the next one's open.
      if (losesUncommitted(strike)) yield* local.fault("streaming", { kind: "slowCommits", millis: 2000 })
      else yield* arm(local, strike)
      armed.push(strike)
    }
    const plan = scenario.runs[planned] ?? lastRun
    const earlier = older
    const { end, exit: own } = plan.overtaken && plan.end !== "drains"
      ? yield* leave(plan)
      : { exit: yield* runOnce(plan), end: undefined }
    older = end
    const left = earlier === undefined ? Exit.void : yield* earlier
    // A run that was overtaken ends by itself or is fenced; nothing worse may become of it.
    const exit = Exit.isFailure(left) && retryable(left.cause) === undefined ? left : own
    for (const strike of coming) if (losesUncommitted(strike)) yield* arm(local, strike)
    statements.push((yield* local.statements).filter(({ tag }) => tag.includes(ownTag)).map(({ sql }) => sql))
    yield* local.clearStatements
    if (Exit.isSuccess(exit)) {
      if (plan === lastRun) break
      planned++
    } else {
      const error = retryable(exit.cause)
      if (error === undefined) return yield* Effect.failCause(exit.cause).pipe(Effect.orDie)
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
  return { struck, runs: statements.length, failures, resumed: log.resumed, statements }
})
