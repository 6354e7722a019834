/**
 * As many columns as a table can have, rows as large as they come, and many tables.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Catalog from "../src/Catalog.ts"
import * as Connections from "../src/Connections.ts"
import * as Publication from "../src/Publication.ts"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

const mostColumns = 1600
const manyTables = 500

layer(Server.layer, { excludeTestServices: true })("Wide", (it) => {
  it.effect("1,600 columns, in rows of tens of megabytes, are copied, followed and partly left out when unchanged", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const types = ["smallint", "boolean", "smallint", "\"char\""]
      const large = 20
      const columns = Array.from({ length: mostColumns - 1 - large }, (_, index) => `c${index} ${types[index % 4]}`)
      const texts = Array.from({ length: large }, (_, index) => `t${index} text`)
      const values = columns.map((_, index) => ["i", "i % 2 = 0", "NULL", "'x'"][index % 4])
      const write = yield* SourceRun.schema(
        "wide",
        `CREATE TABLE t (id int PRIMARY KEY, ${[...columns, ...texts].join(", ")});
         ${texts.map((text) => `ALTER TABLE t ALTER COLUMN ${text.split(" ")[0]} SET STORAGE EXTERNAL;`).join(" ")}`
      )
      const insert = (from: number, to: number, bytes: number) =>
        write(
          `INSERT INTO t SELECT i, ${values.join(", ")}, ${
            texts.map((_, index) => `repeat('${index % 10}', ${bytes})`).join(", ")
          }
           FROM generate_series(${from}, ${to}) i`
        )
      yield* insert(1, 40, 10_000)
      yield* insert(41, 41, 1_000_000)
      const mirror = new Mirror()
      const run = yield* SourceRun.start("wide", mirror)
      yield* run.caughtUp
      assert.strictEqual(mirror.tables.get("wide.t")?.schema.columns.length, mostColumns)
      yield* insert(100, 120, 10_000)
      yield* insert(121, 121, 1_000_000)
      yield* write(
        "UPDATE t SET c0 = 7, t3 = 'short' WHERE id > 35; UPDATE t SET id = id + 1000 WHERE id IN (1, 41); DELETE FROM t WHERE id BETWEEN 10 AND 20"
      )
      yield* run.caughtUp
      assert.isAbove(mirror.unsentCells, 100)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* run.stop
    }))

  it.effect("500 tables begin with as few questions to the catalog as one, and are copied and followed all", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("many", "CREATE TABLE first (id int PRIMARY KEY)")
      const questions = Effect.gen(function*() {
        const connections = yield* Connections.make(SourceRun.settings({ url: pg.url, tables: ["many.*"] }, "many"))
        let count = 0
        const counting: Connections.Connections = {
          ...connections,
          query: (doing, row, sql, parameters) => {
            count++
            return connections.query(doing, row, sql, parameters)
          }
        }
        const publication = yield* Publication.read(counting, "many", pg.version * 10_000)
        const { tables } = yield* Catalog.read(counting, connections.settings.tables, publication, pg.version * 10_000)
        return { count, tables: tables.length }
      }).pipe(Effect.scoped)
      const one = yield* questions
      assert.strictEqual(one.tables, 1)
      for (let from = 1; from < manyTables; from += 50) {
        yield* write(
          `DO $$ BEGIN FOR i IN ${from}..${Math.min(from + 49, manyTables - 1)} LOOP
             EXECUTE format('CREATE TABLE many.t%s (id int PRIMARY KEY, v text)', i);
             EXECUTE format('INSERT INTO many.t%s SELECT i, i FROM generate_series(1, 5) i', i); END LOOP; END $$`
        )
      }
      assert.deepStrictEqual(yield* questions, { count: one.count, tables: manyTables })
      const mirror = new Mirror()
      const run = yield* SourceRun.start("many", mirror)
      yield* run.caughtUp
      assert.strictEqual([...mirror.tables.values()].filter(({ copied }) => copied !== undefined).length, manyTables)
      for (
        const [tables, statement] of [[1, "INSERT INTO many.t%s VALUES (6, 'n')"], [
          2,
          "UPDATE many.t%s SET v = 'u' WHERE id < 3"
        ]] as const
      ) {
        yield* write(
          `DO $$ BEGIN FOR i IN ${tables}..${manyTables - 1} LOOP EXECUTE format('${
            statement.replaceAll("'", "''")
          }', i); END LOOP; END $$`
        )
      }
      yield* run.caughtUp
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* run.stop
      yield* SourceRun.catchUp("many", mirror)
      assert.deepStrictEqual(mirror.problems, [])
    }))
})
