/**
 * The contract of a sink (`@etl-stream/core/Sink`) as a conformance suite.
 *
 * The kit plays source and engine: it gives copies and changes as the contract allows them, crashes at one element after another, opens the sink again and gives what the
 * engine would give then. What is at the place in the end must be what an ideal sink would hold. `SinkSubject` says what it has to know.
 */
import * as Duration from "effect/Duration"
import type * as Conformance from "./Conformance.ts"
import * as Crashes from "./internal/sinkCrashCases.ts"
import * as Trouble from "./internal/sinkTroubleCases.ts"
import * as Writing from "./internal/sinkWritingCases.ts"
import type { Subject } from "./SinkSubject.ts"

export type { Ability, Cell, HeldRow, Place, RefusedOptions, Subject, UselessOptions } from "./SinkSubject.ts"

/** The suite of a sink. */
export const make = <A>(subject: Subject<A>): Conformance.Suite => ({
  kind: "sink",
  plugin: subject.plugin.name,
  timeout: Duration.fromInputUnsafe(subject.timeout ?? "2 minutes"),
  cases: [...Writing.cases(subject), ...Crashes.cases(subject), ...Trouble.cases(subject)]
})
