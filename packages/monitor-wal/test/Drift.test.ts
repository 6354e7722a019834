import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import { failure, GiB, memory, pass, Pipeline, Server, watch } from "./Scripted.ts"

const scenario = (name: string, test: Effect.Effect<void, unknown, Scope.Scope>) =>
  it.effect(name, () => Effect.provideService(test, References.MinimumLogLevel, "None"))

const options = { slots: [{ slot: "shop", pipeline: "shop" }], budget: "100GiB" }
const counted = (totalTransactions: number, reset?: string) => ({
  spilledTransactions: 0,
  spilledBytes: 0,
  streamedTransactions: 0,
  streamedBytes: 0,
  totalTransactions,
  totalBytes: 0,
  reset
})

const table = (name: string, identified = true, ancestors: ReadonlyArray<string> = []) => ({
  table: name,
  identified,
  ancestors
})

describe("a slot", () => {
  scenario(
    "that is dropped is told at once, and one that is made anew until it is read",
    Effect.gen(function*() {
      const server = new Server()
      const { conditions, raised } = yield* watch(server, options)
      yield* pass(20)
      server.slots.delete("shop")
      yield* pass(10)
      assert.deepStrictEqual(raised(), ["slot-missing shop"])
      assert.strictEqual(conditions()[0]?.severity, "critical")
      server.slots.set("shop", server.slot("shop", { active: false }))
      yield* pass(10)
      assert.deepStrictEqual(raised(), ["slot-recreated shop"])
      yield* pass(60)
      assert.deepStrictEqual(raised(), ["slot-recreated shop"])
      server.write(1000)
      server.change("shop", { active: true, confirmed: server.lsn })
      yield* pass(10)
      assert.deepStrictEqual(raised(), [])
    })
  )

  scenario(
    "that is named and was never there is a warning once that lasts",
    Effect.gen(function*() {
      const server = new Server()
      const { conditions, raised } = yield* watch(server, { slots: ["shop", "typo"], budget: "100GiB" })
      yield* pass(30)
      assert.deepStrictEqual(raised(), [])
      yield* pass(60)
      assert.deepStrictEqual(raised(), ["slot-missing typo"])
      assert.strictEqual(conditions()[0]?.severity, "warning")
    })
  )

  scenario(
    "that was dropped and made anew between two looks shows by its counters; statistics that were reset don't",
    Effect.gen(function*() {
      const server = new Server()
      server.change("shop", { decoded: counted(500) })
      const { raised } = yield* watch(server, options)
      yield* pass(20)
      server.change("shop", { decoded: counted(5, "2026-02-02") })
      yield* pass(10)
      assert.deepStrictEqual(raised(), [])
      server.statisticsReset = "2026-03-03"
      server.change("shop", { decoded: counted(2, "2026-02-02") })
      yield* pass(10)
      assert.deepStrictEqual(raised(), [])
      server.change("shop", { decoded: counted(0, "2026-02-02") })
      yield* pass(10)
      assert.deepStrictEqual(raised(), ["slot-recreated shop"])
    })
  )

  scenario(
    "that was dropped while the monitor didn't run is known to have been there",
    Effect.gen(function*() {
      const server = new Server()
      const state = memory()
      const first = yield* Scope.make()
      yield* watch(server, options, { state }).pipe(Scope.provide(first))
      yield* pass(20)
      yield* Scope.close(first, Exit.void)
      server.slots.delete("shop")
      const { conditions, raised } = yield* watch(server, options, { state })
      assert.deepStrictEqual(raised(), ["slot-missing shop"])
      assert.strictEqual(conditions()[0]?.severity, "critical")
    })
  )

  scenario(
    "that is another one than it was says in what",
    Effect.gen(function*() {
      const server = new Server()
      server.change("shop", { failover: true })
      const { conditions, raised } = yield* watch(server, options)
      server.change("shop", { plugin: "test_decoding", database: "other", failover: false, twoPhase: true })
      yield* pass(10)
      assert.deepStrictEqual(raised(), ["slot-changed shop"])
      assert.include(
        conditions()[0]?.message ?? "",
        "its plugin is test_decoding instead of pgoutput, it decodes the database other instead of app, " +
          "its failover is off instead of on, its two_phase is on instead of off"
      )
      server.change("shop", { plugin: "pgoutput", database: "app", failover: true, twoPhase: false })
      yield* pass(10)
      assert.deepStrictEqual(raised(), [])
    })
  )

  scenario(
    "has to be as the options say, whatever it was",
    Effect.gen(function*() {
      const server = new Server()
      const { raised } = yield* watch(server, { slots: [{ slot: "shop", failover: true }], budget: "100GiB" })
      yield* pass(10)
      assert.deepStrictEqual(raised(), ["slot-changed shop"])
      server.change("shop", { failover: true })
      yield* pass(10)
      assert.deepStrictEqual(raised(), [])
    })
  )

  scenario(
    "that is lost, or will be, is told at once",
    Effect.gen(function*() {
      const server = new Server()
      const { raised } = yield* watch(server, options)
      server.change("shop", { status: "unreserved" })
      yield* pass(10)
      assert.deepStrictEqual(raised(), ["slot-unreserved shop"])
      server.change("shop", { status: "lost", restart: undefined })
      yield* pass(10)
      assert.deepStrictEqual(raised(), ["slot-lost shop"])
    })
  )
})

