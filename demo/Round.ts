/**
 * One round of the demo: open the shop, mirror it while it is busy, kill what can be killed, close the shop, compare every row.
 */
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as MirrorState from "@etl-stream/testkit/MirrorState"
import * as RowComparison from "@etl-stream/testkit/RowComparison"
import * as Warehouse from "@etl-stream/testkit/Warehouse"
import * as Effect from "effect/Effect"
import { availableParallelism } from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import type { Flags } from "./Flags.ts"
import * as Kills from "./Kills.ts"
import * as Pipeline from "./Pipeline.ts"
import * as Query from "./Query.ts"
import * as Report from "./Report.ts"
import * as Shop from "./Shop.ts"
import * as Workload from "./Workload.ts"

/** Everything that the round starts, up to the point where the pipeline can run. */
const open = Effect.fn("Demo.open")(function*(flags: Flags, report: Report.Report, folder: string) {
  const postgres = yield* EmbeddedPostgres.start()
  report.step(`PostgreSQL 18 runs on ${postgres.host}:${postgres.port}`)
  const size = Shop.sizeOf(flags.rows)
  yield* Shop.create(postgres, size)
  report.step(
    `The shop is built: ${Report.count(yield* Shop.countRows(postgres))} rows in ${Shop.tables.length} tables`
  )
  const warehouse = yield* Warehouse.start({
    main: fileURLToPath(import.meta.resolve("@etl-stream/snowflake-local/main")),
    folder,
    threads: availableParallelism()
  })
  Query.remember(folder, warehouse)
  report.step(`A local Snowflake runs on ${warehouse.url}`)
  const file = Pipeline.writeConfiguration(folder, warehouse)
  const workload = yield* Workload.start({
    url: postgres.url,
    size,
    clerks: 2,
    pause: "15 millis",
    seed: flags.seed
  })
  return { postgres, warehouse, workload, pipeline: { postgres, file, logFile: path.join(folder, "runner.log") } }
})

/** Compares every table both ways and looks for changes that a journal holds twice. */
const compare = Effect.fn("Demo.compare")(function*(
  postgres: EmbeddedPostgres.EmbeddedPostgres,
  mirror: MirrorState.Mirror
) {
  const comparisons = yield* RowComparison.compare({
    postgres: postgres.url,
    snowflake: mirror.session,
    tables: Shop.tables.map((name) => ({
      source: { schema: "public", name },
      target: { database: mirror.database, schema: mirror.schema, name: name.toUpperCase() }
    }))
  })
  return yield* Effect.forEach(comparisons, (comparison) =>
    Effect.map(
      MirrorState.journalState(mirror, comparison.table.replace(/^public\./, "")),
      ({ changes, duplicates }): Report.TableResult => ({ ...comparison, changes, journalDuplicates: duplicates })
    ))
})

/** Plays a round; without `--once` the shop then stays open until it is interrupted. */
export const play = Effect.fn("Demo.round")(function*(flags: Flags, report: Report.Report, folder: string) {
  const startedAt = performance.now()
  const tables = Shop.tables.length
  const { pipeline, postgres, warehouse, workload } = yield* open(flags, report, folder)
  const mirrorNow = Effect.map(warehouse.session, (session): MirrorState.Mirror => ({
    session,
    pipeline: Pipeline.name,
    database: warehouse.database,
    schema: Pipeline.schema
  }))
  /** Work during which the clerks must not fail. */
  const busy = <A, E, R>(work: Effect.Effect<A, E, R>) => Effect.raceFirst(work, workload.failed)
  const changes = (): string => Report.count(workload.counts().changes)
  let kills = 0
  report.step(`Customers come in (seed ${flags.seed}); the pipeline starts with a snapshot`)

  const before = yield* mirrorNow
  const first = yield* Pipeline.run(pipeline)
  const { copied } = yield* busy(Kills.midSnapshot(first, before, tables))
  yield* first.kill("SIGKILL")
  kills++
  report.step(`Killed the runner in mid-snapshot: ${copied} of ${tables} tables were copied`)

  const second = yield* Pipeline.run(pipeline)
  yield* busy(Kills.copied(second, before, tables))
  report.step(`Started it again: all ${tables} tables are copied, changes flow`)
  yield* busy(Kills.midStream(second, before, 3))
  yield* busy(Effect.sleep(`${flags.seconds} seconds`))
  yield* second.kill("SIGKILL")
  kills++
  report.step(`Killed the runner in mid-stream, after ${changes()} changes`)

  const third = yield* Pipeline.run(pipeline)
  yield* busy(Kills.midStream(third, before, 3))
  report.step("Started it again: it goes on where the warehouse is")
  yield* warehouse.kill
  kills++
  report.step(`Killed the warehouse, after ${changes()} changes`)
  yield* busy(Effect.sleep("1 second"))
  yield* warehouse.restart
  const mirror = yield* mirrorNow
  yield* busy(Kills.midStream(third, mirror, 3))
  report.step("Started it again: the pipeline found it")
  yield* busy(Effect.sleep(`${flags.seconds} seconds`))

  yield* workload.pause
  const done = workload.counts()
  report.step(
    `The shop is closed: ${Report.count(done.changes)} changes in ${Report.count(done.transactions)} transactions, ` +
      `${Report.count(done.rolledBack)} more rolled back`
  )
  yield* MirrorState.caughtUp({ postgres, slot: Pipeline.name, mirror, tables: Shop.tables })
  report.step("The mirror has caught up: every journal is merged, PostgreSQL's slot is confirmed")
  const results = yield* compare(postgres, mirror)
  const sum = (pick: (table: Report.TableResult) => number): number =>
    results.reduce((all, table) => all + pick(table), 0)
  const outcome: Report.Outcome = {
    tables: results.length,
    rows: sum(({ rows }) => rows),
    changes: done.changes,
    kills,
    missing: sum(({ missing }) => missing),
    extra: sum(({ extra }) => extra),
    different: sum(({ different }) => different),
    journalDuplicates: sum(({ journalDuplicates }) => journalDuplicates),
    seconds: Math.round((performance.now() - startedAt) / 100) / 10
  }
  report.results(results, outcome)
  const query = Query.suggestion(warehouse.database, Pipeline.schema)
  report.query(query, Query.format(yield* mirror.session.query(query)))

  if (!flags.once) {
    report.text(`
  The shop is open again, until Ctrl-C. Meanwhile, look at both sides from another terminal:

    psql "${postgres.url}"
    npm run demo -- --query ${folder} "${query}"
`)
    yield* third.kill("SIGTERM")
    const runner = yield* Pipeline.run({ ...pipeline, onTerminal: process.stdout.isTTY })
    yield* workload.resume
    yield* busy(runner.ended(Infinity))
  }
  return outcome
})
