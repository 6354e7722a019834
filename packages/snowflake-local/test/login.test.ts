/**
 * Logging in with the unmodified driver: every way, and every way to be refused.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { createSign } from "node:crypto"
import { createPublicKey } from "node:crypto"
import { fingerprint } from "../src/Accounts.ts"
import * as Driver from "./driver/Driver.ts"

const users = [{
  name: "etl",
  publicKeyPem: Driver.publicKey,
  password: Redacted.make("right"),
  tokens: [Redacted.make("pat-secret")],
  roles: ["LOADER", "PUBLIC"]
}]

const refused = (url: string, options: object, code: string) =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(Effect.scoped(Driver.connect(url, options)))
    assert.strictEqual(error.code, code)
  })

/** A token as the driver would make it, but for what the test changes. */
const token = (claims: object, key: string = Driver.privateKey): string => {
  const now = Math.floor(Date.now() / 1000)
  const subject = `${Driver.account}.ETL`
  const body = {
    iss: `${subject}.${fingerprint(createPublicKey(Driver.publicKey))}`,
    sub: subject,
    iat: now,
    exp: now + 60,
    ...claims
  }
  const text = [{ alg: "RS256", typ: "JWT" }, body].map((part) =>
    Buffer.from(JSON.stringify(part)).toString("base64url")
  ).join(".")
  return `${text}.${createSign("RSA-SHA256").update(text).sign(key).toString("base64url")}`
}

const login = (url: string, data: object, query = "") =>
  Effect.promise(async () => {
    const response = await fetch(`${url}/session/v1/login-request?requestId=1${query}`, {
      method: "POST",
      body: JSON.stringify({
        data: { ACCOUNT_NAME: Driver.account, LOGIN_NAME: "ETL", AUTHENTICATOR: "SNOWFLAKE_JWT", ...data }
      })
    })
    assert.strictEqual(response.status, 200)
    return await response.json()
  })

describe("login", () => {
  it.live("takes a key pair, a password, a programmatic access token and an OAuth token", () =>
    Effect.gen(function*() {
      const { url } = yield* Driver.server({ users })
      const ways: ReadonlyArray<object> = [
        {},
        { username: "etl" },
        { authenticator: "SNOWFLAKE", password: "right" },
        { authenticator: "SNOWFLAKE", password: "pat-secret" },
        { authenticator: "PROGRAMMATIC_ACCESS_TOKEN", token: "pat-secret" },
        { authenticator: "OAUTH", token: "pat-secret" }
      ]
      for (const way of ways) {
        yield* Effect.scoped(Effect.gen(function*() {
          const client = yield* Driver.connect(url, way)
          const [row] = yield* client.rows("select current_user() as u, current_role() as r")
          assert.deepStrictEqual(row, { U: "ETL", R: "LOADER" })
        }))
      }
    }), 60_000)

  it.live("refuses a wrong key, an unknown user, a wrong password, a wrong token and a role that isn't granted", () =>
    Effect.gen(function*() {
      const { url } = yield* Driver.server({ users })
      yield* refused(url, { privateKey: Driver.otherPrivateKey }, "390144")
      yield* refused(url, { username: "NOBODY" }, "390144")
      yield* refused(url, { authenticator: "SNOWFLAKE", password: "wrong" }, "390100")
      yield* refused(url, { authenticator: "SNOWFLAKE", username: "NOBODY", password: "right" }, "390100")
      yield* refused(url, { authenticator: "OAUTH", token: "wrong" }, "390303")
      yield* refused(url, { role: "ACCOUNTADMIN" }, "390189")
      yield* refused(url, { account: "OTHER-ACCOUNT" }, "390144")
    }))

  it.live("verifies key-pair tokens themselves: signature, issuer, subject and times in seconds or milliseconds", () =>
    Effect.gen(function*() {
      const { url } = yield* Driver.server({ users })
      const now = Math.floor(Date.now() / 1000)
      const good = yield* login(url, { TOKEN: token({}) })
      assert.isTrue(good.success)
      assert.isTrue((yield* login(url, { TOKEN: token({ iat: now * 1000, exp: (now + 60) * 1000 }) })).success)
      const hostile = [
        token({}, Driver.otherPrivateKey),
        token({ exp: now - 120, iat: now - 180 }),
        token({ exp: (now - 120) * 1000 }),
        token({ exp: now + 86_400 }),
        token({ sub: `${Driver.account}.OTHER` }),
        token({ iss: `${Driver.account}.ETL` }),
        `${Buffer.from("{\"alg\":\"none\"}").toString("base64url")}.${token({}).split(".")[1]}.`,
        "a.b",
        ""
      ]
      for (const wrong of hostile) {
        const answer = yield* login(url, { TOKEN: wrong })
        assert.strictEqual(answer.code, "390144")
        assert.isFalse(answer.success)
      }
    }))

  it.live("gives a session without what doesn't exist, and such a session can't run what needs a warehouse", () =>
    Effect.gen(function*() {
      const { url } = yield* Driver.server({ users })
      const client = yield* Driver.connect(url, { warehouse: "NO_WH", database: "NO_DB" })
      const [row] = yield* client.rows("select current_warehouse() as w, current_database() as d")
      assert.deepStrictEqual(row, { W: null, D: null })
      yield* client.script("create schema demo.s", "create table demo.s.t (a int)")
      const error = yield* Effect.flip(client.run("insert into demo.s.t values (1)"))
      assert.deepStrictEqual([error.code, error.sqlState], ["000606", "57P03"])
      yield* client.run("use warehouse compute_wh")
      yield* client.run("insert into demo.s.t values (1)")
    }))

  it.live("renews an expired session token without the caller noticing", () =>
    Effect.gen(function*() {
      const { url } = yield* Driver.server({ users, tokenValiditySeconds: 1 })
      const client = yield* Driver.connect(url)
      yield* client.run("create temporary table kept (a int)")
      yield* Effect.sleep("1200 millis")
      const rows = yield* client.rows("select count(*) as n from kept")
      assert.deepStrictEqual(rows, [{ N: "0" }])
    }))

  it.live("ends a session that can't be renewed any more", () =>
    Effect.gen(function*() {
      const { url } = yield* Driver.server({ users, tokenValiditySeconds: 1, masterTokenValiditySeconds: 1 })
      const client = yield* Driver.connect(url)
      yield* Effect.sleep("1200 millis")
      const error = yield* Effect.flip(client.run("select 1"))
      assert.strictEqual(error.code, "407002")
    }))
})
