/**
 * The tables and small pure parts: errors, identifiers, keys and options.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { generateKeyPairSync, verify } from "node:crypto"
import { Config } from "../src/Config.ts"
import * as ErrorPolicy from "../src/ErrorPolicy.ts"
import * as Identifier from "../src/Identifier.ts"
import * as KeyPair from "../src/KeyPair.ts"
import * as TableLayout from "../src/TableLayout.ts"
import * as Batches from "./Batches.ts"

describe("ErrorPolicy", () => {
  it("tells what is missing, forbidden or out of reach", () => {
    const reason = (code: string, sqlState?: string) => ErrorPolicy.sql(code, sqlState).reason
    assert.strictEqual(reason("390144"), "Unauthorized")
    assert.strictEqual(reason("606", "57P03"), "Missing")
    assert.strictEqual(reason("2043", "02000"), "Missing")
    assert.strictEqual(reason("3001", "42501"), "Forbidden")
    assert.strictEqual(reason("390189"), "Forbidden")
    assert.strictEqual(reason("401001"), "Unreachable")
    assert.strictEqual(reason("100038", "22018"), "Rejected")
    assert.strictEqual(reason("2002", "42710"), "Forbidden")
    for (const code of ["603", "91016", ErrorPolicy.uploadFailed]) assert.strictEqual(reason(code), "Unreachable")
    assert.strictEqual(reason("370001", "XX000"), "Unreachable")
    // The transaction was rolled back: nothing of it was refused.
    assert.strictEqual(reason("90232", "25000"), "Unreachable")
    assert.strictEqual(reason("607", "40001"), "Unreachable")
  })

  it("counts a deadlock's victim and a statement that took too long to what was rolled back, nothing else that was cancelled", () => {
    const isRolledBack = (code: string) => {
      const { hint, reason } = ErrorPolicy.sql(code, "57014")
      return ErrorPolicy.isRolledBack(
        ErrorPolicy.failure(reason, "it failed", hint, { cause: ErrorPolicy.causeOf(code, "57014") })
      )
    }
    for (const code of ["607", "000607", "630", "000630"]) {
      assert.strictEqual(ErrorPolicy.sql(code, "57014").reason, "Unreachable", code)
      assert.isTrue(isRolledBack(code), code)
    }
    for (const code of ["604", "605"]) assert.isFalse(isRolledBack(code), code)
    assert.match(ErrorPolicy.sql("630", "57014").hint, /STATEMENT_TIMEOUT_IN_SECONDS/)
  })

  it("repeats what failed on the way, not what storage refused", () => {
    const reason = (code: string) => ErrorPolicy.sql(code, undefined).reason
    for (
      const code of ["ECONNRESET", "ENOTFOUND", "EAI_AGAIN", "ETIMEDOUT", "EPIPE", "ERR_NETWORK", "ERR_BAD_RESPONSE"]
    ) {
      assert.strictEqual(reason(code), "Unreachable", code)
    }
    for (const code of ["ERR_BAD_REQUEST", "EACCES", "ENOENT", "EXXX"]) {
      assert.strictEqual(reason(code), "Rejected", code)
    }
  })
})

describe("Identifier", () => {
  it("quotes, folds and percent-encodes", () => {
    assert.strictEqual(Identifier.qualified("A", "b\"c"), "\"A\".\"b\"\"c\"")
    assert.strictEqual(Identifier.literal("it's \\ here"), "'it''s \\\\ here'")
    assert.deepStrictEqual(["orders", "Orders", "a b", "1st", "naïve"].map(Identifier.fromSource), [
      "ORDERS",
      "Orders",
      "a b",
      "1st",
      "naïve"
    ])
    assert.deepStrictEqual(["raw", "\"raw\"", "My-Db"].map(Identifier.fromConfig), ["RAW", "raw", "My-Db"])
    assert.strictEqual(Identifier.pathSegment("RAW"), "RAW")
    assert.strictEqual(Identifier.pathSegment("raw/x"), "%22raw%2Fx%22")
  })
})

describe("TableLayout", () => {
  const config = Schema.decodeUnknownSync(Config)({
    account: "MYORG-ACCT",
    user: "LOADER",
    auth: { token: "t" },
    warehouse: "WH",
    database: "RAW"
  })
  const layoutOf = (schema: string, name: string, column = "id") =>
    TableLayout.make(config, "shop", Batches.table(name, { [column]: { _tag: "Int32" } }, { _tag: "None" }, schema))

  it.effect("gives tables of resembling names journals of their own", () =>
    Effect.gen(function*() {
      const names = [["a__b", "c"], ["a", "b__c"], ["a_", "b"], ["a", "_b"], ["a-", "b"], ["A", "b"], [
        "a",
        "b"
      ]] as const
      const layouts = yield* Effect.forEach(names, ([schema, name]) => layoutOf(schema, name))
      assert.strictEqual(new Set(layouts.map(({ journal }) => journal.name)).size, names.length - 1)
      assert.strictEqual((yield* layoutOf("shop", "orders")).journal.name, "SHOP__ORDERS__JOURNAL")
    }))

  it.effect("refuses columns that begin like metadata columns, in any case", () =>
    Effect.gen(function*() {
      for (const column of ["_etl_op", "_Etl_Op", "_ETL_x"]) {
        const error = yield* Effect.flip(layoutOf("shop", "orders", column))
        assert.strictEqual(error.reason, "Unsupported")
        assert.include(error.message, column)
      }
    }))
})

describe("KeyPair", () => {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 })
  const plain = privateKey.export({ type: "pkcs8", format: "pem" }).toString()
  const encrypted = privateKey.export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "pass" })
    .toString()

  it.effect("makes tokens that the public key verifies, in seconds", () =>
    Effect.gen(function*() {
      const pair = yield* KeyPair.parse(Redacted.make(encrypted), Redacted.make("pass"), "auth.privateKey")
      const [head, body, signature] = Redacted.value(KeyPair.jwt(pair, "myorg-acct", "loader", 1000, 600)).split(".")
      assert.isTrue(
        verify("RSA-SHA256", Buffer.from(`${head}.${body}`), publicKey, Buffer.from(signature ?? "", "base64url"))
      )
      assert.deepStrictEqual(JSON.parse(Buffer.from(body ?? "", "base64url").toString()), {
        iss: `MYORG-ACCT.LOADER.${pair.fingerprint}`,
        sub: "MYORG-ACCT.LOADER",
        iat: 1000,
        exp: 1600
      })
      assert.strictEqual(
        (yield* KeyPair.parse(Redacted.make(plain), undefined, "auth.privateKey")).fingerprint,
        pair.fingerprint
      )
    }))

  it.effect("says which option holds a bad key, and nothing of the key", () =>
    Effect.gen(function*() {
      for (const [pem, passphrase] of [["no key", undefined], [encrypted, undefined], [encrypted, "wrong"]] as const) {
        const error = yield* Effect.flip(
          KeyPair.parse(
            Redacted.make(pem),
            passphrase === undefined ? undefined : Redacted.make(passphrase),
            "auth.privateKeyFile"
          )
        )
        assert.strictEqual(error.reason, "Misconfigured")
        assert.include(error.message, "auth.privateKeyFile")
        assert.notInclude(JSON.stringify(error), pem)
      }
    }))
})

describe("Config", () => {
  const decode = (options: object) =>
    Schema.decodeUnknownEffect(Config)(options, { errors: "all", onExcessProperty: "error" })
  const base = { account: "MYORG-ACCT", user: "LOADER", warehouse: "WH", database: "RAW" }

  it.effect("has defaults for everything but the account, the user, the warehouse, the database and the auth", () =>
    Effect.gen(function*() {
      const config = yield* decode({ ...base, auth: { privateKeyFile: "./key.p8" } })
      assert.strictEqual(config.journalSchema, "ETL_STREAM")
      assert.strictEqual(config.mode, "mirror")
      assert.strictEqual(config.outOfRange, "fail")
    }))

  it.effect("wants exactly one way to log in, and shows no secret", () =>
    Effect.gen(function*() {
      for (const auth of [{}, { password: "hunter2", token: "tok3n" }]) {
        const error = yield* Effect.flip(decode({ ...base, auth }))
        assert.include(String(error), "exactly one of")
        assert.notInclude(String(error), "hunter2")
      }
      const config = yield* decode({ ...base, auth: { password: "hunter2" } })
      assert.notInclude(JSON.stringify(config), "hunter2")
    }))

  it.effect("says in words what the URL has to be", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(decode({ ...base, auth: { token: "t" }, url: "snowflake.example/path" }))
      assert.include(String(error), "a URL of http or https without a path")
    }))

  it.effect("names a wrong option", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        decode({ ...base, auth: { token: "t" }, modus: "mirror", merge: { every: "soon" } })
      )
      assert.include(String(error), "modus")
      assert.include(String(error), "every")
    }))
})
