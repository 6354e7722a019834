/**
 * What every bench is told.
 */
import type { References } from "./References.ts"

export interface Context {
  readonly references: References
  /** Rounds of each comparison. */
  readonly rounds: number
  /** Rows of each workload, as a share of a full run. */
  readonly factor: number
  /** Workloads or parts to run; undefined: all. */
  readonly only: ReadonlyArray<string> | undefined
  /** Says what is going on. */
  readonly report: (line: string) => void
}
