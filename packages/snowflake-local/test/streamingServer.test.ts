import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import snowflake from "snowflake-sdk"
import * as Server from "../src/Server.ts"
import { Client, easy, keys, until, withDataDir } from "./streaming/Client.ts"

type Connection = snowflake.Connection

const execute = (connection: Connection, sqlText: string): Promise<ReadonlyArray<Record<string, unknown>>> =>
  new Promise((resolve, reject) => {
    connection.execute({ sqlText, complete: (error, _, rows) => error ? reject(error) : resolve(rows ?? []) })
  })

/** A whole server, a session of the driver in it, and a streaming client. */
const withWhole = (test: (connection: Connection, client: Client, url: string) => Promise<void>): Promise<void> =>
  withDataDir(async (dataDir) => {
    const scope = Effect.runSync(Scope.make())
    try {
      const { port, url } = await Effect.runPromise(Scope.provide(
        Server.serve({
          dataDir,
          account: "ORG-ACCT",
          users: [{ name: "LOADER", publicKeyPem: keys.publicKey }],
          databases: ["DB"],
          admin: true,
          streaming: easy
        }),
        scope
      ))
      snowflake.configure({ logLevel: "OFF" })
      const connection = snowflake.createConnection({
        account: "ORG-ACCT",
        username: "LOADER",
        accessUrl: url,
        authenticator: "SNOWFLAKE_JWT",
        privateKey: keys.privateKey,
        database: "DB",
        schema: "PUBLIC",
        warehouse: "COMPUTE_WH"
      })
      await new Promise<void>((resolve, reject) => connection.connect((error) => error ? reject(error) : resolve()))
      await test(connection, await new Client(port).login(), url)
      await new Promise<void>((resolve) => connection.destroy(() => resolve()))
    } finally {
      await Effect.runPromise(Scope.close(scope, Exit.void))
    }
  })

