/**
 * The server as a process: killed at any moment, it keeps what it acknowledged and nothing of what it didn't.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import * as Command from "./driver/Command.ts"
import * as Driver from "./driver/Driver.ts"

const launch = (dataDir: string, port: number) =>
  Command.launch([
    "--port",
    String(port),
    "--data-dir",
    join(dataDir, "data"),
    "--account",
    Driver.account,
    "--user",
    "ETL",
    "--public-key-file",
    join(dataDir, "key.pub"),
    "--password-env",
    "TEST_PASSWORD",
    "--database",
    "DEMO",
    "--admin"
  ], { TEST_PASSWORD: "right" })

describe("a restart", () => {
  it.live(
    "after kill -9 keeps what was committed, tables, staged files and load history, and ends sessions",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* Driver.folder
        yield* Effect.promise(() => writeFile(join(dataDir, "key.pub"), Driver.publicKey))
        const first = yield* launch(dataDir, 0)
        const client = yield* Driver.connect(first.ready.url, { authenticator: "SNOWFLAKE", password: "right" })
        yield* client.script(
          "create table kept (\"Id\" int, v variant)",
          "create stage st",
          "insert into kept select seq4(), parse_json('{}') from table(generator(rowcount => 10000))",
          "begin",
          "delete from kept where \"Id\" < 100"
        )
        yield* client.run("PUT file://x.bin @st AUTO_COMPRESS=FALSE", { fileStream: Buffer.from("kept") })
        const other = yield* Driver.connect(first.ready.url)
        // Acknowledged one by one until the kill.
        let acknowledged = 0
        const inserting = Effect.forever(Effect.gen(function*() {
          yield* other.run("insert into kept (\"Id\") values (-1)")
          acknowledged++
        }))
        yield* Effect.race(
          Effect.ignore(inserting),
          Effect.repeat(Effect.sleep("5 millis"), { until: () => Effect.sync(() => acknowledged >= 3) }).pipe(
            Effect.andThen(Command.stop(first, "SIGKILL"))
          )
        )
        assert.isAtLeast(acknowledged, 3)
        const second = yield* launch(dataDir, first.ready.port)
        assert.strictEqual(second.ready.url, first.ready.url)
        const error = yield* Effect.flip(client.run("commit"))
        assert.include(["390111", "407002"], error.code)
        const fresh = yield* Driver.connect(second.ready.url)
        const [row] = yield* fresh.rows("select count_if(\"Id\" >= 0) n, count_if(\"Id\" < 0) a from kept")
        assert.strictEqual(row?.["N"], "10000")
        // The insert that was under way may have been committed without an answer.
        assert.include([acknowledged, acknowledged + 1], Number(row?.["A"]))
        assert.deepStrictEqual((yield* fresh.rows("list @st")).map((file) => file["name"]), ["st/x.bin"])
        assert.deepStrictEqual((yield* fresh.rows("describe table kept")).map((column) => column["type"]), [
          "NUMBER(38,0)",
          "VARIANT"
        ])
        assert.strictEqual(yield* Command.stop(second, "SIGTERM"), 0)
      }),
    60_000
  )
})
