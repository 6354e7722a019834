/**
 * `etl-stream resync`: asks for a new copy of single tables of a pipeline, whether or not it runs.
 *
 * The request is left in the pipeline's state store, where its run looks every second, or its next run when there is none. Waiting
 * follows the answers there.
 */
import * as ResyncRequest from "@etl-stream/core/ResyncRequest"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Choice from "../Choice.ts"
import { CommandError, fromConnector, internal, redacted } from "../CommandError.ts"
import * as Configuration from "../Configuration.ts"
import { ExitCode } from "../ExitCode.ts"
import type { Result } from "../Output.ts"
import { enumerate } from "../Suggestion.ts"
import * as Supervisor from "../Supervisor.ts"

/** What can be waited for: that the copies have begun, or that they are complete. */
export const waits = ["begun", "complete"] as const
export type Wait = typeof waits[number]

export interface Options {
  readonly file: string
  readonly pipeline: string | undefined
  readonly tables: ReadonlyArray<string>
  readonly wait: Wait | undefined
  readonly json: boolean
}

const lookEvery = Duration.millis(200)

/** After this time without an answer, people are told what may be missing. */
const patience = Duration.seconds(5)

const lost = new CommandError({
  code: "Missing",
  message: "The request is no longer in the state store",
  hint: "The store was replaced or emptied, or keeps nothing between processes. Ask again.",
  exitCode: ExitCode.runtime
})

/** The request of `table` once it is as far as `wait`; fails with the reason when it is refused. */
const arrival = (
  requests: ReadonlyArray<ResyncRequest.ResyncRequest>,
  table: TableId,
  wait: Wait
): Effect.Effect<boolean, CommandError> => {
  const request = requests.find((request) => request.table === table)
  switch (request?.state) {
    case undefined:
      return Effect.fail(lost)
    case "requested":
      return Effect.succeed(false)
    case "begun":
      return Effect.succeed(wait === "begun")
    case "done":
      return Effect.succeed(true)
    case "refused":
      return Effect.fail(
        new CommandError({
          code: "ResyncRefused",
          message: `No new copy of ${table}: ${request.message ?? "it was refused"}`,
          hint: request.hint ?? "See the log of the pipeline's run.",
          exitCode: ExitCode.runtime
        })
      )
  }
}

const tell = (line: string): Effect.Effect<void> => Effect.sync(() => process.stderr.write(`etl-stream: ${line}\n`))

const whatHappens = (pipeline: string, tables: ReadonlyArray<TableId>, wait: Wait | undefined): string => {
  const names = enumerate(tables, "and")
  const verb = tables.length === 1 ? "is" : "are"
  switch (wait) {
    case undefined:
      return [
        `A new copy of ${names} is asked for.`,
        `The pipeline ${pipeline} begins it within seconds when it is running (once a copy that it makes now has ended), otherwise when it is started; its other tables go on as they are.`
      ].join("\n")
    case "begun":
      return `The new copy of ${names} has begun.`
    case "complete":
      return `${names} ${verb} copied again.`
  }
}

export const resync = Effect.fn("Resync.resync")(function*(options: Options): Effect.fn.Return<Result, CommandError> {
  const configuration = yield* Configuration.load(options.file, { environment: process.env, offline: false })
  if (configuration === undefined) return yield* internal("Loading the configuration", undefined)
  const pipeline = (yield* Choice.pipeline(configuration, options.pipeline)).name
  const tables = yield* Effect.forEach(options.tables, Choice.table)
  const { wait } = options
  return yield* Effect.gen(function*() {
    const state = yield* Supervisor.makeState(configuration)
    const stored = <A>(effect: Effect.Effect<A, Parameters<typeof fromConnector>[1]>) =>
      Effect.mapError(effect, (error) => fromConnector(pipeline, error))
    yield* stored(ResyncRequest.ask(state, pipeline, tables))
    const requests = stored(ResyncRequest.all(state, pipeline))
    if (wait !== undefined) {
      const since = yield* Clock.currentTimeMillis
      let told = options.json
      while (true) {
        const current = yield* requests
        const arrived = yield* Effect.forEach(tables, (table) => arrival(current, table, wait))
        if (!arrived.includes(false)) break
        const waited = (yield* Clock.currentTimeMillis) - since
        if (!told && waited > Duration.toMillis(patience) && current.some(({ state }) => state === "requested")) {
          told = true
          yield* tell(
            "nobody has answered yet; waiting for a run of the pipeline, or for the end of a copy that it makes of the table now (Ctrl-C to stop waiting)"
          )
        }
        yield* Effect.sleep(lookEvery)
      }
    }
    const asked = (yield* requests).filter(({ table }) => tables.includes(table))
    if (asked.length === 0) return yield* lost
    return {
      command: "resync",
      data: { pipeline, requests: asked.map(({ at, id, state, table }) => ({ id, table, at, state })) },
      text: whatHappens(pipeline, tables, wait)
    }
  }).pipe(
    Effect.scoped,
    Effect.mapError((error) => redacted(error, configuration.redact))
  )
})
