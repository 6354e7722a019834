/**
 * The contract of a `Notifier` as a conformance suite.
 *
 * The subject starts the other side (a real server on this machine) and says how it is made to refuse, to be slow, to ask for patience. `http` does all of that for
 * notifiers that post to a URL.
 */
import type { Plugin } from "@etl-stream/core/Plugin"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Suite } from "./Conformance.ts"
import type { HttpReceiver } from "./HttpReceiver.ts"
import type { Options, RefusedOptions } from "./PluginOptions.ts"

/**
 * How the other side meets an attempt. `takes` it; `fails` in a way that passes (HTTP 500, SMTP 451); `throttles` (429), asking to be left alone for a second;
 * `throttlesLong`, for an hour; `unauthorized`: the credentials are wrong; `refuses` the message for good (400); `hangs`: takes it and never answers.
 */
export type Behaviour = "takes" | "fails" | "throttles" | "throttlesLong" | "unauthorized" | "refuses" | "hangs"

/** The other side, with a notifier's options for it. */
export interface Service {
  readonly options: Options
  /** Parts of the options that must never be seen: keys, tokens, a secret URL. */
  readonly secrets: ReadonlyArray<string>
  /** What was taken, in order, each as text in which titles can be found. */
  readonly taken: Effect.Effect<ReadonlyArray<string>>
  /** How many attempts there were, taken or not. */
  readonly attempts: Effect.Effect<number>
  /** Meets the next attempts so, `times` of them (all, if not given), then takes them again. */
  readonly behave: (behaviour: Behaviour, times?: number) => Effect.Effect<void>
  /** Options for a place where nobody listens. */
  readonly nowhere: Options
}

export interface Subject<A> {
  readonly plugin: Plugin<"notifier", A>
  /**
   * Starts the other side. The options should give a small patience (a second or two for all attempts together) and no narrow limit of rate, as the
   * suite waits for both.
   */
  readonly start: Effect.Effect<Service, unknown, Scope.Scope>
  /** The longest that `notify` may take with these options when nothing works: the other side's silence and all further attempts included. */
  readonly patience: Duration.Input
  /** Behaviours that the other side can't show, each with the reason. */
  readonly cannot?: Readonly<Partial<Record<Behaviour, string>>>
  readonly refused: ReadonlyArray<RefusedOptions>
  /** How long a case may take. Default: 1 minute. */
  readonly timeout?: Duration.Input
}

/** The other side of a notifier that posts to a URL: `options` makes its options of the URL. */
export declare const http: (
  receiver: HttpReceiver,
  given: {
    readonly options: (url: string) => Options
    readonly secrets: ReadonlyArray<string>
    /** Answers that differ from what HTTP says in general. */
    readonly answers?: Partial<Record<Behaviour, { readonly status: number; readonly body?: string }>>
  }
) => Service

/** The suite for a notifier. */
export const make = <A>(subject: Subject<A>): Suite => ({
  kind: "notifier",
  plugin: subject.plugin.name,
  cases: [],
  timeout: Duration.fromInputUnsafe(subject.timeout ?? "1 minute")
})
