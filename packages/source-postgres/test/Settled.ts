/**
 * Runs that end as `Fenced` and begin again, as the runner has them, and which tables they copy.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

/** Names of the tables whose copies begin, and a way to forget those so far. */
export const copiesOf = () => {
  const copies: Array<string> = []
  const each: SourceRun.StartOptions["each"] = (element) =>
    Effect.sync(() => element._tag === "SnapshotBegin" ? copies.push(element.table.table.name) : 0)
  return { each, take: () => copies.splice(0).sort() }
}

/** Lets `run` catch up, beginning again whenever it ends as `Fenced`, as the runner does. Returns how often that was. */
export const settle = Effect.fnUntraced(function*(
  name: string,
  mirror: Mirror,
  options: SourceRun.StartOptions,
  first: SourceRun.Run | undefined
) {
  let run = first ?? (yield* SourceRun.start(name, mirror, options))
  for (let restarts = 0;; restarts++) {
    const failed = yield* Effect.match(run.caughtUp, { onFailure: (error) => error, onSuccess: () => undefined })
    if (failed === undefined) return { run, restarts }
    assert.strictEqual(failed.reason, "Fenced", failed.message)
    assert.isBelow(restarts, 4, failed.message)
    yield* run.stop
    run = yield* SourceRun.start(name, mirror, options)
  }
})

export interface Step {
  readonly title: string
  readonly sql: string
  /** Tables that have to be copied again; default none. */
  readonly copies?: ReadonlyArray<string>
}

/**
 * Takes one pipeline through steps, each while it runs and with a start after it: every time the mirror has what the server has, and only the tables of
 * the step were copied.
 */
export const walk = Effect.fnUntraced(function*(
  name: string,
  mirror: Mirror,
  options: SourceRun.StartOptions,
  steps: ReadonlyArray<Step>,
  write: (sql: string) => Effect.Effect<void>,
  differences: Effect.Effect<ReadonlyArray<string>>
) {
  const copied = copiesOf()
  const all = { ...options, each: copied.each }
  let run = yield* SourceRun.start(name, mirror, all)
  yield* run.caughtUp
  copied.take()
  for (const { copies = [], sql, title } of steps) {
    yield* write(sql)
    if (copies.length > 0) {
      const failed = yield* run.failure
      assert.strictEqual(failed.reason, "Fenced", `${title}: ${failed.message}`)
      yield* run.stop
      run = yield* SourceRun.start(name, mirror, all)
    }
    run = (yield* settle(name, mirror, all, run)).run
    assert.deepStrictEqual(yield* differences, [], title)
    assert.deepStrictEqual(copied.take(), copies, title)
    yield* run.stop
    run = yield* SourceRun.start(name, mirror, all)
    yield* run.caughtUp
    assert.deepStrictEqual(copied.take(), [], `${title}, started again`)
  }
  yield* run.stop
})
