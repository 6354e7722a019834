/**
 * All checks, in the order in which they are run.
 */
import type { Check } from "./Check.ts"
import * as ScenarioChecks from "./ScenarioChecks.ts"
import * as SqlChecks from "./SqlChecks.ts"
import * as StreamingChecks from "./StreamingChecks.ts"

export const all: ReadonlyArray<Check> = [...StreamingChecks.checks, ...SqlChecks.checks, ...ScenarioChecks.checks]
