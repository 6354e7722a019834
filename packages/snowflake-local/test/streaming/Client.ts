/**
 * A plain client of the streaming endpoints, and the fixtures that start a server for it. It shares no code with the Snowflake sink.
 */
import { spawn } from "node:child_process"
import { createHash, createPublicKey, generateKeyPairSync, sign } from "node:crypto"
import { once } from "node:events"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Options } from "../../src/streaming/StreamingOptions.ts"
import type { TableSpec } from "./Server.ts"
import { serve } from "./Server.ts"

/** The key pair of the tests' user. */
export const keys = generateKeyPairSync("rsa", {
  modulusLength: 2048,
  publicKeyEncoding: { type: "spki", format: "pem" },
  privateKeyEncoding: { type: "pkcs8", format: "pem" }
})

/** A key-pair JWT of the tests' user, with claims replaced at will. */
export const keyPairJwt = (claims: Record<string, unknown> = {}): string => {
  const der = createPublicKey(keys.publicKey).export({ type: "spki", format: "der" })
  const subject = "ORG-ACCT.LOADER"
  const now = Math.floor(Date.now() / 1000)
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url")
  const content = `${part({ alg: "RS256", typ: "JWT" })}.${
    part({
      iss: `${subject}.SHA256:${createHash("sha256").update(der).digest("base64")}`,
      sub: subject,
      iat: now,
      exp: now + 300,
      ...claims
    })
  }`
  return `${content}.${sign("RSA-SHA256", Buffer.from(content), keys.privateKey).toString("base64url")}`
}

export interface ChannelStatus {
  readonly database_name: string
  readonly schema_name: string
  readonly pipe_name: string
  readonly channel_name: string
  readonly channel_status_code: string
  readonly last_committed_offset_token: string | null
  readonly created_on_ms: number
  readonly rows_inserted: number
  readonly rows_parsed: number
  readonly rows_error_count: number
  readonly last_error_offset_upper_bound: string | null
  readonly last_error_message: string | null
  readonly last_error_timestamp: number | null
  readonly snowflake_avg_processing_latency_ms: number
}

/** The fields of all the answers; which of them are there depends on the endpoint. */
export interface Body {
  readonly code: string
  readonly next_continuation_token: string
  readonly channel_status: ChannelStatus
  readonly channel_statuses: Record<string, ChannelStatus>
  readonly channels: ReadonlyArray<unknown>
}

export interface Answer {
  readonly status: number
  readonly text: string
  readonly body: Body
}

export class Client {
  readonly base: string
  token = ""

  constructor(port: number) {
    this.base = `http://127.0.0.1:${port}`
  }

  async request(
    method: string,
    path: string,
    init: { headers?: Record<string, string>; body?: string | Uint8Array } = {}
  ): Promise<Answer> {
    const response = await fetch(`${this.base}${path}`, {
      method,
      headers: init.headers ?? {},
      ...(init.body === undefined ? {} : { body: init.body as BodyInit })
    })
    const text = await response.text()
    let body: unknown
    try {
      body = JSON.parse(text)
    } catch {
      body = undefined
    }
    // Each test asserts the fields that it reads.
    return { status: response.status, text, body: body as Body }
  }

  async login(): Promise<this> {
    const jwt = keyPairJwt()
    const host = await this.request("GET", "/v2/streaming/hostname", { headers: { authorization: `Bearer ${jwt}` } })
    this.token = (await this.exchange(host.text, jwt)).text
    return this
  }

  exchange(scope: string, jwt: string): Promise<Answer> {
    return this.request("POST", "/oauth/token", {
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({
        grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer",
        scope,
        assertion: jwt
      }).toString()
    })
  }

  private ingest(
    method: string,
    path: string,
    body: string | Uint8Array | undefined,
    headers: Record<string, string> = {}
  ): Promise<Answer> {
    return this.request(method, path, {
      headers: { authorization: `Bearer ${this.token}`, "content-type": "application/json", ...headers },
      ...(body === undefined ? {} : { body })
    })
  }

  private pipe(table: string): string {
    return `databases/DB/schemas/PUBLIC/pipes/${
      encodeURIComponent(/^[A-Z0-9_]+$/.test(table) ? `${table}-STREAMING` : `"${table}-STREAMING"`)
    }`
  }

  open(table: string, channel: string, body: unknown = {}): Promise<Answer> {
    return this.ingest(
      "PUT",
      `/v2/streaming/${this.pipe(table)}/channels/${encodeURIComponent(channel)}`,
      JSON.stringify(body)
    )
  }

  drop(table: string, channel: string, body: unknown = {}): Promise<Answer> {
    return this.ingest(
      "DELETE",
      `/v2/streaming/${this.pipe(table)}/channels/${encodeURIComponent(channel)}`,
      JSON.stringify(body)
    )
  }

