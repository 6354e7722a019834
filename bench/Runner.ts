/**
 * `etl-stream run` as a client: a process with a configuration of one pipeline into a `LocalSnowflake`.
 *
 * Seconds are from the start of the stream to the arrival of the last row; processor time and memory are the process's, its start included.
 */
import * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { Installed } from "./Installed.ts"
import type { LocalSnowflake } from "./LocalSnowflake.ts"
import { ClientError, clientError, type Measurement } from "./Measurement.ts"
import * as Server from "./Server.ts"

export interface Options {
  readonly server: Server.Server
  readonly local: LocalSnowflake
  /** Without the schema. */
  readonly tables: ReadonlyArray<string>
  readonly slot: string
  /** A publication that exists; undefined: the runner makes one with the slot's name. */
  readonly publication?: string
  readonly mode: "mirror" | "changelog"
  /** Of each table. */
  readonly channels: number
}

export interface Runner {
  readonly process: ChildProcess.ChildProcess
  /** Waits for a line of its log; when it was written (milliseconds since 1970). */
  readonly logged: (message: string) => Effect.Effect<number, ClientError>
  /** What it took until now, with rows that came until `at`, of a stream that was asked for at `begun`. */
  readonly measured: (rows: number, begun: number, at: number) => Measurement
}

const configuration = ({ channels, local, mode, publication, server, slot, tables }: Options) => {
  const { warehouse } = local
  return {
    apiVersion: 1,
    state: { plugin: "@etl-stream/state-sqlite", options: { file: "./state.sqlite" } },
    pipelines: {
      bench: {
        source: {
          plugin: "@etl-stream/source-postgres",
          options: {
            url: server.url,
            tables: tables.map((name) => `public.${name}`),
            slot: { name: slot },
            publication: publication === undefined ? { name: slot } : { name: publication, manage: false },
            heartbeat: { enabled: false }
          }
        },
        sink: {
          plugin: "@etl-stream/sink-snowflake",
          options: {
            account: warehouse.account,
            url: warehouse.url,
            user: warehouse.user,
            auth: { privateKeyFile: warehouse.privateKeyFile },
            role: warehouse.role,
            warehouse: warehouse.warehouse,
            database: warehouse.database,
            mode,
            tables: Object.fromEntries(tables.map((name) => [`public.${name}`, { channels }]))
          }
        }
      }
    }
  }
}

/** Runs until the scope ends, which kills it. */
export const start = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Runner, ClientError, Scope.Scope | Installed> {
  const { runner } = yield* Installed
  const { folder } = options.local
  const file = path.join(folder, `${options.slot}.yaml`)
  writeFileSync(file, JSON.stringify(configuration(options)))
  const child = yield* Effect.mapError(
    ChildProcess.start({
      name: "the runner",
      command: process.execPath,
      args: [runner, "run", file],
      cwd: folder,
      env: { NODE_COMPILE_CACHE: path.join(tmpdir(), "etl-stream-bench-cache") }
    }),
    clientError
  )
  return {
    process: child,
    logged: (message) =>
      Effect.mapError(child.waitFor(new RegExp(`timestamp=(\\S+) .*message="${message}"`), 600_000), clientError).pipe(
        Effect.map(([, timestamp = ""]) => Date.parse(timestamp))
      ),
    measured: (rows, begun, at) => ({
      seconds: (at - begun) / 1000,
      cpuSeconds: Server.processSeconds(child.pid),
      peakRssMB: child.peakMemory() / 1e6,
      rows
    })
  }
})

/** Has a runner copy tables that are empty, and ends it in order. */
export const prepare = (options: Omit<Options, "slot">): Effect.Effect<void, ClientError, Installed> =>
  Effect.scoped(Effect.gen(function*() {
    const { process } = yield* start({ ...options, slot: "prepare" })
    const complete = new RegExp(`(The copy of a table is complete[^]*){${options.tables.length}}`)
    yield* Effect.mapError(process.waitFor(complete), clientError)
    yield* Effect.mapError(process.kill("SIGTERM"), clientError)
    yield* Effect.ignore(options.server.query("SELECT pg_drop_replication_slot('prepare')"))
  }))

const patience = 300_000

/**
 * Asks again and again until the answer is `done`, and returns that. Fails when the runner ends, or when `progress` of the answers stays the same for five minutes.
 */
export const until = <A, E extends { readonly message: string }>(
  { process }: Runner,
  ask: Effect.Effect<A, E>,
  options: {
    readonly everyMillis: number
    readonly progress: (answer: A) => string | number
    readonly done: (answer: A) => boolean
  }
): Effect.Effect<A, ClientError> =>
  Effect.gen(function*() {
    let [last, since] = ["", yield* Clock.currentTimeMillis]
    for (;;) {
      const answer = yield* Effect.mapError(ask, clientError)
      if (options.done(answer)) return answer
      const [now, progress] = [yield* Clock.currentTimeMillis, String(options.progress(answer))]
      if (progress !== last) [last, since] = [progress, now]
      if (!process.isRunning()) {
        return yield* new ClientError({ message: `the runner ended: ${process.output().slice(-4000)}` })
      }
      if (now - since > patience) {
        return yield* new ClientError({ message: `nothing goes on any more: ${process.output().slice(-4000)}` })
      }
      yield* Effect.sleep(options.everyMillis)
    }
  })
