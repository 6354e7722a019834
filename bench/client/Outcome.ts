/**
 * What a client of the bench says at its end, as one line of JSON.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

const Outcome = Schema.Struct({
  rows: Schema.Finite,
  cpuSeconds: Schema.Finite,
  peakRssMB: Schema.Finite,
  /** Whatever else it measured. */
  figures: Schema.Record(Schema.String, Schema.Finite)
})
export type Outcome = typeof Outcome.Type

const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Outcome))

export const parse = (line: string): Outcome | undefined => Option.getOrUndefined(decode(line))

/** Prints the outcome of this process. */
export const print = (rows: number, figures: Readonly<Record<string, number>> = {}): void => {
  const { maxRSS, systemCPUTime, userCPUTime } = process.resourceUsage()
  const outcome: Outcome = {
    rows,
    cpuSeconds: (userCPUTime + systemCPUTime) / 1e6,
    // In KiB.
    peakRssMB: (maxRSS * 1024) / 1e6,
    figures
  }
  process.stdout.write(`${JSON.stringify(outcome)}\n`)
}
