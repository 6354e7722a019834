/**
 * The monitor on a real server, by the kit's suite: each case has a slot of its own that nobody reads, seen through a proxy that can refuse.
 */
import * as Conformance from "@etl-stream/testkit/Conformance"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as FaultProxy from "@etl-stream/testkit/FaultProxy"
import * as MonitorConformance from "@etl-stream/testkit/MonitorConformance"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { afterAll, beforeAll, describe, it } from "vitest"
import { plugin } from "../src/index.ts"

const secret = "kit-secret-password"

const scope = Effect.runSync(Scope.make())
let server: EmbeddedPostgres.EmbeddedPostgres | undefined
let proxy: FaultProxy.FaultProxy | undefined
let places = 0

const prepare = Effect.gen(function*() {
  if (server === undefined || proxy === undefined) return yield* Effect.die(new Error("The server isn't started"))
  const { database, query } = server
  const { host, port, refuse, resume } = proxy
  const slot = `conformance_${++places}`
  yield* Effect.acquireRelease(
    query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", [slot]),
    () => Effect.orDie(query("SELECT pg_drop_replication_slot($1)", [slot]))
  )
  yield* Effect.addFinalizer(() => resume)
  const place: MonitorConformance.Place = {
    options: {
      url: `postgres://watcher:${secret}@${host}:${port}/${database}`,
      slots: [{ slot, pipeline: "conformance" }],
      budget: "32MiB",
      every: "50 millis",
      wait: "100 millis",
      // By size alone: a prediction would be told at another time.
      thresholds: { warning: "50%", danger: "90%", sustained: "100 millis" },
      actions: [{ at: "40%", do: "pause-copies" }, { at: "45%", do: "spool" }]
    },
    name: slot,
    worsen: query("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 20 * 1024 * 1024))"),
    mend: Effect.andThen(
      query("CHECKPOINT"),
      query("SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())", [slot])
    ),
    gone: refuse,
    back: resume
  }
  return place
})

const suite = MonitorConformance.make({
  plugin,
  prepare,
  raises: "slot-wal-warning",
  asks: ["pauseCopies", "spool"],
  valid: { url: `postgres://somebody:${secret}@localhost/db`, budget: "1GiB" },
  refused: [
    { what: "a budget that is no size", options: { url: "postgres://localhost/db", budget: "much" }, path: "budget" },
    {
      what: "an action that there isn't",
      options: { url: "postgres://localhost/db", actions: [{ at: "50%", do: "drop" }] },
      path: "actions.0.do"
    },
    { what: "a period that is none", options: { url: "postgres://localhost/db", every: "often" }, path: "every" }
  ],
  secrets: [secret]
})

beforeAll(() =>
  Effect.runPromise(
    Effect.gen(function*() {
      server = yield* EmbeddedPostgres.start()
      yield* server.query(`CREATE ROLE watcher LOGIN PASSWORD '${secret}'; GRANT pg_monitor TO watcher`)
      proxy = yield* FaultProxy.start({ host: server.host, port: server.port })
    }).pipe(Scope.provide(scope))
  )
)

afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

// A case that the subject says it can't do (`cannot`) is reported as skipped, with the reason in its name, instead of passing silently.
Conformance.register(suite, { describe, it, skip: it.skip })
