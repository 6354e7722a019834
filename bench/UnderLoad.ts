/**
 * While transactions of one row commit: how old they are, by their commit times, as Arrow batches, and when they are durable.
 *
 * A row is durable when the ingest host answers a status that says it is committed: from then on the pipeline confirms it to PostgreSQL. The host takes rows at once (`client/nullIngest.ts`),
 * so that what Snowflake takes for a commit isn't part of it.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { percentile } from "./client/percentile.ts"
import * as Commits from "./Commits.ts"
import * as LocalSnowflake from "./LocalSnowflake.ts"
import { clientError } from "./Measurement.ts"
import * as Measurement from "./Measurement.ts"
import * as NullIngest from "./NullIngest.ts"
import * as Runner from "./Runner.ts"
import * as Server from "./Server.ts"

/** Waits until somebody reads the slot. */
const isRead = (server: Server.Server, slot: string) =>
  server.query("SELECT active FROM pg_replication_slots WHERE slot_name = $1", [slot]).pipe(
    Effect.repeat({ schedule: Schedule.spaced("20 millis"), until: ([row]) => row?.["active"] === true }),
    Effect.asVoid
  )

/** From a commit to the batch that is handed to the sink. */
export const toArrow = Effect.fnUntraced(function*(server: Server.Server, commits: Commits.Commits) {
  const written = yield* Effect.mapError(Commits.fresh(server), clientError)
  const slot = yield* Effect.mapError(Server.slotFor(server, written), clientError)
  const { rows, warmUp } = commits
  const options = {
    ...Server.slotOptions(server, written, slot),
    until: Server.never,
    rows: rows + Commits.workload.rows,
    warmUp,
    signals: false
  }
  const [{ outcome, ...reader }, seconds] = yield* Effect.all([
    Measurement.client("latency", options),
    Effect.mapError(Effect.andThen(isRead(server, slot), Commits.write(server, commits)), clientError)
  ], { concurrency: 2 })
  const { p50 = Number.NaN, p99 = Number.NaN, perSecond = Number.NaN } = outcome.figures
  return { ...reader, seconds, rows, figures: { p50, p99, transactionsPerSecond: rows / seconds, perSecond } }
}, Effect.scoped)

/** From a commit to its being durable, through the whole runner with its defaults. */
export const toDurable = Effect.fnUntraced(function*(server: Server.Server, commits: Commits.Commits) {
  const { rows, warmUp } = commits
  const ingest = yield* NullIngest.start({ looksInto: true })
  const local = yield* LocalSnowflake.start(ingest.host)
  const { name, names } = Commits.workload
  const options = { server, local, tables: names, publication: name, mode: "changelog", channels: 1 } as const
  const written = yield* Effect.mapError(Commits.fresh(server, Runner.prepare(options)), clientError)
  const slot = yield* Effect.mapError(Server.slotFor(server, written, "runner"), clientError)
  const runner = yield* Runner.start({ ...options, slot })
  const begun = yield* runner.logged("streaming changes")
  const all = Runner.until(runner, ingest.last, {
    everyMillis: 100,
    progress: ({ told }) => told,
    done: ({ told }) => told >= rows + Commits.workload.rows
  })
  const [seconds] = yield* Effect.all([Effect.mapError(Commits.write(server, commits), clientError), all], {
    concurrency: 2
  })
  const { at, committed } = yield* ingest.told
  const ages = committed.slice(warmUp).map((time, index) => (at[warmUp + index] ?? Number.NaN) - time)
  const perSecond = (ages.length * 1000) / ((at.at(-1) ?? Number.NaN) - (committed[warmUp] ?? Number.NaN))
  return {
    ...runner.measured(rows, begun, begun + seconds * 1000),
    figures: {
      p50: percentile(ages, 0.5),
      p99: percentile(ages, 0.99),
      transactionsPerSecond: rows / seconds,
      perSecond
    }
  }
}, Effect.scoped)
