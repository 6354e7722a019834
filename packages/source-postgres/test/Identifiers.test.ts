/**
 * Names that need quoting, or that break what doesn't quote them, from the options to the stream.
 */
import { assert, layer } from "@effect/vitest"
import { tableId } from "@etl-stream/core/TableSchema"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as Sql from "../src/Sql.ts"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

const names = [
  "MixedCase",
  "select",
  "with space",
  "dot.ted",
  "quo\"ted",
  "\"all\"",
  "apo'strophe",
  "back\\slash\\n",
  "per%cent_%I$1",
  "new\nline\ttab",
  "ünï-日本語",
  "🐘 elephant",
  "1st",
  "_",
  "--comment/*",
  "a;b,c",
  "x".repeat(63),
  // As long as the server takes: 63 bytes.
  "é".repeat(31) + "e"
]

const quoted = (name: string) => Sql.identifier(name)

layer(Server.layer, { excludeTestServices: true })("Identifiers", (it) => {
  it.effect("schemas, tables, columns and publications of any name are copied, followed and reshaped", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const schemas = names.slice(0, 12)
      const tables = names.map((name, index) => ({ schema: schemas[index % schemas.length] ?? "", name }))
      for (const schema of schemas) yield* pg.query(`CREATE SCHEMA ${quoted(schema)}`)
      const columns = names.map((name) => `${quoted(name)} text`).join(", ")
      for (const table of tables) {
        yield* pg.query(
          `CREATE TABLE ${Sql.table(table)} (id int, ${columns}, PRIMARY KEY (id, ${quoted(table.name)}));
           INSERT INTO ${Sql.table(table)} SELECT i, ${
            names.map((_, index) => `'v${index}'`).join(", ")
          } FROM generate_series(1, 3) i`
        )
      }
      const partitioned = { schema: "dot.ted", name: "parent \"of\" parts" }
      yield* pg.query(
        `CREATE TABLE ${Sql.table(partitioned)} (id int PRIMARY KEY, "V" text) PARTITION BY RANGE (id);
         CREATE TABLE ${Sql.table({ ...partitioned, name: "part 'one'" })} PARTITION OF ${
          Sql.table(partitioned)
        } FOR VALUES FROM (0) TO (10);
         INSERT INTO ${Sql.table(partitioned)} VALUES (1, 'v')`
      )
      const all = [...tables, partitioned]
      for (const name of ["pub \"of\" \\ 'all', %é🐘", "P".repeat(63)]) {
        // The first is made by the pipeline, the second is there.
        const manage = !name.startsWith("P")
        if (!manage) {
          yield* pg.query(`CREATE PUBLICATION ${quoted(name)} FOR TABLE ${all.map(Sql.table).join(", ")}`)
        }
        const mirror = new Mirror()
        const run = yield* SourceRun.start(manage ? "odd" : "odd_given", mirror, {
          tables: all.map(Sql.table),
          publication: { name, manage }
        })
        yield* run.caughtUp
        for (const table of all) {
          const column = quoted(table === partitioned ? "V" : table.name)
          yield* pg.query(
            `UPDATE ${Sql.table(table)} SET ${column} = ${column} || 'x'; UPDATE ${
              Sql.table(table)
            } SET id = id + 5 WHERE id = 1; DELETE FROM ${Sql.table(table)} WHERE id = 2`
          )
        }
        yield* run.caughtUp
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
        assert.deepStrictEqual([...mirror.tables.keys()].sort(), all.map(tableId).sort())
        yield* pg.query(`TRUNCATE ${all.map(Sql.table).join(", ")}`)
        yield* run.caughtUp
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
        yield* run.stop
        for (const table of all) {
          yield* pg.query(
            `INSERT INTO ${Sql.table(table)} (id, ${
              quoted(table === partitioned ? "V" : table.name)
            }) VALUES (1, 'w'), (2, 'w')`
          )
        }
      }
    }))

  // Row filters came with PostgreSQL 15.
  if (EmbeddedPostgres.version >= 15) {
    it.effect("filters and lists of columns of any name are honoured", () =>
      Effect.gen(function*() {
        const pg = yield* Server
        const columns = names.map((name) => `${quoted(name)} int`).join(", ")
        const write = yield* SourceRun.schema(
          "odd_filters",
          `CREATE TABLE t (id int PRIMARY KEY, ${columns}); ALTER TABLE t REPLICA IDENTITY FULL`
        )
        const filter = names.map((name) => `${quoted(name)} > 0`).join(" AND ")
        yield* write(`CREATE PUBLICATION odd_filters FOR TABLE t WHERE (${filter})`)
        const values = (value: number) => names.map(() => String(value)).join(", ")
        yield* write(`INSERT INTO t VALUES (1, ${values(1)}), (2, ${values(0)})`)
        const mirror = new Mirror()
        const run = yield* SourceRun.start("odd_filters", mirror, { publication: { manage: false } })
        yield* run.caughtUp
        yield* write(
          `INSERT INTO t VALUES (3, ${values(5)}), (4, ${values(-1)}); UPDATE t SET ${quoted("🐘 elephant")} = 1 - ${
            quoted("🐘 elephant")
          }`
        )
        yield* run.caughtUp
        assert.deepStrictEqual(yield* mirror.differences(pg, { "odd_filters.t": `odd_filters.t WHERE ${filter}` }), [])
        yield* run.stop
      }))
  }
})
