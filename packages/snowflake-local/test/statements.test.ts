/**
 * Statements through the unmodified driver: definitions, changes, MERGE, transactions, and the errors that Snowflake would give.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Driver from "./driver/Driver.ts"

const { Local } = Driver

const errorOf = (client: Driver.Client, sql: string) =>
  Effect.map(Effect.flip(client.run(sql)), (error) => `${error.code} ${error.sqlState}`)

/** Waits until a statement of this text runs. */
const until = (url: string, text: string) =>
  Effect.repeat(Driver.statements(url), {
    until: (log) => log.some(({ durationMillis, sql }) => String(sql).includes(text) && durationMillis === null)
  })

layer(Local.layer(), { timeout: "60 seconds", excludeTestServices: true })(
  "statements",
  (it) => {
    it.effect("that are wrong fail with Snowflake's code and SQL state", () =>
      Effect.gen(function*() {
        const client = yield* Local
        yield* client.script("create or replace table here (id int, \"quoted\" int)")
        const expected: ReadonlyArray<readonly [string, string]> = [
          ["selec 1", "001003 42000"],
          ["select 1 +", "001003 42000"],
          ["select (1", "001003 42000"],
          ["select 'open", "001003 42000"],
          ["select a -> 'b' from here", "001003 42000"],
          ["insert into here (id) values (1) on conflict do nothing", "001003 42000"],
          ["insert into here (id) values (1) returning id", "001003 42000"],
          ["select count(*) filter (where id > 1) from here", "001003 42000"],
          ["select distinct on (id) id from here", "001003 42000"],
          ["select * from nowhere", "002003 42S02"],
          ["select * from demo.public.nowhere", "002003 42S02"],
          ["select * from demo.noschema.t", "002003 02000"],
          ["select * from nodb.s.t", "002003 02000"],
          ["drop table nowhere", "002003 42S02"],
          ["describe table nowhere", "002003 42S02"],
          ["select nope from here", "000904 42000"],
          ["select quoted from here", "000904 42000"],
          ["select \"ID\", \"id\" from here", "000904 42000"],
          ["update here set nope = 1", "000904 42000"],
          ["create table here (id int)", "002002 42710"],
          ["create table twice (a int, a int)", "002025 42S21"],
          ["create table odd (a datetime2)", "002040 42601"],
          ["create table odd (a number(39,0))", "002040 42601"],
          ["select list_value(1)", "002140 42601"],
          ["select epoch_ms(1)", "002140 42601"],
          ["select iff(true, 1)", "000938 22023"],
          ["select 1 / 0", "100051 22012"],
          ["use schema nowhere", "002043 02000"],
          ["use warehouse nowhere", "002043 02000"],
          ["use role accountadmin", "002043 02000"],
          ["select 1; select 2", "000008 0A000"],
          ["create dynamic table t as select 1", "000002 0A000"],
          ["alter session set autocommit = false", "000002 0A000"],
          ["alter session set timestamp_input_format = 'YYYY'", "000002 0A000"],
          ["alter session set no_such_parameter = 1", "001008 22023"]
        ]
        for (const [sql, error] of expected) assert.strictEqual(yield* errorOf(client, sql), error, sql)
      }))

    it.effect("tell quoted names of different case apart, for tables and for columns", () =>
      Effect.gen(function*() {
        const { rows, script } = yield* Local
        yield* script(
          "create schema \"Mixed\"",
          "create table \"Mixed\".\"a\" (\"a\" int, \"A\" int, \"#1\" int)",
          "create table \"Mixed\".a (\"a.b\" int)",
          "insert into \"Mixed\".\"a\" (\"a\", a, \"#1\") values (1, 2, 3)",
          "insert into \"Mixed\".\"A\" values (4)"
        )
        assert.deepStrictEqual(yield* rows("select * from \"Mixed\".\"a\""), [{ a: "1", A: "2", "#1": "3" }])
        assert.deepStrictEqual(yield* rows("select x.\"a.b\" as \"Out\" from \"Mixed\".A x"), [{ Out: "4" }])
        const listed = yield* rows("show tables in schema \"Mixed\"")
        assert.deepStrictEqual(listed.map((row) => row["name"]).sort(), ["A", "a"])
        yield* script("use schema public")
      }))

    it.effect("give columns of every type their defaults", () =>
      Effect.gen(function*() {
        const client = yield* Local
        yield* client.script(
          "create or replace table defaults (id int, n number(5,1) default 12.5, t varchar(3) default 'abc', f float default 1.5, b boolean default true, " +
            "d date default '2024-02-29', at timestamp_tz default current_timestamp, ntz timestamp_ntz default '2024-01-01 01:02:03', raw binary default '00ff')",
          "insert into defaults (id) values (1)"
        )
        const [row] = yield* client.rows(
          "select n::varchar n, t, f::varchar f, b::varchar b, d::varchar d, datediff(day, at, current_timestamp)::varchar at, ntz::varchar ntz, hex_encode(raw) raw from defaults"
        )
        assert.deepStrictEqual(row, {
          N: "12.5",
          T: "abc",
          F: "1.5",
          B: "true",
          D: "2024-02-29",
          AT: "0",
          NTZ: "2024-01-01 01:02:03.000",
          RAW: "00FF"
        })
        yield* client.run("create or replace table defaults (id int, t varchar(3) default 'abcd')")
        assert.strictEqual(yield* errorOf(client, "insert into defaults (id) values (1)"), "100078 22000")
      }))

    it.effect("define, alter, swap and drop tables", () =>
      Effect.gen(function*() {
        const client = yield* Local
        const { rows, script } = client
        yield* script(
          `create transient table if not exists shape (id number(38,0) not null primary key, name varchar(10) default 'x' comment 'n', constraint u unique (name))
           cluster by (id) data_retention_time_in_days = 0 comment = 'a shape'`,
          "create table if not exists shape (other int)",
          "insert into shape (id) values (1), (1)",
          "alter table shape add column if not exists extra int, more variant",
          "alter table shape add column if not exists extra int",
          "alter table shape alter column name set data type varchar(20), column id drop not null",
          "alter table shape rename column more to \"More\"",
          "alter table shape drop column extra",
          "alter table shape set comment = 'another' enable_schema_evolution = true",
          "comment on column shape.name is 'changed'",
          "insert into shape (id, name) values (null, 'twelve chars')"
        )
        assert.strictEqual(
          yield* errorOf(client, "alter table shape alter column name set data type varchar(5)"),
          "002108 22000"
        )
        assert.strictEqual(
          yield* errorOf(client, "alter table shape alter column id set data type varchar"),
          "002108 22000"
        )
        assert.strictEqual(yield* errorOf(client, "alter table shape add column n int not null"), "002108 22000")
        assert.strictEqual(yield* errorOf(client, "alter table shape add column name int"), "001430 01000")
        assert.deepStrictEqual(
          (yield* rows("describe table shape")).map((
            row
          ) => [row["name"], row["type"], row["null?"], row["default"], row["comment"]]),
          [["ID", "NUMBER(38,0)", "Y", null, null], ["NAME", "VARCHAR(20)", "Y", "'x'", "changed"], [
            "More",
            "VARIANT",
            "Y",
            null,
            null
          ]]
        )
        yield* script(
          "create or replace table form like shape",
          "insert into form (id) values (7)",
          "alter table form swap with shape",
          "alter table form rename to forms"
        )
        assert.deepStrictEqual(yield* rows("select (select count(*) from forms) f, (select count(*) from shape) s"), [{
          F: "3",
          S: "1"
        }])
        yield* script("create table copied as select id as \"Id\", name || '!' as name from forms where id is not null")
        assert.deepStrictEqual(yield* rows("select distinct * from copied"), [{ Id: "1", NAME: "x!" }])
        yield* script(
          "truncate table copied",
          "drop table copied",
          "drop table if exists copied",
          "create view seen as select id from forms"
        )
        assert.deepStrictEqual(yield* rows("select count(*) n from seen"), [{ N: "3" }])
      }))

    it.effect("MERGE with several branches, counts by kind, and refuse a row that matches twice", () =>
      Effect.gen(function*() {
        const client = yield* Local
        const { rows, run, script } = client
        yield* script(
          "create or replace table goal (id int, s varchar, v variant)",
          "insert into goal select column1, column2, parse_json(column3) from values (1, 'one', '1'), (2, 'two', '2'), (3, 'three', null)"
        )
        const { rows: [counts], statement } = yield* run(
          `merge into goal t using (
           select id, s, v, op from (select column1 id, column2 s, parse_json(column3) v, column4 op, column5 seq
             from values (1, 'ONE', '{"a":1}', 'u', 1), (1, 'EINS', 'null', 'u', 2), (2, null, null, 'd', 3), (4, 'four', '[]', 'u', 4), (5, 'five', null, 'd', 5))
           qualify row_number() over (partition by id order by seq desc) = 1) as s
         on t.id = s.id
         when matched and s.op = 'd' then delete
         when matched then update set t.s = s.s, v = case when s.v is null then t.v else s.v end
         when not matched and s.op <> 'd' then insert (id, s, v) values (s.id, s.s, s.v)`
        )
        assert.deepStrictEqual(counts, {
          "number of rows inserted": "1",
          "number of rows updated": "1",
          "number of rows deleted": "1"
        })
        assert.strictEqual(statement.getNumUpdatedRows(), 3)
        assert.deepStrictEqual(yield* rows("select id, s, v::varchar v, is_null_value(v) n from goal order by id"), [
          { ID: "1", S: "EINS", V: null, N: true },
          { ID: "3", S: "three", V: null, N: null },
          { ID: "4", S: "four", V: "[]", N: false }
        ])
        const twice = "(select column1 id, column2 s from values (1, 'a'), (1, 'b'))"
        assert.strictEqual(
          yield* errorOf(
            client,
            `merge into goal t using ${twice} s on t.id = s.id when matched then update set s = s.s`
          ),
          "100090 42P18"
        )
        yield* run(
          `merge into goal t using ${twice} s on t.id = s.id when matched and s.s = 'a' then update set s = s.s`
        )
        yield* run(`merge into goal t using ${twice} s on t.id = s.id when matched then delete`)
        assert.deepStrictEqual(yield* rows("select id from goal order by id"), [{ ID: "3" }, { ID: "4" }])
        assert.strictEqual(
          yield* errorOf(
            client,
            "merge into goal t using (select 3 id, '{}' v) s on t.id = s.id when matched then update set v = s.v"
          ),
          "002023 22000"
        )
      }))

    it.effect("compute aggregates and window functions as Snowflake does", () =>
      Effect.gen(function*() {
        const { rows } = yield* Local
        const from =
          "(select column1 k, column2 x, column3 o from values (1, 'a', 1), (1, null, 2), (1, 'z', null), (2, null, 5))"
        assert.deepStrictEqual(
          yield* rows(
            `select k, max_by(x, o) mx, min_by(x, o) mn, count(x) c, array_agg(x) within group (order by x) a from ${from} group by k order by k`
          ),
          // The row with a NULL ordering value is ignored; a NULL value with the greatest ordering value is the answer.
          [{ K: "1", MX: null, MN: "a", C: "2", A: ["a", "z"] }, { K: "2", MX: null, MN: null, C: "0", A: [] }]
        )
        assert.deepStrictEqual(
          yield* rows(
            `select o, last_value(x) ignore nulls over (partition by k order by o nulls first) l, first_value(x) over (partition by k order by o desc) f
           from ${from} where k = 1 order by o`
          ),
          // Snowflake's default frame for these is the whole partition, and its descending order has NULLs first.
          [{ O: "1", L: "a", F: "z" }, { O: "2", L: "a", F: "z" }, { O: "NULL", L: "a", F: "z" }]
        )
        assert.deepStrictEqual(
          yield* rows(
            "select greatest(1, null) g, coalesce(null, 2) c, iff(null, 1, 2) i, nvl(null, 'n') n, equal_null(null, null) e, concat('a', null) x, " +
              "contains('abc', 'b') y, bitand(6, 3) b, getbit(4, 2) t, bitshiftright(8, 2) s, zeroifnull(null) z, sha2('a', 256) h"
          ),
          [{
            G: "NULL",
            C: "2",
            I: "2",
            N: "n",
            E: true,
            X: null,
            Y: true,
            B: "2",
            T: "1",
            S: "2",
            Z: "0",
            H: "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
          }]
        )
        assert.deepStrictEqual(
          yield* rows(
            "select f.index i, f.value:k::varchar v from (select parse_json('[{\"k\":\"a\"},{\"k\":1}]') j) t, lateral flatten(input => t.j) f order by 1"
          ),
          [{ I: "0", V: "a" }, { I: "1", V: "1" }]
        )
        assert.deepStrictEqual(
          yield* rows(
            "with recursive n as (select 1 i union all select i + 1 from n where i < 4) select count(*) c, (select count(*) from table(generator(rowcount => 7))) g from n"
          ),
          [{ C: "4", G: "7" }]
        )
      }))

    it.effect("show their transaction to nobody else until it commits, and undo it on rollback", () =>
      Effect.gen(function*() {
        const client = yield* Local
        const other = yield* Driver.connect(client.server.url)
        const count = "select count(*) n from tx"
        yield* client.script(
          "create or replace table tx (id int)",
          "begin",
          "insert into tx values (1)",
          "delete from tx where id = 99",
          "insert into tx values (2)"
        )
        assert.deepStrictEqual([yield* client.rows(count), yield* other.rows(count)], [[{ N: "2" }], [{ N: "0" }]])
        yield* client.run("commit")
        assert.deepStrictEqual(yield* other.rows(count), [{ N: "2" }])
        yield* client.script("begin transaction", "delete from tx", "rollback")
        assert.deepStrictEqual(yield* client.rows(count), [{ N: "2" }])
        // A definition commits what is open before it.
        yield* client.script("begin", "insert into tx values (3)", "create or replace table other (id int)", "rollback")
        assert.deepStrictEqual(yield* other.rows(count), [{ N: "3" }])
        // Before its first write a transaction sees what others commit, statement by statement.
        yield* client.script("begin", count)
        yield* other.run("insert into tx values (4)")
        assert.deepStrictEqual(yield* client.rows(count), [{ N: "4" }])
        yield* client.run("commit")
      }))

    it.effect("never report COMMIT of what a failed statement made DuckDB throw away", () =>
      Effect.gen(function*() {
        const client = yield* Local
        yield* client.script("create or replace table tx (id int)", "begin")
        assert.strictEqual(yield* errorOf(client, "insert into tx values ('x')"), "100038 22018")
        yield* client.script("insert into tx values (1)")
        // Found before it runs: nothing is lost.
        assert.strictEqual(yield* errorOf(client, "insert into tx (nope) values (2)"), "000904 42000")
        yield* client.script("insert into tx values (3)", "commit")
        assert.deepStrictEqual(yield* client.rows("select id from tx order by id"), [{ ID: "1" }, { ID: "3" }])
        yield* client.script("begin", "insert into tx values (4)")
        assert.strictEqual(
          yield* errorOf(client, "insert into tx select to_number(s) from (select 'x' s)"),
          "100038 22018"
        )
        assert.strictEqual(yield* errorOf(client, "insert into tx values (5)"), "090232 25000")
        assert.strictEqual(yield* errorOf(client, "commit"), "090232 25000")
        assert.deepStrictEqual(yield* client.rows("select id from tx order by id"), [{ ID: "1" }, { ID: "3" }])
      }))

    it.effect("wait for the table that another transaction changes, and go on when that ends", () =>
      Effect.gen(function*() {
        const client = yield* Local
        const other = yield* Driver.connect(client.server.url)
        yield* client.script(
          "create or replace table counter (n int)",
          "insert into counter values (0)",
          "begin",
          "update counter set n = n + 1"
        )
        yield* Effect.all([
          other.run("update counter set n = n + 10"),
          Effect.andThen(until(client.server.url, "n = n + 10"), client.run("commit"))
        ], { concurrency: 2 })
        assert.deepStrictEqual(yield* client.rows("select n from counter"), [{ N: "11" }])
      }))

    it.effect("wait for the table that an abandoned transaction changes no longer than for that", () =>
      Effect.gen(function*() {
        const { url } = yield* Driver.server({ abandonedAfterMillis: 200 })
        const [client, other] = yield* Effect.all([Driver.connect(url), Driver.connect(url)], { concurrency: 2 })
        yield* client.script(
          "create table counter (n int)",
          "insert into counter values (11)",
          "begin",
          "update counter set n = 0"
        )
        yield* other.run("update counter set n = n + 100")
        assert.strictEqual(yield* errorOf(client, "commit"), "090232 25000")
        assert.deepStrictEqual(yield* client.rows("select n from counter"), [{ N: "111" }])
      }))

    it.effect("keep temporary tables to their session", () =>
      Effect.gen(function*() {
        const client = yield* Local
        const other = yield* Driver.connect(client.server.url)
        yield* client.script(
          "create or replace table hidden (a int)",
          "insert into hidden values (1)",
          "create temporary table hidden (b varchar)",
          "insert into hidden values ('x')"
        )
        assert.deepStrictEqual(yield* client.rows("select * from hidden"), [{ B: "x" }])
        assert.deepStrictEqual(yield* other.rows("select * from hidden"), [{ A: "1" }])
        yield* client.run("drop table hidden")
        assert.deepStrictEqual(yield* client.rows("select hidden.a from hidden"), [{ A: "1" }])
      }))

    it.effect("are logged with their tag and whether they woke the warehouse", () =>
      Effect.gen(function*() {
        const client = yield* Local
        yield* client.script("create or replace table logged (id int)", "alter session set query_tag = 'tagged'")
        yield* Driver.clearStatements(client.server.url)
        yield* client.script(
          "select current_timestamp()",
          "show tables",
          "insert into logged values (1)",
          "select * from logged"
        )
        yield* Effect.flip(client.run("select broken from logged"))
        const log = yield* Driver.statements(client.server.url)
        assert.deepStrictEqual(
          log.map((entry) => [entry["kind"], entry["needsWarehouse"], entry["tag"], entry["code"]]),
          [["SELECT", false, "tagged", null], ["SHOW", false, "tagged", null], ["INSERT", true, "tagged", null], [
            "SELECT",
            true,
            "tagged",
            null
          ], ["SELECT", false, "tagged", "000904"]]
        )
        yield* client.run("alter session unset query_tag")
      }))

    it.effect("return results of any size, in order", () =>
      Effect.gen(function*() {
        const { rows } = yield* Local
        const result = yield* rows(
          "select seq4() as n, repeat('x', 90) as pad from table(generator(rowcount => 60000)) order by n"
        )
        assert.strictEqual(result.length, 60_000)
        assert.isTrue(result.every((row, index) => row["N"] === String(index)))
      }))

    it.effect("run several at once when the session allows it", () =>
      Effect.gen(function*() {
        const client = yield* Local
        yield* client.run(
          "create or replace table several (a int); insert into several values (1), (2); select count(*) n from several",
          {
            parameters: { MULTI_STATEMENT_COUNT: 3 }
          }
        )
        assert.deepStrictEqual(yield* client.rows("select count(*) n from several"), [{ N: "2" }])
      }))
  }
)

