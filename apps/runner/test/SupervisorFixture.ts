/**
 * Pipelines without files and servers, whose sources and sinks a test holds in its hands, under a supervisor in this process.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { ChangeBatchBuilder } from "@etl-stream/core/ChangeBatchBuilder"
import { Int64Column } from "@etl-stream/core/ColumnBuilder"
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import type { DeadLetter } from "@etl-stream/core/DeadLetter"
import type { Element } from "@etl-stream/core/Element"
import { MemoryBudget } from "@etl-stream/core/MemoryBudget"
import * as Plugin from "@etl-stream/core/Plugin"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Changes from "@etl-stream/runner/Changes"
import type { Configuration, PipelineConfiguration } from "@etl-stream/runner/Configuration"
import type { ConfigurationChange } from "@etl-stream/runner/ConfigurationChange"
import * as Supervisor from "@etl-stream/runner/Supervisor"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

const table: TableSchema = {
  table: { schema: "public", name: "numbers" },
  version: 1,
  columns: [{ name: "n", type: { _tag: "Int64" }, sourceType: "bigint", nullable: false }],
  identity: { _tag: "Key", columns: [0] }
}

const rowOf = (commit: number): ChangeBatch.ChangeBatch => {
  const builder = new ChangeBatchBuilder(table)
  builder.begin(ChangeBatch.Operation.Insert, 0, commit, 1, 0, 0)
  const column = builder.columns[0]
  if (column instanceof Int64Column) column.appendNumber(commit)
  return builder.finish()
}

/** An element of several kinds each; the row's value is `commit`. */
export const elementsOf = (commit: number): ReadonlyArray<Element> => [
  {
    _tag: "SnapshotBegin",
    table,
    position: 0n,
    plan: undefined,
    resumed: false,
    estimatedRows: 0,
    estimatedBytes: undefined
  },
  { _tag: "SnapshotEnd", table, position: 0n, chunks: 0, settled: 0n },
  { _tag: "Rows", batch: rowOf(commit) },
  { _tag: "Watermark", position: BigInt(commit), commitTime: 0n },
  {
    _tag: "Message",
    sequence: { commit: BigInt(commit), ordinal: 1n },
    prefix: "told in confidence",
    content: new TextEncoder().encode("told in confidence")
  }
]

const error = (reason: Reason): ConnectorError =>
  new ConnectorError({ reason, plugin: "double", message: "it does not work", hint: "Mend it." })

/** What a test sees of a pipeline, and does to it. */
export interface Double {
  readonly configuration: PipelineConfiguration
  /** Commits in the source's log, from 1. */
  log: number
  /** Commits that the sink holds, in the order in which they came. */
  readonly written: Array<number>
  /** How often a run was begun at the sink. */
  begins: number
  /** How often something was written, or tried to. */
  calls: number
  /** How often a sink was made. */
  makes: number
  /** Number of sources that are streamed at present, and the most there ever were. */
  streaming: number
  mostStreaming: number
  /** Commits that the source was told to be durable. */
  readonly acknowledged: () => bigint
  /** What the sink's writes fail by. */
  fails: Reason | undefined
  /** Whether the sink's writes wait. */
  blocked: boolean
  /** Whether the end of the log is the end of the source. */
  ends: boolean
  /** To be called after any of these was changed. */
  readonly touch: () => void
}

export interface DoubleOptions {
  readonly status?: "running" | "paused"
  readonly heartbeat?: Duration.Duration
  readonly watchdog?: { readonly after: Duration.Duration; readonly restart: boolean }
  /** What both plugins claim, the pipeline's name when not given; undefined: they don't say. */
  readonly claims?: ReadonlyArray<string> | undefined
  /** Dead letters that the sink keeps; none when not given. */
  readonly letters?: ReadonlyArray<DeadLetter>
  /** What the sink talks to. */
  readonly account?: string
  /** The log and the sink of another one: the same tables under another name. */
  readonly of?: Double
}

