/**
 * What happens within one run to what is newer than the copy: the origin that was noted with it knows nothing of that.
 */
import { assert, layer } from "@effect/vitest"
import * as Progress from "@etl-stream/core/Progress"
import * as Effect from "effect/Effect"
import * as TableOrigin from "../src/TableOrigin.ts"
import * as VoidCopies from "../src/VoidCopies.ts"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** The `names`, and a table by which is seen that somebody has looked: it comes last. */
const landscape = Effect.fnUntraced(function*(name: string, sql: string, names: ReadonlyArray<string> = ["t"]) {
  const pg = yield* Server
  const write = yield* SourceRun.schema(name, `${sql}; CREATE TABLE zz (id int PRIMARY KEY)`)
  const tables = [...names, "zz"].map((table) => `${name}.${table}`)
  yield* pg.query(
    `CREATE PUBLICATION ${name} FOR TABLE ${tables.join(", ")} WITH (publish_via_partition_root = true)`
  )
  const mirror = new Mirror()
  mirror.recopies = true
  const progress = Progress.make(name)
  const options: SourceRun.StartOptions = {
    tables,
    publication: { manage: false, check: "200 millis" }
  }
  const run = yield* SourceRun.start(name, mirror, { ...options, progress })
  yield* run.caughtUp
  return {
    write,
    mirror,
    run,
    /** Waits until the tables were looked at as they are now. */
    lookedAt: Effect.gen(function*() {
      yield* pg.query(`ALTER PUBLICATION ${name} DROP TABLE ${name}.zz`)
      yield* run.until(() => [...progress.conditions.values()].some((one) => one.name === "publication-table-missing"))
    }),
    /** The next run ends with exactly what the table holds. */
    isRestored: Effect.gen(function*() {
      yield* Effect.ignore(pg.query(`ALTER PUBLICATION ${name} ADD TABLE ${name}.zz`))
      yield* SourceRun.catchUp(name, mirror, options)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    })
  }
})

const partitioned = `CREATE TABLE t (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
  CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu'); INSERT INTO t VALUES (1, 'eu')`
const another = "CREATE TABLE t_ca PARTITION OF t FOR VALUES IN ('ca'); INSERT INTO t VALUES (1, 'ca'), (2, 'ca')"

layer(Server.layer, { excludeTestServices: true, timeout: 60_000 })("within one run", (it) => {
  it.effect("a partition that is made and dropped leaves no rows behind", () =>
    Effect.gen(function*() {
      const { isRestored, lookedAt, mirror, run, write } = yield* landscape(
        "overtaken_partition",
        partitioned
      )
      yield* write(another)
      yield* run.caughtUp
      assert.strictEqual(mirror.tables.get("overtaken_partition.t")?.rows.size, 3)
      yield* lookedAt
      yield* write("DROP TABLE t_ca; INSERT INTO t VALUES (2, 'eu')")
      const failure = yield* run.failure
      assert.strictEqual(failure.reason, "Fenced")
      assert.match(failure.message, /a partition was detached or dropped/)
      yield* run.stop
      yield* isRestored
      assert.strictEqual(mirror.tables.get("overtaken_partition.t")?.rows.size, 2)
    }))

  it.effect("a partition that was made in it leaves no rows behind when it is dropped before the next one", () =>
    Effect.gen(function*() {
      const { isRestored, lookedAt, mirror, run, write } = yield* landscape("overtaken_between", partitioned)
      yield* write(another)
      yield* run.caughtUp
      yield* lookedAt
      yield* run.stop
      yield* write("DROP TABLE t_ca")
      yield* isRestored
      assert.strictEqual(mirror.tables.get("overtaken_between.t")?.rows.size, 1)
      // Once: the new copy doesn't know the partition. Of another one the mirror would complain.
      mirror.recopies = false
      yield* isRestored
    }))

  it.effect("why a copy is void is known as long as the sink may give it back", () =>
    Effect.sync(() => {
      const settings = SourceRun.settings({
        url: "postgresql://somebody:secret@localhost/overtaken",
        tables: ["public.t"]
      }, "overtaken")
      const origin = (...partitions: ReadonlyArray<number>) => {
        const made = TableOrigin.parse(JSON.stringify({
          oid: 1,
          columns: [],
          lastNumber: 0,
          files: [],
          gone: [],
          partitions: partitions.map((oid) => [oid, "", [], null])
        }))
        assert.isDefined(made)
        return made
      }
      const [first, second] = [100n, 200n]
      assert.isUndefined(VoidCopies.see(settings, 1, first, origin(2)))
      assert.isUndefined(VoidCopies.see(settings, 1, first, origin(2, 3)))
      assert.match(VoidCopies.see(settings, 1, first, origin(2)) ?? "", /dropped/)
      // Told once, and known from then on, also when another copy has begun that never came to its end.
      assert.isUndefined(VoidCopies.see(settings, 1, first, origin(2)))
      assert.isUndefined(VoidCopies.see(settings, 1, second, origin(2)))
      VoidCopies.keepOnly(settings, 1, first)
      assert.match(VoidCopies.seen(settings, 1, first) ?? "", /dropped/)
      VoidCopies.keepOnly(settings, 1, second)
      assert.isUndefined(VoidCopies.seen(settings, 1, first))
    }))

  it.effect("an enum's value that is added and renamed has its new name in every row of every table", () =>
    Effect.gen(function*() {
      const { isRestored, lookedAt, run, write } = yield* landscape(
        "overtaken_enum",
        `CREATE TYPE mood AS ENUM ('calm'); CREATE TABLE t (id int PRIMARY KEY, m mood); INSERT INTO t VALUES (1, 'calm');
         CREATE TABLE u (LIKE t INCLUDING ALL); INSERT INTO u VALUES (1, 'calm')`,
        ["t", "u"]
      )
      yield* write(
        "ALTER TYPE mood ADD VALUE 'loud'; COMMIT; INSERT INTO t VALUES (2, 'loud'); INSERT INTO u VALUES (2, 'loud')"
      )
      yield* run.caughtUp
      yield* lookedAt
      yield* write("ALTER TYPE mood RENAME VALUE 'loud' TO 'noisy'; INSERT INTO t VALUES (3, 'calm')")
      const failure = yield* run.failure
      assert.strictEqual(failure.reason, "Fenced")
      assert.match(failure.message, /a value of the enum of column m was renamed/)
      yield* run.stop
      yield* isRestored
    }))
})
