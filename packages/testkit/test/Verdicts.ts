/**
 * What a suite says of a plugin, for tests of the suites themselves.
 */
import * as Conformance from "../src/Conformance.ts"

/** Names of the cases that fail, of those whose names have `only` in them, each with why. */
export const failures = async (suite: Conformance.Suite, only = ""): Promise<ReadonlyMap<string, string>> => {
  const found = new Map<string, string>()
  for (const one of suite.cases) {
    if (one.skipped !== undefined || !one.name.includes(only)) continue
    try {
      await Conformance.promise(suite, one)
    } catch (thrown) {
      found.set(one.name, thrown instanceof Error ? thrown.message : String(thrown))
    }
  }
  return found
}
