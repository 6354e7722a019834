/**
 * The command line: what its arguments mean, and what it says of those that make no sense.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { selfSigned } from "../../testkit/src/Certificate.ts"
import * as CommandLine from "../src/CommandLine.ts"
import * as Command from "./driver/Command.ts"
import * as Driver from "./driver/Driver.ts"

const least = ["--data-dir", "D", "--account", "A", "--user", "U"]

describe("the command line", () => {
  it.live("takes its files and secrets from where its options say", () =>
    Effect.gen(function*() {
      const folder = yield* Driver.folder
      const { certificate, key } = selfSigned("localhost")
      yield* Effect.promise(() => writeFile(join(folder, "tls.crt"), certificate))
      yield* Effect.promise(() => writeFile(join(folder, "tls.key"), key))
      const parsed = CommandLine.parse([
        ...least,
        "--tls-cert",
        join(folder, "tls.crt"),
        "--tls-key",
        join(folder, "tls.key"),
        "--tls-port=8443",
        "--no-http",
        "--password-env",
        "SECRET",
        "--role",
        "R1",
        "--role",
        "R2",
        "--threads",
        "2",
        "--admin"
      ], { SECRET: "s3cret" })
      assert.isTrue(Result.isSuccess(parsed))
      if (Result.isFailure(parsed) || parsed.success._tag !== "Serve") return
      const { options } = parsed.success
      assert.deepStrictEqual(options.tls, { certificate, key, port: 8443 })
      assert.deepStrictEqual([options.http, options.admin, options.users[0]?.roles], [false, true, ["R1", "R2"]])
      assert.strictEqual(options.threads, 2)
      const [user] = options.users
      assert.strictEqual(user?.password === undefined ? "" : Redacted.value(user.password), "s3cret")
      assert.notInclude(JSON.stringify(options), "s3cret")
    }))

  it("says in a line what is wrong with an argument, and never what a secret is", () => {
    const cases: ReadonlyArray<readonly [args: ReadonlyArray<string>, message: RegExp]> = [
      [[], /--data-dir is missing/],
      [["--data-dir", "D"], /--account is missing/],
      [["--data-dir", "D", "--account", "A"], /--user is missing/],
      [[...least, "--port", "x"], /--port must be a whole number up to 65535, but is 'x'/],
      [[...least, "--port", "70000"], /--port must be/],
      [[...least, "--nonsense"], /--nonsense/],
      [[...least, "stray"], /stray/],
      [[...least, "--tls-cert", "/nowhere"], /--tls-cert and --tls-key belong together/],
      [[...least, "--tls-cert", "/nowhere", "--tls-key", "/nowhere"], /--tls-cert: \/nowhere can't be read \(ENOENT\)/],
      [[...least, "--tls-port", "1"], /--tls-port needs --tls-cert/],
      [[...least, "--no-http"], /--no-http needs --tls-cert/],
      [[...least, "--public-key-file", import.meta.filename], /is no public key in PEM/],
      [[...least, "--password-env", "UNSET"], /environment variable UNSET is not set/]
    ]
    for (const [args, message] of cases) {
      const parsed = CommandLine.parse(args, { SECRET: "s3cret" })
      assert.isTrue(Result.isFailure(parsed))
      if (Result.isFailure(parsed)) assert.match(parsed.failure, message)
    }
  })

  it.live("explains itself, and ends with 2 for arguments that make no sense", () =>
    Effect.gen(function*() {
      const [help, nonsense] = yield* Effect.all([Command.run(["--help"]), Command.run(["--nonsense"])], {
        concurrency: 2
      })
      assert.strictEqual(help.code, 0)
      assert.include(help.stdout, "--tls-cert FILE")
      assert.strictEqual(nonsense.code, 2)
      assert.include(nonsense.stderr, "--nonsense")
      assert.strictEqual(nonsense.stdout, "")
    }), 60_000)
})
