/**
 * The unmodified snowflake-sdk against a server of the test's own.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { createPublicKey, createSign, generateKeyPairSync } from "node:crypto"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Connection, ConnectionOptions, RowStatement, SnowflakeError } from "snowflake-sdk"
import { fingerprint } from "../../src/Accounts.ts"
import type { Options } from "../../src/Configuration.ts"
import type { Address } from "../../src/Server.ts"
import { serve } from "../../src/Server.ts"

process.env["SNOWFLAKE_DISABLE_PLATFORM_DETECTION"] = "true"
process.env["SF_TELEMETRY_DISABLE_CONNECTION_SHAPE"] = "true"
const snowflake = (await import("snowflake-sdk")).default
snowflake.configure({ logLevel: "OFF", useEnvProxy: false })

const keys = generateKeyPairSync("rsa", { modulusLength: 2048 })
const pem = { type: "pkcs8", format: "pem" } as const
export const privateKey = keys.privateKey.export(pem).toString()
export const publicKey = keys.publicKey.export({ type: "spki", format: "pem" }).toString()
export const otherPrivateKey = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export(pem).toString()

/** What a statement returned: rows as the driver made them, numbers as text. */
export interface Result {
  readonly rows: ReadonlyArray<Readonly<Record<string, unknown>>>
  readonly statement: RowStatement
}

/** A failed statement as the driver tells it. */
export class Failed extends Error {
  readonly code: string
  readonly sqlState: string

  constructor(error: SnowflakeError) {
    super(error.message)
    this.code = String(error.code).padStart(6, "0")
    this.sqlState = String(error.sqlState)
  }
}

export interface Client {
  readonly connection: Connection
  readonly run: (sqlText: string, more?: object) => Effect.Effect<Result, Failed>
  readonly rows: (sqlText: string, more?: object) => Effect.Effect<Result["rows"], Failed>
  /** Runs statements one after the other. */
  readonly script: (...sqlTexts: ReadonlyArray<string>) => Effect.Effect<void, Failed>
}

/** A folder that goes with the scope. */
export const folder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "snowflake-local-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
)

export const account = "MYORG-LOCAL"

/** What the user ETL proves its key pair with. */
export const jwt = (): string => {
  const subject = `${account}.ETL`
  const now = Math.floor(Date.now() / 1000)
  const claims = {
    iss: `${subject}.${fingerprint(createPublicKey(publicKey))}`,
    sub: subject,
    iat: now,
    exp: now + 60
  }
  const text = [{ alg: "RS256", typ: "JWT" }, claims].map((part) =>
    Buffer.from(JSON.stringify(part)).toString("base64url")
  ).join(".")
  return `${text}.${createSign("RSA-SHA256").update(text).sign(privateKey).toString("base64url")}`
}

export interface ServerAddress extends Address {
  readonly dataDir: string
}

/** Starts a server with one user ETL, the database DEMO and the administrator's endpoints. */
export const server = (options: Partial<Options> = {}): Effect.Effect<ServerAddress, never, Scope.Scope> =>
  Effect.gen(function*() {
    const dataDir = options.dataDir ?? (yield* folder)
    const address = yield* serve({
      dataDir,
      account,
      // Rows are few and statements many.
      threads: 1,
      users: [{ name: "ETL", publicKeyPem: publicKey, roles: ["LOADER", "PUBLIC"] }],
      databases: ["DEMO"],
      admin: true,
      ...options
    })
    return { ...address, dataDir }
  }).pipe(Effect.orDie)

/** Connects; by key pair as ETL unless told otherwise. */
export const connect = (
  url: string,
  options: Partial<ConnectionOptions> = {}
): Effect.Effect<Client, Failed, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Connection, Failed>((resume) => {
      const connection = snowflake.createConnection({
        account,
        accessUrl: url,
        username: "ETL",
        authenticator: "SNOWFLAKE_JWT",
        privateKey,
        warehouse: "COMPUTE_WH",
        database: "DEMO",
        schema: "PUBLIC",
        fetchAsString: ["Number"],
        sfRetryMaxLoginRetries: 0,
        ...options
      })
      connection.connect((error) =>
        resume(error === undefined || error === null ? Effect.succeed(connection) : Effect.fail(new Failed(error)))
      )
    }),
    (connection) =>
      Effect.callback<void>((resume) => connection.destroy(() => resume(Effect.void))).pipe(
        Effect.timeoutOption("2 seconds")
      )
  ).pipe(Effect.map((connection) => {
    const run = (sqlText: string, more: object = {}) =>
      Effect.callback<Result, Failed>((resume) => {
        connection.execute({
          sqlText,
          ...more,
          complete: (error, statement, rows) =>
            resume(
              error === undefined || error === null
                // Only queued files give another kind of statement.
                ? Effect.succeed({ rows: rows ?? [], statement: statement as RowStatement })
                : Effect.fail(new Failed(error))
            )
        })
      })
    return {
      connection,
      run,
      rows: (sqlText, more) => Effect.map(run(sqlText, more), (result) => result.rows),
      script: (...sqlTexts) => Effect.forEach(sqlTexts, (sqlText) => run(sqlText), { discard: true })
    } satisfies Client
  }))

/** One server and one session for the tests of a file. */
export class Local extends Context.Service<Local, Client & { readonly server: ServerAddress }>()("test/Local") {
  static readonly layer = (options: Partial<Options> = {}): Layer.Layer<Local> =>
    Layer.effect(
      Local,
      Effect.gen(function*() {
        const address = yield* server(options)
        const client = yield* connect(address.url)
        return { ...client, server: address }
      }).pipe(Effect.orDie)
    )
}

/** The statement log since it was last emptied. */
export const statements = (url: string): Effect.Effect<ReadonlyArray<Readonly<Record<string, unknown>>>> =>
  Effect.promise(async () => (await (await fetch(`${url}/_local/statements`)).json()).statements)

export const clearStatements = (url: string): Effect.Effect<void> =>
  Effect.promise(async () => {
    await fetch(`${url}/_local/statements`, { method: "DELETE" })
  })

export const fault = (url: string, fault: object): Effect.Effect<void> =>
  Effect.promise(async () => {
    const response = await fetch(`${url}/_local/faults`, { method: "POST", body: JSON.stringify(fault) })
    if (response.status !== 200) throw new Error(await response.text())
  })