layer(Local.layer({ inProgressAfterMillis: 100 }), { timeout: "60 seconds", excludeTestServices: true })(
  "a query",
  (it) => {
    it.effect("is executed once, however often its request is repeated", () =>
      Effect.gen(function*() {
        const client = yield* Local
        yield* client.script("create or replace table once (id int)")
        yield* Driver.fault(client.server.url, {
          endpoint: "query",
          kind: "dropAfter",
          count: 1,
          match: "insert into once"
        })
        yield* client.run("insert into once values (1)")
        yield* Driver.fault(client.server.url, {
          endpoint: "query",
          kind: "status",
          status: 503,
          count: 1,
          match: "insert into once"
        })
        yield* client.run("insert into once values (2)")
        assert.deepStrictEqual(yield* client.rows("select id from once order by id"), [{ ID: "1" }, { ID: "2" }])
      }))

    it.effect("that takes long is asked for again until it is done", () =>
      Effect.gen(function*() {
        const client = yield* Local
        const result = yield* client.rows(
          "select count(*) n from table(generator(rowcount => 3000000)) where sha2(to_varchar(random())) like '0000%'"
        )
        assert.strictEqual(result.length, 1)
      }))

    it.effect("can be cancelled while it runs", () =>
      Effect.gen(function*() {
        const client = yield* Local
        const long =
          "select count(*) n from table(generator(rowcount => 2000000000)) where sha2(to_varchar(random())) like '0000%'"
        let running: ReturnType<typeof client.connection.execute> | undefined
        const [error] = yield* Effect.all([
          Effect.callback<string>((resume) => {
            running = client.connection.execute({
              sqlText: long,
              complete: (failed) => resume(Effect.succeed(String(failed?.code)))
            })
          }),
          until(client.server.url, long).pipe(
            // By then its request was told that it goes on, and it is asked for again.
            Effect.andThen(Effect.sleep("200 millis")),
            Effect.andThen(Effect.sync(() => running?.cancel(() => undefined)))
          )
        ], { concurrency: 2 })
        assert.strictEqual(error, "000604")
        assert.deepStrictEqual(yield* client.rows("select 1 n"), [{ N: "1" }])
      }))
  }
)
