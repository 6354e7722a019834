/**
 * The contract of a `DeadLetterStore` as a conformance suite.
 *
 * The store is opened several times within a case and must reach the same letters each time: that is how the suite sees what is durable, and what two processes
 * would see. Where the subject names its module, other processes open it, too, and are killed in the middle of their work.
 */
import type { Plugin } from "@etl-stream/core/Plugin"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Suite } from "./Conformance.ts"
import type { Options, RefusedOptions } from "./PluginOptions.ts"

/** A place for letters that nobody else uses. */
export interface Place {
  /** Options with room for some thousand letters of a table. */
  readonly options: Options
  /** Relative paths in options are relative to it. Default: the current folder. */
  readonly directory?: string
  /** Options for the same place with room for so many letters of a table; undefined: the store has no limit. */
  readonly limited?: (letters: number) => Options
  /** Makes the place unreachable (its server ends, its folder is a file …); undefined: it can't be. The place isn't used after that. */
  readonly gone?: Effect.Effect<void, unknown>
}

export interface Subject<A> {
  readonly plugin: Plugin<"deadLetters", A>
  readonly prepare: Effect.Effect<Place, unknown, Scope.Scope>
  /** URL of the plugin's module (`import.meta.resolve("my-plugin")`), with which other processes open the store by the same options; undefined: they can't. */
  readonly module?: string
  /** The longest that an operation may take when the place is gone. Default: 30 seconds. */
  readonly patience?: Duration.Input
  readonly refused: ReadonlyArray<RefusedOptions>
  /** How long a case may take. Default: 1 minute. */
  readonly timeout?: Duration.Input
}

/** The suite for a dead-letter store. */
export const make = <A>(subject: Subject<A>): Suite => ({
  kind: "deadLetters",
  plugin: subject.plugin.name,
  cases: [],
  timeout: Duration.fromInputUnsafe(subject.timeout ?? "1 minute")
})
