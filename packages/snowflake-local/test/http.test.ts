/**
 * The drivers' protocol by plain HTTP requests, as its documentation and public clients have it; no driver takes part.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { randomUUID } from "node:crypto"
import { gzipSync } from "node:zlib"
import * as Driver from "./driver/Driver.ts"
import { Local } from "./driver/Driver.ts"

/** The fields of every answer that these tests read. */
interface Body {
  readonly success: boolean
  readonly code: string | null
  readonly message: string | null
  readonly data: {
    readonly token: string
    readonly masterToken: string
    readonly sessionToken: string
    readonly queryId: string
    readonly sqlState: string
    readonly getResultUrl: string
    readonly resultIds: string
    readonly total: number
    readonly rowtype: ReadonlyArray<{ readonly name: string; readonly type: string; readonly nullable: boolean }>
    readonly rowset: ReadonlyArray<ReadonlyArray<string | null>>
    readonly chunks?: ReadonlyArray<{ readonly url: string; readonly rowCount: number }>
    readonly queries: ReadonlyArray<{ readonly id: string; readonly status: string }>
  }
}

const send = async (method: string, url: string, token: string | undefined, body?: object): Promise<Body> => {
  const response = await fetch(url, {
    method,
    headers: {
      accept: "application/json",
      "content-type": "application/json",
      ...(token === undefined ? {} : { authorization: `Snowflake Token="${token}"` })
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) })
  })
  assert.strictEqual(response.status, 200)
  return await response.json()
}

class Session {
  readonly url: string
  token: string
  master: string

  private constructor(url: string, token: string, master: string) {
    this.url = url
    this.token = token
    this.master = master
  }

  static async login(url: string, password = "right"): Promise<Session> {
    const query = "databaseName=DEMO&schemaName=PUBLIC&warehouse=COMPUTE_WH"
    const answer = await send("POST", `${url}/session/v1/login-request?${query}`, undefined, {
      data: { ACCOUNT_NAME: Driver.account, LOGIN_NAME: "ETL", PASSWORD: password, CLIENT_APP_ID: "test" }
    })
    if (!answer.success) throw new Error(answer.code ?? "")
    return new Session(url, answer.data.token, answer.data.masterToken)
  }

  query(sqlText: string, more: object = {}, requestId: string = randomUUID()): Promise<Body> {
    return send("POST", `${this.url}/queries/v1/query-request?requestId=${requestId}`, this.token, {
      sqlText,
      asyncExec: false,
      ...more
    })
  }

  get(path: string): Promise<Body> {
    return send("GET", `${this.url}${path}`, this.token)
  }

  post(path: string, body: object, token = this.token): Promise<Body> {
    return send("POST", `${this.url}${path}`, token, body)
  }

  /** Asks again until there is a result. */
  async result(answer: Body): Promise<Body> {
    let last = answer
    while (last.code === "333333" || last.code === "333334") last = await this.get(last.data.getResultUrl)
    return last
  }
}

const slow = "select count(*) n from table(generator(rowcount => 1500000)) where sha2(to_varchar(random())) = ''"

