import { assert, layer } from "@effect/vitest"
import * as Progress from "@etl-stream/core/Progress"
import type * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Client } from "pg"
import * as HeldStatements from "./HeldStatements.ts"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** By which each connection of a copy imports its snapshot: the tables aren't locked yet. */
const imports = "SET TRANSACTION SNAPSHOT"

const tables =
  `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'old' FROM generate_series(1, 200) i;
  CREATE TABLE k (id int, v text); ALTER TABLE k REPLICA IDENTITY FULL; INSERT INTO k SELECT i % 7, 'old' FROM generate_series(1, 50) i;
  CREATE TABLE quiet (id int PRIMARY KEY); INSERT INTO quiet SELECT generate_series(1, 100)`

/** A url by which `before` sees what is sent to the server. */
const by = Effect.fnUntraced(function*(
  pg: EmbeddedPostgres.EmbeddedPostgres,
  before: (sent: string) => Promise<unknown> | undefined
) {
  const port = yield* HeldStatements.start(pg, before)
  const url = new URL(pg.url)
  url.port = String(port)
  return url.href
})

/** How often each table's copy began. */
const counting = () => {
  const begun = new Map<string, number>()
  return {
    begun,
    each: (element: { readonly _tag: string; readonly table?: { readonly table: { readonly name: string } } }) =>
      Effect.sync(() => {
        if (element._tag !== "SnapshotBegin" || element.table === undefined) return
        const { name } = element.table.table
        begun.set(name, (begun.get(name) ?? 0) + 1)
      })
  }
}

const conditionsOf = (progress: Progress.Progress) => [...progress.conditions.values()].map(({ name }) => name)