describe("the whole server", () => {
  it("streams into a table that SQL created, shows the rows to SQL, and heeds what SQL does to the table", () =>
    withWhole(async (connection, client) => {
      const create =
        `CREATE OR REPLACE TABLE events (id NUMBER NOT NULL, "Name" VARCHAR(10), at TIMESTAMP_TZ, v VARIANT, n NUMBER DEFAULT 5)`
      await execute(connection, create)
      const opened = (await client.open("EVENTS", "c")).body.next_continuation_token
      const rows = [{ id: 1, Name: "a", at: "2024-01-02T03:04:05Z", v: { k: [1] } }, { id: 2, n: null }, {
        id: 3,
        nobody: 1
      }]
      const first = await client.append("EVENTS", "c", opened, rows, { single: "3" })
      assert.strictEqual(first.status, 200)
      const status = await client.committed("EVENTS", "c", "3")
      assert.deepStrictEqual([status.rows_inserted, status.rows_error_count], [2, 1])
      const selected = await execute(connection, `SELECT id, "Name", v:k[0]::NUMBER AS k, n FROM events ORDER BY id`)
      assert.deepStrictEqual(selected.map((row) => Object.values(row)), [[1, "a", 1, 5], [2, null, null, null]])

      await execute(connection, `ALTER TABLE events ADD COLUMN extra VARCHAR`)
      const second = await client.append("EVENTS", "c", first.body.next_continuation_token, [{ id: 4, extra: "e" }], {
        single: "4"
      })
      assert.strictEqual((await client.committed("EVENTS", "c", "4")).rows_error_count, 1)
      await execute(connection, `DELETE FROM events WHERE id < 4`)
      assert.deepStrictEqual(await execute(connection, `SELECT extra FROM events`), [{ EXTRA: "e" }])

      await execute(connection, create)
      assert.strictEqual((await client.status("EVENTS", "c")).channel_status_code, "ERR_CHANNEL_MUST_BE_REOPENED")
      assert.strictEqual(
        (await client.append("EVENTS", "c", second.body.next_continuation_token, [{ id: 5 }])).status,
        400
      )
      await execute(connection, `DROP TABLE events`)
      assert.strictEqual((await client.open("EVENTS", "c")).body.code, "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED")
    }))

  it("shows channels, and the rows that they skipped in the error table of a table that logs errors", () =>
    withWhole(async (connection, client) => {
      await execute(connection, "create table plain (id int)")
      await execute(connection, "create table logged (id int) error_logging = true")
      for (const table of ["PLAIN", "LOGGED"]) {
        const opened = (await client.open(table, "c")).body.next_continuation_token
        await client.fault({ kind: "rejectRowSilently", endpoint: "append" })
        await client.append(table, "c", opened, [{ id: 1 }, { id: 2 }, { id: "x" }], { single: "3" })
        await client.committed(table, "c", "3")
      }
      const channels = await execute(connection, "show channels in table logged")
      assert.deepStrictEqual(
        channels.map((row) => [row["name"], row["table_name"], row["client_sequencer"], row["offset_token"]]),
        [["c", "LOGGED", 1, "3"]]
      )
      assert.strictEqual((await execute(connection, "show channels")).length, 2)
      const errors = await execute(
        connection,
        `select error_metadata:service::varchar s, error_metadata:details:channel_name::varchar c,
           error_metadata:details:offset_token_upper_bound::varchar o, coalesce(error_data:"$1":id, error_data:"$1":ID)::varchar d from error_table(logged) order by d`
      )
      assert.deepStrictEqual(errors.map((row) => Object.values(row)), [
        ["snowpipe_streaming", "c", "3", "1"],
        // A value that doesn't fit its column is found when the row is converted: it is shown by the column's name.
        ["snowpipe_streaming", "c", "3", "x"]
      ])
      await execute(connection, "truncate error_table(logged)")
      assert.deepStrictEqual(await execute(connection, "select * from error_table(logged)"), [])
      for (const table of ["plain", "nowhere"]) {
        const refused = await execute(connection, `select * from error_table(${table})`).catch((error: unknown) =>
          error
        )
        assert.include(refused, { code: "002003" })
      }
    }))

  it("tells which statement woke the warehouse, and suspends it when it is idle or told to", () =>
    withWhole(async (connection, _, url) => {
      const woke = async () => {
        const answer = await (await fetch(`${url}/_local/statements`)).json()
        await fetch(`${url}/_local/statements`, { method: "DELETE" })
        return answer.statements.map((
          entry: Record<string, unknown>
        ) => [entry["needsWarehouse"], entry["wokeWarehouse"]])
      }
      const state = async () => (await execute(connection, "show warehouses"))[0]?.["state"]
      assert.strictEqual(await state(), "SUSPENDED")
      await execute(connection, "create table t (id int)")
      assert.strictEqual(await state(), "SUSPENDED")
      await woke()
      await execute(connection, "insert into t values (1)")
      await execute(connection, "select * from t")
      assert.deepStrictEqual(await woke(), [[true, true], [true, false]])
      assert.strictEqual(await state(), "STARTED")
      await execute(connection, "alter warehouse compute_wh suspend")
      assert.strictEqual(await state(), "SUSPENDED")
      const again = await execute(connection, "alter warehouse compute_wh suspend").catch((error: unknown) => error)
      assert.include(again, { code: "090064" })
      await execute(connection, "alter warehouse compute_wh set auto_resume = false")
      const refused = await execute(connection, "select * from t").catch((error: unknown) => error)
      assert.include(refused, { code: "000606" })
      await execute(connection, "alter warehouse compute_wh resume if suspended")
      await execute(connection, "select * from t")
      await execute(connection, "alter warehouse compute_wh set auto_resume = true auto_suspend = 1")
      await until(async () => await state() === "SUSPENDED" ? true : undefined)
      await woke()
      await execute(connection, "select * from t")
      assert.deepStrictEqual(await woke(), [[true, true]])
    }))
})
