import { assert, layer } from "@effect/vitest"
import { tableId } from "@etl-stream/core/TableSchema"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Config from "../src/Config.ts"
import { plugin } from "../src/index.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** What the plugin tells the runner. */
const tables = (options: SourceRun.Options, pipeline: string) =>
  Effect.gen(function*() {
    const config = yield* Effect.orDie(Schema.decodeUnknownEffect(Config.Config)(options))
    assert.isDefined(plugin.tables)
    return yield* plugin.tables(config, { pipeline, directory: "." })
  }).pipe(Effect.scoped)

const footprint = (pg: EmbeddedPostgres.EmbeddedPostgres) =>
  pg.query(`SELECT (SELECT json_agg(s.slot_name ORDER BY s.slot_name) FROM pg_replication_slots s) AS slots,
    (SELECT json_agg(p ORDER BY p.oid) FROM pg_publication p) AS publications, (SELECT count(*) FROM pg_class) AS relations`)

layer(Server.layer, { excludeTestServices: true })("the tables of a source", (it) => {
  it.effect("are those that a run would find, by a role that could not run, with nothing changed", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema(
        "planned",
        `CREATE TABLE orders (id bigint PRIMARY KEY, price numeric(12,2) NOT NULL, note varchar(20));
        CREATE TABLE "Odd.Name" ("Key" uuid PRIMARY KEY);
        CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)`
      )
      yield* pg.query("CREATE ROLE onlooker LOGIN PASSWORD 'onlooker'")
      const before = yield* footprint(pg)
      const url = pg.urlOf({ user: "onlooker", password: "onlooker" })
      const found = yield* tables({ url, tables: ["planned.*"] }, "planned")
      assert.deepStrictEqual(yield* footprint(pg), before)
      assert.deepStrictEqual(found.map(({ table }) => tableId(table)).toSorted(), [
        "planned.\"Odd.Name\"",
        "planned.orders",
        "planned.parts"
      ])
      const orders = found.find(({ table }) => table.name === "orders")
      assert.deepStrictEqual(
        orders?.columns.map(({ name, nullable, sourceType, type }) => [name, type, sourceType, nullable]),
        [
          ["id", { _tag: "Int64" }, "bigint", false],
          ["price", { _tag: "Decimal", precision: 12, scale: 2 }, "numeric(12,2)", false],
          ["note", { _tag: "Text", maxLength: 20 }, "character varying(20)", true]
        ]
      )
      assert.deepStrictEqual(orders?.identity, { _tag: "Key", columns: [0] })
    }))

  it.effect("have the columns that a publication publishes, where there is one", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("narrowed", "CREATE TABLE t (id int PRIMARY KEY, a text, b text)")
      // Column lists came with PostgreSQL 15.
      if (EmbeddedPostgres.version < 15) return
      yield* pg.query("CREATE PUBLICATION narrow FOR TABLE narrowed.t (id, b)")
      const [table] = yield* tables(
        { url: pg.url, tables: ["narrowed.t"], publication: { name: "narrow" } },
        "narrowed"
      )
      assert.deepStrictEqual(table?.columns.map(({ name }) => name), ["id", "b"])
    }))

  it.effect("can't be told when a pattern matches none, or the server doesn't answer", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const missing = yield* Effect.flip(tables({ url: pg.url, tables: ["public.nothing_here"] }, "none"))
      assert.deepInclude(missing, { reason: "Missing", message: "no table matches public.nothing_here." })
      const away = yield* Effect.flip(tables({ url: "postgresql://someone@127.0.0.1:1/none", tables: ["a.*"] }, "away"))
      assert.strictEqual(away.reason, "Unreachable")
    }))
})
