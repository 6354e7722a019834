/**
 * The server as a process: killed at any moment, it keeps what it acknowledged and nothing of what it didn't.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { ChildProcess } from "node:child_process"
import { spawn } from "node:child_process"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Driver from "./driver/Driver.ts"

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))

interface Process {
  readonly child: ChildProcess
  readonly url: string
  readonly port: number
}

const ended = (child: ChildProcess): Effect.Effect<number | null> =>
  Effect.callback<number | null>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.succeed(child.exitCode))
    child.once("exit", (code) => resume(Effect.succeed(code)))
  })

const launch = (dataDir: string, port: number) =>
  Effect.acquireRelease(
    Effect.callback<Process>((resume) => {
      const args = [
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
      ]
      const child = spawn(process.execPath, [main, ...args], {
        stdio: ["ignore", "pipe", "inherit"],
        env: { ...process.env, TEST_PASSWORD: "right" }
      })
      let text = ""
      child.stdout?.on("data", (part: Buffer) => {
        text += part.toString()
        if (text.includes("\n")) resume(Effect.succeed({ child, ...JSON.parse(text) }))
      })
      child.once("exit", (code) => resume(Effect.die(new Error(`The server ended with ${code}.`))))
    }),
    ({ child }) => Effect.andThen(Effect.sync(() => child.kill("SIGKILL")), ended(child))
  )

const kill = ({ child }: Process, signal: NodeJS.Signals) =>
  Effect.andThen(Effect.sync(() => child.kill(signal)), ended(child))

describe("a restart", () => {
  it.live(
    "after kill -9 keeps what was committed, tables, staged files and load history, and ends sessions",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* Driver.folder
        yield* Effect.promise(() => writeFile(join(dataDir, "key.pub"), Driver.publicKey))
        const first = yield* launch(dataDir, 0)
        const client = yield* Driver.connect(first.url, { authenticator: "SNOWFLAKE", password: "right" })
        yield* client.script(
          "create table kept (\"Id\" int, v variant)",
          "create stage st",
          "insert into kept select seq4(), parse_json('{}') from table(generator(rowcount => 10000))",
          "begin",
          "delete from kept where \"Id\" < 100"
        )
        yield* client.run("PUT file://x.bin @st AUTO_COMPRESS=FALSE", { fileStream: Buffer.from("kept") })
        const other = yield* Driver.connect(first.url)
        // Acknowledged one by one until the kill.
        let acknowledged = 0
        const inserting = Effect.forever(Effect.gen(function*() {
          yield* other.run("insert into kept (\"Id\") values (-1)")
          acknowledged++
        }))
        yield* Effect.race(Effect.ignore(inserting), Effect.andThen(Effect.sleep("300 millis"), kill(first, "SIGKILL")))
        assert.isAbove(acknowledged, 0)
        const second = yield* launch(dataDir, first.port)
        assert.strictEqual(second.url, first.url)
        const error = yield* Effect.flip(client.run("commit"))
        assert.include(["390111", "407002"], error.code)
        const fresh = yield* Driver.connect(second.url)
        const [row] = yield* fresh.rows("select count_if(\"Id\" >= 0) n, count_if(\"Id\" < 0) a from kept")
        assert.strictEqual(row?.["N"], "10000")
        // The insert that was under way may have been committed without an answer.
        assert.include([acknowledged, acknowledged + 1], Number(row?.["A"]))
        assert.deepStrictEqual((yield* fresh.rows("list @st")).map((file) => file["name"]), ["st/x.bin"])
        assert.deepStrictEqual((yield* fresh.rows("describe table kept")).map((column) => column["type"]), [
          "NUMBER(38,0)",
          "VARIANT"
        ])
        assert.strictEqual(yield* kill(second, "SIGTERM"), 0)
      }),
    60_000
  )

  it.live("refuses arguments that make no sense, with exit code 2", () =>
    Effect.gen(function*() {
      for (
        const args of [
          [],
          ["--account", "A"],
          ["--data-dir", "/tmp/x", "--account", "A", "--user", "U", "--port", "x"],
          ["--nonsense"]
        ]
      ) {
        const child = spawn(process.execPath, [main, ...args], { stdio: "ignore" })
        assert.strictEqual(yield* ended(child), 2)
      }
    }), 60_000)
})