describe("what is published", () => {
  scenario(
    "lacks tables that the pipeline reads, unless they are published as their partitions",
    Effect.gen(function*() {
      const server = new Server()
      const pipeline = new Pipeline()
      pipeline.tables = ["public.orders", "public.users", "public.events"]
      server.publications = [{
        name: "shop",
        needsIdentity: true,
        tables: [table("public.orders"), table("public.users"), table("public.events_2026", true, ["public.events"])]
      }]
      const { raised } = yield* watch(server, options, { pipelines: [pipeline] })
      yield* pass(300)
      assert.deepStrictEqual(raised(), [])
      server.publications = [{ name: "shop", needsIdentity: true, tables: [table("public.orders")] }]
      yield* pass(60)
      assert.deepStrictEqual(raised(), [])
      yield* pass(90)
      assert.deepStrictEqual(raised(), [
        "publication-table-missing shop public.users",
        "publication-table-missing shop public.events"
      ])
      server.publications = [{
        name: "shop",
        needsIdentity: true,
        tables: [table("public.orders"), table("public.users"), table("public.events")]
      }]
      yield* pass(60)
      assert.deepStrictEqual(raised(), [])
    })
  )

  scenario(
    "is as the options say, and a publication that is gone is one condition",
    Effect.gen(function*() {
      const server = new Server()
      server.publications = [{ name: "sales", needsIdentity: true, tables: [table("public.orders")] }]
      const { raised } = yield* watch(server, {
        slots: [{ slot: "shop", publication: "sales", tables: ["public.orders", "public.lines"] }],
        budget: "100GiB"
      })
      yield* pass(130)
      assert.deepStrictEqual(raised(), ["publication-table-missing sales public.lines"])
      server.publications = []
      yield* pass(200)
      assert.include(raised(), "publication-missing sales")
      // Also while the slot is away.
      server.slots.delete("shop")
      yield* pass(400)
      assert.include(raised(), "publication-missing sales")
    })
  )

  scenario(
    "of the slot's name is looked at once it was seen, and none is missing before",
    Effect.gen(function*() {
      const server = new Server()
      const { raised } = yield* watch(server, options)
      yield* pass(200)
      assert.deepStrictEqual(raised(), [])
      server.publications = [{ name: "shop", needsIdentity: true, tables: [] }]
      yield* pass(120)
      server.publications = []
      yield* pass(200)
      assert.deepStrictEqual(raised(), ["publication-missing shop"])
    })
  )

  scenario(
    "tells of tables that lost their key, not of those that never had one, nor where only inserts are published",
    Effect.gen(function*() {
      const server = new Server()
      const tables = (identified: boolean) => [table("public.orders", identified), table("public.log", false)]
      server.publications = [{ name: "shop", needsIdentity: true, tables: tables(true) }]
      const state = memory()
      const first = yield* Scope.make()
      yield* watch(server, options, { state }).pipe(Scope.provide(first))
      yield* pass(70)
      yield* Scope.close(first, Exit.void)
      server.publications = [{ name: "shop", needsIdentity: true, tables: tables(false) }]
      const { raised } = yield* watch(server, options, { state })
      yield* pass(130)
      assert.deepStrictEqual(raised(), ["replica-identity-lost shop public.orders"])
      server.publications = [{ name: "shop", needsIdentity: false, tables: tables(false) }]
      yield* pass(60)
      assert.deepStrictEqual(raised(), [])
    })
  )

  scenario(
    "that can't be looked at is told once that lasts, keeps what was told, and keeps nobody from watching the slots",
    Effect.gen(function*() {
      const server = new Server()
      server.publications = [{ name: "shop", needsIdentity: true, tables: [] }]
      const { raised } = yield* watch(server, {
        slots: [{ slot: "shop", tables: ["public.orders"] }],
        budget: "10GiB",
        thresholds: { warning: "50%" }
      })
      yield* pass(130)
      assert.deepStrictEqual(raised(), ["publication-table-missing shop public.orders"])
      server.unreadable = failure("Throttled", "a lock is held")
      server.write(6 * GiB)
      yield* pass(600)
      assert.deepStrictEqual(raised(), [
        "publication-table-missing shop public.orders",
        "slot-wal-warning shop",
        "publications-unknown"
      ])
      server.unreadable = undefined
      yield* pass(60)
      assert.deepStrictEqual(raised(), ["publication-table-missing shop public.orders", "slot-wal-warning shop"])
    })
  )
})
