import { assert, describe, it } from "@effect/vitest"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Standby from "@etl-stream/testkit/Standby"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Connections from "../src/Connections.ts"
import * as ReplicationConnection from "../src/ReplicationConnection.ts"
import * as SourceRun from "./SourceRun.ts"

const Port = Schema.Struct({ port: Schema.Int })

const askPort = "SELECT inet_server_port() AS port"

describe("Several hosts", () => {
  it.live(
    "the first that answers and is writable is taken, and the next after a failover",
    () =>
      Effect.gen(function*() {
        const one = yield* EmbeddedPostgres.start()
        const two = yield* EmbeddedPostgres.start()
        const gone = yield* EmbeddedPostgres.start()
        yield* gone.stop
        for (const pg of [one, two]) {
          yield* pg.query(
            "CREATE ROLE mover LOGIN REPLICATION PASSWORD 'moving'"
          )
        }
        yield* two.restart({ default_transaction_read_only: "on" })
        const list = [gone, two, one].map(({ port }) => `127.0.0.1:${port}`).join(",")
        const url = `postgresql://mover:moving@${list}/postgres`
        const settings = (options: SourceRun.Options = {}) => SourceRun.settings({ url, ...options }, "hosts")
        const connections = yield* Connections.make(settings())
        const ports = Effect.gen(function*() {
          const [pooled] = yield* connections.query("asking for the port", Port, askPort)
          const copying = yield* connections.client("copy")
          const replicating = yield* connections.open("replication", ReplicationConnection.connect)
          const ask = (client: typeof copying) =>
            Effect.map(Connections.run(client, "asking for the port", askPort), ([row]) => row?.["port"])
          return [pooled?.port, yield* ask(copying), yield* ask(replicating.client)]
        }).pipe(Effect.scoped)
        assert.deepStrictEqual(yield* ports, [one.port, one.port, one.port])

        // The writable server becomes read-only, the read-only one writable, as in a switch-over.
        yield* one.restart({ default_transaction_read_only: "on" })
        yield* two.restart({ default_transaction_read_only: "off" })
        const stayed = yield* Effect.flip(connections.query("asking for the port", Port, askPort))
        assert.strictEqual(stayed.reason, "Unreachable")
        assert.match(stayed.message, /is read-only, and targetSession asks for read-write/)
        assert.deepStrictEqual(yield* ports, [two.port, two.port, two.port])

        const portOf = (options: SourceRun.Options) =>
          Effect.gen(function*() {
            const client = yield* Connections.connect(settings(options), "query")
            const [row] = yield* Connections.run(client, "asking for the port", askPort)
            return row?.["port"]
          }).pipe(Effect.scoped)
        assert.strictEqual(yield* portOf({ targetSession: "read-only" }), one.port)
        for (const targetSession of ["any", "primary", "prefer-standby", "read-write"]) {
          assert.strictEqual(yield* portOf({ targetSession }), two.port, targetSession)
        }
        const standby = yield* Effect.flip(portOf({ targetSession: "standby" }))
        assert.strictEqual(standby.reason, "Unreachable")
        assert.match(standby.message, /no host of .* will do: connecting to .*ECONNREFUSED.*is a primary server/)

        // A host that refuses us ends it: the others don't get to see the password.
        const refused = yield* Effect.flip(portOf({ password: "wrong" }))
        assert.strictEqual(refused.reason, "Unauthorized")
        assert.include(refused.message, String(two.port))

        yield* two.stop
        const none = yield* Effect.flip(portOf({}))
        assert.strictEqual(none.reason, "Unreachable")
        assert.match(none.message, /ECONNREFUSED.*ECONNREFUSED.*is read-only/)
        assert.notInclude(none.message, "moving")
      }).pipe(Effect.scoped),
    60_000
  )

  it.live("a promoted standby is found when the primary server is gone", () =>
    Effect.gen(function*() {
      const primary = yield* EmbeddedPostgres.start()
      const standby = yield* Standby.start(primary)
      const url =
        `postgresql://postgres:${primary.password}@127.0.0.1:${primary.port},127.0.0.1:${standby.port}/postgres`
      const connections = yield* Connections.make(SourceRun.settings({ url }, "promoted"))
      const pooled = Effect.map(connections.query("asking for the port", Port, askPort), ([row]) => row?.port)
      assert.strictEqual(yield* pooled, primary.port)
      for (
        const [targetSession, port] of [
          ["standby", standby.port],
          ["prefer-standby", standby.port],
          ["read-only", standby.port],
          ["primary", primary.port],
          ["any", primary.port]
        ]
      ) {
        const client = yield* Connections.connect(SourceRun.settings({ url, targetSession }, "promoted"), "query")
        const [row] = yield* Connections.run(client, "asking for the port", askPort)
        assert.strictEqual(row?.["port"], port, String(targetSession))
      }
      yield* primary.kill
      yield* standby.query("SELECT pg_promote()")
      // The run that was on the lost server fails; whoever tries again finds the other.
      const lost = yield* Effect.flip(Effect.scoped(connections.client("copy")))
      assert.strictEqual(lost.reason, "Unreachable")
      assert.strictEqual(yield* pooled, standby.port)
    }).pipe(Effect.scoped), 60_000)
})
