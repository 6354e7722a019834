/**
 * Roles and privileges, when they are enforced: what a role wasn't granted it doesn't find (002003) or may not do (003001).
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Driver from "./driver/Driver.ts"
import { Local } from "./driver/Driver.ts"

const users = [{ name: "ETL", publicKeyPem: Driver.publicKey, roles: ["ACCOUNTADMIN", "LOADER", "PUBLIC"] }]

/** Codes of statements, in order; "" for what works. */
const codes = (client: Driver.Client, ...statements: ReadonlyArray<string>) =>
  Effect.forEach(
    statements,
    (sql) =>
      Effect.match(client.run(sql), { onSuccess: () => "", onFailure: (error) => `${error.code} ${error.sqlState}` })
  )

/** Opens a channel of T as a role; HTTP status and code. */
const openChannel = (url: string, role: string) =>
  Effect.promise(async () => {
    const headers = { accept: "*/*" }
    const exchanged = await fetch(`${url}/oauth/token`, {
      method: "POST",
      headers,
      body: new URLSearchParams({
        grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer",
        scope: `session:role:${role}`,
        assertion: Driver.jwt()
      })
    })
    const token = await exchanged.text()
    const opened = await fetch(`${url}/v2/streaming/databases/DEMO/schemas/S/pipes/T-STREAMING/channels/c`, {
      method: "PUT",
      headers: { ...headers, authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: "{}"
    })
    return `${opened.status} ${(await opened.json()).code ?? ""}`
  })

layer(Local.layer({ enforcePrivileges: true, users }), { timeout: "60 seconds", excludeTestServices: true })(
  "a role",
  (it) => {
    it.effect("sees and does what it was granted, and nothing else", () =>
      Effect.gen(function*() {
        const admin = yield* Local
        const { server } = admin
        yield* admin.script("create schema demo.s", "create table demo.s.t (a int)", "insert into demo.s.t values (1)")
        const loader = yield* Driver.connect(server.url, { role: "LOADER" })
        const attempt = (...statements: ReadonlyArray<string>) => codes(loader, ...statements)
        const grant = (...statements: ReadonlyArray<string>) => admin.script(...statements)

        assert.deepStrictEqual(
          yield* attempt("select * from demo.s.t", "use database demo", "use warehouse compute_wh"),
          [
            "002003 02000",
            "002043 02000",
            "002043 02000"
          ]
        )
        assert.deepStrictEqual(yield* loader.rows("show databases"), [])
        assert.strictEqual(
          yield* openChannel(server.url, "LOADER"),
          "404 ERR_DATABASE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"
        )

        yield* grant(
          "grant usage on database demo to role loader",
          "grant usage on warehouse compute_wh to role loader"
        )
        assert.deepStrictEqual(
          yield* attempt("use database demo", "use warehouse compute_wh", "select * from demo.s.t"),
          [
            "",
            "",
            "002003 02000"
          ]
        )
        yield* grant("grant usage on schema demo.s to role loader")
        assert.deepStrictEqual(yield* attempt("select * from demo.s.t", "create table demo.s.mine (a int)"), [
          "002003 42S02",
          "003001 42501"
        ])
        assert.strictEqual(yield* openChannel(server.url, "LOADER"), "404 ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED")

        yield* grant("grant select on table demo.s.t to role loader")
        assert.deepStrictEqual(
          yield* attempt(
            "select * from demo.s.t",
            "insert into demo.s.t values (2)",
            "update demo.s.t set a = 2",
            "delete from demo.s.t",
            "truncate table demo.s.t",
            "merge into demo.s.t using (select 1 a) s on t.a = s.a when not matched then insert values (s.a)",
            "alter table demo.s.t add column b int",
            "drop table demo.s.t"
          ),
          ["", ...Array.from({ length: 7 }, () => "003001 42501")]
        )
        assert.strictEqual(yield* openChannel(server.url, "LOADER"), "404 ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED")
        yield* grant("grant insert, update, delete on table demo.s.t to role loader")
        assert.deepStrictEqual(
          yield* attempt(
            "insert into demo.s.t values (2)",
            "update demo.s.t set a = 3 where a = 2",
            "merge into demo.s.t using (select 1 a) s on t.a = s.a when not matched then insert values (s.a)",
            "delete from demo.s.t where a = 3"
          ),
          ["", "", "", ""]
        )
        assert.strictEqual(yield* openChannel(server.url, "LOADER"), "200 ")
        assert.deepStrictEqual(
          (yield* admin.rows("show grants on table demo.s.t")).map((
            row
          ) => [row["privilege"], row["name"], row["grantee_name"]]),
          [
            ["OWNERSHIP", "DEMO.S.T", "ACCOUNTADMIN"],
            ["SELECT", "DEMO.S.T", "LOADER"],
            ["INSERT", "DEMO.S.T", "LOADER"],
            ["UPDATE", "DEMO.S.T", "LOADER"],
            ["DELETE", "DEMO.S.T", "LOADER"]
          ]
        )
        assert.deepStrictEqual(
          (yield* admin.rows("show grants to role loader")).slice(0, 3).map((row) => [row["granted_on"], row["name"]]),
          [["DATABASE", "DEMO"], ["WAREHOUSE", "COMPUTE_WH"], ["SCHEMA", "DEMO.S"]]
        )
        yield* grant("revoke insert on table demo.s.t from role loader")
        assert.deepStrictEqual(yield* attempt("insert into demo.s.t values (2)"), ["003001 42501"])
      }))

    it.effect("creates what it may create, and owns it", () =>
      Effect.gen(function*() {
        const admin = yield* Local
        yield* admin.script(
          "create schema demo.own",
          "create table demo.own.theirs (a int)",
          "create role if not exists writer",
          "grant role writer to role loader",
          "grant usage on database demo to role writer",
          "grant usage on schema demo.own to role writer",
          "grant usage on warehouse compute_wh to role writer"
        )
        const loader = yield* Driver.connect(admin.server.url, { role: "LOADER", schema: "OWN" })
        const create = [
          "create table own.t (a int)",
          "create stage own.st",
          "create pipe own.p as copy into own.t from table(data_source(type => 'STREAMING')) match_by_column_name = case_insensitive",
          "create stream own.s on table own.t append_only = true",
          "create view own.v as select * from own.t",
          "create task own.k warehouse = compute_wh schedule = '1 minute' as select 1",
          "create schema demo.another"
        ]
        assert.deepStrictEqual((yield* codes(loader, ...create)).map((code) => code.slice(0, 6)), [
          "003001",
          "003001",
          "003001",
          "003001",
          "003001",
          "003001",
          "003001"
        ])
        yield* admin.script(
          "grant create table, create stage, create pipe, create stream, create view, create task on schema demo.own to role writer",
          "grant create schema on database demo to role writer"
        )
        assert.deepStrictEqual(yield* codes(loader, ...create), ["", "", "", "", "", "", ""])
        assert.deepStrictEqual(
          (yield* loader.rows("show tables in schema demo.own")).map((row) => [row["name"], row["owner"]]),
          [
            ["T", "LOADER"]
          ]
        )
        // A name that is taken by something unseen is taken all the same.
        assert.deepStrictEqual(yield* codes(loader, "create table own.theirs (a int)"), ["002002 42710"])

        assert.deepStrictEqual(yield* codes(loader, "alter task own.k resume"), ["091089 23001"])
        yield* admin.run("grant execute task on account to role loader")
        assert.deepStrictEqual(yield* codes(loader, "alter task own.k resume", "alter task own.k suspend"), ["", ""])

        yield* loader.run("PUT file://x.bin @own.st AUTO_COMPRESS=FALSE", { fileStream: Buffer.from("x") })
        yield* admin.script("create role if not exists reader", "grant role reader to user etl")
        const reader = yield* Driver.connect(admin.server.url, { role: "READER" })
        yield* admin.script(
          "grant usage on database demo to role reader",
          "grant usage on schema demo.own to role reader",
          "grant read on stage demo.own.st to role reader",
          "grant select on future tables in schema demo.own to role reader"
        )
        assert.deepStrictEqual(
          yield* codes(reader, "list @demo.own.st", "remove @demo.own.st", "select * from demo.own.t"),
          [
            "",
            "003001 42501",
            "002003 42S02"
          ]
        )
        yield* loader.run("create table own.later (a int)")
        yield* admin.run("grant usage on warehouse compute_wh to role reader")
        assert.deepStrictEqual(yield* codes(reader, "use warehouse compute_wh", "select * from demo.own.later"), [
          "",
          ""
        ])

        // Ownership moves with the object.
        yield* loader.run("grant ownership on table own.later to role reader")
        assert.deepStrictEqual(yield* codes(loader, "drop table own.later"), ["002003 42S02"])
        assert.deepStrictEqual(yield* codes(reader, "drop table demo.own.later"), [""])
        assert.deepStrictEqual(yield* codes(loader, "grant select on table own.theirs to role reader"), [
          "002003 42S02"
        ])
      }))

    it.effect("can't be granted what there isn't", () =>
      Effect.gen(function*() {
        const admin = yield* Local
        assert.deepStrictEqual(
          yield* codes(
            admin,
            "grant usage on database demo to role nobody",
            "grant select on table demo.public.nowhere to role public",
            "grant fly on schema demo.public to role public",
            "create role accountadmin",
            "grant role public to user nobody"
          ),
          ["002003 02000", "002003 42S02", "001003 42000", "002002 42710", "002003 02000"]
        )
      }))
  }
)
