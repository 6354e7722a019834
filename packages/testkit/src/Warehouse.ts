/**
 * `snowflake-local` in a process of its own, with an account, a user and a key pair made for it, so that it can be killed and
 * started again on the same port and data.
 *
 * The server's entry point is named by the caller: this package depends on no server.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { generateKeyPairSync } from "node:crypto"
import { mkdirSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import * as ChildProcess from "./ChildProcess.ts"
import { freePort } from "./internal/ports.ts"
import * as SnowflakeSession from "./SnowflakeSession.ts"

export interface Options {
  /** The server's entry point, a file that Node runs. */
  readonly main: string
  /** Folder for its data, keys and log. Must exist. */
  readonly folder: string
  /** Added to the command line. */
  readonly args?: ReadonlyArray<string>
  /** After how long an idle transaction gives way to one that waits for its lock. Default: 1,000, so that killed clients hold nobody up for long. */
  readonly abandonedAfterMillis?: number
  /** How many threads a statement may use. Default: 1, which is best for few rows and many statements, as in most tests. */
  readonly threads?: number
}

export interface Warehouse {
  readonly url: string
  readonly port: number
  readonly account: string
  readonly user: string
  readonly role: string
  readonly warehouse: string
  readonly database: string
  /** PKCS #8 PEM file of the user's private key. */
  readonly privateKeyFile: string
  readonly logFile: string
  /** The process that runs now. */
  readonly process: () => ChildProcess.ChildProcess
  /** SIGKILL. */
  readonly kill: Effect.Effect<void, ChildProcess.ChildProcessError>
  /** Starts it again after `kill`, on the same port and data. */
  readonly restart: Effect.Effect<void, ChildProcess.ChildProcessError>
  /** A session of the driver as the same user. It doesn't outlive a kill. */
  readonly session: Effect.Effect<
    SnowflakeSession.SnowflakeSession,
    SnowflakeSession.SnowflakeSessionError,
    Scope.Scope
  >
}

const names = { account: "MYORG-LOCAL", user: "LOADER", role: "LOADER", warehouse: "WH", database: "RAW" } as const

/** Starts the server; it is ready, and ends with the scope. */
export const start = (options: Options): Effect.Effect<Warehouse, ChildProcess.ChildProcessError, Scope.Scope> =>
  Effect.gen(function*() {
    const { privateKey, publicKey } = generateKeyPairSync("rsa", {
      modulusLength: 2048,
      privateKeyEncoding: { type: "pkcs8", format: "pem" },
      publicKeyEncoding: { type: "spki", format: "pem" }
    })
    const privateKeyFile = path.join(options.folder, "key.p8")
    const publicKeyFile = path.join(options.folder, "key.pub")
    const data = path.join(options.folder, "data")
    const logFile = path.join(options.folder, "snowflake-local.log")
    mkdirSync(data, { recursive: true })
    writeFileSync(privateKeyFile, privateKey, { mode: 0o600 })
    writeFileSync(publicKeyFile, publicKey)

    const port = yield* Effect.promise(() => freePort())
    const url = `http://127.0.0.1:${port}`
    const flags = {
      port: String(port),
      "data-dir": data,
      account: names.account,
      user: names.user,
      "public-key-file": publicKeyFile,
      role: names.role,
      warehouse: names.warehouse,
      database: names.database,
      threads: String(options.threads ?? 1),
      // A killed client's open transaction gives way soon.
      "abandoned-after-millis": String(options.abandonedAfterMillis ?? 1000)
    }
    const commandLine = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]).concat(
      options.args ?? []
    )
    const outer = yield* Effect.scope
    const launch = Effect.gen(function*() {
      const child = yield* ChildProcess.start({
        name: "snowflake-local",
        command: process.execPath,
        args: [options.main, ...commandLine],
        cwd: options.folder,
        logFile
      })
      yield* child.waitFor(/"url":/)
      return child
    }).pipe(Scope.provide(outer))
    let child = yield* launch

    return {
      ...names,
      url,
      port,
      privateKeyFile,
      logFile,
      process: () => child,
      kill: Effect.suspend(() => Effect.asVoid(child.kill("SIGKILL"))),
      restart: Effect.map(launch, (next) => {
        child = next
      }),
      session: SnowflakeSession.open({
        account: names.account,
        url,
        user: names.user,
        role: names.role,
        warehouse: names.warehouse,
        database: names.database,
        privateKey: Redacted.make(privateKey)
      })
    }
  })
