/**
 * What the API does: everything by the supervisor and what the board sees.
 */
import type { Raised } from "@etl-stream/core/Condition"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Choice from "../Choice.ts"
import type { Stage } from "../Configuration.ts"
import { ControlError } from "../ControlError.ts"
import * as PipelineLetters from "../PipelineLetters.ts"
import type { Redaction } from "../Redaction.ts"
import type { Requested, Supervised, Supervisor } from "../Supervisor.ts"
import { Api } from "./Api.ts"
import type { Board } from "./Board.ts"
import * as EventStream from "./EventStream.ts"
import type * as Model from "./Model.ts"
import { BadRequest, Forbidden, fromControl, NotFound, Unavailable } from "./Problems.ts"
import * as Status from "./Status.ts"
import * as Tap from "./Tap.ts"

/** A monitor of this process, as the API shows it. */
export interface MonitorStatus {
  readonly name: string
  readonly conditions: ReadonlyArray<Raised>
  readonly status: Schema.Json
}

export interface Options {
  readonly supervisor: Supervisor
  readonly board: Board
  readonly streams: EventStream.Streams
  readonly redact: Redaction
  readonly monitors: () => ReadonlyArray<MonitorStatus>
  /** The store that pipelines share. */
  readonly state: Stage<"state">
  readonly directory: string
  /** Whether taps may show values of rows. */
  readonly tapValues: boolean
}

/** How long dead letters may be looked for. */
const lettersLimit = "30 seconds"

const fromConnector = (error: ConnectorError, redact: Redaction): Unavailable =>
  new Unavailable({ code: error.reason, detail: redact(error.message), hint: redact(error.hint) })

export const pipelines = (options: Options) => {
  const { board, redact, streams, supervisor } = options
  const find = (name: string): Effect.Effect<Supervised, NotFound> =>
    Effect.suspend(() => {
      const all = supervisor.pipelines()
      const found = all.find((pipeline) => pipeline.name === name)
      if (found !== undefined) return Effect.succeed(found)
      const { hint, message, reason } = ControlError.unknownPipeline(name, all.map(({ name }) => name))
      return Effect.fail(new NotFound({ code: reason, detail: message, hint }))
    })
  const summary = (pipeline: Supervised): Effect.Effect<Model.Summary> =>
    Effect.map(
      Clock.currentTimeMillis,
      (now) => Status.summary(pipeline, pipeline.progress.snapshot(now), board.rates(pipeline.name), redact)
    )
  const requested = Effect.fnUntraced(function*(
    name: string,
    wait: "true" | "false",
    request: (name: string) => Effect.Effect<Requested, ControlError>
  ) {
    const { changed, kept } = yield* Effect.mapError(request(name), fromControl)
    if (wait === "true") yield* supervisor.settled(name)
    return { changed, kept, pipeline: yield* Effect.flatMap(find(name), summary) }
  })
  const listening = (name: string | undefined) =>
    Effect.map(streams.enter, () => {
      const { leave, mailbox } = board.listen(name)
      return EventStream.response(mailbox, Effect.andThen(leave, streams.leave))
    })

  return HttpApiBuilder.group(Api, "pipelines", (handlers) =>
    handlers
      .handle("list", () => Effect.map(Effect.forEach(supervisor.pipelines(), summary), (pipelines) => ({ pipelines })))
      .handle("get", ({ params }) =>
        Effect.flatMap(find(params.name), (pipeline) =>
          Effect.map(Clock.currentTimeMillis, (now) =>
            Status.pipeline(pipeline, pipeline.progress.snapshot(now), board.rates(pipeline.name), redact))))
      .handle("pause", ({ params, query }) =>
        requested(params.name, query.wait, supervisor.pause))
      .handle("resume", ({ params, query }) =>
        requested(params.name, query.wait, supervisor.resume))
      .handle("stop", ({ params, query }) => requested(params.name, query.wait, supervisor.stop))
      .handle("resync", ({ params, payload }) =>
        Effect.gen(function*() {
          const tables = yield* Effect.forEach(payload.tables, (text) =>
            Effect.mapError(Choice.table(text), ({ hint, message }) =>
              new BadRequest({ code: "InvalidTable", detail: message, hint })))
          const requests = yield* Effect.mapError(supervisor.resync(params.name, tables), fromControl)
          return { requests: requests.map(({ at, id, state, table }) => ({ id, table, at, state })) }
        }))
      .handle("offsets", ({ params }) =>
        Effect.flatMap(find(params.name), ({ progress }) =>
          Effect.map(Clock.currentTimeMillis, (now) =>
            Status.offsets(progress.snapshot(now)))))
      .handle("deadLetters", ({ params, query }) =>
        Effect.gen(function*() {
          const pipeline = yield* find(params.name)
          const table = query.table === undefined
            ? undefined
            : yield* Effect.mapError(Choice.table(query.table), ({ hint, message }) =>
              new BadRequest({ code: "InvalidTable", detail: message, hint }))
          const configuration = pipeline.configuration()
          const letters = configuration === undefined
            ? undefined
            : yield* Effect.mapError(PipelineLetters.open(configuration, options.directory), (error) =>
              fromConnector(error, redact))
          if (letters === undefined) {
            return yield* new NotFound({
              code: "NoDeadLetters",
              detail: `The pipeline ${params.name} keeps no dead letters`,
              hint: "Give it a `deadLetters`, such as the plugin @etl-stream/dead-letters-files."
            })
          }
          const found = yield* letters.store.list({ pipeline: params.name, table }).pipe(
            Stream.take(query.limit + 1),
            Stream.map(({ at, column, id, operation, reason, sequence, table }) => ({
              id,
              table,
              column: column.name,
              reason,
              operation,
              sequence,
              at
            })),
            Stream.runCollect,
            Effect.mapError((error) =>
              fromConnector(error, redact)
            )
          )
          return { letters: found.slice(0, query.limit), more: found.length > query.limit }
        }).pipe(
          Effect.scoped,
          Effect.timeoutOrElse({
            duration: lettersLimit,
            orElse: () =>
              Effect.fail(
                new Unavailable({
                  code: "Timeout",
                  detail: "Looking for dead letters takes too long",
                  hint: "Name a table, or use `etl-stream dlq`."
                })
              )
          })
        ))
      .handleRaw("pipelineEvents", ({ params }) =>
        Effect.andThen(find(params.name), listening(params.name)))
      .handleRaw("tap", ({ params, query }) =>
        Effect.gen(function*() {
          const pipeline = yield* find(params.name)
          if (query.values === "true" && !options.tapValues) {
            return yield* new Forbidden({
              code: "ValuesNotAllowed",
              detail: "Values of rows are not shown",
              hint:
                "Set `http.tapValues` to `true` in the configuration and restart, if whoever has access to this API may see them."
            })
          }
          yield* streams.enter
          const clock = yield* Clock.Clock
          const { mailbox, see } = Tap.make({
            table: query.table,
            values: query.values === "true",
            now: () =>
              clock.currentTimeMillisUnsafe(),
            capacity: EventStream.capacity
          })
          const leave = pipeline.observe(see)
          return EventStream.response(mailbox, Effect.andThen(Effect.sync(leave), streams.leave))
        })))
}