layer(Server.layer, { excludeTestServices: true })("TruncatedCopy", (it) => {
  for (const times of [1, 6]) {
    it.effect(
      `tables truncated ${times} times, each just when their copies begin, begin again as often and no more; the others go on`,
      () =>
        Effect.gen(function*() {
          const pg = yield* Server
          const name = `truncated_${times}`
          const write = yield* SourceRun.schema(name, tables)
          const write_ = (sql: string) => Effect.runPromise(write(sql))
          let imported = 0
          let truncated = 0
          const url = yield* by(pg, (sent) => {
            if (!sent.includes(imports)) return undefined
            imported++
            if (truncated === times) return undefined
            const n = ++truncated
            return write_(
              `INSERT INTO t VALUES (${1000 + n}, 'before'); INSERT INTO k VALUES (${n}, 'before'); TRUNCATE t, k;
               INSERT INTO t SELECT i, 'after ${n}' FROM generate_series(1, 20) i; INSERT INTO k VALUES (1, 'a'), (1, 'a'), (${n}, 'b')`
            ).then(() => write_("UPDATE t SET v = v || '!', id = -id WHERE id < 5; DELETE FROM k WHERE v = 'b'"))
          })
          const mirror = new Mirror()
          const progress = Progress.make(name)
          const { begun, each } = counting()
          const seen = new Set<string>()
          const run = yield* SourceRun.start(name, mirror, {
            url,
            progress,
            snapshot: { parallel: 1 },
            each: (element) =>
              Effect.andThen(
                each(element),
                Effect.sync(() => {
                  for (const condition of conditionsOf(progress)) seen.add(condition)
                  if (element._tag === "SnapshotEnd" && element.table.table.name === "quiet") {
                    seen.add(`quiet copied after ${truncated}`)
                  }
                })
              )
          })
          yield* run.until(() => truncated === times && ["t", "k", "quiet"].every((table) => begun.has(table)))
          yield* run.copied
          yield* write("INSERT INTO t VALUES (5000, 'last'); INSERT INTO k VALUES (5000, 'last')")
          yield* run.caughtUp
          assert.deepStrictEqual(yield* mirror.differences(pg), [])
          assert.strictEqual(mirror.tables.get(`${name}.t`)?.rows.size, 21)
          assert.strictEqual(imported, times + 1, "one snapshot for each truncation, and the one that stayed")
          assert.strictEqual(begun.get("quiet"), 1)
          for (const table of ["t", "k"]) assert.isAtMost(begun.get(table) ?? 0, times, table)
          assert.isTrue(seen.has("quiet copied after 1"), [...seen].join("; "))
          assert.strictEqual(seen.has("copy-disturbed"), times >= 3)
          assert.notInclude(conditionsOf(progress), "copy-disturbed")
          yield* run.stop
        }).pipe(Effect.scoped)
    )
  }

  it.effect("a table truncated without a pause keeps no other from being copied, and is copied when that ends", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("unceasing", tables)
      let n = 0
      const truncating = yield* Effect.forkScoped(Effect.forever(Effect.suspend(() => {
        n++
        return write(
          `TRUNCATE t, k; INSERT INTO t SELECT i, '${n}' FROM generate_series(1, 50) i; INSERT INTO k VALUES (${n}, 'a'), (${n}, 'a')`
        )
      })))
      const mirror = new Mirror()
      const { begun, each } = counting()
      let copied = false
      const run = yield* SourceRun.start("unceasing", mirror, {
        each: (element) => {
          copied ||= element._tag === "SnapshotEnd" && element.table.table.name === "quiet"
          return each(element)
        }
      })
      yield* run.until(() => copied)
      yield* Fiber.interrupt(truncating)
      yield* run.until(() => ["t", "k"].every((table) => begun.has(table)))
      yield* run.copied
      yield* run.caughtUp
      assert.strictEqual(begun.get("quiet"), 1)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* run.stop
    }).pipe(Effect.scoped))

  it.effect("a table that is truncated when it joins, or when it is copied again, begins its copy again in the same run", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("rejoined", tables)
      let armed = false
      let truncated = 0
      const url = yield* by(pg, (sent) => {
        if (!armed || !sent.includes(imports)) return undefined
        armed = false
        truncated++
        return Effect.runPromise(write("TRUNCATE t; INSERT INTO t SELECT i, 'again' FROM generate_series(1, 30) i"))
      })
      const mirror = new Mirror()
      mirror.recopies = true
      const { begun, each } = counting()
      const run = yield* SourceRun.start("rejoined", mirror, { url, each, publication: { check: "1 second" } })
      yield* run.copied
      yield* run.caughtUp

      armed = true
      yield* run.resync("rejoined.t")
      yield* run.until(() => truncated === 1 && begun.get("t") === 3)
      yield* run.copied
      yield* run.caughtUp
      assert.deepStrictEqual(yield* mirror.differences(pg), [])

      armed = true
      yield* write("CREATE TABLE fresh (id int PRIMARY KEY); INSERT INTO fresh SELECT generate_series(1, 10)")
      yield* run.until(() => truncated === 2 && begun.has("fresh"))
      yield* run.copied
      yield* run.caughtUp
      // The truncated table is not one of those that begin: its truncation comes as a change.
      assert.strictEqual(begun.get("t"), 3)
      assert.strictEqual(begun.get("fresh"), 1)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* run.stop
    }).pipe(Effect.scoped))

  it.effect("a TRUNCATE that waits for a copy that is about to begin goes first, and the other tables' copies don't begin again", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("waited", tables)
      const other = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const client = new Client({ connectionString: pg.url })
          await client.connect()
          return client
        }),
        (client) => Effect.promise(() => client.end())
      )
      let imported = 0
      let truncating: Promise<unknown> | undefined
      const waits = async () => {
        for (;;) {
          const rows = await Effect.runPromise(
            pg.query("SELECT FROM pg_locks WHERE NOT granted AND relation IS NOT NULL")
          )
          if (rows.length > 0) return
        }
      }
      const url = yield* by(pg, (sent) => {
        // The first connection holds the locks by now, the second doesn't.
        if (!sent.includes(imports) || ++imported !== 2) return undefined
        truncating = other.query(
          "TRUNCATE waited.t; INSERT INTO waited.t SELECT i, 'new' FROM generate_series(1, 10) i"
        )
        return waits()
      })
      const mirror = new Mirror()
      const { begun, each } = counting()
      const run = yield* SourceRun.start("waited", mirror, { url, each, snapshot: { parallel: 2 } })
      yield* run.until(() => ["t", "k", "quiet"].every((table) => begun.has(table)))
      yield* Effect.promise(() => truncating ?? Promise.reject(new Error("nothing was truncated")))
      yield* run.copied
      yield* run.caughtUp
      assert.deepStrictEqual([...begun].toSorted(), [["k", 1], ["quiet", 1], ["t", 1]])
      assert.strictEqual(mirror.tables.get("waited.t")?.rows.size, 10)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* write("INSERT INTO t VALUES (99, 'later')")
      yield* run.caughtUp
      yield* run.stop
    }).pipe(Effect.scoped))

  it.effect("a table that is truncated while the catalog is read is no reason to begin again", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("read", tables)
      let truncated = 0
      const url = yield* by(pg, (sent) => {
        // Between its files and its columns' history. Once the copy has its lock, a TRUNCATE has to wait.
        if (!sent.includes("indisreplident")) return undefined
        const truncate = pg.query(
          "SET LOCAL lock_timeout = '50ms'; TRUNCATE read.t; INSERT INTO read.t SELECT generate_series(1, 30), 'new'"
        )
        return Effect.runPromise(Effect.match(truncate, { onFailure: () => {}, onSuccess: () => void truncated++ }))
      })
      const mirror = new Mirror()
      const { begun, each } = counting()
      const run = yield* SourceRun.start("read", mirror, { url, each })
      yield* run.copied
      yield* run.caughtUp
      assert.isAtLeast(truncated, 1)
      assert.deepStrictEqual([...begun].toSorted(), [["k", 1], ["quiet", 1], ["t", 1]])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* run.stop
    }).pipe(Effect.scoped))
})
