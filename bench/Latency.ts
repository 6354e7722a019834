/**
 * From a commit to the Arrow batch that is handed to the sink: at rest beside `pg_recvlogical`, which reads the same log at the same time, and while many
 * transactions commit.
 */
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as path from "node:path"
import { Client } from "pg"
import type { Context } from "./Context.ts"
import * as Measurement from "./Measurement.ts"
import * as References from "./References.ts"
import * as Result from "./Result.ts"
import * as Server from "./Server.ts"
import * as Workload from "./Workload.ts"

const never = "FFFFFFFF/FFFFFFFF"
/** Commits of a round at rest, and the milliseconds between them. */
const commits = 500
const between = 10
const perSecond = 2000

/** A process of which every piece of output is timed. */
const timed = (child: ChildProcess, output: "stdout" | "stderr") => {
  let arrived: ((at: number) => void) | undefined
  child[output]?.on("data", () => {
    arrived?.(performance.now())
    arrived = undefined
  })
  return {
    /** When output comes next. */
    next: () =>
      new Promise<number>((resolve) => {
        arrived = resolve
      })
  }
}

const spawned = (command: string, args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

const latencyClient = (options: unknown): readonly [string, ReadonlyArray<string>] => [
  process.execPath,
  [path.join(import.meta.dirname, "client", "latency.ts"), JSON.stringify(options)]
]

interface AtRest {
  readonly ours: ReadonlyArray<number>
  readonly theirs: ReadonlyArray<number>
}

/** One commit at a time; milliseconds from its acknowledgement to its arrival, at both readers. */
const atRest = Effect.fnUntraced(function*(context: Context, server: Server.Server, written: Server.Written) {
  const slot = yield* Server.slotFor(server, written)
  const other = yield* Server.slotFor(server, written, "reference")
  const options = {
    ...Server.slotOptions(server, written, slot),
    until: never,
    rows: Number.MAX_SAFE_INTEGER,
    signals: true
  }
  const ours = yield* spawned(...latencyClient(options))
  const reference = References.recvlogical(server, { ...written, until: never }, other, "-")
  const theirs = yield* spawned(context.references.recvlogical, reference, References.environment(server))
  const client = new Client(server.url)
  yield* Effect.acquireRelease(
    Effect.promise(() => client.connect()),
    () => Effect.promise(() => client.end())
  )
  const [seenByUs, seenByThem] = [timed(ours, "stderr"), timed(theirs, "stdout")]
  return yield* Effect.promise(async (): Promise<AtRest> => {
    const found: { ours: Array<number>; theirs: Array<number> } = { ours: [], theirs: [] }
    const warmUp = 50
    await seenByUs.next() // it is ready
    for (let commit = 0; commit < commits + warmUp; commit++) {
      await new Promise((resolve) => setTimeout(resolve, commit === 0 ? 1000 : between))
      const both = Promise.all([seenByUs.next(), seenByThem.next()])
      await client.query(`INSERT INTO single VALUES (${2_000_000 + commit}, 'a value of some length')`)
      const acknowledged = performance.now()
      const [here, there] = await both
      if (commit < warmUp) continue
      found.ours.push(Math.max(0, here - acknowledged))
      found.theirs.push(Math.max(0, there - acknowledged))
    }
    return found
  })
})

/** Ages of changes while transactions commit at a rate. */
const underLoad = Effect.fnUntraced(function*(
  server: Server.Server,
  written: Server.Written,
  seconds: number
) {
  const slot = yield* Server.slotFor(server, written)
  const rows = perSecond * seconds
  const options = {
    ...Server.slotOptions(server, written, slot),
    until: never,
    rows: rows + written.workload.rows,
    signals: false
  }
  const [reader, writer] = yield* Effect.all([
    Measurement.client("latency", options),
    Measurement.client("writer", { url: server.url, rows, perSecond, connections: 8 })
  ], { concurrency: 2 })
  return {
    ...reader.outcome.figures,
    cpuSeconds: reader.cpuSeconds,
    perSecond: writer.outcome.figures["perSecond"] ?? 0
  }
})

const workload: Workload.Workload = {
  ...Workload.single,
  rows: 1
}

const quiet = Effect.fnUntraced(function*(context: Context) {
  const server = yield* Server.start()
  const rounds: Array<AtRest> = []
  for (let round = 0; round < context.rounds; round++) {
    yield* server.query("DROP TABLE IF EXISTS single; DROP PUBLICATION IF EXISTS single")
    yield* server.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    const written = yield* Server.write(server, workload)
    const found = yield* Effect.scoped(atRest(context, server, written))
    rounds.push(found)
    const show = (values: ReadonlyArray<number>) =>
      `p50 ${Result.percentile(values, 0.5).toFixed(2)} ms, p99 ${Result.percentile(values, 0.99).toFixed(2)} ms`
    context.report(`  at rest: ${show(found.ours)}; pg_recvlogical ${show(found.theirs)}`)
  }
  const above = (p: number) =>
    Result.round(
      Result.median(rounds.map(({ ours, theirs }) => Result.percentile(ours, p) - Result.percentile(theirs, p)))
    )
  const of = (p: number, who: keyof AtRest) => (Result.median(rounds.map((round) => Result.percentile(round[who], p))))
  return Result.judged({
    case: "commit -> Arrow batch, one transaction of one row every 10 ms",
    rows: commits,
    rowsPerSecond: null,
    reference: "pg_recvlogical",
    ratio: null,
    cpuRatio: null,
    peakRssMB: null,
    figures: {
      p50Above: above(0.5),
      p99Above: above(0.99),
      p50: of(0.5, "ours"),
      p99: of(0.99, "ours"),
      referenceP50: of(0.5, "theirs"),
      referenceP99: of(0.99, "theirs")
    }
  }, [{ of: "p50Above", atMost: 3 }, { of: "p99Above", atMost: 15 }])
})

const loaded = Effect.fnUntraced(function*(context: Context) {
  const server = yield* Server.start()
  const seconds = Math.max(3, Math.round(15 * context.factor))
  const rounds: Array<Readonly<Record<string, number>>> = []
  for (let round = 0; round < context.rounds; round++) {
    yield* server.query("DROP TABLE IF EXISTS single; DROP PUBLICATION IF EXISTS single")
    yield* server.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    const written = yield* Server.write(server, workload)
    const found: Readonly<Record<string, number>> = yield* Effect.scoped(underLoad(server, written, seconds))
    rounds.push(found)
    const shown = Object.entries(found).map(([name, value]) => `${name} ${value.toFixed(1)}`)
    context.report(`  under load: ${shown.join(", ")}`)
  }
  const of = (name: string) => (Result.median(rounds.map((round) => round[name] ?? Number.NaN)))
  return Result.judged({
    case: "commit -> Arrow batch, 2,000 transactions of one row a second",
    rows: perSecond * seconds,
    rowsPerSecond: null,
    reference: null,
    ratio: null,
    cpuRatio: null,
    peakRssMB: null,
    figures: { p50: of("p50"), p99: of("p99"), transactionsPerSecond: of("perSecond"), cpuSeconds: of("cpuSeconds") }
  }, [{ of: "p50", atMost: 40 }])
})

export const run = Effect.fnUntraced(function*(context: Context) {
  return Result.result("latency", [yield* Effect.scoped(quiet(context)), yield* Effect.scoped(loaded(context))])
})
