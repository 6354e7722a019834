/** Cases of what a source does when something is wrong: options, connections. */
import { ConnectorError, isRetryable } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import type { Case } from "../Conformance.ts"
import type { Subject } from "../SourceSubject.ts"
import * as Opening from "./opening.ts"
import * as Refusals from "./refusals.ts"
import { type Kit, scenario } from "./sourceKit.ts"
import type { Run } from "./sourceRun.ts"
import { eventually, within } from "./waiting.ts"

/** After a cut the source goes on by itself, or its stream fails by something that passes: then it is started again. */
const goesOn = (kit: Kit, run: Run) =>
  Effect.gen(function*() {
    const tail = yield* kit.workload.tail(kit.first)
    yield* eventually(
      () => "an end of the stream after its connection was cut, or the last row",
      () => run.failed() !== undefined || run.at(kit.first, tail) !== undefined,
      kit.patience
    )
    const error = run.failed()
    if (error === undefined) return run
    assert.ok(
      isRetryable(error),
      `A lost connection is ${error.reason}, which no restart helps against: ${error.message}`
    )
    yield* run.stop
    return yield* kit.start()
  })

export const cases = <A>(subject: Subject<A>): ReadonlyArray<Case> => [
  ...Refusals.cases(subject.plugin, subject.refused, subject.secrets ?? []),

  ...subject.useless.map(({ options, reason, what }) =>
    scenario(subject, `fails with ${reason} and a hint when ${what}`, (kit) =>
      Effect.gen(function*() {
        const open = Effect.flatMap(
          Opening.open(subject.plugin, { ...kit.world, options: options(kit.world) }),
          ({ tables }) => tables
        )
        const error = yield* within("Refusing the options", Effect.flip(Effect.scoped(open)), kit.patience)
        Refusals.judge(subject.plugin.name, error, reason)
        kit.heard(error)
      }))
  ),

  scenario(
    subject,
    "loses and doubles nothing when its connections are cut at any point",
    (kit) =>
      Effect.gen(function*() {
        const { cut } = kit.world
        assert.ok(cut !== undefined, "The place has no cut, and `cannot` doesn't say why")
        for (const table of kit.world.tables) yield* kit.workload.insert(table, 10)
        // While it is opened and copies.
        for (const pieces of [1, 2, 3, 5, 8, 13, 21]) {
          yield* cut(pieces)
          const opened = yield* Effect.result(kit.start())
          if (opened._tag === "Failure") {
            assert.ok(opened.failure instanceof ConnectorError)
            assert.ok(
              isRetryable(opened.failure),
              `A lost connection is ${opened.failure.reason}: ${opened.failure.message}`
            )
            continue
          }
          yield* kit.workload.step()
          const run = yield* goesOn(kit, opened.success)
          yield* run.stop
        }
        yield* cut(0)
        // While it streams.
        let run = yield* kit.start()
        for (const pieces of [0, 1, 2, 3, 5, 8]) {
          yield* cut(pieces)
          yield* kit.workload.steps(3)
          run = yield* goesOn(kit, run)
        }
        yield* cut(0)
        run = yield* goesOn(kit, run)
        yield* kit.caughtUp(run)
        yield* run.stop
        yield* kit.judge
      }),
    "Cut"
  )
]