  append(
    table: string,
    channel: string,
    continuationToken: string,
    rows: ReadonlyArray<unknown> | string | Uint8Array,
    offset: { readonly start?: string; readonly end?: string; readonly single?: string } = {},
    headers: Record<string, string> = {}
  ): Promise<Answer> {
    const query = new URLSearchParams({ continuationToken, requestId: "r" })
    if (offset.start !== undefined) query.set("startOffsetToken", offset.start)
    if (offset.end !== undefined) query.set("endOffsetToken", offset.end)
    if (offset.single !== undefined) query.set("offsetToken", offset.single)
    const body = typeof rows === "string" || rows instanceof Uint8Array
      ? rows
      : rows.map((row) => `${JSON.stringify(row)}\n`).join("")
    return this.ingest(
      "POST",
      `/v2/streaming/data/${this.pipe(table)}/channels/${encodeURIComponent(channel)}/rows?${query}`,
      body,
      { "content-type": "application/x-ndjson", ...headers }
    )
  }

  bulk(table: string, channels: ReadonlyArray<string>): Promise<Answer> {
    return this.ingest(
      "POST",
      `/v2/streaming/${this.pipe(table)}:bulk-channel-status`,
      JSON.stringify({ channel_names: channels })
    )
  }

  /** The status of one channel that exists. */
  async status(table: string, channel: string): Promise<ChannelStatus> {
    const status = await this.find(table, channel)
    if (status === undefined) throw new Error(`there is no channel ${channel}`)
    return status
  }

  /** The status of one channel, if it exists. */
  async find(table: string, channel: string): Promise<ChannelStatus | undefined> {
    return (await this.bulk(table, [channel])).body.channel_statuses[channel]
  }

  /** Polls until the channel has committed `offset`; returns its status. */
  async committed(table: string, channel: string, offset: string): Promise<ChannelStatus> {
    return await until(async () => {
      const status = await this.find(table, channel)
      return status?.last_committed_offset_token === offset ? status : undefined
    })
  }

  async table(spec: TableSpec): Promise<void> {
    const answer = await this.request("POST", "/_test/table", { body: JSON.stringify(spec) })
    if (answer.status !== 200) throw new Error(answer.text)
  }

  async sql(sql: string): Promise<Array<Array<string | null>>> {
    const answer = await this.request("POST", "/_test/sql", { body: sql })
    if (answer.status !== 200) throw new Error(answer.text)
    return JSON.parse(answer.text)
  }

  async fault(fault: Record<string, unknown>): Promise<void> {
    const answer = await this.request("POST", "/_local/streaming/faults", { body: JSON.stringify(fault) })
    if (answer.status !== 200) throw new Error(answer.text)
  }

  async clearFaults(): Promise<void> {
    await this.request("DELETE", "/_local/streaming/faults")
  }
}

/** Polls until `check` gives something; fails after thirty seconds. */
export const until = async <A>(check: () => Promise<A | undefined>): Promise<A> => {
  const deadline = Date.now() + 30_000
  for (;;) {
    const found = await check()
    if (found !== undefined) return found
    if (Date.now() > deadline) throw new Error("the condition did not come true within thirty seconds")
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** Limits that don't get in a test's way, and quick commits. */
export const easy: Options = {
  requestsPerSecond: 100_000,
  bytesPerSecond: 1_000_000_000,
  commitDelayMillis: { min: 20, max: 20 }
}

/** Runs a test against a server in this process, with a data folder of its own. */
export const withServer = (streaming: Options, test: (client: Client) => Promise<void>): Promise<void> =>
  withDataDir(async (dataDir) => {
    const server = await startServer(dataDir, streaming)
    try {
      await test(server.client)
    } finally {
      await server.close()
    }
  })

/** Runs a test that starts servers on one data folder; at most one at a time. */
export const withDataDir = async (test: (dataDir: string) => Promise<void>): Promise<void> => {
  const dataDir = await mkdtemp(join(tmpdir(), "streaming-"))
  try {
    await test(dataDir)
  } finally {
    await rm(dataDir, { recursive: true, force: true })
  }
}

/** Starts a server in this process on a data folder. */
export const startServer = async (dataDir: string, streaming: Options = {}) => {
  const server = await serve({ dataDir, publicKeyPem: keys.publicKey, streaming: { ...easy, ...streaming } })
  return { client: await new Client(server.port).login(), close: server.close }
}

/** Starts a server as a child process that `kill` ends with SIGKILL. */
export const spawnServer = async (dataDir: string, streaming: Options = {}) => {
  const program = fileURLToPath(new URL("./Server.ts", import.meta.url))
  const options = { dataDir, publicKeyPem: keys.publicKey, streaming: { ...easy, ...streaming } }
  const child = spawn(process.execPath, [program, JSON.stringify(options)], { stdio: ["pipe", "pipe", "inherit"] })
  const exited = once(child, "exit")
  const port = await new Promise<number>((resolve, reject) => {
    child.stdout.once("data", (line: Buffer) => resolve(Number(line.toString())))
    child.once("exit", () => reject(new Error("the server did not start")))
  })
  const kill = async () => {
    child.kill("SIGKILL")
    await exited
  }
  return { client: await new Client(port).login(), kill }
}
