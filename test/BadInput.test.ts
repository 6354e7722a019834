/**
 * What a user gets who has something wrong: one clear error, the right exit code, nothing else.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { generateKeyPairSync } from "node:crypto"
import { readFileSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import * as Landscape from "./Landscape.ts"

/** Runs the configuration and gives what a user sees. */
const outcome = (landscape: Landscape.Landscape, configuration: object | string) =>
  Effect.gen(function*() {
    const child = yield* landscape.run(landscape.write(configuration))
    const { code, signal } = yield* child.ended(45_000)
    assert.isNull(signal)
    return { code, output: child.output() }
  })

const secretsOf = (landscape: Landscape.Landscape): ReadonlyArray<string> => [
  landscape.postgres.password,
  ...readFileSync(landscape.warehouse.privateKeyFile, "utf8").split("\n").filter((line) => line.length > 40)
]

/** Everything that must never be in an output, and that there is one message to read. */
const assertClear = (output: string, secrets: ReadonlyArray<string>): void => {
  assert.notMatch(output, /^\s+at .*[:(].*\d+\)?$/m, `a stack trace in: ${output}`)
  assert.notMatch(output, /node_modules|Error: |FiberFailure|\[cause\]/, `an error object in: ${output}`)
  for (const secret of secrets) assert.isFalse(output.includes(secret), "a secret in the output")
  assert.strictEqual(output.split("\n").filter((line) => line.startsWith("etl-stream: ")).length, 1, output)
  assert.match(output, /->|remedy|hint/i, `no remedy in: ${output}`)
}

const withPassword = (url: string, password: string): string => {
  const changed = new URL(url)
  changed.password = password
  return changed.href
}

interface Case {
  readonly name: string
  readonly exitCode: number
  readonly says: RegExp
  readonly configuration: (landscape: Landscape.Landscape) => object | string
  /** SQL that the superuser runs first. */
  readonly given?: string
  readonly secrets?: ReadonlyArray<string>
}

const cases: ReadonlyArray<Case> = [
  {
    name: "an unknown plugin",
    exitCode: 2,
    says: /source-postgers/,
    configuration: (landscape) =>
      JSON.stringify(landscape.configuration()).replace("@etl-stream/source-postgres", "@etl-stream/source-postgers")
  },
  {
    name: "a wrong type in the YAML",
    exitCode: 2,
    says: /pipelines\.e2e\.source\.options\.snapshot\.parallel.*/s,
    configuration: (landscape) => landscape.configuration({ source: { snapshot: { parallel: "many" } } })
  },
  {
    name: "a YAML that is none",
    exitCode: 2,
    says: /line|:\d+/,
    configuration: () => "apiVersion: 1\npipelines:\n  shop: { source: [\n"
  },
  {
    name: "an unreachable database",
    exitCode: 3,
    says: /127\.0\.0\.1:9\b/,
    configuration: (landscape) => landscape.configuration({ through: { host: "127.0.0.1", port: 9 } })
  },
  {
    name: "a wrong password of the database",
    exitCode: 3,
    says: /password/,
    configuration: (landscape) =>
      landscape.configuration({ source: { url: withPassword(landscape.postgres.url, "wr0ng-password") } }),
    secrets: ["wr0ng-password"]
  },
  {
    name: "a role that may not replicate",
    exitCode: 3,
    says: /REPLICATION/,
    given: "CREATE ROLE reader LOGIN PASSWORD 'reader-secret'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
    configuration: (landscape) =>
      landscape.configuration({
        source: { url: landscape.postgres.urlOf({ user: "reader", password: "reader-secret" }) }
      }),
    secrets: ["reader-secret"]
  },
  {
    name: "a key that is not the user's",
    exitCode: 3,
    says: /key|JWT/i,
    configuration: (landscape) => {
      const file = path.join(landscape.folder, "other.p8")
      const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 })
      writeFileSync(file, privateKey.export({ type: "pkcs8", format: "pem" }))
      return landscape.configuration({ sink: { auth: { privateKeyFile: file } } })
    }
  },
  {
    name: "a key file that doesn't exist",
    exitCode: 3,
    says: /nowhere\.p8/,
    configuration: (landscape) => landscape.configuration({ sink: { auth: { privateKeyFile: "./nowhere.p8" } } })
  },
  {
    name: "a warehouse that doesn't exist",
    exitCode: 3,
    says: /NO_SUCH_WAREHOUSE/,
    configuration: (landscape) => landscape.configuration({ sink: { warehouse: "NO_SUCH_WAREHOUSE" } })
  },
  {
    name: "a database that doesn't exist at the warehouse",
    exitCode: 3,
    says: /NO_SUCH_DATABASE/,
    configuration: (landscape) => landscape.configuration({ sink: { database: "NO_SUCH_DATABASE" } })
  }
]

describe("bad input gets one clear error", () => {
  it.live("each kind with its exit code, its remedy and no secret", () =>
    Effect.gen(function*() {
      const landscape = yield* Landscape.make()
      yield* landscape.postgres.query(
        "CREATE TABLE items (id int PRIMARY KEY, v text); INSERT INTO items VALUES (1, 'a')"
      )
      yield* Effect.forEach(
        cases,
        (one) =>
          Effect.gen(function*() {
            if (one.given !== undefined) yield* landscape.postgres.query(one.given)
            const { code, output } = yield* outcome(landscape, one.configuration(landscape))
            assert.strictEqual(code, one.exitCode, `${one.name}: ${output}`)
            assert.match(output, one.says, one.name)
            assertClear(output, [...secretsOf(landscape), ...one.secrets ?? []])
          }),
        { concurrency: 2, discard: true }
      )
    }), 180_000)

  it.live("a server whose wal_level is replica", () =>
    Effect.gen(function*() {
      const landscape = yield* Landscape.make({ postgres: { settings: { wal_level: "replica" } } })
      yield* landscape.postgres.query("CREATE TABLE items (id int PRIMARY KEY)")
      const { code, output } = yield* outcome(landscape, landscape.configuration())
      assert.strictEqual(code, 3, output)
      assert.match(output, /wal_level/)
      assertClear(output, secretsOf(landscape))
    }))
})
