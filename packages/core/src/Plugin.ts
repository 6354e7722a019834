/**
 * What a plugin package exports: a name, a version, a configuration schema with descriptions, and how to make the thing.
 *
 * A package's main module exports one plugin as `plugin` or several as `plugins`. The brand is a global symbol, so that it holds
 * across copies of this package. `validate` of a configuration never runs `make`: decoding with `config` is pure.
 *
 * What each function is called for, in what order and by whom, is on the interfaces: `Source`, `Transform`, `Sink`, `StateStore`, `Notifier`, `Monitor`, `DeadLetterStore`. What of this package a plugin may rely on is listed
 * in `PluginApi`.
 */
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { ConnectorError } from "./ConnectorError.ts"
import type { DeadLetters, DeadLetterStore } from "./DeadLetterStore.ts"
import type { Finding } from "./Finding.ts"
import type { Monitor } from "./Monitor.ts"
import type { Notifier } from "./Notifier.ts"
import type { Sink } from "./Sink.ts"
import type { Source } from "./Source.ts"
import type { StateStoreShape } from "./StateStore.ts"
import type { TableSchema } from "./TableSchema.ts"
import type { Transform } from "./Transform.ts"

/** Version of the contracts in this package. A plugin names the one it was written for; the runner refuses others. */
export const apiVersion = 1

export const PluginTypeId: unique symbol = Symbol.for("@etl-stream/core/Plugin")

/** What each kind of plugin makes. */
export interface Made {
  readonly source: Source
  readonly transform: Transform
  readonly sink: Sink
  readonly state: StateStoreShape
  readonly notifier: Notifier
  readonly monitor: Monitor
  readonly deadLetters: DeadLetterStore
}

export type Kind = keyof Made

/** Where a plugin runs: names for slots, channels, journals and logs derive from the pipeline's name. */
export interface PluginContext {
  readonly pipeline: string
  /** Relative paths in options are relative to this directory (the configuration file's). */
  readonly directory: string
  /**
   * Sinks: the dead-letter store that the pipeline's configuration names; undefined when it names none. Its letters are this pipeline's. A sink that can
   * keep letters puts what it can't write there; one that can't leaves it alone.
   */
  readonly deadLetters?: DeadLetterStore
}

/** How far one may rely on a plugin: `experimental` may change or go with any version, `beta` keeps its options but is young, `stable` follows semantic versions. */
export type Stability = "experimental" | "beta" | "stable"

/** Options as somebody would write them, for the reference pages and the editor. */
export interface Example {
  /** What it shows, a few words. */
  readonly title: string
  /** Encoded, as in YAML. Secrets are references such as `${env:TOKEN}`. */
  readonly options: Readonly<Record<string, Schema.Json>>
}

/** A configuration schema that needs no services to decode. */
export type ConfigSchema<A> = Schema.ConstraintCodec<A, unknown>

export interface Plugin<K extends Kind, A> {
  readonly [PluginTypeId]: typeof PluginTypeId
  readonly kind: K
  /** The name that configurations use, the package's by convention. */
  readonly name: string
  readonly version: string
  readonly apiVersion: number
  /** One sentence for `plugin list`. */
  readonly summary: string
  /** `stable` when not given. */
  readonly stability?: Stability
  /** A paragraph or more, in Markdown, for `plugin docs` and the reference pages. */
  readonly description?: string
  readonly examples?: ReadonlyArray<Example>
  /** Options with descriptions and defaults. Excess keys are errors. Secrets are `Schema.Redacted`. */
  readonly config: ConfigSchema<A>
  /**
   * Makes the thing. Sources, transforms and sinks: for each run of each pipeline, so after every failure; the scope is that of the run, and what it releases should take a
   * few seconds at most. It may be interrupted while it connects. A failure counts as one of the run.
   */
  readonly make: (config: A, context: PluginContext) => Effect.Effect<Made[K], ConnectorError, Scope.Scope>
  /**
   * Looks at everything that a run would need and tells what it found, for `etl-stream doctor`. Changes nothing on the other side. Fails only when the
   * other side can't be asked (unreachable, too busy); what it refuses is a finding.
   */
  readonly check?: (
    config: A,
    context: PluginContext
  ) => Effect.Effect<ReadonlyArray<Finding>, ConnectorError, Scope.Scope>
  /**
   * Names of what only one running pipeline can use at a time, such as a replication slot, or should, such as a table; a `*` at the end stands for anything.
   * A pipeline waits for the drain of one that ends and claims the same, and for no other. Without this, pipelines with this plugin wait for each other's
   * drain. They are compared, never shown.
   */
  readonly claims?: (config: A, context: PluginContext) => ReadonlyArray<string>
  /**
   * Sources: the tables as a run would find them now, for `etl-stream validate --connect`, which tries the transforms on them. Changes nothing on the other
   * side, and needs less than a run does (no slot, no publication).
   */
  readonly tables?: (
    config: A,
    context: PluginContext
  ) => Effect.Effect<ReadonlyArray<TableSchema>, ConnectorError, Scope.Scope>
  /**
   * Sinks: the dead letters of a pipeline, for `etl-stream dlq`; undefined when none are kept. Changes nothing by itself. A sink that puts letters into `PluginContext.deadLetters`
   * has it: beside one that hasn't, `deadLetters` in a configuration is a warning.
   */
  readonly deadLetters?: (
    config: A,
    context: PluginContext
  ) => Effect.Effect<DeadLetters | undefined, ConnectorError, Scope.Scope>
}

type Definition<K extends Kind, A> = Omit<Plugin<K, A>, typeof PluginTypeId | "kind" | "apiVersion">

const define = <K extends Kind>(kind: K) => <A>(definition: Definition<K, A>): Plugin<K, A> => ({
  [PluginTypeId]: PluginTypeId,
  kind,
  apiVersion,
  ...definition
})

export const source = define("source")
export const transform = define("transform")
export const sink = define("sink")
export const state = define("state")
export const notifier = define("notifier")
export const monitor = define("monitor")
export const deadLetters = define("deadLetters")

/** A plugin of any kind whose configuration type is not known. */
export type AnyPlugin = { readonly [K in Kind]: Plugin<K, unknown> }[Kind]

/** Whether a module's export is a plugin, of whatever version of this package. */
export const isPlugin = (value: unknown): value is AnyPlugin =>
  typeof value === "object" && value !== null && PluginTypeId in value
