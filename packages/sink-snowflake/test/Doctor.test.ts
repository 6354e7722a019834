import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { generateKeyPairSync } from "node:crypto"
import * as Doctor from "../src/Doctor.ts"
import * as Local from "./Local.ts"

class Server extends Context.Service<Server, Local.Local>()("test/DoctorServer") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const report = (local: Local.Local, more: object = {}) =>
  Doctor.check(local.config(more), { pipeline: "shop", directory: local.directory }).pipe(Effect.scoped)

const severities = (findings: Effect.Success<ReturnType<typeof report>>) =>
  findings.map(({ check, severity }) => [check, severity])

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("the sink's checks", (it) => {
  it.effect("tell what the first run creates without creating it, and are in order once it is there", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const before = yield* local.query("SHOW SCHEMAS IN DATABASE RAW")
      const first = yield* report(local)
      assert.deepStrictEqual(severities(first), [["login", "ok"], ["streaming", "ok"], ["schemas", "info"]])
      assert.strictEqual(first[2]?.message, "the first run creates ETL_STREAM and SHOP in RAW")
      assert.deepStrictEqual(first[2]?.sql, ["GRANT CREATE SCHEMA ON DATABASE \"RAW\" TO ROLE \"LOADER_ROLE\";"])
      assert.deepStrictEqual(yield* local.query("SHOW SCHEMAS IN DATABASE RAW"), before)
      assert.isFalse((yield* local.statements).some(({ needsWarehouse }) => needsWarehouse))
      yield* local.query("CREATE SCHEMA RAW.ETL_STREAM")
      yield* local.query("CREATE SCHEMA RAW.SHOP")
      assert.deepStrictEqual(severities(yield* report(local)), [["login", "ok"], ["streaming", "ok"], [
        "schemas",
        "ok"
      ]])
    }))

  it.effect("a role, a warehouse and a database that can't be used, each with its grants", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const role = yield* report(local, { role: "OTHER" })
      assert.deepStrictEqual(severities(role), [["login", "critical"]])
      assert.deepStrictEqual(role[0]?.sql, ["GRANT ROLE \"OTHER\" TO USER \"LOADER\";"])
      const warehouse = yield* report(local, { warehouse: "nowhere" })
      assert.match(warehouse[0]?.message ?? "", /warehouse NOWHERE does not exist/)
      assert.include(warehouse[0]?.sql ?? [], "GRANT USAGE ON WAREHOUSE \"NOWHERE\" TO ROLE \"LOADER_ROLE\";")
      const database = yield* report(local, { database: "\"no where\"" })
      assert.strictEqual(database[0]?.severity, "critical")
      assert.include(database[0]?.sql ?? [], "GRANT USAGE ON DATABASE \"no where\" TO ROLE \"LOADER_ROLE\";")
    }))

  it.effect("a key that Snowflake doesn't know, a key file that isn't there, and a server that doesn't answer", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const { privateKey } = generateKeyPairSync("rsa", {
        modulusLength: 2048,
        privateKeyEncoding: { type: "pkcs8", format: "pem" },
        publicKeyEncoding: { type: "spki", format: "pem" }
      })
      const unknown = yield* report(local, { auth: { privateKey } })
      assert.deepStrictEqual(severities(unknown), [["login", "critical"]])
      assert.strictEqual(unknown[0]?.reason, "Unauthorized")
      const absent = yield* report(local, { auth: { privateKeyFile: "absent.p8" } })
      assert.match(absent[0]?.message ?? "", /absent\.p8 of auth\.privateKeyFile can't be read/)
      const error = yield* Effect.flip(report(local, { url: "http://127.0.0.1:1" }))
      assert.strictEqual(error.reason, "Unreachable")
    }))
})
