/**
 * Clients measured in turn, round by round, so that whatever else the machine does meets them alike; figures are medians of the ratios within each round.
 */
import * as Effect from "effect/Effect"
import type { Installed } from "./Installed.ts"
import type { ClientError, Measurement } from "./Measurement.ts"
import * as Result from "./Result.ts"
import type { Server } from "./Server.ts"

/** A client, and the processor time of the server while it ran. */
export interface Run extends Measurement {
  readonly serverCpuSeconds: number
}

export interface Contender<E = ClientError> {
  readonly name: string
  readonly run: Effect.Effect<Measurement, E, Installed>
}

const settle = 0.05

/** `rounds` rounds of all contenders, in turns that go forth and back. */
export const run = Effect.fnUntraced(function*<E>(
  server: Server,
  contenders: ReadonlyArray<Contender<E>>,
  rounds: number,
  report: (line: string) => void
): Effect.fn.Return<ReadonlyMap<string, ReadonlyArray<Run>>, E, Installed> {
  const runs = new Map<string, Array<Run>>(contenders.map(({ name }) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const { name, run } of round % 2 === 0 ? contenders : contenders.toReversed()) {
      const before = server.cpuSeconds()
      const measured = yield* run
      // The server reaps a session's process a little after its client's end.
      yield* Effect.sleep(`${settle} seconds`)
      const serverCpuSeconds = server.cpuSeconds() - before
      runs.get(name)?.push({ ...measured, serverCpuSeconds })
      report(
        [
          `  ${name}: ${measured.seconds.toFixed(2)} s`,
          `client ${measured.cpuSeconds.toFixed(2)} s CPU`,
          `server ${serverCpuSeconds.toFixed(2)} s CPU`,
          ...(measured.peakRssMB > 0 ? [`${measured.peakRssMB.toFixed(0)} MB`] : []),
          ...Object.entries(measured.figures ?? {}).map(([figure, value]) => `${figure} ${value.toFixed(2)}`)
        ].join(", ")
      )
    }
  }
  return runs
})

const medians = (runs: ReadonlyArray<Run>, value: (run: Run) => number): number => Result.median(runs.map(value))

/** The medians of one contender. */
export const alone = (
  runs: ReadonlyMap<string, ReadonlyArray<Run>>,
  rows: number,
  name: string
): Omit<Result.Found, "case"> => {
  const ours = runs.get(name) ?? []
  const seconds = Result.median(ours.map((run) => run.seconds))
  const peak = Math.max(...ours.map((run) => run.peakRssMB))
  const own = new Set(ours.flatMap(({ figures = {} }) => Object.keys(figures)))
  return {
    rows,
    rounds: ours.length,
    rowsPerSecond: Math.round(rows / seconds),
    reference: null,
    ratio: null,
    cpuRatio: null,
    peakRssMB: peak > 0 ? peak : null,
    figures: {
      seconds,
      cpuSeconds: medians(ours, (run) => run.cpuSeconds),
      serverCpuSeconds: medians(ours, (run) => run.serverCpuSeconds),
      ...Object.fromEntries(
        Array.from(own, (figure) => [figure, medians(ours, ({ figures = {} }) => figures[figure] ?? Number.NaN)])
      )
    }
  }
}

/** The medians of one contender beside those of another. */
export const compared = (
  runs: ReadonlyMap<string, ReadonlyArray<Run>>,
  rows: number,
  name: string,
  reference: string
): Omit<Result.Found, "case"> => {
  const theirs = runs.get(reference) ?? []
  const ratios = (value: (run: Run) => number) =>
    Result.median((runs.get(name) ?? []).flatMap((run, index) => {
      const other = theirs[index]
      return other === undefined ? [] : [value(run) / value(other)]
    }))
  const found = alone(runs, rows, name)
  return {
    ...found,
    reference,
    ratio: ratios((run) => 1 / run.seconds),
    cpuRatio: ratios((run) => run.cpuSeconds),
    figures: {
      ...found.figures,
      referenceSeconds: medians(theirs, (run) => run.seconds),
      referenceCpuSeconds: medians(theirs, (run) => run.cpuSeconds),
      referenceServerCpuSeconds: medians(theirs, (run) => run.serverCpuSeconds)
    }
  }
}
