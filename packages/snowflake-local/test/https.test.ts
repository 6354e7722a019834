/**
 * HTTPS beside HTTP, any host name, and the ingest host that clients are told: what clients that were written by others need.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { writeFile } from "node:fs/promises"
import type { OutgoingHttpHeaders } from "node:http"
import { request as plainRequest } from "node:http"
import { request as tlsRequest } from "node:https"
import { join } from "node:path"
import { getCACertificates, setDefaultCACertificates } from "node:tls"
import snowflake from "snowflake-sdk"
import { selfSigned } from "../../testkit/src/Certificate.ts"
import * as Command from "./driver/Command.ts"
import * as Driver from "./driver/Driver.ts"

const identity = selfSigned("localhost")
// What NODE_EXTRA_CA_CERTS does for a process that is started with it.
setDefaultCACertificates([...getCACertificates("default"), identity.certificate])
snowflake.configure({ disableOCSPChecks: true })

/** GET with headers that fetch would not let through. */
const get = (url: string, headers: OutgoingHttpHeaders) =>
  Effect.callback<{ readonly status: number; readonly text: string }>((resume) => {
    const send = url.startsWith("https:") ? tlsRequest : plainRequest
    // The certificate is localhost's, whatever the Host header says.
    const options = { headers: { accept: "*/*", ...headers }, servername: "localhost" }
    const request = send(url, options, (response) => {
      const parts: Array<Buffer> = []
      response.on("data", (part: Buffer) => parts.push(part))
      response.on(
        "end",
        () => resume(Effect.succeed({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString() }))
      )
    })
    request.on("error", (cause) => resume(Effect.die(cause)))
    request.end()
  })

const bearer = () => ({ authorization: `Bearer ${Driver.jwt()}` })

describe("a server with a certificate", () => {
  it.live(
    "serves the driver over HTTPS and HTTP at once: queries, results in chunks and uploads",
    () =>
      Effect.gen(function*() {
        const server = yield* Driver.server({ tls: { ...identity } })
        assert.match(server.url, /^http:/)
        const https = `https://localhost:${server.https?.port}`
        for (const url of [https, server.url]) {
          const client = yield* Driver.connect(url)
          const rows = yield* client.rows(
            "select seq4() as n, repeat('x', 90) as pad from table(generator(rowcount => 30000)) order by n"
          )
          assert.strictEqual(rows.length, 30_000)
          assert.strictEqual(rows[29_999]?.["N"], "29999")
          yield* client.run("create or replace stage st")
          yield* client.run("PUT file://x.bin @st AUTO_COMPRESS=FALSE", { fileStream: Buffer.from(url) })
          const [file] = yield* client.rows("list @st")
          assert.strictEqual(file?.["size"], String(url.length))
        }
      }),
    60_000
  )

  it.live("answers under any host name, and leads back to that one", () =>
    Effect.gen(function*() {
      const server = yield* Driver.server({ tls: { ...identity } })
      const https = `https://localhost:${server.https?.port}`
      for (const host of ["my_org-acct.snowflakecomputing.com", "db.test:9999"]) {
        for (const url of [https, server.url]) {
          const answer = yield* get(`${url}/v2/streaming/hostname`, { host, ...bearer() })
          assert.deepStrictEqual(answer, { status: 200, text: host })
        }
      }
      const strange = yield* get(`${server.url}/v2/streaming/hostname`, { host: "no host", ...bearer() })
      assert.strictEqual(strange.status, 400)
      const outside = yield* get(`${server.url}//elsewhere/v2/streaming/hostname`, bearer())
      assert.strictEqual(outside.status, 404)
    }))

  it.live("tells the ingest host that it was configured with", () =>
    Effect.gen(function*() {
      const { url } = yield* Driver.server({ streaming: { ingestHost: "ingest.test:8443" } })
      const answer = yield* get(`${url}/v2/streaming/hostname`, bearer())
      assert.strictEqual(answer.text, "ingest.test:8443")
    }))

  it.live("speaks HTTPS only when it is told to", () =>
    Effect.gen(function*() {
      const server = yield* Driver.server({ tls: { ...identity }, http: false })
      assert.strictEqual(server.port, server.https?.port)
      assert.match(server.url, /^https:/)
      const answer = yield* get(`https://localhost:${server.port}/v2/streaming/hostname`, bearer())
      assert.strictEqual(answer.text, `localhost:${server.port}`)
    }))
})

describe("the command", () => {
  it.live("serves HTTPS from files and says where", () =>
    Effect.gen(function*() {
      const folder = yield* Driver.folder
      const file = (name: string) => join(folder, name)
      yield* Effect.promise(() => writeFile(file("key.pub"), Driver.publicKey))
      yield* Effect.promise(() => writeFile(file("tls.crt"), identity.certificate))
      yield* Effect.promise(() => writeFile(file("tls.key"), identity.key))
      const server = yield* Command.launch([
        "--data-dir",
        file("data"),
        "--account",
        Driver.account,
        "--user",
        "ETL",
        "--public-key-file",
        file("key.pub"),
        "--database",
        "DEMO",
        "--tls-cert",
        file("tls.crt"),
        "--tls-key",
        file("tls.key"),
        "--ingest-host",
        "localhost:1"
      ])
      const https = server.ready.https?.port
      const client = yield* Driver.connect(`https://localhost:${https}`)
      assert.deepStrictEqual(yield* client.rows("select 1 as a"), [{ A: "1" }])
      const answer = yield* get(`https://localhost:${https}/v2/streaming/hostname`, bearer())
      assert.strictEqual(answer.text, "localhost:1")
      // The controls of tests are there on request only.
      assert.strictEqual((yield* get(`https://localhost:${https}/_local/statements`, {})).status, 404)

      const second = yield* Command.run([
        "--data-dir",
        file("data"),
        "--account",
        Driver.account,
        "--user",
        "ETL"
      ])
      assert.strictEqual(second.code, 1)
      assert.include(second.stderr, "Another server uses this --data-dir.")
      assert.strictEqual(yield* Command.stop(server, "SIGTERM"), 0)
    }), 60_000)
})
