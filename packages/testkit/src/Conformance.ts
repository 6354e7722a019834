/**
 * A conformance suite: named cases that any test runner can run, and `etl-stream plugin test` without one.
 *
 * Each kind of plugin has a module that makes its suite from what the kit needs to know of the plugin (`SourceConformance`, `TransformConformance`,
 * `SinkConformance`, `StateStoreConformance`, `NotifierConformance`, `DeadLetterStoreConformance`). A plugin package exports one suite, or several, as
 * `conformance` from the module that its manifest names, and hands the same to its test runner:
 *
 * ```ts
 * import * as Conformance from "@etl-stream/testkit/Conformance"
 * import { describe, it } from "vitest"
 * import { conformance } from "../src/conformance.ts"
 *
 * Conformance.register(conformance, { describe, it: (name, run) => it(name, run, 120_000), skip: it.skip })
 * ```
 *
 * Nothing here imports a test runner; assertions are Node's.
 */
import type { Kind } from "@etl-stream/core/Plugin"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

/** One behaviour that a plugin has to show. */
export interface Case {
  /** A sentence that states the behaviour. */
  readonly name: string
  /** Fails, or dies by an `AssertionError`, when it isn't shown. */
  readonly run: Effect.Effect<void, unknown, Scope.Scope>
  /** Why it can't be tried with this plugin (what the plugin says it can't do); undefined: it can. */
  readonly skipped: string | undefined
}

export interface Suite {
  readonly kind: Kind
  /** The plugin's name. */
  readonly plugin: string
  readonly cases: ReadonlyArray<Case>
  /** How long a case may take. */
  readonly timeout: Duration.Duration
}

/** Runs a case to its end within the suite's time: rejects with what it failed by. */
export const promise = (suite: Suite, { name, run }: Case): Promise<void> =>
  Effect.runPromise(Effect.gen(function*() {
    const fiber = yield* Effect.forkDetach(Effect.scoped(run))
    return yield* Fiber.join(fiber).pipe(
      Effect.timeoutOrElse({
        duration: suite.timeout,
        // What it holds may never be released, so nobody waits for that.
        orElse: () =>
          Effect.andThen(
            Effect.forkDetach(Fiber.interrupt(fiber)),
            Effect.die(new Error(`"${name}" was not over in time`))
          )
      })
    )
  }))

/** What `register` needs of a test runner: those of vitest, Jest, Mocha and `node:test` fit. */
export interface Runner {
  readonly describe: (name: string, tests: () => void) => unknown
  readonly it: (name: string, run: () => Promise<void>) => unknown
  /** Registers a test that isn't run (`it.skip`), so that the report names it. */
  readonly skip?: (name: string, run: () => Promise<void>) => unknown
}

/**
 * Registers the cases of suites as tests. Those that can't be tried are skipped, with the reason behind their names; where the runner has no `skip` the suite's title says how many there
 * are, and `etl-stream plugin test` which.
 */
export const register = (suites: Suite | ReadonlyArray<Suite>, { describe, it, skip }: Runner): void => {
  for (const suite of Array.isArray(suites) ? suites as ReadonlyArray<Suite> : [suites as Suite]) { // Array.isArray doesn't narrow readonly arrays
    const left = suite.cases.filter(({ skipped }) => skipped !== undefined).length
    const title = `${suite.plugin}, conformance of its ${suite.kind}`
    describe(left === 0 || skip !== undefined ? title : `${title} (${left} of its cases can't be tried)`, () => {
      for (const test of suite.cases) {
        const run = () => promise(suite, test)
        if (test.skipped === undefined) it(test.name, run)
        else skip?.(`${test.name} (not tried: ${test.skipped})`, run)
      }
    })
  }
}
