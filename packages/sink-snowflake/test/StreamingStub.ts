/**
 * A server that answers the streaming API's calls as a test says, for what no server of a whole Snowflake would answer.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { createServer } from "node:http"
import { Config } from "../src/Config.ts"
import { privateKeyPem } from "./Local.ts"

/** A request that the stub was asked. */
export interface Asked {
  readonly path: string
  readonly authorization: string
  readonly type: string
  readonly body: string
  readonly encoding: string
  readonly rawBytes: string
  readonly atMillis: number
}
export type Answer = readonly [status: number, body: string, headers?: Readonly<Record<string, string>>]

/** A server that answers by path, and what it was asked. */
export const stub = Effect.fnUntraced(function*(answer: (path: string, host: string) => Answer) {
  const asked: Array<Asked> = []
  const server = createServer((request, response) => {
    let body = ""
    request.setEncoding("latin1").on("data", (part) => {
      body += part
    }).on("end", () => {
      const path = request.url ?? ""
      asked.push({
        path,
        authorization: request.headers.authorization ?? "",
        type: String(request.headers["x-snowflake-authorization-token-type"]),
        body,
        encoding: String(request.headers["content-encoding"]),
        rawBytes: String(request.headers["x-snowflake-uncompressed-content-length"]),
        atMillis: performance.now()
      })
      const [status, text, headers] = answer(path, request.headers.host ?? "")
      response.writeHead(status, headers).end(text)
    })
  })
  const port = yield* Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
      })
    }),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )
  return { asked, config: configOf(`http://127.0.0.1:${port}`) }
})

export const configOf = (url: string, more: object = {}): Config =>
  Schema.decodeUnknownSync(Config)({
    account: "MYORG-ACCT",
    url,
    user: "LOADER",
    role: "loader",
    auth: { privateKey: privateKeyPem },
    warehouse: "WH",
    database: "RAW",
    ...more
  })
