/**
 * Collations: which columns have one, and what it does to comparisons.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Driver from "./driver/Driver.ts"

const { Local } = Driver

const typesOf = (client: Driver.Client, table: string) =>
  Effect.map(
    client.rows(`describe table ${table}`),
    (rows) => Object.fromEntries(rows.map((row) => [String(row["name"]), String(row["type"])]))
  )

layer(Local.layer(), { timeout: "60 seconds", excludeTestServices: true })("Collations", (it) => {
  it.effect("of a column decide what is equal, in conditions, joins, groups and windows", () =>
    Effect.gen(function*() {
      const { rows, script } = yield* Local
      yield* script(
        "create or replace table ci (k varchar collate 'en-ci' primary key, n int)",
        "create or replace table plain (k varchar, n int)",
        "insert into ci values ('a', 1), ('A', 2)",
        "insert into plain values ('a', 10), ('A', 20)"
      )
      assert.strictEqual((yield* rows("select * from ci where k = 'A'")).length, 2)
      assert.strictEqual((yield* rows("select * from ci join plain on ci.k = plain.k")).length, 4)
      assert.strictEqual((yield* rows("select count(*) from ci group by k")).length, 1)
      assert.strictEqual(
        (yield* rows("select k from ci qualify row_number() over (partition by k order by n) = 1")).length,
        1
      )
      assert.strictEqual((yield* rows("select * from plain where k = 'A'")).length, 1)
      // Both source rows meet both target rows.
      const refused = yield* Effect.flip((yield* Local).run(
        "merge into ci using plain on ci.k = plain.k when matched then update set n = plain.n"
      ))
      assert.strictEqual(refused.code, "100090")
      yield* script("create or replace table ai (k varchar collate 'en-ci-ai')", "insert into ai values ('Ä'), ('b')")
      assert.strictEqual((yield* rows("select * from ai where k = 'a'")).length, 1)
    }))

  it.effect("come from the column, the table, the schema or the database, in this order", () =>
    Effect.gen(function*() {
      const client = yield* Local
      const { rows, script } = client
      yield* script(
        "alter database demo set default_ddl_collation = 'en-ci'",
        "create schema collated default_ddl_collation = 'fr'",
        "create table demo.public.of_database (a varchar(3), n int)",
        "create table demo.collated.of_schema (a varchar(3), b varchar collate 'DE-ai' not null, c varchar collate '', d varchar collate 'utf8')",
        "create table demo.collated.of_table (a varchar(3)) default_ddl_collation = ''",
        "alter table demo.collated.of_table add column b varchar(4)",
        "create table demo.collated.like_it like demo.collated.of_schema"
      )
      assert.deepStrictEqual(yield* typesOf(client, "demo.public.of_database"), {
        A: "VARCHAR(3) COLLATE 'en-ci'",
        N: "NUMBER(38,0)"
      })
      const types = {
        A: "VARCHAR(3) COLLATE 'fr'",
        B: "VARCHAR(16777216) COLLATE 'de-ai'",
        C: "VARCHAR(16777216)",
        D: "VARCHAR(16777216) COLLATE 'utf8'"
      }
      assert.deepStrictEqual(yield* typesOf(client, "demo.collated.of_schema"), types)
      assert.deepStrictEqual(yield* typesOf(client, "demo.collated.like_it"), types)
      assert.deepStrictEqual(yield* typesOf(client, "demo.collated.of_table"), { A: "VARCHAR(3)", B: "VARCHAR(4)" })
      assert.deepStrictEqual(
        yield* rows(
          "select column_name, collation_name from information_schema.columns where table_name = 'OF_DATABASE' order by 1"
        ),
        [{ COLUMN_NAME: "A", COLLATION_NAME: "en-ci" }, { COLUMN_NAME: "N", COLLATION_NAME: null }]
      )
      yield* script(
        "alter table demo.public.of_database set default_ddl_collation = ''",
        "alter table demo.public.of_database add column c varchar(5)",
        "alter database demo unset default_ddl_collation",
        "alter schema demo.collated set default_ddl_collation = ''",
        "create table demo.collated.later (a varchar(3))"
      )
      assert.strictEqual((yield* typesOf(client, "demo.public.of_database"))["C"], "VARCHAR(5)")
      assert.deepStrictEqual(yield* typesOf(client, "demo.collated.later"), { A: "VARCHAR(3)" })
    }))

  it.effect("that are none, or can't be followed, are refused", () =>
    Effect.gen(function*() {
      const client = yield* Local
      for (
        const [sql, code] of [
          ["create table odd (n int collate 'en-ci')", "001008"],
          ["create table odd (k varchar collate 'en-nope')", "001008"],
          ["create table odd (k varchar collate 'en-pi')", "000002"],
          ["alter schema demo.public set default_ddl_collation = 'nope!'", "001008"]
        ] as const
      ) assert.strictEqual((yield* Effect.flip(client.run(sql))).code, code, sql)
    }))
})