type Listed = Stage<"source" | "transform" | "sink" | "deadLetters" | "state">

/** Each plugin that is in use, and where. */
const plugins = (options: Options): typeof Model.Plugins.Type => {
  const found = new Map<string, { readonly stage: Listed; readonly pipelines: Set<string> }>()
  const add = (stage: Listed, pipeline: string | undefined) => {
    const { kind, name, version } = stage.plugin
    const key = JSON.stringify([kind, name, version])
    const known = found.get(key) ?? { stage, pipelines: new Set() }
    if (pipeline !== undefined) known.pipelines.add(pipeline)
    found.set(key, known)
  }
  for (const pipeline of options.supervisor.pipelines()) {
    const configuration = pipeline.configuration()
    if (configuration === undefined) continue
    add(configuration.source, pipeline.name)
    for (const transform of configuration.transforms) add(transform, pipeline.name)
    add(configuration.sink, pipeline.name)
    if (configuration.deadLetters !== undefined) add(configuration.deadLetters, pipeline.name)
  }
  add(options.state, undefined)
  return {
    plugins: [...found.values()].map(({ pipelines, stage: { plugin } }) => ({
      name: plugin.name,
      kind: plugin.kind,
      version: plugin.version,
      apiVersion: plugin.apiVersion,
      summary: plugin.summary,
      pipelines: [...pipelines]
    }))
  }
}

export const process = (options: Options) => {
  const { board, monitors, redact, streams } = options
  return HttpApiBuilder.group(Api, "process", (handlers) =>
    handlers
      .handleRaw("events", () =>
        Effect.map(streams.enter, () => {
          const { leave, mailbox } = board.listen(undefined)
          return EventStream.response(mailbox, Effect.andThen(leave, streams.leave))
        }))
      .handle("monitors", () =>
        Effect.sync(() => ({
          monitors: monitors().map(({ conditions, name, status }) => ({
            name,
            conditions: conditions.map((raised) => Status.condition(raised, redact)),
            status
          }))
        })))
      .handle("plugins", () => Effect.sync(() => plugins(options))))
}
