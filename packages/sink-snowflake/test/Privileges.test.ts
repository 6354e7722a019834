/**
 * The privileges that docs/snowflake.md has an administrator grant are all that the sink needs, and without one of them it says which.
 *
 * The local server enforces them; the grants are read from the page itself.
 */
import { assert, describe, it } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import { ConnectorError, isRetryable } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { createPublicKey, randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import * as Batches from "./Batches.ts"
import { hurried } from "./HurriedClock.ts"
import * as Local from "./Local.ts"

const page = readFileSync(new URL("../../../docs/snowflake.md", import.meta.url), "utf8")

/** A part's grants to the role, with the names of this test. */
const grantsOf = (part: string): ReadonlyArray<string> =>
  [...part.matchAll(/^GRANT [^;]* TO ROLE ETL;/gm)].map(([statement]) =>
    statement.replace("TO ROLE ETL;", "TO ROLE LOADER_ROLE").replace(/WAREHOUSE (ETL|MERGES)/, "WAREHOUSE WH")
  )

const [everything = "", tasks = ""] = page.split("## Who merges")

/** What every sink needs. */
const documented = grantsOf(everything)

const server = Local.start({
  enforcePrivileges: true,
  users: [{
    name: "LOADER",
    publicKeyPem: createPublicKey(Local.privateKeyPem).export({ type: "spki", format: "pem" }).toString(),
    password: Redacted.make(Local.password),
    roles: ["LOADER_ROLE", "PUBLIC", "ACCOUNTADMIN"]
  }]
})

/** Runs statements as ACCOUNTADMIN, by the drivers' protocol. */
const administer = (local: Local.Local, statements: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    const post = async (path: string, token: string | undefined, body: object) => {
      const response = await fetch(`${local.url}${path}`, {
        method: "POST",
        headers: token === undefined ? {} : { authorization: `Snowflake Token="${token}"` },
        body: JSON.stringify(body)
      })
      const answer = await response.json()
      if (!answer.success) throw new Error(answer.message)
      return answer.data
    }
    const { token } = await post("/session/v1/login-request?roleName=ACCOUNTADMIN", undefined, {
      data: { ACCOUNT_NAME: "MYORG-ACCT", LOGIN_NAME: "LOADER", PASSWORD: Local.password }
    })
    for (const sqlText of statements) {
      await post(`/queries/v1/query-request?requestId=${randomUUID()}`, token, { sqlText })
    }
  })

const table = Batches.table(
  "orders",
  { id: { _tag: "Int64" }, note: { _tag: "Text", maxLength: undefined } },
  { _tag: "Key", columns: [0] }
)
const row = (op: Operation, commit: bigint, ...values: ReadonlyArray<Batches.Value>): Batches.Row => ({
  op,
  sequence: Sequence.make(commit, 0n),
  values
})

describe("a sink with the documented privileges", () => {
  it.live("copies, streams, merges and adds columns", () =>
    Effect.gen(function*() {
      assert.isAtLeast(documented.length, 2)
      const local = yield* server
      yield* administer(local, documented)
      const running = yield* Local.run(local)
      const opened = yield* running.open(table)
      yield* Local.copy(opened, table, 100n, [
        Batches.batch(table, [row(Operation.Read, 100n, 1n, "one"), row(Operation.Read, 100n, 2n, "two")])
      ])
      yield* opened.rows(Batches.batch(table, [row(Operation.Update, 200n, 1n, "changed")]))
      yield* opened.rows(Batches.batch(table, [row(Operation.Delete, 201n, 2n)]))
      yield* opened.durable(Sequence.make(201n, 0n))
      const wider = Batches.table(
        "orders",
        { id: { _tag: "Int64" }, note: { _tag: "Text", maxLength: undefined }, more: { _tag: "Int32" } },
        { _tag: "Key", columns: [0] },
        "public",
        2
      )
      yield* opened.writer.write({ _tag: "Schema", table: wider, sequence: Sequence.make(300n, 0n) })
      yield* opened.rows(Batches.batch(wider, [row(Operation.Insert, 301n, 3n, "three", 3)]))
      yield* opened.durable(Sequence.make(301n, 0n))
      yield* running.sink.settle
      assert.deepStrictEqual(
        yield* local.query(`SELECT "ID", "NOTE", TO_VARCHAR("MORE") AS "MORE" FROM RAW.SHOP.ORDERS ORDER BY "ID"`),
        [{ ID: "1", NOTE: "changed", MORE: null }, { ID: "3", NOTE: "three", MORE: "3" }]
      )
    }), 60_000)

  it.live("lets tasks merge, with the grants that these need", () =>
    hurried(
      "15 seconds",
      Effect.gen(function*() {
        const forTasks = grantsOf(tasks)
        assert.strictEqual(forTasks.length, 2)
        const local = yield* server
        yield* administer(local, [...documented, ...forTasks])
        const running = yield* Local.run(local, { merge: { by: "task", every: "15 seconds" } })
        const opened = yield* running.open(table)
        yield* Local.copy(opened, table, 100n, [])
        const started = yield* Effect.repeat(local.query("SHOW TASKS IN SCHEMA RAW.ETL_STREAM"), {
          schedule: Schedule.max([Schedule.spaced("200 millis"), Schedule.during("40 seconds")]),
          until: (tasks) => tasks.some(({ state }) => state === "started")
        })
        assert.deepStrictEqual(started.map(({ name, state }) => [name, state]), [[
          "SHOP__ORDERS__JOURNAL_MERGE",
          "started"
        ]])
      })
    ), 60_000)

  for (
    const missing of documented.flatMap((statement) => {
      const [, list = "", on = ""] = /^GRANT (.*?) (ON .*)$/.exec(statement) ?? []
      return list.split(", ").map((privilege) => ({ privilege, on }))
    })
  ) {
    it.live(
      `doesn't start without ${missing.privilege} ${missing.on}, and names the privileges`,
      () =>
        Effect.gen(function*() {
          const local = yield* server
          yield* administer(local, [
            ...documented,
            `REVOKE ${missing.privilege} ${missing.on.replace(" TO ", " FROM ")}`
          ])
          const error = yield* Effect.flip(Effect.gen(function*() {
            const running = yield* Local.run(local)
            yield* running.open(table)
          }))
          assert.instanceOf(error, ConnectorError)
          if (error instanceof ConnectorError) {
            assert.isFalse(isRetryable(error))
            assert.match(`${error.message} ${error.hint}`, /privileges|grant/i)
          }
        }),
      60_000
    )
  }
})
