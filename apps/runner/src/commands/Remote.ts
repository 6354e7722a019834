/**
 * `etl-stream status`, `pause`, `resume`, `stop` and `tap`: ask a running etl-stream by its HTTP API.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Model from "../api/Model.ts"
import * as Choice from "../Choice.ts"
import { type CommandError, internal } from "../CommandError.ts"
import * as Configuration from "../Configuration.ts"
import { ExitCode } from "../ExitCode.ts"
import type { Result } from "../Output.ts"
import * as RunnerClient from "../RunnerClient.ts"
import * as Screen from "../Screen.ts"
import * as StatusText from "../StatusText.ts"
import { enumerate } from "../Suggestion.ts"
import { clip, printable } from "../TextWidth.ts"

export interface StatusOptions extends RunnerClient.Where {
  /** With its tables; all pipelines without theirs when none is named. */
  readonly pipeline: string | undefined
  readonly watch: boolean
  readonly json: boolean
}

const pathOf = (pipeline: string): string => `/v1/pipelines/${encodeURIComponent(pipeline)}`

const redrawEvery = "1 second"

const print = (line: string): Effect.Effect<void> =>
  Effect.callback((resume) => {
    // A reader that went away (`| head`) is no error of ours.
    process.stdout.write(`${line}\n`, () => resume(Effect.void))
  })

const look = Effect.fnUntraced(function*(client: RunnerClient.RunnerClient, pipeline: string | undefined) {
  const now = yield* Clock.currentTimeMillis
  if (pipeline !== undefined) {
    const one = yield* client.ask("GET", pathOf(pipeline), Model.Pipeline)
    return { pipelines: [one], lines: StatusText.pipeline(one, now) }
  }
  const { pipelines } = yield* client.ask("GET", "/v1/pipelines", Model.Pipelines)
  return { pipelines, lines: pipelines.flatMap((one) => StatusText.summary(one, now)) }
})

/** How pipelines are; exit code 1 when one has failed. */
export const status = Effect.fn("Remote.status")(function*(
  options: StatusOptions
): Effect.fn.Return<Result | undefined, CommandError> {
  const client = yield* RunnerClient.make(options)
  if (!options.watch) {
    const { lines, pipelines } = yield* look(client, options.pipeline)
    return {
      command: "status",
      data: { url: client.url, pipelines },
      text: lines.join("\n"),
      exitCode: pipelines.some(({ activity }) => activity === "failed") ? ExitCode.runtime : ExitCode.ok
    }
  }
  if (!options.json && process.stdout.isTTY === true && process.env["TERM"] !== "dumb") {
    yield* Effect.scoped(Effect.gen(function*() {
      const screen = yield* Screen.make(process.stdout)
      const draw = Effect.map(look(client, options.pipeline), ({ lines }) => {
        const room = Math.max(1, process.stdout.rows - 1)
        screen.draw(lines.slice(0, room).map((line) => clip(line, Math.max(1, process.stdout.columns))))
      })
      yield* Effect.repeat(draw, Schedule.spaced(redrawEvery))
    }))
    return
  }
  const path = options.pipeline === undefined ? "/v1/events" : `${pathOf(options.pipeline)}/events`
  yield* Stream.runForEach(client.events(path, Model.Event), (event) => {
    const line = options.json ? JSON.stringify(event) : StatusText.event(event)
    return line === undefined ? Effect.void : print(line)
  })
})

export interface ControlOptions extends RunnerClient.Where {
  readonly pipelines: ReadonlyArray<string>
  /** Until it is done, not only asked for. */
  readonly wait: boolean
}

const done = { pause: "is paused", resume: "runs", stop: "is stopped" } as const
const asked = { pause: "is asked to pause", resume: "is asked to run", stop: "is asked to stop" } as const

/** Pauses, resumes or stops pipelines. */
export const control = Effect.fn("Remote.control")(function*(
  verb: "pause" | "resume" | "stop",
  options: ControlOptions
): Effect.fn.Return<Result, CommandError> {
  const client = yield* RunnerClient.make(options)
  const answers = yield* Effect.forEach(
    options.pipelines,
    (name) => client.ask("PUT", `${pathOf(name)}/${verb}${options.wait ? "?wait=true" : ""}`, Model.Requested),
    {
      concurrency: "unbounded"
    }
  )
  return {
    command: verb,
    data: {
      pipelines: answers.map(({ changed, kept, pipeline: { activity, name } }) => ({ name, activity, changed, kept }))
    },
    text: answers.flatMap(({ kept, pipeline: { name } }) => [
      `${name} ${(options.wait ? done : asked)[verb]}.`,
      ...(kept ? [] : ["  It won't stay so over a restart of etl-stream: the state store keeps nothing."])
    ]).join("\n")
  }
})

export interface ResyncOptions {
  readonly url: string
  readonly file: string
  readonly pipeline: string | undefined
  readonly tables: ReadonlyArray<string>
}

/** Asks for new copies of tables. */
export const resync = Effect.fn("Remote.resync")(function*(
  options: ResyncOptions
): Effect.fn.Return<Result, CommandError> {
  const configuration = yield* Configuration.load(options.file, { environment: process.env, offline: false })
  if (configuration === undefined) return yield* internal("Loading the configuration", undefined)
  const { name } = yield* Choice.pipeline(configuration, options.pipeline)
  const tables = yield* Effect.forEach(options.tables, Choice.table)
  const client = yield* RunnerClient.make(options)
  const { requests } = yield* client.ask("POST", `${pathOf(name)}/resync`, Model.ResyncRequests, { tables })
  return {
    command: "resync",
    data: { pipeline: name, requests },
    text: `A new copy of ${enumerate(tables, "and")} is asked for.`
  }
})

export interface TapOptions extends RunnerClient.Where {
  readonly pipeline: string
  readonly table: string | undefined
  readonly values: boolean
  /** Ends after so many samples; never when undefined. */
  readonly count: number | undefined
  readonly json: boolean
}

const described = (sample: Model.Sample): string => {
  if (sample.type === "lost") return `  … ${sample.events} more passed`
  const { columns, element, last, operations, rows, table, values } = sample
  const counts = Object.entries(operations).map(([operation, count]) => `${count} ${operation}`).join(", ")
  return [
    [
      sample.at,
      element,
      table ?? "",
      rows > 0 ? counts : "",
      last ?? "",
      columns.length > 0 ? `(${columns.join(", ")})` : ""
    ]
      .filter((part) => part !== "").join("  "),
    ...(values ?? []).map((row) =>
      `  ${
        Object.entries(row).map(([name, value]) => `${name}=${value === null ? "NULL" : JSON.stringify(value)}`).join(
          " "
        )
      }`
    )
  ].map(printable).join("\n")
}

/** Prints samples of what passes through a pipeline. */
export const tap = Effect.fn("Remote.tap")(function*(options: TapOptions): Effect.fn.Return<void, CommandError> {
  const client = yield* RunnerClient.make(options)
  const query = new URLSearchParams({
    ...(options.table === undefined ? {} : { table: options.table }),
    ...(options.values ? { values: "true" } : {})
  })
  const samples = client.events(`${pathOf(options.pipeline)}/tap?${query}`, Model.Sample)
  const wanted = options.count === undefined ? samples : Stream.take(samples, options.count)
  yield* Stream.runForEach(wanted, (sample) => print(options.json ? JSON.stringify(sample) : described(sample)))
})