export const double = (name: string, options: DoubleOptions = {}): Double => {
  const changes = Changes.make()
  const { of: other } = options
  let acknowledged: (() => bigint) | undefined
  const claims = "claims" in options ? options.claims : [name]
  const source = Plugin.source({
    name: "double",
    version: "1.0.0",
    summary: "Is held in hand",
    config: Schema.Unknown,
    ...(claims === undefined ? {} : { claims: () => claims }),
    make: () =>
      Effect.succeed({
        heartbeat: options.heartbeat,
        tables: Effect.succeed([table]),
        stream: (context) => {
          acknowledged = context.acknowledged
          const held = context.positions.get("public.numbers")
          const begin: Element = {
            _tag: "SnapshotBegin",
            table,
            position: 0n,
            plan: undefined,
            resumed: false,
            estimatedRows: 0,
            estimatedBytes: undefined
          }
          const copy: ReadonlyArray<Element> = held?.copied === undefined
            ? [begin, { _tag: "SnapshotEnd", table, position: 0n, chunks: 0, settled: 0n }]
            : []
          let next = Number(self.written.at(-1) ?? 0)
          const more = changes.until(() => self.log > next || self.ends).pipe(
            Effect.andThen(Effect.sync((): ReadonlyArray<Element> => {
              if (self.log <= next) return []
              next++
              return [
                { _tag: "Rows", batch: rowOf(next) },
                { _tag: "Watermark", position: BigInt(next), commitTime: 0n }
              ]
            }))
          )
          return Stream.concat(
            Stream.fromIterable(
              [...copy, { _tag: "Watermark", position: BigInt(next), commitTime: undefined }] as const
            ),
            Stream.fromEffectRepeat(more).pipe(
              Stream.takeWhile((elements) => elements.length > 0),
              Stream.flatMap((elements) => Stream.fromIterable(elements))
            )
          ).pipe(
            Stream.onStart(Effect.sync(() => {
              self.streaming++
              self.mostStreaming = Math.max(self.mostStreaming, self.streaming)
            })),
            Stream.ensuring(Effect.sync(() => self.streaming--))
          )
        }
      })
  })
  let copied = false
  const sink = Plugin.sink({
    name: "double",
    version: "1.0.0",
    summary: "Is held in hand",
    config: Schema.Unknown,
    ...(claims === undefined ? {} : { claims: () => claims }),
    deadLetters: () =>
      Effect.succeed(
        options.letters === undefined ? undefined : {
          store: {
            put: () => Effect.succeed(0),
            list: ({ table }) =>
              Stream.fromIterable(options.letters?.filter((one) => table === undefined || one.table === table) ?? []),
            get: () => Effect.undefined,
            remove: () => Effect.void
          },
          replay: () => Effect.succeed({ _tag: "Written" })
        }
      ),
    make: () =>
      Effect.sync(() => {
        self.makes++
        return {
          begin: () => Effect.sync(() => self.begins++),
          open: (_, durable) =>
            Effect.succeed({
              position: {
                copied: copied ? 0n : undefined,
                committed: self.written.length === 0 ? undefined : rowOf(self.written.at(-1) ?? 0).last
              },
              write: (element) =>
                Effect.gen(function*() {
                  if (element._tag === "SnapshotEnd") copied = true
                  if (element._tag !== "Rows") return
                  self.calls++
                  yield* changes.until(() => !self.blocked)
                  if (self.fails !== undefined) return yield* error(self.fails)
                  const column = element.batch.records.getChildAt(ChangeBatch.metadataColumns)
                  for (let row = 0; row < element.batch.rows; row++) self.written.push(Number(column?.get(row)))
                  yield* durable(element.batch.last)
                })
            }),
          run: Effect.never,
          settle: Effect.void
        }
      })
  })
  const self: Double = {
    configuration: {
      name,
      source: { name: "double", plugin: source, options: {} },
      transforms: [],
      sink: { name: "double", plugin: sink, options: { account: options.account ?? name } },
      onTableError: "stop",
      batch: { rows: 1, bytes: 1_000_000, every: Duration.millis(10) },
      status: options.status ?? "running",
      spool: undefined,
      watchdog: options.watchdog ?? { after: Duration.minutes(10), restart: true }
    },
    log: 0,
    written: other?.written ?? [],
    begins: 0,
    calls: 0,
    makes: 0,
    streaming: 0,
    mostStreaming: 0,
    acknowledged: () => acknowledged?.() ?? 0n,
    fails: undefined,
    blocked: false,
    ends: false,
    touch: changes.touch
  }
  return self
}