layer(
  Local.layer({
    inProgressAfterMillis: 100,
    users: [{ name: "ETL", publicKeyPem: Driver.publicKey, password: Redacted.make("right") }]
  }),
  { timeout: "60 seconds", excludeTestServices: true }
)("plain HTTP", (it) => {
  const scenario = (test: (session: Session, url: string) => Promise<void>) =>
    Effect.flatMap(Local, ({ server }) => Effect.promise(async () => test(await Session.login(server.url), server.url)))

  it.effect("gets types, values and errors in the documented forms", () =>
    scenario(async (session) => {
      const answer = await session.query(
        "select 1::number(10,2) n, 'a' t, true b, '2024-01-02'::date d, null x, to_binary('00FF') y, ? bound",
        { bindings: { "1": { type: "TEXT", value: "it's" } } }
      )
      assert.isTrue(answer.success)
      assert.deepStrictEqual(answer.data.rowset, [["1.00", "a", "1", "19724", null, "00FF", "it's"]])
      assert.deepStrictEqual(answer.data.rowtype.map(({ name, type }) => [name, type]), [
        ["N", "fixed"],
        ["T", "text"],
        ["B", "boolean"],
        ["D", "date"],
        ["X", "text"],
        ["Y", "binary"],
        ["BOUND", "text"]
      ])
      const wrong = await session.query("select nope from nowhere")
      assert.deepStrictEqual([wrong.success, wrong.code, wrong.data.sqlState], [false, "002003", "42S02"])
    }))

  it.effect("gets a large result in chunks below the address that it asked", () =>
    scenario(async (session, url) => {
      const answer = await session.query(
        "select seq4() n, repeat('x', 100) p from table(generator(rowcount => 40000)) order by n"
      )
      const { chunks = [], rowset, total } = (await session.result(answer)).data
      assert.strictEqual(total, 40_000)
      assert.isAbove(chunks.length, 0)
      let at = rowset.length
      for (const chunk of chunks) {
        assert.isTrue(chunk.url.startsWith(`${url}/`))
        // Rows without the outer brackets.
        const rows = JSON.parse(`[${await (await fetch(chunk.url)).text()}]`)
        assert.strictEqual(rows.length, chunk.rowCount)
        assert.strictEqual(rows[0][0], String(at))
        at += rows.length
      }
      assert.strictEqual(at, total)
    }))

  it.effect("runs a request id once, whether its statement has ended or still runs", () =>
    scenario(async (session) => {
      await session.query("create or replace table once (n int)")
      const done = randomUUID()
      const [first, second] = [
        await session.query("insert into once values (1)", {}, done),
        await session.query("insert into once values (1)", {}, done)
      ]
      assert.strictEqual(first.data.queryId, second.data.queryId)
      const running = randomUUID()
      const sql = `insert into once ${slow.replace("count(*) n", "2")} union all select 2`
      const answers = await Promise.all([0, 1, 2].map(() => session.query(sql, {}, running)))
      assert.strictEqual(new Set(answers.map(({ data }) => data.queryId)).size, 1)
      for (const answer of answers) {
        assert.strictEqual(answer.code, "333333")
        assert.strictEqual((await session.result(answer)).data.rowset[0]?.[0], "1")
      }
      const counted = await session.query("select n, count(*) from once group by n order by n")
      assert.deepStrictEqual(counted.data.rowset, [["1", "1"], ["2", "1"]])
    }))

  it.effect("runs a statement asynchronously, follows it, and reads its result in another session of the same user", () =>
    scenario(async (session, url) => {
      const started = await session.query(slow, { asyncExec: true })
      assert.strictEqual(started.code, "333334")
      const monitored = await session.get(`/monitoring/queries/${started.data.queryId}`)
      assert.deepStrictEqual(monitored.data.queries, [{ id: started.data.queryId, status: "RUNNING" }])
      const other = await Session.login(url)
      assert.deepStrictEqual((await other.result(started)).data.rowset, [["0"]])
      const ended = await session.get(`/monitoring/queries/${started.data.queryId}`)
      assert.strictEqual(ended.data.queries[0]?.status, "SUCCESS")
      assert.strictEqual((await session.get(`/queries/${randomUUID()}/result`)).code, "000709")
    }))

  it.effect("cancels by request id and by query id", () =>
    scenario(async (session) => {
      const endless = slow.replace("1500000", "2000000000")
      const requestId = randomUUID()
      const [one] = [await session.query(endless, {}, requestId)]
      await session.post("/queries/v1/abort-request", { requestId })
      assert.deepStrictEqual([(await session.result(one)).code, one.code], ["000604", "333333"])
      const two = await session.query(endless, { asyncExec: true })
      await session.post(`/queries/${two.data.queryId}/abort-request`, {})
      assert.strictEqual((await session.result(two)).code, "000604")
    }))

  it.effect("runs several statements when told how many, and gives each a result of its own", () =>
    scenario(async (session) => {
      const answer = await session.query("select 1 a; select 2 b", { parameters: { MULTI_STATEMENT_COUNT: 2 } })
      const results = await Promise.all(
        answer.data.resultIds.split(",").map((id) => session.get(`/queries/${id}/result`))
      )
      assert.deepStrictEqual(results.map(({ data }) => data.rowset), [[["1"]], [["2"]]])
      assert.strictEqual((await session.query("select 1; select 2")).code, "000008")
    }))

  it.effect("renews a token, ends a session, and is refused without either", () =>
    scenario(async (session) => {
      const renewed = await session.post("/session/token-request", {
        oldSessionToken: session.token,
        requestType: "RENEW"
      }, session.master)
      assert.isTrue(renewed.success)
      assert.strictEqual((await session.query("select 1")).code, "390111")
      session.token = renewed.data.sessionToken
      assert.isTrue((await session.query("select 1")).success)
      assert.isTrue((await session.post("/session/heartbeat", {})).success)
      assert.isTrue((await session.post("/session?delete=true", {})).success)
      assert.strictEqual((await session.query("select 1")).code, "390111")
      const wrong = await Session.login(session.url, "wrong").catch((error: unknown) => error)
      assert.include(wrong, { message: "390100" })
    }))

  it.effect("takes compressed requests, and refuses bodies that are none of the protocol's", () =>
    scenario(async (session) => {
      const post = async (body: Uint8Array | string, headers: Record<string, string> = {}): Promise<Body> => {
        const response = await fetch(`${session.url}/queries/v1/query-request?requestId=${randomUUID()}`, {
          method: "POST",
          headers: { authorization: `Snowflake Token="${session.token}"`, ...headers },
          body: body as BodyInit
        })
        return await response.json()
      }
      const gzip = { "content-encoding": "gzip" }
      assert.isTrue((await post(gzipSync(JSON.stringify({ sqlText: "select 1" })), gzip)).success)
      for (const [body, headers] of [["no json", {}], ["{}", {}], ["not gzip", gzip]] as const) {
        const answer = await post(body, headers)
        assert.deepStrictEqual([answer.success, answer.code], [false, "390400"])
      }
    }))
})
