/**
 * The whole runner as a client: from a slot through the engine and the Snowflake sink, whose rows go to an ingest host that keeps none. Everything else of the
 * sink (logins, tables, state) is served by `snowflake-local`.
 *
 * Seconds are from the start of the stream to the arrival of the last row; processor time and memory are the process's, its start included.
 */
import * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as Warehouse from "@etl-stream/testkit/Warehouse"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { ClientError, type Measurement } from "./Measurement.ts"
import * as Server from "./Server.ts"
import type { Workload } from "./Workload.ts"

const command = fileURLToPath(import.meta.resolve("@etl-stream/runner/main"))
const serverMain = fileURLToPath(import.meta.resolve("@etl-stream/snowflake-local/main"))

export interface Runner {
  /** Has the runner copy the (empty) tables; comes before the workload's changes. */
  readonly prepare: Effect.Effect<void, ClientError>
  /** Has it read a slot of what was written. */
  readonly run: (written: Server.Written) => Effect.Effect<
    Measurement & { readonly samples: ReadonlyArray<Sample> },
    ClientError
  >
}

/** Resident memory when so much of the log (a share) had been taken. */
export interface Sample {
  readonly share: number
  readonly residentMB: number
}

const freePort = Effect.promise(() =>
  new Promise<number>((resolve) => {
    const server = createServer()
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })
)

const channels = 8

const Last = Schema.Struct({ at: Schema.Finite, offset: Schema.String })

const poll = Schedule.spaced("20 millis")

/** `16/B374D848` as the sequences that are committed there begin. */
const offsetOf = (lsn: string): string => lsn.split("/").map((half) => half.padStart(8, "0")).join("").toLowerCase()

const positionOf = (lsn: string): number => Number.parseInt(offsetOf(lsn), 16)

const clientError = (error: { readonly message: string }): ClientError => new ClientError({ message: error.message })

export const make = Effect.fnUntraced(function*(
  server: Server.Server,
  workload: Workload
): Effect.fn.Return<Runner, ClientError, Scope.Scope> {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(path.join(tmpdir(), "etl-stream-bench-"))),
    (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true, maxRetries: 3 }))
  )
  const port = yield* freePort
  const ingest = yield* ChildProcess.start({
    name: "the ingest host",
    command: process.execPath,
    args: [path.join(import.meta.dirname, "client", "nullIngest.ts"), JSON.stringify({ port })]
  }).pipe(Effect.mapError(clientError))
  yield* Effect.mapError(ingest.waitFor(/ready/), clientError)
  const warehouse = yield* Effect.mapError(
    Warehouse.start({ main: serverMain, folder, args: ["--ingest-host", `127.0.0.1:${port}`] }),
    clientError
  )
  const configuration = (slot: string): string => {
    const file = path.join(folder, `${slot}.yaml`)
    writeFileSync(
      file,
      JSON.stringify({
        apiVersion: 1,
        state: { plugin: "@etl-stream/state-sqlite", options: { file: "./state.sqlite" } },
        pipelines: {
          bench: {
            source: {
              plugin: "@etl-stream/source-postgres",
              options: {
                url: server.url,
                tables: workload.names.map((name) => `public.${name}`),
                slot: { name: slot },
                publication: { name: workload.name, manage: false },
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
                // Rows that are kept nowhere can't be merged.
                mode: "changelog",
                // Snowflake takes 20 MB/s by a channel.
                tables: Object.fromEntries(workload.names.map((name) => [`public.${name}`, { channels }]))
              }
            }
          }
        }
      })
    )
    return file
  }
  const start = (slot: string) =>
    Effect.mapError(
      ChildProcess.start({
        name: "the runner",
        command: process.execPath,
        args: [command, "run", configuration(slot)],
        cwd: folder,
        env: { NODE_COMPILE_CACHE: path.join(tmpdir(), "etl-stream-bench-cache") }
      }),
      clientError
    )
  const last = Effect.tryPromise({
    try: async () => Schema.decodeUnknownSync(Last)(await (await fetch(`http://127.0.0.1:${port}/`)).json()),
    catch: (cause) => new ClientError({ message: String(cause) })
  })
  const prepare = Effect.scoped(Effect.gen(function*() {
    const runner = yield* start("prepare")
    yield* Effect.mapError(
      runner.waitFor(new RegExp(`(The copy of a table is complete[^]*){${workload.names.length}}`)),
      clientError
    )
    yield* Effect.mapError(runner.kill("SIGTERM"), clientError)
    yield* Effect.ignore(server.query("SELECT pg_drop_replication_slot('prepare')"))
  }))
  const run = (written: Server.Written) =>
    Effect.scoped(Effect.gen(function*() {
      const slot = yield* Effect.mapError(Server.slotFor(server, written, "runner"), clientError)
      const runner = yield* start(slot)
      const [, begun = ""] = yield* Effect.mapError(
        runner.waitFor(/timestamp=(\S+) .*message="streaming changes"/),
        clientError
      )
      // Changes from before the last one's position end a little below it.
      const end = offsetOf(written.beforeLast)
      const [first, length] = [positionOf(written.from), positionOf(written.beforeLast) - positionOf(written.from)]
      const samples: Array<Sample> = []
      const sample = ({ offset }: typeof Last.Type) => {
        const at = Number.parseInt(offset.slice(0, 16), 16)
        if (at > first) samples.push({ share: (at - first) / length, residentMB: Server.residentMB(runner.pid) })
      }
      const { at } = yield* Effect.raceFirst(
        Effect.repeat(Effect.tap(last, (now) => Effect.sync(() => sample(now))), {
          schedule: poll,
          until: ({ offset }) => offset > end
        }),
        Effect.andThen(
          Effect.mapError(runner.ended(Number.POSITIVE_INFINITY), clientError),
          Effect.suspend(() => new ClientError({ message: `the runner ended: ${runner.output()}` }))
        )
      )
      const cpuSeconds = Server.processSeconds(runner.pid)
      return {
        seconds: (at - Date.parse(begun)) / 1000,
        cpuSeconds,
        peakRssMB: runner.peakMemory() / 1e6,
        rows: written.workload.rows,
        samples
      }
    }))
  return { prepare, run }
})
