/**
 * The contract of a source (`@etl-stream/core/Source`) as a conformance suite.
 *
 * The kit plays the engine and an ideal sink, in memory, that holds what the contract says it holds: it stops the source at one element after another, opens it again with
 * what was durable by then, and compares every row with what is at the place. `SourceSubject` says what it has to know.
 */
import * as Duration from "effect/Duration"
import type * as Conformance from "./Conformance.ts"
import * as Life from "./internal/sourceLifeCases.ts"
import * as Reading from "./internal/sourceReadingCases.ts"
import * as Resume from "./internal/sourceResumeCases.ts"
import * as Trouble from "./internal/sourceTroubleCases.ts"
import type { Subject } from "./SourceSubject.ts"

export type { Ability, Change, RefusedOptions, Row, Subject, UselessOptions, World } from "./SourceSubject.ts"

/** The suite of a source. */
export const make = <A>(subject: Subject<A>): Conformance.Suite => ({
  kind: "source",
  plugin: subject.plugin.name,
  timeout: Duration.fromInputUnsafe(subject.timeout ?? "2 minutes"),
  cases: [...Reading.cases(subject), ...Resume.cases(subject), ...Life.cases(subject), ...Trouble.cases(subject)]
})
