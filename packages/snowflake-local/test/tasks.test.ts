/**
 * Streams, tasks and blocks of Snowflake Scripting, through the unmodified driver.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Driver from "./driver/Driver.ts"
import { Local } from "./driver/Driver.ts"

const immediate = (block: string): string => `EXECUTE IMMEDIATE $$${block}$$`

/** Polls until `check` gives something. */
const until = <A, E, R>(check: Effect.Effect<A | undefined, E, R>): Effect.Effect<A, E | Error, R> =>
  Effect.flatMap(
    check,
    (found) => found === undefined ? Effect.fail(new Error("The condition doesn't come true.")) : Effect.succeed(found)
  ).pipe(
    Effect.retry(Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: "20 seconds" })))
  )

layer(Local.layer({ taskSpeedup: 100 }), { timeout: "60 seconds", excludeTestServices: true })("local", (it) => {
  it.effect("a stream has data from an insert that commits until a change that reads it commits", () =>
    Effect.gen(function*() {
      const client = yield* Local
      const other = yield* Driver.connect(client.server.url)
      const hasData = Effect.map(
        client.rows(`select system$stream_has_data('"DEMO"."PUBLIC"."S"') x`),
        ([row]) => row?.["X"]
      )
      yield* client.script(
        "create or replace table t (a int, \"b\" varchar)",
        "create or replace table sink (a int)",
        "insert into t values (1, 'before')",
        "create or replace stream s on table t append_only = true"
      )
      assert.isFalse(yield* hasData)
      yield* client.script("insert into t select 1, 'x' where false", "delete from t", "update t set a = 2")
      assert.isFalse(yield* hasData)
      yield* other.script("begin", "insert into t values (2, 'x')")
      assert.isFalse(yield* hasData)
      yield* other.run("commit")
      assert.isTrue(yield* hasData)
      // Deleted rows were inserted all the same.
      yield* client.run("delete from t")
      assert.isTrue(yield* hasData)
      yield* client.run("select a from s where false")
      assert.isTrue(yield* hasData)

      const read = "insert into sink (a) select a from s where false"
      yield* client.script("begin", read, "rollback")
      assert.isTrue(yield* hasData)
      yield* client.script("begin", read)
      // What commits while the stream is being read is for the next reader.
      yield* other.run(
        "merge into t using (select 7 as a) x on t.a = x.a when not matched then insert (a) values (x.a)"
      )
      yield* client.run("commit")
      assert.isTrue(yield* hasData)
      yield* client.run(read)
      assert.isFalse(yield* hasData)

      yield* client.script("alter table t rename to t2", "insert into t2 values (1, 'x')")
      assert.isTrue(yield* hasData)
      const refused = yield* Effect.flip(client.run("select count(*) from s"))
      assert.deepStrictEqual([refused.code, refused.sqlState], ["000002", "0A000"])
      yield* client.run("drop table t2")
      const gone = yield* Effect.flip(hasData)
      assert.strictEqual(gone.code, "091901")
      yield* client.run("drop stream s")
      assert.strictEqual((yield* Effect.flip(hasData)).code, "002003")
      assert.strictEqual((yield* Effect.flip(client.run("create stream s on table sink"))).code, "000002")
    }))

  it.effect("a stream has the rows of an insert that was running when it was created", () =>
    Effect.gen(function*() {
      const client = yield* Local
      const other = yield* Driver.connect(client.server.url)
      yield* client.script("create or replace table met (n int)")
      const slow =
        "insert into met select count(*) from table(generator(rowcount => 1000000)) where sha2(to_varchar(random())) = ''"
      const running = (yield* Driver.statements(client.server.url)).length
      const inserting = yield* Effect.forkChild(other.run(slow))
      yield* until(Effect.map(
        Driver.statements(client.server.url),
        (log) => log.length > running ? true : undefined
      ))
      yield* client.run("create stream meets on table met append_only = true")
      assert.deepStrictEqual(yield* client.rows("select count(*) n, system$stream_has_data('meets') x from met"), [
        { N: "0", X: false }
      ])
      yield* Fiber.join(inserting)
      assert.deepStrictEqual(yield* client.rows("select count(*) n, system$stream_has_data('meets') x from met"), [
        { N: "1", X: true }
      ])
    }))

  it.effect("a block declares, assigns, branches, loops, selects into variables and counts rows", () =>
    Effect.gen(function*() {
      const client = yield* Local
      yield* client.script(
        "create or replace table src (k int, v varchar)",
        "create or replace table dst (k int, v varchar)",
        "create or replace table seen (what varchar, n number)",
        "insert into src values (1, 'a'), (2, 'it''s'), (3, null)"
      )
      yield* Driver.clearStatements(client.server.url)
      const [row] = yield* client.rows(immediate(`
        DECLARE
          up_to NUMBER; word VARCHAR; none VARCHAR; n NUMBER DEFAULT 0; changed NUMBER;
        BEGIN
          CREATE TEMPORARY TABLE IF NOT EXISTS work (k int);
          BEGIN TRANSACTION;
          SELECT MAX(k), MAX(v), MAX(IFF(k > 9, v, NULL)) INTO :up_to, :word, :none FROM src;
          IF (up_to IS NOT NULL AND none IS NULL) THEN
            INSERT INTO dst SELECT k, v FROM src WHERE k <= :up_to;
            INSERT INTO seen VALUES ('inserted', :SQLROWCOUNT);
            IF (SQLROWCOUNT = 2) THEN ROLLBACK; ELSEIF (up_to = 3) THEN n := up_to; ELSE RETURN 'no'; END IF;
            changed := 1;
            WHILE (changed > 0) DO
              UPDATE dst SET k = k - 1 WHERE k > 1;
              changed := SQLROWCOUNT;
              INSERT INTO work VALUES (:changed);
            END WHILE;
            MERGE INTO dst USING (SELECT 9 AS k, :word AS v) s ON dst.k = s.k WHEN NOT MATCHED THEN INSERT (k, v) VALUES (s.k, s.v);
            COMMIT;
          ELSE
            ROLLBACK;
          END IF;
          LET total := 0;
          SELECT COUNT(*) INTO total FROM work;
          RETURN total;
        END;
      `))
      assert.deepStrictEqual(row, { "anonymous block": "3" })
      assert.deepStrictEqual(yield* client.rows("select k, v from dst order by v, k"), [
        { K: "1", V: "a" },
        { K: "1", V: "it's" },
        { K: "9", V: "it's" },
        { K: "1", V: null }
      ])
      assert.deepStrictEqual(yield* client.rows("select * from seen"), [{ WHAT: "inserted", N: "3" }])
      const [parent, ...children] = yield* Driver.statements(client.server.url)
      assert.deepStrictEqual([parent?.["kind"], parent?.["parentQueryId"], parent?.["needsWarehouse"]], [
        "EXECUTE_IMMEDIATE",
        null,
        true
      ])
      const begun = children.find((entry) => entry["kind"] === "BEGIN")
      assert.deepStrictEqual([begun?.["parentQueryId"], begun?.["needsWarehouse"]], [parent?.["queryId"], false])
    }))

  it.effect("a block gives an error to its handler, and tells an uncaught one with Snowflake's code and place", () =>
    Effect.gen(function*() {
      const client = yield* Local
      yield* client.script(
        "create or replace table t (a int not null)",
        "create or replace table log (code int, state varchar)"
      )
      const uncaught = yield* Effect.flip(client.run(immediate("BEGIN\n  INSERT INTO t VALUES (NULL);\nEND")))
      assert.deepStrictEqual([uncaught.code, uncaught.sqlState], ["100072", "22000"])
      assert.match(
        uncaught.message,
        /^Uncaught exception of type 'STATEMENT_ERROR' on line 2 at position 2 : NULL result/
      )

      const raised = yield* Effect.flip(client.run(immediate(`
        BEGIN
          BEGIN TRANSACTION;
          INSERT INTO t VALUES (1);
          INSERT INTO t VALUES ('x');
          COMMIT;
        EXCEPTION
          WHEN OTHER THEN ROLLBACK; RAISE;
        END;
      `)))
      assert.strictEqual(raised.code, "100038")
      assert.deepStrictEqual(yield* client.rows("select * from t"), [])

      yield* client.run(immediate(`
        BEGIN
          LET nothing := 0;
          SELECT a INTO :nothing FROM t;
        EXCEPTION
          WHEN STATEMENT_ERROR THEN INSERT INTO log VALUES (:SQLCODE, :SQLSTATE);
        END
      `))
      assert.deepStrictEqual(yield* client.rows("select * from log"), [{ CODE: "90240", STATE: "P0000" }])

      for (
        const [block, code] of [
          ["BEGIN FOR x IN c DO NULL; END FOR; END", "000002"],
          ["BEGIN IF (1 = 1) THEN NULL; END", "001003"],
          ["BEGIN a := 1; END", "000904"],
          ["BEGIN INSERT INTO log VALUES (:unknown, 'x'); END", "002049"],
          ["DECLARE a NUMBER; BEGIN a := 'x'; END", "100038"]
        ] as const
      ) {
        const error = yield* Effect.flip(client.run(immediate(block)))
        assert.strictEqual(error.code, code, block)
      }
      assert.deepStrictEqual(yield* client.rows("execute immediate 'select 1 as x'"), [{ X: "1" }])
    }))

  it.effect("a task runs on its interval while its condition holds, as its owner, and not at all while it is false", () =>
    Effect.gen(function*() {
      const client = yield* Local
      yield* client.script(
        "create or replace table journal (a int)",
        "create or replace table merged (a int, who varchar, role varchar, tag varchar)",
        "create or replace stream js on table journal append_only = true",
        `create or replace task "merge it" warehouse = "COMPUTE_WH" schedule = '10 SECONDS'
           allow_overlapping_execution = false query_tag = 'from a task' timezone = 'UTC' comment = 'it''s ours'
           when system$stream_has_data('"DEMO"."PUBLIC"."JS"')
           as execute immediate 'BEGIN BEGIN TRANSACTION; INSERT INTO merged (a) SELECT a FROM js WHERE FALSE;
             INSERT INTO merged SELECT a, CURRENT_USER(), CURRENT_ROLE(), ''t'' FROM journal; DELETE FROM journal; COMMIT; END'`
      )
      const runs = Effect.map(
        Driver.statements(client.server.url),
        (log) => log.filter((entry) => entry["task"] === "merge it" && entry["parentQueryId"] === null)
      )
      const shown = Effect.map(
        client.rows("show tasks like 'merge it' in schema \"DEMO\".\"PUBLIC\""),
        ([row]) => [row?.["state"], row?.["schedule"], row?.["owner"], row?.["comment"], row?.["warehouse"]]
      )
      assert.deepStrictEqual(yield* shown, ["suspended", "10 SECONDS", "LOADER", "it's ours", "COMPUTE_WH"])
      yield* client.run("insert into journal values (1), (2)")
      yield* client.run("alter task \"merge it\" resume")
      yield* until(
        Effect.map(client.rows("select * from merged order by a"), (rows) => rows.length === 2 ? rows : undefined)
      )
      const [first] = yield* client.rows("select * from merged order by a")
      assert.deepStrictEqual(first, { A: "1", WHO: "SYSTEM", ROLE: "LOADER", TAG: "t" })
      const [run] = yield* runs
      assert.deepStrictEqual([run?.["kind"], run?.["user"], run?.["tag"], run?.["needsWarehouse"], run?.["code"]], [
        "EXECUTE_IMMEDIATE",
        "SYSTEM",
        "from a task",
        true,
        null
      ])
      const count = (yield* runs).length
      const skipped = until(Effect.map(
        client.rows(
          "select * from table(information_schema.task_history(task_name => 'merge it', result_limit => 3)) order by scheduled_time desc"
        ),
        (rows) => rows.length === 3 && rows.every((row) => row["STATE"] === "SKIPPED") ? rows : undefined
      ))
      yield* skipped
      assert.strictEqual((yield* runs).length, count)

      yield* client.run("alter task if exists \"merge it\" suspend")
      assert.strictEqual((yield* shown)[0], "suspended")
      yield* client.run("insert into journal values (3)")
      // A suspended task runs when it is told to, once.
      yield* client.run("execute task \"merge it\"")
      yield* until(Effect.map(client.rows("select * from merged"), (rows) => rows.length === 3 ? rows : undefined))
      assert.strictEqual((yield* runs).length, count + 1)
      yield* client.run("drop task if exists \"merge it\"")
      assert.deepStrictEqual(yield* client.rows("show tasks"), [])
      assert.strictEqual((yield* Effect.flip(client.run("alter task \"merge it\" resume"))).code, "002003")
    }))

  it.effect("a task that fails is rolled back, tells why, goes on, and is suspended after enough failures in a row", () =>
    Effect.gen(function*() {
      const client = yield* Local
      yield* client.script(
        "create or replace table target (a int)",
        `create or replace task failing schedule = '10 seconds' suspend_task_after_num_failures = 3
           as execute immediate 'BEGIN BEGIN TRANSACTION; INSERT INTO target VALUES (1); INSERT INTO nowhere VALUES (1); COMMIT; END'`,
        "alter task failing resume"
      )
      yield* until(Effect.map(
        client.rows("show tasks like 'FAILING'"),
        ([task]) => task?.["state"] === "suspended" ? task : undefined
      ))
      const history = yield* client.rows(
        "select state, error_code, error_message from table(information_schema.task_history(task_name => 'FAILING'))"
      )
      assert.deepStrictEqual(history.map((run) => [run["STATE"], run["ERROR_CODE"]]), [
        ["FAILED", "002003"],
        ["FAILED", "002003"],
        ["FAILED", "002003"]
      ])
      assert.match(String(history[0]?.["ERROR_MESSAGE"]), /Table 'NOWHERE' does not exist/)
      assert.deepStrictEqual(yield* client.rows("select * from target"), [])
      yield* client.run("drop task failing")
    }))

  it.effect("a task doesn't overlap itself", () =>
    Effect.gen(function*() {
      const client = yield* Local
      yield* client.script(
        "create or replace table hits (n int)",
        `create or replace task slow schedule = '10 seconds' as
           insert into hits select count(*) from table(generator(rowcount => 400000)) where sha2(to_varchar(random())) <> ''`,
        "alter task slow resume"
      )
      yield* until(Effect.map(client.rows("select * from hits"), (rows) => rows.length >= 3 ? rows : undefined))
      yield* client.script("alter task slow suspend", "drop task slow")
      const runs = (yield* Driver.statements(client.server.url)).filter((entry) => entry["task"] === "SLOW")
        .map((entry) => ({ start: Number(entry["startedAt"]), millis: entry["durationMillis"] }))
      for (const [index, run] of runs.entries()) {
        const before = runs[index - 1]
        if (before !== undefined) assert.isAtLeast(run.start, before.start + Number(before.millis))
      }
    }))

  it.effect("a task that this server or Snowflake doesn't run is refused", () =>
    Effect.gen(function*() {
      const client = yield* Local
      for (
        const [sql, code] of [
          ["create task x warehouse = nowhere schedule = '1 minute' as select 1", "002043"],
          ["create task x schedule = '5 seconds' as select 1", "001008"],
          ["create task x schedule = 'using cron * * * * * UTC' as select 1", "000002"],
          ["create task x schedule = '1 minute' nonsense = 1 as select 1", "001003"],
          ["create task x schedule = '1 minute' when (select 1) = 1 as select 1", "001008"],
          ["create task x schedule = '1 minute' when system$stream_has_data('nowhere') as select 1", "002003"],
          ["create task x schedule = '1 minute' autocommit = false as select 1", "000002"],
          ["create task x schedule = '1 minute' after y as select 1", "000002"],
          ["create task x schedule = '1 minute' as", "001003"],
          ["execute task nowhere", "002003"]
        ] as const
      ) {
        const error = yield* Effect.flip(client.run(sql))
        assert.strictEqual(error.code, code, sql)
      }
    }))
})
