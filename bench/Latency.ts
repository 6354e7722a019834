/**
 * How long a commit takes to be an Arrow batch that is handed to the sink, and to be durable: at rest, at 2,000 transactions a second, and at half of what the pipeline sustains.
 */
import * as Effect from "effect/Effect"
import * as AtRest from "./AtRest.ts"
import type * as Commits from "./Commits.ts"
import type { Context } from "./Context.ts"
import type { Installed } from "./Installed.ts"
import type { ClientError, Measurement } from "./Measurement.ts"
import * as Pairs from "./Pairs.ts"
import * as Result from "./Result.ts"
import * as Server from "./Server.ts"
import * as UnderLoad from "./UnderLoad.ts"

/** Commits of a round at rest. */
const commits = 500
/** Seconds of a round under load, and those before that aren't looked at. */
const [loadSeconds, warmUpSeconds] = [15, 3]
/** Commits from which the sustained rate is found: they have to take some seconds, as rows are written once a second. */
const unpaced = 200_000

/** Reads while commits are made. */
type Follow = (
  server: Server.Server,
  commits: Commits.Commits
) => Effect.Effect<Measurement & { readonly figures: { readonly perSecond: number } }, ClientError, Installed>

const caseOf = Effect.fnUntraced(function*<E>(
  context: Context,
  server: Server.Server,
  title: string,
  measured: Effect.Effect<Measurement, E, Installed>,
  rows: number,
  bars: ReadonlyArray<Result.Bar> = []
) {
  context.report(`${title}:`)
  const runs = yield* Pairs.run(server, [{ name: "reader", run: measured }], context.rounds, context.report)
  // The commits' rate isn't the reader's.
  const found = { ...Pairs.alone(runs, rows, "reader"), rowsPerSecond: null }
  return Result.judged({ case: title, ...found }, bars)
})

const atRest = Effect.fnUntraced(function*(context: Context, server: Server.Server) {
  const found = yield* caseOf(
    context,
    server,
    "commit -> Arrow batch, one transaction of one row every 10 ms",
    AtRest.run(context.references, server, commits),
    commits,
    [{ of: "p50Above", atMost: 3 }, { of: "p99Above", atMost: 15 }]
  )
  return { ...found, reference: "pg_recvlogical" }
})

const atRate = (
  context: Context,
  server: Server.Server,
  title: string,
  follow: Follow,
  perSecond: number,
  bars: ReadonlyArray<Result.Bar> = []
) => {
  const seconds = Math.max(3, loadSeconds * context.factor)
  const [rows, warmUp] = [Math.round(perSecond * (seconds + warmUpSeconds)), Math.round(perSecond * warmUpSeconds)]
  const measured = Effect.map(follow(server, { perSecond, rows, warmUp }), ({ figures, ...rest }) => {
    const { perSecond: _, ...latency } = figures
    return { ...rest, figures: latency }
  })
  return caseOf(context, server, title, measured, rows, bars)
}

/** Half of the rate at which transactions get through while they are committed as fast as the server can. */
const half = Effect.fnUntraced(function*(context: Context, server: Server.Server, follow: Follow) {
  const rows = Math.round(unpaced * Math.max(0.5, context.factor))
  const { figures } = yield* follow(server, { perSecond: undefined, rows, warmUp: Math.round(rows / 5) })
  context.report(`  sustains ${Math.round(figures.perSecond).toLocaleString("en")} transactions a second`)
  return figures.perSecond / 2
})

export const run = Effect.fnUntraced(function*(context: Context) {
  const server = yield* Server.start()
  const { toArrow, toDurable } = UnderLoad
  const cases = [
    yield* atRest(context, server),
    yield* atRate(context, server, "commit -> Arrow batch, 2,000 transactions of one row a second", toArrow, 2000, [
      { of: "p50", atMost: 40 }
    ]),
    yield* atRate(
      context,
      server,
      "commit -> Arrow batch, at half of the transactions that get through",
      toArrow,
      yield* half(context, server, toArrow)
    ),
    yield* atRate(context, server, "commit -> durable, 100 transactions of one row a second", toDurable, 100),
    yield* atRate(
      context,
      server,
      "commit -> durable, at half of the transactions that get through",
      toDurable,
      yield* half(context, server, toDurable)
    )
  ]
  return Result.result("latency", cases)
})