/** `double` with another configuration: the same source and sink, another object. */
export const changed = (
  { configuration }: Double,
  change: Partial<PipelineConfiguration> = {}
): PipelineConfiguration => ({ ...configuration, ...change })

/** A state store in memory; `entries` survive a restart of what uses it. */
export const memoryState = (entries = new Map<string, string>()): StateStoreShape => {
  let version = 0
  const versions = new Map<string, string>()
  const versionOf = (key: string) => versions.get(key) ?? "0"
  return {
    get: (key) =>
      Effect.sync(() =>
        Option.map(Option.fromUndefinedOr(entries.get(key)), (value) => ({ value, version: versionOf(key) }))
      ),
    list: () => Effect.succeed([]),
    compareAndSet: (key, value, expected) =>
      Effect.sync(() => {
        if ((entries.has(key) ? versionOf(key) : undefined) !== expected) return Option.none()
        entries.set(key, value)
        versions.set(key, String(++version))
        return Option.some(versionOf(key))
      }),
    remove: (key) => Effect.sync(() => void entries.delete(key)),
    now: Clock.currentTimeMillis
  }
}

export const configurationOf = (pipelines: ReadonlyArray<PipelineConfiguration>): Configuration => ({
  file: "c.yaml",
  directory: "/",
  memory: 1_000_000,
  state: stateStage,
  telemetry: {},
  notifiers: [],
  alerts: [],
  monitors: [],
  http: undefined,
  pipelines,
  warnings: [],
  input: {
    apiVersion: 1,
    memory: 1_000_000,
    state: { plugin: "none", options: {} },
    telemetry: {},
    notifiers: {},
    alerts: [],
    monitors: {},
    pipelines: {}
  },
  secrets: new Set(),
  redact: (text) => text
})

const noState = Plugin.state({
  name: "none",
  version: "1.0.0",
  summary: "Is not used",
  config: Schema.Unknown,
  make: () => Effect.succeed(memoryState())
})

export const stateStage = { name: "none", plugin: noState, options: {} }

export const change = (some: Partial<ConfigurationChange>): ConfigurationChange => ({
  unchanged: [],
  changed: [],
  added: [],
  removed: [],
  ...some
})

/** Lets all fibers run until they wait, and then waits for the condition; the clock stands still meanwhile. */
export const eventually = (condition: () => boolean, what = "the condition"): Effect.Effect<void> =>
  Effect.gen(function*() {
    for (let turn = 0; turn < 5_000; turn++) {
      if (condition()) return
      yield* Effect.yieldNow
    }
    return yield* Effect.die(new Error(`${what} doesn't come true`))
  })

/** Lets all fibers run until they wait. */
export const idle: Effect.Effect<void> = Effect.repeat(Effect.yieldNow, { times: 500 })

/** A supervisor in the scope; `stop` asks everything to stop. */
export const start = Effect.fnUntraced(function*(
  doubles: ReadonlyArray<Double>,
  state: StateStoreShape = memoryState()
) {
  const stop = yield* Deferred.make<void>()
  const supervisor = yield* Supervisor.start(
    configurationOf(doubles.map(({ configuration }) => configuration)),
    state,
    { stop: Deferred.await(stop), drain: Duration.seconds(30), retry: { jitter: false } }
  )
  const activity = (name: string) => supervisor.pipelines().find((pipeline) => pipeline.name === name)?.activity()
  return {
    ...supervisor,
    askToStop: Deferred.succeed(stop, undefined),
    activity,
    get: (name: string) => supervisor.pipelines().find((pipeline) => pipeline.name === name),
    streams: (name: string) => eventually(() => activity(name) === "streaming", `${name} streaming`)
  }
})

export const scoped = <A, E>(
  effect: Effect.Effect<A, E, MemoryBudget | Scope.Scope>
): Effect.Effect<A, E> => Effect.scoped(Effect.provide(effect, MemoryBudget.layer(1_000_000)))
