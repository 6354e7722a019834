/**
 * The script that checks assumptions about Snowflake: against the local server, which behaves as they say.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Local from "./Local.ts"
import { all } from "./verify/Checks.ts"
import { unchecked } from "./verify/Unchecked.ts"

const script = fileURLToPath(new URL("./verify/main.ts", import.meta.url))

/** Runs the script with nothing but `variables` in its environment. */
const verify = (variables: Readonly<Record<string, string>>, directory: string) =>
  Effect.callback<{ readonly code: number; readonly output: string }>((resume) => {
    const child = execFile(process.execPath, [script], {
      cwd: directory,
      env: { PATH: process.env["PATH"], HOME: directory, ...variables }
    }, (_, stdout, stderr) => resume(Effect.succeed({ code: child.exitCode ?? -1, output: stdout + stderr })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

const rowPattern = /^\| (A\d+) \|/gm

describe("verify:snowflake", () => {
  it.live(
    "finds that everything it checks holds at the local server, and leaves nothing there",
    () =>
      Effect.gen(function*() {
        const local = yield* Local.start()
        yield* Effect.promise(() => writeFile(join(local.directory, "key.p8"), Local.privateKeyPem))
        const { code, output } = yield* verify({
          SNOWFLAKE_ACCOUNT: "MYORG-ACCT",
          SNOWFLAKE_URL: local.url,
          SNOWFLAKE_USER: "LOADER",
          SNOWFLAKE_ROLE: "LOADER_ROLE",
          SNOWFLAKE_PRIVATE_KEY_FILE: "key.p8",
          SNOWFLAKE_WAREHOUSE: "WH",
          SNOWFLAKE_DATABASE: "RAW"
        }, local.directory)
        assert.notInclude(output, "DIDN'T HOLD")
        assert.include(output, `${all.length} of ${all.length} checks held`)
        assert.strictEqual(code, 0)
        const left = yield* local.query("SHOW SCHEMAS LIKE 'ETL_STREAM_VERIFY%' IN DATABASE RAW")
        assert.deepStrictEqual(left, [])
      }),
    180_000
  )

  it.live("says what it needs when it isn't told of an account, and what is wrong when it can't log in", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const without = yield* verify({}, local.directory)
      assert.strictEqual(without.code, 2)
      assert.include(without.output, "SNOWFLAKE_PRIVATE_KEY_FILE")
      const refused = yield* verify({
        SNOWFLAKE_ACCOUNT: "MYORG-ACCT",
        SNOWFLAKE_URL: local.url,
        SNOWFLAKE_USER: "LOADER",
        SNOWFLAKE_TOKEN: "not-a-token",
        SNOWFLAKE_WAREHOUSE: "WH",
        SNOWFLAKE_DATABASE: "RAW"
      }, local.directory)
      assert.strictEqual(refused.code, 3)
      assert.include(refused.output, "->")
      assert.notInclude(refused.output, "not-a-token")
    }))

  it.live("checks each assumption of the page, or says why it doesn't", () =>
    Effect.gen(function*() {
      const page = yield* Effect.promise(() =>
        readFile(new URL("../../../docs/assumptions.md", import.meta.url), "utf8")
      )
      const listed = [...page.matchAll(rowPattern)].map(([, id]) => id ?? "")
      assert.deepStrictEqual(listed.filter((id, index) => listed.indexOf(id) !== index), [], "ids that stand twice")
      const checked = all.flatMap(({ ids }) => ids)
      const known = [...new Set([...checked, ...Object.keys(unchecked)])]
      assert.deepStrictEqual(known.toSorted(), listed.toSorted())
      assert.deepStrictEqual(checked.filter((id) => id in unchecked), [])
    }))
})
