/**
 * Whether the time for a row stays the same with ten times the rows, and with the same rows spread over more pipelines of one process.
 */
import * as Lsn from "@etl-stream/source-postgres/Lsn"
import * as Effect from "effect/Effect"
import type { Context } from "./Context.ts"
import * as Measurement from "./Measurement.ts"
import * as Pairs from "./Pairs.ts"
import * as Result from "./Result.ts"
import * as Server from "./Server.ts"
import * as Workload from "./Workload.ts"

const counts = [1, 4, 16]

/** The workload `acc` under another name. */
const named = (name: string, rows: number): Workload.Workload => {
  const renamed = (sql: string) => sql.replaceAll(/\bacc\b/g, name)
  return {
    ...Workload.acc,
    name,
    names: [name],
    rows,
    tables: renamed(Workload.acc.tables),
    changes: (of) => Workload.acc.changes(of).map(renamed)
  }
}

/**
 * Right behind the position before the last transaction: a reader that has come there has all rows, and doesn't wait for the server to get through the log of
 * tables that were written later.
 */
const untilLast = ({ beforeLast }: Server.Written): string => Lsn.format((Lsn.parse(beforeLast) ?? 0n) + 1n)

/** Reads what was written to each of several tables, each by a slot of its own. */
const reading = (server: Server.Server, all: ReadonlyArray<Server.Written>) =>
  Effect.scoped(Effect.gen(function*() {
    const slots = yield* Effect.forEach(all, (written) =>
      Effect.map(Server.slotFor(server, written), (slot) => ({
        ...Server.slotOptions(server, written, slot),
        until: untilLast(written)
      })))
    const measured = yield* Measurement.client("pipelines", { slots })
    const rows = all.reduce((sum, { workload }) => sum + workload.rows, 0)
    if (measured.rows !== rows) {
      return yield* new Measurement.ClientError({ message: `read ${measured.rows} rows of ${rows}` })
    }
    return measured
  }))

const caseOf = (
  runs: ReadonlyMap<string, ReadonlyArray<Pairs.Run>>,
  name: string,
  reference: string,
  title: string
): Result.Case => {
  const perRow = (run: Pairs.Run | undefined) => run === undefined ? Number.NaN : run.seconds / run.rows
  const ours = runs.get(name) ?? []
  const theirs = runs.get(reference) ?? []
  const [first] = ours
  const median = (value: (run: Pairs.Run | undefined) => number) =>
    Result.median(ours.map((run, index) => value(run) / value(theirs[index])))
  return Result.judged({
    case: title,
    ...Pairs.alone(runs, first?.rows ?? 0, name),
    reference,
    ratio: median(perRow),
    cpuRatio: median((run) => run === undefined ? Number.NaN : run.cpuSeconds / run.rows)
  }, name === "4 pipelines" ? [] : [{ of: "ratio", atMost: 1.1 }])
}

export const run = Effect.fnUntraced(function*(context: Context) {
  const server = yield* Server.start()
  const rows = Math.round(1_200_000 * context.factor)
  // One after the other: each slot's log then begins and ends with its own rows.
  const small = yield* Server.write(server, named("few_rows", Math.round(rows / 4)))
  const large = yield* Server.write(server, named("many_rows", Math.round(rows / 4) * 10))
  const spread = yield* Effect.forEach(
    counts,
    (count) =>
      Effect.forEach(
        Array.from({ length: count }, (_, index) => index),
        (index) => Server.write(server, named(`of_${count}_${index}`, Math.round(rows / count)))
      )
  )
  const contenders = [
    { name: "a tenth of the rows", run: reading(server, [small]) },
    { name: "ten times the rows", run: reading(server, [large]) },
    ...counts.map((count, index) => ({
      name: count === 1 ? "1 pipeline" : `${count} pipelines`,
      run: reading(server, spread[index] ?? [])
    }))
  ]
  const runs = yield* Pairs.run(server, contenders, context.rounds, context.report)
  return Result.result("scale", [
    caseOf(runs, "ten times the rows", "a tenth of the rows", "time for a row at ten times the rows"),
    caseOf(runs, "4 pipelines", "1 pipeline", "time for a row, the same rows by 4 pipelines"),
    caseOf(runs, "16 pipelines", "1 pipeline", "time for a row, the same rows by 16 pipelines")
  ])
})
