/**
 * Checks of an environment: each has a stable name, says what it looks at, and judges facts that were read before.
 *
 * Judging is pure, so the same checks serve a run (which reads few facts) and `etl-stream doctor` (which reads many), and pages about them are
 * compared with the list itself.
 */
import type { Finding, Found, Severity } from "./Finding.ts"

export interface Check<in Facts> {
  /** Lower case with hyphens. Never changed once published. */
  readonly name: string
  /** What is in order when nothing is found: `wal_level is logical`. */
  readonly looksAt: string
  /** How bad its findings can be. */
  readonly severities: ReadonlyArray<Exclude<Severity, "ok">>
  readonly find: (facts: Facts) => Iterable<Found>
}

/** What each check finds in `facts`; one that finds nothing gives a finding that is `ok`. */
export const evaluate = <Facts>(checks: ReadonlyArray<Check<Facts>>, facts: Facts): ReadonlyArray<Finding> =>
  checks.flatMap(({ find, looksAt, name }): ReadonlyArray<Finding> => {
    const found = [...find(facts)]
    return found.length === 0
      ? [{ check: name, severity: "ok", message: looksAt, remedy: "", sql: [] }]
      : found.map((finding) => ({ check: name, ...finding }))
  })
