import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import snowflake from "snowflake-sdk"
import * as Server from "../src/Server.ts"
import { Client, easy, keys, withDataDir } from "./streaming/Client.ts"

type Connection = snowflake.Connection

const execute = (connection: Connection, sqlText: string): Promise<ReadonlyArray<Record<string, unknown>>> =>
  new Promise((resolve, reject) => {
    connection.execute({ sqlText, complete: (error, _, rows) => error ? reject(error) : resolve(rows ?? []) })
  })

describe("the whole server", () => {
  it("streams into a table that SQL created, shows the rows to SQL, and heeds what SQL does to the table", () =>
    withDataDir(async (dataDir) => {
      const scope = Effect.runSync(Scope.make())
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
      const create =
        `CREATE OR REPLACE TABLE events (id NUMBER NOT NULL, "Name" VARCHAR(10), at TIMESTAMP_TZ, v VARIANT, n NUMBER DEFAULT 5)`
      await execute(connection, create)
      const client = await new Client(port).login()
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
      await new Promise<void>((resolve) => connection.destroy(() => resolve()))
      await Effect.runPromise(Scope.close(scope, Exit.void))
    }))
})
